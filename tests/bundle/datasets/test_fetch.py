"""`python -m bundle fetch isbi2012`: all forms of the data, and damaged data.

Sources are local copies of the real slices, and a server on the loopback address in place of public servers.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from bundle.__main__ import main
from bundle.datasets.data_sets import known_digests, pixel_digest
from bundle.datasets.download import bring
from bundle.datasets.fetch import DATA_SETS
from tests.bundle.web import closed_address, served

KNOWN = {"train/images": 25, "train/labels": 25, "test/images": 30}
VOLUMES = {"train/images": "train-volume.tif", "train/labels": "train-labels.tif", "test/images": "test-volume.tif"}


@pytest.fixture(scope="session")
def slices(data_root: Path) -> Path:
    """The real slices in our layout."""
    folder = data_root / "isbi2012"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder


@pytest.fixture(scope="session")
def volumes(slices: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three TIFF volumes of 30 slices in a nested folder, as from the challenge. Five labelled slices are made up."""
    folder = tmp_path_factory.mktemp("challenge") / "some" / "ISBI-2012-challenge"
    folder.mkdir(parents=True)
    for part, name in VOLUMES.items():
        stack = [np.array(Image.open(path)) for path in sorted((slices / part).glob("*.png"))]
        if part.startswith("train"):
            stack += [255 - page for page in stack[:5]]
        tifffile.imwrite(folder / name, np.stack(stack), photometric="minisblack")
    return folder.parents[1]


@pytest.fixture(scope="session")
def archive(volumes: Path) -> Path:
    """The volumes as a zip file, with a further file as in the real zip file."""
    path = volumes.parent / "challenge.zip"
    with zipfile.ZipFile(path, "w") as content:
        content.writestr("ISBI-2012-challenge/readme.txt", "something else")
        for name in VOLUMES.values():
            content.write(volumes / "some" / "ISBI-2012-challenge" / name, f"ISBI-2012-challenge/{name}")
    return path


@pytest.fixture
def copy(slices: Path, tmp_path: Path) -> Path:
    """A copy of the slices to damage."""
    folder = tmp_path / "copy"
    shutil.copytree(slices, folder)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


@pytest.fixture
def web(volumes: Path, archive: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a web server for both forms."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with served(archive.parent) as address:
        yield address


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> str:
    """An address without a server."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return closed_address() + "/data.zip"


def fetch(*words: object) -> int:
    return main(["fetch", "isbi2012", *(str(word) for word in words)])


def set_mirrors(monkeypatch: pytest.MonkeyPatch, *mirrors: str) -> None:
    """Replace the public addresses."""
    monkeypatch.setitem(DATA_SETS, "isbi2012", replace(DATA_SETS["isbi2012"], mirrors=mirrors))


def assert_complete(target: Path, held_out: int) -> None:
    """Every published slice is in place, and all other slices are in held_out, out of training."""
    for part, count in KNOWN.items():
        paths = sorted((target / part).iterdir())
        assert [path.name for path in paths] == [f"{number:02d}.png" for number in range(count)]
        assert [pixel_digest(np.array(Image.open(path))) for path in paths] == known_digests("isbi2012")[part]
    for kind in ("images", "labels"):
        assert len(list((target / "held_out" / kind).glob("*.png"))) == held_out
    assert {path.name for path in target.parent.iterdir() if path.name.endswith(".tmp")} == set()


def test_checksums_are_of_pixels_not_of_files() -> None:
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert pixel_digest(pixels) == hashlib.sha256(b"uint8 2 3\n\x00\x01\x02\x03\x04\x05").hexdigest()
    assert pixel_digest(np.asfortranarray(pixels)) == pixel_digest(pixels)
    assert pixel_digest(pixels.reshape(3, 2)) != pixel_digest(pixels)


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_checksums_of_16_bit_pixels_do_not_depend_on_the_byte_order(order: str) -> None:
    pixels = np.array([[1, 258]], order)
    assert pixel_digest(pixels) == hashlib.sha256(b"uint16 1 2\n\x01\x00\x02\x01").hexdigest()
    assert pixel_digest(pixels) != pixel_digest(pixels.astype(np.uint32))


def test_the_checksum_list_knows_25_labelled_and_30_test_slices_all_different() -> None:
    digests = known_digests("isbi2012")
    assert {part: len(of_part) for part, of_part in digests.items()} == KNOWN
    assert len({digest for of_part in digests.values() for digest in of_part}) == 80


def test_folders_of_slices(slices: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "a" / "b"
    assert fetch(target, "--source", slices) == 0
    assert_complete(target, held_out=0)
    shown = capsys.readouterr().out
    assert "10.1371/journal.pbio.1000502" in shown
    assert "10.3389/fnana.2015.00142" in shown
    assert f"train {target} --overlay data_isbi2012" in shown


@pytest.mark.parametrize("form", ["folder", "zip", "web zip", "web folder"])
def test_volumes_give_the_same_slices_and_keep_the_unverified_apart(
    form: str, volumes: Path, archive: Path, web: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = {
        "folder": str(volumes),
        "zip": str(archive),
        "web zip": f"{web}/{archive.name}",
        "web folder": f"{web}/{volumes.name}/some/ISBI-2012-challenge/",
    }
    assert fetch(tmp_path / "data", "--source", sources[form]) == 0
    assert_complete(tmp_path / "data", held_out=5)
    assert min(path.name for path in (tmp_path / "data/held_out/labels").iterdir()) == "25.png"
    assert "stay out of training" in capsys.readouterr().out


def test_the_next_mirror_is_tried_when_one_fails(
    closed: str, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_mirrors(monkeypatch, closed, archive.as_uri())
    assert fetch(tmp_path / "data") == 0
    assert_complete(tmp_path / "data", held_out=5)


def test_offline_it_says_what_was_tried_and_what_to_do_by_hand(
    closed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_mirrors(monkeypatch, closed, closed + "/second/")
    assert fetch(tmp_path / "data") == 1
    shown = capsys.readouterr().err
    for text in (closed, "/second/", "refused", *VOLUMES.values(), f"fetch isbi2012 {tmp_path / 'data'} --source"):
        assert text in shown
    assert "Traceback" not in shown
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("part", KNOWN)
def test_one_changed_pixel_is_refused_with_the_name_of_the_slice(
    part: str, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copy / part / "07.png"
    pixels = np.array(Image.open(path))
    pixels[100, 200] ^= 1
    Image.fromarray(pixels).save(path)
    assert fetch(tmp_path / "data", "--source", copy) == 1
    shown = capsys.readouterr().err
    assert f"{part}/07.png (slice 7 of {VOLUMES[part]})" in shown
    assert pixel_digest(pixels) in shown
    assert known_digests("isbi2012")[part][7] in shown
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["copy"]


def test_slices_in_another_order_are_refused(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("images", "labels"):
        folder = copy / "train" / kind
        (folder / "03.png").rename(folder / "x")
        (folder / "04.png").rename(folder / "03.png")
        (folder / "x").rename(folder / "04.png")
    assert fetch(tmp_path / "data", "--source", copy) == 1
    assert "train/images/03.png" in capsys.readouterr().err


def damage(copy: Path, what: str) -> Path:
    """Damage a copy in one way; returns the source to give."""
    if what == "gap":
        (copy / "train/images/11.png").unlink()
    elif what == "too few":
        for part in ("train/images/24.png", "train/labels/24.png"):
            (copy / part).unlink()
    elif what == "no labels":
        shutil.rmtree(copy / "train/labels")
    elif what == "cut off":
        path = copy / "test/images/02.png"
        path.write_bytes(path.read_bytes()[:5000])
    elif what == "no image":
        (copy / "test/images/02.png").write_text("hello", encoding="utf-8")
    elif what == "colour":
        Image.new("RGB", (512, 512)).save(copy / "test/images/02.png")
    elif what == "more images than labels":
        shutil.copy(copy / "train/images/00.png", copy / "train/images/25.png")
    elif what == "nothing":
        shutil.rmtree(copy / "train")
    elif what == "lonely volume":
        tifffile.imwrite(copy / "train-volume.tif", np.zeros((2, 8, 8), np.uint8), photometric="minisblack")
    elif what == "no zip":
        (copy / "data.zip").write_bytes(b"PK nonsense")
        return copy / "data.zip"
    elif what == "zip with nonsense inside":
        path = Path(shutil.make_archive(str(copy / "data"), "zip", copy / "test"))
        content = bytearray(path.read_bytes())
        content[2000:4000] = bytes(2000)
        path.write_bytes(content)
        return path
    elif what == "absent":
        return copy / "elsewhere"
    return copy


@pytest.mark.parametrize(
    "what, message",
    [
        ("gap", r"train/images/11\.png is missing"),
        ("too few", "train/images of .* has 24 slices, expected at least 25"),
        ("no labels", r"train/labels/00\.png is missing"),
        ("cut off", r"test/images/02\.png cannot be read as an image"),
        ("no image", r"test/images/02\.png cannot be read as an image"),
        ("colour", r"test/images/02\.png is of kind RGB, expected 8-bit grey"),
        ("more images than labels", "has 26 images but 25 labels"),
        ("nothing", "no ISBI 2012 data in .*: expected train-volume.tif"),
        ("lonely volume", "train-labels.tif is missing beside"),
        ("no zip", "is no zip file, or damaged"),
        ("zip with nonsense inside", "damaged"),
        ("absent", "does not exist, expected a folder or a zip file"),
    ],
)
def test_a_damaged_source_leaves_nothing_behind_and_says_what_is_wrong(
    what: str, message: str, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetch(tmp_path / "data", "--source", damage(copy, what)) == 1
    assert re.search(message, capsys.readouterr().err)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["copy"]


def test_complete_data_are_left_alone_and_need_no_source(
    copy: Path, closed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    assert fetch(copy, "--source", closed) == 0
    assert "every slice verified that has a checksum here; nothing to do" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before


def test_incomplete_data_are_replaced_only_when_told_to(
    slices: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copy / "train/images/05.png").write_text("mine", encoding="utf-8")
    assert fetch(copy, "--source", slices) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (copy / "train/images/05.png").read_text(encoding="utf-8") == "mine"
    assert fetch(copy, "--source", slices, "--overwrite") == 0
    assert_complete(copy, held_out=0)


@pytest.mark.parametrize("form", ["path", "URL", "path of zip", "URL of zip"])
def test_local_sources_may_be_paths_or_file_urls(form: str, tmp_path: Path) -> None:
    folder = tmp_path / "with space & ü"
    folder.mkdir()
    (folder / "a.txt").write_text("content", encoding="utf-8")
    archive = shutil.make_archive(str(tmp_path / "my data"), "zip", folder)
    source = Path(archive) if "zip" in form else folder
    (tmp_path / "work").mkdir()
    found = bring(source.as_uri() if "URL" in form else str(source), [], tmp_path / "work")
    assert (found / "a.txt").read_text(encoding="utf-8") == "content"


@pytest.mark.parametrize(
    "words, message",
    [
        (["isbi2013"], "unknown data set 'isbi2013'; known are: isbi2012, phc_u373, dic_hela"),
        (["isbi2012", "FOLDER", "--source", "ftp://somewhere/data.zip"], "no path and no file://, http"),
    ],
)
def test_what_cannot_be_fetched_is_a_usage_error(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fetch", *(word.replace("FOLDER", str(tmp_path / "data")) for word in words)]) == 2
    assert message in capsys.readouterr().err
