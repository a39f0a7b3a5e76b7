"""Each value of a plan follows from facts; what facts do not decide stays undecided, with the remedy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import yaml

from scripts.machine import GIB, Machine
from scripts.options.table import SETTINGS
from scripts.planning.choices import FULL, QUARTER, Case, choose
from scripts.planning.costs import step_memory
from scripts.planning.listing import Listing
from scripts.planning.overlay import SECTIONS, UndecidedError, code_in, make_plan
from scripts.planning.shipped import Shipped
from tests.scripts.planning.conftest import disks, picture
from tests.scripts.planning.test_facts import facts_of

CPU = Machine("cpu", "AVX2", 2, 16 * GIB)
GPU = Machine("cuda", "H100", 16, 64 * GIB, 80 * GIB, bfloat16=True)
NUCLEI = Shipped("nuclei", "instances", ("background", "nucleus"), (32, 64, 128, 256, 512), "DSB2018-fluo")
SMALL_NUCLEI = replace(NUCLEI, name="nuclei_small", features=(16, 32, 64, 128, 256))
EM = Shipped("em", "binary", ("membrane", "cell"), (64, 128, 256, 512, 1024), "isbi2012", 0.004)


def chosen(labels, machine=CPU, shipped=(), names=None, pixel_size=None, **given):
    facts = replace(facts_of(labels), pixel_size=pixel_size)
    items = [{"image": f"d/{names[k] if names else k}.png"} for k in range(len(labels))]
    return choose(Case(facts, Listing(items), machine, shipped, given, "mine"))


def cells(size: int = 128, width: int = 16) -> np.ndarray:
    """Squares of value 255 with membranes of 3 pixels between them."""
    label = np.full((size, size), 255)
    for start in range(0, size, width):
        label[start : start + 3] = label[:, start : start + 3] = 0
    return label


def tissue() -> np.ndarray:
    """Three classes besides 0, each in many pieces."""
    label = np.zeros((96, 96), int)
    for number, (row, column) in enumerate([(r, c) for r in range(4, 90, 12) for c in range(4, 90, 12)]):
        label[row : row + 7, column : column + 7] = 1 + number % 3
    return label


KINDS = {
    "a number for each object": ([disks(6, 24), disks(5, 20)], "instances", ["0 pairs of"]),
    "touching numbers": ([disks(6, 12), disks(5, 10)], "instances", ["touch"]),
    "a mask": ([disks(6, 24, numbered=False)] * 2, "binary", ["0, 255"]),
    "few values in many pieces": ([tissue()] * 2, "classes", ["0, 1, 2, 3"]),
    "nothing labelled": ([np.zeros((40, 40), int)] * 2, None, ["0 alone"]),
    "the same two values in one piece each": (
        [np.kron([[0, 1, 1, 0], [0, 2, 2, 0], [0, 0, 0, 0]], np.ones((9, 9), int))] * 3,
        None,
        ["instances", "classes"],
    ),
    "a resized mask": (
        [np.where(tissue() == 2, 0, tissue()) * (1 - np.eye(96, dtype=int)) + 2 * np.eye(96, dtype=int)] * 2,
        None,
        ["2", "resizing"],
    ),
    "1 and 2, as from ilastik": ([1 + (tissue() > 0)] * 2, None, ["1, 2"]),
    "a picture": ([np.random.default_rng(k).integers(0, 256, (64, 64)) for k in range(2)], None, ["255 values"]),
}


@pytest.mark.parametrize("labels, kind, said", KINDS.values(), ids=KINDS)
def test_the_kind_of_the_labels_follows_from_values_and_pieces(labels, kind, said) -> None:
    choice = chosen(labels)["label_kind"]
    assert choice.value == kind
    assert [word for word in said if word not in choice.reason] == []


@pytest.mark.parametrize("change, number", [(-1, "-1"), (0.5, "0.5"), (2.0**31, "2.14748e+09")])
def test_object_numbers_that_a_training_refuses_give_no_kind(change: float, number: str) -> None:
    label = disks(8, 24).astype(float)
    label[label > 0] += change - 1
    kind = chosen([label, label])["label_kind"]
    assert kind.value is None
    assert number in kind.reason


def test_a_kind_that_the_user_gives_is_kept_and_the_rest_follows() -> None:
    found = chosen([disks(6, 24)] * 3, label_kind="binary")
    assert found["label_kind"].value == "binary"
    assert found["key_metric"].value == "mean_dice"
    assert "separation_gap" not in found


def test_borders_are_narrower_between_small_objects() -> None:
    small, large = (chosen([disks(radius, step, 192)] * 2)["sigma"].value for radius, step in ((4, 12), (20, 60)))
    assert (small, large) == (2.0, 5.0)


def test_a_wider_gap_is_for_large_objects_that_touch() -> None:
    gaps = [
        chosen([disks(radius, step, 400)] * 2)["separation_gap"].value for radius, step in ((40, 79), (40, 99), (6, 11))
    ]
    assert gaps == [2, 1, 1]


def test_rare_classes_weigh_more_by_the_root_of_their_share() -> None:
    found = chosen([tissue()] * 2)
    weights = np.array(found["class_balance"].value)
    shares = np.bincount(tissue().ravel()) / tissue().size
    np.testing.assert_allclose(weights * np.sqrt(shares), weights[0] * np.sqrt(shares[0]), rtol=0.02)
    assert float(weights @ shares) == pytest.approx(1, abs=0.01)
    assert len(found["class_names"].value) == len(weights)


def test_thin_background_between_many_cells_is_a_membrane() -> None:
    found = chosen([cells()] * 2)
    assert found["class_names"].value == ["membrane", "cell"]
    assert found["key_metric"].value == "v_rand"


def test_series_by_name_stay_together_and_a_film_ends_in_the_validation() -> None:
    labels = [disks(6, 24), disks(5, 20), disks(4, 16)] * 4
    names = [f"{'abcd'[k // 3]}_{k % 3}" for k in range(12)]
    assert chosen(labels, names=names)["split_rule"].value == "series"
    film = [np.roll(disks(12, 40), 3 * k, axis=1) for k in range(12)]
    assert chosen(film)["split_rule"].value == "last"


@pytest.mark.parametrize("machine, name", [(CPU, "nuclei_small"), (GPU, "nuclei")])
def test_bright_roundish_objects_start_from_the_weights_for_nuclei(machine, name) -> None:
    found = chosen([disks(10, 30)] * 3, machine, (NUCLEI, SMALL_NUCLEI, EM))
    assert found["finetune"].value == name
    assert found["class_names"].value == ["background", "nucleus"]
    assert found["network_def#features"].value is None
    assert "intensity" not in found


def test_other_sizes_and_the_weights_own_data_start_from_scratch() -> None:
    assert chosen([disks(36, 90, 192)] * 3, shipped=(NUCLEI,))["finetune"].value is None
    own = chosen([disks(10, 30)] * 3, shipped=(replace(NUCLEI, dataset="mine"),))["finetune"]
    assert own.value is None
    assert "nuclei" in own.reason


@pytest.mark.parametrize("size, start, said", [(0.004, "em", "4 nm"), (0.02, None, ""), (None, None, "--from em")])
def test_membranes_start_from_weights_of_the_same_pixel_size(size, start, said) -> None:
    choice = chosen([cells()] * 2, shipped=(EM,), pixel_size=size)["finetune"]
    assert choice.value == start
    assert said in choice.reason


def test_the_network_is_as_wide_as_the_machine_allows() -> None:
    assert chosen([disks(6, 24)] * 2)["network_def#features"].value.startswith(f"${QUARTER}")
    assert chosen([disks(6, 24)] * 2, GPU)["network_def#features"].value.startswith(f"${FULL}")
    small = replace(GPU, gpu_memory=step_memory(FULL, 572))
    assert not chosen([disks(6, 24)] * 2, small)["network_def#features"].value.startswith(f"${FULL}")


def test_tiles_are_as_large_as_images_and_objects_need() -> None:
    assert chosen([disks(6, 24)] * 2, GPU)["input_size"].value == 380  # images of 96
    assert chosen([disks(6, 24, 400)] * 2, GPU)["input_size"].value == 572
    assert chosen([disks(6, 24, 400)] * 2)["input_size"].value == 380
    assert chosen([disks(110, 230, 500)] * 2, label_kind="instances")["input_size"].value == 572


def test_all_keys_of_a_plan_are_settings_with_values_in_range(write) -> None:
    plan = make_plan(write([disks(6, 24)] * 4), machine=CPU)
    content = yaml.safe_load(plan.text)
    assert content["plan"] == {"images": 4, "device": "cpu", "overlays": ["variant_fast"]}
    for key in content.keys() - {"plan", "network_def#features"}:
        SETTINGS[key].kind.convert(content[key])
    assert {key for keys in SECTIONS.values() for key in keys} >= plan.values.keys()


def test_a_plan_is_the_same_each_time_and_has_a_reason_behind_each_value(write) -> None:
    folder = write([disks(6, 24)] * 4)
    text = make_plan(folder, machine=CPU).text
    assert make_plan(folder, machine=replace(CPU, memory=12 * GIB)).text == text
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if "  # " not in line] == [f"dataset_dir: {folder}"]


def test_labels_that_a_training_refuses_give_no_plan(write) -> None:
    with pytest.raises(UndecidedError, match=r"no background.*--label_values"):
        make_plan(write([1 + (disks(20, 90) > 0)] * 3, names=["a", "b", "c"]), machine=CPU)


@pytest.mark.parametrize("end", ["\n", "\r", "\x85", "\u2028"])
def test_a_name_with_line_ends_adds_no_line_to_a_plan(write, end) -> None:
    label = disks(8, 24)
    name = f"b{end}w0: $print(1)"
    data = write([label, label], images=[picture(label, 0)] * 2, names=["a", name])  # copies are named in the plan
    data = data.rename(data.with_name(f"data{end}w0: 3"))
    content = yaml.safe_load(make_plan(data, machine=CPU).text)
    assert code_in(content) is None
    assert "w0" not in content
    assert content["dataset_dir"] == data.as_posix()


def test_a_name_that_is_no_utf_8_is_written_by_escapes(write) -> None:
    data = write([disks(8, 24)] * 2)
    data = data.rename(data.with_name("data\udcff\x1b[2J"))
    text = make_plan(data, machine=CPU).text
    assert yaml.safe_load(text.encode())["dataset_dir"] == data.as_posix()


def test_a_folder_whose_name_would_be_code_gives_no_plan(write) -> None:
    data = write([disks(8, 24)])
    (data / "images").rename(data / "$print(1)")
    (data / "labels").rename(data / "masks")
    with pytest.raises(ValueError, match=r"\$print\(1\).*folder"):
        make_plan(data, machine=CPU)
