"""The folders that MONAI Label serves from: merged configurations, one file of weights, metadata for clients."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from monai.bundle import ConfigParser

from bundle.labelling.label_folder import prepare_app, prepare_bundle, read_configs
from bundle.running.errors import UsageError
from scripts.handlers.checkpoints import save_weights
from scripts.networks.unet import RonnebergerUNet
from tests.bundle.labelling import FEATURES

ROOT = Path(__file__).resolve().parents[3]
ABSENT = Path("absent.pt")  # the configurations decide
INFERENCE, TRAINING = ROOT / "configs" / "inference.yaml", ROOT / "configs" / "train.yaml"


def small(weights: Path, **overrides: object) -> dict[str, dict]:
    return read_configs([INFERENCE], [TRAINING], overrides, weights)


@pytest.fixture
def served(weights: Path, tmp_path: Path) -> Path:
    return prepare_bundle(tmp_path / "app", small(weights), weights, overwrite=False)


def test_weights_that_are_missing_or_do_not_fit_are_refused(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no weights at .*nowhere\.pt.*--weights"):
        prepare_bundle(tmp_path / "app", small(weights), tmp_path / "nowhere.pt", overwrite=False)
    wider = small(weights, **{"network_def#features": [2, 4, 8, 16, 30]})
    with pytest.raises(UsageError, match=r"network_def#features is .*weights\.json.*--inference"):
        prepare_bundle(tmp_path / "app", wider, weights, overwrite=False)
    with pytest.raises(UsageError, match=r"network_def#features is .*--training"):
        prepare_bundle(tmp_path / "app", {**small(weights), "training": wider["training"]}, weights, overwrite=False)
    assert not (tmp_path / "app").exists()


def test_weights_without_settings_need_the_network_and_must_fit(weights: Path, tmp_path: Path) -> None:
    weights.with_suffix(".json").unlink()
    with pytest.raises(UsageError, match=r"does not fit the network.*--inference"):
        prepare_bundle(tmp_path / "app", small(weights), weights, overwrite=False)
    configs = small(weights, **{"network_def#features": FEATURES})
    assert (prepare_bundle(tmp_path / "app", configs, weights, overwrite=False) / "models" / "model.pt").is_file()


def test_the_prepared_folder_holds_one_configuration_each_and_one_file_of_weights(served: Path, weights: Path) -> None:
    assert "segmentation" in served.name  # MONAI Label reads the task from the name
    files = sorted(
        str(path.relative_to(served)) for folder in ("configs", "models") for path in (served / folder).iterdir()
    )
    configs = ["inference.yaml", "logging.conf", "metadata.json", "train.yaml"]
    assert files == [*(f"configs/{name}" for name in configs), "models/model.json", "models/model.pt"]
    assert (served / "models" / "model.pt").read_bytes() == weights.read_bytes()
    for name in (
        "inference.yaml",
        "train.yaml",
    ):  # after a training by clients, the settings are those of the new weights
        assert str(weights) not in (served / "configs" / name).read_text()
    assert (served / "scripts" / "losses.py").samefile(ROOT / "scripts" / "losses.py")


def test_the_background_has_the_name_that_clients_leave_out(served: Path) -> None:
    formats = json.loads((served / "configs" / "metadata.json").read_text())["network_data_format"]
    assert formats["outputs"]["pred"]["channel_def"] == {"0": "background", "1": "cell"}
    assert len(formats["inputs"]["image"]["spatial_shape"]) == 2  # MONAI Label reads the dimension from this list


def test_weights_that_clients_have_trained_are_kept_unless_overwrite_is_set(
    served: Path, weights: Path, tmp_path: Path
) -> None:
    prepare_bundle(tmp_path / "app", small(weights), weights, overwrite=False)  # the same weights: no loss
    trained = served / "models" / "model.pt"
    save_weights(RonnebergerUNet(features=FEATURES), trained)
    content = trained.read_bytes()
    prepare_bundle(tmp_path / "app", small(trained), trained, overwrite=False)
    with pytest.raises(UsageError, match=r"model\.pt holds other weights than .*weights\.pt.*--overwrite"):
        prepare_bundle(tmp_path / "app", small(weights), weights, overwrite=False)
    assert trained.read_bytes() == content
    prepare_bundle(tmp_path / "app", small(weights), weights, overwrite=True)
    assert trained.read_bytes() == weights.read_bytes()


def test_keys_change_every_configuration_that_has_them_and_overlays_keep_the_folder() -> None:
    demo = [TRAINING, ROOT / "configs" / "variant_adam.yaml", ROOT / "configs" / "demo.yaml"]
    configs = read_configs([INFERENCE], demo, {"orientations": 4, "max_epochs": 7, "flatten": 20}, ABSENT)
    inference, training = configs["inference"], configs["training"]
    assert (inference["orientations"], training["max_epochs"]) == (4, 7)
    assert inference["flatten"] == training["flatten"] == 20
    assert training["network_def"]["features"] == [16, 32, 64, 128, 256]
    assert training["model_dir"] == "$@bundle_root + '/models'"  # MONAI Label would not find demo/models
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
    assert read_configs([INFERENCE], [TRAINING], overrides, ABSENT)["training"]["label_kind"] == kind


@pytest.mark.parametrize("overrides, expected", [({}, "warn"), ({"check_labels": "refuse"}, "refuse")])
def test_the_first_labels_of_clients_are_warned_of_not_refused(overrides, expected):
    assert read_configs([INFERENCE], [TRAINING], overrides, ABSENT)["training"]["check_labels"] == expected


@pytest.mark.parametrize("overrides, expected", [({}, True), ({"validate_first": False}, False)])
def test_a_served_training_validates_first_unless_told_otherwise(overrides: dict, expected: bool) -> None:
    assert read_configs([INFERENCE], [TRAINING], overrides, ABSENT)["training"]["validate_first"] is expected


@pytest.mark.parametrize("images, max_epochs, steps", [(3, 1, 0), (3, 50, 15), (3, 1000, 100)])
def test_a_short_training_reaches_the_full_learning_rate(images: int, max_epochs: int, steps: int) -> None:
    """Clients start trainings of 50 epochs on the first labels: 150 steps, of which 100 would be warm-up."""
    config = read_configs([INFERENCE], [TRAINING], {}, ABSENT)["training"]
    parser = ConfigParser(config)
    parser.update({"train#trainer#max_epochs": max_epochs, "train#dataloader": [None] * images})
    assert parser.get_parsed_content("lr_scheduler#warmup_steps") == steps


def test_every_key_of_the_served_training_can_be_evaluated_without_its_own_data(served: Path) -> None:
    """3D Slicer's module starts a training with the empty run ID: MONAI then evaluates all keys."""
    training = yaml.safe_load((served / "configs" / "train.yaml").read_text())
    assert training["datalist"] == []
    assert training["split"] == {"training": [], "validation": []}


def test_an_app_from_elsewhere_is_not_touched(tmp_path: Path) -> None:
    theirs = tmp_path / "monaibundle" / "model" / "mine" / "models" / "model.pt"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"trained")
    with pytest.raises(UsageError, match="monaibundle exists"):
        prepare_app(tmp_path, Path("python"), {})
    assert theirs.read_bytes() == b"trained"


def test_a_key_of_an_overlay_that_nothing_reads_is_refused(tmp_path: Path) -> None:
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("optimiser: {_target_: torch.optim.Adam}\n")
    with pytest.raises(UsageError, match=r"optimiser.*optimizer.*--training"):
        read_configs([INFERENCE], [TRAINING, overlay], {}, ABSENT)
