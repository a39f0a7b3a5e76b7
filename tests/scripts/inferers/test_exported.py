"""Exported files run as networks: their geometry, refused files, and scores independent of the caller."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from bundle.publishing.exporters import FORMATS
from scripts.inferers.exported import INFO, LOADERS, ExportedNetwork
from scripts.inferers.overlap_tile import OverlapTileInferer
from scripts.inferers.precision import computes_in_bfloat16
from scripts.networks.unet import RonnebergerUNet
from tests.optional import needs_onnx, needs_openvino
from tests.same_scores import assert_same_scores

DESCRIBED = {"depth": 2, "padding": "valid", "retain_dim": False, "intensity": "z_score", "class_names": ["a", "b"]}


@pytest.fixture(scope="module")
def network() -> RonnebergerUNet:
    torch.manual_seed(0)
    return RonnebergerUNet(features=(3, 4, 5)).eval()


@pytest.fixture(scope="module")
def script(network, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("script") / "net.ts"
    FORMATS["torchscript"].write(network, path, DESCRIBED)
    return path


@torch.no_grad()
def test_the_inferer_finds_the_geometry_in_the_file(network, script):
    exported = ExportedNetwork(script)
    assert (exported.depth, exported.padding, exported.retain_dim) == (2, "valid", False)
    image = torch.rand(1, 1, 70, 50)
    inferer = OverlapTileInferer(tile_size=60)
    torch.testing.assert_close(inferer(image, exported), inferer(image, network))


@torch.no_grad()
def test_the_computation_stays_in_float32_under_a_caller_s_autocast_and_with_half_precision_inputs(network, script):
    exported, x = ExportedNetwork(script), torch.rand(1, 1, 44, 60)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = exported(x)
        assert network(x).dtype == torch.bfloat16
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, network(x))
    assert exported(x.to(torch.bfloat16)).dtype == torch.float32


def test_train_and_eval_change_nothing(script):
    exported = ExportedNetwork(script)
    x = torch.rand(1, 1, 44, 44)
    assert torch.equal(exported.train()(x), exported.eval()(x))  # exported for inference, without dropout


def test_a_file_is_described(script):
    assert ExportedNetwork(script).info == DESCRIBED


def test_a_file_of_another_program_has_the_paper_s_geometry(network, tmp_path):
    path = tmp_path / "foreign.ts"
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.save(torch.jit.script(network), str(path))
    exported = ExportedNetwork(path)
    assert (exported.info, exported.depth, exported.padding) == ({}, 4, "valid")


def test_a_file_for_one_tile_size_refuses_others(network, tmp_path):
    path = tmp_path / "fixed.ts"
    FORMATS["torchscript"].write(network, path, DESCRIBED | {"tile_size": 60})
    exported = ExportedNetwork(path)
    assert exported(torch.rand(2, 1, 60, 60)).shape == (2, 2, 20, 20)
    with pytest.raises(ValueError, match=r"fixed\.ts takes tiles of 60 x 60 .* got \(1, 1, 64, 60\).* tile_size to 60"):
        exported(torch.rand(1, 1, 64, 60))


@pytest.fixture(scope="module")
def onnx_file(network, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "net.onnx"
    FORMATS["onnx"].write(network, path, DESCRIBED)
    return path


@needs_onnx
@needs_openvino
@torch.no_grad()
def test_openvino_gives_the_scores_and_the_description_of_an_onnx_file(network, onnx_file):
    exported = ExportedNetwork(onnx_file, onnx_engine="openvino")
    assert (exported.info, exported.depth) == (DESCRIBED, 2)
    for shape in ((1, 1, 44, 44), (3, 1, 60, 76), (2, 1, 44, 52)):  # several sizes and batches
        x = torch.rand(shape)
        got = exported(x)
        first = got.clone()
        exported(torch.rand(shape))
        assert torch.equal(got, first)  # the next call does not overwrite the scores
        torch.testing.assert_close(got, network(x), rtol=0, atol=1e-5)


@needs_onnx
@needs_openvino
@torch.no_grad()
def test_openvino_rounds_to_bfloat16_only_if_asked_and_if_the_cpu_has_instructions(network, onnx_file):
    x = torch.rand(1, 1, 60, 60)
    exact, rounded = (ExportedNetwork(onnx_file, onnx_engine="openvino", amp_dtype=name)(x) for name in (None, "auto"))
    assert torch.equal(exact, rounded) != computes_in_bfloat16(torch.device("cpu"))
    assert_same_scores(rounded, exact, torch.bfloat16, convolutions=13)


def test_openvino_takes_only_onnx_files_and_unknown_engines_are_refused(script):
    with pytest.raises(ValueError, match=r"openvino .*\.onnx .*net\.ts"):
        ExportedNetwork(script, onnx_engine="openvino")
    with pytest.raises(ValueError, match=r"onnx_engine.*'openvino'.*'tvm'"):
        ExportedNetwork(script, onnx_engine="tvm")


def test_a_missing_openvino_is_reported_with_the_command_to_install_it(tmp_path, monkeypatch):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"anything")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ImportError, match=r"net\.onnx needs openvino\. .*pip install openvino.* onnxruntime"):
        ExportedNetwork(path, onnx_engine="openvino")


@needs_openvino
def test_a_damaged_file_is_reported_by_name_with_openvino_too(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"not an export")
    with pytest.raises(ValueError, match=r"net\.onnx cannot be read, .*damaged"):
        ExportedNetwork(path, onnx_engine="openvino")


def test_plain_weights_are_refused_as_a_backend(tmp_path):
    with pytest.raises(ValueError, match=r"model\.pt .* suffix \.pt, .* \.onnx, \.ts, \.pt2\. .* ckpt_path"):
        ExportedNetwork(tmp_path / "model.pt")


@pytest.mark.parametrize("suffix", LOADERS)
def test_a_missing_file_is_reported_with_the_remedies(suffix, tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"no file at .*model\{suffix}.*export.*ckpt_path"):
        ExportedNetwork(tmp_path / f"model{suffix}")


@pytest.mark.parametrize("suffix", LOADERS)
def test_a_damaged_file_is_reported_by_name(suffix, tmp_path):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install '.[onnx]'")
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"not an export")
    with pytest.raises(ValueError, match=rf"model\{suffix} cannot be read, .*damaged"):
        ExportedNetwork(path)


def test_the_description_is_plain_json_in_the_file(script):
    extra = {INFO: ""}
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.load(str(script), _extra_files=extra)
    assert json.loads(extra[INFO]) == DESCRIBED


class Classifier(torch.nn.Module):
    """A network for another task: a score for each class of the whole image."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(2, 3))


@pytest.fixture
def save_script(tmp_path):
    """Write a network as a TorchScript file without a description."""

    def save(network: torch.nn.Module) -> Path:
        with pytest.warns(DeprecationWarning, match="torch.jit"):
            torch.jit.save(torch.jit.script(network), tmp_path / "net.ts")
        return tmp_path / "net.ts"

    return save


def test_a_network_for_another_task_is_refused_with_its_output(save_script):
    exported = ExportedNetwork(save_script(Classifier()))
    with pytest.raises(ValueError, match=r"net\.ts gives \(1, 1\) .*\(batch, classes, 4, 4\)"):
        exported(torch.rand(1, 1, 188, 188))


def test_images_with_other_channels_are_refused_without_the_engine_s_trace(save_script):
    exported = ExportedNetwork(save_script(RonnebergerUNet(features=(2, 3, 4)).eval()))
    with pytest.raises(ValueError, match=r"net\.ts cannot compute a tile \(1, 3, 60, 60\)") as raised:
        exported(torch.rand(1, 3, 60, 60))
    assert "\n" not in str(raised.value)
    assert "channels" in str(raised.value)


def test_channels_in_the_description_are_compared_first(network, tmp_path):
    FORMATS["torchscript"].write(network, tmp_path / "net.ts", {**DESCRIBED, "in_channels": 1})
    with pytest.raises(ValueError, match=r"net\.ts takes images of 1 channels, got 3"):
        ExportedNetwork(tmp_path / "net.ts")(torch.rand(1, 3, 60, 60))


@pytest.mark.parametrize("described", [[1, 2], {"depth": "deep"}])
def test_a_description_of_another_kind_is_refused(described, network, tmp_path):
    FORMATS["torchscript"].write(network, tmp_path / "net.ts", described)
    with pytest.raises(ValueError, match=r"net\.ts cannot be read"):
        ExportedNetwork(tmp_path / "net.ts")
