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
import os, resource, sys, torch
from pathlib import Path
from scripts.inferers.overlap_tile import OverlapTileInferer
from scripts.networks.unet import RonnebergerUNet

torch.set_num_threads(1)
network = RonnebergerUNet(features=(8, 16, 32, 64, 128)).eval().to(memory_format=torch.channels_last)
image = torch.rand(1, 1, {size}, {size})

@torch.inference_mode()
def segment(memory_limit, allowed):
    calls = []
    network.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
    lines = Path("/proc/self/status").read_text().splitlines()
    taken = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmSize:"))
    resource.setrlimit(resource.RLIMIT_AS, (taken + allowed, taken + allowed))
    scores = OverlapTileInferer(memory_limit=memory_limit)(image, network)
    print(tuple(scores.shape), bool(scores.isfinite().all()), len(calls), "calls", flush=True)

with torch.inference_mode():
    OverlapTileInferer()(image[..., :20, :20], network)  # loads libraries
for case in sys.argv[1:]:
    child = os.fork()  # starting Python and importing MONAI would take seconds for each case
    if child == 0:
        segment(*map(int, case.split(",")))
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        print("failed", flush=True)
"""


@pytest.fixture(scope="module")
def outcomes() -> list[str]:
    """Segment an image with a memory limit, in processes whose address space may grow by some bytes."""
    cases = ((LIMIT, LIMIT), (8 * LIMIT, LIMIT), (8 * LIMIT, 8 * LIMIT))
    done = subprocess.run(
        [
            *(sys.executable, "-c", PROGRAM.format(size=SIZE)),
            *(f"{memory_limit},{OUTPUT + allowed + ALLOWANCE}" for memory_limit, allowed in cases),
        ],
        cwd=ROOT,
        env={**os.environ, "MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="needs Linux, for the memory limit of a process"
)


def test_inference_stays_within_its_memory_limit(outcomes):
    """Larger tiles or batches would end jobs on shared machines, perhaps after hours."""
    assert outcomes[0] == "(1, 2, 2048, 2048) True 6 calls"


def test_the_same_process_fails_with_a_larger_memory_limit(outcomes):
    """Shows that the test above can fail: `memory_limit` keeps the process below the limit of the system."""
    assert outcomes[1:] == ["failed", "(1, 2, 2048, 2048) True 1 calls"]  # with more memory the process works
