"""The network of the weights is written into the configurations, and its channels and sizes into the metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from monai.bundle import ConfigParser

from bundle.publishing.describe import describe, name_network
from scripts.networks.unet import RonnebergerUNet
from scripts.settings import ModelSettings

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
NETWORKS: dict[str, dict[str, Any]] = {
    "narrow, padded": {"features": [2, 4, 8], "padding": "same", "concat": "up_first", "norm": "batch"},
    "RGB, single output": {"in_channels": 3, "out_channels": 1, "features": [2, 4, 8], "up_features": [3, 5]},
    "size retained": {"features": [2, 4, 8, 16, 32], "retain_dim": True},
}


@pytest.mark.parametrize("name", ["train", "inference"])
@pytest.mark.parametrize("arguments", NETWORKS.values(), ids=NETWORKS)
def test_without_the_weights_the_configuration_builds_their_network(arguments: dict[str, Any], name: str) -> None:
    network = RonnebergerUNet(**arguments)
    settings = ModelSettings(in_channels=network.in_channels, out_channels=network.out_channels)
    text = name_network((CONFIGS / f"{name}.yaml").read_text(), network, settings)
    parser = ConfigParser(yaml.safe_load(text) | ({"ckpt_path": "absent.pt"} if name == "inference" else {}))
    assert parser.get_parsed_content("network_def").definition == network.definition


def test_the_paper_s_network_changes_nothing() -> None:
    text = (CONFIGS / "inference.yaml").read_text()
    assert name_network(text, RonnebergerUNet(), ModelSettings()) == text
    metadata = json.loads((CONFIGS / "metadata.json").read_text())
    assert describe(metadata, RonnebergerUNet(), ModelSettings()) == metadata


@pytest.mark.parametrize("arguments", NETWORKS.values(), ids=NETWORKS)
def test_the_network_takes_and_gives_what_the_metadata_say(arguments: dict[str, Any]) -> None:
    network = RonnebergerUNet(**arguments).eval()
    settings = ModelSettings(in_channels=network.in_channels, out_channels=network.out_channels)
    metadata = json.loads((CONFIGS / "metadata.json").read_text())
    form = describe(metadata, network, settings)["network_data_format"]
    image, pred = form["inputs"]["image"], form["outputs"]["pred"]
    for n in (1, 2, 5):
        size, expected = ([eval(side, {"n": n}) for side in part["spatial_shape"]] for part in (image, pred))
        with torch.no_grad():
            scores = network(torch.rand(1, image["num_channels"], *size))
        assert scores.shape[1:] == (pred["num_channels"], *expected)
    assert len(image["channel_def"]) == image["num_channels"]
    assert len(pred["channel_def"]) == pred["num_channels"]
