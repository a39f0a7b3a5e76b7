from __future__ import annotations

from pathlib import Path

import pytest

from scripts.io.files import write_json
from scripts.large.journal import Journal, begin, check_folder, clear


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "network.txt")


def test_a_journal_without_a_file_has_no_finished_blocks(journal):
    assert journal.finished() == set()


def test_blocks_of_several_runs_are_finished(journal):
    journal.add([1, 20])
    Journal(journal.path).add([300])
    assert journal.finished() == {1, 20, 300}


@pytest.mark.parametrize("left", range(1, 4))
def test_a_block_whose_line_was_cut_off_is_not_finished(journal, left):
    journal.add([7, 123])
    content = journal.path.read_bytes()
    journal.path.write_bytes(content[:-left])
    assert journal.finished() == {7}
    journal.add([8])
    assert journal.finished() == {7, 8}


def test_zeros_from_a_power_cut_are_no_blocks(journal):
    journal.add([7])
    journal.path.write_bytes(journal.path.read_bytes() + b"\0" * 20)
    journal.add([8])
    assert journal.finished() == {7, 8}


@pytest.fixture
def work(tmp_path):
    folder = tmp_path / "out.ome.zarr.part"
    (folder / "out.ome.zarr").mkdir(parents=True)
    write_json(folder / "settings.json", {"threshold": 0.5, "weights": "abc"})
    return folder


OUT = Path("out.ome.zarr")


def test_work_goes_on_only_with_the_same_settings(work):
    assert begin(work, {"weights": "abc", "threshold": 0.5}, OUT)
    with pytest.raises(ValueError, match=r"out\.ome\.zarr.*threshold: 0\.5, now 0\.4.*overwrite"):
        begin(work, {"threshold": 0.4, "weights": "abc"}, OUT)


def test_a_new_folder_is_begun(tmp_path):
    assert not begin(tmp_path, {"threshold": 0.5}, OUT)
    (tmp_path / OUT).mkdir()
    assert begin(tmp_path, {"threshold": 0.5}, OUT)


def test_journals_without_arrays_do_not_count(work):
    Journal(work / "network.txt").add([0, 1])
    (work / OUT).rmdir()
    assert not begin(work, {"weights": "abc", "threshold": 0.5}, OUT)
    assert [path.name for path in work.iterdir()] == ["settings.json"]


def test_work_that_was_partly_deleted_is_begun_anew(work, monkeypatch):
    def killed(path):
        raise KeyboardInterrupt

    Journal(work / "network.txt").add([0, 1])
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            clear(work)
    check_folder(work)
    assert not begin(work, {"weights": "abc", "threshold": 0.5}, OUT)
    assert [path.name for path in work.iterdir()] == ["settings.json"]


def test_damaged_settings_are_named(work):
    (work / "settings.json").write_text("{")
    with pytest.raises(ValueError, match=r"settings\.json.*overwrite"):
        begin(work, {}, OUT)
    assert not begin(work, {}, OUT, anew=True)


def test_a_folder_of_another_program_is_refused(tmp_path):
    check_folder(tmp_path / "absent")
    check_folder(tmp_path)
    (tmp_path / ".lock").touch()
    check_folder(tmp_path)
    (tmp_path / "thesis.txt").touch()
    for taken in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(FileExistsError, match=taken.name):
            check_folder(taken)
