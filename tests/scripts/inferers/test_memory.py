"""Freed memory stays with the process during a training. The system's resident size is the witness."""

from __future__ import annotations

import ctypes
import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.inferers.memory import keep_freed_memory

SIZE = 2**27  # bytes, more than the C library keeps by default
PROGRAM = """
import json, psutil, sys, torch, types
from ignite.engine import Engine
for name in ("scripts", "scripts.inferers", "scripts.io"):  # without the imports of the packages, which take seconds
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [name.replace(".", "/")]
from scripts.inferers.memory import KeepFreedMemory, keep_freed_memory

def resident():
    return psutil.Process().memory_info().rss

def after_a_tensor():
    torch.ones({size}, dtype=torch.uint8)
    return resident() - before

before = resident()
seen = {{"by default": after_a_tensor(), "accepted": keep_freed_memory(True), "kept": after_a_tensor()}}
seen |= {{"returned": (keep_freed_memory(False), resident() - before)[1], "as before": after_a_tensor()}}
steps = []
trainer = Engine(lambda engine, batch: steps.append(after_a_tensor()))
KeepFreedMemory().attach(trainer)
trainer.run([0, 1])
print(json.dumps(seen | {{"least of steps": min(steps), "after the training": resident() - before}}))
"""
of_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library has this setting")


@of_glibc
def test_freed_memory_stays_with_the_process_while_asked_and_during_a_training():
    program = PROGRAM.format(size=SIZE)
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen.pop("accepted") is True
    kept = {name for name, grown in seen.items() if grown > 0.9 * SIZE}
    returned = {name for name, grown in seen.items() if grown < 0.1 * SIZE}
    assert kept == {"kept", "least of steps"}
    assert returned == {"by default", "returned", "as before", "after the training"}


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(ctypes, "CDLL", None)
    assert not keep_freed_memory(True)
