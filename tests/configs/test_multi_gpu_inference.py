"""`configs/multi_gpu_inference.yaml` in two processes of torchrun: the files of one process, also after kill -9."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tifffile
from PIL import Image

from bundle.__main__ import main
from bundle.datasets.synthetic_em import synthetic_section
from tests.configs.conftest import ROOT
from tests.processes import in_two_processes

pytestmark = pytest.mark.slow

WEIGHTS = "nuclei_small"
ENDED = 120  # seconds. torch itself would wait for 30 minutes
OF_RUN = ("run.json", "run.log")  # with times and commands


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Six images, one of them broken, and a stack of two planes."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for k in range(5):
        Image.fromarray(synthetic_section(rng, (96, 80))[0]).save(folder / f"{k}.png")
    (folder / "broken.png").write_bytes((folder / "0.png").read_bytes()[:100])
    stack = np.stack([synthetic_section(rng, (96, 80))[0] for _ in range(2)])
    tifffile.imwrite(folder / "stack.tif", stack, photometric="minisblack", metadata={"axes": "ZYX"})
    return folder


@pytest.fixture(scope="module")
def alone(images, tmp_path_factory) -> dict[str, bytes]:
    """The files of a single process."""
    folder = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        assert main(["segment", str(images), "--output", str(folder), "--weights", WEIGHTS, "--device", "cpu"]) == 1
    return files(folder)


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in OF_RUN)
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


class Together:
    """Two processes of torchrun that segment a folder."""

    def __init__(self, images: Path, output: Path, *options: str) -> None:
        self.output, self.text = output, ""
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "bundle"]
        words = ["segment", str(images), "--output", str(output), "--weights", WEIGHTS, *options]
        self.program = subprocess.Popen(
            [*command, *words, "--overlay", "multi_gpu_inference", "--device", "cpu"],
            cwd=ROOT,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def process(self, rank: int) -> psutil.Process:
        """Find the process of a rank."""
        workers = psutil.Process(self.program.pid).children()
        (found,) = (worker for worker in workers if worker.environ().get("RANK") == str(rank))
        return found

    def wait_for(self, *names: str) -> None:
        """Wait until files are in the output folder."""
        end = time.monotonic() + ENDED
        while not all((self.output / name).exists() for name in names):
            assert self.program.poll() is None, self.end()
            assert time.monotonic() < end
            time.sleep(0.01)

    def end(self) -> str:
        """Wait for the end. Return all messages."""
        self.text += self.program.communicate(timeout=ENDED)[0]
        return self.text


@pytest.fixture
def together(images, tmp_path) -> Iterator[Any]:
    """Start pairs of processes that segment `images` into the same folder, with options."""
    started = []

    def start(*options: str) -> Together:
        started.append(Together(images, tmp_path / "out", *options))
        return started[-1]

    yield start
    for pair in started:
        if pair.program.poll() is None:
            for process in (*psutil.Process(pair.program.pid).children(), pair.program):
                process.kill()
            pair.program.communicate()


def test_two_processes_write_the_files_of_one_and_report_the_broken_image_once(together, alone):
    pair = together()
    text = pair.end()
    assert files(pair.output) == alone, text
    assert text.count("broken.png") == 1
    assert re.search("1 of 8 images failed", text)
    assert pair.program.returncode == 1


@pytest.mark.parametrize("rank", [0, 1])
def test_after_the_kill_of_a_process_all_end_soon_and_skip_finished_completes_the_files(
    rank, together, alone, images, monkeypatch, capsys
):
    pair = together()
    pair.wait_for("results.jsonl", ".results.rank1.jsonl")
    victim = pair.process(rank)
    victim.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    text = pair.end()
    assert pair.program.returncode != 0
    assert time.monotonic() - killed < ENDED / 2
    assert re.search(rf"rank {rank} \(process {victim.pid} .*--skip_finished true", text)
    if rank == 0:
        text = together("--skip_finished", "true").end()
    else:
        monkeypatch.chdir(ROOT)
        words = ["--output", str(pair.output), "--weights", WEIGHTS, "--device", "cpu", "--skip_finished", "true"]
        assert main(["segment", str(images), *words]) == 1  # a broken image
        text = capsys.readouterr().out
    finished = re.search(r"skip_finished: (\d+) of 7 images are finished", text)
    assert finished is not None, text
    assert 1 <= int(finished[1]) < 6
    found = files(pair.output)
    assert found.keys() == alone.keys()
    for name in found:  # one process appends to the earlier lines of the record
        assert sorted(found[name].splitlines()) == sorted(alone[name].splitlines()), name


def test_a_second_pair_is_refused_while_the_first_writes(together):
    first = together()
    first.wait_for(".lock")
    holder = first.process(0)
    holder.suspend()
    second = together()
    text = second.end()
    holder.resume()
    assert second.program.returncode == 1
    assert len(re.findall(rf"process {holder.pid} on .*since", text)) == 1
    first.end()


def segment_one(rank: int, folder: Path, image: Path) -> None:
    os.chdir(ROOT)
    words = ["--output", str(folder / "out"), "--weights", WEIGHTS, "--device", "cpu"]
    code = main(["segment", str(image), *words, "--overlay", "multi_gpu_inference"])
    (folder / f"{rank}.txt").write_text(str(code))


def test_a_process_without_images_takes_part(images, alone, tmp_path):
    in_two_processes(partial(segment_one, image=images / "stack.tif"), tmp_path)
    assert [(tmp_path / f"{rank}.txt").read_text() for rank in (0, 1)] == ["0", "0"]
    found = files(tmp_path / "out")
    assert found["instances/stack.tif"] == alone["instances/stack.tif"]
    assert {name for name in found if name.startswith(".")} == set()
