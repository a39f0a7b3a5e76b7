"""Frames and references of the challenge's layout; errors for missing files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from scripts.data.cell_tracking import find_cell_tracking, split_cell_tracking
from scripts.data.splits import split_datalist


def write(path: Path, *shape: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, np.zeros(shape or (5, 7), np.uint16), photometric="minisblack")


@pytest.fixture
def challenge(tmp_path: Path) -> Path:
    """Sequence 01: frames 0-9, gold 2, 5, 6; 02: frames 0-3, gold 1, without silver."""
    folder = tmp_path / "Made-Cells"
    for sequence, frames, gold in (("01", 10, (2, 5, 6)), ("02", 4, (1,))):
        for t in range(frames):
            write(folder / sequence / f"t{t:03d}.tif")
            write(folder / f"{sequence}_GT/TRA/man_track{t:03d}.tif")
            if sequence == "01":
                write(folder / f"01_ST/SEG/man_seg{t:03d}.tif")
        for t in gold:
            write(folder / f"{sequence}_GT/SEG/man_seg{t:03d}.tif")
    (folder / "01_GT/TRA/man_track.txt").write_text("1 0 9 0\n")
    return folder


def listed(items: list[dict[str, str]], key: str = "image") -> list[str]:
    """Sequence folder and file name: "01/t002.tif"."""
    return ["/".join(Path(item[key]).parts[-2:]) for item in items]


def test_gold_lists_the_annotated_frames_of_all_sequences(challenge: Path) -> None:
    items = find_cell_tracking(challenge)
    assert listed(items) == ["01/t002.tif", "01/t005.tif", "01/t006.tif", "02/t001.tif"]
    assert items[0] == {
        "image": str(challenge / "01/t002.tif"),
        "label": str(challenge / "01_GT/SEG/man_seg002.tif"),
        "markers": str(challenge / "01_GT/TRA/man_track002.tif"),
    }


def test_markers_go_with_the_frames_that_have_them(challenge: Path) -> None:
    (challenge / "01_GT/TRA/man_track003.tif").unlink()
    items = find_cell_tracking(challenge, "01", "silver", "2-4")
    assert [Path(item["markers"]).name if "markers" in item else None for item in items] == [
        "man_track002.tif",
        None,
        "man_track004.tif",
    ]
    shutil.rmtree(challenge / "01_GT/TRA")
    assert all(item.keys() == {"image", "label"} for item in find_cell_tracking(challenge, "01"))


def test_markers_of_another_size_are_refused(challenge: Path) -> None:
    write(challenge / "01_GT/TRA/man_track005.tif", 5, 6)
    with pytest.raises(ValueError, match=r"t005.tif has 5 x 7 pixels .*man_track005.tif 5 x 6"):
        find_cell_tracking(challenge, "01")
    assert len(find_cell_tracking(challenge, "01", frames="2")) == 1  # only requested frames are checked


def test_files_of_several_planes_are_listed_plane_by_plane_with_their_markers(tmp_path: Path) -> None:
    for name in ("01/t000.tif", "01_GT/SEG/man_seg000.tif", "01_GT/TRA/man_track000.tif"):
        write(tmp_path / name, 3, 5, 7)
    items = find_cell_tracking(tmp_path)
    assert items[2] == {
        "image": f"{tmp_path / '01/t000.tif'}#page=2",
        "label": f"{tmp_path / '01_GT/SEG/man_seg000.tif'}#page=2",
        "markers": f"{tmp_path / '01_GT/TRA/man_track000.tif'}#page=2",
    }
    assert len(items) == 3


def test_a_split_takes_its_parts_by_sequence_reference_and_frames(challenge: Path, tmp_path: Path) -> None:
    training = {"sequences": "01", "reference": "silver", "frames": range(4)}
    validation = {"frames": "5-9, 1"}  # gold, both sequences
    output = tmp_path / "run/split.json"
    split = split_cell_tracking(challenge, training, validation, output)
    assert listed(split["training"]) == [f"01/t{t:03d}.tif" for t in range(4)]
    assert listed(split["validation"]) == ["01/t005.tif", "01/t006.tif", "02/t001.tif"]
    assert split["training"] == find_cell_tracking(challenge, "01", "silver", "0-3")
    assert json.loads(output.read_text()) == {
        "training": [f"01/t{t:03d}.tif" for t in range(4)],
        "validation": ["01/t005.tif", "01/t006.tif", "02/t001.tif"],
        "rule": {"training": {**training, "frames": [0, 1, 2, 3]}, "validation": validation},
    }


def test_a_written_split_can_be_read_again(challenge: Path, tmp_path: Path) -> None:
    first, last = ({"sequences": "01", "frames": frames} for frames in ("2", "5-9"))
    split = split_cell_tracking(challenge, first, last, tmp_path / "split.json")
    assert split_datalist(find_cell_tracking(challenge, "01"), split_file=tmp_path / "split.json") == split


def test_a_frame_that_trains_does_not_validate(challenge: Path) -> None:
    """With the same reference or another in the two parts."""
    with pytest.raises(
        ValueError, match=r"to train and to validate, 2 \(.*t005.tif, .*t006.tif\); keep the ranges apart"
    ):
        split_cell_tracking(challenge, {"sequences": 1, "reference": "silver", "frames": "4-9"}, {"sequences": 1})


def test_a_split_that_selects_nothing_is_refused(challenge: Path) -> None:
    with pytest.raises(ValueError, match="frames 7-9 select nothing"):
        split_cell_tracking(challenge, {"frames": "2"}, {"frames": "7-9"})


def test_silver_and_markers_list_all_frames(challenge: Path) -> None:
    silver = find_cell_tracking(challenge, reference="silver")  # only 01 has any
    assert listed(silver) == [f"01/t{t:03d}.tif" for t in range(10)]
    assert silver[3]["label"] == str(challenge / "01_ST/SEG/man_seg003.tif")
    markers = find_cell_tracking(challenge, "02", "markers")  # without man_track.txt
    assert [item["label"] for item in markers] == [str(challenge / f"02_GT/TRA/man_track{t:03d}.tif") for t in range(4)]


@pytest.mark.parametrize("sequences", ["02", 2, ["02"], ("02", "02"), [2]])
def test_one_sequence(challenge: Path, sequences: object) -> None:
    assert listed(find_cell_tracking(challenge, sequences)) == ["02/t001.tif"]


def test_sequences_come_as_asked(challenge: Path) -> None:
    assert listed(find_cell_tracking(challenge, ["02", "01"], frames="0-2")) == ["02/t001.tif", "01/t002.tif"]


@pytest.mark.parametrize(
    "frames, numbers",
    [
        (None, range(10)),
        ("0-3", range(4)),  # both ends
        ("7 - 99", [7, 8, 9]),
        ("8, 0-1", [0, 1, 8]),
        ("0-2,1-3", range(4)),
        ("4", [4]),
        (4, [4]),
        ([6, 4, 4], [4, 6]),
        (range(0, 10, 4), [0, 4, 8]),
        (range(5, 1000), range(5, 10)),
    ],
)
def test_frames_are_ranges_with_both_ends_or_numbers(challenge: Path, frames: object, numbers: list[int]) -> None:
    items = find_cell_tracking(challenge, "01", "silver", frames)
    assert listed(items) == [f"01/t{t:03d}.tif" for t in numbers]


def test_frames_of_a_range_without_a_reference_are_skipped(challenge: Path) -> None:
    assert listed(find_cell_tracking(challenge, "01", "gold", "0-5")) == ["01/t002.tif", "01/t005.tif"]


@pytest.mark.parametrize("frames, named", [("0-1", "0-1"), ("2, 7-9", "7-9"), (3, "3"), ([3, 4], r"\[3, 4\]")])
def test_a_range_that_selects_nothing_is_refused(challenge: Path, frames: object, named: str) -> None:
    with pytest.raises(ValueError, match=rf"frames {named} select nothing in .*gold reference: 2, 5-6"):
        find_cell_tracking(challenge, "01", "gold", frames)


@pytest.mark.parametrize("frames", ["", "a", "5-2", "1-", "1..5", "0-3,"])
def test_frames_in_another_form_are_refused(challenge: Path, frames: str) -> None:
    with pytest.raises(ValueError, match='frames must be like "0-55" or "0-55, 62-83, 90", got'):
        find_cell_tracking(challenge, frames=frames)


def test_four_digits_are_frames_too(tmp_path: Path) -> None:
    for t in (9, 10, 1000):
        write(tmp_path / f"01/t{t:04d}.tif")
        write(tmp_path / f"01_GT/SEG/man_seg{t:04d}.tif")
    assert listed(find_cell_tracking(tmp_path)) == ["01/t0009.tif", "01/t0010.tif", "01/t1000.tif"]


def test_errors_name_the_missing_folder_or_the_wrong_argument(challenge: Path) -> None:
    cases: list[tuple[dict, type[Exception], str]] = [
        ({"dataset_dir": ""}, ValueError, "set dataset_dir"),
        ({"dataset_dir": challenge / "none"}, FileNotFoundError, "none does not exist; set dataset_dir"),
        (
            {"dataset_dir": challenge.parent},
            FileNotFoundError,
            r"set dataset_dir to one of its folders 1 \(Made-Cells\)",
        ),
        ({"dataset_dir": challenge / "01_GT"}, FileNotFoundError, "holds no sequence; expected folders like 01"),
        ({"reference": "bronze"}, ValueError, "reference.*'bronze'"),
        (
            {"sequences": "03"},
            FileNotFoundError,
            "no gold reference of sequence 03; expected 03/ and 03_GT/SEG/.* 01, 02",
        ),
        ({"sequences": []}, ValueError, "sequences is empty"),
        ({"sequences": "02", "reference": "silver"}, FileNotFoundError, "expected 02/ and 02_ST/SEG/.* ST/SEG: 01$"),
    ]
    for arguments, kind, message in cases:
        with pytest.raises(kind, match=message):
            find_cell_tracking(**{"dataset_dir": challenge, **arguments})


def test_a_label_without_image_is_refused(challenge: Path) -> None:
    (challenge / "01/t005.tif").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 \(man_seg005.tif\) of 3 labels in .* have no image"):
        find_cell_tracking(challenge, "01")


def test_an_empty_folder_and_labels_of_volumes_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "01/t000.tif")
    (tmp_path / "01_GT/SEG").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"no man_segNNN\.tif in"):
        find_cell_tracking(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"has no silver reference .* 01_ST/SEG/"):
        find_cell_tracking(tmp_path, reference="silver")
    write(tmp_path / "01_GT/SEG/man_seg_000_012.tif")
    with pytest.raises(ValueError, match="only 2-D sets are read"):
        find_cell_tracking(tmp_path)


def test_a_label_of_another_size_or_number_is_refused(challenge: Path) -> None:
    write(challenge / "01_GT/SEG/man_seg005.tif", 5, 6)
    with pytest.raises(ValueError, match=r"t005.tif has 5 x 7 pixels .* 5 x 6"):
        find_cell_tracking(challenge)
    write(challenge / "01_GT/SEG/man_seg0005.tif")
    with pytest.raises(ValueError, match=r"man_seg0005.tif and man_seg005.tif name one frame"):
        find_cell_tracking(challenge)


@pytest.mark.parametrize(
    "name, sequence, gold, frames", [("DIC-C2DH-HeLa", "01", 9, 84), ("PhC-C2DH-U373", "02", 19, 115)]
)
def test_the_real_sets(data_root: Path, name: str, sequence: str, gold: int, frames: int) -> None:
    folder = data_root / name
    assert len(find_cell_tracking(folder, sequence)) == gold
    for reference in ("silver", "markers"):
        items = find_cell_tracking(folder, sequence, reference)
        assert listed(items) == [f"{sequence}/t{t:03d}.tif" for t in range(frames)]
    training, validation = ({"sequences": sequence, "reference": "silver", "frames": f} for f in ("0-55", "62-83"))
    split = split_cell_tracking(folder, training, validation)
    assert [len(items) for items in split.values()] == [56, 22]
    assert all(item["markers"].endswith(f"man_track{item['image'][-7:]}") for item in split["training"])
