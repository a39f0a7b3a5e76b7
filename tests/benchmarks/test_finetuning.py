"""Fine-tuning is compared with training from scratch on the same images, with the same network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from benchmarks import finetuning
from benchmarks.finetuning import SETS, Blocks, compare, finished, parts_of, spread, tables
from benchmarks.recipes import Way
from benchmarks.tasks import CELL_METRICS
from bundle.datasets.sample import sample
from scripts.data.cell_tracking import split_cell_tracking
from scripts.networks import RonnebergerUNet
from scripts.settings import ModelSettings, Training, write_weights

CELL_SETS = [name for name, task in SETS.items() if task.image_dir is None]
WAYS = ["scratch", "finetuned", "frozen"]


@pytest.mark.parametrize("task", SETS.values(), ids=SETS)
def test_no_image_is_in_two_blocks(task):
    numbers = [number for block in (task.training, task.choosing, task.measured) for number in block]
    assert len(set(numbers)) == len(numbers)
    assert numbers == sorted(numbers)


@pytest.mark.parametrize("number", [1, 2, 3, 10, 56, 100])
def test_the_training_images_are_as_many_as_asked_and_reach_over_the_block(number):
    chosen = spread(range(4, 60), number)
    assert len(set(chosen)) == len(chosen) == min(number, 56)
    assert chosen[0] == 4
    assert number == 1 or chosen[-1] == 59
    assert len(chosen) < 2 or np.ptp(np.diff(chosen)) <= 1


@pytest.mark.parametrize("name", CELL_SETS)
def test_the_frames_of_a_cell_tracking_set_are_those_of_its_blocks(name, tmp_path):
    task = SETS[name]
    sequence = "02" if name == "u373" else "01"
    for folder, prefix in ((sequence, "t"), (f"{sequence}_ST/SEG", "man_seg"), (f"{sequence}_GT/TRA", "man_track")):
        (tmp_path / folder).mkdir(parents=True)
        for frame in range(task.measured[-1] + 5):
            tifffile.imwrite(tmp_path / folder / f"{prefix}{frame:03d}.tif", np.zeros((4, 4), np.uint16))
    frames = []
    for part in parts_of(task, 3, tmp_path, tmp_path):
        asked = [
            {"sequences": sequence, "reference": "silver", "frames": part[f"{name}_frames#frames"]}
            for name in ("training", "validation")
        ]
        split = split_cell_tracking(tmp_path, *asked)
        frames.append([[int(Path(item["image"]).stem[1:]) for item in items] for items in split.values()])
    (training, choosing), (same, measured) = frames
    assert training == same == spread(task.training, 3)
    assert choosing == spread(task.choosing, 3)
    assert measured == list(task.measured)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finetuning")
    sample(str(folder), size=128, train=20, test=0)
    return folder


@pytest.fixture
def tiny(monkeypatch, tmp_path) -> Path:
    """Weights to start from. The set "tiny" has ten training images, three choosing and six measured ones."""
    blocks = range(10), range(10, 14), range(14, 20)
    task = Blocks("train", "data_nuclei", "val_instance_f1", CELL_METRICS, *blocks, image_dir="images")
    monkeypatch.setitem(finetuning.SETS, "tiny", task)
    short = {"input_size": 188, "tiles_per_epoch": 2, "num_workers": 0, "device": "cpu"}
    full = finetuning.ways

    def shortened(weights: Path, epochs: int | None = None) -> dict[str, Way]:
        return {name: replace(way, settings={**way.settings, **short}) for name, way in full(weights, epochs).items()}

    monkeypatch.setattr(finetuning, "ways", shortened)
    network = RonnebergerUNet(features=(2, 4, 8, 16, 32))
    names = ["background", "nucleus"]
    write_weights(network.state_dict(), tmp_path / "start.pt", ModelSettings(class_names=names).of(network, Training()))
    return tmp_path / "start.pt"


def contracting(weights: Path) -> torch.Tensor:
    state = torch.load(weights, weights_only=True)
    return torch.cat([value.flatten() for name, value in state.items() if name.startswith("contracting")])


def test_all_ways_train_the_same_network_on_the_same_images_once(data, tiny, tmp_path):
    out = tmp_path / "out"
    given = tiny, [3], WAYS, [0], 1, None, data, out
    compare("tiny", *given)
    assert [(run["images"], run["way"]) for run in finished(out)["tiny"]] == [(3, way) for way in WAYS]
    folders = [out / "tiny" / "3" / way / "seed0" for way in WAYS]
    splits = [json.loads((folder / "split.json").read_text()) for folder in folders]
    assert splits[0] == splits[1] == splits[2]
    assert [len(splits[0][part]) for part in ("training", "validation")] == [3, 3]
    assert json.loads((folders[0] / "views1" / "metrics.json").read_text())["images"] == 6
    start = contracting(tiny)
    scratch, finetuned, frozen = (contracting(folder / "model.pt") for folder in folders)
    assert torch.equal(frozen, start)
    assert 0 < (finetuned - start).abs().max() < 0.1 < (scratch - start).abs().max()

    written = {file: file.stat().st_mtime_ns for file in out.glob("**/model.pt")}
    compare("tiny", *given)
    assert {file: file.stat().st_mtime_ns for file in out.glob("**/model.pt")} == written
    with pytest.raises(ValueError, match="Give another --out"):
        compare("tiny", tiny, [3], ["scratch"], [0], None, 2.0, data, out)


def test_more_images_than_there_are_stand_for_all_of_them(data, tiny, tmp_path):
    compare("tiny", tiny, [100], ["scratch"], [0], 1, None, data, tmp_path / "out")
    assert "| 10 images, from scratch | 1 | 2 |" in (tmp_path / "out" / "table.md").read_text()
    assert (tmp_path / "out" / "finetuning.png").stat().st_size > 1000


def result(images: int, minutes: float, seg: float) -> dict:
    figures = {"SEG": seg, "DET": 0.5, "F1 at IoU 0.5": None}
    return {"of": {"minutes": minutes}, "steps": 100 * images, "curve": [], "views": {"1": figures}}


def write_result(out: Path, way: str, seed: int, *values: float) -> None:
    folder = out / "hela" / str(values[0]) / way / f"seed{seed}"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(result(*values)))


def test_the_table_has_a_row_for_each_number_and_way_with_the_range_over_seeds(tmp_path):
    write_result(tmp_path, "finetuned", 0, 10, 4.0, 0.7)
    write_result(tmp_path, "scratch", 0, 10, 4.0, 0.5)
    write_result(tmp_path, "scratch", 1, 10, 4.0, 0.6)
    write_result(tmp_path, "scratch", 0, 3, 4.0, 0.4)
    rows = [line.split(" | ") for line in tables(finished(tmp_path)).splitlines() if " images, " in line]
    assert [row[:4] for row in rows] == [
        ["| 3 images, from scratch", "1", "300", "0.4000"],
        ["| 10 images, from scratch", "2", "1000", "0.5500 (0.5000 to 0.6000)"],
        ["| 10 images, fine-tuned", "1", "1000", "0.7000"],
    ]


def test_trainings_of_different_times_are_not_compared(tmp_path):
    write_result(tmp_path, "scratch", 0, 3, 4.0, 0.4)
    write_result(tmp_path, "finetuned", 0, 3, 6.0, 0.4)
    with pytest.raises(ValueError, match="hela has trainings of"):
        finished(tmp_path)
