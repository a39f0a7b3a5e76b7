"""Exported networks do the work of the network, so that their times can be compared."""

from __future__ import annotations

import torch

from benchmarks import exports
from scripts.inferers.precision import computes_in_bfloat16
from scripts.networks.unet import RonnebergerUNet
from tests.same_scores import assert_same_scores


def test_an_exported_network_has_the_scores_of_the_network(tmp_path):
    torch.manual_seed(0)
    network = RonnebergerUNet(features=(4, 8, 16, 32, 64)).eval()
    image = torch.rand(1, 1, 200, 40)
    ways = exports.methods(network, tmp_path, ("torchscript",))
    with torch.inference_mode():
        scores = {name: run(image) for name, run in ways.items()}
    rounded = scores.pop("network, bfloat16", None)
    assert list(scores) == ["network, float32", "torchscript, float32"]
    torch.testing.assert_close(scores["torchscript, float32"], scores["network, float32"], rtol=0, atol=1e-4)
    assert (rounded is not None) == computes_in_bfloat16(torch.device("cpu"))
    if rounded is not None:
        assert not torch.equal(rounded, scores["network, float32"])
        assert_same_scores(rounded, scores["network, float32"], torch.bfloat16)
