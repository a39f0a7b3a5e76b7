"""`python -m bundle label` without its server: what it refuses and says, and the folders that it prepares."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import yaml
from PIL import Image

from bundle.__main__ import main
from bundle.errors import UsageError
from bundle.labelling.label import ENVIRONMENT, check_images, server_environment
from bundle.labelling.label_folder import prepare_app, prepare_bundle, read_configs
from scripts.networks.unet import RonnebergerUNet

ROOT = Path(__file__).resolve().parents[3]
INFERENCE, TRAINING = ROOT / "configs" / "inference.yaml", ROOT / "configs" / "train.yaml"
FEATURES = {"network_def#features": [2, 4, 8, 16, 32]}
WORDS = ["--network_def#features", "[2,4,8,16,32]"]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "studies"
    folder.mkdir()
    for name in ("a.png", "b.bmp"):
        Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8)).save(folder / name)
    return folder


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.pt"
    torch.save(RonnebergerUNet(features=[2, 4, 8, 16, 32]).state_dict(), path)
    return path


@pytest.fixture
def hollow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment that looks as if MONAI Label were in it, for what is refused before that would be run."""
    folder = tmp_path / "environment"
    for name in ("bin/python", "lib/python3.11/site-packages/monailabel/main.py"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).touch()
    monkeypatch.setenv(ENVIRONMENT, str(folder))
    return folder


Refused = Callable[..., str]


@pytest.fixture
def refused(images: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """The message with which the command ends; nothing is left behind."""

    def run(*words: object, folder: Path = images) -> str:
        given = ["label", str(folder), "--app", str(tmp_path / "app"), "--weights", str(weights), *WORDS]
        assert main([*given, *map(str, words)]) == 2
        assert not (tmp_path / "app").exists()
        message = capsys.readouterr().err
        assert message.startswith("error: ")
        assert message.count("\n") == 1
        return message

    return run


def test_without_the_environment_it_names_the_target_that_builds_it(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "nowhere"))
    assert "make label-env builds it" in refused()
    (tmp_path / "nowhere" / "bin").mkdir(parents=True)
    (tmp_path / "nowhere" / "bin" / "python").touch()
    assert "does not hold MONAI Label: make label-env" in refused()


@pytest.mark.usefixtures("hollow")
def test_what_cannot_be_served_is_refused_before_anything_is_written(refused: Refused, tmp_path: Path) -> None:
    assert "is no folder" in refused(folder=tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "no images in" in refused(folder=tmp_path / "empty")
    assert "unknown key 'min_are'; did you mean 'min_area'?" in refused("--min_are", 3)
    assert "expected a rate between 0 and 1" in refused("--epistemic_dropout", 5)
    assert "no configuration at nowhere.yaml" in refused("--inference", "nowhere.yaml")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "choose another --port" in refused("--port", taken.getsockname()[1])


def test_weights_that_are_missing_or_do_not_fit_are_refused(weights: Path, tmp_path: Path) -> None:
    configs = read_configs([INFERENCE], [TRAINING], FEATURES)
    with pytest.raises(UsageError, match=r"no weights at .*nowhere\.pt: train some .*make demo.*--weights"):
        prepare_bundle(tmp_path / "app", configs, tmp_path / "nowhere.pt", overwrite=False)
    other = read_configs([INFERENCE], [TRAINING], {"network_def#features": [2, 4, 8, 16, 30]})
    with pytest.raises(UsageError, match=r"does not fit the network.*--inference"):
        prepare_bundle(tmp_path / "app", other, weights, overwrite=False)
    with pytest.raises(UsageError, match=r"does not fit the network.*--training"):
        prepare_bundle(tmp_path / "app", {**configs, "training": other["training"]}, weights, overwrite=False)
    assert not (tmp_path / "app").exists()


def test_images_that_monai_label_cannot_serve_are_named(images: Path) -> None:
    tifffile.imwrite(images / "stack.tif", np.zeros((3, 6, 8), np.uint8), photometric="minisblack")
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(images / "colour.png")
    (images / "broken.tif").write_bytes(b"II*\0")
    count, notes = check_images(images, in_channels=1)
    assert count == 2
    said = "\n".join(notes)
    for name, reason in (
        ("stack.tif", "several planes"),
        ("colour.png", "not of 1 channels"),
        ("broken.tif", "damaged"),
    ):
        assert any(name in note and reason in note for note in notes), said
    for name in ("a.png", "b.bmp"):
        (images / name).unlink()
    with pytest.raises(UsageError, match=r"no image that can be served.*several planes"):
        check_images(images, in_channels=1)


def test_two_images_of_one_name_are_refused(images: Path) -> None:
    Image.fromarray(np.zeros((6, 8), np.uint8)).save(images / "a.tif")
    with pytest.raises(UsageError, match="differ only in their ending"):
        check_images(images, in_channels=1)


def test_the_prepared_folder_holds_one_configuration_each_and_one_file_of_weights(
    weights: Path, tmp_path: Path
) -> None:
    served = prepare_bundle(tmp_path / "app", read_configs([INFERENCE], [TRAINING], FEATURES), weights, overwrite=False)
    assert "segmentation" in served.name  # MONAI Label takes the task from it
    files = sorted(
        str(path.relative_to(served)) for folder in ("configs", "models") for path in (served / folder).iterdir()
    )
    configs = ["inference.yaml", "logging.conf", "metadata.json", "train.yaml"]
    assert files == [*(f"configs/{name}" for name in configs), "models/model.pt"]
    assert (served / "models" / "model.pt").read_bytes() == weights.read_bytes()
    assert (served / "scripts" / "losses.py").samefile(ROOT / "scripts" / "losses.py")


def test_the_background_has_the_name_that_clients_leave_out(weights: Path, tmp_path: Path) -> None:
    served = prepare_bundle(tmp_path / "app", read_configs([INFERENCE], [TRAINING], FEATURES), weights, overwrite=False)
    formats = json.loads((served / "configs" / "metadata.json").read_text())["network_data_format"]
    assert formats["outputs"]["pred"]["channel_def"] == {"0": "background", "1": "cell"}
    assert len(formats["inputs"]["image"]["spatial_shape"]) == 2  # MONAI Label takes the dimension from it


def test_weights_that_clients_have_trained_are_kept_unless_told_otherwise(weights: Path, tmp_path: Path) -> None:
    configs = read_configs([INFERENCE], [TRAINING], FEATURES)
    served = prepare_bundle(tmp_path / "app", configs, weights, overwrite=False)
    prepare_bundle(tmp_path / "app", configs, weights, overwrite=False)  # the same: nothing would be lost
    trained = served / "models" / "model.pt"
    torch.save(RonnebergerUNet(features=[2, 4, 8, 16, 32]).state_dict(), trained)
    content = trained.read_bytes()
    prepare_bundle(tmp_path / "app", configs, None, overwrite=False)
    with pytest.raises(UsageError, match=r"perhaps trained by clients.*--overwrite"):
        prepare_bundle(tmp_path / "app", configs, weights, overwrite=False)
    assert trained.read_bytes() == content
    prepare_bundle(tmp_path / "app", configs, weights, overwrite=True)
    assert trained.read_bytes() == weights.read_bytes()


def test_keys_go_to_whichever_configuration_knows_them_and_overlays_keep_the_folder() -> None:
    demo = [TRAINING, ROOT / "configs" / "variant_adam.yaml", ROOT / "configs" / "demo.yaml"]
    configs = read_configs([INFERENCE], demo, {"orientations": 4, "max_epochs": 7, "flatten": 20})
    inference, training = configs["inference"], configs["training"]
    assert (inference["orientations"], training["max_epochs"]) == (4, 7)
    assert inference["flatten"] == training["flatten"] == 20
    assert training["network_def"]["features"] == [16, 32, 64, 128, 256]
    assert training["model_dir"] == "$@bundle_root + '/models'"  # not demo/models: the server would not find it
    assert inference["ckpt_path"] == "$@bundle_root + '/models/model.pt'"


@pytest.mark.parametrize(
    "overrides, kind",
    [
        ({}, "binary"),
        ({"served_instances": True}, "instances"),
        ({"class_names": ["background", "nucleus", "debris"]}, "classes"),
        ({"label_kind": "instances"}, "instances"),
    ],
)
def test_training_expects_the_kind_of_label_that_is_served(overrides: dict, kind: str) -> None:
    assert read_configs([INFERENCE], [TRAINING], overrides)["training"]["label_kind"] == kind


def test_a_served_training_keeps_the_weights_it_starts_from_until_it_finds_better_ones() -> None:
    assert read_configs([INFERENCE], [TRAINING], {})["training"]["validate_first"] is True
    assert read_configs([INFERENCE], [TRAINING], {"validate_first": False})["training"]["validate_first"] is False


def test_every_key_of_the_served_training_can_be_evaluated_without_data_of_its_own(
    weights: Path, tmp_path: Path
) -> None:
    """3D Slicer's module starts a training with the empty run id, for which MONAI evaluates all keys."""
    configs = read_configs([INFERENCE], [TRAINING], FEATURES)
    served = prepare_bundle(tmp_path / "app", configs, weights, overwrite=False)
    training = yaml.safe_load((served / "configs" / "train.yaml").read_text())
    assert training["datalist"] == []
    assert training["split"] == {"training": [], "validation": []}


def test_an_app_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    theirs = tmp_path / "monaibundle" / "model" / "mine" / "models" / "model.pt"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"trained")
    with pytest.raises(UsageError, match="was not made by this command"):
        prepare_app(tmp_path, Path("python"))
    assert theirs.read_bytes() == b"trained"


def test_the_server_lists_all_formats_and_does_not_reload_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    environment = server_environment()
    assert {"*.tiff", "*.bmp", "*.PNG"} <= set(json.loads(environment["MONAI_LABEL_DATASTORE_FILE_EXT"]))
    assert environment["MONAI_LABEL_RELOAD_APP_LIB"] == "false"
    assert "PYTHONPATH" not in environment
