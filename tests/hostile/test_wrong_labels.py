"""Labels and pairs that are surely wrong, or look wrong: refused, or warned of by file, before the training."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.hostile.conftest import TINY
from tests.hostile.program import Outcome, Program
from tests.hostile.samples import write_pairs

WARNING = re.compile(r"warn", re.IGNORECASE)


def each_label(data: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change the labels of all images."""
    for path in sorted((data / "labels").glob("*.png")):
        with Image.open(path) as file:
            labels = np.asarray(file).astype(np.uint16)
        Image.fromarray(change(labels)).save(path)


def as_jpeg(data: Path) -> None:
    each_label(data, lambda labels: ((labels > 0) * 255).astype(np.uint8))
    for path in sorted((data / "labels").glob("*.png")):
        with Image.open(path) as file:
            file.save(path.with_suffix(".jpg"), quality=90)
        path.unlink()


def many_pieces(data: Path) -> None:
    each_label(data, lambda labels: ((labels + 1) // 2).astype(np.uint16))


def mask_of_255(data: Path) -> None:
    each_label(data, lambda labels: ((labels > 0) * 255).astype(np.uint8))


def one_and_two(data: Path) -> None:
    each_label(data, lambda labels: (1 + (labels > 0)).astype(np.uint8))


def empty(data: Path) -> None:
    each_label(data, lambda labels: np.zeros_like(labels))


def full(data: Path) -> None:
    each_label(data, lambda labels: np.ones_like(labels))


def inverted(data: Path) -> None:
    each_label(data, lambda labels: ((labels == 0) * 255).astype(np.uint8))


def outlines(data: Path) -> None:
    from skimage.segmentation import find_boundaries

    each_label(data, lambda labels: (find_boundaries(labels, mode="inner") * 255).astype(np.uint8))


def swapped(data: Path) -> None:
    (data / "images").rename(data / "other")
    (data / "labels").rename(data / "images")
    (data / "other").rename(data / "labels")


def as_they_are(data: Path) -> None:
    """Instance numbers."""


def three_values(data: Path) -> None:
    each_label(data, lambda labels: (labels > 0).astype(np.uint8) + (labels > 2))


def rgb(data: Path) -> None:
    each_label(data, lambda labels: np.stack([(labels * 40).astype(np.uint8)] * 3, -1))


def other_size(data: Path) -> None:
    with Image.open(data / "labels" / "01.png") as file:
        file.resize((50, 40)).save(data / "labels" / "01.png")


def no_label(data: Path) -> None:
    (data / "labels" / "01.png").unlink()


def no_image(data: Path) -> None:
    (data / "images" / "01.png").unlink()


def cut_label(data: Path) -> None:
    path = data / "labels" / "01.png"
    path.write_bytes(path.read_bytes()[:200])


def fractions(data: Path) -> None:
    for path in sorted((data / "labels").glob("*.png")):
        with Image.open(path) as file:
            tifffile.imwrite(path.with_suffix(".tif"), np.asarray(file).astype(np.float32) * 0.37)
        path.unlink()


def negative(data: Path) -> None:
    for path in sorted((data / "labels").glob("*.png")):
        with Image.open(path) as file:
            tifffile.imwrite(path.with_suffix(".tif"), np.asarray(file).astype(np.int16) - 1)
        path.unlink()


def nan_in_an_image(data: Path) -> None:
    pixels = np.asarray(Image.open(data / "images" / "01.png")).astype(np.float32)
    pixels[3, 4] = np.nan
    tifffile.imwrite(data / "images" / "01.tif", pixels)
    (data / "images" / "01.png").unlink()


def as_nifti(data: Path, of_labels: np.ndarray) -> None:
    for kind in ("images", "labels"):
        for path in sorted((data / kind).glob("*.png")):
            pixels = np.asarray(Image.open(path)).T
            affine = np.eye(4) if kind == "images" else of_labels
            nibabel.Nifti1Image(np.ascontiguousarray(pixels), affine).to_filename(path.with_suffix(".nii.gz"))
            path.unlink()


def flipped_in_the_world(data: Path) -> None:
    as_nifti(data, np.diag([-1.0, 1, 1, 1]))


def spaced_otherwise(data: Path) -> None:
    as_nifti(data, np.diag([2.0, 2, 1, 1]))


def mha_flipped(data: Path) -> None:
    for kind in ("images", "labels"):
        for path in sorted((data / kind).glob("*.png")):
            pixels = np.asarray(Image.open(path)).astype(np.uint8)
            direction = "1 0 0 1" if kind == "images" else "-1 0 0 1"
            head = f"ObjectType = Image\nNDims = 2\nBinaryData = True\nTransformMatrix = {direction}\nOffset = 0 0\n"
            head += "ElementSpacing = 1 1\nDimSize = 64 64\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
            path.with_suffix(".mha").write_bytes(head.encode() + pixels.tobytes())
            path.unlink()


def nrrd_spaced_otherwise(data: Path) -> None:
    for kind in ("images", "labels"):
        for path in sorted((data / kind).glob("*.png")):
            pixels = np.asarray(Image.open(path)).astype(np.uint8)
            step = 1 if kind == "images" else 3
            head = "NRRD0004\ntype: uchar\ndimension: 2\nsizes: 64 64\nencoding: raw\nspace dimension: 2\n"
            head += f"space directions: ({step},0) (0,{step})\nspace origin: (0,0)\n\n"
            path.with_suffix(".nrrd").write_bytes(head.encode() + pixels.tobytes())
            path.unlink()


def listed_twice(data: Path) -> None:
    pairs = [{"image": f"images/{k:02d}.png", "label": f"labels/{k:02d}.png"} for k in (0, 1, 0, 1)]
    (data / "dataset.json").write_text(json.dumps({"training": pairs}))


def listed_in_both_parts(data: Path) -> None:
    pairs = [{"image": f"images/{k:02d}.png", "label": f"labels/{k:02d}.png"} for k in (0, 1)]
    (data / "dataset.json").write_text(json.dumps({"training": pairs, "validation": pairs}))


def copied_under_another_name(data: Path) -> None:
    for kind in ("images", "labels"):
        for path in (data / kind).glob("0[123].png"):
            shutil.copy(data / kind / "00.png", path)


INSTANCES = ("--label_kind=instances",)
CLASSES = ("--label_kind=classes",)
HALVES = ("--split_rule=last", "--val_fraction=0.5")
REFUSED = {  # surely wrong: (change, options, what the message names)
    "one class in all pixels, from ilastik": (one_and_two, (), ("label_kind", "classes")),
    "ilastik's 1 and 2 as instances": (one_and_two, INSTANCES, ("label", "instances")),
    "all empty": (empty, INSTANCES, ("label",)),
    "all full": (full, (), ("label",)),
    "images and labels swapped": (swapped, INSTANCES, ("label", "images")),
    "classes beyond class_names": (as_they_are, CLASSES, ("class_names", "instances")),
    "0 and 255 as classes": (mask_of_255, CLASSES, ("255", "binary")),
    "another size": (other_size, INSTANCES, ("01.png",)),
    "a label cut in the middle": (cut_label, INSTANCES, ("01.png",)),
    "fractions": (fractions, INSTANCES, (".tif",)),
    "negative numbers": (negative, INSTANCES, (".tif", "-1")),
    "NaN in an image": (nan_in_an_image, INSTANCES, ("01.tif",)),
    "an image listed in both parts": (listed_in_both_parts, INSTANCES, ("00.png", "01.png")),
    "the same image for training and validation": (listed_twice, (*INSTANCES, *HALVES), ("00.png", "01.png")),
}
TOLD = {  # may be wrong: refused or warned of
    "a mask as JPEG": (as_jpeg, (), (".jpg",)),
    "a mask as JPEG given as instances": (as_jpeg, INSTANCES, (".jpg",)),
    "numbers in many pieces": (many_pieces, INSTANCES, (".png",)),
    "0 and 255 as instances": (mask_of_255, INSTANCES, ("label_kind", "binary")),
    "inverted": (inverted, (), (".png", "label")),
    "outlines": (outlines, (), (".png", "label")),
    "instances as binary": (as_they_are, (), ("instances",)),
    "three values as binary": (three_values, (), ("classes", "instances")),
    "three channels": (rgb, INSTANCES, (".png",)),
    "an image without label": (no_label, INSTANCES, ("01.png",)),
    "a label without image": (no_image, INSTANCES, ("01.png",)),
    "flipped in the world, NIfTI": (flipped_in_the_world, INSTANCES, (".nii",)),
    "spaced otherwise, NIfTI": (spaced_otherwise, INSTANCES, (".nii",)),
    "flipped in the world, MHA": (mha_flipped, INSTANCES, (".mha",)),
    "spaced otherwise, NRRD": (nrrd_spaced_otherwise, INSTANCES, (".nrrd",)),
    "the same image under two names": (copied_under_another_name, INSTANCES, (".png",)),
}


def train(program: Program, data: Path, out: Path, *options: str) -> Outcome:
    source = data / "dataset.json" if (data / "dataset.json").exists() else data
    return program.run("bundle", "train", source, "--output", out, *TINY, "--max_epochs=1", *options)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "data", count=4, size=64)


@pytest.mark.parametrize("case", REFUSED)
def test_labels_that_are_surely_wrong_are_refused(program: Program, data, tmp_path, case):
    change, options, named = REFUSED[case]
    change(data)
    outcome = train(program, data, tmp_path / "out", *options)
    assert outcome.code in (1, 2), str(outcome)
    assert any(word in outcome.last for word in named), str(outcome)
    assert not list((tmp_path / "out").glob("*.pt"))


@pytest.mark.parametrize("case", TOLD)
def test_labels_that_look_wrong_are_told(program: Program, data, tmp_path, case):
    change, options, named = TOLD[case]
    change(data)
    outcome = train(program, data, tmp_path / "out", *options)
    lines = outcome.last.splitlines() if outcome.code else outcome.text.splitlines()
    told = [line for line in lines if outcome.code or WARNING.search(line)]
    assert outcome.code in (0, 1, 2), str(outcome)
    assert any(word in line for word in named for line in told), str(outcome)


@pytest.mark.parametrize("case", ["a mask as JPEG", "inverted", "instances as binary", "outlines"])
def test_the_check_can_be_turned_off(program: Program, data, tmp_path, case):
    change, options, _ = TOLD[case]
    change(data)
    outcome = train(program, data, tmp_path / "out", *options, "--check_labels=off")
    assert outcome.code == 0, str(outcome)


@pytest.mark.parametrize("case", ["one class in all pixels, from ilastik", "all empty"])
def test_what_is_refused_can_be_warned_of(program: Program, data, tmp_path, case):
    change, options, _ = REFUSED[case]
    change(data)
    outcome = train(program, data, tmp_path / "out", *options, "--check_labels=warn")
    assert outcome.code == 0, str(outcome)
    assert WARNING.search(outcome.text), str(outcome)


@pytest.mark.parametrize("kind", ["instances", "binary", "classes"])
def test_good_labels_are_described_and_taken_without_warning(program: Program, data, tmp_path, kind):
    if kind != "instances":
        each_label(data, lambda labels: (labels > 0).astype(np.uint8) * (255 if kind == "binary" else 1))
    outcome = train(program, data, tmp_path / "out", f"--label_kind={kind}")
    assert outcome.code == 0, str(outcome)
    assert re.search(r"\b4 (images|labels)", outcome.text), str(outcome)
    warned = [line for line in outcome.text.splitlines() if WARNING.search(line) and "label" in line.lower()]
    about = [line for line in warned if "nothing was found" not in line]  # said of a training of a step
    assert not about


def blank(data: Path, names: list[str]) -> None:
    for name in names:
        Image.fromarray(np.zeros((64, 64), np.uint16)).save(data / "labels" / name)


@pytest.mark.parametrize("blanks", [["03.png"], ["02.png", "03.png"]], ids=["some", "all"])
def test_blank_controls_in_validation_leave_weights(program: Program, data, tmp_path, blanks):
    blank(data, blanks)
    outcome = train(program, data, tmp_path / "out", "--label_kind=instances", "--key_metric=seg", *HALVES)
    assert outcome.code == 0, str(outcome)
    assert (tmp_path / "out" / "model.pt").exists()
    assert "nan" not in re.sub(r"nanosecond|nanometre", "", outcome.text.lower()), str(outcome)
    best = json.loads((tmp_path / "out" / "model.json").read_text())["training"]["best"]
    assert best is not None
    assert np.isfinite(best)
    if len(blanks) == 2:
        assert re.search(r"mean_dice|mean_iou", outcome.text), str(outcome)


def write_nnunet(folder: Path, version: int) -> Path:
    data = write_pairs(folder / "plain", count=4, size=64, binary=True)
    for kind in ("imagesTr", "labelsTr"):
        (folder / "nnunet" / kind).mkdir(parents=True)
    listed = []
    for k in range(4):
        name = f"case_{k:03d}"
        shutil.copy(data / "images" / f"{k:02d}.png", folder / "nnunet" / "imagesTr" / f"{name}_0000.png")
        shutil.copy(data / "labels" / f"{k:02d}.png", folder / "nnunet" / "labelsTr" / f"{name}.png")
        listed.append({"image": f"./imagesTr/{name}.png", "label": f"./labelsTr/{name}.png"})
    second = {"channel_names": {"0": "grey"}, "labels": {"background": 0, "cell": 1}}
    first = {"modality": {"0": "grey"}, "labels": {"0": "background", "1": "cell"}, "training": listed}
    content = (first if version == 1 else second) | {"numTraining": 4, "file_ending": ".png"}
    (folder / "nnunet" / "dataset.json").write_text(json.dumps(content))
    return folder / "nnunet"


@pytest.mark.parametrize("version", [1, 2])
def test_folders_of_nnunet_are_read(program: Program, tmp_path, version):
    data = write_nnunet(tmp_path, version)
    outcome = program.run("bundle", "train", data, "--output", tmp_path / "out", *TINY, "--max_epochs=1")
    assert outcome.code == 0, str(outcome)
    split = json.loads((tmp_path / "out" / "split.json").read_text())
    assert len(split["training"]) + len(split["validation"]) == 4


def test_turned_photographs_fit_their_labels_as_shown(program: Program, data, tmp_path):
    """Photographs with an EXIF orientation and labels drawn on what a viewer shows."""
    for path in sorted((data / "images").glob("*.png")):
        with Image.open(path) as file:
            exif = Image.Exif()
            exif[274] = 6
            wide = file.resize((64, 48)).transpose(Image.Transpose.ROTATE_90)  # as stored: 64 rows, 48 columns
            wide.save(path.with_suffix(".jpg"), exif=exif, quality=95)
        path.unlink()
    each_label(data, lambda labels: labels[:48])
    outcome = train(program, data, tmp_path / "out", "--label_kind=instances")
    assert outcome.code == 0, str(outcome)
