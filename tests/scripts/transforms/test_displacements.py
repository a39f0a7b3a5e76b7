"""Sampled displacements and their interpolation against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from scripts.transforms.displacements import dense_displacements, sample_displacements, sample_simard_displacements


def test_displacements_are_gaussian_with_ten_pixels_on_three_by_three_points():
    drawn = np.stack([sample_displacements(random_state=seed) for seed in range(3000)])
    assert drawn.shape == (3000, 2, 3, 3)
    assert drawn.dtype == np.float32
    flat = drawn.reshape(3000, -1)
    # 18 independent components; 5 standard errors of mean and deviation
    np.testing.assert_allclose(flat.mean(0), 0, atol=5 * 10 / 3000**0.5)
    np.testing.assert_allclose(flat.std(0), 10, atol=5 * 10 / 6000**0.5)
    np.testing.assert_allclose(np.corrcoef(flat.T), np.eye(18), atol=5 / 3000**0.5)
    z = flat / 10
    assert (z**4).mean() == pytest.approx(3, abs=0.2)  # a uniform distribution would have 1.8


def test_sampling_takes_seed_state_or_generator_and_repeats():
    by_seed = sample_displacements((4, 5), 2.0, 7)
    assert by_seed.shape == (2, 4, 5)
    np.testing.assert_array_equal(by_seed, sample_displacements((4, 5), 2.0, np.random.RandomState(7)))
    generators = [np.random.default_rng(7) for _ in range(2)]
    np.testing.assert_array_equal(*(sample_displacements(random_state=generator) for generator in generators))
    assert not np.array_equal(sample_displacements(), sample_displacements())


def test_simard_displacements_are_blurred_uniform_noise_times_alpha():
    size, radius = (40, 30), 12
    drawn = sample_simard_displacements(size, random_state=3)
    uniform = np.random.RandomState(3).uniform(-1, 1, (2, size[0] + 24, size[1] + 24))
    kernel = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * 5.0**2))
    kernel /= kernel.sum()
    for axis in (1, 2):
        uniform = np.apply_along_axis(np.convolve, axis, uniform, kernel, mode="valid")
    assert drawn.dtype == np.float32
    np.testing.assert_allclose(drawn, 50 * uniform, atol=1e-4)


def test_simard_displacements_have_one_spread_at_the_border_and_inside():
    drawn = np.stack([sample_simard_displacements((31, 31), random_state=seed) for seed in range(800)])
    kernel = np.exp(-(np.arange(-12, 13) ** 2) / 50)
    expected = 50 / 3**0.5 * (kernel**2).sum() / kernel.sum() ** 2  # 1.63 px
    np.testing.assert_allclose(drawn[:, :, 0, 0].std(), expected, rtol=0.1)
    np.testing.assert_allclose(drawn[:, :, 15, 15].std(), expected, rtol=0.1)


@pytest.mark.parametrize("size", [(21, 31), (64, 64), (3, 3), (2, 5), (388, 572)])
@pytest.mark.parametrize("points", [(3, 3), (2, 5)])
def test_dense_field_is_scipys_mirrored_cubic_spline(size, points):
    coarse = sample_displacements(points, 10.0, 0)
    where = np.meshgrid(*(np.linspace(0, p - 1, s) for p, s in zip(points, size, strict=True)), indexing="ij")
    expected = [map_coordinates(plane.astype(np.float64), where, order=3, mode="mirror") for plane in coarse]
    np.testing.assert_allclose(dense_displacements(coarse, size), expected, atol=2e-5)


def test_corner_points_sit_on_the_corner_pixels_and_the_middle_one_in_the_middle():
    coarse = sample_displacements(random_state=1)
    dense = dense_displacements(coarse, (41, 61)).numpy()
    np.testing.assert_allclose(dense[:, ::20, ::30], coarse, atol=1e-5)


def test_equal_displacements_are_a_shift_and_none_are_exactly_none():
    assert torch.equal(dense_displacements(np.zeros((2, 3, 3)), (40, 50)), torch.zeros(2, 40, 50))
    np.testing.assert_allclose(dense_displacements(np.full((2, 3, 3), 3.0), (40, 50)), 3, atol=1e-5)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: sample_displacements((1, 3)), r"at least 2 points.*\(1, 3\)"),
        (lambda: sample_displacements(sigma=-1.0), "sigma.*-1.0"),
        (lambda: sample_simard_displacements((9, 9), alpha=-2.0), "alpha.*-2.0"),
        (lambda: sample_simard_displacements((9, 9), kernel_size=24), "kernel_size.*24.*25"),
        (lambda: sample_simard_displacements((9, 9), sigma=0.0), "sigma.*0.0"),
        (lambda: dense_displacements(np.zeros((3, 3)), (9, 9)), r"\(2, m, n\).*\(3, 3\)"),
        (lambda: dense_displacements(np.zeros((2, 1, 3)), (9, 9)), r"at least 2 points.*\(1, 3\)"),
    ],
)
def test_errors_name_the_argument_and_the_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()
