"""Records of finished images, of one process and of several."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.io.record import RunRecord
from tests.processes import in_two_processes

SETTINGS = {"min_area": "40"}


@pytest.fixture
def images(tmp_path) -> list[str]:
    names = [str(tmp_path / f"{k}.png") for k in range(3)]
    for name in names:
        Path(name).touch()
    return names


def test_a_killed_run_of_several_processes_leaves_the_images_of_all(images, tmp_path):
    records = [RunRecord(tmp_path, SETTINGS, rank) for rank in range(3)]
    records[0].begin({})
    for record, image in zip(records, images, strict=True):
        record.add(image, image, {})
    assert set(RunRecord(tmp_path, SETTINGS).images) == set(images)


def test_images_of_other_settings_in_a_file_of_another_process_do_not_count(images, tmp_path):
    earlier = RunRecord(tmp_path, {"min_area": "0"}, rank=1)
    earlier.add(images[1], images[1], {})
    record = RunRecord(tmp_path, SETTINGS)
    (tmp_path / "results.jsonl").write_text(json.dumps({"settings": SETTINGS}) + "\n")
    record.read()
    assert record.images == {}


def test_a_new_run_removes_the_files_of_other_processes(images, tmp_path):
    RunRecord(tmp_path, SETTINGS, rank=1).add(images[1], images[1], {})
    RunRecord(tmp_path, SETTINGS).begin({})
    assert [path.name for path in tmp_path.glob("*results*")] == ["results.jsonl"]


def _merge(rank: int, folder: Path) -> None:
    record = RunRecord(folder, SETTINGS, rank)
    if rank == 0:
        record.begin({"kept.png": {"image": "kept.png"}})
    record.add(f"{rank}.png", f"{rank}.png", {})
    record.merge(["1.png", "kept.png", "0.png"])


@pytest.mark.slow
def test_two_processes_join_their_records_in_the_order_of_the_images(tmp_path):
    in_two_processes(_merge, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [line.get("image") for line in lines] == [None, "1.png", "kept.png", "0.png"]
    assert not list(tmp_path.glob(".results*"))
