"""Entropy agrees with scipy, on any device layout; deviations of the inferer become an entry of their own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import stats

from scripts.transforms.activations import EmptyIfConstantd
from scripts.transforms.uncertainty import Entropyd, UnpackDeviationd, entropy


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_entropy_is_scipys_with_the_number_of_classes_as_base(classes):
    chances = np.random.default_rng(0).dirichlet(np.ones(classes), (5, 4)).astype(np.float32)  # (5, 4, K)
    found = entropy(chances.transpose(2, 0, 1))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found[0], stats.entropy(chances, base=classes, axis=-1), atol=1e-6)


def test_certain_pixels_have_the_entropy_0_and_equal_chances_1():
    assert entropy(np.array([[0.0, 0.5, 1.0], [1.0, 0.5, 0.0]])).tolist() == [[0, 1, 0]]


def test_a_single_channel_has_no_entropy():
    with pytest.raises(ValueError, match="at least 2 classes, got 1"):
        entropy(torch.rand(1, 4, 4))


def test_the_entropy_keeps_the_metadata_of_the_probabilities():
    item = Entropyd()({"prob": MetaTensor(torch.full((2, 3, 4), 0.5), meta={"filename_or_obj": "a.png"})})
    assert item["entropy"].meta["filename_or_obj"] == "a.png"
    assert item["entropy"].shape == (1, 3, 4)


def test_scores_without_deviation_stay_as_they_are():
    scores = torch.rand(2, 3, 4)
    assert UnpackDeviationd()({"pred": scores})["pred"] is scores
    item = UnpackDeviationd()({"pred": {"pred": scores, "deviation": scores[:1]}})
    assert item["pred"] is scores
    assert torch.equal(item["deviation"], scores[:1])


def test_a_constant_image_has_no_uncertainty():
    item = {"image": torch.ones(1, 3, 4), "prob": torch.full((2, 3, 4), 0.5), "deviation": torch.rand(1, 3, 4)}
    item = Entropyd()(EmptyIfConstantd("prob", zero_keys="deviation")(item))
    assert not item["entropy"].any()
    assert not item["deviation"].any()
