"""Probabilities and classes from one, two and more output channels."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import AsDiscreted

from scripts.transforms.activations import (
    EmptyIfConstantd,
    LikeliestClassd,
    ProbabilitiesFromScoresd,
    probabilities,
)


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


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scores_that_are_no_numbers_are_an_error_of_their_image(value: float, dtype: torch.dtype) -> None:
    scores = MetaTensor(torch.zeros(2, 5, 6, dtype=dtype), meta={"filename_or_obj": "in/cells.png"})
    scores[1, 2, 3] = value
    with pytest.raises(ValueError, match=r"in/cells\.png: 1 of 60 scores.*NaN or infinite"):
        ProbabilitiesFromScoresd("pred")({"pred": scores})


def test_large_scores_are_numbers() -> None:
    scores = torch.full((2, 3, 3), 3e38)
    torch.testing.assert_close(ProbabilitiesFromScoresd("pred")({"pred": scores})["pred"], torch.full((2, 3, 3), 0.5))


def test_an_image_of_one_grey_value_is_background_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    image = MetaTensor(torch.full((1, 4, 4), 7.0), meta={"filename_or_obj": "in/blank.png"})
    cells = torch.tensor([0.1, 0.9]).reshape(2, 1, 1).expand(2, 4, 4)
    empty = EmptyIfConstantd("prob")
    for _ in range(2):
        found = empty({"source": image, "image": torch.zeros(1, 4, 4), "prob": cells})["prob"]
    assert found[0].min() == 1
    assert found[1].max() == 0
    assert caplog.text.count("in/blank.png") == 1
    image[0, 0, 0] = 8
    torch.testing.assert_close(empty({"source": image, "prob": cells})["prob"], cells)


def test_channels_of_one_grey_value_each_are_constant() -> None:
    image = torch.stack([torch.zeros(2, 2), torch.ones(2, 2)])
    cells = torch.tensor([0.1, 0.9]).reshape(2, 1, 1).expand(2, 2, 2)
    assert EmptyIfConstantd("prob")({"image": image, "prob": cells})["prob"][1].max() == 0
