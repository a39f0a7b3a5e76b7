"""`benchmarks.depth`: levels whose output is ignored contribute nothing, and silent feature maps are counted."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.depth import contributions
from scripts.handlers.checkpoints import save_weights
from scripts.networks.unet import RonnebergerUNet
from scripts.segmenter import Segmenter
from scripts.settings import ModelSettings

IMAGES = [np.random.default_rng(0).random((70, 90))]


def _measured(network, folder):
    save_weights(network, folder / "model.pt", ModelSettings(class_names=["background", "cell"]))
    return contributions(Segmenter(folder / "model.pt"), IMAGES)


def test_a_level_whose_weights_are_zero_contributes_nothing_and_the_levels_above_do(tmp_path):
    torch.manual_seed(0)
    network = RonnebergerUNet(features=(4, 6, 8, 10, 12)).eval()
    with torch.no_grad():
        network.expansive[0].convolutions[0].weight[:, 10:] = 0  # the channels of the level below come after the skip
    moved, silent = _measured(network, tmp_path)
    assert moved[0] == 0
    assert min(moved[1:]) > 0
    assert silent < 1


def test_feature_maps_below_zero_everywhere_are_silent(tmp_path):
    torch.manual_seed(0)
    network = RonnebergerUNet(features=(4, 6, 8, 10, 12)).eval()
    known = _measured(network, tmp_path)[1]
    with torch.no_grad():
        network.scores.bias += 1  # concerns no feature map
        last = network.expansive[-1].convolutions[2]
        last.bias -= 1e3
    maps = 2 * sum((4, 6, 8, 10, 12)) + 2 * sum((4, 6, 8, 10))
    assert _measured(network, tmp_path)[1] > known
    assert _measured(network, tmp_path)[1] >= 4 / maps
