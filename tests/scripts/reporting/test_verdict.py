"""Remarks follow from figures by stated rules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scripts.reporting.cases import Cases
from scripts.reporting.gather import Run
from scripts.reporting.summary import summary_figures
from scripts.reporting.thresholds import Curve
from scripts.reporting.verdict import Remark, interval, judge

from .runs import history


def remarks(scores: list[float], **more: object) -> list[Remark]:
    return judge(Run(Path("r"), ("training",), history(scores), **more), Cases(), None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("scores", "kind", "part"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], "note", "Still improving"),
        ([0.1, 0.8, 0.9, 0.901, 0.9, 0.902], "good", "levelled off"),
        ([0.1, 0.9, 0.8, 0.7, 0.7, 0.6], "note", "fell after its best"),
        ([0.1, 0.2], "note", "Too few validations (2)"),
        ([0.0, 0.0, 0.0, 0.0, 0.0], "warn", "Hardly anything is found"),
    ],
)
def test_the_curve_of_a_training_is_judged(scores: list[float], kind: str, part: str) -> None:
    (found,) = remarks(scores)
    assert found.kind == kind
    assert part in found.text
    assert f"{max(scores):.3f} at epoch {scores.index(max(scores)) + 1} of {len(scores)}" in found.text


def test_a_training_without_validation_or_epoch_or_end_says_so() -> None:
    empty = judge(Run(Path("r"), ("training",)), Cases(), None)
    assert "not finished an epoch" in empty[0].text
    unvalidated = judge(Run(Path("r"), ("training",), [{"epoch": 1.0, "loss": 0.4}]), Cases(), None)
    assert "not been validated" in unvalidated[0].text
    record = {"seconds": None, "settings": {"max_epochs": "40"}}
    assert "2 of 40 epochs" in remarks([0.1, 0.2], record=record)[0].text


def test_a_class_that_is_hardly_found_is_named_with_its_dice() -> None:
    rows = [{"epoch": 1.0, "val_mean_dice": 0.5, "val_dice_cell": 0.9, "val_dice_debris": 0.04}]
    found = judge(Run(Path("r"), ("training",), rows), Cases(), None)[0]
    assert found.kind == "warn"
    assert "debris (0.04)" in found.text
    assert "cell" not in found.text


@pytest.mark.parametrize("score, named", [(0.0, False), (0.4, True)])
def test_scores_of_images_that_chose_the_weights_are_optimistic_unless_they_are_0(score: float, named: bool) -> None:
    table = {f"{k}.png": {"f1_0.5": score} for k in range(6)}
    run = Run(Path("r"), ("evaluation",), table=table, metrics={"split": "validation", "mean": {}})
    assert any("chose the weights" in remark.text for remark in judge(run, Cases(), None)) == named


@pytest.mark.parametrize(
    ("dice", "card"),
    [
        ({"background": 0.9, "cell": 0.4, "scar": 0.2}, ("Dice of the foreground", "0.300")),
        ({"background": 0.9, "cell": 0.4}, ("Dice of cell", "0.400")),
        ({"membrane": 0.9, "cell": 0.5}, ("mean Dice", "0.700")),
    ],
)
def test_cards_leave_the_background_out_of_the_dice(dice: dict[str, float], card: tuple[str, str]) -> None:
    mean = {"mean_dice": sum(dice.values()) / len(dice), **{f"dice_{name}": value for name, value in dice.items()}}
    rows = [{"epoch": 1.0, **{f"val_{name}": value for name, value in mean.items()}}]
    measured = summary_figures(Run(Path("r"), ("evaluation",), metrics={"mean": mean}))
    trained = summary_figures(Run(Path("r"), ("training",), rows))
    assert (measured[0]["name"], measured[0]["value"]) == card
    assert (trained[0]["name"], trained[0]["value"]) == (f"{card[0]}, best validation", card[1])


def test_few_validation_images_make_the_figure_uncertain() -> None:
    texts = [remark.text for remark in remarks([0.1, 0.2], split={"training": ["a"], "validation": ["b", "c"]})]
    assert any("Validation images: 2" in text and "uncertain" in text for text in texts)


@pytest.mark.parametrize(
    ("values", "used", "part"),
    [
        ([0.9] * 5, 0.5, "From 0.3 to 0.7 the threshold hardly matters"),
        ([0.6, 0.89, 0.9, 0.895, 0.6], 0.5, "From 0.4 to 0.6 the threshold hardly matters"),
        ([0.6, 0.7, 0.9, 0.7, 0.6], 0.5, "fits: F1 is 0.900 at 0.5 as used, and 0.900 at most."),
        ([0.6, 0.95, 0.9, 0.7, 0.6], 0.5, "Try --threshold 0.4"),
    ],
)
def test_the_threshold_is_judged_by_the_curve_around_it(values: list[float], used: float, part: str) -> None:
    curve = Curve("F1", [0.3, 0.4, 0.5, 0.6, 0.7], values, used, images=4)
    assert part in judge(Run(Path("r"), ("segmentation",)), Cases(), curve)[0].text


def test_a_network_that_finds_nothing_is_not_praised_for_a_flat_curve() -> None:
    curve = Curve("F1", [0.3, 0.5, 0.7], [0.0, 0.0, 0.0], 0.5, images=4)
    assert judge(Run(Path("r"), ("segmentation",)), Cases(), curve) == []


def test_the_interval_of_a_mean_holds_the_mean_and_narrows_with_more_images() -> None:
    scores = np.random.default_rng(1).random(400)
    few, many = interval(scores[:8].tolist()), interval(scores.tolist())
    assert few is not None
    assert many is not None
    assert few[1] < few[0] < few[2]
    assert many[2] - many[1] < (few[2] - few[1]) / 3
    assert interval([0.5, float("nan"), 0.5]) is None
