"""Which precision "auto" is, on this processor and on one that is told to do without its newer instructions."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from scripts.inferers.precision import amp_dtype_of, can_compile

CPU = torch.device("cpu")
LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")  # oneDNN reads both
AUTO = """
import torch
from scripts.inferers.precision import amp_dtype_of, computes_in_bfloat16
cpu = torch.device("cpu")
print(computes_in_bfloat16(cpu), amp_dtype_of("auto", cpu))
"""


def flags() -> set[str]:
    """What the kernel says of the processor."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return {word for line in lines if line.startswith(("flags", "Features")) for word in line.split()}


@pytest.mark.skipif(platform.machine() != "x86_64" or not flags(), reason="needs the flags of an x86 processor")
def test_auto_is_bfloat16_where_the_processor_multiplies_it():
    expected = bool(flags() & {"avx512_bf16", "amx_bf16"})
    assert printed_with(None, AUTO) == ("True torch.bfloat16" if expected else "False None")


def printed_with(instructions: str | None, code: str) -> str:
    """What a new process prints where torch's library, oneDNN, uses no newer instructions; None: all there are."""
    environment = {name: value for name, value in os.environ.items() if name not in LIMITS}
    if instructions is not None:
        environment[LIMITS[0]] = instructions
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the variable names instructions of x86")
def test_auto_is_single_precision_where_the_library_may_not_use_such_instructions():
    assert printed_with("AVX2", AUTO) == "False None"


def test_auto_is_single_precision_on_devices_nobody_has_measured():
    assert amp_dtype_of("auto", torch.device("meta")) is None


@pytest.mark.parametrize(
    "name, dtype", [("bfloat16", torch.bfloat16), ("float16", torch.float16), ("float32", None), (None, None)]
)
def test_a_name_is_taken_at_its_word(name, dtype):
    assert amp_dtype_of(name, CPU) is dtype


def test_nothing_is_compiled_on_a_cpu_nor_without_triton(monkeypatch):
    assert not can_compile("cpu")
    monkeypatch.setitem(sys.modules, "triton", None)  # as where it is not installed
    assert not can_compile("cuda:0")
