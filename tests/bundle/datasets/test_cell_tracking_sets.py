"""`python -m bundle fetch phc_u373`, `dic_hela`: the Cell Tracking Challenge's layout.

A made-up set with its own checksums tests the checks. The real sets are compared with the lists in the repository.
"""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml

from bundle.__main__ import main
from bundle.datasets.cell_tracking_sets import cell_tracking_set, read_pixels
from bundle.datasets.data_sets import DataSet, known_digests
from bundle.datasets.fetch import DATA_SETS, fetch_set
from bundle.running.errors import RunError, UsageError
from tests.bundle.web import closed_address, served

TITLE = "Tiny-C2DH-Cells"
FRAMES = {  # folder: (prefix, type, frames); three images, one of them with a gold mask
    "": ("t", np.uint8, range(3)),
    "_GT/SEG": ("man_seg", np.uint16, [1]),
    "_GT/TRA": ("man_track", np.uint16, range(3)),
    "_ST/SEG": ("man_seg", np.uint16, range(3)),
}
REAL = {  # name: (title, sequence here, images, gold masks)
    "phc_u373": ("PhC-C2DH-U373", "02", 115, 19),
    "dic_hela": ("DIC-C2DH-HeLa", "01", 84, 9),
}


def digest(path: Path) -> str:
    """The checksum by its definition, of pixels read by another library."""
    pixels = tifffile.imread(path)
    height, width = pixels.shape
    kind = {1: "uint8", 2: "uint16"}[pixels.itemsize]
    return hashlib.sha256(f"{kind} {height} {width}\n".encode() + pixels.tobytes()).hexdigest()


@pytest.fixture
def challenge(tmp_path: Path) -> Path:
    """A folder with a set of two sequences, as unpacked from the challenge's zip file."""
    root = tmp_path / "unpacked" / TITLE
    random = np.random.default_rng(0)
    for sequence in ("01", "02"):
        for kind, (prefix, dtype, frames) in FRAMES.items():
            folder = root / f"{sequence}{kind}"
            folder.mkdir(parents=True)
            for frame in frames:
                pixels = random.integers(0, np.iinfo(dtype).max, (4, 6)).astype(dtype)
                tifffile.imwrite(folder / f"{prefix}{frame:03d}.tif", pixels, compression="lzw")
        (root / f"{sequence}_GT/TRA/man_track.txt").write_text("1 0 2 0\n", encoding="ascii")
    return root.parent


@pytest.fixture
def tiny(challenge: Path) -> DataSet:
    """A data set with known checksums for sequence 02."""
    digests = {
        f"02{kind}": {path.name: digest(path) for path in sorted((challenge / TITLE / f"02{kind}").glob("*.tif"))}
        for kind in FRAMES
    }
    assert sum(map(len, digests.values())) == 10
    return cell_tracking_set("tiny", TITLE, digests)


@pytest.fixture
def archive(challenge: Path) -> Path:
    return Path(shutil.make_archive(str(challenge / TITLE), "zip", challenge, TITLE))


@pytest.fixture
def web(challenge: Path, archive: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of the folder with the zip file."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with served(archive.parent) as address:
        yield address


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("form", ["folder", "folder above", "zip", "zip URL", "web zip", "web folder"])
def test_every_form_gives_the_challenges_own_files_byte_by_byte(
    form: str, tiny: DataSet, challenge: Path, archive: Path, web: str, tmp_path: Path
) -> None:
    sources = {
        "folder": str(challenge / TITLE),
        "folder above": str(challenge),
        "zip": str(archive),
        "zip URL": archive.as_uri(),
        "web zip": f"{web}/{archive.name}",
        "web folder": f"{web}/",
    }
    fetch_set(tiny, str(tmp_path / "a" / "b"), sources[form], overwrite=False)
    assert contents(tmp_path / "a" / "b") == contents(challenge / TITLE)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


def test_a_top_folder_of_any_name_is_stripped_and_what_systems_add_stays_out(
    tiny: DataSet, challenge: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as content:
        for name, data in contents(challenge / TITLE).items():
            content.writestr(f"training/set/{name}", data)
        for name in ("training/readme.pdf", "training/set/02/Thumbs.db", "training/set/02/._t000.tif"):
            content.writestr(name, "something else")
        content.writestr("__MACOSX/training/set/02/._t000.tif", "something else")
    fetch_set(tiny, str(tmp_path / "data"), str(tmp_path / "other.zip"), overwrite=False)
    assert contents(tmp_path / "data") == contents(challenge / TITLE)


def test_of_several_sets_in_a_folder_the_one_of_that_name_is_taken(
    tiny: DataSet, challenge: Path, tmp_path: Path
) -> None:
    shutil.copytree(challenge / TITLE, challenge / "A-C2DH-other")
    (challenge / "A-C2DH-other/02/t000.tif").unlink()
    fetch_set(tiny, str(tmp_path / "data"), str(challenge), overwrite=False)
    assert (tmp_path / "data/02/t000.tif").is_file()


def test_it_says_what_there_is_and_what_could_not_be_verified(
    tiny: DataSet, challenge: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "my data"
    fetch_set(tiny, str(target), str(challenge), overwrite=False)
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == (
        f"{target}: sequence 01 with 3 images, 1 gold mask, 3 marker images, 3 silver masks; "
        "sequence 02 with 3 images, 1 gold mask, 3 marker images, 3 silver masks; "
        "10 files verified, every one that has a checksum here"
    )
    assert shown[1] == (
        "not verified, for want of a checksum: 3 files in 01, 01_GT/SEG/man_seg001.tif, 4 files in 01_GT/TRA, "
        "3 files in 01_ST/SEG, 02_GT/TRA/man_track.txt"
    )
    for text in ("10.1038/s41592-023-01879-y", "10.1038/nmeth.4473", "permission", "redistributes neither"):
        assert text in "\n".join(shown)
    assert shown[-1] == f'next: python -m bundle train "{target}" --overlay data_tiny'


def test_a_set_of_one_sequence_will_do_and_the_other_is_named(
    tiny: DataSet, challenge: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("01", "01_GT", "01_ST"):
        shutil.rmtree(challenge / TITLE / name)
    fetch_set(tiny, str(tmp_path / "data"), str(challenge), overwrite=False)
    assert "sequence 01 is not there; the challenge's own zip file holds 01 and 02" in capsys.readouterr().out


@pytest.mark.parametrize("kind", FRAMES)
def test_one_changed_pixel_is_refused_with_the_name_of_the_file(
    kind: str, tiny: DataSet, challenge: Path, tmp_path: Path
) -> None:
    path = challenge / TITLE / f"02{kind}" / f"{FRAMES[kind][0]}001.tif"
    known = digest(path)
    pixels = tifffile.imread(path)
    pixels[1, 2] ^= 1
    tifffile.imwrite(path, pixels)
    with pytest.raises(RunError) as caught:
        fetch_set(tiny, str(tmp_path / "data"), str(challenge), overwrite=False)
    for text in (f"02{kind}/{path.name} of {challenge} is not as published", digest(path), known):
        assert text in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["unpacked"]


def test_another_compression_byte_order_or_header_is_the_same_picture(
    tiny: DataSet, challenge: Path, tmp_path: Path
) -> None:
    for kind, (prefix, _, _) in FRAMES.items():
        path = challenge / TITLE / f"02{kind}" / f"{prefix}001.tif"
        tifffile.imwrite(path, tifffile.imread(path), byteorder=">", description="made anew")
    fetch_set(tiny, str(tmp_path / "data"), str(challenge), overwrite=False)


def test_pixels_of_another_type_are_another_picture(tiny: DataSet, challenge: Path, tmp_path: Path) -> None:
    path = challenge / TITLE / "02/t001.tif"
    tifffile.imwrite(path, tifffile.imread(path).astype(np.uint16))
    with pytest.raises(RunError, match=r"02/t001\.tif .* is not as published"):
        fetch_set(tiny, str(tmp_path / "data"), str(challenge), overwrite=False)


def test_a_file_that_the_list_does_not_know_passes(
    tiny: DataSet, challenge: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(challenge / TITLE / "01/t000.tif", challenge / TITLE / "02/t003.tif")
    fetch_set(tiny, str(tmp_path / "data"), str(challenge), overwrite=False)
    assert "02/t003.tif" in capsys.readouterr().out
    assert (tmp_path / "data/02/t003.tif").is_file()


def test_missing_files_are_counted_and_the_first_named(tiny: DataSet, challenge: Path, tmp_path: Path) -> None:
    shutil.rmtree(challenge / TITLE / "02_ST")
    (challenge / TITLE / "02/t002.tif").unlink()
    with pytest.raises(
        RunError, match=r"4 of 10 known files are missing in .*: 02/t002\.tif, 02_ST/SEG/man_seg000\.tif"
    ):
        fetch_set(tiny, str(tmp_path / "data"), str(challenge), overwrite=False)
    assert not (tmp_path / "data").exists()


def test_a_folder_without_sequences_is_not_the_data(tiny: DataSet, challenge: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=f"no {TITLE} in .*: expected the folders 01, 02, 01_GT, "):
        fetch_set(tiny, str(tmp_path / "data"), str(challenge / TITLE / "02"), overwrite=False)


@pytest.mark.parametrize(
    "what, message",
    [
        ("cut off", "cannot be read as an image"),
        ("no image", "cannot be read as an image"),
        ("two pages", "holds several images, expected one"),
        ("colour", "is of kind RGB, expected grey"),
    ],
)
def test_a_damaged_file_is_named(what: str, message: str, tiny: DataSet, challenge: Path, tmp_path: Path) -> None:
    path = challenge / TITLE / "02/t001.tif"
    if what == "cut off":
        path.write_bytes(path.read_bytes()[:-10])
    elif what == "no image":
        path.write_text("hello", encoding="ascii")
    elif what == "two pages":
        tifffile.imwrite(path, np.zeros((2, 4, 6), np.uint8), photometric="minisblack")
    else:
        tifffile.imwrite(path, np.zeros((4, 6, 3), np.uint8), photometric="rgb")
    with pytest.raises(RunError, match=rf"02/t001\.tif {message}"):
        fetch_set(tiny, str(tmp_path / "data"), str(challenge), overwrite=False)


@pytest.mark.filterwarnings("ignore")  # Pillow warns of some damages
def test_no_damage_to_a_file_ends_in_another_error(challenge: Path) -> None:
    path = challenge / TITLE / "02/t001.tif"
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with suppress(RunError):
            read_pixels(path)


def test_the_next_mirror_is_tried_when_one_fails_and_offline_it_says_what_to_do(
    tiny: DataSet, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    closed = f"{closed_address()}/{archive.name}"
    fetch_set(replace(tiny, mirrors=(closed, archive.as_uri())), str(tmp_path / "data"), None, overwrite=False)
    with pytest.raises(RunError) as caught:
        fetch_set(replace(tiny, mirrors=(closed, "/nowhere")), str(tmp_path / "more"), None, overwrite=False)
    for text in (closed, "/nowhere", archive.name, f"fetch tiny {tmp_path / 'more'} --source FOLDER_OR_ZIP"):
        assert text in str(caught.value)
    assert not (tmp_path / "more").exists()


def test_complete_data_are_left_alone_incomplete_ones_replaced_only_when_told_to(
    tiny: DataSet, challenge: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "data"
    fetch_set(tiny, str(target), str(challenge), overwrite=False)
    capsys.readouterr()
    fetch_set(tiny, str(target), "/nowhere", overwrite=False)
    shown = capsys.readouterr().out
    assert f"{target} is complete, 10 files verified, every one that has a checksum here; nothing to do" in shown
    assert "not verified, for want of a checksum: 3 files in 01, " in shown
    (target / "02/t000.tif").write_text("mine", encoding="ascii")
    with pytest.raises(UsageError, match="--overwrite"):
        fetch_set(tiny, str(target), str(challenge), overwrite=False)
    assert (target / "02/t000.tif").read_text(encoding="ascii") == "mine"
    fetch_set(tiny, str(target), str(challenge), overwrite=True)
    assert contents(target) == contents(challenge / TITLE)


def test_a_folder_with_other_things_is_never_replaced(tiny: DataSet, challenge: Path, tmp_path: Path) -> None:
    (tmp_path / "data/results").mkdir(parents=True)
    with pytest.raises(UsageError, match="holds other things \\(results\\)"):
        fetch_set(tiny, str(tmp_path / "data"), str(challenge), overwrite=True)


@pytest.mark.parametrize("name", REAL)
def test_the_entry_fits_the_configuration_and_names_the_public_addresses(name: str, bundle_root: Path) -> None:
    title = REAL[name][0]
    entry = DATA_SETS[name]
    address = f"data.celltrackingchallenge.net/training-datasets/{title}.zip"
    assert entry.mirrors == (f"https://{address}", f"http://{address}")
    config = yaml.safe_load((bundle_root / f"configs/data_{entry.name}.yaml").read_text(encoding="utf-8"))
    assert config["dataset_dir"] == f"$@bundle_root + '/{entry.folder}'"


@pytest.mark.parametrize("name", REAL)
def test_the_list_knows_all_files_of_one_sequence(name: str) -> None:
    _, sequence, images, gold = REAL[name]
    digests = known_digests(name)
    assert {part: len(names) for part, names in digests.items()} == {
        sequence: images,
        f"{sequence}_GT/SEG": gold,
        f"{sequence}_GT/TRA": images,
        f"{sequence}_ST/SEG": images,
    }
    for part, prefix in {sequence: "t", f"{sequence}_GT/TRA": "man_track", f"{sequence}_ST/SEG": "man_seg"}.items():
        assert list(digests[part]) == [f"{prefix}{frame:03d}.tif" for frame in range(images)]
    assert len(set(digests[sequence].values())) == images


@pytest.mark.parametrize("name", REAL)
def test_the_real_files_are_those_of_the_list(
    name: str, data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    title, sequence, images, gold = REAL[name]
    if not (data_root / title / sequence).is_dir():
        pytest.skip(f"{data_root / title / sequence} is not there")
    assert known_digests(name) == {
        part: {path.name: digest(path) for path in sorted((data_root / title / part).glob("*.tif"))}
        for part in known_digests(name)
    }
    assert main(["fetch", name, str(tmp_path / "data"), "--source", str(data_root / title)]) == 0
    shown = capsys.readouterr().out
    assert f"sequence {sequence} with {images} images, {gold} gold masks, {images} marker images" in shown
    assert f"{3 * images + gold} files verified" in shown
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [sequence, f"{sequence}_GT", f"{sequence}_ST"]


def test_without_a_folder_the_data_are_written_where_the_configuration_looks(
    tiny: DataSet, challenge: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    fetch_set(tiny, None, str(challenge), overwrite=False)
    assert (tmp_path / "data" / TITLE / "01/t000.tif").is_file()
    assert f"train {Path('data') / TITLE} --overlay data_tiny" in capsys.readouterr().out
