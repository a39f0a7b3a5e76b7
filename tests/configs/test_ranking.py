"""rank.yaml sorts images by uncertain objects, with MONAI's command and with `python -m bundle rank`."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from bundle.__main__ import main
from bundle.running.failures import explain
from scripts.handlers.checkpoints import save_weights
from scripts.io.files import read_csv
from scripts.networks.unet import RonnebergerUNet
from tests.configs.conftest import SMALL


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Random weights of a small network."""
    path: Path = tmp_path_factory.mktemp("weights") / "model.pt"
    network = RonnebergerUNet(features=SMALL["network_def#features"])
    torch.manual_seed(0)
    save_weights(network, path)
    return path


@pytest.fixture
def folder(tiny_dataset, tmp_path) -> Path:
    shutil.copytree(tiny_dataset / "images", tmp_path / "images")
    Image.fromarray(np.full((30, 40), 7, np.uint8)).save(tmp_path / "images" / "constant.png")
    return tmp_path / "images"


def test_images_are_ranked_from_uncertain_to_certain_and_nothing_else_is_written(
    folder, weights, tmp_path, run_bundle, capfd
):
    places = {"dataset_dir": str(folder), "output_dir": str(tmp_path / "out"), "ckpt_path": str(weights)}
    run_bundle("inference.yaml", "rank.yaml", device="cpu", **places)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["ranking.csv"]
    rows = read_csv(tmp_path / "out" / "ranking.csv")
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert sorted(row["image"] for row in rows) == [*(f"{k:02d}.png" for k in range(4)), "constant.png"]
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert rows[-1] == {"rank": "5", "image": "constant.png", "score": "0.0000"}
    assert rows[0]["image"] in capfd.readouterr().out


@pytest.mark.parametrize("option", ["--save_uncertainty=true", "--skip_finished=true"])
def test_options_of_segmentations_are_refused_as_nothing_is_segmented(option, folder, weights, tmp_path, capsys):
    words = ["rank", str(folder), "--weights", str(weights), "--output", str(tmp_path / "mine.csv"), option]
    assert main(words) == 2
    assert option.split("=")[0] in capsys.readouterr().err


def test_a_broken_image_ends_itself_alone(folder, weights, tmp_path, capsys):
    (folder / "01.png").write_bytes(b"\x89PNG")
    table = tmp_path / "ranked" / "mine.csv"
    words = ["rank", str(folder), "--weights", str(weights), "--output", str(table), "--device=cpu"]
    assert main(words) == 1
    assert "01.png" in capsys.readouterr().err
    assert len(read_csv(table)) == 4
    (folder / "01.png").unlink()
    assert main([*words, "--orientations=4"]) == 0  # replaces the earlier table
    assert len(read_csv(table)) == 4


def test_planes_of_a_stack_are_ranked_by_their_addresses(tiny_dataset, weights, tmp_path):
    planes = np.stack([np.asarray(Image.open(path)) for path in sorted((tiny_dataset / "images").iterdir())])
    tifffile.imwrite(tmp_path / "stack.tif", planes, photometric="minisblack")
    table = tmp_path / "ranking.csv"
    words = ["rank", str(tmp_path / "stack.tif"), "--weights", str(weights), "--output", str(table), "--device=cpu"]
    assert main(words) == 0
    assert {row["image"] for row in read_csv(table)} == {f"stack.tif#page={k}" for k in range(4)}


def test_another_table_is_never_replaced(folder, weights, tmp_path, run_bundle):
    (tmp_path / "ranking.csv").write_text("image,diagnosis\na.png,1\n")
    places = {"dataset_dir": str(folder), "output_dir": str(tmp_path), "ckpt_path": str(weights), "device": "cpu"}
    with pytest.raises(RuntimeError) as refused:
        run_bundle("inference.yaml", "rank.yaml", **places)
    assert "ranking.csv" in explain(refused.value)
    assert (tmp_path / "ranking.csv").read_text().startswith("image,diagnosis")


def test_a_table_needs_a_name_that_ends_in_csv(folder, weights, capsys):
    assert main(["rank", str(folder), "--weights", str(weights), "--output", str(folder)]) == 2
    assert ".csv" in capsys.readouterr().err
