"""Labels that are surely wrong are refused before a training, with file, number and the setting that helps."""

from __future__ import annotations

import logging
import resource
from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile
from PIL import Image

from scripts.data.label_check import check_labels
from scripts.data.label_facts import label_facts
from scripts.data.label_findings import Meaning, findings
from scripts.transforms import InstanceLabelsd

NAMES = ["background", "cell"]


def cells(count: int = 3, size: int = 8) -> np.ndarray:
    """Squares with the numbers 1, 2, ...; the first two touch, the others lie apart."""
    plane = np.zeros((64, 64), np.uint8)
    for number in range(count):
        row, column = 4 + 20 * (number // 2), 4 + (size if number == 1 else 30 * (number % 2))
        plane[row : row + size, column : column + size] = number + 1
    return plane


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (64, 64)).astype(np.uint8)


def saved(folder: Path, labels: list[np.ndarray], images: list[np.ndarray] | None = None, ending: str = ".png"):
    """Items of a data set in a folder."""
    items = []
    for number, label in enumerate(labels):
        image = picture(number) if images is None else images[number]
        pair = {"image": str(folder / f"image{number}.png"), "label": str(folder / f"label{number}{ending}")}
        Image.fromarray(image).save(pair["image"])
        Image.fromarray(label).save(pair["label"])
        items.append(pair)
    return items


def check(items, kind: str = "binary", names=NAMES, class_values=None, **more) -> str:
    conversion = InstanceLabelsd(kind=kind, out_channels=len(names), class_values=class_values)
    return check_labels(items[:-1], items[-1:], conversion, names, **more).line


def warned(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def mask(plane: np.ndarray, value: int = 255) -> np.ndarray:
    return ((plane > 0) * value).astype(np.uint8)


APART = [2 * (cells(6) > 0).astype(np.uint8) - (cells(6) == 1), cells(4), cells(5)]
OUTLINES = np.zeros((64, 64), np.uint8)
for corner in (4, 34):
    OUTLINES[corner : corner + 24, corner : corner + 24] = corner
    OUTLINES[corner + 2 : corner + 22, corner + 2 : corner + 22] = 0
CLASSES = np.where(cells(6) % 2 == 1, 2, mask(cells(6), 1)).astype(np.uint8)

# label images, kind, whether the kind was stated, facts in the message: number, and setting or remedy
REFUSED = {
    "object numbers with the default": ([cells(4)] * 3, "binary", False, ["0, 1, 2, 3, 4", "--label_kind instances"]),
    "classes with the default": ([CLASSES] * 3, "binary", False, ["0, 1, 2", "--label_kind classes"]),
    "classes as instances": ([CLASSES] * 3, "instances", True, ["6 values", "--label_kind classes"]),
    "pictures as labels": ([picture(k + 9) for k in range(3)], "binary", True, ["255 values"]),
    "pictures as instances": ([picture(k + 9) for k in range(3)], "instances", True, ["255 values"]),
    "no background": ([mask(cells()) // 255 + 1] * 3, "binary", False, ["3 of 3", "--label_values", "[1, 2]"]),
    "no background, stated": ([np.full((64, 64), 7, np.uint8)] * 3, "binary", True, ["3 of 3", "7"]),
    "nothing labelled": ([np.zeros((64, 64), np.uint8)] * 3, "binary", False, ["all 3", "0 alone"]),
    "no object": ([np.zeros((64, 64), np.uint8)] * 3, "instances", True, ["all 3", "0 alone"]),
    "one class": ([np.zeros((64, 64), np.uint8)] * 3, "classes", True, ["cell", "background"]),
    "numbered background": ([cells() + 1] * 3, "instances", True, ["3 of 3", "1"]),
    "outlines as objects": ([OUTLINES] * 3, "instances", True, ["2 regions"]),
}
NEURONS = np.ones((64, 64), np.uint8)  # a dense crop of EM: all pixels belong to neurons
NEURONS[:, 40:52], NEURONS[:, 52:] = 2, 3
WARNED = {
    "dense neurons, or a numbered background": ([NEURONS] * 3, "instances", True, ["62%", "1 of 2"]),
    "masks of two objects as instances": (
        [mask(np.where(cells(3) == 1, 0, cells(3)))] * 3,
        "instances",
        True,
        ["binary"],
    ),
    "masks as instances": ([mask(cells(6))] * 3, "instances", True, ["255", "--label_kind binary"]),
    "inverted masks": ([mask(cells(6) == 0)] * 3, "binary", True, ["5 holes", "[255, 0]"]),
    "outlines": ([mask(OUTLINES)] * 3, "binary", True, ["2 regions"]),
    "an object in two pieces": ([cells(6) + 0, cells(6), cells(6) % 6], "instances", True, []),
}
WARNED["an object in two pieces"][0][0][cells(6) == 6] = 4
MEANT = {
    "masks": ([mask(cells(6))] * 3, "binary", False),
    "bits": ([mask(cells(6), 1)] * 3, "binary", False),
    "objects": ([cells(6)] * 3, "instances", True),
    "objects as one class, stated": ([cells(6)] * 3, "binary", True),
    "classes": ([mask(cells(6), 1)] * 3, "classes", True),
    "one object in each image": ([mask(cells(1))] * 3, "instances", True),
    "some without objects": ([cells(6), np.zeros((64, 64), np.uint8), cells(3)], "instances", True),
    "cells without gaps": (
        [np.kron(np.arange(1, 17).reshape(4, 4), np.ones((16, 16))).astype(np.uint8)] * 3,
        "instances",
        True,
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_labels_that_are_surely_wrong_are_refused(case, tmp_path):
    planes, kind, stated, facts = REFUSED[case]
    with pytest.raises(ValueError, match="check_labels") as raised:
        check(saved(tmp_path, planes), kind, stated=stated)
    message = str(raised.value)
    assert "label0.png" in message or "all 3" in message or "class" in message
    assert [fact for fact in facts if fact not in message] == []
    assert "--check_labels warn" in message


@pytest.mark.parametrize("case", REFUSED)
def test_refused_labels_are_warnings_if_the_user_says_so(case, tmp_path, caplog):
    planes, kind, stated, _ = REFUSED[case]
    check(saved(tmp_path, planes), kind, stated=stated, mode="warn")
    assert warned(caplog)
    caplog.clear()
    assert check(saved(tmp_path, planes), kind, stated=stated, mode="off") == ""
    assert not caplog.records


@pytest.mark.parametrize("case", WARNED)
def test_labels_that_look_wrong_are_warned_of(case, tmp_path, caplog):
    planes, kind, stated, facts = WARNED[case]
    check(saved(tmp_path, planes), kind, stated=stated)
    (warning,) = warned(caplog)
    assert "label0.png" in warning
    assert [fact for fact in facts if fact not in warning] == []


@pytest.mark.parametrize("case", MEANT)
def test_labels_that_are_meant_pass_without_a_word_but_the_line(case, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    planes, kind, stated = MEANT[case]
    line = check(saved(tmp_path, planes), kind, stated=stated)
    assert [record.getMessage() for record in caplog.records] == [line]


def test_labels_that_cannot_be_converted_are_refused_in_every_mode(tmp_path):
    items = saved(tmp_path, [mask(cells())] * 3)
    for mode in ("refuse", "warn"):
        with pytest.raises(ValueError, match=r"3 of 3 labels.*label0\.png.*255.*--label_values"):
            check(items, "classes", mode=mode)


def test_the_line_counts_images_objects_sizes_and_touching_pairs(tmp_path):
    line = check(saved(tmp_path, [cells(4)] * 3), "instances")
    assert line == "labels of 3 images: 4 objects each, median 64 px, 3 touching pairs"
    line = check(saved(tmp_path, [cells(4), cells(4), cells(0)]), "instances")
    assert line.endswith("2 touching pairs, 1 without objects")
    line = check(saved(tmp_path, [CLASSES] * 2), "classes", ["background", "a", "b"])
    assert line == "labels of 2 images: background 90.62%, a 4.69%, b 4.69%"


def test_a_jpeg_label_is_refused_for_every_kind(tmp_path):
    items = saved(tmp_path, [mask(cells(6))] * 3, ending=".jpg")
    for kind in ("binary", "instances", "classes"):
        with pytest.raises(ValueError, match=r"3 of 3 labels .*label0\.jpg.*PNG"):
            check(items, kind)


def test_exchanged_folders_are_named(tmp_path):
    items = saved(tmp_path, [picture(k) for k in range(3)], images=[mask(cells(6))] * 3)
    with pytest.raises(ValueError, match=r"exchanged: the image .*image0\.png.*label0\.png") as refused:
        check(items, stated=False)
    assert "interpolation" not in str(refused.value)  # no second guess


def test_masks_given_as_instances_train_with_a_number_for_each_piece(tmp_path):
    items = saved(tmp_path, [mask(cells(6))] * 3)
    conversion = InstanceLabelsd(kind="instances")
    line = check_labels(items[:2], items[2:], conversion, NAMES).line
    assert "5 objects each" in line  # two of six touch
    assert conversion.convert(mask(cells(6))[None])[1].max() == 5


@pytest.mark.parametrize(
    "planes, settings",
    [
        ([mask(cells()) // 255 + 1] * 3, {"kind": "classes", "class_values": [1, 2]}),
        ([mask(cells(6) == 0)] * 3, {"kind": "classes", "class_values": [255, 0]}),
        ([cells(4)] * 3, {"kind": "instances"}),
        ([CLASSES] * 3, {"kind": "classes", "names": ["background", "class_1", "class_2"]}),
        ([CLASSES] * 3, {"kind": "binary"}),
    ],
)
def test_the_remedies_of_the_messages_help(planes, settings, tmp_path, caplog):
    check(saved(tmp_path, planes), **settings)
    assert not warned(caplog)


def test_an_evaluation_may_measure_empty_labels(tmp_path, caplog):
    items = saved(tmp_path, [np.zeros((64, 64), np.uint8)] * 2)
    check(items, evaluating=True)
    assert "0 alone" in caplog.text


def test_an_image_that_trains_and_validates_is_refused_and_a_copy_warned_of(tmp_path, caplog):
    items = saved(tmp_path, [mask(cells(6))] * 3, images=[picture(), picture(1), picture()])
    with pytest.raises(ValueError, match=r"1 \(.*image0\.png\) images train and validate"):
        check([*items[:2], items[0]])
    check(items)
    assert "image2.png" in caplog.text
    assert "image0.png" in caplog.text


def test_a_whole_labelled_folder_is_measured_without_a_word(tmp_path, caplog):
    items = saved(tmp_path, [mask(cells(6))] * 2)
    check_labels(items, items, InstanceLabelsd(), NAMES, evaluating=True)
    assert not warned(caplog)


def test_the_data_set_of_the_training_measured_whole_is_warned_of(tmp_path, caplog):
    items = saved(tmp_path, [mask(cells(6))] * 2)
    arguments = {"labels": InstanceLabelsd(), "class_names": NAMES, "evaluating": True, "same_set": True}
    check_labels(items[:1], items[1:], **arguments)  # the part that was held out
    assert not warned(caplog)
    check_labels(items, items, **arguments)
    assert "--split_file" in caplog.text


@pytest.mark.parametrize("metric", ["seg", "instance_f1", "v_rand", "v_info"])
def test_without_objects_in_validation_mean_dice_takes_the_place_of_the_key_metric(metric, tmp_path, caplog):
    empty = np.zeros((64, 64), np.uint8)
    conversion = InstanceLabelsd(kind="instances")
    items = saved(tmp_path, [cells(6), cells(6), empty, empty])
    held = {"objects": items[1:3], "none": items[2:]}
    chosen = {
        part: check_labels(items[:1], held[part], conversion, NAMES, key_metric=metric).key_metric for part in held
    }
    assert chosen == {"objects": metric, "none": "mean_dice"}
    (warning,) = warned(caplog)
    assert [word for word in (metric, "mean_dice", "label2.png", "2 validation") if word not in warning] == []


def test_a_list_with_every_image_twice_is_no_split_of_all_images(tmp_path):
    items = saved(tmp_path, [cells()] * 2)
    with pytest.raises(ValueError, match=r"2 .*train and validate"):
        check_labels(items, list(items), InstanceLabelsd(), NAMES, stated=True)


def test_an_unknown_mode_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"check_labels.*refuse.*never"):
        check(saved(tmp_path, [cells()] * 2), mode="never")


@pytest.mark.parametrize("turn, said", [((-1, 1), "mirrored"), ((1, -1), "mirrored"), ((1, 1), None)])
def test_a_label_that_is_mirrored_in_space_is_refused(turn, said, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    pair = {}
    for key, signs, plane in (("image", (1, 1), picture()), ("label", turn, mask(cells(6)))):
        pair[key] = str(tmp_path / f"{key}.nii.gz")
        affine = np.diag([0.5 * signs[0], 0.5 * signs[1], 3, 1])
        nibabel.save(nibabel.Nifti1Image(plane.T[..., None], affine), pair[key])
    pairs = [pair]
    arguments = (pairs, pairs, InstanceLabelsd(), NAMES)
    if said is None:
        assert check_labels(*arguments).line
        return
    with pytest.raises(ValueError, match=rf"label\.nii\.gz.*opposite.*{said}"):
        check_labels(*arguments)


def test_the_largest_object_numbers_take_no_memory(tmp_path: Path) -> None:
    last = 2**31 - 1
    pairs = [{key: str(tmp_path / f"{key}.tif") for key in ("image", "label")}]
    tifffile.imwrite(pairs[0]["image"], picture())
    tifffile.imwrite(pairs[0]["label"], np.where(cells(4), last - cells(4).astype(np.int32), 0))
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + 2**30, limits[1]))
    try:
        line = check_labels(pairs, pairs, InstanceLabelsd(kind="instances"), NAMES).line
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert line == "labels of 1 image: 4 objects each, median 64 px, 1 touching pair"


def test_maps_of_many_classes_in_many_pieces_are_no_pictures() -> None:
    classes = np.kron(np.random.default_rng(0).integers(0, 19, (32, 32)), np.ones((4, 4), int))
    assert findings([label_facts("a.png", classes)], Meaning("classes")) == []
    assert [one.sure for one in findings([label_facts("a.png", classes)], Meaning("instances"))] == [True]
