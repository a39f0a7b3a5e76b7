"""Every training and evaluation looks at the labels before images are read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bundle.running.failures import explain
from tests.configs.conftest import settings


def changed_labels(tiny_dataset: Path, folder: Path, change) -> Path:
    """Copy the data set, with `change(label, number)` for each label."""
    shutil.copytree(tiny_dataset, folder)
    for number, path in enumerate(sorted((folder / "labels").iterdir())):
        Image.fromarray(change(np.asarray(Image.open(path)), number)).save(path)
    return folder


def blank_from(first: int):
    return lambda label, number: label * (number < first)


def with_split(folder: Path, validation: list[str]) -> dict[str, str]:
    names = [path.name for path in sorted((folder / "images").iterdir())]
    parts = {"training": [name for name in names if name not in validation], "validation": validation}
    (folder / "split.json").write_text(json.dumps(parts))
    return {"split_file": str(folder / "split.json")}


def test_wrong_labels_end_a_training_before_weights_are_written(tiny_dataset, tmp_path, run_bundle):
    data = changed_labels(tiny_dataset, tmp_path / "data", lambda label, _: (1 + (label > 0)).astype(np.uint8))
    with pytest.raises(RuntimeError) as raised:
        run_bundle("train.yaml", **settings(data, tmp_path, label_kind=None))
    message = explain(raised.value)
    assert [word for word in ("label_check", "4 of 4", "--label_values", "[1, 2]") if word not in message] == []
    assert not list((tmp_path / "models").glob("model*"))


def test_blank_controls_in_validation_leave_weights_chosen_by_the_next_metric(
    tiny_dataset, tmp_path, run_bundle, capsys
):
    data = changed_labels(tiny_dataset, tmp_path / "data", blank_from(2))
    options = settings(data, tmp_path, key_metric="seg", **with_split(data, ["02.png", "03.png"]))
    run_bundle("train.yaml", **options)
    known = json.loads((tmp_path / "models" / "model.json").read_text())["training"]
    assert (tmp_path / "models" / "model.pt").is_file()
    assert known["key_metric"] == "mean_dice"
    assert np.isfinite(known["best"])
    assert capsys.readouterr().out.count("seg cannot be measured") == 1


def test_a_blank_image_is_left_out_of_the_key_metric(tiny_dataset, tmp_path, run_bundle):
    data = changed_labels(tiny_dataset, tmp_path / "data", blank_from(3))
    options = settings(data, tmp_path, key_metric="seg", **with_split(data, ["02.png", "03.png"]))
    run_bundle("train.yaml", **options)
    known = json.loads((tmp_path / "models" / "model.json").read_text())["training"]
    assert known["key_metric"] == "seg"
    assert np.isfinite(known["best"])


def test_lists_from_a_label_server_pass_with_empty_labels(tiny_dataset, tmp_path, run_bundle, capsys):
    data = changed_labels(tiny_dataset, tmp_path / "data", blank_from(0))
    items = [{kind[:-1]: str(data / kind / f"0{k}.png") for kind in ("images", "labels")} for k in range(2)]
    options = settings(data, tmp_path, datalist=[], split={"training": [], "validation": []}, check_labels="warn")
    run_bundle("train.yaml", **options, **{"train#dataset#data": items[:1], "validate#dataset#data": items[1:]})
    assert (tmp_path / "models" / "model.pt").is_file()
    assert "0 alone" in capsys.readouterr().out
