"""Layouts of data set folders, and errors for unknown layouts."""

from __future__ import annotations

import json
import logging
import os
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from scripts.data.datalist import find_images, find_pairs, natural_order
from scripts.data.splits import split_datalist
from scripts.io.image_file import ImageFileError
from scripts.io.reader import PlaneReader


def write(path: Path, *shape: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.zeros(shape or (5, 7), np.uint8)
    if path.suffix == ".tif":
        tifffile.imwrite(path, array, photometric="minisblack")
    elif path.suffix == ".nii":
        nibabel.save(nibabel.Nifti1Image(array.T.copy(), np.eye(4)), path)
    else:
        Image.fromarray(array).save(path)
    return path


def names(items: list[dict[str, str]], key: str = "image") -> list[str]:
    return [Path(item[key]).name for item in items]


def test_order_is_by_number():
    assert sorted(["t10.tif", "T2.tif", "t1.tif", "a", "10", "9"], key=natural_order) == [
        "9", "10", "a", "t1.tif", "T2.tif", "t10.tif"
    ]  # fmt: skip
    assert sorted(["1²2.png", "1²1.png"], key=natural_order) == ["1²1.png", "1²2.png"]  # "²" is a digit but no number


# ---------------------------------------------------------------- images for inference
def test_a_folder_gives_its_images_and_every_plane_of_its_stacks(tmp_path: Path):
    write(tmp_path / "b10.png")
    write(tmp_path / "b9.png")
    write(tmp_path / "a.tif", 3, 5, 7)
    write(tmp_path / "v.nii", 2, 5, 7)
    write(tmp_path / ".tmp-1-b9.png")
    (tmp_path / "notes.txt").write_text("not an image")
    write(tmp_path / "folder" / "c.png")
    assert names(find_images(tmp_path)) == [
        "a.tif#page=0", "a.tif#page=1", "a.tif#page=2", "b9.png", "b10.png", "v.nii#page=0", "v.nii#page=1"
    ]  # fmt: skip


def test_a_single_file_or_plane_may_be_given(tmp_path: Path):
    write(tmp_path / "a.tif", 3, 5, 7)
    write(tmp_path / "b.png")
    assert find_images(tmp_path / "b.png") == [{"image": str(tmp_path / "b.png")}]
    assert len(find_images(tmp_path / "a.tif")) == 3
    assert len(find_images(tmp_path / "a.tif", tiff_axes="CYX")) == 1
    assert find_images(f"{tmp_path}/a.tif#page=1") == [{"image": f"{tmp_path}/a.tif#page=1"}]


def test_a_damaged_file_does_not_hide_the_rest(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    write(tmp_path / "a.tif", 2, 5, 7)
    (tmp_path / "b.tif").write_bytes(b"II*\0 damaged")
    with caplog.at_level(logging.WARNING):
        assert names(find_images(tmp_path)) == ["a.tif#page=0", "a.tif#page=1", "b.tif"]
    assert "b.tif cannot be read" in caplog.text


def test_a_broken_link_is_reported_and_not_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "a.png").symlink_to(write(tmp_path / "real" / "a.png"))
    (tmp_path / "b.png").symlink_to(tmp_path / "nowhere.png")
    with caplog.at_level(logging.WARNING):
        assert names(find_images(tmp_path)) == ["a.png", "b.png"]
    assert "b.png does not exist" in caplog.text


def test_the_home_folder_may_be_abbreviated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    folders(tmp_path / "data")
    assert len(find_pairs("~/data")) == len(find_images("~/data/images")) == 2


# ---------------------------------------------------------------- pairs for training
def folders(root: Path) -> None:
    for name in ("10", "9"):
        write(root / "images" / f"{name}.tif")
        write(root / "labels" / f"{name}.png")
    write(root / "labels" / "without_image.png")


def volumes(root: Path) -> None:
    write(root / "train-volume.tif", 2, 5, 7)
    write(root / "train-labels.tif", 2, 5, 7)
    write(root / "test-volume.tif", 4, 5, 7)


def stacks_in_folders(root: Path) -> None:
    write(root / "images" / "a.tif", 2, 5, 7)
    write(root / "labels" / "a.tif", 2, 5, 7)


def datalist(root: Path) -> None:
    write(root / "x" / "a.png")
    write(root / "y" / "b.png")
    content = {"training": [{"image": "x/a.png", "label": "y/b.png", "fold": 3}], "test": ["x/c.png"]}
    (root / "dataset.json").write_text(json.dumps(content))


def volumes_in_a_datalist(root: Path) -> None:
    write(root / "x" / "a.nii", 2, 5, 7)
    write(root / "y" / "a.nii", 2, 5, 7)
    (root / "dataset.json").write_text(json.dumps({"training": [{"image": "x/a.nii", "label": "y/a.nii"}]}))


LAYOUTS: dict[str, tuple[Callable[[Path], None], list[tuple[str, str]]]] = {
    "folders": (folders, [("images/9.tif", "labels/9.png"), ("images/10.tif", "labels/10.png")]),
    "volumes": (volumes, [(f"train-volume.tif#page={k}", f"train-labels.tif#page={k}") for k in range(2)]),
    "stacks in folders": (stacks_in_folders, [(f"images/a.tif#page={k}", f"labels/a.tif#page={k}") for k in range(2)]),
    "datalist": (datalist, [("x/a.png", "y/b.png")]),
    "volumes in a datalist": (volumes_in_a_datalist, [(f"x/a.nii#page={k}", f"y/a.nii#page={k}") for k in range(2)]),
}


@pytest.mark.parametrize("inside", [".", "train"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_are_recognised(layout: str, inside: str, tmp_path: Path):
    make, expected = LAYOUTS[layout]
    make(tmp_path / inside)
    items = find_pairs(tmp_path)
    paths = [
        tuple(Path(item[key]).relative_to(tmp_path / inside).as_posix() for key in ("image", "label")) for item in items
    ]
    assert paths == expected


def test_a_datalist_may_have_any_name_and_keeps_further_entries(tmp_path: Path):
    datalist(tmp_path)
    (tmp_path / "dataset.json").rename(tmp_path / "mine.json")
    assert [item["fold"] for item in find_pairs(tmp_path / "mine.json")] == [3]


def test_a_datalist_may_list_channels_and_single_planes(tmp_path: Path):
    for name in "ab":
        write(tmp_path / f"{name}.tif", 2, 5, 7)
    for name in "cd":
        write(tmp_path / f"{name}.png")
    content = [{"image": ["a.tif", "b.tif"], "label": "a.tif"}, {"image": ["c.png", "d.png"], "label": "a.tif#page=1"}]
    (tmp_path / "dataset.json").write_text(json.dumps({"training": content}))
    items = find_pairs(tmp_path)
    assert [[Path(name).name for name in item["image"]] for item in items[:2]] == [
        ["a.tif#page=0", "b.tif#page=0"], ["a.tif#page=1", "b.tif#page=1"]
    ]  # fmt: skip
    assert names(items, "label") == ["a.tif#page=0", "a.tif#page=1", "a.tif#page=1"]


def test_folders_may_have_other_names(tmp_path: Path):
    write(tmp_path / "raw" / "a.png")
    write(tmp_path / "masks" / "a.png")
    assert names(find_pairs(tmp_path, image_dir="raw", label_dir="masks")) == ["a.png"]


def sides(root: Path, images: list[str], labels: list[str]) -> Path:
    for folder, stems in (("raw", images), ("labels", labels)):
        for stem in stems:
            write(root / folder / f"{stem}.png")
    return root


BY_NUMBER = [  # names of images and labels that pair
    (["9", "10"], ["labels00000009", "labels00000010"]),
    (["t1_2", "t2_1"], ["t1_2_seg", "t2_1_seg"]),  # all numbers must agree, not only the last
]


@pytest.mark.parametrize("images, labels", BY_NUMBER)
def test_names_that_differ_pair_by_their_numbers(
    images: list[str], labels: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.INFO):
        items = find_pairs(sides(tmp_path, images, labels[::-1]), image_dir="raw")
    assert names(items) == [f"{stem}.png" for stem in images]
    assert names(items, "label") == [f"{stem}.png" for stem in labels]
    (message,) = caplog.messages
    assert message.startswith("paired 2 images and labels by number, as ")


def test_equal_names_win_over_numbers(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        items = find_pairs(sides(tmp_path, ["a1", "b1"], ["a1", "b1", "c1"]), image_dir="raw")
    assert names(items) == names(items, "label") == ["a1.png", "b1.png"]
    assert "by number" not in caplog.text
    assert "c1.png" in caplog.text  # a label without an image


NOT_BY_NUMBER = [
    (["1", "2"], ["a1", "a3"], r"the other folder lacks the numbers of 2 \(2\.png, a3\.png\)"),
    (["1", "2"], ["a1", "a2", "a3"], r"the other folder lacks the numbers of 1 \(a3\.png\)"),
    (
        ["0", "1"],
        ["a1", "a2"],
        r"the other folder lacks the numbers of 2 \(0\.png, a2\.png\)",
    ),  # images count from 0, labels from 1
    (["s1_5", "s1_6"], ["s2_5", "s2_6"], "the other folder lacks the numbers of 4 "),  # another series
    (["s1_5", "s2_5"], ["a5", "b5"], r"a5\.png and b5\.png have the same"),
    (["1", "01"], ["a1", "b1"], r"0?1\.png and 0?1\.png have the same"),
    (["1", "2"], ["left", "right"], r"left\.png has no number"),
    (["1", "2"], ["1", "label2"], "some names are equal, so names decide"),
]


@pytest.mark.parametrize("images, labels, reason", NOT_BY_NUMBER)
def test_in_doubt_nothing_is_paired_by_number(images: list[str], labels: list[str], reason: str, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=f"have no label in .* equal name .*Not paired by number: {reason}"):
        find_pairs(sides(tmp_path, images, labels), image_dir="raw")


def test_the_real_sets_are_found(data_root: Path):
    items = find_pairs(data_root / "isbi2012")
    assert names(items) == names(items, "label") == [f"{k:02}.png" for k in range(25)]
    assert len(find_images(data_root / "isbi2012" / "test" / "images")) == 30
    items = find_pairs(data_root / "drosophila-vnc", image_dir="raw")
    assert names(items) == [f"{k:02}.tif" for k in range(15)]
    assert names(items, "label") == [f"labels{k:08}.png" for k in range(15)]


# ---------------------------------------------------------------- errors
def nothing(root: Path) -> None:
    root.mkdir(exist_ok=True)


def no_labels_folder(root: Path) -> None:
    write(root / "images" / "a.png")


def empty_images(root: Path) -> None:
    (root / "images").mkdir()
    (root / "labels").mkdir()


def labels_missing(root: Path) -> None:
    for k in range(8):
        write(root / "images" / f"{k}.png")
    write(root / "labels" / "0.png")


def size_differs(root: Path) -> None:
    write(root / "images" / "a.png", 5, 7)
    write(root / "labels" / "a.png", 7, 5)


def planes_differ(root: Path) -> None:
    write(root / "train-volume.tif", 3, 5, 7)
    write(root / "train-labels.tif", 2, 5, 7)


def colour_label(root: Path) -> None:
    write(root / "images" / "a.png")
    write(root / "labels" / "a.png", 5, 7, 3)


def unreadable(root: Path) -> None:
    write(root / "images" / "a.png")
    (root / "labels").mkdir()
    (root / "labels" / "a.png").write_text("not an image")


def ambiguous(root: Path) -> None:
    folders(root)
    write(root / "labels" / "9.tif")


def volume_alone(root: Path) -> None:
    write(root / "train-volume.tif", 3, 5, 7)


def json_without_training(root: Path) -> None:
    (root / "dataset.json").write_text('{"validation": []}')


def json_broken(root: Path) -> None:
    (root / "dataset.json").write_text("{")


def json_empty(root: Path) -> None:
    (root / "dataset.json").write_text('{"training": []}')


def json_without_label(root: Path) -> None:
    write(root / "a.png")
    (root / "dataset.json").write_text('{"training": [{"image": "a.png"}]}')


def json_of_missing_files(root: Path) -> None:
    (root / "dataset.json").write_text('{"training": [{"image": "a.png", "label": "b.png"}]}')


def json_page_beyond(root: Path) -> None:
    write(root / "a.tif", 2, 5, 7)
    (root / "dataset.json").write_text('{"training": [{"image": "a.tif#page=1", "label": "a.tif#page=2"}]}')


ERRORS = [
    (
        nothing,
        FileNotFoundError,
        r"has no known layout; expected images/ and labels/ .* train-volume\.tif .* dataset\.json",
    ),
    (no_labels_folder, FileNotFoundError, r"has images/ but no labels/: put labels of equal names there"),
    (empty_images, FileNotFoundError, r"no images in .*images; expected files that end in \.png"),
    (
        labels_missing,
        FileNotFoundError,
        r"7 \(1\.png, 2\.png, 3\.png, 4\.png, 5\.png, \.\.\.\) of 8 images .* have no label in",
    ),
    (
        size_differs,
        ValueError,
        r"images/a\.png has 5 x 7 pixels \(rows x columns\), its label .*labels/a\.png 7 x 5\) of 1",
    ),
    (planes_differ, ValueError, r"train-volume\.tif has 3 planes, its label .*train-labels\.tif 2"),
    (colour_label, ValueError, r"the label .*labels/a\.png has 3 channels.*export the label anew"),
    (unreadable, ImageFileError, r"labels/a\.png cannot be read as an image"),
    (ambiguous, ValueError, r"9\.png and 9\.tif|9\.tif and 9\.png differ only in their ending"),
    (volume_alone, FileNotFoundError, r"1 \(train-volume\.tif\) volumes but none of 1 \(train-labels\.tif\): add it"),
    (json_without_training, ValueError, r"dataset\.json: .*training.*; expected \{\"training\""),
    (json_broken, ValueError, r"dataset\.json: .*; expected \{\"training\""),
    (json_empty, FileNotFoundError, r"dataset\.json lists no images under \"training\""),
    (json_without_label, FileNotFoundError, r"1 \(.*a\.png\) of 1 items have no label"),
    (json_of_missing_files, FileNotFoundError, r"2 \(.*a\.png, .*b\.png\) files of the data set are missing"),
    (json_page_beyond, ValueError, r"a\.tif#page=2 asks for a plane beyond the 2 of the file"),
]


@pytest.mark.parametrize("make, error, message", ERRORS, ids=[case[0].__name__ for case in ERRORS])
def test_errors_name_the_file_and_the_remedy(
    make: Callable[[Path], None], error: type[Exception], message: str, tmp_path: Path
):
    make(tmp_path)
    with pytest.raises(error, match=message):
        find_pairs(tmp_path)


def test_a_folder_that_is_not_there_is_named_with_its_key(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"dataset_dir .*nowhere does not exist; set dataset_dir"):
        find_pairs(tmp_path / "nowhere")
    for address in ("nowhere", "nowhere.tif#page=3"):
        with pytest.raises(FileNotFoundError, match=r"dataset_dir .*nowhere.* does not exist; set dataset_dir to"):
            find_images(tmp_path / address)
    for nothing_given in (None, ""):
        with pytest.raises(ValueError, match="set dataset_dir"):
            find_pairs(nothing_given)
    with pytest.raises(ValueError, match="is a file; expected a folder"):
        find_pairs(write(tmp_path / "a.png"))


def test_an_empty_folder_says_where_images_are(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"no images in .* end in \.png, .*; put .* or set dataset_dir"):
        find_images(tmp_path)
    write(tmp_path / "images" / "a.png")
    with pytest.raises(FileNotFoundError, match=r"there are some in images/: set dataset_dir to that folder"):
        find_images(tmp_path)


def test_images_with_equal_result_names_are_refused(tmp_path: Path):
    write(tmp_path / "a.png")
    write(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"differ only in their ending.*: move one away"):
        find_images(tmp_path)


def test_a_list_may_name_images_for_validation(tmp_path):
    for name in ("a", "b"):
        Image.new("L", (7, 5)).save(tmp_path / f"{name}.png")
    pairs = [{"image": f"{name}.png", "label": f"{name}.png"} for name in ("a", "b")]
    (tmp_path / "dataset.json").write_text(json.dumps({"training": pairs[:1], "validation": pairs[1:]}))
    split = split_datalist(find_pairs(tmp_path))
    assert [Path(split[part][0]["image"]).name for part in ("training", "validation")] == ["a.png", "b.png"]
    assert len(split["training"]) == len(split["validation"]) == 1


@pytest.mark.parametrize("unlabelled", ["b.png", {"image": "b.png"}])
def test_listed_images_without_a_label_do_not_validate(unlabelled: object, tmp_path: Path, caplog):
    for name in ("a", "b"):
        write(tmp_path / f"{name}.png")
    content = {"training": [{"image": "a.png", "label": "a.png"}], "validation": [unlabelled]}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    assert names(find_pairs(tmp_path)) == ["a.png"]
    (warning,) = caplog.messages
    assert "1 of 1" in warning
    assert "dataset.json" in warning


def test_a_damaged_list_for_validation_is_named(tmp_path: Path):
    write(tmp_path / "a.png")
    content = {"training": [{"image": "a.png", "label": "a.png"}], "validation": 7}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"dataset\.json"):
        find_pairs(tmp_path)


# ---------------------------------------------------------------- odd entries and broken files
def test_pipes_and_folders_with_names_of_images_do_not_block_and_other_kinds_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    write(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder.png").mkdir()
    for name in ("a.xml", "b.xml", "c.TXT", ".hidden"):
        (tmp_path / name).write_text("")
    assert names(find_images(tmp_path)) == ["a.png", "pipe.png"]
    assert "pipe.png is a folder, pipe or device" in caplog.text
    assert "files of other kinds were passed over: 2 .xml, 1 .txt, 1 without ending" in caplog.text
    with pytest.raises(FileNotFoundError, match=r"pipe\.png"):
        PlaneReader().get_data([str(tmp_path / "pipe.png")])


@pytest.mark.parametrize("error", [MemoryError, RecursionError, SystemError, PermissionError, struct.error, OSError])
def test_whatever_a_file_raises_at_listing_the_rest_of_the_folder_is_listed(
    error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    write(tmp_path / "a.tif", 2, 5, 7)
    write(tmp_path / "b.png")

    def failing(*_: object) -> None:
        raise error("odd")

    monkeypatch.setattr("PIL.Image.open", failing)
    assert names(find_images(tmp_path)) == ["a.tif#page=0", "a.tif#page=1", "b.png"]
    assert "b.png" in caplog.text


def test_all_broken_files_of_a_training_are_named_at_once(tmp_path: Path):
    folders(tmp_path)
    (tmp_path / "images" / "9.tif").write_bytes(b"II*\0 damaged")
    (tmp_path / "labels" / "10.png").write_bytes(b"nothing")
    with pytest.raises(ImageFileError, match=r"9\.tif(.|\n)*10\.png"):
        find_pairs(tmp_path)


def test_palette_labels_pair_with_their_images(tmp_path: Path):
    write(tmp_path / "images" / "a.png")
    (tmp_path / "labels").mkdir()
    label = Image.fromarray(np.ones((5, 7), np.uint8))
    label.putpalette([0, 0, 0, 255, 0, 0])
    label.save(tmp_path / "labels" / "a.png")
    assert len(find_pairs(tmp_path)) == 1


# ---------------------------------------------------------------- nnU-Net
def nnunet(root: Path, channels: int = 1, version: int = 2, ending: str = ".png") -> None:
    for case in ("case_001", "case_002"):
        write(root / "labelsTr" / f"{case}{ending}")
        for k in range(channels):
            write(root / "imagesTr" / f"{case}_{k:04d}{ending}")
    names = {str(k): f"channel {k}" for k in range(channels)}
    content = {"channel_names": names, "labels": {"background": 0, "cell": 1}, "file_ending": ending, "numTraining": 2}
    if version == 1:
        pairs = [
            {"image": f"./imagesTr/{c}{ending}", "label": f"./labelsTr/{c}{ending}"} for c in ("case_001", "case_002")
        ]
        content = {"modality": names, "labels": {"0": "background", "1": "cell"}, "training": pairs}
    (root / "dataset.json").write_text(json.dumps(content))


@pytest.mark.parametrize("ending", [".png", ".nii"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("version", [1, 2])
def test_data_sets_of_nnunet_are_read(version: int, channels: int, ending: str, tmp_path: Path):
    nnunet(tmp_path, channels, version, ending)
    items = find_pairs(tmp_path)
    assert names(items, "label") == [f"case_001{ending}", f"case_002{ending}"]
    for item, case in zip(items, ("case_001", "case_002"), strict=True):
        found = [Path(name).name for name in ([item["image"]] if channels == 1 else item["image"])]
        assert found == [f"{case}_{k:04d}{ending}" for k in range(channels)]
        reader = PlaneReader()
        assert reader.get_data(reader.read(item["image"]))[0].shape == ((5, 7) if channels == 1 else (5, 7, 2))
    assert [item["image"] for item in find_images(tmp_path / "imagesTr")] == [item["image"] for item in items]


def test_a_missing_channel_or_label_of_nnunet_is_named(tmp_path: Path):
    nnunet(tmp_path, channels=2)
    (tmp_path / "labelsTr" / "case_002.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"case_002\.png"):
        find_pairs(tmp_path)
    (tmp_path / "imagesTr" / "case_001_0001.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"case_001.*\[0\].*2"):
        find_pairs(tmp_path)


def test_channels_of_images_listed_for_validation_are_read(tmp_path: Path):
    nnunet(tmp_path, channels=2, version=1)
    content = json.loads((tmp_path / "dataset.json").read_text())
    content["validation"] = [content["training"].pop()]
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    (held,) = split_datalist(find_pairs(tmp_path))["validation"]
    assert [Path(name).name for name in held["image"]] == ["case_002_0000.png", "case_002_0001.png"]


@pytest.mark.parametrize(
    "content", [{"modality": "CT"}, {"modality": {"0": "a", "1": "b"}}, {"channel_names": ["a", "b"]}, {}, []]
)
def test_a_series_of_images_is_no_list_of_channels(content: object, tmp_path: Path):
    for k in range(3):
        write(tmp_path / "images" / f"t_{k:04d}.png")
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    assert names(find_images(tmp_path / "images")) == ["t_0000.png", "t_0001.png", "t_0002.png"]


def test_a_missing_channel_of_an_image_is_named(tmp_path: Path):
    nnunet(tmp_path, channels=2)
    (tmp_path / "imagesTr" / "case_001_0001.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"case_001.*\[0\].*2"):
        find_images(tmp_path / "imagesTr")


def test_given_folders_win_over_the_files_of_a_data_set(tmp_path: Path):
    nnunet(tmp_path)
    write(tmp_path / "raw" / "a.png")
    write(tmp_path / "masks" / "a.png")
    items = find_pairs(tmp_path, image_dir="raw", label_dir="masks")
    assert (names(items), names(items, "label")) == (["a.png"], ["a.png"])


def test_a_damaged_list_does_not_matter_to_named_folders(tmp_path):
    write(tmp_path / "raw" / "a.png")
    write(tmp_path / "labels" / "a.png")
    (tmp_path / "dataset.json").write_text("[damaged")
    assert len(find_pairs(tmp_path, image_dir="raw")) == 1


def test_an_rgb_image_among_grey_ones_is_named_before_the_training(tmp_path: Path) -> None:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for name in ("a", "b", "c"):
        for folder in ("images", "labels"):
            Image.new("RGB" if (folder, name) == ("images", "b") else "L", (7, 5)).save(
                tmp_path / folder / f"{name}.png"
            )
    with pytest.raises(ValueError, match=r"b\.png has 3 channels.* of 3 images, the others 1"):
        find_pairs(tmp_path)
