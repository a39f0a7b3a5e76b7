"""The folder beside the studies that MONAI Label works on: links to the images, and the labels."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from bundle.labelling.studies import OWN, prepare_studies
from bundle.running.errors import UsageError

IMAGES = ("[]", '{"a.png": [1]}', '{"a.png": 3}', '{"../studies/b.tif": null}', '{"labels": null}', '{"": null}')


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
    """Files of a folder and their text, without the list of own files."""
    files = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    return {name: text for name, text in files.items() if name != OWN}


@pytest.fixture(params=["links", "copies"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether links are possible."""
    if request.param == "copies":

        def refuse(*_: object, **__: object) -> None:
            raise OSError("a privilege is not held")

        monkeypatch.setattr(os, "symlink", refuse)
    return str(request.param)


def test_the_images_to_serve_are_there_and_follow_the_studies(studies: Path, kind: str) -> None:
    folder = prepare(studies, "a.png", "b.tif")
    assert content(folder) == {"a.png": "a.png", "b.tif": "b.tif"}
    assert (folder / "a.png").is_symlink() == (kind == "links")
    (studies / "a.png").write_text("changed")
    (studies / "c.png").write_text("new")
    prepare(studies, "a.png", "c.png")  # no copy of b.tif stays, which the server would serve
    assert content(folder) == {"a.png": "changed", "c.png": "new"}


def test_copies_become_links_where_links_become_possible(studies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Path, "symlink_to", lambda *_, **__: (_ for _ in ()).throw(OSError()))
        patch.setattr(os, "symlink", lambda *_, **__: (_ for _ in ()).throw(OSError()))
        folder = prepare(studies, "a.png")
    assert not (folder / "a.png").is_symlink()
    prepare(studies, "a.png")
    assert (folder / "a.png").samefile(studies / "a.png")


@pytest.mark.usefixtures("kind")
def test_files_of_the_user_in_the_folder_are_never_replaced_or_removed(studies: Path) -> None:
    """A link of this command that an editor has replaced by a changed file, an image of the same name, a copy."""
    folder = prepare(studies, "a.png")
    (folder / "a.png").unlink()
    (folder / "a.png").write_text("edited by the user")
    (folder / "b.tif").write_text("of the user")
    (folder / "notes.txt").write_text("of the user")
    before = content(folder)
    for names in (["a.png"], ["b.tif"], ["a.png", "b.tif"], []):
        with pytest.raises(UsageError, match=r"has not written: a\.png, b\.tif; move"):
            prepare(studies, *names)
    assert content(folder) == before
    for name in ("a.png", "b.tif"):
        (folder / name).unlink()
    prepare(studies, "b.tif")
    assert content(folder) == {"b.tif": "b.tif", "notes.txt": "of the user"}


def test_a_data_set_is_no_folder_for_labels(studies: Path, tmp_path: Path) -> None:
    """Images with a folder `labels` beside are the usual shape of a data set."""
    old = tmp_path / "old"
    (old / "labels").mkdir(parents=True)
    for name in ("a.png", "labels/a.png"):
        (old / name).write_text(f"original {name}")
    before = content(old)
    with pytest.raises(UsageError, match=r"old .*a\.png, labels.a\.png"):
        prepare_studies(old, studies, [studies / "a.png"])
    assert content(old) == before


def test_links_of_the_user_stay(studies: Path, tmp_path: Path) -> None:
    folder = prepare(studies, "a.png")
    (tmp_path / "disk").mkdir()
    (folder / "labels").rename(tmp_path / "disk" / "labels")
    (tmp_path / "disk" / "labels" / "a.png").write_text("label")
    (folder / "labels").symlink_to(tmp_path / "disk" / "labels")
    (folder / "readme").symlink_to(studies / "notes.txt")
    prepare(studies, "b.tif")
    assert (folder / "labels" / "a.png").read_text() == "label"
    assert sorted(path.name for path in folder.iterdir()) == ["b.tif", "labels", "readme", OWN]


def test_an_empty_folder_a_lock_and_a_link_for_the_labels_may_be_there_before(studies: Path, tmp_path: Path) -> None:
    folder = studies.with_name("studies_labels")
    folder.mkdir()
    (tmp_path / "disk").mkdir()
    (folder / "labels").symlink_to(tmp_path / "disk")
    (folder / ".lock").write_text("")
    assert (prepare(studies, "a.png") / "a.png").is_file()
    assert (folder / "labels").is_symlink()


def test_labels_of_other_images_are_warned_of(studies: Path, tmp_path: Path) -> None:
    folder = prepare(studies, "a.png")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.png").write_text("other")
    (note,) = prepare_studies(folder, tmp_path / "other", [tmp_path / "other" / "a.png"])
    assert str(studies) in note
    assert str(folder) in note
    assert content(folder)["a.png"] == "other"
    (tmp_path / "other").rename(tmp_path / "moved")  # the same images
    assert prepare_studies(folder, tmp_path / "moved", [tmp_path / "moved" / "a.png"]) == []


def test_a_damaged_list_of_own_files_is_refused(studies: Path) -> None:
    folder = prepare(studies, "a.png")
    lists = [f'{{"studies": "", "images": {images}, "complete": true}}' for images in IMAGES]
    for text in ("", "{", "[]", '{"images": {}}', *lists):
        (folder / OWN).write_text(text)
        with pytest.raises(UsageError, match=rf"{OWN} is damaged.*--labels"):
            prepare(studies, "b.tif")
    assert (folder / "a.png").is_symlink()
    assert (studies / "b.tif").is_file()


def test_an_interrupted_copy_of_earlier_labels_is_continued(studies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (studies / "labels" / "final").mkdir(parents=True)
    for name in ("a.png", "b.tif", "c.png"):
        (studies / "labels" / "final" / name).write_text(f"label {name}")
    copy, copied = shutil.copy2, []

    def full(source: Path, target: Path) -> None:
        if copied:
            target.write_text("lab")
            raise OSError(28, "No space left on device")
        copied.append(copy(source, target))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copy2", full)
        with pytest.raises(OSError, match="No space"):
            prepare(studies, "a.png")
    folder = studies.with_name("studies_labels")
    assert len(list((folder / "labels").rglob("*.*"))) == 1  # no half label
    prepare(studies, "a.png")
    assert content(folder / "labels" / "final") == content(studies / "labels" / "final")


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
