"""Compare scores of a network that were computed in two ways, within what their number format allows on any processor.

The largest of many differences depends on the order of sums, and with it on the processor: it is not compared.
"""

from __future__ import annotations

from math import ceil, pi

import torch

SUMS = 1e-5  # relative: products are summed in float32 at least, in an order that each library chooses


def relative_error(got: torch.Tensor, expected: torch.Tensor) -> float:
    """L2 norm of the difference, as a share of the norm of what is expected."""
    got, expected = got.detach().double(), expected.detach().double()
    return float((got - expected).norm() / expected.norm())


def relative_tolerance(dtype: torch.dtype, convolutions: int = 23) -> float:
    """Relative L2 error to allow: 4 % for bfloat16, 0.5 % for float16, 0.001 % for float32.

    Rounding moves a weight and a feature by up to half of the format's eps each. The errors of n convolutions add up
    as in a random walk, to sqrt(n) eps.

    Args:
        dtype: format in which convolutions are computed, float32 or shorter.
        convolutions: of the network, one after the other; 23 in the paper's.
    """
    return convolutions**0.5 * torch.finfo(dtype).eps + SUMS


def assert_same_scores(
    got: torch.Tensor,
    expected: torch.Tensor,
    dtype: torch.dtype = torch.float32,
    convolutions: int = 23,
    name: str = "scores",
) -> None:
    """Compare by relative L2 error, and by the share of pixels with another class.

    Two normally distributed scores with a relative error e change places in e / pi of the pixels.

    Args:
        got: (B, K, H, W) scores, K at least 2.
        expected: the same from the plain way, in float32.
        dtype: see `relative_tolerance`.
        convolutions: see `relative_tolerance`.
        name: of the way to `got`, for the message.

    Raises:
        AssertionError: shapes differ, a score is not finite, or one of the two is too large.
    """
    assert got.shape == expected.shape, f"{name}: shape {tuple(got.shape)}, expected {tuple(expected.shape)}"
    tolerance = relative_tolerance(dtype, convolutions)
    error = relative_error(got, expected)
    assert error < tolerance, f"{name}: relative L2 error {error:.2e}, expected below {tolerance:.2e} with {dtype}"
    classes = expected.argmax(1)
    changed, allowed = int((got.argmax(1) != classes).sum()), ceil(tolerance / pi * classes.numel())
    assert changed <= allowed, f"{name}: other classes in {changed} of {classes.numel()} pixels, allowed {allowed}"
