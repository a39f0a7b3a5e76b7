"""The number format "auto" and the training layout, on the processor as it is, and with AVX2 alone."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from scripts.inferers.precision import (
    amp_dtype_of,
    can_compile,
    computes_in_bfloat16,
    training_layout,
    trains_in_channels_last,
)

CPU = torch.device("cpu")
LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")  # oneDNN reads both
CHOICES = """
import torch
from scripts.inferers.precision import amp_dtype_of, training_layout
cpu = torch.device("cpu")
print(amp_dtype_of("auto", cpu), training_layout(cpu))
"""


def flags() -> set[str]:
    """Read the processor's instruction sets from the kernel."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return {word for line in lines if line.startswith(("flags", "Features")) for word in line.split()}


@pytest.mark.skipif(platform.machine() != "x86_64" or not flags(), reason="needs the flags of an x86 processor")
@pytest.mark.skipif(any(name in os.environ for name in LIMITS), reason=f"one of {LIMITS} limits oneDNN")
def test_the_choices_follow_the_processor_s_instructions():
    assert computes_in_bfloat16(CPU) == bool(flags() & {"avx512_bf16", "amx_bf16"})
    assert trains_in_channels_last(CPU) == ({"avx512bw", "avx512vl", "avx512dq"} <= flags())
    assert amp_dtype_of("auto", CPU) == (torch.bfloat16 if computes_in_bfloat16(CPU) else None)
    assert training_layout(CPU) == (torch.channels_last if trains_in_channels_last(CPU) else torch.contiguous_format)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="AVX2 is an instruction set of x86")
def test_with_avx2_alone_a_cpu_computes_in_float32_and_trains_in_torch_s_own_layout():
    root = Path(__file__).parents[3]
    environment = {**os.environ, **dict.fromkeys(LIMITS, "AVX2")}
    done = subprocess.run([sys.executable, "-c", CHOICES], cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "None torch.contiguous_format"


def test_a_gpu_trains_in_channels_last():
    assert training_layout(torch.device("cuda")) == training_layout("cuda:1") == torch.channels_last


def test_auto_is_float32_on_unmeasured_devices():
    assert amp_dtype_of("auto", torch.device("meta")) is None


@pytest.mark.parametrize(
    "name, dtype", [("bfloat16", torch.bfloat16), ("float16", torch.float16), ("float32", None), (None, None)]
)
def test_a_named_format_is_used_on_any_processor(name, dtype):
    assert amp_dtype_of(name, CPU) is dtype


def test_nothing_is_compiled_on_a_cpu_or_without_triton(monkeypatch):
    assert not can_compile("cpu")
    monkeypatch.setitem(sys.modules, "triton", None)  # an import fails, as if it were not installed
    assert not can_compile("cuda:0")
