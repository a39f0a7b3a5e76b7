"""Which layout a network trains in, on this processor and on one that is told to do without its newer instructions."""

from __future__ import annotations

import platform

import pytest
import torch

from scripts.inferers.precision import training_layout
from tests.scripts.inferers.test_precision import flags, printed_with

LAYOUT = """
from scripts.inferers.precision import training_layout, trains_in_channels_last
print(trains_in_channels_last("cpu"), training_layout("cpu"))
"""


@pytest.mark.skipif(platform.machine() != "x86_64" or not flags(), reason="needs the flags of an x86 processor")
def test_a_processor_with_avx_512_trains_in_channels_last():
    has_it = {"avx512bw", "avx512vl", "avx512dq"} <= flags()
    assert printed_with(None, LAYOUT) == ("True torch.channels_last" if has_it else "False torch.contiguous_format")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the variable names instructions of x86")
def test_torch_s_own_layout_where_the_library_may_not_use_avx_512():
    assert printed_with("AVX2", LAYOUT) == "False torch.contiguous_format"


def test_a_gpu_trains_in_channels_last():
    assert training_layout(torch.device("cuda")) == training_layout("cuda:1") == torch.channels_last
