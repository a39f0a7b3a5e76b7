"""Networks from exported files: geometry, what they refuse, and that nothing around them changes their answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bundle.exporters import FORMATS
from scripts.backends import INFO, LOADERS, ExportedNetwork
from scripts.inferers import OverlapTileInferer
from scripts.networks import RonnebergerUNet

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
