"""`memory_limit` of inference holds in a process with a memory limit set by the system."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

SIZE = 2048  # pixels, height and width
OUTPUT = 2 * 4 * SIZE**2  # bytes, two classes in float32
LIMIT = 256 * 2**20  # bytes: six calls for an image of 1 GiB in one call, with an eighth of the paper's features
ALLOWANCE = 64 * 2**20  # bytes for weights in other layouts and compiled kernels; 10 MiB measured
PROGRAM = """
import resource, sys, torch
from pathlib import Path
from scripts.inferers.overlap_tile import OverlapTileInferer
from scripts.networks.unet import RonnebergerUNet

torch.set_num_threads(1)
memory_limit, allowed = int(sys.argv[1]), int(sys.argv[2])
network = RonnebergerUNet(features=(8, 16, 32, 64, 128)).eval().to(memory_format=torch.channels_last)
image = torch.rand(1, 1, {size}, {size})
calls = []
with torch.inference_mode():
    OverlapTileInferer()(image[..., :20, :20], network)  # loads libraries, starts threads
    network.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
    lines = Path("/proc/self/status").read_text().splitlines()
    taken = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmSize:"))
    resource.setrlimit(resource.RLIMIT_AS, (taken + allowed, taken + allowed))
    scores = OverlapTileInferer(memory_limit=memory_limit)(image, network)
print(tuple(scores.shape), bool(scores.isfinite().all()), len(calls), "calls")
"""


def run(memory_limit: int, allowed: int) -> subprocess.CompletedProcess[str]:
    """Segment an image in a process whose address space may grow by `allowed` bytes."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(size=SIZE), str(memory_limit), str(allowed)],
        cwd=ROOT,
        env={**os.environ, "MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="needs Linux, for the memory limit of a process"
)


def test_inference_stays_within_its_memory_limit():
    """Larger tiles or batches would end jobs on shared machines, perhaps after hours."""
    done = run(LIMIT, OUTPUT + LIMIT + ALLOWANCE)
    assert done.stdout.strip() == "(1, 2, 2048, 2048) True 6 calls", done.stderr


def test_the_same_process_fails_with_a_larger_memory_limit():
    """Shows that the test above can fail: `memory_limit` keeps the process below the limit of the system."""
    assert run(8 * LIMIT, OUTPUT + LIMIT + ALLOWANCE).returncode != 0  # libraries have several messages
    done = run(8 * LIMIT, OUTPUT + 8 * LIMIT + ALLOWANCE)  # memory was the reason
    assert done.stdout.strip() == "(1, 2, 2048, 2048) True 1 calls", done.stderr
