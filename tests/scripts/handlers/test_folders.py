"""Folders of trainings: reserved for one process; an earlier training is kept under a number."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine

from scripts.handlers.folders import TrainingFolders
from scripts.handlers.resuming import TrainingState
from scripts.settings import ModelSettings, read_settings, write_weights

ROOT = Path(__file__).resolve().parents[3]
FIRST = {  # files of a training in one folder
    *("model.pt", "model.json", "training_state.pt"),
    *("history.csv", "split.json", "curves.png", "panel.png", "events.out.tfevents.1"),
}


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A folder with a training."""
    for name in FIRST:
        (tmp_path / name).write_text(f"old {name}")
    write_weights(torch.nn.Linear(2, 1).state_dict(), tmp_path / "model.pt", ModelSettings(threshold=0.4))
    return tmp_path


def prepare(*folders: Path, **options: object) -> None:
    """Run a training that does nothing but write its split before its start."""
    prepared = TrainingFolders(*folders, **options)  # type: ignore[arg-type]
    trainer = Engine(lambda *_: None)
    prepared.attach(trainer)
    prepared.prepare()
    if not options.get("resume"):
        folders[1].mkdir(exist_ok=True)
        (folders[1] / "split.json").write_text("new split")
    trainer.run([0])


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {".lock"}


def numbered(number: int) -> set[str]:
    table = {name: f"{Path(name).stem}.{number}{Path(name).suffix}" for name in FIRST}
    return {*table.values(), f"tensorboard.{number}/events.out.tfevents.1"} - {table["events.out.tfevents.1"]}


def test_a_new_training_moves_the_files_of_an_earlier_one_aside_under_one_number(trained, caplog):
    caplog.set_level("INFO")
    prepare(trained, trained)
    assert names(trained) == {*numbered(1), "split.json"}
    assert (trained / "split.1.json").read_text() == "old split.json"
    assert read_settings(trained / "model.1.pt").threshold == 0.4
    (message,) = [message for message in caplog.messages if "kept" in message]
    assert all(text in message for text in (str(trained), "model.1.pt", "history.1.csv", "--resume true"))


def test_the_next_number_is_free_for_all_files(trained):
    (trained / "history.1.csv").touch()
    (trained / "tensorboard.2").mkdir()
    prepare(trained, trained)
    assert names(trained) == {*numbered(3), "history.1.csv", "split.json"}


def test_a_resumed_training_moves_nothing(trained):
    TrainingState(trained / "training_state.pt", {}).attach(trainer := Engine(lambda *_: None))
    trainer.run([0])
    before = names(trained)
    prepare(trained, trained, resume=True)
    assert names(trained) == before


def test_a_damaged_state_is_refused_before_anything_is_locked(trained):
    before = names(trained)
    with pytest.raises(ValueError, match=r"training_state\.pt"):
        prepare(trained, trained, resume=True)
    assert names(trained) == before
    assert not (trained / ".lock").exists()


def test_files_that_the_new_training_reads_stay_in_place_too(trained):
    old = (trained / "model.pt").read_bytes()
    prepare(trained, trained, finetune=trained / "model.pt", split_file=trained / "split.json")
    assert names(trained) == {*numbered(1), "model.pt", "model.json", "split.json"}
    write_weights(torch.nn.Linear(2, 1).state_dict(), trained / "model.pt", ModelSettings(threshold=0.6))
    assert (trained / "model.1.pt").read_bytes() == old
    assert [read_settings(trained / name).threshold for name in ("model.1.pt", "model.pt")] == [0.4, 0.6]


def test_folders_without_a_training_stay_as_they_are(tmp_path, caplog):
    (tmp_path / "notes.txt").touch()
    (tmp_path / "metrics.csv").touch()
    prepare(tmp_path, tmp_path / "out")
    assert names(tmp_path) == {"notes.txt", "metrics.csv", "out/split.json"}
    assert "kept" not in caplog.text


def test_folders_of_a_configuration_that_is_only_built_stay_as_they_are(trained):
    before = names(trained)
    TrainingFolders(trained, trained).attach(Engine(lambda *_: None))
    assert names(trained) == before
    assert not (trained / ".lock").exists()


def test_folders_are_free_when_a_training_that_never_started_is_dropped(tmp_path):
    folders = TrainingFolders(tmp_path, tmp_path)
    folders.prepare()
    assert (tmp_path / ".lock").is_file()
    del folders
    assert not (tmp_path / ".lock").exists()


def test_a_training_that_fails_before_its_start_moves_nothing_and_restores_the_split(trained):
    before = names(trained)
    program = (
        "import sys; from pathlib import Path; from scripts.handlers.folders import TrainingFolders; "
        "folders = TrainingFolders(sys.argv[1], sys.argv[1]); folders.prepare(); "
        "(Path(sys.argv[1]) / 'split.json').write_text('new'); "
        "raise ValueError('no images')"
    )
    failed = subprocess.run([sys.executable, "-c", program, str(trained)], cwd=ROOT, capture_output=True, text=True)
    assert "no images" in failed.stderr
    assert names(trained) == before
    assert not (trained / ".lock").exists()
    assert (trained / "split.json").read_text() == "old split.json"


def test_a_first_training_that_fails_before_its_start_leaves_no_split(tmp_path):
    folders = TrainingFolders(tmp_path, tmp_path)
    folders.prepare()
    (tmp_path / "split.json").write_text("new")
    del folders
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_the_folders_are_free_after_the_training_also_after_an_error(error, tmp_path):
    def step(*_: object) -> None:
        assert (tmp_path / "models" / ".lock").is_file()
        if error:
            raise error

    trainer = Engine(step)
    TrainingFolders(tmp_path / "models", tmp_path / "out").attach(trainer)
    if error:
        with pytest.raises(error):
            trainer.run([0])
    else:
        trainer.run([0])
    assert list(tmp_path.rglob(".lock")) == []
