"""Train by `configs/train.yaml` on a GPU, and resume a training on another kind of device."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow

from bundle.datasets.synthetic_em import synthetic_section
from scripts.handlers.checkpoints import load_weights
from scripts.inferers.overlap_tile import OverlapTileInferer
from scripts.networks.unet import RonnebergerUNet
from tests.configs.conftest import CONFIGS, ROOT, write_pairs
from tests.gpu.conftest import image, relative

pytest.importorskip("tensorboard")
pytest.importorskip("matplotlib")
FEATURES = (4, 8, 16, 32, 64)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four synthetic sections of 96 x 80 pixels."""
    rng = np.random.default_rng(0)
    return write_pairs(tmp_path_factory.mktemp("data"), (synthetic_section(rng, (96, 80)) for _ in range(4)))


def train(folder: Path, data: Path, device: str, epochs: int, **changes: object) -> ConfigWorkflow:
    """Train as `monai.bundle run` does, and return the workflow."""
    workflow = ConfigWorkflow(
        config_file=str(CONFIGS / "train.yaml"),
        meta_file=str(CONFIGS / "metadata.json"),
        logging_file=False,
        workflow_type="train",
        bundle_root=str(ROOT),
        dataset_dir=str(data),
        output_dir=str(folder / "output"),
        model_dir=str(folder / "models"),
        label_kind="instances",
        device=torch.device(device),
        input_size=188,
        num_workers=0,
        max_epochs=epochs,
        val_interval=2,
        **{"network_def#features": list(FEATURES)},
        **changes,
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    return workflow


@pytest.mark.parametrize(
    "first, second",
    [
        ("cpu", "cpu"),
        pytest.param("cuda", "cpu", marks=pytest.mark.gpu),
        pytest.param("cpu", "cuda", marks=pytest.mark.gpu),
    ],
)
def test_a_training_goes_on_across_devices(first, second, data, tmp_path):
    for resumed, device in enumerate((first, second, first)):
        workflow = train(tmp_path, data, device, 2 * (resumed + 1), resume=resumed > 0)
        trainer = workflow.trainer
        assert trainer.state.epoch == 2 * (resumed + 1)
        assert trainer.state.iteration == 3 * trainer.state.epoch  # three of four images train
        assert {parameter.device.type for parameter in trainer.network.parameters()} == {device}
        buffers = [state["momentum_buffer"] for state in trainer.optimizer.state.values()]
        assert {buffer.device.type for buffer in buffers} == {device}
    with (tmp_path / "output" / "history.csv").open(newline="") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert len(losses) >= 3
    assert all(math.isfinite(loss) for loss in losses)


def test_weights_of_a_training_predict_the_same_everywhere(device, data, tmp_path):
    train(tmp_path, data, device.type, 2)
    scores = []
    for where in ("cpu", device):
        network = RonnebergerUNet(features=FEATURES).to(where).eval()
        load_weights(network, tmp_path / "models" / "model.pt")
        with torch.no_grad():
            scores.append(OverlapTileInferer()(image().to(where), network))
    assert all(value.isfinite().all() for value in scores)
    assert relative(scores[1], scores[0]) < 1e-4
