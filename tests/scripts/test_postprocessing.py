"""Probabilities from one, two and more outputs."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from scripts.postprocessing import ProbabilitiesFromScoresd, probabilities


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_several_outputs_are_a_softmax(classes):
    scores = torch.randn(classes, 4, 5)
    assert torch.allclose(probabilities(scores), torch.softmax(scores, 0))


def test_one_output_is_a_sigmoid_with_its_complement():
    scores = torch.randn(1, 4, 5)
    both = probabilities(scores)
    assert both.shape == (2, 4, 5)
    assert torch.allclose(both[1], torch.sigmoid(scores[0]))
    assert torch.allclose(both.sum(0), torch.ones(4, 5))


def test_half_precision_scores_give_float32_and_keep_their_metadata():
    scores = MetaTensor(torch.randn(2, 4, 5).bfloat16(), meta={"filename_or_obj": "a.tif"})
    out = ProbabilitiesFromScoresd(keys="pred")({"pred": scores})["pred"]
    assert out.dtype == torch.float32
    assert out.meta["filename_or_obj"] == "a.tif"
