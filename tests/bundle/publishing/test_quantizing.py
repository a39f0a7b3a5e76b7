"""`python -m bundle export onnx --calibration`: int8 files are small, and close to the network by their tolerances."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from torch import nn

from bundle.__main__ import main
from bundle.datasets.synthetic_em import synthetic_section
from bundle.experiments.trained import Trained, load_trained
from bundle.publishing.agreement import task_agreement
from bundle.publishing.export import compare, write_checked
from bundle.publishing.quantizing import IMAGES, calibration_addresses, calibration_tiles, int8_format
from bundle.running.errors import RunError
from scripts.handlers.checkpoints import save_weights
from scripts.inferers.exported import ExportedNetwork
from scripts.inferers.overlap_tile import OverlapTileInferer
from scripts.networks.unet import RonnebergerUNet
from scripts.settings import ModelSettings
from scripts.transforms.intensity import normalize_image
from tests.optional import needs_onnx, needs_openvino

FEATURES = (8, 12, 16)
SMALL = ["--network_def#features", str(list(FEATURES))]

pytestmark = [pytest.mark.filterwarnings("ignore:parsing config_file:UserWarning"), needs_onnx]


@pytest.fixture(scope="module")
def stack(tmp_path_factory) -> Path:
    """Twelve synthetic sections in one TIFF file."""
    path = tmp_path_factory.mktemp("images") / "sections.tif"
    rng = np.random.default_rng(3)
    tifffile.imwrite(
        path, np.stack([synthetic_section(rng, (90, 110))[0] for _ in range(12)]), photometric="minisblack"
    )
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Weights from 60 iterations. With random weights, all scores would be close to a change of class."""
    torch.manual_seed(0)
    rng = np.random.default_rng(4)
    network = RonnebergerUNet(features=FEATURES, dropout=0)
    cut = slice(network.margin, -network.margin)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(60):
        grey, instances = synthetic_section(rng, (140, 140))
        image = normalize_image(torch.from_numpy(grey[None].astype(np.float32)))
        truth = torch.from_numpy((instances[cut, cut] > 0).astype(np.int64))[None]
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(torch.as_tensor(image)[None]), truth).backward()
        optimizer.step()
    path = tmp_path_factory.mktemp("models") / "model.pt"
    save_weights(network, path)
    return path


@pytest.fixture(scope="module")
def trained(weights, bundle_root) -> Trained:
    config = str(bundle_root / "configs" / "inference.yaml")
    return load_trained(config, str(weights), {"network_def#features": list(FEATURES)})


@pytest.fixture(scope="module")
def exported(weights, stack, bundle_root) -> Path:
    config = str(bundle_root / "configs" / "inference.yaml")
    words = ["--ckpt_path", str(weights), "--config_file", config, "--calibration", str(stack), *SMALL]
    assert main(["export", "onnx", *words]) == 0
    return weights.with_name("model_int8.onnx")


@pytest.mark.parametrize("engine", ["onnxruntime", pytest.param("openvino", marks=needs_openvino)])
@torch.inference_mode()
def test_an_int8_file_finds_nearly_the_same_cells_at_any_size(engine, exported, trained, stack):
    runs = ExportedNetwork(exported, onnx_engine=engine)
    image = trained.prepared(f"{stack}#page=11")
    for tile_size in (60, (76, 108), None):
        inferer = OverlapTileInferer(tile_size=tile_size)
        expected, got = inferer(image, trained.network), inferer(image, runs)
        assert got.shape == expected.shape == (1, 2, 90, 110)
        assert 0.1 < expected.argmax(1).float().mean() < 0.9
        assert (got.argmax(1) != expected.argmax(1)).float().mean() < 0.02
        error, spread = (got - expected).std(), expected.std()
        assert 1e-4 * spread < error < 0.1 * spread  # rounded, but only a little


def test_convolutions_and_skips_are_int8_and_the_scores_are_not(exported):
    import onnx

    graph = onnx.load(exported).graph
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    rounded = [
        [made_by.get(name) == "DequantizeLinear" for name in node.input[:2]]
        for node in graph.node
        if node.op_type in ("Conv", "ConvTranspose", "Concat")
    ]
    assert len(rounded) == 3 * 2 + 2 * 2 + 2 + 2 + 1  # 10 convolutions, 2 up-convolutions, 2 skips, the scores
    assert all(all(inputs) for inputs in rounded[:-1])
    assert made_by[graph.output[0].name] == "Conv"
    kinds = {t.data_type for t in graph.initializer if np.prod(t.dims) > 100}
    assert onnx.TensorProto.INT8 in kinds


def test_the_weights_take_a_quarter(exported, weights):
    parameters = sum(weight.numel() for weight in torch.load(weights, weights_only=True).values())
    assert exported.stat().st_size < 0.4 * 4 * parameters + 60_000  # the graph takes tens of kilobytes


def test_the_file_says_that_it_is_int8_and_from_what(exported):
    info = ExportedNetwork(exported).info
    assert (info["precision"], info["calibration_tiles"], info["depth"]) == ("int8", IMAGES, 2)


def test_calibration_images_are_prepared_and_mirrored_as_inference_does(trained, stack):
    (tile,) = calibration_tiles(trained, [f"{stack}#page=5"])
    plane = tifffile.imread(stack)[5].astype(np.float64)
    scaled = (plane - plane.mean()) / plane.std()
    rows, columns = tile.shape[2:]
    after = (rows - 20 - 90, columns - 20 - 110)
    expected = np.pad(scaled, ((20, after[0]), (20, after[1])), mode="reflect")  # the margin of two poolings is 20
    np.testing.assert_allclose(tile[0, 0].numpy(), expected, atol=1e-5)


def test_a_difference_above_the_tolerance_of_classes_is_not_kept(trained, exported, stack, tmp_path):
    strict = int8_format([])._replace(changed=0.0, write=lambda network, path, info: shutil.copy(exported, path))
    with pytest.raises(RunError, match=r"net\.onnx was not written: it differs too much from the network for image"):
        write_checked(trained.network, trained.info, strict, tmp_path / "net.onnx", trained.prepared(f"{stack}#page=1"))
    assert list(tmp_path.iterdir()) == []


def test_the_share_of_changed_classes_by_hand(trained):
    class Turned(nn.Module):
        """The network, with exchanged scores in the left half."""

        depth, padding, retain_dim = 2, "valid", False

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scores = trained.network(x)
            half = scores.shape[3] // 2
            return torch.cat([scores[..., :half].flip(1), scores[..., half:]], dim=3)

    kind = int8_format([])
    found = compare(trained.network, Turned(), torch.rand(1, 1, 40, 40), kind)
    on_the_image, *on_tiles = found.values()
    assert on_the_image.classes == pytest.approx(0.5)  # a single tile
    assert not on_the_image.allowed_by(kind)
    assert not on_the_image._replace(scores=0.0).allowed_by(kind)
    few = on_the_image._replace(classes=0.01)
    assert few._replace(scores=2 * few.largest).allowed_by(kind)  # a single score does not decide
    assert few._replace(metric=("seg", 0.95)).allowed_by(kind)
    assert few._replace(metric=("seg", float("nan"))).allowed_by(kind)  # no object
    assert not few._replace(metric=("seg", 0.5)).allowed_by(kind)
    assert not few._replace(scores=float("nan")).allowed_by(kind)
    assert not any(tile.allowed_by(kind) for tile in on_tiles)
    assert [difference.classes for difference in on_tiles] == [None] * 3


def test_a_refused_file_is_kept_on_request(trained, exported, stack, tmp_path, capsys):
    strict = int8_format([])._replace(changed=0.0, write=lambda network, path, info: shutil.copy(exported, path))
    write_checked(
        trained.network, trained.info, strict, tmp_path / "net.onnx", trained.prepared(f"{stack}#page=1"), accept=True
    )
    assert (tmp_path / "net.onnx").read_bytes() == exported.read_bytes()
    assert "--accept" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["mean_dice", "mean_iou", "v_rand", "v_info", "seg", "instance_f1"])
def test_the_task_s_metric_is_1_for_equal_segmentations_and_less_for_merged_cells(name):
    _, agreement = task_agreement(ModelSettings(key_metric=name).model_dump())
    cells = torch.zeros(40, 60)
    cells[5:35, 5:25] = cells[5:35, 35:55] = 1
    original = torch.stack([8 - 16 * cells, 16 * cells - 8])[None]
    merged = original.clone()
    merged[:, :, 5:35, 20:40] = torch.tensor([-8.0, 8.0])[None, :, None, None]
    assert agreement(original, original) == pytest.approx(1, abs=1e-6)
    assert agreement(merged, original) < 0.95


@pytest.mark.parametrize(
    "words, message",
    [
        (["pt2", "--calibration", "."], "--calibration makes int8 files of onnx, not of pt2"),
        (["onnx", "--calibration", "nowhere"], "--calibration nowhere: "),
    ],
)
def test_what_cannot_be_calibrated_is_one_message(words, message, weights, capsys, bundle_root, monkeypatch):
    monkeypatch.chdir(bundle_root)
    assert main(["export", *words, "--ckpt_path", str(weights), *SMALL]) == 2
    assert message in capsys.readouterr().err


def test_every_plane_of_a_file_is_an_image(stack):
    assert calibration_addresses(str(stack)) == [f"{stack}#page={i}" for i in range(12)]
