"""Trainings start from weights of other classes and channels, at a lower rate, and may leave a part as it is."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bundle.__main__ import main
from scripts.handlers.checkpoints import save_weights
from scripts.handlers.resuming import read_state
from scripts.io.files import read_csv, sha256_of
from scripts.networks.unet import RonnebergerUNet
from scripts.published import published
from scripts.settings import read_settings
from tests.bundle.copies import copy_of_bundle
from tests.configs.conftest import CONFIGS, settings, words, write_pairs

FROZEN = "contracting."


@pytest.fixture(scope="module")
def tensors(trained) -> dict[str, torch.Tensor]:
    """The weights to start from, of one channel and two classes."""
    return torch.load(trained / "models" / "model.pt", weights_only=True)


@pytest.fixture(scope="module")
def three_classes(tmp_path_factory) -> Path:
    """Four images of three classes."""
    rng = np.random.default_rng(0)
    labels = [rng.permutation(12).reshape(3, 4).repeat(32, 0).repeat(20, 1) % 3 for _ in range(4)]
    noisy = [(label * 60 + rng.normal(40, 5, label.shape)).astype(np.uint8) for label in labels]
    return write_pairs(tmp_path_factory.mktemp("three"), zip(noisy, [x.astype(np.uint8) for x in labels], strict=True))


def finetune(dataset: Path, folder: Path, start: Path, *overlays: str, **more: object) -> int:
    files = ",".join(str(CONFIGS / name) for name in ("train.yaml", *overlays))
    given = {**settings(dataset, folder), "label_kind": None, "finetune": start / "models" / "model.pt", **more}
    del given["network_def#features"]  # those of the weights
    given = {name: value for name, value in given.items() if value is not None}
    return main(["run", "training", "--config_file", f"[{files}]", *words(given)])


def unchanged(found: torch.Tensor, start: torch.Tensor) -> bool:
    """Whether weights are those of the start, after steps of about 1e-30."""
    return torch.allclose(found, start, rtol=0, atol=1e-20)


def result(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "models" / "model.pt", weights_only=True)


def test_other_classes_have_a_new_last_layer_and_do_not_inherit_objects(
    trained, tensors, three_classes, tmp_path, capsys
):
    before = sha256_of(trained / "models" / "model.pt")
    classes = {"label_kind": "classes", "class_names": "['a','b','c']"}
    assert finetune(three_classes, tmp_path, trained, **classes, max_epochs=1, learning_rate=1e-30) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "initialised anew" in line]
    assert all(part in line for part in ("22 of 23", "scores", str(trained / "models" / "model.pt")))
    found = result(tmp_path)
    assert found["scores.weight"].shape[0] == 3
    assert all(unchanged(found[name], tensors[name]) for name in tensors if not name.startswith("scores."))
    assert sha256_of(trained / "models" / "model.pt") == before
    known = read_settings(tmp_path / "models" / "model.pt")
    assert (known.class_names, known.label_kind, known.out_channels) == (["a", "b", "c"], "classes", 3)
    assert known.network["features"] == [2, 4, 8, 16, 32]


def test_other_channels_have_a_new_first_layer(trained, tensors, tiny_dataset, tmp_path, capsys):
    rgb = shutil.copytree(tiny_dataset, tmp_path / "rgb")
    for path in (rgb / "images").iterdir():
        Image.open(path).convert("RGB").save(path)
    given = {"in_channels": 3, "label_kind": "instances", "max_epochs": 1, "learning_rate": 1e-30}
    assert finetune(rgb, tmp_path, trained, **given) == 0
    found, new = result(tmp_path), ("contracting.0.0.weight", "contracting.0.0.bias")
    assert found["contracting.0.0.weight"].shape[1] == 3
    assert all(unchanged(found[name], tensors[name]) for name in tensors if name not in new)
    assert finetune(rgb, tmp_path, trained, **given, freeze_contracting=True) == 1  # it would stay random
    message = capsys.readouterr().err
    assert all(part in message for part in ("freeze_contracting", "contracting.0.0"))


@pytest.mark.parametrize("overlay", ["variant_fast.yaml", None])
def test_a_frozen_contracting_path_stays_and_the_rest_learns_also_when_resumed(
    overlay, trained, tensors, tiny_dataset, tmp_path
):
    overlays = [overlay] if overlay else []
    given = {"label_kind": "instances", "freeze_contracting": True, "learning_rate": 1e-2, "warmup_iterations": 0}

    def parts() -> tuple[bool, bool]:
        """Whether the contracting path is that of the weights, and the rest is not."""
        found = read_state(tmp_path / "models" / "training_state.pt")["model"]
        frozen = [name for name in tensors if name.startswith(FROZEN)]
        assert 0 < len(frozen) < len(tensors)
        same = {name: torch.equal(found[name], tensors[name]) for name in tensors}
        return all(same[name] for name in frozen), not any(same[name] for name in same if name not in frozen)

    assert finetune(tiny_dataset, tmp_path, trained, *overlays, **given) == 0
    assert parts() == (True, True)
    for name in (name for name in tensors if name.startswith(FROZEN)):  # the average of equal weights
        torch.testing.assert_close(result(tmp_path)[name], tensors[name])
    more = {**given, "resume": True, "max_epochs": 3}
    assert finetune(tiny_dataset, tmp_path, trained, *overlays, **more) == 0
    assert parts() == (True, True)
    assert len(read_csv(tmp_path / "out" / "history.csv")) == 3


def test_the_laptop_s_overlay_keeps_the_network_of_the_weights(trained, tiny_dataset, tmp_path):
    overlays, few = ("variant_fast.yaml", "variant_laptop.yaml"), {"tiles_per_epoch": 1, "max_epochs": 1}
    assert finetune(tiny_dataset, tmp_path, trained, *overlays, label_kind="instances", input_size=188, **few) == 0
    weights = [folder / "models" / "model.pt" for folder in (trained, tmp_path)]
    assert read_settings(weights[0]).network == read_settings(weights[1]).network
    more = {**few, "max_epochs": 2, "resume": True, "input_size": 188}
    assert finetune(tiny_dataset, tmp_path, trained, *overlays, label_kind="instances", **more) == 0


def test_random_weights_cannot_be_frozen(tiny_dataset, tmp_path, capsys):
    given = settings(tiny_dataset, tmp_path, freeze_contracting=True)
    assert main(["run", "training", "--config_file", str(CONFIGS / "train.yaml"), *words(given)]) == 1
    message = capsys.readouterr().err
    assert all(part in message for part in ("freeze_contracting", "finetune"))
    assert list((tmp_path / "models").glob("*.pt")) == []


def test_another_width_than_that_of_the_weights_is_refused(trained, tiny_dataset, tmp_path, capsys):
    given = {"label_kind": "instances", "network_def#features": [4, 8], "finetune": trained / "models" / "model.pt"}
    words_given = words(settings(tiny_dataset, tmp_path, **given))
    assert main(["run", "training", "--config_file", str(CONFIGS / "train.yaml"), *words_given]) == 1
    message = capsys.readouterr().err
    assert all(part in message for part in ("features", "[4, 8]", "[2, 4, 8, 16, 32]", "model.json"))


def test_a_resumed_fine_tuning_refuses_other_classes(trained, three_classes, tmp_path, capsys):
    classes = {"label_kind": "classes", "class_names": "['a','b','c']"}
    assert finetune(three_classes, tmp_path, trained, **classes, max_epochs=1) == 0
    other = {**classes, "class_names": "['a','b','c','d']", "resume": True, "max_epochs": 2}
    assert finetune(three_classes, tmp_path, trained, **other) == 1
    message = capsys.readouterr().err
    assert all(part in message for part in ("class_names", "training_state.pt"))


@pytest.mark.slow
def test_weights_that_a_training_starts_from_by_name_are_kept_and_keep_their_name(tiny_dataset, tmp_path):
    """With MONAI's own command, which trains into `models`."""
    bundle = copy_of_bundle(tmp_path / "bundle")
    weights = bundle / "models" / "model.pt"
    save_weights(RonnebergerUNet(features=(2, 4, 8, 16, 32)), weights)
    given = settings(tiny_dataset, tmp_path, finetune="em", max_epochs=1)
    del given["network_def#features"], given["model_dir"]
    command = ["run", "training", "--config_file", "configs/train.yaml", *words(given)]
    before = sha256_of(weights)
    subprocess.run([sys.executable, "-m", "monai.bundle", *command], cwd=bundle, check=True, capture_output=True)
    assert sha256_of(weights) != before
    assert sha256_of(published(bundle / "models")["em"]) == before
