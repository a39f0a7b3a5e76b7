"""The style of configurations. `python -m bundle verify` checks their keys and values."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import yaml
from monai.bundle import ConfigParser

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
STANDALONE = ("train.yaml", "inference.yaml")
OVERLAYS = sorted(p.name for p in CONFIGS.glob("*.yaml") if p.name not in STANDALONE)


def base_of(overlay: str) -> str:
    return "inference.yaml" if "inference" in overlay else "train.yaml"


def leaves(config: object, path: str = "") -> dict[str, object]:
    if isinstance(config, dict):
        return {k: v for key, value in config.items() for k, v in leaves(value, f"{path}#{key}".lstrip("#")).items()}
    return {path: config}


def load(name: str) -> dict:
    return yaml.safe_load((CONFIGS / name).read_text())


def test_validation_predicts_as_inference_does():
    train, inference = load("train.yaml"), load("inference.yaml")
    validation, alone = train["validate"]["inferer"], inference["inferer"]
    assert validation["_target_"] == alone["_target_"]
    defaults = {"tile_size": None, "orientations": 1, "memory_limit": 3 * 2**30}
    assert {k: inference[k] for k in defaults} == defaults  # validation uses the class's defaults


@pytest.mark.parametrize("name", [*STANDALONE, *OVERLAYS])
def test_configurations_are_plain(name):
    text = (CONFIGS / name).read_text()
    assert "lambda" not in text
    assert not re.search(r"handlers#\d|transforms#\d|\[:-?\d*\]", text), "positions"
    assert not re.search(r":\s*\d+e-?\d", text), "1e-3 is a string in YAML: write 1.0e-3"
    assert all(len(line) <= 140 for line in text.splitlines() if "monai.bundle run" not in line)


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_begins_with_its_purpose_and_its_command(name):
    first, second = (CONFIGS / name).read_text().splitlines()[:2]
    assert first.startswith("# ")
    assert second.startswith("#   ")
    assert "monai.bundle run" in second
    assert f"configs/{name}" in second


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_repeats_nothing(name):
    known = leaves(load(base_of(name)))
    for key, value in load(name).items():
        if not isinstance(value, dict):
            assert key not in known or known[key] != value, f"{name} repeats {key}"


def test_nothing_of_the_bundle_is_imported_before_the_run():
    """`scripts` can be imported only from `run` on: MONAI adds the bundle to the path late."""
    for name in [*STANDALONE, *OVERLAYS]:
        early = str(load(name).get("initialize", [])) + str(load(name).get("imports", []))
        config = load(base_of(name)) | load(name)
        assert "scripts" not in early + str([config[key] for key in re.findall(r"@(\w+)", early)])


def test_the_paper_s_values_are_the_defaults(monkeypatch):
    monkeypatch.chdir(ROOT)
    parser = ConfigParser(load("train.yaml"))
    expected = {
        "batch_size": 1,
        "momentum": 0.99,
        "w0": 10.0,
        "sigma": 5.0,
        "elastic_points": 3,
        "elastic_sigma": 10.0,
        "input_size": 572,
    }
    assert {k: parser.get_parsed_content(k) for k in expected} == expected
    assert parser["optimizer"]["_target_"] == "torch.optim.SGD"
    network = parser.get_parsed_content("network_def")
    assert sum(p.numel() for p in network.parameters()) == 31_030_658
    assert isinstance(network, torch.nn.Module)
