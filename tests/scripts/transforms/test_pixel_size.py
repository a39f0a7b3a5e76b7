"""Images come to the pixel size of the training, results back to the size of the image."""

from __future__ import annotations

import copy
import logging
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch
from monai.transforms import Compose
from PIL import Image
from skimage.measure import label as connected_components

from scripts.serving.labels import ServedLabeld
from scripts.transforms.intensity import NormalizeImaged
from scripts.transforms.pixel_size import MODES, MatchPixelSized, RestoreSized

TRAINED = 0.004  # um
NOISE = np.random.default_rng(0).random((1, 31, 45), np.float32)


def made(
    height: float | None = None, width: float | None = None, pixels: Any = NOISE, name: str = "em/00.tif"
) -> MetaTensor:
    """Make an image with the metadata of `PlaneReader`: height and width of a pixel in nm, None: unknown."""
    size = {"spacing": np.ones(2), "unit": "pixel"}
    if height is not None:
        size = {"spacing": np.array([height, width or height]), "unit": "nm"}
    return MetaTensor(torch.as_tensor(pixels), meta={"filename_or_obj": name, **size})


def rescaled(image: Any, pixel_size: Any = "auto", trained: float = TRAINED) -> Any:
    return MatchPixelSized(trained=trained, pixel_size=pixel_size)({"image": image})["image"]


def restored(image: Any, result: Any, mode: str) -> Any:
    return RestoreSized("result", mode)({"image": image, "result": result})["result"]


def by_pillow(plane: np.ndarray, size: tuple[int, int], how: Image.Resampling) -> np.ndarray:
    """Rescale (H, W) by an independent library, as float32."""
    return np.asarray(Image.fromarray(plane.astype(np.float32)).resize(size[::-1], how))


def big_shapes() -> np.ndarray:
    """Label image (64, 96) of a disc, a triangle and a rectangle with an edge in common with the triangle."""
    y, x = np.mgrid[:64, :96]
    shapes = np.zeros((64, 96), np.int32)
    shapes[(y - 30) ** 2 + (x - 25) ** 2 < 20**2] = 1
    shapes[(y >= 10) & (x >= 50) & (x < y + 30)] = 2
    shapes[(y >= 10) & (y < 40) & (x >= np.maximum(60, y + 30)) & (x < 90)] = 3
    return shapes


# ---------------------------------------------------------------- images


@pytest.mark.parametrize("nm, expected", [(6, (46, 68)), (8, (62, 90)), (2, (16, 22)), (1, (8, 11)), (15, (116, 169))])
def test_an_image_gets_the_pixels_of_the_training(nm: float, expected: tuple[int, int]):
    image = rescaled(made(nm))
    assert tuple(image.shape) == (1, *expected)
    assert image.dtype == torch.float32
    # Pillow's bicubic interpolation, antialiased, may leave the range of the image
    oracle = np.clip(by_pillow(NOISE[0], expected, Image.Resampling.BICUBIC), NOISE.min(), NOISE.max())
    np.testing.assert_allclose(image[0], oracle, atol=1e-4)


@pytest.mark.parametrize("nm", [4, 4.07, 3.93])
def test_an_image_with_the_pixels_of_the_training_stays_as_it_is(nm: float):
    image = made(nm)
    assert rescaled(image) is image
    assert rescaled(image, pixel_size=nm / 1000) is image


def test_pixels_that_are_not_square_become_square():
    assert tuple(rescaled(made(height=8, width=4)).shape) == (1, 62, 45)
    assert tuple(rescaled(made(height=2, width=6)).shape) == (1, 16, 68)


def test_channels_are_rescaled_separately_and_a_flat_one_stays_flat():
    # NormalizeImaged would scale rounding errors of a flat channel up to 1
    pixels = np.concatenate([NOISE, 100 + 1000 * NOISE, np.full_like(NOISE, 0.1)])
    for nm in (3, 7):
        image = rescaled(made(nm, pixels=pixels))
        torch.testing.assert_close(image[:1], rescaled(made(nm)))
        torch.testing.assert_close(image[1], 100 + 1000 * image[0], rtol=1e-4, atol=1e-2)
        assert bool((image[2] == torch.tensor(0.1)).all())


def test_stripes_finer_than_the_pixels_of_the_training_become_grey():
    stripes = np.tile(np.array([0.0, 1.0], np.float32), (1, 64, 32))
    image = rescaled(made(1, pixels=stripes), trained=0.008)
    assert float((image[:, 2:-2, 2:-2] - 0.5).abs().max()) < 0.02


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float16, np.float64])
def test_any_number_type_becomes_float32(dtype: type):
    pixels = torch.from_numpy((200 * NOISE).astype(dtype))
    image = rescaled(made(6, pixels=pixels))
    torch.testing.assert_close(image, rescaled(made(6, pixels=pixels.float())), rtol=0, atol=2e-3)
    assert image.dtype == torch.float32


def test_the_given_item_stays_and_metadata_still_describe_the_file():
    given = {"image": made(6), "other": 1}
    before = copy.deepcopy(given)
    found = MatchPixelSized(trained=TRAINED, pixel_size="auto")(given)
    assert given["image"].meta.keys() == before["image"].meta.keys()
    assert torch.equal(given["image"], before["image"])
    assert found["other"] == 1
    assert found["image"].meta["filename_or_obj"] == "em/00.tif"
    assert found["image"].meta["spacing"].tolist() == [6, 6]
    assert torch.equal(found["image"].affine, given["image"].affine)


def test_an_array_without_metadata_is_rescaled_by_a_given_size_and_back():
    for image in (NOISE, torch.from_numpy(NOISE)):
        found = rescaled(image, pixel_size=0.006)
        torch.testing.assert_close(found.as_tensor(), rescaled(made(6)).as_tensor())
        assert restored(found, found, "linear").shape == image.shape


# ---------------------------------------------------------------- warnings and errors


def warnings_of(caplog: pytest.LogCaptureFixture, images: list[MetaTensor], **options: Any) -> list[str]:
    caplog.clear()
    transform = MatchPixelSized(**{"trained": TRAINED, **options})
    with caplog.at_level(logging.WARNING):
        for image in images:
            assert transform({"image": image})["image"] is image or options
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("nm, warned", [(4.7, 0), (4.9, 1), (3.4, 0), (3.3, 1), (650, 1)])
def test_a_difference_of_more_than_twenty_percent_is_told(caplog, nm: float, warned: int):
    for image in (made(nm), made(4, nm), made(nm, 4)):
        lines = warnings_of(caplog, [image])
        assert len(lines) == warned
        for line in lines:
            assert all(word in line for word in ("em/00.tif", f"{nm / 1000:.3g}", "0.004", "--pixel_size auto"))


def test_a_folder_gives_one_line_for_each_pixel_size(caplog):
    first = [made(8, name=f"a/{k}.tif") for k in range(1000)]
    assert len(warnings_of(caplog, first)) == 1
    stacks = [made(8, name=f"a/stack.tif#page={k}") for k in range(3)]
    others = [made(9, name="a/0.tif"), made(8, name="b/0.tif"), made(4, name="c/0.tif")]
    assert len(warnings_of(caplog, [*first, *stacks, *others])) == 3
    assert warnings_of(caplog, [*first, *others], trained=None) == []
    assert warnings_of(caplog, [made()]) == []
    assert warnings_of(caplog, [*first, *others], pixel_size="auto") == []


def test_a_given_size_counts_more_than_the_header_and_the_contradiction_is_told_once(caplog):
    images = [made(650, name=f"a/{k}.tif") for k in range(3)]
    assert tuple(rescaled(images[0], pixel_size=0.008).shape) == (1, 62, 90)
    (line,) = warnings_of(caplog, images, pixel_size=0.008)
    assert all(word in line for word in ("a/0.tif", "0.65", "0.008"))
    assert warnings_of(caplog, [made(), made(8), made(8.5)], pixel_size=0.008) == []


def test_auto_needs_the_size_of_the_image():
    with pytest.raises(ValueError, match=r"^em/00\.tif: .*--pixel_size auto.*micrometres: --pixel_size 0\.004"):
        rescaled(made())
    assert tuple(rescaled(made(), pixel_size=0.008).shape) == (1, 62, 90)


@pytest.mark.parametrize("given", ["auto", 0.008])
def test_rescaling_needs_the_size_of_the_training(given):
    with pytest.raises(ValueError, match=rf"{given}.*weights.*model\.json"):
        MatchPixelSized(pixel_size=given)


@pytest.mark.parametrize("wrong", [0, -0.004, float("nan"), True, "4 nm", "Auto"])
def test_sizes_that_are_no_lengths_are_refused(wrong):
    with pytest.raises(ValueError, match=r"pixel_size.*auto.*micrometres"):
        MatchPixelSized(trained=TRAINED, pixel_size=wrong)
    with pytest.raises(ValueError, match=r"training.*micrometres"):
        MatchPixelSized(trained=wrong)


@pytest.mark.parametrize("height, width", [(81, 81), (4, 81), (0.19, 0.19), (4, 0.19), (650, 650)])
def test_absurd_factors_are_refused(height: float, width: float):
    with pytest.raises(ValueError, match=r"em/00\.tif.*0\.004.*times.*20.*--pixel_size"):
        rescaled(made(height, width))


def test_factors_up_to_twenty_are_possible():
    assert tuple(rescaled(made(0.2)).shape) == (1, 2, 2)
    assert tuple(rescaled(made(80)).shape) == (1, 620, 900)
    assert tuple(rescaled(made(0.2, pixels=NOISE[:, :1, :1])).shape) == (1, 1, 1)


def test_an_image_that_would_become_too_large_is_refused_before_memory_is_taken():
    large = torch.zeros(1, 1, 1).expand(1, 4000, 4000)  # one pixel in memory
    with pytest.raises(ValueError, match=r"em/00\.tif.*40000 x 40000"):
        rescaled(made(40, pixels=large))


def test_planes_without_channels_are_refused():
    with pytest.raises(ValueError, match=r"em/00\.tif.*C, H, W"):
        rescaled(made(8, pixels=NOISE[0]))


# ---------------------------------------------------------------- results


@pytest.mark.parametrize("nm", [1.3, 2, 3, 4.9, 6, 7.7, 12])
@pytest.mark.parametrize("shape", [(31, 45), (1, 1), (1, 64), (97, 13)])
def test_every_size_is_restored_exactly(nm: float, shape: tuple[int, int]):
    image = rescaled(made(nm, pixels=np.random.default_rng(0).random((1, *shape), np.float32)))
    for mode in MODES:
        result = image if mode == "linear" else (image > 0.5).to(torch.int32)
        found = restored(image, result, mode)
        assert tuple(found.shape) == (1, *shape)
        assert found.dtype == result.dtype


def test_big_shapes_survive_a_round_trip_by_two_exactly():
    shapes = big_shapes()
    for number in (1, 2, 3):  # as an image, enlarged, segmented, and restored
        image = rescaled(made(8, pixels=(shapes == number)[None].astype(np.float32)))
        found = restored(image, (image > 0.5).to(torch.float32), "nearest")
        np.testing.assert_array_equal(found[0], shapes == number)
    labels = np.kron(shapes, np.ones((2, 2), np.int32))[None]  # perfect results in pixels of half the length
    np.testing.assert_array_equal(restored(image, torch.from_numpy(labels), "instances")[0], shapes)
    small = rescaled(made(2, pixels=labels.astype(np.float32)))
    np.testing.assert_array_equal(restored(small, shapes[None], "instances")[0], labels[0])


@pytest.mark.parametrize("nm", [2.6, 6, 11])
def test_results_are_restored_as_an_independent_library_does(nm: float):
    image = rescaled(made(nm))
    linear = by_pillow(image[0].numpy(), (31, 45), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(restored(image, image, "linear")[0], linear, atol=1e-5)
    classes = (5 * image).round()
    nearest = by_pillow(classes[0].numpy(), (31, 45), Image.Resampling.NEAREST)
    differing = np.argwhere(restored(image, classes, "nearest")[0].numpy() != nearest)
    places = (differing + 0.5) * image.shape[1:] / (31, 45)
    assert np.isclose(places, places.round()).any(axis=1).all()  # two pixels are equally near


@pytest.mark.parametrize("nm", [0.9, 2.6, 6, 11])
def test_probabilities_stay_probabilities(nm: float):
    image = rescaled(made(nm))
    scores = 30 * torch.randn(3, *image.shape[1:], generator=torch.Generator().manual_seed(0))  # saturated
    found = restored(image, scores.softmax(0), "linear")
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    torch.testing.assert_close(found.sum(0), torch.ones(31, 45), rtol=0, atol=1e-6)


def test_objects_that_vanish_leave_no_gap_in_the_numbers():
    image = rescaled(made(16))  # 124 x 180 pixels
    instances = torch.zeros(1, 124, 180, dtype=torch.int32)
    instances[0, 10:50, 10:50] = 1
    instances[0, 60, 60] = 2  # a quarter of a pixel in the original
    instances[0, 80:100, 80:120] = 3
    found = restored(image, instances, "instances")
    assert found.unique().tolist() == [0, 1, 2]
    assert found.dtype == torch.int32
    assert found[0, 22, 25] == 2
    assert (found == 2).sum() == 5 * 10
    kept = restored(image, instances, "nearest")  # class numbers are names, and stay
    assert kept.unique().tolist() == [0, 1, 3]


def test_large_numbers_of_objects_are_exact():
    image = rescaled(made(8))
    instances = torch.full((1, 62, 90), 2**24 + 1, dtype=torch.int32)
    assert restored(image, instances, "nearest").unique().tolist() == [2**24 + 1]


def test_without_rescaling_nothing_changes():
    for image in (made(4), made(), torch.from_numpy(NOISE)):
        item = {"image": image, "pred": torch.rand(2, 5, 5)}
        found = RestoreSized(["image", "pred"], "linear")(item)
        assert all(found[key] is item[key] for key in item)
    assert RestoreSized("pred", "linear")({"pred": image})["pred"] is image


def test_modes_are_checked():
    with pytest.raises(ValueError, match=r"mode.*'linear', 'nearest', 'instances'.*'bilinear'"):
        RestoreSized("pred", "bilinear")
    with pytest.raises(ValueError, match="2"):
        RestoreSized(["a", "b", "c"], ["linear", "nearest"])


# ---------------------------------------------------------------- in a pipeline


@pytest.mark.parametrize("workers", [0, 1])
def test_the_size_survives_batches_and_normalisation(workers: int):
    before = Compose([MatchPixelSized(trained=TRAINED, pixel_size="auto"), NormalizeImaged("image")])
    items = [{"image": made(6, pixels=NOISE, name="a.tif")}, {"image": made(4, name="b.tif")}]
    shapes = []
    for batch in DataLoader(Dataset(items, before), batch_size=1, num_workers=workers):
        (item,) = decollate_batch(batch)
        item["pred"] = torch.stack([item["image"][0], 1 - item["image"][0]])
        shapes.append([tuple(RestoreSized("pred", "linear")(item)["pred"].shape), tuple(item["image"].shape)])
    assert shapes == [[(2, 31, 45), (1, 46, 68)], [(2, 31, 45), (1, 31, 45)]]


def test_normalisation_after_rescaling_counts_the_pixels_of_the_training():
    noise = np.random.default_rng(0).normal(100, 20, (1, 200, 200)).astype(np.float32)
    item = MatchPixelSized(trained=TRAINED, pixel_size="auto")({"image": made(1, pixels=noise)})
    assert float(NormalizeImaged("image")(item)["image"].std()) == pytest.approx(1, abs=0.01)


def test_monai_label_gets_a_label_of_the_size_of_the_image():
    image = rescaled(made(6))
    instances = torch.as_tensor(connected_components(image.numpy() > 0.5).astype(np.int32))
    item = {"image": image, "prob": torch.rand(2, 46, 68), "pred": (image > 0.5).float(), "instances": instances}
    restore = RestoreSized(["image", "prob", "pred", "instances"], ["linear", "linear", "nearest", "instances"])
    served = ServedLabeld("pred", instances=True)(restore({**item, "model": "unet"}))
    assert served["pred"].shape == (45, 31)  # (W, H)
    assert served["image"].meta["spatial_shape"].tolist() == [45, 31]
    assert served["result"]["objects"] == served["pred"].max()
