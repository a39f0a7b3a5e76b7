"""The write-up's loop makes correct samples, and the workflow is measured during its training."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import augmentation, training, weight_map
from benchmarks.measure import Setup
from bundle.datasets.sample import sample


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    monkeypatch.setattr(training, "sample", partial(sample, size=256, train=4, test=0))
    return Setup(1, torch.device("cpu"), None, tmp_path, quick=True)


def test_the_write_up_s_loop_deforms_image_and_label_together_and_weights_the_deformed_label(setup):
    loop = training.WriteUpLoop(setup, training.training_data(setup), 316, augmentation.blur_by_axes)
    loop.images = [mask.astype(np.float32) for mask in loop.masks]  # images equal to their labels
    image, label, weight = loop.sample()
    assert image.shape == (316, 316)
    assert label.shape == weight.shape == (132, 132)
    inner = image[92:-92, 92:-92]
    assert ((inner > 0.5) == label).mean() > 0.95  # all but edges, where the image is interpolated
    np.testing.assert_allclose(weight, weight_map.ours(label), atol=1e-4)
    assert np.isfinite(loop())


def test_waiting_for_data_is_a_part_of_each_iteration(setup):
    whole, waits = training.workflow_times(setup, training.training_data(setup), 252)
    assert len(whole) == len(waits) == 3
    assert min(waits) >= 0
    assert all(wait < spent for wait, spent in zip(waits, whole, strict=True))
