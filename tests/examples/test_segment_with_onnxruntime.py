"""The example without torch gives the scores of the overlap-tile inferer."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bundle.publishing.exporters import FORMATS
from scripts.inferers.overlap_tile import OverlapTileInferer
from scripts.networks.unet import RonnebergerUNet
from scripts.transforms.intensity import normalize_image
from tests.optional import needs_onnx

pytestmark = needs_onnx
INFO = {"padding": "valid", "intensity": "z_score", "flatten": 0, "depth": 2, "margin": 20, "class_names": ["a", "b"]}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> tuple[RonnebergerUNet, Path]:
    torch.manual_seed(0)
    network = RonnebergerUNet(features=(3, 4, 5)).eval()
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    FORMATS["onnx"].write(network, path, INFO)
    return network, path


@pytest.fixture(scope="module")
def example(bundle_root) -> Path:
    return bundle_root / "examples" / "segment_with_onnxruntime.py"


@torch.inference_mode()
def scores(network: RonnebergerUNet, grey: np.ndarray) -> np.ndarray:
    image = torch.as_tensor(normalize_image(torch.from_numpy(grey[None].astype(np.float32))))
    return OverlapTileInferer()(image[None], network)[0].numpy()


# smaller than a tile's margin; larger than a tile of 60 (output 20); a multiple of the step; height 1
@pytest.mark.parametrize("size", [(7, 9), (70, 50), (40, 20), (1, 30)])
def test_it_gives_the_scores_of_the_inferer(size, model, example):
    network, path = model
    grey = np.random.default_rng(0).integers(0, 255, size, np.uint8)
    got = runpy.run_path(str(example))["segment"](grey, str(path), tile=60)
    np.testing.assert_allclose(got, scores(network, grey), atol=1e-4)


def test_as_a_program_it_writes_the_class_map(model, example, tmp_path, monkeypatch):
    network, path = model
    grey = np.random.default_rng(0).integers(0, 255, (90, 70), np.uint8)
    Image.fromarray(grey).save(tmp_path / "image.png")
    monkeypatch.setattr(sys, "argv", ["", str(path), str(tmp_path / "image.png"), str(tmp_path / "classes.png")])
    runpy.run_path(str(example), run_name="__main__")
    expected = scores(network, grey)
    clear = np.abs(expected[0] - expected[1]) > 1e-3
    got = np.asarray(Image.open(tmp_path / "classes.png"))
    assert got.shape == (90, 70)
    np.testing.assert_array_equal(got[clear], expected.argmax(axis=0)[clear])


def test_it_is_short_and_needs_neither_torch_nor_this_project(example):
    lines = example.read_text().splitlines()
    imports = {line.split()[1].split(".")[0] for line in lines if line.startswith(("import ", "from "))}
    assert imports == {"json", "sys", "numpy", "onnxruntime", "PIL"}
    assert len(lines) < 50
