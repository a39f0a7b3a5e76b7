"""Random deformation: MONAI's interface, seeds, workers, probabilities, the drawn tile."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset, MetaTensor
from monai.transforms import Compose, Rand2DElastic, Rand2DElasticd
from monai.transforms.utils import create_control_grid
from monai.utils import convert_to_tensor, set_determinism

from scripts.transforms.displacements import SimardField, sample_simard_displacements
from scripts.transforms.elastic import (
    Rand2DElasticCoarse,
    Rand2DElasticCoarsed,
    Rand2DElasticSimard,
    Rand2DElasticSimardd,
    Rand2DElasticTiled,
)
from scripts.transforms.resampling import apply_displacements, extract_tile

KEYS = ("image", "label", "weight")
MODES = ("bilinear", "nearest", "bilinear")


def item(height: int = 60, width: int = 70, seed: int = 0) -> dict[str, torch.Tensor]:
    random_state = np.random.RandomState(seed)
    image = torch.from_numpy(random_state.normal(size=(1, height, width)).astype(np.float32))
    label = torch.from_numpy(random_state.randint(0, 9, (1, height, width)).astype(np.uint8))
    return {"image": image, "label": label, "weight": image.abs()}


def tiled(**changes: object) -> Rand2DElasticTiled:
    """Make a tile of 40 x 40 with an output of 24 x 24."""
    arguments = {"output_keys": KEYS[1:], "input_size": 40, "output_size": 24, "mode": MODES, **changes}
    return Rand2DElasticTiled(KEYS, **arguments)


# relation to MONAI's own


def test_monais_own_moves_the_image_by_12_pixels_without_displacement():
    rows = torch.arange(572.0).repeat(572, 1).T[None]
    own = Rand2DElastic(spacing=256, magnitude_range=(0, 0), prob=1.0, padding_mode="border")
    moved = (convert_to_tensor(own(rows)) - rows).abs().max()
    assert moved.item() == pytest.approx(12.316, abs=0.01)
    ours = Rand2DElasticCoarse(sigma=0.0)
    torch.testing.assert_close(convert_to_tensor(ours(rows)), rows, atol=1e-3, rtol=0)


@pytest.mark.parametrize("spacing", [143, 286, 572, 5720])
def test_monais_own_control_grid_is_never_three_by_three(spacing):
    assert min(create_control_grid((572, 572), (spacing, spacing)).shape[1:]) > 3


@pytest.mark.parametrize("make", [Rand2DElasticCoarse, Rand2DElasticSimard])
def test_array_transforms_are_monais(make):
    assert isinstance(make(), Rand2DElastic)


@pytest.mark.parametrize("make", [Rand2DElasticCoarsed, Rand2DElasticSimardd, Rand2DElasticTiled])
def test_dictionary_transforms_are_monais(make):
    assert isinstance(make(KEYS), Rand2DElasticd)


def test_class_defaults_are_the_papers():
    assert Rand2DElasticCoarse().field == Rand2DElasticCoarsed("image").rand_2d_elastic.field
    transform = Rand2DElasticTiled(KEYS)
    assert (transform.rand_2d_elastic.field.points, transform.rand_2d_elastic.field.sigma) == ((3, 3), 10.0)
    assert (transform.input_size, transform.output_size, transform.margin) == ((572, 572), (388, 388), (92, 92))
    assert (SimardField().alpha, SimardField().sigma, SimardField().kernel_size) == (50, 5, 25)


# random transforms do what their deterministic twins do


@pytest.mark.parametrize("size", [None, (40, 90)])
@pytest.mark.parametrize("make", [Rand2DElasticCoarse, Rand2DElasticSimard])
def test_array_transform_applies_what_it_drew(make, size):
    transform = make(rotate_range=math.pi, translate_range=(5, 9), scale_range=0.1, shear_range=0.1, flip_prob=0.5)
    transform.set_random_state(3)
    image = item()["image"]
    got = transform(image, spatial_size=size)
    expected = apply_displacements(image, transform.displacements, affine=transform.affine, size=size)
    assert torch.equal(convert_to_tensor(got), expected)
    assert torch.equal(transform(image, spatial_size=size, randomize=False), got)
    assert not torch.equal(transform(image, spatial_size=size), got)


def test_dictionary_transform_moves_all_keys_by_what_it_drew():
    transform = Rand2DElasticCoarsed(KEYS, rotate_range=1.0, flip_prob=0.5, mode=MODES, padding_mode=("border",) * 3)
    data = item()
    got = transform.set_random_state(3)(data)
    drawn = transform.rand_2d_elastic
    for key, mode in zip(KEYS, MODES, strict=True):
        expected = apply_displacements(
            data[key], drawn.displacements, affine=drawn.affine, mode=mode, padding_mode="border"
        )
        assert torch.equal(convert_to_tensor(got[key]), expected)
        assert got[key].dtype == data[key].dtype


def test_simard_transform_draws_simards_field():
    transform = Rand2DElasticSimard(alpha=20.0).set_random_state(5)
    transform(item()["image"])
    state = np.random.RandomState(5)
    state.random_sample(3)  # the transform's probability and the two mirrorings
    expected = sample_simard_displacements((60, 70), alpha=20.0, random_state=state)
    np.testing.assert_array_equal(transform.displacements, expected)


@pytest.mark.parametrize("field", [None, SimardField()])
@pytest.mark.parametrize("image_size", [(60, 70), (24, 24), (10, 90), (1, 1)])
def test_tile_equals_its_deterministic_twin(image_size, field):
    transform, data = tiled(field=field, translate_range=(3, 3)).set_random_state(1), item(*image_size)
    for _ in range(3):
        got = transform(data)
        drawn = transform.rand_2d_elastic
        for key, mode in zip(KEYS, MODES, strict=True):
            expected = extract_tile(
                data[key],
                drawn.displacements,
                affine=drawn.affine,
                start=transform.start,
                input_size=(40, 40),
                output_size=(24, 24),
                crop_to_output=key != "image",
                mode=mode,
            )
            torch.testing.assert_close(convert_to_tensor(got[key]), expected, atol=0, rtol=0)
            assert got[key].shape == ((1, 40, 40) if key == "image" else (1, 24, 24))
            assert got[key].dtype == data[key].dtype


# randomness


@pytest.mark.parametrize("make", [tiled, lambda: Rand2DElasticSimardd(KEYS, rotate_range=1.0)])
def test_a_seed_repeats_the_samples_and_another_gives_others(make):
    def run(seed: int) -> list[torch.Tensor]:
        transform = make().set_random_state(seed)
        return [transform(item())["image"] for _ in range(4)]

    first, again, other = run(11), run(11), run(12)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_the_draw_does_not_depend_on_the_keys():
    full, alone = tiled(), Rand2DElasticTiled("image", input_size=40, output_size=24)
    lenient = tiled(allow_missing_keys=True)
    for transform in (full, alone, lenient):
        transform.set_random_state(2)
    for seed in range(3):
        data = item(seed=seed)
        only_image = {"image": data["image"]}
        expected = full(data)["image"]
        assert torch.equal(alone(only_image)["image"], expected)
        assert torch.equal(lenient(only_image)["image"], expected)


def test_all_parts_draw_from_one_state():
    transform = tiled(prob=0.5).set_random_state(0)
    angles, starts = [], []
    for _ in range(400):
        transform.draw((60, 70))
        if transform._do_transform:
            angles.append(transform.rand_2d_elastic.rand_affine_grid.rotate_params[0])
            starts.append(transform.start[0])
    assert len(angles) == pytest.approx(200, abs=50)
    # with a state of their own but the same seed, angles would follow the draw of the probability
    assert np.mean(angles) == pytest.approx(0, abs=5 * math.pi / (3 * len(angles)) ** 0.5)
    assert abs(np.corrcoef(angles, starts)[0, 1]) < 5 / len(angles) ** 0.5
    assert min(angles) < -2.8
    assert max(angles) > 2.8


def test_flips_are_independent_and_as_frequent_as_asked():
    transform = tiled(rotate_range=None, flip_prob=0.25).set_random_state(0)
    flips = []
    for _ in range(1000):
        transform.draw((60, 70))
        flips.append(np.diag(transform.rand_2d_elastic.affine)[:2] < 0)
    np.testing.assert_allclose(np.mean(flips, axis=0), 0.25, atol=0.07)
    assert np.mean(np.all(flips, axis=1)) == pytest.approx(1 / 16, abs=0.04)


def test_the_output_window_lies_anywhere_in_the_image_with_equal_chance():
    transform = tiled().set_random_state(0)
    starts = []
    for _ in range(2000):
        transform.draw((28, 24))
        starts.append(transform.start)
    rows, cols = np.transpose(starts)
    assert set(cols) == {0}
    counts = np.bincount(rows)
    assert len(counts) == 5  # 0 to 28 - 24, both ends included
    np.testing.assert_allclose(counts, 400, atol=100)


def test_an_image_smaller_than_the_output_lies_anywhere_inside_the_window():
    transform = tiled(prob=0.0).set_random_state(0)
    seen = set()
    for _ in range(200):
        label = torch.zeros(1, 20, 23, dtype=torch.uint8)
        label[0, 0, 0] = 1
        got = transform({"image": label, "label": label, "weight": label})["label"][0]
        row, col = (-start for start in transform.start)
        assert got[row, col] == 1
        seen.add((row, col))
    assert {row for row, _ in seen} == set(range(5))
    assert {col for _, col in seen} == {0, 1}


@pytest.mark.parametrize("image_size", [(60, 70), (10, 50)])
def test_without_transform_the_tile_is_the_exact_mirrored_crop(image_size):
    transform, data = tiled(prob=0.0).set_random_state(0), item(*image_size)
    for _ in range(5):
        got = transform(data)
        row, col = (start + 60 for start in transform.start)
        for key in KEYS:
            padded = np.pad(data[key][0].numpy(), 60, mode="reflect")
            margin = 8 if key == "image" else 0
            expected = padded[row - margin : row + 24 + margin, col - margin : col + 24 + margin]
            np.testing.assert_array_equal(got[key][0], expected)


@pytest.mark.parametrize("padding_mode, numpys", [("reflection", "reflect"), ("border", "edge"), ("zeros", "constant")])
def test_without_transform_the_centre_is_cut_out(padding_mode, numpys):
    image = item()["image"]
    transform = Rand2DElasticCoarse(prob=0.0, spatial_size=(80, -1), padding_mode=padding_mode)
    expected = np.pad(image[0].numpy(), ((10, 10), (0, 0)), mode=numpys)
    np.testing.assert_array_equal(transform(image)[0], expected)
    np.testing.assert_array_equal(transform(image, spatial_size=(40, 50))[0], image[0, 10:50, 10:60])


def test_prob_is_the_share_of_transformed_samples():
    transform, data = Rand2DElasticCoarsed("image", prob=0.3).set_random_state(0), item(8, 8)
    changed = [not torch.equal(transform(data)["image"], data["image"]) for _ in range(500)]
    assert np.mean(changed) == pytest.approx(0.3, abs=0.1)


@pytest.mark.parametrize("padding_mode", ["reflection", "border", "zeros"])
@pytest.mark.parametrize("label", [torch.uint8, torch.uint16, torch.int32])
@pytest.mark.parametrize("prob", [0.0, 1.0])
def test_types_do_not_depend_on_the_draw(prob, label, padding_mode):
    data = {"image": torch.ones(1, 9, 9, dtype=torch.uint8), "label": torch.ones(1, 9, 9, dtype=label)}
    transform = Rand2DElasticCoarsed(
        ("image", "label"), spatial_size=12, prob=prob, mode=("bilinear", "nearest"), padding_mode=padding_mode
    )
    got = transform(data)
    assert (got["image"].dtype, got["label"].dtype) == (torch.float32, label)


# MONAI's surroundings


def batches(num_workers: int) -> list[torch.Tensor]:
    set_determinism(5)
    try:
        data = Dataset([item(seed=0) for _ in range(8)], Compose([tiled()]))
        return [batch["image"] for batch in DataLoader(data, batch_size=1, num_workers=num_workers)]
    finally:
        set_determinism(None)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_samples_repeat_from_a_seed_and_differ_from_each_other_under_workers(num_workers):
    first, again = batches(num_workers), batches(num_workers)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    # the same image eight times, since equal samples could only come from equal draws
    assert len({batch.numpy().tobytes() for batch in first}) == len(first)


def test_metatensor_keeps_class_and_meta_data_and_arrays_become_tensors():
    data = item()
    data["image"] = MetaTensor(data["image"], meta={"filename_or_obj": "slice07.tif"})
    data["label"] = data["label"].numpy()
    data["name"] = "passed on"
    for prob in (0.0, 1.0):
        got = tiled(prob=prob)(data)
        assert isinstance(got["image"], MetaTensor)
        assert got["image"].meta["filename_or_obj"] == "slice07.tif"
        assert isinstance(got["label"], torch.Tensor)
        assert got["name"] == "passed on"
    assert data["image"].shape == (1, 60, 70)


def test_copies_and_pickles_draw_the_same():
    transform = tiled().set_random_state(4)
    copies = [copy.deepcopy(transform), pickle.loads(pickle.dumps(transform))]
    expected = transform(item())["image"]
    for twin in copies:
        assert torch.equal(twin(item())["image"], expected)


def test_a_configuration_names_tile_and_field():
    config = {
        "_target_": "scripts.transforms.Rand2DElasticTiled",
        "keys": ["image", "label"],
        "output_keys": ["label"],
        "input_size": [40, 60],
        "output_size": [24, 44],
        "mode": ["bilinear", "nearest"],
        "field": {"_target_": "scripts.transforms.SimardField", "alpha": 30.0},
    }
    transform = ConfigParser({"tile": config}).get_parsed_content("tile")
    got = transform(item())
    assert (got["image"].shape, got["label"].shape) == ((1, 40, 60), (1, 24, 44))
    assert transform.rand_2d_elastic.displacements.shape == (2, 40, 60)


@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)],
)
def test_the_result_lies_where_the_input_lay(device):
    data = {key: value.to(device) for key, value in item().items()}
    transform = tiled().set_random_state(0)
    plain = transform(data)
    transform.set_device(torch.device("cpu"))
    elsewhere = transform.set_random_state(0)(data)
    expected = tiled().set_random_state(0)(item())
    for key in KEYS:
        assert plain[key].device.type == elsewhere[key].device.type == device
        for got in (plain, elsewhere):
            differs = (got[key].cpu().float() - expected[key].float()).abs() > 1e-3
            assert differs.float().mean() < 5e-3


def test_a_padded_network_gets_labels_of_the_input_size():
    got = tiled(output_size=40)(item())
    assert {key: tuple(got[key].shape) for key in KEYS} == dict.fromkeys(KEYS, (1, 40, 40))


@pytest.mark.parametrize("depth, size, expected", [(4, 572, (388, 388)), (4, [188, 204], (4, 20)), (2, 60, (20, 20))])
def test_output_size_follows_the_unpadded_network(depth, size, expected):
    assert Rand2DElasticTiled("image", input_size=size, depth=depth).output_size == expected


# errors


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: Rand2DElasticTiled("image", input_size=570), ValueError, "570 does not fit.*556 and 572"),
        (lambda: tiled(output_size=25), ValueError, "even number"),
        (lambda: tiled(output_size=42), ValueError, "not larger than the input"),
        (lambda: tiled(output_keys="mask"), ValueError, "'mask'.*not among keys"),
        (lambda: tiled()(item() | {"label": torch.zeros(1, 60, 71)}), ValueError, "'image' 60 x 70, 'label' 60 x 71"),
        (lambda: tiled()(item() | {"label": torch.zeros(60, 70)}), ValueError, r"'label' must be \(C, H, W\)"),
        (lambda: tiled()({"image": item()["image"]}), KeyError, "label"),
        (lambda: tiled(mode="bicubic")(item()), ValueError, "mode must be one of 'bilinear', 'nearest'"),
        (lambda: tiled(mode=3)(item()), ValueError, "mode must be one of"),
        (lambda: tiled(prob=0.0, padding_mode="wrap")(item()), ValueError, "padding_mode must be one of"),
        (lambda: Rand2DElasticCoarse(points=1), ValueError, "at least 2 points"),
        (lambda: Rand2DElasticCoarsed("image", sigma=-1.0), ValueError, "sigma.*-1.0"),
        (lambda: Rand2DElasticSimardd("image", kernel_size=4), ValueError, "odd"),
        (lambda: Rand2DElasticCoarse()(torch.zeros(4, 4)), ValueError, r"must be \(C, H, W\)"),
    ],
)
def test_errors_say_what_was_got_and_expected(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_an_item_without_any_key_is_passed_on():
    assert tiled(allow_missing_keys=True)({"name": "a"}) == {"name": "a"}
