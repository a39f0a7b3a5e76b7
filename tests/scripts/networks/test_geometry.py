"""Sizes equal a walk through the network layer by layer; mirrored indices equal numpy's reflect mode."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scripts.networks import geometry


def shrink(n: int, depth: int) -> int | None:
    """Walk an axis through the unpadded network. None: odd size at a pooling, or no output pixel."""
    for _ in range(depth):
        n -= 4
        if n <= 0 or n % 2:
            return None
        n //= 2
    n -= 4
    for _ in range(depth):
        n = 2 * n - 4
    return n if n > 0 else None


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_valid_sizes_are_those_that_pass_through_the_network_step_by_step(depth):
    for n in range(1, 900):
        expected = shrink(n, depth)
        if expected is None:
            with pytest.raises(ValueError, match=f"input_size {n} does not fit {depth}"):
                geometry.output_size(n, depth)
        else:
            assert geometry.output_size(n, depth) == expected
            assert n - expected == 2 * geometry.margin(depth)


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_wanted_sizes_are_rounded_up_to_the_next_valid_one(depth):
    valid = [n for n in range(1, 2000) if shrink(n, depth)]
    for n in range(1, 900):
        assert geometry.valid_input_size(n, depth) == min(v for v in valid if v >= n)


def test_the_message_for_a_wrong_size_names_the_nearest_valid_sizes():
    with pytest.raises(ValueError, match=r"570 does not fit 4 poolings.* 556 and 572 "):
        geometry.output_size(570)
    with pytest.raises(ValueError, match=r"100 does not fit 4 poolings.*: 188 "):
        geometry.output_size(100)


@pytest.mark.parametrize("size", [2, 3, 5, 8])
@pytest.mark.parametrize("border", [0, 1, 4, 23])
def test_mirroring_is_numpys_reflect_for_any_border(size, border):
    row = np.arange(size)
    expected = np.pad(row, border, mode="reflect")
    assert np.array_equal(row[geometry.reflect_index(np.arange(-border, size + border), size)], expected)


def test_a_single_pixel_is_repeated_when_mirrored():
    assert geometry.reflect_index(np.array([-7, 0, 3]), 1).tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="at least 1 pixel, got 0"):
        geometry.reflect_index(0, 0)


def test_center_crop_keeps_the_middle():
    x = torch.arange(36).reshape(1, 1, 6, 6)
    assert geometry.center_crop(x, [2, 4])[0, 0].tolist() == [[13, 14, 15, 16], [19, 20, 21, 22]]


@pytest.mark.parametrize("size", [[2, 4], [3, 5], [4, 6]])
def test_center_crop_has_the_gradient_of_a_slice_and_keeps_its_layout(size):
    x = torch.randn(2, 3, 4, 6).to(memory_format=torch.channels_last).requires_grad_()
    rows, columns = (slice((n - m) // 2, (n - m) // 2 + m) for n, m in zip((4, 6), size, strict=True))
    factor = torch.randn(2, 3, *size).to(memory_format=torch.channels_last)
    ours, sliced = geometry.center_crop(x, size), x[:, :, rows, columns]
    assert torch.equal(ours, sliced)
    gradients = [torch.autograd.grad((crop * factor).sum(), x)[0] for crop in (ours, sliced)]
    assert torch.equal(*gradients)
    assert gradients[0].is_contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        assert geometry.center_crop(x.detach(), size).data_ptr() == x[:, :, rows, columns].data_ptr()  # no copy
