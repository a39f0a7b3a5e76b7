"""A diagnosis names what a training would refuse, worst first, with files, numbers and the remedy."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import tifffile

from scripts.machine import GIB, Machine
from scripts.planning.costs import images_memory, step_memory, step_seconds
from scripts.planning.diagnosis import OLDEST, diagnose
from scripts.planning.overlay import UndecidedError, make_plan
from tests.scripts.planning.conftest import disks, picture

CPU = Machine("cpu", "AVX512", 2, 16 * GIB, bfloat16=True)
LABELS = [disks(6, 24), disks(5, 20), disks(7, 24), disks(4, 20), disks(6, 20)]


def told(folder, tmp_path, **more) -> list[tuple[str, str]]:
    found = diagnose(folder, tmp_path / "out", machine=more.pop("machine", CPU), timed=False, **more)
    return [(one["severity"], one["text"]) for one in found.content()["problems"]]


def refusal(folder: Path) -> str:
    """The message of a refused plan."""
    with pytest.raises(UndecidedError) as refused:
        make_plan(folder, machine=CPU)
    return str(refused.value)


def test_good_data_have_no_problem(write, tmp_path) -> None:
    assert told(write(LABELS), tmp_path) == []


def test_labels_that_a_training_refuses_are_errors(write, tmp_path) -> None:
    (first, *_) = told(write([1 + (label > 0) for label in LABELS]), tmp_path)
    assert first[0] == "error"
    assert "--label_values" in first[1]


def test_exchanged_folders_are_the_only_finding_about_the_data(write, tmp_path) -> None:
    images = [picture(label, k) for k, label in enumerate(LABELS)]
    folder = write(images, images=[label.astype(np.uint8) for label in LABELS])
    ((severity, text),) = told(folder, tmp_path)
    assert severity == "error"
    for found in (text, refusal(folder)):
        assert "exchanged" in found
        assert str(Path("images", "0.png")) in found
        assert str(Path("labels", "0.png")) in found


def test_a_damaged_image_is_an_error_beside_the_findings_about_all_others(write, tmp_path) -> None:
    folder = write(
        [*LABELS, LABELS[0]], [*(picture(label, k) for k, label in enumerate(LABELS)), picture(LABELS[0], 0)]
    )
    file = folder / "images" / "1.png"
    file.write_bytes(file.read_bytes()[:200])
    problems = told(folder, tmp_path)
    severities = [severity for severity, _ in problems]
    assert severities == sorted(severities) == ["error", *["warning"] * (len(problems) - 1)]  # worst first
    assert "1.png" in problems[0][1]
    assert any("5.png" in text and "0.png" in text for _, text in problems[1:])


def test_a_missing_label_is_an_error_with_its_name(write, tmp_path) -> None:
    folder = write(LABELS)
    (folder / "labels" / "3.png").unlink()
    ((severity, text),) = told(folder, tmp_path)
    assert severity == "error"
    assert "3.png" in text


def test_empty_labels_constant_images_and_few_images_are_named(write, tmp_path) -> None:
    images = [picture(LABELS[0], 0), picture(LABELS[0], 1), np.full((96, 96), 7, np.uint8)]
    problems = told(write([LABELS[0], LABELS[1], np.zeros((96, 96))], images), tmp_path)
    text = " ".join(text for _, text in problems)
    assert [word for word in ("2.png", "3 images are few", "1 of 3 labels are empty") if word not in text] == []
    assert {severity for severity, _ in problems} == {"warning", "note"}


@pytest.mark.parametrize("dtype, value", [(np.float64, 1e300), (np.float64, -1e300), (np.float32, 3e38)])
@pytest.mark.parametrize("where", ["a pixel", "all pixels"])
def test_values_of_no_camera_are_named_without_warnings_of_numpy(dtype, value, where, write, tmp_path) -> None:
    folder = write(LABELS)
    image = np.asarray(picture(LABELS[2], 2), dtype)
    if where == "a pixel":
        image[3, 4] = value
    else:
        image *= value / 255
    (folder / "images" / "2.png").unlink()
    tifffile.imwrite(folder / "images" / "2.tif", image)
    problems = told(folder, tmp_path)
    assert any(severity == "warning" and "2.tif" in text and "1e+15" in text for severity, text in problems)


def test_too_little_memory_is_an_error_with_both_numbers(write, tmp_path) -> None:
    little = Machine("cpu", "AVX512", 2, GIB // 2, bfloat16=True)
    text = " ".join(text for severity, text in told(write(LABELS), tmp_path, machine=little) if severity == "error")
    assert "0.5 are free" in text


def test_a_read_only_data_folder_is_a_note(write, tmp_path) -> None:
    folder = write(LABELS)
    folder.chmod(0o555)
    try:
        ((severity, text),) = told(folder, tmp_path)
    finally:
        folder.chmod(0o755)
    assert severity == "note"
    assert str(folder) in text


def test_images_of_two_types_are_named(write, tmp_path) -> None:
    folder = write(LABELS)
    (folder / "images" / "4.png").unlink()
    tifffile.imwrite(folder / "images" / "4.tif", picture(LABELS[4], 4).astype(np.uint16))
    ((severity, text),) = told(folder, tmp_path)
    assert severity == "warning"
    assert "uint8" in text
    assert "uint16" in text


def test_the_oldest_versions_are_those_of_the_package() -> None:
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = dict(re.findall(r"^([\w-]+)>=([\d.]+)", entry)[0] for entry in project["dependencies"] if ">=" in entry)
    assert {name: needed[name] for name in OLDEST} == OLDEST


def test_the_machine_alone_is_described() -> None:
    found = diagnose(machine=CPU, timed=True)
    assert found.machine["memory_gib"] == 16
    assert found.training["seconds_a_step"] > 0
    assert found.data == {}


@pytest.mark.parametrize("tile, measured", [(316, 0.62), (444, 0.92), (572, 1.35), (956, 3.42)])
def test_the_estimate_of_memory_agrees_with_measurements_of_the_full_network(tile: int, measured: float) -> None:
    """The measured steps are those of SGD: weights are not counted, and momentum is one copy instead of three."""
    moments = 3 * 4 * 31_030_658
    assert (step_memory([64], tile) - moments) / GIB == pytest.approx(measured, rel=0.25)


def test_memory_grows_with_images_and_time_is_that_of_a_step() -> None:
    assert images_memory([(10, 20)]) * 3 == images_memory([(10, 20)] * 3)
    assert 0 < step_seconds([2, 4, 8, 16, 32], 188, repeats=1) < 30
