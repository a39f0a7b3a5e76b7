"""The preview shows what the training would see, with the training's own transforms."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bundle.__main__ import main
from bundle.datasets.sample import sample
from scripts.inferers.tiling import TileRule
from scripts.reporting.preview import LIMIT, grid, tiles_picture, whole_picture

from .runs import SIZE, made_data, made_preview
from .test_pictures import opened


def pictures(page: Path, section: str) -> list[dict[str, Any]]:
    """The pictures of a section of a page."""
    text = page.read_text(encoding="utf-8")
    found = re.search(rf'id="{section}-pictures-data">(.*?)</script>', text, re.S)
    assert found is not None
    return json.loads(found[1])


def opacity(layer: dict[str, Any]) -> np.ndarray:
    return np.asarray(opened(layer["src"]).convert("RGBA"))[..., 3]


def test_without_augmentation_the_grid_is_straight_and_else_bent_as_the_image(tmp_path: Path) -> None:
    data = made_data(tmp_path / "data", ("a.png",))
    height, width = SIZE
    made_preview(tmp_path / "plain.html", data, prob=0.0).write()
    made_preview(tmp_path / "bent.html", data).write()
    plain, bent = (pictures(tmp_path / f"{name}.html", "samples")[0] for name in ("plain", "bent"))
    assert plain["size"] == [188, 188]
    lines = {name: opacity(each["layers"][0]) > 0 for name, each in (("plain", plain), ("bent", bent))}
    full = [line.all(axis=1).any() for line in lines.values()]
    assert full == [True, False]
    assert max(height, width) < 188  # the rest of the sample is mirrored


def test_the_separated_objects_are_those_of_the_label_and_the_gap_is_marked() -> None:
    reference = np.zeros((1, 8, 12), int)
    reference[0, 2:6, 2:6], reference[0, 2:6, 6:10] = 1, 2
    instances = reference.copy()
    instances[0, :, 5] = 0
    item = {"image": reference.astype(float), "label": instances > 0, "reference": reference, "instances": instances}
    drawn = whole_picture("a", item, ["background", "cell"], 10**6)
    assert drawn.facts == ("2 objects", "the gap takes 12.5 % of the pixels of objects")  # 4 of 32 pixels
    separated = np.asarray(opened(drawn.layers[1]["src"]).convert("RGBA"))[..., :3]
    assert (separated[2:6, 5] == separated[2, 5]).all()
    assert (separated[3, 5] != separated[3, 4]).any()


def test_the_page_asks_for_what_the_kind_of_labels_has(tmp_path: Path) -> None:
    data, texts, layers = made_data(tmp_path / "data", ("a.png",)), {}, {}
    for kind in ("instances", "binary", "classes"):
        page = tmp_path / f"{kind}.html"
        made_preview(page, data, kind=kind).write()
        texts[kind] = re.findall(
            r"<h2>Images, labels and weights</h2>\s*<p>(.*?)</p>", page.read_text(encoding="utf-8")
        )[0]
        layers[kind] = [layer["name"] for layer in pictures(page, "whole")[0]["layers"]]
    assert "separation_gap" in texts["instances"]
    assert "label_values" in texts["classes"]
    assert not any("separation_gap" in texts[kind] or "touching" in texts[kind] for kind in ("binary", "classes"))
    assert layers["instances"] == ["labels", "separated", "weight map"]
    assert layers["binary"] == ["labels", "weight map"]
    assert layers["classes"] == ["classes", "weight map"]


def test_the_note_of_a_weight_map_has_the_weight_of_each_class() -> None:
    label = np.zeros((1, 4, 4))
    label[0, :, 0], label[0, 3] = 1, -1
    item = {"image": label, "label": label, "weight": np.where(label < 0, 0, np.where(label > 0, 6.0, 0.5))}
    (note,) = (
        layer["note"] for layer in whole_picture("a", item, ["background", "fluid"], 10**5).layers if layer["note"]
    )
    assert "background 0.5, fluid 6" in str(note)
    item["weight"] = (label >= 0) * 1.0
    assert "the same weight" in str(whole_picture("a", item, ["background", "fluid"], 10**5).layers[-1]["note"])


@pytest.mark.parametrize("size", [(512, 512), (30, 700), (1, 1)])
def test_tiles_lie_on_the_mirrored_image(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).random((1, *size))
    drawn = tiles_picture("a", image, TileRule(), 572, 10**7)
    assert re.match(r"\d+ tiles? of (\d+) x \1", drawn.facts[0])
    assert drawn.size[0] >= size[0] + 2 * 92
    assert len(np.unique(opacity(dict(drawn.layers[0])))) == 2


def test_a_damaged_image_is_named_and_the_others_are_shown(tmp_path: Path) -> None:
    data = made_data(tmp_path / "data", ("a.png", "b.png"))
    (data / "images" / "a.png").write_bytes(b"no image")
    made_preview(tmp_path / "p.html", data).write()
    assert [picture["title"] for picture in pictures(tmp_path / "p.html", "whole")] == ["b.png"]
    assert re.search(r"<li>[^<]*a\.png", (tmp_path / "p.html").read_text(encoding="utf-8"))
    (data / "images" / "b.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="none of 2 images"):
        made_preview(tmp_path / "p.html", data).write()


def test_grid_lines_are_found_again_after_changes_of_grey_values() -> None:
    lines = grid((64, 64)) * 100
    changed = lines * 0.75 - 0.3 + np.random.default_rng(0).normal(0, 0.1, lines.shape)
    np.testing.assert_array_equal(changed > LIMIT, lines > 0)


@pytest.mark.slow
@pytest.mark.parametrize("overlay", ["variant_laptop", "variant_monai_elastic", "variant_weights_after_warp"])
def test_the_command_shows_a_training_without_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overlay: str
) -> None:
    monkeypatch.chdir(tmp_path)
    sample("data", size=96, train=3, test=1)
    words = ["preview", "data/train", "--overlay", overlay, "--input_size", "188", "--images", "2"]
    assert main([*words, "--network_def#features", "[2,4,8,16,32]", "--label_kind", "instances"]) == 0
    page = tmp_path / "output" / "train" / "preview.html"
    assert [path.name for path in page.parent.iterdir()] == ["preview.html"]  # no split, no events
    assert len(pictures(page, "samples")) == 4
    names = [layer["name"] for layer in pictures(page, "samples")[0]["layers"]]
    assert names == ["grid", "label", "weight map"]


def test_wrong_words_are_refused_before_any_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = str(made_data(tmp_path / "data"))
    for words, part in (
        ([data, "--label_kindd", "instances"], "label_kind"),
        ([data, "--images", "0"], "--images"),
        ([data, "--output", "folder"], ".html"),
        ([str(tmp_path / "gone")], "gone"),
    ):
        assert main(["preview", *words]) == 2
        assert part in capsys.readouterr().err


def test_an_image_without_objects_is_shown(tmp_path: Path) -> None:
    data = made_data(tmp_path / "data", ("a.png", "b.png"))
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(data / "labels" / "a.png")
    made_preview(tmp_path / "p.html", data).write()
    assert "0 objects" in pictures(tmp_path / "p.html", "whole")[0]["facts"]
