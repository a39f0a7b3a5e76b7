"""100 damaged files in one folder, among whole ones."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.hostile.checks import broken_files, table
from tests.hostile.damage import damaged_files, kind_of, whole_files
from tests.hostile.program import Outcome, Program
from tests.hostile.samples import cells

FILES = damaged_files(cells(1)[0])
WHOLE = {f"whole_{kind_of(ending)}{ending}": content for ending, content in whole_files(cells(2)[0]).items()}


@pytest.fixture(scope="module")
def segmented(program: Program, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Path]:
    """The folder of results, after a run over all files."""
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "images").mkdir()
    for name, content in {**WHOLE, **{name: content for name, (content, _) in FILES.items()}}.items():
        (folder / "images" / name).write_bytes(content)
    words = ("--output", folder / "out", "--weights", weights, "--device=cpu")
    return program.run("bundle", "segment", folder / "images", *words, timeout=300), folder / "out"


def results(out: Path, name: str) -> list[Path]:
    """Find the class maps of an image; .nii.gz and .tif may become .tif or stay."""
    stem = re.escape(name.partition(".")[0])
    return [path for path in (out / "classes").glob("*") if re.match(rf"{stem}\.", path.name)]


def test_there_are_100_files():
    assert len(FILES) == 100


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named_and_gives_no_result(segmented, name):
    outcome, out = segmented
    seen = FILES[name][1]
    named = f"/{name}" in outcome.text or f"failed: {name}" in outcome.text or f" {name}:" in outcome.text
    assert outcome.code == 1, str(outcome)
    if seen:
        assert named, str(outcome)
        assert not results(out, name)
    else:
        assert named or results(out, name)


@pytest.mark.parametrize("name", WHOLE)
def test_whole_files_among_damaged_ones_are_segmented(segmented, name):
    outcome, out = segmented
    assert results(out, name), str(outcome)
    assert any(row["image"] == name for row in table(out / "objects.csv"))


def test_all_results_can_be_read(segmented):
    assert not broken_files(segmented[1])


def test_damaged_files_take_no_memory(segmented):
    assert 0 < segmented[0].peak < 1.5 * 2**30


@pytest.mark.parametrize("name", [name for name in WHOLE if not name.endswith(".jpg")])
def test_equal_images_in_all_formats_have_equal_results(segmented, name):
    rows: dict[str, list[list[float]]] = {name: [], "whole_png.png": []}
    for row in table(segmented[1] / "objects.csv"):
        if row["image"] in rows:
            rows[row["image"]].append([float(row[key]) for key in ("area_px", "centroid_y_px", "centroid_x_px")])
    assert len(rows["whole_png.png"]) > 2
    assert np.allclose(rows[name], rows["whole_png.png"], atol=0.05)
