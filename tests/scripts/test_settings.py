"""Settings beside weights: written with them, read back, checked, combined with given values."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
import yaml

from scripts.handlers.checkpoints import save_weights
from scripts.io.files import sha256_of
from scripts.networks.unet import RonnebergerUNet
from scripts.settings import ModelSettings, Training, build_network, model_settings, read_settings

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SMALL = {"features": [2, 4, 8]}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "model.pt"
    settings = ModelSettings(class_names=["background", "cell"], intensity="percentile", threshold=0.4, min_area=20)
    save_weights(RonnebergerUNet(**SMALL), path, settings, Training(dataset="cells", images=12, pixel_size=0.5))
    return path


def change(weights: Path, **entries: object) -> None:
    path = weights.with_suffix(".json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def test_settings_come_back_as_they_were_written(weights):
    known = read_settings(weights)
    assert (known.class_names, known.intensity, known.threshold) == (["background", "cell"], "percentile", 0.4)
    assert (known.training.dataset, known.training.images, known.training.pixel_size) == ("cells", 12, 0.5)
    assert known.sha256 == sha256_of(weights)
    assert known.source == str(weights.with_suffix(".json"))


VARIANTS = {
    path.stem: {key.removeprefix("network_def#"): value for key, value in yaml.safe_load(path.read_text()).items()}
    for path in CONFIGS.glob("variant_*.yaml")
    if "network_def#" in path.read_text()
}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_network_of_every_variant_is_built_again_from_its_file(name, tmp_path):
    arguments = {key: value for key, value in VARIANTS[name].items() if key in RonnebergerUNet.complete({})}
    network = RonnebergerUNet(**{"features": [4, 8, 16, 32, 64], **arguments, **SMALL, "up_features": [3, 5]}).eval()
    save_weights(network, tmp_path / "model.pt", ModelSettings(in_channels=arguments.get("in_channels", 1)))
    again = build_network(read_settings(tmp_path / "model.pt")).eval()
    again.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    image = torch.rand(1, network.in_channels, 60, 60)
    assert torch.equal(again(image), network(image))


@pytest.mark.parametrize("renames", range(4))
def test_weights_and_settings_belong_together_even_if_a_save_is_cut_off(renames, weights, monkeypatch):
    """The process ends after some renames of files."""
    left, real = [renames], os.replace

    def replace(source: object, target: object) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    try:
        save_weights(RonnebergerUNet(features=[3, 6, 12]), weights, ModelSettings(threshold=0.6))
    except KeyboardInterrupt:
        assert renames < 3
    known = read_settings(weights)
    build_network(known).load_state_dict(torch.load(weights, weights_only=True))
    assert (known.network["features"], known.threshold) in (([2, 4, 8], 0.4), ([3, 6, 12], 0.6))
    assert sorted(path.name for path in weights.parent.iterdir()) == ["model.json", "model.pt"]


def test_settings_of_other_weights_are_refused(weights):
    torch.save(RonnebergerUNet(**SMALL).state_dict(), weights)
    with pytest.raises(ValueError, match=r"model\.json .*model\.pt.* sha256"):
        read_settings(weights)


@pytest.mark.parametrize(
    "entries, parts",
    [
        ({"treshold": 0.5}, ["treshold"]),
        ({"threshold": "high"}, ["threshold", "'high'"]),
        ({"min_area": -3}, ["min_area", "-3"]),
        ({"class_names": ["cell"]}, ["class_names"]),
        ({"class_names": ["a", "b", "c"]}, ["out_channels", "2", "3"]),
        ({"intensity": "minmax"}, ["intensity", "minmax", "percentile"]),
        ({"format": 2}, ["format 2"]),
        ({"sha256": None}, ["sha256"]),
        ({"split_necks": float("inf")}, ["split_necks", "inf"]),
        ({"class_names": ["cell", "cell"]}, ["class_names", "cell"]),
    ],
)
def test_a_damaged_file_is_refused_with_the_name_that_is_wrong(entries, parts, weights):
    change(weights, **entries)
    with pytest.raises(ValueError, match=r"model\.json") as raised:
        read_settings(weights)
    assert all(part in str(raised.value) for part in parts)


def test_a_setting_given_twice_is_refused(weights):
    path = weights.with_suffix(".json")
    path.write_text(path.read_text().replace('"threshold": 0.4', '"threshold": 0.4, "threshold": 0.9'))
    with pytest.raises(ValueError, match=r"model\.json.*threshold.*twice"):
        read_settings(weights)


@pytest.mark.parametrize("name", ["network", "in_channels", "intensity", "min_area"])
def test_a_missing_setting_is_warned_about_with_the_assumed_value(name, weights, caplog):
    path = weights.with_suffix(".json")
    content = json.loads(path.read_text())
    del content[name]
    path.write_text(json.dumps(content))
    assumed = getattr(read_settings(weights), name)
    assert all(text in caplog.text for text in ("model.json", f"{name} {assumed}"))


def test_a_file_saved_by_an_editor_with_a_byte_order_mark_is_read(weights):
    path = weights.with_suffix(".json")
    path.write_text(path.read_text().replace("\n", "\r\n"), encoding="utf-8-sig", newline="")
    assert read_settings(weights).threshold == 0.4


def test_a_link_to_weights_has_their_settings(weights, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "best.pt"
    link.symlink_to(weights)
    assert read_settings(link).threshold == 0.4


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"format": 1}', "[" * 100_000])
def test_a_file_that_is_no_settings_is_refused(text, weights):
    weights.with_suffix(".json").write_text(text)
    with pytest.raises(ValueError, match=r"model\.json"):
        read_settings(weights)


@pytest.mark.parametrize(
    "given, parts",
    [
        ({"threshold": "high"}, ["threshold", "'high'"]),
        ({"threshold": 1.5}, ["threshold", "1.5"]),
        ({"flatten": -1}, ["flatten", "-1"]),
        ({"class_names": "cell"}, ["class_names", "'cell'"]),
        ({"in_channels": 0}, ["in_channels", "0"]),
        ({"out_channels": 5}, ["out_channels", "5"]),
    ],
)
def test_a_wrong_value_is_refused_with_its_name(given, parts):
    with pytest.raises(ValueError, match=next(iter(given))) as raised:
        model_settings(**given)
    assert all(part in str(raised.value) for part in parts)


def test_new_weights_have_a_channel_for_each_given_class():
    assert model_settings(class_names=["a", "b", "c"]).out_channels == 3
    assert model_settings(class_names=["a", "b"], out_channels=1).out_channels == 1
    assert model_settings().class_names == ["membrane", "cell"]


def test_a_resumed_training_may_rename_classes_but_not_change_their_number(weights):
    assert model_settings(weights, may_change="names", class_names=["x", "y"]).class_names == ["x", "y"]
    with pytest.raises(ValueError, match="class_names"):
        model_settings(weights, class_names=["x", "y"])
    with pytest.raises(ValueError, match="class_names"):
        model_settings(weights, may_change="names", class_names=["x", "y", "z"])


OF_OBJECTS = {
    "threshold": 0.4,
    "min_area": 9,
    "label_kind": "instances",
    "key_metric": "seg",
    "intensity": "percentile",
}


@pytest.mark.parametrize(
    "given, inherited",
    [
        ({}, True),
        ({"min_area": 3}, True),
        ({"in_channels": 3}, True),
        ({"class_names": ["background", "nucleus"]}, False),
        ({"class_names": ["a", "b", "c"], "label_kind": "classes"}, False),
        ({"label_kind": "binary"}, False),
    ],
)
def test_a_fine_tuning_inherits_objects_and_labels_only_of_its_own_classes(given, inherited, weights):
    change(weights, **OF_OBJECTS)
    found = model_settings(weights, may_change="layers", **given)
    known = OF_OBJECTS if inherited else {"intensity": "percentile"}
    expected = ModelSettings(**known | given | {"out_channels": len(given.get("class_names", "ab"))})
    names = (*OF_OBJECTS, *given)
    assert {name: getattr(found, name) for name in names} == {name: getattr(expected, name) for name in names}
    assert found.out_channels == len(found.class_names)
    assert found.network["features"] == [2, 4, 8]  # of the weights


def test_arguments_missing_in_the_file_are_the_network_s_defaults(weights):
    change(weights, network=SMALL)
    settings = read_settings(weights)
    assert build_network(settings, padding="valid", up_features=(2, 4)).definition["features"] == [2, 4, 8]
    with pytest.raises(ValueError, match=r"padding is 'same'.*'valid'.*model\.json"):
        build_network(settings, padding="same")


def test_weights_of_another_class_of_network_name_none(tmp_path):
    save_weights(torch.nn.Conv2d(1, 2, 3), tmp_path / "model.pt")
    settings = read_settings(tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"model\.json.*network_def"):
        build_network(settings)


def test_text_for_a_switch_of_the_network_is_refused(weights):
    network = json.loads(weights.with_suffix(".json").read_text())["network"]
    change(weights, network={**network, "retain_dim": "false"})
    with pytest.raises(ValueError, match=r"retain_dim .*'false'"):
        build_network(read_settings(weights))


def test_code_in_the_file_is_not_run(weights, tmp_path):
    """Only names and numbers reach the network's constructor."""
    trap = tmp_path / "trap"
    change(weights, network={"_target_": "os.mkdir", "path": str(trap), "features": f"$open({str(trap)!r}, 'w')"})
    with pytest.raises(ValueError, match=r"model\.json"):
        build_network(read_settings(weights))
    assert not trap.exists()


def test_separate_objects_select_the_weights_of_a_training_with_instances(weights):
    assert model_settings(label_kind="instances").key_metric == "instance_f1"
    assert model_settings(label_kind="instances", key_metric="seg").key_metric == "seg"
    assert model_settings(label_kind="binary").key_metric == "mean_dice"
    fine_tuned = model_settings(weights, may_change="layers", label_kind="instances")
    assert (read_settings(weights).label_kind, fine_tuned.key_metric) == ("binary", "instance_f1")


def test_a_resumed_training_keeps_its_key_metric(weights):
    settings = ModelSettings(label_kind="instances", key_metric="mean_dice")
    save_weights(RonnebergerUNet(**SMALL), weights, settings)
    assert model_settings(weights, may_change="names", label_kind="instances").key_metric == "mean_dice"
