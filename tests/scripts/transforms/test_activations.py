"""Probabilities and classes from one, two and more output channels."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import AsDiscreted

from scripts.transforms.activations import LikeliestClassd, ProbabilitiesFromScoresd, probabilities


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


@pytest.mark.parametrize("classes", [1, 2, 5])
def test_the_likeliest_class_equals_monais_and_is_the_first_among_equals(classes):
    coarse = torch.randint(0, 4, (classes, 30, 40)) / 4  # many are equal
    scores = MetaTensor(coarse, meta={"filename_or_obj": "a.tif"})
    expected = AsDiscreted("pred", argmax=True)({"pred": scores.clone()})["pred"]
    found = LikeliestClassd()({"pred": scores})["pred"]
    torch.testing.assert_close(found.as_tensor(), expected.as_tensor(), rtol=0, atol=0)
    assert found.meta["filename_or_obj"] == "a.tif"


def test_results_of_another_name_leave_the_scores_as_they_were():
    scores = torch.randn(3, 4, 5)
    given = scores.clone()
    out = ProbabilitiesFromScoresd("pred", "prob")({"pred": scores})
    out = LikeliestClassd("prob", "classes")(out)
    assert out["pred"] is scores
    torch.testing.assert_close(scores, given, rtol=0, atol=0)
    torch.testing.assert_close(out["prob"], probabilities(scores), rtol=0, atol=0)
    torch.testing.assert_close(out["classes"], scores.argmax(0, keepdim=True).float(), rtol=0, atol=0)
