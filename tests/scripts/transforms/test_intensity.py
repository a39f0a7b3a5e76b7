"""Normalisation equals MONAI's, is the same for 8 and 16 bit, and ignores uneven light."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from monai.data import MetaTensor
from monai.transforms import EnsureChannelFirstd, LoadImaged, NormalizeIntensityd, ScaleIntensityRangePercentiles
from tifffile import imread

from scripts.io.reader import PlaneReader
from scripts.transforms.intensity import METHODS, NormalizeImaged, RandNoised, flattened, normalize_image


@pytest.fixture
def image() -> np.ndarray:
    """Two channels of grey values 0 .. 255, the second four times as bright."""
    noise = np.random.RandomState(0).randint(0, 64, (2, 61, 47))
    return (noise * [[[1]], [[4]]]).astype(np.uint8)


def test_z_score_is_what_monai_does_to_the_bit(image: np.ndarray) -> None:
    for values in (image, image.transpose(0, 2, 1)):  # also where rows are not first in memory
        tensor = MetaTensor(torch.from_numpy(values).float())
        theirs = NormalizeIntensityd(keys="image", channel_wise=True)({"image": tensor.clone()})["image"]
        ours = NormalizeImaged()({"image": tensor})["image"]
        assert torch.equal(ours, theirs)
        assert ours.dtype == theirs.dtype


def test_z_score_of_real_frames_is_what_monai_does_to_the_bit(data_root: Path) -> None:
    for file in ("DIC-C2DH-HeLa/01/t000.tif", "PhC-C2DH-U373/02/t000.tif"):
        tensor = MetaTensor(torch.from_numpy(imread(data_root / file)[None].astype(np.float32)))
        theirs = NormalizeIntensityd(keys="image", channel_wise=True)({"image": tensor.clone()})["image"]
        assert torch.equal(NormalizeImaged()({"image": tensor})["image"], theirs)


def test_percentiles_are_what_monai_does(image: np.ndarray) -> None:
    for lower, upper in ((1, 99), (0, 100), (5.5, 99.9)):
        theirs = ScaleIntensityRangePercentiles(lower, upper, -1, 1, channel_wise=True)(image.astype(np.float32))
        ours = normalize_image(torch.from_numpy(image), "percentile", lower, upper)
        torch.testing.assert_close(ours, torch.as_tensor(theirs), atol=1e-6, rtol=0)


def test_percentiles_go_to_minus_one_and_one_and_nothing_is_clipped() -> None:
    row = np.arange(101.0)[None, None]  # percentiles are equal to the values
    scaled = normalize_image(row, "percentile", lower=10, upper=60)
    np.testing.assert_allclose(scaled[0, 0, [0, 10, 35, 60, 100]], [-1.4, -1, 0, 1, 2.6], atol=1e-6)


def test_every_channel_has_a_scale_of_its_own(image: np.ndarray) -> None:
    for method in METHODS:
        both = normalize_image(image, method)
        for k in (0, 1):
            np.testing.assert_array_equal(both[k], normalize_image(image[[k]], method)[0])
    np.testing.assert_allclose(normalize_image(image).std(axis=(1, 2)), 1, atol=1e-6)


@pytest.mark.parametrize("flatten", [0, 8])
@pytest.mark.parametrize("method", METHODS)
def test_16_bit_and_8_bit_give_the_same(image: np.ndarray, method: str, flatten: float) -> None:
    wide = image.astype(np.uint16) * 257  # 0 .. 65535
    options = {"method": method, "flatten": flatten}
    expected = normalize_image(image, **options)
    for values in (wide, wide.astype(np.float32), torch.from_numpy(wide), torch.from_numpy(wide.astype(np.int32))):
        np.testing.assert_allclose(np.asarray(normalize_image(values, **options)), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("flatten", [0, 3])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0, 7, 0.1, 65535])
def test_an_image_of_one_value_becomes_zero(method: str, flatten: float, value: float) -> None:
    plain = np.full((1, 30, 40), value, np.float32)
    np.testing.assert_array_equal(normalize_image(plain, method, flatten=flatten), np.zeros_like(plain))


def test_where_the_percentiles_are_one_value_the_extremes_count() -> None:
    """A bright spot on black: 999 of 1000 pixels are 0."""
    spot = np.zeros((1, 25, 40), np.uint16)
    spot[0, 12, 20] = 65535
    scaled = normalize_image(spot, "percentile")
    assert (scaled.min(), scaled.max()) == (-1, 1)


def test_one_hot_pixel_moves_the_z_score_and_not_the_percentiles(image: np.ndarray) -> None:
    dark, hot = image[:1].astype(np.uint16), image[:1].astype(np.uint16)
    hot[0, 0, 0] = 65535
    others = np.s_[0, 1:]

    def contrast(values: np.ndarray, method: str) -> float:
        return float(np.ptp(normalize_image(values, method)[others]))

    assert contrast(hot, "z_score") < 0.1 * contrast(dark, "z_score")
    assert contrast(hot, "percentile") == pytest.approx(contrast(dark, "percentile"), rel=0.05)


def test_flatten_takes_a_ramp_out_but_for_the_edges() -> None:
    rows, cols = np.mgrid[:120, :160]
    ramp = torch.from_numpy(300.0 + 20 * rows - 7 * cols)
    sigma = 5
    inside = np.s_[4 * sigma : -4 * sigma, 4 * sigma : -4 * sigma]  # as far as the blur reaches
    assert flattened(ramp, sigma)[inside].abs().max() < 1e-3
    nearer = np.s_[2 * sigma : -2 * sigma, 2 * sigma : -2 * sigma]
    rise = (20 + 7) * sigma  # over one sigma
    assert flattened(ramp, sigma)[nearer].abs().max() < 0.02 * rise
    assert flattened(ramp, sigma).abs().max() > 0.5 * rise  # in the corners


def test_flatten_leaves_what_is_small_beside_it() -> None:
    """The same texture under even and under slanting light."""
    texture = np.random.RandomState(1).normal(0, 10, (1, 160, 200))
    slant = texture + np.linspace(0, 500, 200)
    inside = np.s_[0, 32:-32, 32:-32]
    for method in METHODS:
        even, uneven = (normalize_image(values, method, flatten=8)[inside] for values in (texture, slant))
        assert np.corrcoef(even.ravel(), uneven.ravel())[0, 1] > 0.9999
    raw = np.corrcoef(texture[inside].ravel(), slant[inside].ravel())[0, 1]
    assert raw < 0.2


def test_flatten_evens_the_light_of_real_frames(data_root: Path) -> None:
    """Flattening halves the spread of the medians of 30 fields, relative to the contrast within the fields."""

    def unevenness(values: np.ndarray) -> float:
        fields = values[0, :510, :510].reshape(5, 102, 6, 85).transpose(0, 2, 1, 3).reshape(30, -1)
        return float(np.median(fields, axis=1).std() / np.median(fields.std(axis=1)))

    for frame in (0, 40, 80):
        image = imread(data_root / "DIC-C2DH-HeLa" / "01" / f"t{frame:03d}.tif")[None]
        assert unevenness(normalize_image(image, flatten=50)) < 0.5 * unevenness(normalize_image(image))


def test_kind_shape_and_metadata_are_kept_and_the_input_is_left_alone(image: np.ndarray) -> None:
    meta = {"filename_or_obj": "t000.tif", "affine": torch.diag(torch.tensor([2.0, 3.0, 1.0, 1.0])).double()}
    for dtype in (torch.uint8, torch.int16, torch.float32, torch.float64):
        tensor = MetaTensor(torch.from_numpy(image).to(dtype), meta=meta)
        for method in METHODS:
            out = NormalizeImaged(["image", "more"], method, flatten=4, allow_missing_keys=True)({"image": tensor})
            assert isinstance(out["image"], MetaTensor)
            assert (out["image"].dtype, out["image"].shape) == (torch.float32, tensor.shape)
            assert out["image"].meta["filename_or_obj"] == "t000.tif"
            torch.testing.assert_close(out["image"].affine, meta["affine"])
            np.testing.assert_array_equal(tensor, image)
    assert isinstance(normalize_image(image), np.ndarray)
    assert normalize_image(image).dtype == np.float32
    volume = np.random.RandomState(2).rand(1, 4, 5, 6)
    assert normalize_image(volume, flatten=1).shape == volume.shape


@pytest.mark.parametrize(
    "options, message",
    [
        ({"method": "minmax"}, "method.*minmax"),
        ({"lower": 99, "upper": 1}, "0 <= lower < upper <= 100, got lower 99 and upper 1"),
        ({"upper": 100.5}, "got lower 1.0 and upper 100.5"),
        ({"flatten": -3}, r"flatten must be 0 \(off\) or a number of pixels from 1, got -3"),
        ({"flatten": 0.3}, "got 0.3"),
        ({"flatten": float("nan")}, "got nan"),
    ],
)
def test_what_is_out_of_range_is_refused_at_once(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NormalizeImaged(**options)


def test_an_image_without_channels_is_refused() -> None:
    """Otherwise rows would be treated as channels, each with a scale."""
    with pytest.raises(ValueError, match=r"\(channels, height, width\).*\(5, 7\).*EnsureChannelFirstd"):
        normalize_image(np.zeros((5, 7)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("method", METHODS)
def test_a_grey_value_that_is_not_finite_is_refused_with_the_file(image: np.ndarray, method: str, value: float) -> None:
    """Otherwise the whole channel would become NaN, and nothing would be found."""
    broken = image.astype(np.float32)
    broken[1, 3, 5] = value
    with pytest.raises(ValueError, match=r"^expected finite.*NaN or infinite"):
        normalize_image(broken, method)
    tensor = MetaTensor(torch.from_numpy(broken), meta={"filename_or_obj": "01/t003.tif"})
    with pytest.raises(ValueError, match=r"^image 01/t003\.tif: .*NaN or infinite"):
        NormalizeImaged(method=method)({"image": tensor})
    with pytest.raises(ValueError, match=r"^image 'image' .*NaN or infinite"):
        NormalizeImaged(method=method)({"image": broken})


def test_noise_has_mean_0_and_at_most_its_standard_deviation_and_is_the_same_for_a_seed() -> None:
    image = torch.zeros(1, 300, 300)
    spreads = []
    for seed in range(40):
        noisy, again = (
            RandNoised(std=0.1, prob=1.0).set_random_state(seed)({"image": image})["image"] for _ in range(2)
        )
        assert torch.equal(noisy, again)
        assert abs(float(noisy.mean())) < 5 * 0.1 / 300
        spreads.append(float(noisy.std()))
    assert max(spreads) < 0.101
    assert np.mean(spreads) == pytest.approx(0.05, abs=0.02)  # drawn uniformly from 0 to 0.1
    assert torch.equal(RandNoised(std=0.1, prob=0.0)({"image": image})["image"], image)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "dtype, offset, factor",
    [
        (np.uint32, 2**31, 1), (np.int32, -(2**31), 1), (np.float64, 2**31, 1), (np.uint64, 2**40, 1),
        (np.float64, 0, 1e300), (np.float32, 0, 1e36), (np.float64, 0, 1e-300), (np.float64, 1000, 1e-6),
    ],
)  # fmt: skip
def test_contrast_stays_with_large_offsets_and_extreme_values(
    dtype: type, offset: float, factor: float, method: str, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 200, (61, 47))
    tifffile.imwrite(tmp_path / "a.tif", (noise * np.float64(factor) + offset).astype(dtype))
    load = LoadImaged("image", reader=PlaneReader(), dtype=None)
    item = EnsureChannelFirstd("image")(load({"image": str(tmp_path / "a.tif")}))
    expected = normalize_image(noise[None].astype(np.float64), method)
    found = NormalizeImaged(method=method)(item)["image"]
    assert found.dtype == torch.float32
    np.testing.assert_allclose(np.asarray(found), expected, atol=1e-3 if factor == 1e-6 else 1e-5)
