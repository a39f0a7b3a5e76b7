"""The network has the paper's sizes, parameters and initialisation; the variants have their published numbers."""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise

import pytest
import torch
from torch import nn

from scripts.networks.arguments import described, weight_count
from scripts.networks.unet import RonnebergerUNet
from tests.same_scores import assert_same_scores

SMALL = {"features": (2, 4, 8), "dropout": 0.0}


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def convolutions(network: nn.Module) -> list[nn.modules.conv._ConvNd]:
    return [m for m in network.modules() if isinstance(m, nn.modules.conv._ConvNd)]


@pytest.fixture(scope="module")
def paper_net() -> RonnebergerUNet:
    torch.manual_seed(0)
    return RonnebergerUNet()


def test_defaults_are_the_network_of_figure_1(paper_net):
    assert count(paper_net) == 31_030_658
    assert len(convolutions(paper_net)) == 23
    assert not any(isinstance(m, nn.modules.batchnorm._NormBase) for m in paper_net.modules())
    assert [tuple(c.weight.shape) for c in convolutions(paper_net)][:2] == [(64, 1, 3, 3), (64, 64, 3, 3)]


def test_572_pixels_give_388(paper_net):
    network = deepcopy(paper_net).to("meta")  # shapes without numbers
    assert network(torch.zeros(1, 1, 572, 572, device="meta")).shape == (1, 2, 388, 388)


def test_weights_are_drawn_with_the_paper_s_deviation(paper_net):
    """3x3 over 64 channels: N = 576 (Sec. 3); an output of the 2x2 up-convolution uses one tap a channel: N = 1024."""
    by_shape = {tuple(c.weight.shape): c.weight.std().item() for c in convolutions(paper_net)}
    assert by_shape[64, 64, 3, 3] == pytest.approx((2 / 576) ** 0.5, rel=0.02)
    assert by_shape[1024, 512, 2, 2] == pytest.approx((2 / 1024) ** 0.5, rel=0.01)
    assert all(c.bias.abs().max() == 0 for c in convolutions(paper_net))


def test_dropout_ends_the_lowest_two_levels_before_the_skip_is_taken(paper_net):
    last = [type(stage[-1]).__name__ for stage in paper_net.contracting]
    assert last == ["ReLU", "ReLU", "ReLU", "Dropout", "Dropout"]
    assert {m.p for m in paper_net.modules() if isinstance(m, nn.Dropout)} == {0.5}
    assert not any(isinstance(m, nn.Dropout) for m in paper_net.expansive.modules())


@pytest.mark.parametrize(
    "arguments, size, shape, parameters",
    [
        ({"up_features": (128, 128, 256, 512), "up_activation": True, "concat": "up_first"}, 188, (2, 4), 31_100_354),
        # the first convolution has 2 * 9 * 64 more weights for RGB, the last one 65 for each class
        ({"in_channels": 3, "out_channels": 10}, 188, (10, 4), 31_030_658 + 1152 + 8 * 65),
        ({"in_channels": 3, "out_channels": 1, "retain_dim": True}, 188, (1, 188), 31_030_658 + 1152 - 65),
        (
            {
                "out_channels": 1,
                "features": (16, 32, 64, 128, 256),
                "padding": "same",
                "norm": "batch",
                "up_kernel_size": 3,
                "dropout": 0.1,
                "dropout_at": "stages",
            },
            64,
            (1, 64),
            2_161_361,
        ),
    ],
    ids=["release", "rgb, ten classes", "retain_dim", "padded, batch norm"],
)
def test_published_relatives_can_be_built(arguments, size, shape, parameters):
    network = RonnebergerUNet(**arguments).eval()
    with torch.no_grad():
        out = network(torch.zeros(1, arguments.get("in_channels", 1), size, size))
    assert out.shape == (1, shape[0], shape[1], shape[1])
    assert count(network) == parameters


def test_parameter_count_of_the_padded_net_is_the_sum_of_its_layers():
    """2,161,361, by hand: convolutions with bias, two batch norm parameters a channel, 3x3 up-convolutions."""
    f = (16, 32, 64, 128, 256)
    down = sum(9 * a * b + b + 9 * b * b + b + 4 * b for a, b in zip((1, *f), f, strict=False))
    up = sum(9 * b * a + a + 9 * 2 * a * a + a + 9 * a * a + a + 4 * a for a, b in pairwise(f))
    assert down + up + f[0] + 1 == 2_161_361


@pytest.mark.parametrize("spatial_dims", [1, 2, 3])
def test_any_number_of_axes(spatial_dims):
    network = RonnebergerUNet(spatial_dims=spatial_dims, in_channels=2, out_channels=3, **SMALL)
    assert network(torch.zeros(1, 2, *[44] * spatial_dims)).shape == (1, 3, *[4] * spatial_dims)


def test_crop_and_concatenation_follow_a_hand_built_net():
    """Depth 1, written out with torch's functions from the same weights."""
    torch.manual_seed(1)
    network = RonnebergerUNet(features=(2, 4), dropout=0.0).double()
    x = torch.randn(1, 1, 18, 22, dtype=torch.float64)
    f, w = nn.functional, [(c.weight, c.bias) for c in convolutions(network)]
    skip = f.conv2d(f.conv2d(x, *w[0]).relu(), *w[1]).relu()
    low = f.conv2d(f.conv2d(f.max_pool2d(skip, 2), *w[2]).relu(), *w[3]).relu()
    up = f.conv_transpose2d(low, *w[4], stride=2)
    joined = torch.cat([skip[:, :, 4:-4, 4:-4], up], 1)
    expected = f.conv2d(f.conv2d(f.conv2d(joined, *w[5]).relu(), *w[6]).relu(), *w[7])
    assert torch.allclose(network(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "shape, message",
    [
        ((1, 1, 570, 572), "input_size 570 does not fit 4 poolings.* 556 and 572 "),
        ((1, 3, 572, 572), "expects 1 channels, got 3"),
        ((1, 572, 572), r"expects an input \(batch, 1, H, W\), got 3 axes"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_and_the_expected_shape_is_named(paper_net, shape, message):
    with pytest.raises(ValueError, match=message):
        paper_net(torch.zeros(shape))


def test_a_padded_net_names_the_nearest_multiples():
    with pytest.raises(ValueError, match="nearest multiples of 4 are 40 and 44"):
        RonnebergerUNet(padding="same", **SMALL)(torch.zeros(1, 1, 42, 40))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"padding": "reflect"}, "padding is 'reflect'.*'same'"),
        ({"spatial_dims": 4}, "spatial_dims is 4.*1, 2 or 3"),
        ({"features": 16}, r"features is 16.*\[64, 128, 256\]"),
        ({"features": ()}, r"features is \[\].*levels"),
        ({"features": (64,)}, r"features is \[64\].*2 to 10 levels"),
        ({"features": [4] * 30}, "2 to 10 levels"),
        ({"features": (4, -8)}, r"features is \[4, -8\].*at least 1"),
        ({"features": (4, 8.5)}, r"features is \[4, 8.5\].*whole"),
        ({"features": "4,8"}, "features is '4,8'"),
        ({"features": (2**18, 2**19)}, r"features is \[262144, 524288\].*GiB"),
        ({"in_channels": 0}, "in_channels is 0.*at least 1"),
        ({"out_channels": True}, "out_channels is True"),
        ({"dropout": 1.0}, "dropout is 1.0.*rate"),
        ({"dropout": -0.1}, "dropout is -0.1.*rate"),
        ({"dropout": float("nan")}, "dropout is nan"),
        ({"dropout": "much"}, "dropout is 'much'"),
        ({"up_features": (64,)}, "one level less"),
        ({"up_features": (64, 128, 256, 0)}, "up_features is .*at least 1"),
        ({"up_activation": "false"}, "up_activation is 'false'.*true or false"),
        ({"norm": "btach"}, "norm is 'btach'.*batch"),
        ({"norm": []}, "norm is"),
        ({"up_kernel_size": 5, "concat": "none"}, "up_kernel_size is 5.*concat is 'none'"),
    ],
)
def test_wrong_arguments_are_refused_with_name_value_and_what_was_expected(arguments, message):
    with pytest.raises(ValueError, match=message):
        RonnebergerUNet(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [{"features": (4, 8, 16)}, {"features": (4, 6), "up_features": (3,), "up_kernel_size": 3, "norm": "batch"}],
)
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_the_counted_weights_are_those_of_the_network(arguments, spatial_dims):
    network = RonnebergerUNet(spatial_dims, in_channels=3, **arguments)
    weights = sum(values.numel() for name, values in network.named_parameters() if values.ndim > 2)
    assert weight_count(network.definition) == weights


@pytest.mark.parametrize("arguments", [{"norm": "batch", "dropout_at": "stages"}, {"padding": "same", "dropout": 0.0}])
def test_weights_tell_the_network_s_channels_and_width(arguments):
    network = RonnebergerUNet(in_channels=3, out_channels=5, features=(4, 6, 8, 9), **arguments)
    told = {"in_channels": 3, "out_channels": 5, "features": [4, 6, 8, 9]}
    assert described(network.state_dict()) == told
    assert described(torch.nn.Linear(2, 1).state_dict()) == {}


def test_odd_channel_counts_work():
    assert RonnebergerUNet(in_channels=5, out_channels=7, features=(3, 5, 7))(torch.zeros(1, 5, 44, 60)).shape[1] == 7


def test_runs_in_bfloat16_and_channels_last_near_the_plain_result():
    torch.manual_seed(0)
    network, x = RonnebergerUNet(**SMALL), torch.randn(2, 1, 60, 76)
    plain = network(x)
    last = network.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    assert_same_scores(last, plain, torch.float32, convolutions=13)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same_scores(network(x), plain, torch.bfloat16, convolutions=13)


@pytest.fixture(scope="module")
def exported() -> tuple[RonnebergerUNet, dict]:
    network = RonnebergerUNet(**SMALL).eval()
    rows, columns = (torch.export.Dim(name, min=11) for name in ("rows", "columns"))
    return network, {0: torch.export.Dim("batch"), 2: 4 * rows, 3: 4 * columns}


def test_export_keeps_batch_and_size_free(exported):
    network, dynamic = exported
    program = torch.export.export(network, (torch.randn(2, 1, 60, 76),), dynamic_shapes=(dynamic,))
    x = torch.randn(1, 1, 44, 88)
    assert torch.allclose(program.module()(x), network(x), atol=1e-5)


def test_torchscript_keeps_the_size_free(exported):
    network, _ = exported
    with pytest.warns(DeprecationWarning, match="torch.export"):  # torch recommends its successor
        script = torch.jit.script(network)
    x = torch.randn(1, 1, 44, 88)
    assert torch.allclose(script(x), network(x), atol=1e-5)


@pytest.mark.slow
def test_compiles_to_the_same_result():
    network = RonnebergerUNet(features=(2, 4), dropout=0.0).eval()  # compiling takes seconds for each level
    x = torch.randn(1, 1, 28, 36)
    assert torch.allclose(torch.compile(network)(x), network(x), atol=1e-4)
