"""The folder beside the studies that MONAI Label works on: links to the images, and the labels."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bundle.labelling.studies import prepare_studies
from bundle.running.errors import UsageError


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    folder = tmp_path / "studies"
    folder.mkdir()
    for name in ("a.png", "b.tif", "notes.txt"):
        (folder / name).write_text(name)
    return folder


def prepare(studies: Path, *names: str) -> Path:
    folder = studies.with_name("studies_labels")
    prepare_studies(folder, studies, [studies / name for name in names])
    return folder


def content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_the_images_to_serve_are_there_and_follow_the_studies(studies: Path) -> None:
    folder = prepare(studies, "a.png", "b.tif")
    assert content(folder) == {"a.png": "a.png", "b.tif": "b.tif"}
    (studies / "a.png").write_text("changed")
    (studies / "c.png").write_text("new")
    prepare(studies, "a.png", "c.png")
    assert content(folder) == {"a.png": "changed", "c.png": "new"}


def test_where_links_are_not_possible_images_are_copied(studies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("a privilege is not held")

    monkeypatch.setattr(os, "symlink", refuse)
    folder = prepare(studies, "a.png")
    assert not (folder / "a.png").is_symlink()
    (studies / "a.png").write_text("changed since")
    assert content(prepare(studies, "a.png")) == {"a.png": "changed since"}


def test_labels_of_earlier_versions_are_taken_over_once(studies: Path) -> None:
    for name in ("labels/final/a.png", "labels/original/b.tif", "datastore_v2.json"):
        (studies / name).parent.mkdir(parents=True, exist_ok=True)
        (studies / name).write_text(f"earlier {name}")
    before = content(studies)
    folder = studies.with_name("elsewhere")
    (note,) = prepare_studies(folder, studies, [studies / "a.png"])
    assert "2 labels" in note
    assert str(folder) in note
    assert (folder / "labels/final/a.png").read_text() == "earlier labels/final/a.png"
    assert (folder / "datastore_v2.json").is_file()
    (folder / "labels/final/a.png").write_text("corrected")
    (folder / "labels/original/b.tif").unlink()
    assert prepare_studies(folder, studies, [studies / "a.png"]) == []
    assert content(folder / "labels") == {"final/a.png": "corrected"}
    assert content(studies) == before


def test_a_folder_within_the_studies_or_with_other_files_is_refused(studies: Path, tmp_path: Path) -> None:
    for folder in (studies, studies / "labels", studies / "a" / "b"):
        with pytest.raises(UsageError, match="--labels"):
            prepare_studies(folder, studies, [])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    with pytest.raises(UsageError, match=r"--labels .*mine"):
        prepare_studies(tmp_path / "mine", studies, [])
