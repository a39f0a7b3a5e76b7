"""Published weights have names. Leftovers and trainings of users in the same folder have none."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.options import checked
from scripts.published import UnknownWeightsError, described, find_weights, published

ROOT = Path(__file__).resolve().parents[2]


def weights(folder: Path, name: str, run: str | None = None, settings: bool = True) -> Path:
    """Write an empty file of weights, and its settings."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.pt"
    path.touch()
    if settings:
        path.with_suffix(".json").write_text(json.dumps({"training": {"dataset": "cells", "run": run}}))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of weights, as shipped."""
    for name in ("model", "em_small", "nuclei"):
        weights(tmp_path / "models", name)
    return tmp_path / "models"


def test_a_name_is_that_of_the_file_and_the_default_weights_are_em(folder):
    assert {name: path.name for name, path in published(folder).items()} == {
        "em": "model.pt",
        "em_small": "em_small.pt",
        "nuclei": "nuclei.pt",
    }
    assert find_weights("nuclei", folder) == str(folder / "nuclei.pt")


def test_files_of_trainings_in_the_folder_have_no_name(folder):
    weights(folder, "training_state", settings=False)
    weights(folder, "mine", run="1f2e")
    weights(folder, "nuclei.1")
    (folder / "notes.json").write_text("{}")
    (folder / "damaged.pt").touch()
    (folder / "damaged.json").write_text("{")
    assert list(published(folder)) == ["em", "em_small", "nuclei"]
    assert published(folder)["nuclei"].name == "nuclei.pt"


def test_em_follows_the_published_weights_that_a_training_moved_aside(folder):
    for suffix in (".pt", ".json"):
        (folder / f"model{suffix}").rename(folder / f"model.1{suffix}")
    weights(folder, "model", run="1f2e")
    assert published(folder)["em"].name == "model.1.pt"


def test_a_file_in_the_working_folder_does_not_win_over_published_weights(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("nuclei").mkdir()
    Path("mine").touch()
    assert find_weights("nuclei", folder) == str(folder / "nuclei.pt")
    for path in ("./nuclei", "mine", "nuclei.pt", "a/nuclei", "$'nuclei'"):
        assert find_weights(path, folder) == path


def test_an_unknown_name_is_refused_with_the_names_that_are_there(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownWeightsError, match=r"'nuclie'.*em, em_small, nuclei"):
        find_weights("nuclie", folder)
    with pytest.raises(UnknownWeightsError, match=r"'em'.*model\.pt"):
        find_weights("em", tmp_path / "empty")


@pytest.mark.parametrize("key", ["ckpt_path", "finetune"])
def test_both_keys_of_configurations_take_names(key, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert checked({key: "em"}) == {key: str(ROOT / "models" / "model.pt")}
    assert checked({key: "mine.pt"}) == {key: "mine.pt"}
    assert checked({key: Path("em")}) == {key: Path("em")}
    with pytest.raises(ValueError, match=rf"{key}: 'nuclie'.*\bem\b"):
        checked({key: "nuclie"})


def test_published_weights_are_described_by_name_file_and_purpose_and_others_by_their_file(folder, tmp_path):
    told = described(folder / "model.pt", folder)
    assert told.startswith(f"em ({folder / 'model.pt'})")
    assert "membranes" in told
    assert "--weights nuclei" in told  # for users of other images
    assert "nuclei in fluorescence" in described(f"{folder}/../models/nuclei.pt", folder)
    assert described("output/model.pt", folder) == str(Path("output/model.pt"))
    mine = weights(folder, "mine", run="1f2e")
    assert described(mine, folder) == str(mine)


def test_names_are_found_without_torch_in_a_copy_of_the_package(folder, tmp_path):
    """Installed, the folders `configs` and `models` lie beside the module."""
    (tmp_path / "configs").mkdir()
    shutil.copy(ROOT / "scripts" / "published.py", tmp_path)
    program = "import sys, published; print(published.find_weights('nuclei'), 'torch' in sys.modules)"
    process = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert process.stdout.split() == [str(folder / "nuclei.pt"), "False"]
