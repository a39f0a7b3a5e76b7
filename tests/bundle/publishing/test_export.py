"""`python -m bundle export`: files of every format give the network's scores, at any size and in the workflow."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from bundle.__main__ import main
from bundle.datasets.synthetic_em import synthetic_section
from bundle.experiments.trained import load_trained
from bundle.publishing.export import write_checked
from bundle.publishing.exporters import FORMATS
from bundle.running.errors import RunError
from scripts.handlers.checkpoints import save_weights
from scripts.inferers.exported import INFO, ExportedNetwork
from scripts.inferers.overlap_tile import OverlapTileInferer
from scripts.io.files import sha256_of
from scripts.networks.unet import RonnebergerUNet
from scripts.settings import ModelSettings
from scripts.transforms.intensity import normalize_image
from tests.optional import needs_onnx, needs_openvino

FREE = ("onnx", "torchscript", "pt2")  # formats for any batch and size, without a GPU
FEATURES = (4, 6, 8, 10, 12)  # the paper's depth
SETTINGS = ModelSettings(class_names=["background", "cell"], intensity="percentile", threshold=0.45, min_area=3)

pytestmark = [
    pytest.mark.filterwarnings("ignore:parsing config_file:UserWarning"),
    needs_onnx,
]


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("models") / "model.pt"
    network = RonnebergerUNet(features=FEATURES)
    network.scores.bias.data[0] = 0.2  # chooses a class even where all features are 0
    save_weights(network, path, SETTINGS)
    return path


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Path:
    """A synthetic section, larger than a single tile of 252 pixels."""
    path = tmp_path_factory.mktemp("images") / "section.png"
    Image.fromarray(synthetic_section(np.random.default_rng(1), (150, 130))[0]).save(path)
    return path


@pytest.fixture(scope="module")
def exported(weights, image, bundle_root) -> dict[str, Path]:
    """A file of each format, written by the command."""
    config = str(bundle_root / "configs" / "inference.yaml")
    files = {}
    for name in FREE:
        words = ["export", name, "--ckpt_path", str(weights), "--config_file", config, "--image", str(image)]
        assert main(words) == 0
        files[name] = weights.with_suffix(FORMATS[name].suffix)
    return files


@pytest.fixture(scope="module")
def network(weights) -> RonnebergerUNet:
    network = RonnebergerUNet(features=FEATURES)
    network.load_state_dict(torch.load(weights, weights_only=True))
    return network.eval()


@pytest.fixture(scope="module")
def runs(exported) -> dict[str, ExportedNetwork]:
    return {name: ExportedNetwork(path) for name, path in exported.items()}


# the crop of every skip depends on the size
SHAPES = [(1, 188, 188), (1, 572, 188), (2, 204, 236), (3, 252, 220), (5, 188, 300)]


@pytest.mark.parametrize("name", FREE)
@torch.inference_mode()
def test_batch_and_size_are_free(name, runs, network):
    for batch, rows, columns in SHAPES:
        x = torch.randn(batch, 1, rows, columns)
        expected = network(x)
        assert expected.shape == (batch, 2, rows - 184, columns - 184)
        got = runs[name](x)
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("name", FREE)
@torch.inference_mode()
def test_a_real_slice_gets_the_same_scores(name, runs, network, data_root):
    grey = np.asarray(Image.open(data_root / "isbi2012" / "train" / "images" / "00.png"), np.float32)[:300, :260]
    image = torch.as_tensor(normalize_image(torch.from_numpy(grey[None])))[None]
    inferer = OverlapTileInferer(tile_size=316)
    expected = inferer(image, network)
    got = inferer(image, runs[name])
    assert got.shape == (1, 2, 300, 260)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("name", FREE)
def test_the_file_describes_itself(name, runs, weights, bundle_root):
    info = runs[name].info
    version = json.loads((bundle_root / "configs" / "metadata.json").read_text())["version"]
    assert info["weights_sha256"] == sha256_of(weights)
    assert (info["class_names"], info["intensity"], info["flatten"]) == (["background", "cell"], "percentile", 0)
    assert (info["threshold"], info["min_area"]) == (0.45, 3)
    assert (info["depth"], info["margin"], info["padding"], info["version"]) == (4, 92, "valid", version)


def test_the_onnx_file_is_valid_whole_and_names_its_axes(exported):
    import onnx

    model = onnx.load(exported["onnx"], load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert not [t.name for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    kinds = {t.data_type for t in model.graph.initializer if "weight" in t.name}
    assert kinds == {onnx.TensorProto.FLOAT}
    (entry,) = model.graph.input
    axes = [axis.dim_param or axis.dim_value for axis in entry.type.tensor_type.shape.dim]
    assert (entry.name, axes[1], model.graph.output[0].name) == ("image", 1, "scores")
    assert all(isinstance(axes[i], str) for i in (0, 2, 3))
    assert INFO in {entry.key for entry in model.metadata_props}


@pytest.fixture(scope="module")
def eager(weights, image, tmp_path_factory, bundle_root) -> dict[str, np.ndarray]:
    """Results of `configs/inference.yaml` with the network in float32."""
    folder = tmp_path_factory.mktemp("eager")
    return segmented(bundle_root, image, folder, "--ckpt_path", str(weights), "--amp_dtype", "float32")


def segmented(root: Path, image: Path, folder: Path, *words: str) -> dict[str, np.ndarray]:
    config = ["run", "--config_file", str(root / "configs" / "inference.yaml"), "--bundle_root", str(root)]
    common = ["--dataset_dir", str(image), "--output_dir", str(folder), "--device", "cpu", "--tile_size", "252"]
    assert main([*config, *common, "--save_overlays", "false", "--dataloader#num_workers", "0", *words]) == 0
    found = {path.parent.name: path for path in folder.rglob("section*")}
    return {
        "probabilities": tifffile.imread(found["probabilities"]),
        "instances": tifffile.imread(found["instances"]),
        "classes": np.asarray(Image.open(found["classes"])),
    }


@pytest.mark.parametrize("name", FREE)
def test_the_workflow_segments_with_the_file_as_with_the_network(name, exported, eager, image, tmp_path, bundle_root):
    # without weights and --network_def: the file replaces both
    nothing = ["--ckpt_path", str(tmp_path / "absent.pt")]
    got = segmented(bundle_root, image, tmp_path, "--backend", str(exported[name]), *nothing)
    assert got["probabilities"].shape == (2, 150, 130)
    np.testing.assert_allclose(got["probabilities"], eager["probabilities"], rtol=0, atol=1e-4)
    clear = np.abs(eager["probabilities"][0] - 0.5) > 1e-4
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(got["classes"][clear], eager["classes"][clear])
    np.testing.assert_array_equal((got["instances"] > 0)[clear], (eager["instances"] > 0)[clear])
    assert len(np.unique(eager["classes"])) == 2


@needs_openvino
def test_the_workflow_segments_by_openvino_as_with_the_network(exported, eager, image, tmp_path, bundle_root):
    words = ["--backend", str(exported["onnx"]), "--onnx_engine", "openvino", "--amp_dtype", "float32"]
    got = segmented(bundle_root, image, tmp_path, *words)
    np.testing.assert_allclose(got["probabilities"], eager["probabilities"], rtol=0, atol=1e-4)


def test_the_workflow_refuses_a_file_for_other_classes(exported, image, tmp_path, bundle_root, capsys):
    config = ["run", "--config_file", str(bundle_root / "configs" / "inference.yaml"), "--output_dir", str(tmp_path)]
    words = ["--dataset_dir", str(image), "--backend", str(exported["torchscript"]), "--class_names", "[x,y]"]
    assert main([*config, *words]) == 1
    assert "class_names is ['x', 'y']" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, code, message",
    [
        (["onyx"], 2, "unknown format 'onyx'; there are onnx, torchscript, pt2, tensorrt"),
        (["pt2", "--output", "model.onnx"], 2, "a file of pt2 has the suffix .pt2"),
        (["pt2", "--config_file", "nowhere.yaml"], 2, "nowhere.yaml does not exist"),
        (["pt2", "--image", "nowhere.png"], 2, "--image nowhere.png does not exist"),
        (["pt2", "--network_def#featurs", "[4,8]"], 2, "takes no argument 'featurs'; did you mean 'features'"),
        (["pt2", "--network_def#features", "[4,8]"], 1, "network_def#features is [4, 8]"),
        (["pt2", "--ckpt_path", "nowhere.pt"], 1, "no file at nowhere.pt"),
    ],
)
def test_an_export_that_is_not_possible_ends_with_one_message(
    words, code, message, weights, capsys, monkeypatch, bundle_root
):
    monkeypatch.chdir(bundle_root)
    given = [] if "--ckpt_path" in words else ["--ckpt_path", str(weights)]
    assert main(["export", *words, *given]) == code
    assert message in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("folder", ["output_dir", "dataset_dir"])
def test_folders_of_inference_are_refused_and_output_is_named(folder, weights, tmp_path, capsys, bundle_root):
    config = str(bundle_root / "configs" / "inference.yaml")
    before = sorted(weights.parent.iterdir())
    command = ["export", "onnx", "--ckpt_path", str(weights), "--config_file", config, f"--{folder}", str(tmp_path)]
    assert main(command) == 2
    assert folder in (told := capsys.readouterr().err)
    assert "--output" in told
    assert sorted(weights.parent.iterdir()) == before


def test_tensorrt_without_its_package_or_a_gpu_is_refused(weights, capsys, monkeypatch, bundle_root):
    monkeypatch.chdir(bundle_root)
    assert main(["export", "tensorrt", "--ckpt_path", str(weights)]) == 2
    shown = capsys.readouterr().err
    assert "tensorrt needs torch_tensorrt" in shown or "none is found here" in shown


def test_the_weights_are_never_overwritten(weights, tmp_path, capsys, bundle_root, monkeypatch):
    monkeypatch.chdir(bundle_root)
    linked = tmp_path / "model.ts"
    linked.symlink_to(weights)
    before = weights.read_bytes()
    assert main(["export", "torchscript", "--ckpt_path", str(weights), "--output", str(linked)]) == 2
    assert str(linked) in capsys.readouterr().err
    assert weights.read_bytes() == before


def test_a_file_that_differs_from_the_network_is_not_kept(weights, tmp_path, bundle_root):
    config = str(bundle_root / "configs" / "inference.yaml")
    trained = load_trained(config, str(weights))
    other = RonnebergerUNet(features=FEATURES).eval()
    script = FORMATS["torchscript"]
    wrong = script._replace(write=lambda network, path, info: script.write(other, path, info))
    with pytest.raises(RunError, match=r"wrong\.ts was not written: it differs too much from the network for"):
        write_checked(trained.network, trained.info, wrong, tmp_path / "wrong.ts", trained.image(size=(64, 64)))
    assert list(tmp_path.iterdir()) == []
