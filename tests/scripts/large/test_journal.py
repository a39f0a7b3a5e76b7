from __future__ import annotations

import pytest

from scripts.large.journal import Journal, same_settings


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


def test_work_goes_on_only_with_the_same_settings(tmp_path):
    out = tmp_path / "out.ome.zarr"
    assert not same_settings(tmp_path, {"threshold": 0.5, "weights": "abc"}, out)
    assert same_settings(tmp_path, {"weights": "abc", "threshold": 0.5}, out)
    with pytest.raises(ValueError, match=r"out\.ome\.zarr.*threshold: 0\.5, now 0\.4.*overwrite"):
        same_settings(tmp_path, {"threshold": 0.4, "weights": "abc"}, out)
