"""Loops over pixels are compiled by numba, and run as plain Python without it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from scripts.compiled import compiled

ROOT = Path(__file__).resolve().parents[2]

WITHOUT_NUMBA = """
import sys, warnings
sys.modules["numba"] = None  # an import fails
from scripts.compiled import compiled
@compiled
def double(x):
    return 2 * x
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print(double(1), double(2), len(caught))
print(caught[0].message)
"""


def double(values: np.ndarray) -> np.ndarray:
    result = np.empty_like(values)
    for k in range(len(values)):
        result[k] = 2 * values[k]
    return result


def test_a_compiled_function_gives_what_the_function_gives():
    np.testing.assert_array_equal(compiled(double)(np.arange(5)), double(np.arange(5)))


def test_without_numba_the_result_is_the_same_and_a_warning_names_the_remedy():
    done = subprocess.run([sys.executable, "-c", WITHOUT_NUMBA], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    values, message = done.stdout.splitlines()
    assert values == "2 4 1"
    assert "pip install numba" in message


def test_a_full_disk_for_the_machine_code_stops_nothing(tmp_path):
    """The cache folder accepts files of up to 1000 bytes, less than the machine code."""
    command = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "import numpy as np; from scripts.transforms.separation import separation_gap\n"
        "print(separation_gap(np.array([[1, 1, 2, 2]]), 1))"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "[[1 1 0 2]]"


def test_compilation_can_be_switched_off():
    command = (
        "import numpy as np; from scripts.transforms.separation import _sees_another, separation_gap\n"
        "print(type(_sees_another).__name__, separation_gap(np.array([[1, 1, 2, 2]]), 1))"
    )
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "function [[1 1 0 2]]", done.stderr[-2000:]
