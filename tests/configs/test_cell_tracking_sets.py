"""The cell tracking configurations train, select by SEG and report, on a made set in the challenge's layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from skimage.measure import regionprops
from skimage.segmentation import expand_labels

from bundle.datasets.synthetic_em import synthetic_section
from scripts.handlers.history import read_history
from scripts.metrics.objects import seg_score
from tests.configs.conftest import SMALL

FRAMES = {
    "training_frames": {"sequences": "01", "reference": "silver", "frames": "0-2"},
    "validation_frames": {"sequences": "01", "reference": "silver", "frames": "4-5"},
}


@pytest.fixture(scope="module")
def challenge_set(tmp_path_factory) -> Path:
    """Six frames of 96 x 80 pixels, LZW-compressed uint16, all silver, frame 5 gold; every cell has a marker."""
    root, rng = tmp_path_factory.mktemp("challenge"), np.random.default_rng(1)
    for k in range(6):
        image, labels = synthetic_section(rng, (96, 80))
        labels = expand_labels(labels, 5)  # touching cells
        markers = np.zeros_like(labels)
        for cell in regionprops(labels):
            markers[tuple(cell.coords[len(cell.coords) // 2])] = cell.label
        for folder, name, pixels in (
            ("01", f"t{k:03d}", image),
            ("01_ST/SEG", f"man_seg{k:03d}", np.where(labels == 1, 0, labels)),  # a cell without an outline
            ("01_GT/TRA", f"man_track{k:03d}", markers),
            *([("01_GT/SEG", f"man_seg{k:03d}", labels)] if k == 5 else []),
        ):
            (root / folder).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(root / folder / f"{name}.tif", pixels.astype(np.uint16), compression="lzw")
    return root


@pytest.mark.slow
@pytest.mark.parametrize("data", ["data_phc_u373.yaml", "data_dic_hela.yaml"])
def test_trains_with_seg_as_key_and_reports_what_the_challenge_counts(data, challenge_set, tmp_path, run_bundle):
    options = {
        "dataset_dir": str(challenge_set),
        "output_dir": str(tmp_path / "out"),
        "model_dir": str(tmp_path / "models"),
        "min_area": 5,
        "field_border": 0,
    }
    run_bundle("train.yaml", data, max_epochs=1, val_interval=1, **options, **FRAMES, **SMALL)
    (row,) = read_history(tmp_path / "out" / "history.csv")
    assert 0 <= row["val_seg"] <= 1
    split = json.loads((tmp_path / "out" / "split.json").read_text())
    assert split["validation"] == ["t004.tif", "t005.tif"]

    gold = {**FRAMES, "validation_frames": {"sequences": "01", "reference": "gold"}}
    run_bundle("train.yaml", data, "evaluate.yaml", kind="train", save_results=True, **options, **gold, **SMALL)
    report = json.loads((tmp_path / "out" / "evaluation" / "object_metrics.json").read_text())
    assert report["images"] == 1
    assert 0 <= report["seg"] <= 1
    assert report["det"] is not None
    with Image.open(tmp_path / "out" / "evaluation" / "panels" / "t005.png") as panel:
        assert min(panel.size) > 500
    found = tifffile.imread(tmp_path / "out" / "evaluation" / "instances" / "t005.tif")
    gold_label = tifffile.imread(challenge_set / "01_GT/SEG/man_seg005.tif")
    assert found.shape == gold_label.shape
    assert seg_score([found], [gold_label]) == pytest.approx(report["seg"])


@pytest.mark.slow
def test_pixels_around_a_cell_without_mask_weigh_nothing_and_the_gap_is_not_in_the_reference(
    challenge_set, tmp_path, run_bundle
):
    workflow = run_bundle(
        "train.yaml",
        "data_dic_hela.yaml",
        run_id="",
        dataset_dir=str(challenge_set),
        output_dir=str(tmp_path),
        model_dir=str(tmp_path),
        field_border=0,
        **FRAMES,
        **SMALL,
    )
    item = workflow.parser.get_parsed_content("validate#dataset")[0]
    label, weight, reference = (np.asarray(item[key])[0] for key in ("label", "weight", "reference"))
    unknown = reference < 0
    assert unknown.any()
    np.testing.assert_array_equal(weight == 0, unknown)
    silver = tifffile.imread(challenge_set / "01_ST/SEG/man_seg004.tif")
    np.testing.assert_array_equal(np.where(unknown, 0, reference), silver)
    assert ((silver > 0) & (label == 0)).any()  # the gap, in the label alone
    assert seg_score([silver], [reference]) == 1
