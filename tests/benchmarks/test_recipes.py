"""Ways to train are compared on images that neither train nor choose the weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import recipes
from benchmarks.published import card, draw_worst, insert, measure
from benchmarks.recipes import Way, compare
from benchmarks.tasks import TASKS
from bundle.datasets.sample import sample
from bundle.experiments.experiments import network_of
from scripts.io.files import sha256_of
from scripts.settings import read_settings, write_weights


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("recipes")
    sample(str(folder), size=128, train=20, test=0)
    return folder / "train"


def test_each_way_is_trained_once_and_measured_on_the_third_part_as_published_weights_are(
    dataset, tmp_path, monkeypatch
):
    task = replace(TASKS["nuclei"], folder=dataset.name)
    tiny = {**network_of(2), "input_size": 188, "num_workers": 0}
    monkeypatch.setitem(recipes.WAYS, "tiny", Way(("variant_fast",), {**tiny, "device": "cpu"}))
    results = compare(task, ["tiny"], [0, 1], None, dataset.parent, tmp_path, steps=3)
    assert [run["steps"] for run in results["tiny"]] == [3, 3]
    assert [len(run["curve"]) for run in results["tiny"]] == [1, 1]
    measured = json.loads((tmp_path / "tiny-seed1" / "views8" / "metrics.json").read_text())
    parts = json.loads((tmp_path / "measured.json").read_text())
    assert measured["images"] == len(parts["validation"]) == 2
    assert "| tiny | 2 | 3 |" in (tmp_path / "table.md").read_text()
    written = (tmp_path / "tiny-seed0" / "model.pt").stat().st_mtime_ns
    assert compare(task, ["tiny"], [0, 1], None, dataset.parent, tmp_path, steps=3) == results
    assert (tmp_path / "tiny-seed0" / "model.pt").stat().st_mtime_ns == written

    monkeypatch.setitem(TASKS, "nuclei", task)
    training = tmp_path / "tiny-seed1"
    files = training / "model.pt", dataset.parent, training
    result = measure("nuclei", *files, tmp_path / "measured.json")
    measured = result["evaluations"]["mean of 8 views"]
    assert measured.items() >= results["tiny"][1]["views"]["8"].items()
    assert measured["AP at IoU 0.5"] <= measured["F1 at IoU 0.5"]
    assert result["weights"]["sha256"] == sha256_of(training / "model.pt")
    section = card("nuclei", result)
    assert all(
        text in section for text in (result["weights"]["sha256"][:12], "3 steps", "`variant_fast.yaml`", "seed 1")
    )
    assert all(
        f"{value:.4f}" in section for found in result["evaluations"].values() for value in found.values() if value
    )
    assert "optimistic" not in result["protocol"]
    assert "optimistic" in measure("nuclei", *files, tmp_path / "training.json")["protocol"]  # these chose
    shipped = tmp_path / "tiny-seed0" / "model.pt"
    with pytest.raises(ValueError, match="16 of 20 images"):
        measure("nuclei", *files, tmp_path / "measured.json", shipped=shipped)
    settings = read_settings(shipped)
    of_all = settings.model_copy(update={"training": settings.training.model_copy(update={"images": 20})})
    write_weights(torch.load(shipped, weights_only=True), tmp_path / "all.pt", of_all)
    result = measure("nuclei", *files, tmp_path / "measured.json", recipe="by hand", shipped=tmp_path / "all.pt")
    section = card("nuclei", result)
    assert all(text in section for text in (sha256_of(tmp_path / "all.pt")[:12], "all 20 labelled images", "by hand"))
    with pytest.raises(ValueError, match=r"on 20 images, .* on 16"):  # not the weights of this training
        measure("nuclei", tmp_path / "all.pt", dataset.parent, training, tmp_path / "measured.json")
    parts = json.loads((tmp_path / "training.json").read_text())
    (tmp_path / "empty.json").write_text(json.dumps({**parts, "validation": []}))
    with pytest.raises(ValueError, match="names no image"):
        measure("nuclei", *files, tmp_path / "empty.json")
    (tmp_path / "trained.json").write_text(json.dumps({**parts, "validation": parts["training"][:1]}))
    with pytest.raises(ValueError, match=Path(parts["training"][0]).stem):
        measure("nuclei", *files, tmp_path / "trained.json")
    (training / "result.json").unlink()
    with pytest.raises(ValueError, match="--recipe"):
        measure("nuclei", *files, tmp_path / "measured.json")


@pytest.mark.parametrize("steps", [0, -100, 150])
def test_a_number_of_steps_that_no_epochs_give_is_refused(dataset, tmp_path, steps):
    with pytest.raises(ValueError, match=f"--steps {steps}"):
        compare(TASKS["nuclei"], ["fast"], [0], None, dataset.parent, tmp_path, steps=steps)


def test_a_folder_keeps_its_parts(dataset, tmp_path):
    task = replace(TASKS["nuclei"], folder=dataset.name)
    compare(task, [], [0], 1.0, dataset.parent, tmp_path)
    written = (tmp_path / "measured.json").read_bytes()
    for other in ({"task": task, "parts_seed": 1}, {"task": replace(TASKS["em"], folder=dataset.name)}):
        with pytest.raises(ValueError, match="another --out"):
            compare(ways=[], seeds=[0], minutes=1.0, data=dataset.parent, out=tmp_path, **other)
    assert (tmp_path / "measured.json").read_bytes() == written


def test_the_picture_has_all_panels_below_each_other(tmp_path):
    panels = []
    for number, colour in enumerate([(255, 0, 0), (0, 0, 255)]):
        panels.append(tmp_path / f"{number}.png")
        Image.new("RGB", (200, 50), colour).save(panels[-1])
    draw_worst(panels, tmp_path / "worst.png")
    picture = np.asarray(Image.open(tmp_path / "worst.png").convert("RGB"))
    assert picture.shape == (400, 800, 3)
    assert picture[100, 500].tolist() == [255, 0, 0]
    assert picture[300, 500].tolist() == [0, 0, 255]


def test_a_section_replaces_its_own_place_in_the_page_and_nothing_else():
    nuclei = "b\n<!-- nuclei: benchmarks.published --><!-- end -->\n"
    page = f"a\n<!-- em: benchmarks.published -->\nold\n<!-- end -->\n{nuclei}"
    once = insert(page, "em", "new")
    assert insert(once, "em", "new") == once
    assert (once.startswith("a\n"), "old" in once, "new" in once) == (True, False, True)
    assert once.endswith(nuclei)
    with pytest.raises(ValueError, match="nuclei_small"):
        insert(page, "nuclei_small", "new")
