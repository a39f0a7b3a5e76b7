"""Deformed tiles against the formula, scipy and elasticdeform; the deterministic tile."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Affine
from scipy.ndimage import gaussian_filter, map_coordinates, zoom

from scripts.transforms.displacements import sample_displacements
from scripts.transforms.resampling import affine_matrix, apply_displacements, extract_tile

ZERO = np.zeros((2, 3, 3), np.float32)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.RandomState(seed).normal(size=shape).astype(np.float32))


def labels(*shape: int, classes: int = 7, dtype: torch.dtype = torch.int64) -> torch.Tensor:
    return torch.from_numpy(np.random.RandomState(1).randint(0, classes, shape)).to(dtype)


def ramps(height: int, width: int) -> torch.Tensor:
    """Make two channels with the row and the column as values. A tile then shows the reading places."""
    return torch.from_numpy(np.indices((height, width)).astype(np.float32))


def places(size: tuple[int, int], displacements: np.ndarray, affine: np.ndarray, start: tuple[int, int]) -> np.ndarray:
    """Compute the module's formula in float64, with scipy's spline for the coarse grid: (2, h, w)."""
    h, w = size
    factors = (h / displacements.shape[1], w / displacements.shape[2])
    dense = [zoom(d.astype(np.float64), factors, order=3, mode="mirror", grid_mode=False) for d in displacements]
    centre = (np.array(size) - 1) / 2
    x = np.indices(size).reshape(2, -1) - centre[:, None]
    turned = affine[:2, :2] @ x + affine[:2, 2:] + centre[:, None] + np.array(start)[:, None]
    return turned.reshape(2, h, w) + np.stack(dense)


@pytest.mark.parametrize("sigma", [2.0, 10.0, 40.0])
@pytest.mark.parametrize("angle", [None, 30.0])
def test_agrees_with_elasticdeform(sigma, angle):
    elasticdeform = pytest.importorskip("elasticdeform", exc_type=ImportError)
    random_state = np.random.RandomState(5)
    displacements = sample_displacements((3, 3), sigma, random_state)
    affine = (
        None if angle is None else affine_matrix(-math.radians(angle))
    )  # elasticdeform turns in the opposite direction
    # white noise is the hardest image: an error of 1e-4 pixel shows as several 1e-4
    white = random_state.normal(size=(120, 150))
    for image, tolerance in ((white, 5e-4), (gaussian_filter(white, 4) * 10, 5e-5)):
        expected = elasticdeform.deform_grid(image, displacements.astype(float), order=1, mode="mirror", rotate=angle)
        got = apply_displacements(torch.from_numpy(image)[None].float(), displacements, affine=affine)
        np.testing.assert_allclose(got[0], expected, atol=tolerance)
    classes = random_state.randint(0, 5, (120, 150))
    expected = elasticdeform.deform_grid(classes, displacements.astype(float), order=0, mode="mirror", rotate=angle)
    got = apply_displacements(torch.from_numpy(classes)[None], displacements, affine=affine, mode="nearest")
    assert np.mean(got[0].numpy() != expected) < 1e-3  # places half-way between two pixels may be rounded differently


def test_repeats_what_elasticdeform_gave_for_a_small_array():
    # elasticdeform 0.5.1: deform_grid(image, displacements, order=1, mode="mirror"), then the same with rotate=90
    i, j = np.indices((5, 6)).astype(np.float32)
    image = torch.from_numpy(i * i + 3 * j + i * j)[None]
    displacements = np.array(
        [[[1, -2, 0.5], [0, 1.5, -1], [2, 0, -0.5]], [[-1, 0.5, 2], [1, -1.5, 0], [0.5, 3, -2]]], np.float32
    )
    plain = [
        [5.0, 0.9622, 12.4598, 22.2479, 15.1458, 11.0],
        [2.8384, 3.6953, 5.0822, 9.8438, 18.2684, 14.7773],
        [9.0, 13.6752, 17.5926, 19.5926, 19.7712, 21.0],
        [21.4946, 28.9875, 36.9205, 36.0868, 25.8001, 23.4727],
        [6.5, 20.7614, 45.493, 45.8861, 35.7277, 32.0],
    ]
    turned = [
        [12.75, 13.7458, 14.4458, 17.6239, 32.7802, 30.0],
        [10.4868, 11.7496, 12.888, 19.9594, 36.7459, 46.043],
        [12.75, 12.3372, 16.7546, 20.5506, 23.1412, 28.75],
        [9.1851, 15.1362, 22.3817, 21.7267, 14.8744, 14.4258],
        [7.0, 14.1786, 21.063, 19.3099, 9.4597, 26.5],
    ]
    np.testing.assert_allclose(apply_displacements(image, displacements)[0], plain, atol=1e-4)
    affine = affine_matrix(-math.pi / 2)
    np.testing.assert_allclose(apply_displacements(image, displacements, affine=affine)[0], turned, atol=1e-4)


# exact cases


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 7), (1, 9, 1), (3, 40, 60), (1, 572, 572)])
@pytest.mark.parametrize("displacements", [None, ZERO])
def test_zero_displacement_is_the_identity(shape, displacements):
    assert torch.equal(apply_displacements(labels(*shape), displacements, mode="nearest"), labels(*shape))
    # white noise changes by up to 9 from pixel to pixel: places are exact to better than 1e-4 pixel
    torch.testing.assert_close(apply_displacements(noise(*shape), displacements), noise(*shape), atol=6e-4, rtol=0)


@pytest.mark.parametrize("shift", [(0, 3), (-2, 5), (-30, 100), (1000, -777)])
def test_integer_shifts_are_exact_and_mirror_without_the_edge_pixel(shift):
    image, classes = noise(2, 20, 33), labels(2, 20, 33)
    # numpy mirrors index by index
    rows, cols = (
        [np.pad(np.arange(n), 2000, mode="reflect")[i + 2000 + s] for i in range(n)]
        for n, s in zip((20, 33), shift, strict=True)
    )
    for affine, displacements in ((affine_matrix(translate=shift), None), (None, ZERO + np.reshape(shift, (2, 1, 1)))):
        moved = apply_displacements(classes, displacements, affine=affine, mode="nearest")
        assert torch.equal(moved, classes[:, rows][:, :, cols])
        moved = apply_displacements(image, displacements, affine=affine)
        torch.testing.assert_close(moved, image[:, rows][:, :, cols], atol=1e-3, rtol=0)


SQUARE_CASES = {
    "turn 90": ((math.pi / 2, (False, False)), lambda x: torch.rot90(x, -1, (1, 2))),
    "turn -90": ((-math.pi / 2, (False, False)), lambda x: torch.rot90(x, 1, (1, 2))),
    "turn 180": ((math.pi, (False, False)), lambda x: torch.rot90(x, 2, (1, 2))),
    "flip rows": ((0.0, (True, False)), lambda x: torch.flip(x, (1,))),
    "flip columns": ((0.0, (False, True)), lambda x: torch.flip(x, (2,))),
    "flip both": ((0.0, (True, True)), lambda x: torch.flip(x, (1, 2))),
    "turn, then flip": ((math.pi / 2, (True, False)), lambda x: torch.flip(torch.rot90(x, -1, (1, 2)), (1,))),
}


@pytest.mark.parametrize("size", [6, 7, 388])
@pytest.mark.parametrize("case", SQUARE_CASES)
def test_quarter_turns_and_flips_equal_torchs(case, size):
    (angle, flip), expected = SQUARE_CASES[case]
    image, classes = noise(1, size, size), labels(1, size, size)
    affine = affine_matrix(angle, flip=flip)
    assert torch.equal(apply_displacements(classes, None, affine=affine, mode="nearest"), expected(classes))
    torch.testing.assert_close(apply_displacements(image, ZERO, affine=affine), expected(image), atol=3e-4, rtol=0)


def test_angle_and_shift_have_monais_direction():
    image = torch.from_numpy(gaussian_filter(noise(1, 60, 60).numpy(), (0, 3, 3)))
    ours = apply_displacements(image, None, affine=affine_matrix(0.3, (4.0, -2.5)))
    monais = Affine(rotate_params=0.3, translate_params=(4.0, -2.5), padding_mode="border", image_only=True)(image)
    # only the middle, because MONAI's reflection differs
    torch.testing.assert_close(ours[:, 15:45, 15:45], monais.as_tensor()[:, 15:45, 15:45], atol=1e-5, rtol=0)


def test_turn_shift_flip_and_displacement_are_one_resampling():
    image, size, start = ramps(300, 320), (80, 100), (110, 105)
    displacements = sample_displacements(random_state=4)
    affine = affine_matrix(0.7, (5.5, -3.25), (False, True))
    got = apply_displacements(image, displacements, affine=affine, size=size, start=start)
    np.testing.assert_allclose(got, places(size, displacements, affine, start), atol=2e-4)


# what lies beyond the image


@pytest.mark.parametrize("image_size", [(50, 60), (7, 5), (2, 3), (1, 4), (1, 1)])
@pytest.mark.parametrize(
    "padding_mode, scipys", [("reflection", "mirror"), ("border", "nearest"), ("zeros", "grid-constant")]
)
@pytest.mark.parametrize("sigma", [3.0, 60.0])
def test_reads_beyond_the_image_as_scipy_does(image_size, padding_mode, scipys, sigma):
    size, start = (40, 44), (-9, 12)
    image = noise(1, *image_size)
    displacements, affine = sample_displacements((3, 3), sigma, 2), affine_matrix(1.0)
    got = apply_displacements(image, displacements, affine=affine, size=size, start=start, padding_mode=padding_mode)
    where = places(size, displacements, affine, start)
    expected = map_coordinates(image[0].numpy().astype(np.float64), where, order=1, mode=scipys)
    np.testing.assert_allclose(got[0], expected, atol=1e-3)


@pytest.mark.parametrize("image_size", [(512, 512), (100, 70), (9, 5), (1, 3)])
@pytest.mark.parametrize("start", [(0, 0), (-5, 3), (120, -300)])
def test_mirrored_context_equals_numpys_reflect(image_size, start):
    classes = labels(1, *image_size)
    size = (188, 204)
    padded = np.pad(classes[0].numpy(), 700, mode="reflect")
    expected = padded[start[0] + 700 :, start[1] + 700 :][: size[0], : size[1]]
    got = apply_displacements(classes, ZERO, size=size, start=start, mode="nearest")
    np.testing.assert_array_equal(got[0], expected)


def test_coordinates_stay_precise_in_a_large_image():
    height = 4096
    size, start = (64, 64), (height - 70, 5)
    image = noise(1, height, 80)
    displacements, affine = sample_displacements((3, 3), 3.0, 2), affine_matrix(0.4)
    expected = map_coordinates(image[0].numpy(), places(size, displacements, affine, start), order=1, mode="mirror")
    got = apply_displacements(image, displacements, affine=affine, size=size, start=start)
    np.testing.assert_allclose(got[0], expected, atol=2e-4)
    whole = torch.arange(height)[None, :, None]
    assert torch.equal(apply_displacements(whole, ZERO, mode="nearest"), whole)


def test_a_tile_is_centred_where_no_start_is_given():
    image = labels(1, 20, 31)
    assert torch.equal(apply_displacements(image, ZERO, size=(10, 11), mode="nearest"), image[:, 5:15, 10:21])


# types


@pytest.mark.parametrize(
    "dtype",
    [torch.uint8, torch.uint16, torch.int16, torch.int32, torch.int64, torch.bool, torch.float16, torch.float64],
)
def test_nearest_keeps_type_and_values(dtype):
    classes = labels(1, 30, 30, dtype=dtype)
    moved = apply_displacements(classes, sample_displacements((3, 3), 5.0, 0), mode="nearest")
    assert moved.dtype == dtype
    assert set(moved.double().unique().tolist()) <= set(classes.double().unique().tolist())


def test_instance_ids_beyond_float32_stay_exact():
    ids = 2**24 + 1 + 2 * torch.arange(900).reshape(1, 30, 30)
    for dtype in (torch.int32, torch.int64):
        moved = apply_displacements(ids.to(dtype), ZERO + 2, mode="nearest")
        assert torch.equal(moved[:, :28, :28], ids.to(dtype)[:, 2:, 2:])


@pytest.mark.parametrize(
    "given, expected",
    [(torch.uint8, torch.float32), (torch.int32, torch.float32), (torch.bfloat16, torch.bfloat16)]
    + [(dtype, dtype) for dtype in (torch.float16, torch.float32, torch.float64)],
)
def test_bilinear_keeps_floating_types_and_makes_float32_of_integers(given, expected):
    moved = apply_displacements(labels(1, 12, 12, dtype=given), sample_displacements((3, 3), 1.0, 0))
    assert moved.dtype == expected


def test_label_moves_with_its_image():
    image = torch.from_numpy(gaussian_filter(noise(1, 200, 200).numpy(), (0, 6, 6)))
    image /= image.std()
    displacements, affine = sample_displacements(random_state=3), affine_matrix(2.0, flip=(True, False))
    moved = apply_displacements(image, displacements, affine=affine)
    label = apply_displacements((image > 0).byte(), displacements, affine=affine, mode="nearest")
    # the nearest pixel is at most half a pixel away along each axis: beyond the slope the class is certain
    slope = 0.5 * (image.diff(dim=1).abs().max() + image.diff(dim=2).abs().max())
    clear = moved.abs() > slope
    assert clear.float().mean() > 0.5
    assert torch.equal(label[clear].bool(), moved[clear] > 0)


def test_metatensor_keeps_its_class_and_meta_data():
    image = MetaTensor(noise(1, 20, 20), meta={"filename_or_obj": "slice07.tif"})
    moved = apply_displacements(image, sample_displacements(random_state=0), size=(10, 12))
    assert isinstance(moved, MetaTensor)
    assert moved.meta["filename_or_obj"] == "slice07.tif"
    assert moved.shape == (1, 10, 12)
    assert type(apply_displacements(noise(1, 20, 20), ZERO)) is torch.Tensor


def test_inputs_are_not_changed():
    image, displacements = noise(1, 20, 20), sample_displacements((20, 20), 2.0, 0)
    before = image.clone(), displacements.copy()
    apply_displacements(image, displacements, affine=affine_matrix(1.0))
    assert torch.equal(image, before[0])
    np.testing.assert_array_equal(displacements, before[1])


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_gpu_equals_cpu(mode):
    image, displacements = noise(2, 100, 90), sample_displacements(random_state=0)
    arguments = {"affine": affine_matrix(0.5), "size": (64, 70), "start": (-10, 20), "mode": mode}
    on_gpu = apply_displacements(image.cuda(), displacements, **arguments)
    assert on_gpu.is_cuda
    differs = (on_gpu.cpu() - apply_displacements(image, displacements, **arguments)).abs() > 1e-3
    assert differs.float().mean() < (1e-3 if mode == "nearest" else 1e-9)


# the deterministic tile


def test_tile_without_deformation_is_the_mirrored_crop_and_the_label_its_centre():
    image, start = labels(1, 100, 120), (7, 60)
    padded = np.pad(image[0].numpy(), 92, mode="reflect")
    geometry = {"start": start, "input_size": (204, 220), "output_size": (20, 36), "mode": "nearest"}
    tile = extract_tile(image, None, **geometry)
    np.testing.assert_array_equal(tile[0], padded[7 : 7 + 204, 60 : 60 + 220])
    label = extract_tile(image, None, crop_to_output=True, **geometry)
    assert torch.equal(label, image[:, 7:27, 60:96])


def test_output_window_of_a_deformed_tile_is_its_centre():
    image, displacements, affine = noise(1, 100, 120), sample_displacements(random_state=1), affine_matrix(1.0)
    geometry = {"start": (40, 5), "input_size": (188, 188), "output_size": (4, 4), "affine": affine}
    tile = extract_tile(image, displacements, **geometry)
    assert torch.equal(extract_tile(image, displacements, crop_to_output=True, **geometry), tile[:, 92:96, 92:96])


# errors


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: apply_displacements(noise(5, 5), ZERO), r"must be \(C, H, W\).*got \(5, 5\)"),
        (lambda: apply_displacements(noise(1, 1, 5, 5), ZERO), r"must be \(C, H, W\)"),
        (lambda: apply_displacements(torch.zeros(1, 0, 5), ZERO), "at least one pixel"),
        (lambda: apply_displacements(noise(1, 5, 5), np.zeros((3, 3))), r"displacements must be \(2, m, n\)"),
        (lambda: apply_displacements(noise(1, 5, 5), np.zeros((3, 3, 3))), r"displacements must be \(2, m, n\)"),
        (lambda: apply_displacements(noise(1, 5, 5), np.zeros((2, 1, 3))), "at least 2 points"),
        (lambda: apply_displacements(noise(1, 5, 5), ZERO + math.nan), "not finite"),
        (lambda: apply_displacements(noise(1, 5, 5), ZERO, size=(0, 5)), "at least 1 x 1 pixel, got 0 x 5"),
        (lambda: apply_displacements(noise(1, 5, 5), ZERO, affine=np.eye(4)), r"affine must be \(2, 3\) or \(3, 3\)"),
        (lambda: apply_displacements(noise(1, 5, 5), ZERO, mode="bicubic"), "'bilinear', 'nearest', got 'bicubic'"),
        (lambda: apply_displacements(noise(1, 5, 5), ZERO, padding_mode="reflect"), "padding_mode.*'reflection'"),
        (lambda: extract_tile(noise(1, 9, 9), None, start=(0, 0), input_size=(8, 8), output_size=(5, 4)), "even"),
        (
            lambda: extract_tile(noise(1, 9, 9), None, start=(0, 0), input_size=(8, 8), output_size=(8, 10)),
            "not larger",
        ),
    ],
)
def test_errors_say_what_was_got_and_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_an_array_gives_an_array_with_the_values_of_the_tensor(dtype, mode):
    image = np.random.RandomState(0).randint(0, 250, (2, 30, 40)).astype(dtype)
    displacements = sample_displacements(random_state=np.random.RandomState(1))
    out = apply_displacements(image, displacements, mode=mode)
    expected = apply_displacements(torch.as_tensor(image.astype(np.float64)), displacements, mode=mode)
    assert isinstance(out, np.ndarray)
    assert np.allclose(out, expected.numpy(), atol=1e-3)
