"""Rounds, ratios and goals by hand."""

from __future__ import annotations

import time

import pytest
import torch

from benchmarks.measure import Goal, MatrixProducts, Row, Times, take_turns


def test_ways_run_in_turn_after_a_warm_up_and_preparations_are_not_measured():
    order: list[str] = []
    ways = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    before = {"b": lambda: (order.append("pause"), time.sleep(0.2))}
    times = take_turns(ways, repeats=2, warm_up=1, before=before)
    assert order == ["a", "pause", "b"] * 3
    assert [len(values) for values in times.values()] == [2, 2]
    assert max(times["b"]) < 0.2


def test_a_ratio_is_the_median_of_the_ratios_of_the_rounds():
    row = Row("work", Times("ours", [1, 2, 4]), Times("theirs", [10, 10, 12]), Times("limit", [0.5, 0.5, 1]))
    assert row.times_as_fast == (5, 3, 10)
    assert row.share == (0.25, 0.25, 0.5)


def test_sides_with_unequal_rounds_are_compared_by_their_medians():
    assert Row("work", Times("ours", [1, 2, 3]), Times("theirs", [8])).times_as_fast == (4, 4, 4)


@pytest.mark.parametrize(
    "goal, reached",
    [
        (Goal("times", 4.0), True),
        (Goal("times", 4.1), False),
        (Goal("not_slower", 0.02), True),
        (Goal("share", 0.5), True),
        (Goal("share", 0.6), False),
        (Goal("seconds", 2), True),
        (Goal("seconds", 1.9), False),
        (Goal("seconds_more", 1), True),
        (Goal("seconds_more", 0.9), False),
        (Goal("deviation", 0.1), True),
        (Goal("deviation", 0.04), False),
        (Goal("waiting", 0.05), False),
    ],
)
def test_a_goal_is_reached_or_missed(goal, reached):
    figures = {"deviation": 0.05, "waiting": 0.05}
    row = Row("work", Times("ours", [2]), Times("theirs", [8]), Times("limit", [1]), (goal,), figures=figures)
    assert row.reached() is reached
    assert Row("work", Times("ours", [2])).reached() is None


def test_a_way_below_the_tolerance_is_slower():
    assert not Row("work", Times("ours", [1]), Times("theirs", [0.97]), None, (Goal("not_slower", 0.02),)).reached()


def test_the_limit_is_the_time_of_the_same_number_of_operations():
    products = MatrixProducts(torch.float32, torch.device("cpu"), size=10)
    products()
    assert products.limit([1.0, 3.0], operations=4000) == ("matrix products", [2.0, 6.0])
