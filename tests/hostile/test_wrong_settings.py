"""Settings out of range, of the wrong type or misspelt are refused by name, by both commands, before any result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.hostile.conftest import TINY
from tests.hostile.program import Outcome, Program
from tests.hostile.samples import write_images, write_pairs

COMMANDS = ("bundle", "monai.bundle")
FALSE = ("false", "False", "no", "0", "off")

TRAINING = (  # for both commands
    "threshold=2",
    "flip_prob=7",
    "scale=5",
    "patience=-1",
    "min_area=-5",
    "class_names=['cell','cell']",
    "class_names=cell",
    "separation_gap=1000",
    "out_channels=3",
    "learning_rate=-1",
    "batch_size=0",
    "val_fraction=1.5",
    "label_kind=instance",
    "network_def#features=16",
    "resume=perhaps",
)
STRICT_TRAINING = (
    "learning_rate=fast",
    "momentum=1.5",
    "max_epochs=-1",
    "max_epochs=2.5",
    "val_interval=0",
    "dropout=1.5",
    "fold=-1",
    "split_rule=lasst",
    "key_metric=dice",
    "intensity=zscore",
    "num_workers=-1",
    "input_size=100",
    "rotation=nan",
    "noise_std=-1",
    "elastic_sigma=-3",
    "elastic_points=0",
    "sigma=-1",
    "w0=-1",
    "max_minutes=-5",
    "tiles_per_epoch=0",
    "max_gradient_norm=-1",
    "warmup_iterations=-1",
    "amp_dtype=float8",
    "pixel_size=0",
    "field_border=-1",
    "close_gaps=100000",
    "fill_holes=-2",
    "split_necks=-1",
    "flatten=-1",
    "in_channels=0",
    "seed=abc",
    "val_fraction=true",
    "max_epochs=1,2",
    "network_def#dropout=2",
)
INFERENCE = (  # for both commands
    "threshold=2",
    "min_area=-5",
    "orientations=3",
    "class_map_values=[0]",
    "save_classes=perhaps",
    "close_gaps=100000",
    "memory_limit=-1",
)
STRICT_INFERENCE = (
    "threshold=nan",
    "tile_size=-1",
    "tile_size=100",
    "memory_limit=lots",
    "class_map_values=[0,300]",
    "class_map_values=[7,7]",
    "amp_dtype=float8",
    "intensity=zscore",
    "save_probabilities=7",
    "pixel_size=-1",
    "tiff_axes=QQ",
    "num_workers=-1",
    "split_necks=-2",
    "fill_holes=1.5",
    "flatten=-1",
    "class_names=cell",
)
MISSPELT = {"lr=0.1": "learning_rate", "max_epoch=3": "max_epochs", "treshold=0.4": "threshold"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small images with instance labels, and two without labels."""
    folder = tmp_path_factory.mktemp("settings")
    write_pairs(folder / "pairs", count=2, size=64)
    write_images(folder / "images", count=2, size=64)
    return folder


def train(program: Program, command: str, data: Path, out: Path, *options: str) -> Outcome:
    """Train for an epoch, with some settings."""
    given = {option.partition("=")[0] for option in options}
    words = [
        word for word in (*TINY, "--max_epochs=1", "--label_kind=instances") if word.partition("=")[0] not in given
    ]
    return program.run(*start("train", command, data / "pairs", out), *words, *options)


def start(name: str, command: str, source: Path, out: Path) -> list[Any]:
    if command == "bundle":
        return ["bundle", name, source, "--output", out]
    configs = {"train": ["training", "--config_file", "configs/train.yaml", "--model_dir", out]}
    words = configs.get(name, ["--config_file", "configs/inference.yaml"])
    return ["monai.bundle", "run", *words, "--dataset_dir", source, "--output_dir", out]


def segment(program: Program, command: str, data: Path, weights: Path, out: Path, *options: str) -> Outcome:
    key = "--weights" if command == "bundle" else "--ckpt_path"
    words = start("segment", command, data / "images", out)
    return program.run(*words, key, weights, "--device=cpu", *options)


def assert_refused(outcome: Outcome, named: str) -> None:
    """Check that the exit code is that of an error, and the last message names the key."""
    assert outcome.code in (1, 2), str(outcome)
    assert named in outcome.last, str(outcome)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("option", TRAINING)
def test_a_wrong_setting_of_a_training_is_refused(program, data, tmp_path, command, option):
    outcome = train(program, command, data, tmp_path, f"--{option}")
    assert_refused(outcome, option.partition("=")[0].rpartition("#")[2])
    assert not list(tmp_path.glob("*.pt"))


@pytest.mark.parametrize("option", STRICT_TRAINING)
def test_a_wrong_setting_is_refused_by_the_strict_training(program, data, tmp_path, option):
    more = ["--split_rule=block"] if option.startswith("fold") else []
    outcome = train(program, "bundle", data, tmp_path, f"--{option}", *more)
    assert_refused(outcome, option.partition("=")[0].rpartition("#")[2])
    assert not list(tmp_path.glob("*.pt"))


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("option", INFERENCE)
def test_a_wrong_setting_of_an_inference_is_refused(program, data, weights, tmp_path, command, option):
    outcome = segment(program, command, data, weights, tmp_path, f"--{option}")
    assert_refused(outcome, option.partition("=")[0])
    assert not list(tmp_path.rglob("*.tif"))


@pytest.mark.parametrize("option", STRICT_INFERENCE)
def test_a_wrong_setting_is_refused_by_the_strict_inference(program, data, weights, tmp_path, option):
    outcome = segment(program, "bundle", data, weights, tmp_path, f"--{option}")
    assert_refused(outcome, option.partition("=")[0])
    assert not list(tmp_path.rglob("*.tif"))


@pytest.mark.parametrize("option", MISSPELT)
def test_a_misspelt_setting_leads_to_the_right_one(program, data, weights, tmp_path, option):
    if option.startswith("tres"):
        outcome = segment(program, "bundle", data, weights, tmp_path, f"--{option}")
    else:
        outcome = train(program, "bundle", data, tmp_path, f"--{option}")
    assert_refused(outcome, MISSPELT[option])


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("word", FALSE)
def test_words_for_false_turn_results_off(program, data, weights, tmp_path, command, word):
    outcome = segment(program, command, data, weights, tmp_path, f"--save_probabilities={word}")
    assert outcome.code == 0, str(outcome)
    assert not list(tmp_path.glob("probabilities/*"))
    assert len(list(tmp_path.glob("classes/*"))) == 2


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("word", ["false", "no", "0"])
def test_words_for_false_do_not_resume(program, data, tmp_path, command, word):
    outcome = train(program, command, data, tmp_path, f"--resume={word}")  # nothing is there to resume from
    assert outcome.code == 0, str(outcome)
    assert (tmp_path / "model.pt").exists()


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("content", ["optimiser: {_target_: torch.optim.Adam}", "treshold: 0.4", "threshold: 2"])
def test_keys_of_an_overlay_file_are_checked(program, data, tmp_path, command, content):
    overlay = tmp_path / "mine.yaml"
    overlay.write_text(content + "\n")
    out = tmp_path / "out"
    if command == "bundle":
        outcome = train(program, command, data, out, f"--overlay={overlay}")
    else:
        files = f"['configs/train.yaml','{overlay}']"
        words = ["monai.bundle", "run", "training", "--config_file", files, "--model_dir", out, "--output_dir", out]
        outcome = program.run(
            *words, "--dataset_dir", data / "pairs", *TINY, "--max_epochs=1", "--label_kind=instances"
        )
    assert_refused(outcome, content.partition(":")[0])
    assert not list(out.glob("*.pt"))
