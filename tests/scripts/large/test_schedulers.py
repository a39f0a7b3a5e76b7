"""Blocks run in this process or on the workers of dask.distributed; blocks of a worker that dies run elsewhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.large.schedulers import InProcess, OnDask, scheduler_of


@dataclass(frozen=True)
class Square:
    """A step that notes who ran each block. The first process at block `kills` ends itself, as kill -9 does."""

    folder: Path
    kills: int = -1

    def __call__(self, number: int) -> int:
        marker = self.folder / "killed"
        if number == self.kills and not marker.exists():
            marker.touch()
            os._exit(9)
        (self.folder / f"{number}.{os.getpid()}").touch()
        return number**2


@dataclass(frozen=True)
class Failing:
    def __call__(self, number: int) -> int:
        raise ValueError(f"block {number} cannot be read")


def test_without_a_scheduler_blocks_run_in_order_in_this_process(tmp_path):
    assert list(InProcess().run(Square(tmp_path), [4, 2])) == [(4, 16), (2, 4)]
    assert {path.suffix for path in tmp_path.iterdir()} == {f".{os.getpid()}"}
    assert isinstance(scheduler_of(None), InProcess)


@pytest.fixture(scope="module")
def local():
    pytest.importorskip("distributed", reason="dask.distributed is not installed: pip install '.[large]'")
    with OnDask("local:2") as scheduler:
        yield scheduler


@pytest.mark.slow
def test_two_workers_run_every_block_once(local, tmp_path):
    assert sorted(local.run(Square(tmp_path), range(40))) == [(number, number**2) for number in range(40)]
    ran = [path.name.split(".") for path in tmp_path.iterdir()]
    assert sorted(int(number) for number, _ in ran) == list(range(40))
    assert {pid for _, pid in ran}.isdisjoint({str(os.getpid())})
    assert local.workers == 2


@dataclass(frozen=True)
class IgnoresInterrupts:
    def __call__(self, number: int) -> bool:
        return signal.getsignal(signal.SIGINT) == signal.SIG_IGN


@pytest.mark.slow
def test_ctrl_c_ends_workers_without_a_trace(local):
    assert dict(local.run(IgnoresInterrupts(), range(2))) == {0: True, 1: True}


@pytest.mark.slow
def test_blocks_of_a_killed_worker_run_on_another(local, tmp_path):
    results = dict(local.run(Square(tmp_path, kills=7), range(20)))
    assert (tmp_path / "killed").exists()
    assert results == {number: number**2 for number in range(20)}


@pytest.mark.slow
def test_an_error_of_a_block_ends_the_run_with_its_message(local):
    with pytest.raises(ValueError, match=r"block \d cannot be read"):
        list(local.run(Failing(), range(3)))


@pytest.mark.slow
def test_a_scheduler_is_reached_by_address_and_by_file(tmp_path):
    pytest.importorskip("distributed", reason="dask.distributed is not installed: pip install '.[large]'")
    file, server = tmp_path / "scheduler.json", [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    scheduler = subprocess.Popen([*server, "--scheduler-file", str(file), "--port", "0", "--no-dashboard"], **quiet)
    until = time.monotonic() + 60
    while not file.exists() and time.monotonic() < until:
        time.sleep(0.1)
    worker = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(file), "--nthreads", "1"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])},
        cwd=tmp_path,
        **quiet,
    )
    try:
        with OnDask(str(file)) as found:
            assert dict(found.run(Square(tmp_path), [3])) == {3: 9}
    finally:
        for process in (worker, scheduler):
            process.terminate()
            process.wait()


@pytest.mark.parametrize("address", ["no/such/file.json", "locl", "tcp//host"])
def test_an_unknown_scheduler_is_refused(address):
    pytest.importorskip("distributed", reason="dask.distributed is not installed: pip install '.[large]'")
    with pytest.raises(ValueError, match=address):
        OnDask(address)
