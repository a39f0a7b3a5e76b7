"""Formats of exported files: their input sizes, variants of the network, and missing packages."""

from __future__ import annotations

import importlib.util
import warnings

import pytest
import torch

from bundle.publishing.exporters import FORMATS, check_installed, tile_sizes
from bundle.running.errors import UsageError
from scripts.inferers.exported import ExportedNetwork
from scripts.networks.unet import RonnebergerUNet
from tests.optional import needs_onnx


@pytest.mark.parametrize(
    "arguments, sizes",
    [
        ({}, (188, 16)),
        ({"features": (2, 3, 4)}, (44, 4)),
        ({"padding": "same"}, (32, 16)),
        ({"retain_dim": True}, (188, 16)),
    ],
)
@torch.no_grad()
def test_the_input_sizes_of_an_export_fit_the_network(arguments, sizes):
    network = RonnebergerUNet(**{"features": (2, 2, 2, 2, 2), **arguments}).eval()
    assert tile_sizes(network) == sizes
    for times in (0, 1):
        side = sizes[0] + times * sizes[1]
        network(torch.zeros(1, 1, side, side))  # raises an error for a wrong size


@pytest.mark.slow
@needs_onnx
@pytest.mark.parametrize("arguments", [{"retain_dim": True}, {"norm": "batch", "padding": "same"}])
@pytest.mark.parametrize("name", ["onnx", "torchscript", "pt2"])
def test_variants_of_the_network_give_the_same_scores_from_a_file(name, arguments, tmp_path):
    torch.manual_seed(0)
    network = RonnebergerUNet(features=(3, 4), out_channels=3, **arguments).eval()
    path = tmp_path / f"net{FORMATS[name].suffix}"
    info = {"depth": 1, "padding": network.padding, "retain_dim": network.retain_dim}
    FORMATS[name].write(network, path, info)
    runs, (least, step) = ExportedNetwork(path), tile_sizes(network)
    for shape in ((1, 1, least, least), (3, 1, least + 5 * step, least + step)):
        x = torch.randn(shape)
        with torch.inference_mode():
            torch.testing.assert_close(runs(x), network(x), rtol=0, atol=1e-4)


def test_missing_packages_are_named_with_the_command_that_installs_them(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(UsageError, match=r"onnx needs onnxscript: pip install -c constraints\.txt onnxscript$"):
        check_installed("onnx")


def test_torchscript_has_no_operation_that_the_network_does_not_use(tmp_path):
    """A branch with `interpolate` needs operations of the newest torch, which other programs lack."""
    for retain_dim in (False, True):
        path = tmp_path / f"{retain_dim}.ts"
        FORMATS["torchscript"].write(RonnebergerUNet(features=(1, 2, 3), retain_dim=retain_dim).eval(), path, {})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            names = torch.jit.export_opnames(torch.jit.load(str(path)))
        assert any("upsample" in name for name in names) is retain_dim
