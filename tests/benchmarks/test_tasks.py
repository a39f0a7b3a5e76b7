"""The parts of a data set have no image in common."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.tasks import TASKS, write_parts
from bundle.datasets.sample import sample


@pytest.mark.parametrize("task", TASKS)
def test_the_parts_have_no_image_in_common_and_are_the_same_each_time(tmp_path, task):
    sample(str(tmp_path / "data"), size=64, train=20, test=0)
    parts = parts_of(tmp_path / "data" / "train", tmp_path, task)
    names = [name for part in parts for name in part]
    assert len(set(names)) == len(names) == 20
    assert min(map(len, parts)) >= 1
    assert parts == parts_of(tmp_path / "data" / "train", tmp_path, task)
    if TASKS[task].neighbours:
        assert names == sorted(names)  # blocks


def parts_of(dataset: Path, out: Path, task: str) -> list[list[str]]:
    """Names of the images that train, choose and are measured."""
    training, measured = (json.loads(file.read_text()) for file in write_parts(TASKS[task], dataset, out))
    assert training["training"] == measured["training"]
    return [training["training"], training["validation"], measured["validation"]]
