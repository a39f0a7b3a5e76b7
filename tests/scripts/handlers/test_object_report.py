"""The report on objects: by hand on rows of pixels, equal to the pure functions, and over processes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor

from scripts.handlers.em_report import EmReport
from scripts.handlers.object_report import COLUMNS, ObjectReport, measure_frame, summarise_frames
from scripts.handlers.reports import lowest
from scripts.io.files import read_csv
from scripts.metrics.objects import (
    THRESHOLDS,
    det_counts,
    det_score,
    instance_counts,
    instance_scores,
    seg_jaccards_of,
    seg_score,
)
from scripts.metrics.overlap import overlaps
from scripts.plot.evaluation import jaccard_figure
from tests.processes import in_two_processes

# image 1: an object with an IoU of 3/4, a missed object and a false object. image 2: an object found exactly
REFERENCES = [[4, 4, 4, 0, 0, 9, 9, 0], [2, 2, 0, 0, 0, 0, 0, 0]]
RESULTS = [[1, 1, 1, 1, 0, 0, 0, 5], [3, 3, 0, 0, 0, 0, 0, 0]]
MARKERS = [0, 1, 0, 0, 0, 2, 0, 0]


def item(name: str, result: Any, reference: Any, markers: Any = None) -> dict[str, Any]:
    """Make an image of one row, or (H, W), as in an evaluator."""
    label_images = {"pred_instances": result, "reference": reference, "markers": markers}
    tensors = {k: torch.as_tensor(np.atleast_2d(v))[None] for k, v in label_images.items() if v is not None}
    return {"image": MetaTensor(torch.zeros(1), meta={"filename_or_obj": name}), **tensors}


def by_hand() -> list[dict[str, Any]]:
    return [item("a/0.tif", RESULTS[0], REFERENCES[0], MARKERS), item("a/1.tif", RESULTS[1], REFERENCES[1])]


def evaluate(folder: Path, items: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
    evaluator = Engine(lambda _, one: [one])
    ObjectReport(folder, **options).attach(evaluator)
    evaluator.run(items)
    return json.loads((folder / "object_metrics.json").read_text())


def test_report_by_hand(tmp_path: Path) -> None:
    found = evaluate(tmp_path, by_hand())
    assert found["seg"] == pytest.approx((3 / 4 + 0 + 1) / 3)
    assert found["det"] == 1 - (10 + 1) / 20  # a marker is missed, an object has none; image 2 has no markers
    counts = ("images", "reference_objects", "result_objects", "images_with_markers", "markers", "seg_missed")
    assert [found[name] for name in counts] == [2, 3, 3, 1, 2, 1]
    assert [scores["threshold"] for scores in found["instances"]] == list(THRESHOLDS)
    at_half, at_most = found["instances"][0], found["instances"][-1]
    scores = {"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "mean_matched_iou": (3 / 4 + 1) / 2}
    assert at_half == pytest.approx({"threshold": 0.5, **scores, "matches": 2, "false": 1, "missed": 1})
    scores = {"precision": 1 / 3, "recall": 1 / 3, "f1": 1 / 3, "mean_matched_iou": 1}
    assert at_most == pytest.approx({"threshold": 0.9, **scores, "matches": 1, "false": 2, "missed": 2})
    assert found["worst"] == [{"image": "0.tif", "seg": 0.375}, {"image": "1.tif", "seg": 1}]


def test_tables_by_hand(tmp_path: Path) -> None:
    evaluate(tmp_path, by_hand())
    with (tmp_path / "objects_per_image.csv").open() as file:
        header, first, second = csv.reader(file)
    assert header == ["image", *COLUMNS]
    assert header[:5] == ["image", "reference_objects", "result_objects", "missed", "false"]
    assert header[5:9] == ["merged", "split", "seg", "det"]
    assert first == [
        "0.tif",
        "2",
        "2",
        "1",
        "1",
        "0",
        "0",
        "0.375",
        "0.45",
        *["0.5"] * 9,
        *["0.0"] * 6,
        "0.75",
    ]  # 3/4 > 0.5, 0.6, 0.7
    assert second == ["1.tif", "1", "1", *"0000", "1.0", "", *["1.0"] * 15, "1.0"]  # no markers, no DET
    assert (tmp_path / "objects_reference.csv").read_text().splitlines() == [
        "image,label,area,jaccard",
        "0.tif,9,2,0.0",
        "0.tif,4,3,0.75",
        "1.tif,2,2,1.0",
    ]


def frames(count: int = 4, size: int = 60) -> list[tuple[np.ndarray, np.ndarray]]:
    """Make frames of squares. Some are not found. The others are found exactly in frame 0, shifted in later frames."""
    rng = np.random.default_rng(0)
    made = []
    for k in range(count):
        reference = np.kron(np.arange(1, 26).reshape(5, 5), np.pad(np.ones((9, 9), int), (0, size // 5 - 9)))
        found = np.where(np.isin(reference, rng.integers(1, 26, 4)), 0, reference)
        result = np.roll(found, rng.integers(-4, 5, 2) * (k > 0), (0, 1))
        made.append((result, np.where(reference == 7, -1, reference)))
    return made


def test_the_report_equals_the_pure_functions(tmp_path: Path) -> None:
    pairs = frames()
    results, references = zip(*pairs, strict=True)
    markers = [np.where(reference > 0, reference, 0) for reference in references]
    items = [item(f"{k}.tif", *pair, mark) for k, (pair, mark) in enumerate(zip(pairs, markers, strict=True))]
    found = evaluate(tmp_path, items)
    assert found["seg"] == seg_score(results, references)
    assert found["det"] == det_score(results, markers)
    expected = instance_scores(results, references)
    for k, scores in enumerate(found["instances"]):
        assert scores == pytest.approx({name: values[k] for name, values in expected.items()}, nan_ok=True)
    rows = read_csv(tmp_path / "objects_reference.csv")
    jaccards = [float(row["jaccard"]) for row in rows]
    assert np.mean(jaccards) == pytest.approx(found["seg"], abs=1e-6)
    assert jaccards == sorted(jaccards)
    assert len(rows) == found["reference_objects"] == 4 * 24


def test_a_frame_holds_what_the_pure_functions_give_also_partly_annotated() -> None:
    for k, (result, reference) in enumerate(frames()):
        markers = np.where(reference > 0, reference, 0)
        mask = np.random.default_rng(k).random(reference.shape) < 0.8
        for valid in (None, mask, np.ones(reference.shape)):
            for truth in (reference, markers):
                measured = measure_frame(result, truth, markers, valid)
                labels, areas = np.unique(truth[truth > 0], return_counts=True)
                assert (measured["labels"], measured["areas"]) == (labels.tolist(), areas.tolist())
                assert measured["jaccards"] == seg_jaccards_of(overlaps(result, truth)).tolist()
                assert measured["instances"] == instance_counts(result, truth, valid).tolist()
                assert measured["det"] == det_counts(result, markers).tolist()
                assert measured["results"] == len(set(result[result > 0].tolist()))


def test_pixels_that_are_not_annotated_make_no_object_and_no_false_object(tmp_path: Path) -> None:
    result, reference = [1, 1, 0, 5, 5], [3, 3, 0, -1, -1]
    found = evaluate(tmp_path, [item("0.tif", result, reference)])
    assert (found["reference_objects"], found["seg"], found["instances"][0]["precision"]) == (1, 1, 1)
    known = item("0.tif", result, [3, 3, 0, 0, 0])
    assert evaluate(tmp_path, [known])["instances"][0]["precision"] == 0.5
    known["mask"] = torch.tensor([[[1.5, 1.5, 1.5, 0, 0]]])
    assert evaluate(tmp_path, [known], valid_key="mask")["instances"][0]["precision"] == 1


def test_labels_may_come_as_floats(tmp_path: Path) -> None:
    """Image readers give floats."""
    expected = evaluate(tmp_path, by_hand())
    floats = [{k: v.float() for k, v in one.items() if k != "image"} | {"image": one["image"]} for one in by_hand()]
    assert evaluate(tmp_path, floats) == expected
    assert read_csv(tmp_path / "objects_reference.csv")[0]["label"] == "9"


def test_what_is_undefined_is_null_or_empty(tmp_path: Path) -> None:
    found = evaluate(tmp_path, [item("0.tif", [0, 0], [0, 0])], split="test")
    assert (found["seg"], found["det"], found["instances"][0]["f1"], found["worst"]) == (None, None, None, [])
    assert read_csv(tmp_path / "objects_per_image.csv")[0]["seg"] == ""
    assert summarise_frames([], [], "test")["images"] == 0
    ObjectReport(tmp_path / "none").write([], [])
    assert (tmp_path / "none" / "object_iou.png").is_file()


def test_missing_and_misshapen_entries_are_named(tmp_path: Path) -> None:
    whole = item("a/7.tif", [1, 0], [1, 0])
    with pytest.raises(KeyError, match="ObjectReport: no pred_instances among image, reference"):
        evaluate(tmp_path, [{k: v for k, v in whole.items() if k != "pred_instances"}])
    with pytest.raises(ValueError, match=r"a/7.tif: reference must be .* \(1, H, W\), got the shape \(1, 2\)"):
        evaluate(tmp_path, [{**whole, "reference": whole["reference"][0]}])


def test_the_worst_five_are_named_worst_first() -> None:
    names, scores = list("abcdefg"), [0.5, 0.1, float("nan"), 0.9, 0.3, 0.2, 0.7]
    assert [row["image"] for row in lowest(names, scores, "seg")] == ["b", "f", "e", "a", "g"]


# ---------------------------------------------------------------- the figure


def test_every_object_is_in_one_bar_and_the_missed_ones_have_a_colour() -> None:
    jaccards = np.array([0, 0, 0, 0.04, 0.52, 0.54, 0.98, 1.0])
    (ax,) = jaccard_figure(jaccards, "8 objects").axes
    missed, *found = ax.patches
    assert (missed.get_x(), missed.get_height()) == (0, 3)
    assert {bar.get_x().round(2): bar.get_height() for bar in found if bar.get_height()} == {0: 1, 0.5: 2, 0.95: 2}
    assert len(found) == 20
    assert found[0].get_y() == 3  # on top of the missed objects
    assert missed.get_facecolor() != found[0].get_facecolor()
    (seg,) = ax.lines
    assert seg.get_xdata()[0] == pytest.approx(jaccards.mean())
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert set(texts) == {"not covered, Jaccard index 0: 3", "more than half covered: 5", "SEG 0.3850"}


# ---------------------------------------------------------------- processes


def _evaluate_both(folder: Path, share: slice) -> None:
    """Write both reports for the images of a process."""
    items = []
    for k, (result, reference) in enumerate(frames(3)):
        p = torch.from_numpy(np.where(result > 0, 0.8, 0.1))[None]
        pixels = {"pred": torch.cat([1 - p, p]), "label": torch.from_numpy(np.sign(reference))[None].clip(0)}
        items.append({**item(f"{k}.tif", result, reference, reference.clip(0) if k else None), **pixels})
    evaluator = Engine(lambda _, one: [one])
    ObjectReport(folder).attach(evaluator)
    EmReport(folder).attach(evaluator)
    evaluator.run(items[share])


def _work(rank: int, folder: Path) -> None:
    """Give rank 0 the images 0 and 2, rank 1 the images 1 and 0, as a sampler does for shares of equal size."""
    _evaluate_both(folder / "two", slice(0, 3, 2) if rank == 0 else slice(1, None, -1))


@pytest.mark.slow
def test_two_processes_report_as_one(tmp_path: Path) -> None:
    in_two_processes(_work, tmp_path)
    _evaluate_both(tmp_path / "one", slice(None))
    for name in ("object_metrics.json", "em_metrics.json", "objects_per_image.csv", "em_metrics_per_slice.csv"):
        assert (tmp_path / "two" / name).read_text() == (tmp_path / "one" / name).read_text()


def test_a_frame_travels_as_json() -> None:
    measured = measure_frame(*(np.array([row]) for row in (RESULTS[0], REFERENCES[0], MARKERS)))
    assert json.loads(json.dumps(measured)) == measured
