"""Networks from exported files: geometry, what they refuse, and that nothing around them changes their answer."""

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
def test_a_caller_s_autocast_and_half_precision_leave_it_in_float32(network, script):
    exported, x = ExportedNetwork(script), torch.rand(1, 1, 44, 60)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = exported(x)
        assert network(x).dtype == torch.bfloat16
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, network(x))
    assert exported(x.to(torch.bfloat16)).dtype == torch.float32


def test_an_engine_may_put_it_into_either_mode(script):
    exported = ExportedNetwork(script)
    x = torch.rand(1, 1, 44, 44)
    assert torch.equal(exported.train()(x), exported.eval()(x))  # no dropout: it was exported for inference


def test_a_file_for_other_classes_or_grey_values_is_refused(script):
    assert ExportedNetwork(script, expected={"intensity": "z_score", "unknown": 1}).info == DESCRIBED
    with pytest.raises(ValueError, match=r"net\.ts was exported with intensity 'z_score', .* says 'percentile'"):
        ExportedNetwork(script, expected={"intensity": "percentile"})


def test_a_file_of_another_program_is_taken_for_the_paper_s_geometry(network, tmp_path):
    path = tmp_path / "foreign.ts"
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.save(torch.jit.script(network), str(path))
    exported = ExportedNetwork(path)
    assert (exported.info, exported.depth, exported.padding) == ({}, 4, "valid")


def test_a_file_of_one_tile_size_says_so(network, tmp_path):
    path = tmp_path / "fixed.ts"
    FORMATS["torchscript"].write(network, path, DESCRIBED | {"tile_size": 60})
    exported = ExportedNetwork(path)
    assert exported(torch.rand(2, 1, 60, 60)).shape == (2, 2, 20, 20)
    with pytest.raises(ValueError, match=r"tiles of 60 x 60 only, got \(1, 1, 64, 60\); set tile_size to 60"):
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
    exported = ExportedNetwork(onnx_file, onnx_engine="openvino", expected={"intensity": "z_score"})
    assert (exported.info, exported.depth) == (DESCRIBED, 2)
    for shape in ((1, 1, 44, 44), (3, 1, 60, 76), (2, 1, 44, 52)):  # the first again: it keeps nothing of the others
        x = torch.rand(shape)
        got = exported(x)
        first = got.clone()
        exported(torch.rand(shape))
        assert torch.equal(got, first)  # a later answer does not overwrite it
        torch.testing.assert_close(got, network(x), rtol=0, atol=1e-5)


@needs_onnx
@needs_openvino
@torch.no_grad()
def test_openvino_rounds_to_bfloat16_only_where_it_is_told_to_and_the_cpu_can(network, onnx_file):
    x = torch.rand(1, 1, 60, 60)
    exact, rounded = (ExportedNetwork(onnx_file, onnx_engine="openvino", amp_dtype=name)(x) for name in (None, "auto"))
    assert torch.equal(exact, rounded) != computes_in_bfloat16(torch.device("cpu"))
    assert_same_scores(rounded, exact, torch.bfloat16, convolutions=13)


def test_openvino_is_for_onnx_files_and_named_right(script):
    with pytest.raises(ValueError, match=r"openvino runs \.onnx files, not .*net\.ts"):
        ExportedNetwork(script, onnx_engine="openvino")
    with pytest.raises(ValueError, match=r"onnx_engine.*'openvino'.*'tvm'"):
        ExportedNetwork(script, onnx_engine="tvm")


def test_where_openvino_is_missing_it_says_what_to_do(tmp_path, monkeypatch):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"anything")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ImportError, match="pip install openvino, or set onnx_engine to onnxruntime"):
        ExportedNetwork(path, onnx_engine="openvino")


@needs_openvino
def test_a_damaged_file_is_one_message_of_openvino_too(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"not an export")
    with pytest.raises(ValueError, match=r"net\.onnx cannot be read: ."):
        ExportedNetwork(path, onnx_engine="openvino")


def test_weights_alone_are_not_a_backend(tmp_path):
    with pytest.raises(ValueError, match=r"suffix \.pt, expected one of \.onnx, \.ts, \.pt2; .* as ckpt_path"):
        ExportedNetwork(tmp_path / "model.pt")


@pytest.mark.parametrize("suffix", LOADERS)
def test_a_missing_file_says_how_to_make_it(suffix, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file at .*; make it with python -m bundle export"):
        ExportedNetwork(tmp_path / f"model{suffix}")


@pytest.mark.parametrize("suffix", LOADERS)
def test_a_damaged_file_is_one_message_with_its_name(suffix, tmp_path):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install '.[onnx]'")
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"not an export")
    with pytest.raises(ValueError, match=rf"model\{suffix} cannot be read: ."):
        ExportedNetwork(path)


def test_the_description_is_plain_json_in_the_file(script):
    extra = {INFO: ""}
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.load(str(script), _extra_files=extra)
    assert json.loads(extra[INFO]) == DESCRIBED
