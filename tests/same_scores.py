"""Compare a network's scores, computed in two ways, within the rounding of the number format on any processor.

The largest difference is not compared: with the order of sums, it depends on the processor.
"""

from __future__ import annotations

from math import ceil, pi

import torch

SUMS = 1e-5  # relative; libraries sum products in float32 or wider, in different orders


def relative_error(got: torch.Tensor, expected: torch.Tensor) -> float:
    """Get the L2 norm of the difference, divided by the norm of the expected scores."""
    got, expected = got.detach().double(), expected.detach().double()
    return float((got - expected).norm() / expected.norm())


def relative_tolerance(dtype: torch.dtype, convolutions: int = 23) -> float:
    """Get the allowed relative L2 error: 4 % for bfloat16, 0.5 % for float16, 0.001 % for float32.

    Rounding moves a weight and a feature by up to half of the format's eps each. The errors of n convolutions add up
    as in a random walk, to sqrt(n) eps.

    Args:
        dtype: number format of the convolutions, float32 or shorter.
        convolutions: number of the network's convolutions; 23 in the paper.
    """
    return convolutions**0.5 * torch.finfo(dtype).eps + SUMS


def assert_same_scores(
    got: torch.Tensor,
    expected: torch.Tensor,
    dtype: torch.dtype = torch.float32,
    convolutions: int = 23,
    name: str = "scores",
) -> None:
    """Compare scores by relative L2 error, and by the share of pixels with a different class.

    With a relative error e, two normally distributed scores change their order in e / pi of the pixels.

    Args:
        got: (B, K, H, W) scores, K at least 2.
        expected: (B, K, H, W) scores in float32.
        dtype: see `relative_tolerance`.
        convolutions: see `relative_tolerance`.
        name: name of `got` in the message.

    Raises:
        AssertionError: different shapes, a score that is not finite, a large error or many different classes.
    """
    assert got.shape == expected.shape, f"{name}: shape {tuple(got.shape)}, expected {tuple(expected.shape)}"
    tolerance = relative_tolerance(dtype, convolutions)
    error = relative_error(got, expected)
    assert error < tolerance, f"{name}: relative L2 error {error:.2e}, expected below {tolerance:.2e} with {dtype}"
    classes = expected.argmax(1)
    changed, allowed = int((got.argmax(1) != classes).sum()), ceil(tolerance / pi * classes.numel())
    assert changed <= allowed, f"{name}: different classes in {changed} of {classes.numel()} pixels, allowed {allowed}"
