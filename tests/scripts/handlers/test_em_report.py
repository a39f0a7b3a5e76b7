"""The report on membranes: by hand on rows of five pixels, and equal to the pure functions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from PIL import Image
from scipy.ndimage import gaussian_filter

from scripts.handlers.em_report import COLUMNS, EmReport, measure_slice, slice_row, stack_warping, summarise_stack
from scripts.io.files import read_csv
from scripts.metrics.membranes import THRESHOLDS, VRand, stack_curves
from scripts.metrics.warping import warping_error
from scripts.plot.evaluation import threshold_figure
from tests.scripts.metrics.masks import challenge_curves

TWO_CELLS = [1, 1, 0, 1, 1]


def item(name: str, cell: Sequence[float], label: Sequence[int]) -> dict[str, Any]:
    """Make a slice of one row as in an evaluator: probabilities of membrane and cell, class map."""
    p = torch.tensor([[cell]], dtype=torch.float32)
    image = MetaTensor(torch.zeros(1, 1, len(cell)), meta={"filename_or_obj": name})
    return {"image": image, "pred": torch.cat([1 - p, p]), "label": torch.tensor([[label]])}


def evaluate(folder: Path, items: list[dict[str, Any]], **options: Any) -> tuple[dict, list[dict[str, str]]]:
    evaluator = Engine(lambda _, one: [one])
    EmReport(folder, **options).attach(evaluator)
    evaluator.run(items)
    return json.loads((folder / "em_metrics.json").read_text()), read_csv(folder / "em_metrics_per_slice.csv")


def planes(count: int = 3, size: int = 40) -> list[tuple[np.ndarray, np.ndarray]]:
    """Make proposals with holes in the membranes, and truths of several cells."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        truth = gaussian_filter(rng.normal(size=(size, size)), 3) > -0.02
        soft = gaussian_filter(truth.astype(float), 1) + 0.3 * rng.normal(size=truth.shape)
        made.append((soft.clip(0, 1).astype(np.float32), truth))
    return made


def test_report_by_hand(tmp_path: Path) -> None:
    """The second slice merges both cells: 16 pairs are in one region instead of 8, and 1 membrane pixel is lost."""
    items = [item("a/0.png", TWO_CELLS, TWO_CELLS), item("a/1.png", [1] * 5, TWO_CELLS)]
    found, rows = evaluate(tmp_path, items)
    assert (found["split"], found["slices"]) == ("validation", 2)
    # one region has no information: precision 1, recall 0, as in the challenge's program
    assert found["v_rand"] == pytest.approx({"score": (1 + 2 / 3) / 2, "threshold": 0, "precision": 0.75, "recall": 1})
    assert found["v_info"] == pytest.approx({"score": (1 + 0) / 2, "threshold": 0, "precision": 1, "recall": 0.5})
    assert found["rand_error"]["error"] == pytest.approx(1 - 2 * 16 / (2 * 16 + 8))
    assert found["pixel_error"]["error"] == pytest.approx(1 - 2 * 8 / (2 * 8 + 1))
    assert found["warping_error"] == {"error": 0.1, "threshold": 0.0, "splits": 0, "mergers": 1}
    assert found["worst"] == [
        {"image": "1.png", "v_rand_f": pytest.approx(2 / 3)},
        {"image": "0.png", "v_rand_f": pytest.approx(1)},
    ]
    assert [row.pop("image") for row in rows] == ["0.png", "1.png"]
    first, second = ({name: float(value) for name, value in row.items()} for row in rows)
    assert first == {**dict.fromkeys(COLUMNS, 1.0), "pixel_error": 0, "warping_error": 0}
    expected = (0.5, 1, 2 / 3, 1, 0, 0, 2 / 3, 1 - 8 / 9, 1 / 5)
    assert second == pytest.approx(dict(zip(COLUMNS, expected, strict=True)), abs=1e-6)


def test_slices_are_measured_at_the_threshold_that_is_best_for_all(tmp_path: Path) -> None:
    """One slice needs 0.6 for its membrane, the others lose a cell at 0.3. For all together 0.0 is best."""
    faint = item("0.png", [1, 1, 0.55, 1, 1], TWO_CELLS)
    alone, _ = evaluate(tmp_path / "alone", [faint])
    assert alone["v_rand"] == {"score": 1, "threshold": 0.6, "precision": 1, "recall": 1}
    weak = [item(f"{k}.png", [1, 1, 0, 0.25, 0.25], TWO_CELLS) for k in (1, 2)]
    found, rows = evaluate(tmp_path / "all", [faint, *weak])
    assert found["v_rand"]["threshold"] == 0
    assert [float(row["v_rand_f"]) for row in rows] == pytest.approx([2 / 3, 1, 1], abs=1e-6)
    assert found["v_rand"]["score"] == pytest.approx((2 / 3 + 1 + 1) / 3)


def test_the_stack_equals_the_pure_functions() -> None:
    stack = planes()
    measured = json.loads(json.dumps([measure_slice(*plane) for plane in stack]))  # as between processes
    expected = challenge_curves(stack)
    for name, curve in stack_curves(measured).items():
        for part in ("precision", "recall", "f"):
            np.testing.assert_array_equal(getattr(curve, part), getattr(expected[name], part))
    warping, warped = stack_warping(measured), warping_error(stack)
    assert warping is not None
    assert (warping.error, warping.best_threshold) == (warped.error, warped.best_threshold)
    assert 0 < warping.error < 0.1
    found = summarise_stack(["0", "1", "2"], measured, "test")
    assert found["v_rand"]["score"] == expected["v_rand"].score
    assert found["pixel_error"]["error"] == expected["pixel"].error
    assert found["curves"]["v_info"]["f"] == expected["v_info"].f.tolist()
    assert found["curves"]["warping"]["error"] == warped.errors.tolist()
    assert found["curves"]["thresholds"] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]


def test_the_row_of_a_slice_equals_a_stack_of_one_slice() -> None:
    (plane,) = planes(1)
    measured = measure_slice(*plane)
    row, curves = slice_row(measured, stack_curves([measured]), stack_warping([measured])), challenge_curves([plane])
    assert (row["v_rand_f"], row["v_info_f"]) == (curves["v_rand"].score, curves["v_info"].score)
    assert (row["rand_f"], row["pixel_error"]) == (curves["rand"].score, curves["pixel"].error)
    assert row["warping_error"] == warping_error([plane]).error


def test_the_report_agrees_with_the_metric_of_the_engine(tmp_path: Path) -> None:
    items = []
    for k, (probability, truth) in enumerate(planes()):
        p = torch.from_numpy(probability)[None]
        image = MetaTensor(torch.zeros(1), meta={"filename_or_obj": f"{k}.png"})
        label = torch.from_numpy(truth[None].astype(int))
        items.append({"image": image, "pred": torch.cat([1 - p, p]), "label": label})
    evaluator = Engine(lambda _, one: [one])
    VRand().attach(evaluator, "v_rand")
    EmReport(tmp_path, warping=False).attach(evaluator)
    evaluator.run(items)
    found = json.loads((tmp_path / "em_metrics.json").read_text())
    assert found["v_rand"]["score"] == pytest.approx(evaluator.state.metrics["v_rand"], rel=1e-6)
    assert found["warping_error"] is None
    assert {row["warping_error"] for row in read_csv(tmp_path / "em_metrics_per_slice.csv")} == {""}


def test_pixels_that_are_not_annotated_do_not_count(tmp_path: Path) -> None:
    """Two pixels are right and one is wrong. The last four have no influence. The warping error is undefined."""
    label = [1, 1, 0, -1, -1, -1, -1]
    for cell in ([1] * 7, [1, 1, 1, 0, 0, 0, 0]):
        found, rows = evaluate(tmp_path, [item("0.png", cell, label)])
        assert found["pixel_error"]["error"] == pytest.approx(1 - 2 * 2 / (2 * 2 + 1))
        assert found["v_rand"]["score"] == found["rand_error"]["precision"] == 1
        assert found["warping_error"] is None
        assert rows[0]["warping_error"] == ""
    weighted = item("0.png", [1] * 5, [1, 1, 0, 0, 1])
    weighted["label"] = torch.cat([weighted["label"], torch.tensor([[[2, 2, 2, 0, 0]]])])
    assert evaluate(tmp_path, [weighted])[0]["pixel_error"]["error"] == pytest.approx(1 / 5)


def test_one_partly_annotated_slice_leaves_the_warping_error_of_the_stack_undefined(tmp_path: Path) -> None:
    whole, partly = item("0.png", TWO_CELLS, TWO_CELLS), item("1.png", TWO_CELLS, [1, 1, 0, 1, -1])
    assert evaluate(tmp_path, [whole])[0]["warping_error"]["error"] == 0
    found, rows = evaluate(tmp_path, [whole, partly])
    assert found["warping_error"] is None
    assert [row["warping_error"] for row in rows] == ["", ""]
    assert (
        "a partly annotated slice makes the warping error of the whole stack undefined" in found["definitions"]["null"]
    )


def test_probabilities_of_cells_alone_and_another_channel(tmp_path: Path) -> None:
    two = item("0.png", [1, 1, 0.5, 1, 1], TWO_CELLS)
    one = {**two, "pred": two["pred"][1:]}
    swapped = {**two, "pred": two["pred"].flip(0), "label": 1 - two["label"]}
    expected = evaluate(tmp_path, [two])[0]
    assert expected["v_rand"]["score"] == 1
    assert evaluate(tmp_path, [one])[0] == evaluate(tmp_path, [swapped], channel=0)[0] == expected


def test_scores_that_are_no_probabilities_are_reported_with_their_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a/7\.png: expected probabilities 0 \.\. 1, .*ProbabilitiesFromScoresd"):
        evaluate(tmp_path, [item("a/7.png", [3, 0, 0, 0, -2], TWO_CELLS)])


def test_without_cells_or_slices_the_files_say_so(tmp_path: Path) -> None:
    found, rows = evaluate(tmp_path, [item("0.png", [0] * 5, [0] * 5)])
    assert found["v_rand"]["score"] is found["pixel_error"]["error"] is None
    assert found["worst"] == []
    assert rows[0]["v_rand_f"] == ""
    EmReport(tmp_path / "none").write([], [])
    found = json.loads((tmp_path / "none" / "em_metrics.json").read_text())
    assert (found["slices"], found["v_info"]["score"], found["warping_error"]) == (0, None, None)
    assert (tmp_path / "none" / "threshold_curves.png").is_file()


# ---------------------------------------------------------------- the figure


def test_the_figure_marks_the_best_of_every_measure() -> None:
    stack = planes()
    curves, warping = challenge_curves(stack), warping_error(stack)
    axes = threshold_figure(curves, warping, "three slices").axes
    shown = [[curves["v_rand"]], [curves["v_info"]], [curves["rand"], curves["pixel"]]]
    for ax, best in zip(axes[:3], shown, strict=True):
        rings = [tuple(map(float, (*x, *y))) for x, y in (line.get_data() for line in ax.lines) if len(x) == 1]
        assert rings == [(curve.thresholds[curve.best], curve.score) for curve in best]
        texts = " ".join(text.get_text() for text in ax.get_legend().get_texts())
        assert all(f"best {curve.score:.4f} at {curve.best_threshold:.1f}" in texts for curve in best)
        lines = [line.get_ydata() for line in ax.lines if len(line.get_xdata()) == len(THRESHOLDS)]
        assert any(np.array_equal(best[0].f, line) for line in lines)
        assert ax.get_ylim()[0] == 0
    assert f"warping error (best {warping.error:.6f}" in axes[3].get_legend().get_texts()[-1].get_text()
    assert len(threshold_figure(curves).axes) == 3


def test_a_perfect_proposal_can_be_drawn(tmp_path: Path) -> None:
    evaluate(tmp_path, [item("0.png", TWO_CELLS, TWO_CELLS)], split="whole folder")
    with Image.open(tmp_path / "threshold_curves.png") as drawn:
        assert drawn.size == (920, 890)
