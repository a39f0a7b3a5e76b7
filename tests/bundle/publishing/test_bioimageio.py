"""The bioimage.io package: the description, and the result of the format's own validator."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import yaml
from PIL import Image

from bundle.publishing.bioimageio import TEST_SIZE, citation, network_source, preprocessing, write_bioimageio
from bundle.running.errors import UsageError
from scripts.handlers.checkpoints import save_weights
from scripts.inferers.overlap_tile import OverlapTileInferer
from scripts.networks.unet import RonnebergerUNet
from scripts.transforms.intensity import normalize_image
from tests.optional import needs_onnx

ROOT = Path(__file__).resolve().parents[3]
CONFIG = str(ROOT / "configs" / "inference.yaml")
FEATURES = (3, 4, 5, 6, 7)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("models") / "model.pt"
    save_weights(RonnebergerUNet(features=FEATURES), path)
    return path


@pytest.fixture(scope="module")
def package(weights, tmp_path_factory) -> Path:
    """A package with TorchScript weights, the fastest format to write."""
    path = tmp_path_factory.mktemp("package") / "model.zip"
    write_bioimageio(weights, path, CONFIG, ("torchscript",))
    return path


@pytest.fixture(scope="module")
def content(package) -> dict[str, bytes]:
    with zipfile.ZipFile(package) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


@pytest.fixture(scope="module")
def rdf(content) -> dict:
    return yaml.safe_load(content["rdf.yaml"])


def tensor(content: dict[str, bytes], name: str) -> np.ndarray:
    return np.load(io.BytesIO(content[name]))


def test_every_file_that_the_description_names_is_there_with_its_checksum(content, rdf):
    named: dict[str, str | None] = {}

    def walk(entry: object) -> None:
        if isinstance(entry, dict):
            if "source" in entry:
                named[entry["source"]] = entry.get("sha256")
            for value in entry.values():
                walk(value)
        elif isinstance(entry, list):
            for value in entry:
                walk(value)

    walk(rdf)
    assert set(named) | {"rdf.yaml"} == set(content)
    checked = {name: digest for name, digest in named.items() if digest}
    assert "weights-torchscript.pt" in checked
    assert {name: hashlib.sha256(content[name]).hexdigest() for name in checked} == checked


def test_the_output_is_as_large_as_the_input_with_context_in_steps_of_the_poolings(rdf, content):
    """Programs know no smaller outputs; they round tiles and tiles with context to multiples of the step."""
    (given,), (answer,) = rdf["inputs"], rdf["outputs"]
    sides = given["axes"][2:]
    assert [axis["size"] for axis in sides] == [{"min": 208, "step": 16}] * 2
    assert 208 % 16 == 96 % 16 == 0
    same = [{"tensor_id": "image", "axis_id": axis} for axis in "yx"]
    assert [axis["size"] for axis in answer["axes"][2:]] == same
    assert [axis["halo"] for axis in answer["axes"][2:]] == [96, 96]
    assert [axis["id"] for axis in sides] == ["y", "x"]
    assert answer["axes"][1]["channel_names"] == ["membrane", "cell"]
    assert tensor(content, "test_input.npy").shape == (1, 1, *TEST_SIZE)
    assert tensor(content, "test_output.npy").shape == (1, 2, *TEST_SIZE)


def test_no_step_is_left_to_programs_after_the_network(rdf):
    """JDLL (deepImageJ) refuses softmax, and QuPath leaves it out."""
    assert "postprocessing" not in rdf["outputs"][0]
    assert rdf["outputs"][0]["data"]["range"] == [0.0, 1.0]


def normalised(grey: np.ndarray) -> torch.Tensor:
    """Follow the step of the description literally, as another program would."""
    grey = grey.astype(np.float64)
    normal = (grey - grey.mean(axis=(2, 3), keepdims=True)) / (grey.std(axis=(2, 3), keepdims=True) + 1e-6)
    return torch.from_numpy(normal.astype(np.float32))


@pytest.fixture(scope="module")
def network(weights) -> RonnebergerUNet:
    network = RonnebergerUNet(features=FEATURES)
    network.load_state_dict(torch.load(weights, weights_only=True))
    return network.eval()


@torch.inference_mode()
def test_the_test_output_is_this_project_s_segmentation_of_the_test_input(content, network):
    scores = OverlapTileInferer()(normalised(tensor(content, "test_input.npy")), network)
    np.testing.assert_allclose(tensor(content, "test_output.npy"), scores.softmax(dim=1), atol=1e-5)


@torch.inference_mode()
def test_tiles_with_the_halo_give_the_pixels_of_the_whole_image(content, network, tmp_path):
    """Tile as programs do: blocks of 64 pixels, their context from the image, the edges mirrored."""
    (tmp_path / "weights.pt").write_bytes(content["weights-torchscript.pt"])
    script = torch.jit.load(str(tmp_path / "weights.pt"))
    image, halo, block = normalised(tensor(content, "test_input.npy")), 96, 64
    wide = torch.nn.functional.pad(image, [halo] * 4, mode="reflect")
    tiled = torch.zeros(1, 2, *TEST_SIZE)
    for row in range(0, TEST_SIZE[0], block):
        for column in range(0, TEST_SIZE[1], block):
            tile = wide[..., row : row + block + 2 * halo, column : column + block + 2 * halo]
            found = script(tile)[..., halo:-halo, halo:-halo]
            tiled[..., row : row + block, column : column + block] = found
    scores = OverlapTileInferer()(image, network)
    np.testing.assert_allclose(tiled, scores.softmax(dim=1), atol=1e-5)


def test_percentiles_are_described_by_the_format_s_steps():
    """`scale_range` and `scale_linear`, by the format's definitions, equal the scaling of this project."""
    steps = {step["id"]: step["kwargs"] for step in preprocessing({"intensity": "percentile", "flatten": 0})}
    grey = np.random.default_rng(0).gamma(2.0, 30.0, (1, 80, 60)).astype(np.float32)
    low, high = np.percentile(grey, [steps["scale_range"]["min_percentile"], steps["scale_range"]["max_percentile"]])
    unit = (grey - low) / (high - low + 1e-6)
    literal = unit * steps["scale_linear"]["gain"] + steps["scale_linear"]["offset"]
    np.testing.assert_allclose(literal, normalize_image(grey, "percentile"), atol=1e-4)


def test_preprocessing_that_the_format_lacks_is_refused():
    with pytest.raises(UsageError, match="no step for flatten"):
        preprocessing({"intensity": "z_score", "flatten": 60})


def test_pictures_can_be_looked_at(content):
    cover = Image.open(io.BytesIO(content["cover.png"]))
    assert cover.size[0] == 2 * cover.size[1]
    assert len(content["cover.png"]) < 500_000
    grey = tifffile.imread(io.BytesIO(content["sample_input.tif"]))
    found = tifffile.imread(io.BytesIO(content["sample_output.tif"]))
    np.testing.assert_array_equal(grey.squeeze(), tensor(content, "test_input.npy").squeeze())
    np.testing.assert_array_equal(found, tensor(content, "test_output.npy")[0])


def test_origin_licence_and_citations_are_the_metadata_s(rdf, weights):
    metadata = json.loads((ROOT / "configs" / "metadata.json").read_text())
    assert (rdf["version"], rdf["license"]) == (metadata["version"], "Apache-2.0")
    assert rdf["authors"] == [{"name": metadata["authors"]}]
    assert rdf["cite"][0]["url"] == "https://arxiv.org/abs/1505.04597"
    assert rdf["cite"][1]["doi"] == "10.3389/fnana.2015.00142"
    assert rdf["config"]["original_unet"]["weights_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert not Path(rdf["documentation"]["source"]).is_absolute()


def test_a_reference_without_doi_or_preprint_is_refused():
    assert citation("A. B: C. doi 10.1000/182")["doi"] == "10.1000/182"
    with pytest.raises(UsageError, match=r"none in: A\. B: C\."):
        citation("A. B: C.")


def test_the_documentation_has_the_section_that_the_format_wants(content):
    text = content["README.md"].decode()
    assert re.search("^#.*Validation", text, re.MULTILINE)
    assert "208 + 16 n pixels" in text
    assert "# Model Overview" in text  # the model card


def test_the_same_weights_give_the_same_package(package, weights, tmp_path):
    again = tmp_path / "again.zip"
    write_bioimageio(weights, again, CONFIG, ("torchscript",))
    assert again.read_bytes() == package.read_bytes()


def test_the_network_s_source_stands_alone(weights):
    """A single file, without imports from this project."""
    source = network_source()
    imported = re.findall(r"^(?:from|import) (\w+)", source, re.MULTILINE)
    allowed = {"__future__", "collections", "inspect", "itertools", "math", "numpy", "torch", "typing", "monai"}
    assert set(imported) <= allowed
    module = types.ModuleType("architecture")
    exec(compile(source, "architecture.py", "exec"), module.__dict__)
    network = module.MirroredUNet(features=FEATURES)
    network.network.load_state_dict(torch.load(weights, weights_only=True))
    assert network(torch.zeros(1, 1, 208, 224)).shape == (1, 2, 208, 224)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"weight_formats": ("tensorflow",)}, "weight formats must be of pytorch_state_dict, torchscript, onnx"),
        ({"weight_formats": ()}, "weight formats must be of"),
        ({"out": Path("folder")}, "the package is a zip file, got folder"),
    ],
)
def test_wrong_arguments_are_refused(changes, message, weights, tmp_path):
    arguments = {"weights": weights, "out": tmp_path / "model.zip", "config_file": CONFIG}
    with pytest.raises(UsageError, match=message):
        write_bioimageio(**{"weight_formats": ("torchscript",), **arguments, **changes})
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def validator() -> str:
    """The program `bioimageio` of bioimageio.core, from a separate environment. Skip without the program."""
    own = ROOT / ".venv-bioimageio" / "bin" / "bioimageio"
    found = os.environ.get("ORIGINAL_UNET_BIOIMAGEIO") or (str(own) if own.is_file() else None)
    if not found or not shutil.which(found):
        pytest.skip("bioimageio.core not found: make bioimageio-env, or set ORIGINAL_UNET_BIOIMAGEIO to its program")
    return found


@pytest.mark.slow
@needs_onnx
def test_the_format_s_own_validator_passes_every_kind_of_weights(validator, weights, tmp_path):
    path, summary = tmp_path / "model.zip", tmp_path / "summary.json"
    formats = ("pytorch_state_dict", "torchscript", "onnx")
    write_bioimageio(weights, path, CONFIG, formats)
    environment = {**os.environ, "BIOIMAGEIO_CACHE_PATH": str(tmp_path / "cache"), "NO_COLOR": "1"}
    words = [validator, "test", str(path), "--summary", str(summary)]
    done = subprocess.run(
        words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    judged = json.loads(summary.read_text())
    assert judged["status"] == "passed"
    names = " ".join(detail["name"] for detail in judged["details"])
    assert all(f"Run {name} inference for inputs with" in names for name in formats), names
