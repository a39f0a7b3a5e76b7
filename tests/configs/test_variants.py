"""Every published variant in `configs/variant_*.yaml` has the right parameters, and trains a step from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from scripts.handlers.history import read_history
from tests.configs.conftest import CONFIGS, SMALL, write_pairs

# name: (input shape, output shape for the smallest input, parameters)
VARIANTS = {
    "release_net": ((1, 188), (2, 4), 31_100_354),
    "padded_batch_norm": ((1, 64), (1, 64), 2_161_361),
    "retain_dim": ((3, 188), (1, 188), 31_031_745),
    "rgb_ten_classes": ((3, 188), (10, 4), 31_032_330),
    "oct_fluid": ((1, 188), (2, 4), 31_030_658),
    "no_weight_map": ((1, 188), (2, 4), 31_030_658),
    "plugin_weight_map": ((1, 188), (2, 4), 31_030_658),
    "border_everywhere": ((1, 188), (2, 4), 31_030_658),
    "weights_after_warp": ((1, 188), (2, 4), 31_030_658),
    "adam": ((1, 188), (2, 4), 31_030_658),
    "fast": ((1, 188), (2, 4), 31_030_658),
    "laptop": ((1, 188), (2, 4), 1_940_834),
    "simard_elastic": ((1, 188), (2, 4), 31_030_658),
    "monai_elastic": ((1, 188), (2, 4), 31_030_658),
    "no_elastic": ((1, 188), (2, 4), 31_030_658),
    "padded": ((1, 64), (2, 64), 31_030_658),
    "authors_stride": ((1, 188), (2, 4), 31_030_658),
}


def test_every_variant_is_tested():
    assert {p.stem.removeprefix("variant_") for p in CONFIGS.glob("variant_*.yaml")} == set(VARIANTS)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_network_has_its_shape_and_size(name):
    parser = ConfigParser.load_config_files([str(CONFIGS / "train.yaml"), str(CONFIGS / f"variant_{name}.yaml")])
    (channels, size), (classes, out), parameters = VARIANTS[name]
    with torch.device("meta"):  # shapes without numbers
        network = ConfigParser(parser).get_parsed_content("network_def").eval()
        assert network(torch.zeros(1, channels, size, size)).shape == (1, classes, out, out)
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.fixture(scope="session")
def colour_dataset(tmp_path_factory) -> Path:
    """Two RGB images with labels of the classes 0 to 9."""
    rng = np.random.default_rng(0)
    pairs = ((rng.integers(0, 255, (48, 64, 3), np.uint8), rng.integers(0, 10, (48, 64), np.uint8)) for _ in range(2))
    return write_pairs(tmp_path_factory.mktemp("colour"), pairs)


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_a_training_step_from_files(name, tiny_dataset, colour_dataset, tmp_path, run_bundle):
    channels, size = VARIANTS[name][0]
    run_bundle(
        "train.yaml",
        f"variant_{name}.yaml",
        dataset_dir=str(colour_dataset if channels == 3 else tiny_dataset),
        output_dir=str(tmp_path / "out"),
        model_dir=str(tmp_path / "models"),
        **{**SMALL, "input_size": size},
        max_epochs=1,
        val_interval=1,
        **({"label_kind": "binary"} if channels == 3 and name != "rgb_ten_classes" else {}),
        **({"output_size": size} if name in ("padded", "padded_batch_norm", "retain_dim") else {}),
    )
    (row,) = read_history(tmp_path / "out" / "history.csv")
    assert np.isfinite(row["loss"])
    assert 0 <= row["val_mean_dice"] <= 1
    assert (tmp_path / "models" / "model.pt").is_file()
