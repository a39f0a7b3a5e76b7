"""Which layout a network trains in, on this processor and on one that is told to do without its newer instructions."""

from __future__ import annotations

import platform

import pytest
import torch

from scripts.layouts import training_layout, trains_in_channels_last
from tests.scripts.test_precision import CPU, flags, printed_with

LAYOUT = "import torch; from scripts.layouts import training_layout; print(training_layout(torch.device('cpu')))"


@pytest.mark.skipif(platform.machine() != "x86_64" or not flags(), reason="needs the flags of an x86 processor")
def test_a_processor_with_avx_512_trains_in_channels_last():
    has_it = {"avx512bw", "avx512vl", "avx512dq"} <= flags()
    assert printed_with(None, LAYOUT) == ("torch.channels_last" if has_it else "torch.contiguous_format")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the variable names instructions of x86")
def test_torch_s_own_layout_where_the_library_may_not_use_avx_512():
    assert printed_with("AVX2", LAYOUT) == "torch.contiguous_format"


def test_the_layout_is_channels_last_exactly_where_a_device_has_fast_gradients_for_it():
    assert training_layout(CPU) == (torch.channels_last if trains_in_channels_last(CPU) else torch.contiguous_format)


def test_a_gpu_trains_in_channels_last():
    assert training_layout(torch.device("cuda")) == training_layout("cuda:1") == torch.channels_last
