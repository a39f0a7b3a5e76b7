"""Overlap-tile inference equals a single pass over the whole image, mirrored by numpy. The oracles use no tiles."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from PIL import Image
from torch import nn

from scripts.inferers.overlap_tile import MixedPrecisionInferer, OverlapTileInferer
from scripts.networks.geometry import margin, valid_input_size
from scripts.networks.unet import RonnebergerUNet
from tests.same_scores import assert_same_scores

FLIPS = [(), (-1,), (-2,), (-2, -1)]


class Counted:
    """Record the shapes of a network's inputs."""

    def __init__(self, network):
        self.network = network
        self.shapes = []

    def __call__(self, x, *args, **kwargs):
        self.shapes.append(tuple(x.shape))
        return self.network(x, *args, **kwargs)


def tiny(depth=2, channels=1, classes=2, **kwargs):
    torch.manual_seed(depth)
    network = RonnebergerUNet(in_channels=channels, out_channels=classes, features=tuple(range(3, 4 + depth)), **kwargs)
    return network.double().eval()


def images(*shape):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def mirrored(x, before, after):
    """Extend images (B, C, H, W) by numpy. Images may be mirrored several times."""
    return torch.from_numpy(np.pad(x.numpy(), ((0, 0), (0, 0), *zip(before, after, strict=True)), mode="reflect"))


@torch.no_grad()
def whole_pass(network, x):
    """Run an unpadded network once over the whole mirrored image."""
    size, border = x.shape[2:], margin(network.depth)
    after = [valid_input_size(n + 2 * border, network.depth) - border - n for n in size]
    return network(mirrored(x, [border] * 2, after))[..., : size[0], : size[1]]


@torch.no_grad()
def infer(network, x, **kwargs):
    return OverlapTileInferer(**kwargs)(x, network)


# Seamless


@pytest.mark.parametrize(
    "depth, tile_size",
    [(1, 20), (1, (18, 34)), (2, 48), (2, (56, 72)), (3, 108), (3, (100, 132)), (4, 204), (4, (236, 220))],
)
@pytest.mark.parametrize(
    "shape",
    [(1, 1, 75, 53), (2, 1, 40, 70), (1, 3, 33, 64), (1, 1, 1, 1), (1, 1, 2, 37), (3, 2, 7, 5)],
    ids=str,
)
def test_tiling_equals_whole_image_inference(depth, tile_size, shape):
    network, x = tiny(depth, channels=shape[1], classes=3), images(*shape)
    scores = infer(network, x, tile_size=tile_size)
    assert scores.shape == (shape[0], 3, *shape[2:])
    assert (scores - whole_pass(network, x)).abs().max() < 1e-10


@pytest.mark.parametrize("shape", [(1, 1, 390, 60), pytest.param((1, 1, 512, 512), marks=pytest.mark.slow)], ids=str)
def test_tiling_equals_whole_image_inference_at_the_papers_tile_size(shape):
    network, x = tiny(4), images(*shape)
    expected = whole_pass(network, x)
    for tile_size in (572, None):
        assert (infer(network, x, tile_size=tile_size) - expected).abs().max() < 1e-10


def test_stepping_by_the_output_size_as_the_authors_do_is_not_seamless():
    network, x = tiny(4), images(1, 1, 60, 50)
    expected = whole_pass(network, x)
    counted = Counted(network)
    authors = infer(counted, x, tile_size=204, sw_batch_size=1, authors_stride=True)
    assert len(counted.shapes) == 9  # 3 x 3, stepped by 20 pixels
    difference = (authors - expected).abs()
    assert difference[..., :20, :20].max() < 1e-10  # the first tile keeps the phase of the pooling
    assert difference.max() > 0.1 * expected.std()


@pytest.mark.parametrize("channels, classes", [(1, 1), (3, 10), (5, 2)])
def test_channels_in_and_classes_out_are_the_networks(channels, classes):
    network, x = tiny(2, channels, classes), images(2, channels, 30, 41)
    assert (infer(network, x, tile_size=48) - whole_pass(network, x)).abs().max() < 1e-10


def test_an_image_of_one_pixel_is_its_own_context():
    network = tiny(4)
    scores = infer(network, torch.full((1, 1, 1, 1), 0.3, dtype=torch.float64))
    constant = network(torch.full((1, 1, 188, 188), 0.3, dtype=torch.float64))
    assert torch.allclose(scores, constant[..., :1, :1])


def test_real_slices_are_segmented_without_seams(data_root):
    paths = sorted((data_root / "isbi2012" / "train" / "images").glob("*"))
    slice_ = torch.from_numpy(np.asarray(Image.open(paths[0]), dtype=np.float64))[None, None] / 255
    network = tiny(2)
    assert (infer(network, slice_, tile_size=204) - whole_pass(network, slice_)).abs().max() < 1e-10


# Work


@pytest.mark.parametrize(
    "arguments, calls",
    [
        ({}, [(2, 1, 56, 48)]),  # both images, one tile each
        ({"sw_batch_size": 1}, [(1, 1, 56, 48)] * 2),
        ({"tile_size": 44}, [(2 * 4 * 2, 1, 44, 44)]),  # output 4: 4 x 2 tiles for 14 x 7
        ({"tile_size": 44, "sw_batch_size": 5}, [(5, 1, 44, 44)] * 3 + [(1, 1, 44, 44)]),
        ({"orientations": 4}, [(8, 1, 56, 48)]),
        ({"orientations": 8}, [(8, 1, 56, 48), (8, 1, 48, 56)]),
        ({"orientations": 8, "tile_size": 56}, [(16, 1, 56, 56)]),  # quarter turns join if the tile is square
        ({"orientations": 8, "tile_size": (56, 48)}, [(24, 1, 56, 48)]),  # a turned image needs two tiles
    ],
    ids=str,
)
def test_tiles_join_in_as_few_calls_as_the_limits_allow(arguments, calls):
    """On the meta device, with shapes and without values: on a CPU, tiles do not join."""
    network = Counted(tiny(2).to("meta"))
    infer(network, images(2, 1, 14, 7).to("meta"), depth=2, **arguments)
    assert network.shapes == calls


@pytest.mark.parametrize("arguments, calls", [({}, 1), ({"orientations": 8}, 8), ({"tile_size": 44}, 8)], ids=str)
def test_a_cpu_takes_one_tile_at_a_time_unless_sw_batch_size_is_set(arguments, calls):
    network = Counted(tiny(2))
    infer(network, images(1, 1, 14, 7), depth=2, **arguments)
    assert [shape[0] for shape in network.shapes] == [1] * calls
    network.shapes.clear()
    infer(network, images(1, 1, 14, 7), depth=2, **arguments, sw_batch_size=100)
    assert sum(shape[0] for shape in network.shapes) == calls
    assert len(network.shapes) <= 2


@pytest.mark.parametrize("sw_batch_size", [1, 2, 3, 7, 100])
def test_tiles_per_batch_do_not_change_the_result(sw_batch_size):
    network, x = tiny(2), images(2, 1, 45, 30)
    batched = infer(network, x, tile_size=56, sw_batch_size=sw_batch_size)
    assert (batched - whole_pass(network, x)).abs().max() < 1e-10


def test_a_memory_limit_makes_smaller_tiles_and_the_same_result():
    network, x = tiny(2), images(1, 1, 150, 170)
    pixel = 6656 * 3 // 64  # float64, three features in the top level
    expected = infer(network, x)
    shapes = []
    network.register_forward_pre_hook(lambda module, inputs: shapes.append(inputs[0].shape))
    for limit in (80**2 * pixel, 150**2 * pixel):
        shapes.clear()
        assert (infer(network, x, memory_limit=limit) - expected).abs().max() < 1e-10
        assert all(height * width * pixel <= limit for _, _, height, width in shapes)
        assert len(shapes) > 1


def test_a_memory_limit_holds_for_the_tiles_of_a_batch_together():
    network, x = tiny(2).to("meta"), images(1, 1, 150, 170).to("meta")  # a CPU takes one tile at a time
    shapes = []
    network.register_forward_pre_hook(lambda module, inputs: shapes.append(inputs[0].shape))
    for sw_batch_size in (None, 4):
        infer(network, x, memory_limit=200**2 * 312, sw_batch_size=sw_batch_size)
    infer(network, x, memory_limit=200**2 * 312, tile_size=60)
    assert all(count * height * width <= 200**2 for count, _, height, width in shapes)
    assert max(shape[0] for shape in shapes) == 11  # (200 / 60)^2
    assert OverlapTileInferer(memory_limit="auto", tile_size=60)(x, network).shape == (1, 2, 150, 170)


def test_a_memory_limit_below_the_smallest_tile_is_refused_and_the_least_is_named():
    network, x = tiny(2), images(1, 1, 150, 170)
    least = 44 * 44 * 312
    with pytest.raises(ValueError, match=rf"memory_limit=5000 .* 1 of the smallest tile, 44 x 44, .* {least} bytes"):
        infer(network, x, memory_limit=5000)
    with pytest.raises(ValueError, match=f"2 of the smallest tile, 44 x 44, .* {2 * least} bytes"):
        infer(network, x, memory_limit=least, sw_batch_size=2)
    assert infer(network, x[..., :9, :9], memory_limit=least).shape == (1, 2, 9, 9)


def test_progress_counts_tiles(capsys):
    infer(tiny(2), images(1, 1, 8, 8), tile_size=44, sw_batch_size=3, progress=True)
    assert "4/4" in capsys.readouterr().err
    infer(tiny(2), images(1, 1, 8, 8), tile_size=44)
    assert capsys.readouterr().err == ""


# Padded networks


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("up_kernel_size", [2, 3])
def test_tiles_of_a_padded_network_equal_one_pass_with_any_wider_border(depth, up_kernel_size):
    network, x = tiny(depth, padding="same", up_kernel_size=up_kernel_size), images(1, 1, 50, 37)
    border = 9 * 2**depth
    after = [border + -n % 2**depth for n in x.shape[2:]]
    with torch.no_grad():
        expected = network(mirrored(x, [border] * 2, after))[..., border : border + 50, border : border + 37]
    for tile_size in (16 * 2**depth, None):
        assert (infer(network, x, tile_size=tile_size) - expected).abs().max() < 1e-10


def test_tiles_of_a_padded_network_equal_the_network_on_the_bare_image_away_from_its_edges():
    network, x = tiny(2, padding="same"), images(1, 1, 80, 92)
    bare = network(x).detach()
    reach = 22  # of the zeros: 2, 1 + 2, 2 + 2 pixels in the contracting path, 2 * 4 + 2, 2 * 10 + 2 in the expansive
    difference = (infer(network, x, tile_size=72) - bare).abs()
    assert difference[..., reach:-reach, reach:-reach].max() < 1e-10
    assert difference.max() > 1e-3


def test_a_margin_within_reach_of_the_zeros_shows_seams():
    network, x = tiny(2, padding="same"), images(1, 1, 80, 92)
    expected = infer(network, x)
    assert (infer(network, x, tile_size=72, margin=24) - expected).abs().max() < 1e-10
    assert (infer(network, x, tile_size=72, margin=20) - expected).abs().max() > 1e-10


def test_without_margin_a_padded_network_sees_the_bare_image():
    network, x = tiny(3, padding="same"), images(1, 1, 40, 64)
    assert torch.allclose(infer(network, x, margin=0), network(x).detach())


def test_a_network_that_interpolates_back_to_its_input_runs():
    network = tiny(2, retain_dim=True)
    x = images(1, 1, 44, 52)
    assert torch.allclose(infer(network, x), network(x).detach())  # sizes that fit: the network itself
    assert infer(network, images(1, 1, 70, 33), tile_size=44).shape == (1, 2, 70, 33)


def test_padding_and_depth_come_from_the_network_unless_given():
    x = images(1, 1, 20, 20)
    network = tiny(3, padding="same")
    counted = Counted(network)  # hides the attributes
    assert torch.allclose(infer(counted, x, depth=3, padding="same"), infer(network, x))
    for wrapped in (nn.DataParallel(network), torch.compile(network, backend="eager")):
        assert torch.allclose(infer(wrapped, x), infer(network, x))


# Orientations


@pytest.mark.parametrize("average", ["scores", "probabilities"])
@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("orientations", [4, 8])
def test_orientations_average_whole_passes_over_the_turned_image(orientations, classes, average):
    network, x = tiny(2, classes=classes), images(2, 1, 39, 26)
    passes = [whole_pass(network, x.flip(axes)).flip(axes) for axes in FLIPS]
    if orientations == 8:
        upright = x.transpose(-2, -1)
        passes += [whole_pass(network, upright.flip(axes)).flip(axes).transpose(-2, -1) for axes in FLIPS]
    votes = [p.softmax(1) if classes > 1 else p.sigmoid() for p in passes] if average == "probabilities" else passes
    expected = sum(votes) / orientations
    for tile_size in (56, None):
        result = infer(network, x, orientations=orientations, average=average, tile_size=tile_size)
        if average == "probabilities":
            result = result.softmax(1) if classes > 1 else result.sigmoid()
        assert (result - expected).abs().max() < 1e-10


@pytest.mark.parametrize("average", ["scores", "probabilities"])
@pytest.mark.parametrize("classes", [1, 2, 3])
@pytest.mark.parametrize("orientations", [4, 8])
def test_the_deviation_is_that_of_class_1_over_whole_passes_and_leaves_the_scores(orientations, classes, average):
    network, x = tiny(2, classes=classes), images(2, 1, 39, 26)
    passes = [whole_pass(network, x.flip(axes)).flip(axes) for axes in FLIPS]
    if orientations == 8:
        upright = x.transpose(-2, -1)
        passes += [whole_pass(network, upright.flip(axes)).flip(axes).transpose(-2, -1) for axes in FLIPS]
    chances = torch.stack([p.sigmoid() if classes == 1 else p.softmax(1)[:, 1:2] for p in passes])
    options = {"orientations": orientations, "average": average}
    for tile_size in (56, None):
        found = infer(network, x, deviation=True, tile_size=tile_size, **options)
        assert (found["deviation"] - chances.std(0, correction=0)).abs().max() < 1e-6
        assert torch.allclose(found["pred"], infer(network, x, tile_size=tile_size, **options))


def test_a_single_view_has_no_deviation():
    assert isinstance(infer(tiny(1), images(1, 1, 21, 12), deviation=True), torch.Tensor)


def test_deviations_of_certain_networks_in_single_precision_are_close_to_0():
    blur = nn.Conv2d(1, 2, 2 * margin(1) + 1, bias=False)
    nn.init.constant_(blur.weight[0], -1.0)
    nn.init.constant_(blur.weight[1], 1.0)
    found = infer(blur, images(1, 1, 21, 12).float(), depth=1, tile_size=22, orientations=8, deviation=True)
    assert found["deviation"].dtype == torch.float32
    assert found["deviation"].max() < 1e-3  # all views are equal


def test_a_network_that_turns_with_the_image_is_not_changed_by_averaging():
    blur = nn.Conv2d(1, 2, 2 * margin(1) + 1, bias=False, dtype=torch.float64)
    nn.init.constant_(blur.weight[0], 0.01)
    nn.init.constant_(blur.weight[1], -0.02)
    x = images(1, 1, 21, 12)
    once = infer(blur, x, depth=1, tile_size=22)
    for orientations in (4, 8):
        assert torch.allclose(infer(blur, x, depth=1, tile_size=22, orientations=orientations), once)


def test_averaged_probabilities_stay_finite_for_certain_networks():
    class Certain(nn.Module):
        depth = 1

        def forward(self, x):
            x = x[..., 8:-8, 8:-8] * 1000
            return torch.cat([x, -x], dim=1)[:, : self.classes]

    network, x = Certain(), torch.tensor([[[[1.0, -1.0]]]])
    for network.classes in (1, 2):
        assert infer(network, x, orientations=4, average="probabilities").isfinite().all()


# Types, devices, gradients


def test_meta_data_is_kept_as_monais_sliding_window_keeps_it():
    x = MetaTensor(torch.rand(2, 1, 20, 30), affine=torch.eye(4).mul(2).repeat(2, 1, 1), meta={"name": ["a", "b"]})
    x.is_batch = True
    ours = infer(tiny(2).float(), x)
    theirs = SlidingWindowInferer(16)(x, nn.Identity())
    assert isinstance(ours, MetaTensor)
    assert ours.meta["name"] == ["a", "b"]
    assert torch.equal(ours.affine, x.affine)
    assert ours.meta.keys() == theirs.meta.keys()
    assert ours.is_batch == theirs.is_batch
    assert ours.applied_operations == theirs.applied_operations
    assert type(infer(tiny(2).float(), x.as_tensor())) is torch.Tensor
    assert torch.equal(ours.as_tensor(), infer(tiny(2).float(), x.as_tensor()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scores_have_the_precision_of_the_network(dtype):
    assert infer(tiny(2).to(dtype), images(1, 1, 9, 9).to(dtype)).dtype == dtype


@pytest.mark.parametrize("amp_dtype", ["bfloat16", "float16"])
def test_half_precision_is_close_to_single(amp_dtype):
    """The error is at most 3 % of the scores' norm with 8 bits of mantissa, and 0.4 % with 11 bits."""
    torch.manual_seed(0)
    network = RonnebergerUNet(features=(16, 32, 64)).eval()
    x = images(1, 1, 60, 70).float()
    seen = []
    network.contracting[0][0].register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    half, single = infer(network, x, amp_dtype=amp_dtype), infer(network, x)
    assert seen == [getattr(torch, amp_dtype), torch.float32]
    assert half.dtype == torch.float32
    assert not torch.equal(half, single)
    assert_same_scores(half, single, getattr(torch, amp_dtype), convolutions=13)


def test_channels_last_is_how_tiles_are_laid_out():
    layouts = []

    def network(x):
        layouts.append(x.stride()[-3:])
        return x[..., 8:-8, 8:-8]

    for channels_last in (True, False):
        for channels in (1, 3):
            infer(network, images(1, channels, 2, 2), depth=1, channels_last=channels_last)
    assert layouts == [(1, 18, 1), (1, 54, 3), (324, 18, 1), (324, 18, 1)]


def test_gradients_are_the_callers_choice():
    network, x = tiny(1), images(1, 1, 9, 9)
    scores = OverlapTileInferer(tile_size=20, orientations=4)(x, network)
    scores.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    with torch.inference_mode():
        assert not OverlapTileInferer(tile_size=20)(x, network).requires_grad


def test_further_arguments_reach_the_network():
    def network(x, factor, shift=0.0):
        return x[..., 8:-8, 8:-8] * factor + shift

    x = images(1, 1, 5, 5)
    assert torch.allclose(OverlapTileInferer(depth=1)(x, network, 2.0, shift=1.0), 2 * x + 1)


def test_an_exported_network_of_fixed_size_runs_tile_by_tile():
    network, x = tiny(2), images(1, 1, 30, 30)
    exported = torch.export.export(network, (torch.zeros(1, 1, 60, 60, dtype=torch.float64),)).module()
    scores = infer(exported, x, depth=2, tile_size=60, sw_batch_size=1)
    assert (scores - whole_pass(network, x)).abs().max() < 1e-10


def test_an_inferer_survives_pickling():
    inferer = pickle.loads(pickle.dumps(OverlapTileInferer(tile_size=48, amp_dtype="bfloat16")))
    assert inferer(images(1, 1, 3, 3).float(), tiny(2).float()).shape == (1, 2, 3, 3)


@pytest.mark.gpu
def test_images_on_the_cpu_pass_through_a_network_on_the_gpu_and_large_outputs_stay_on_the_cpu():
    network, x = tiny(2), images(1, 1, 60, 60)
    expected = whole_pass(network, x)
    network = network.cuda()
    assert (infer(network, x, tile_size=56, sw_device="cuda") - expected).abs().max() < 1e-10
    for arguments, device in [({}, "cuda"), ({"cpu_thresh": 3599}, "cpu"), ({"device": "cpu"}, "cpu")]:
        scores = infer(network, x.cuda(), tile_size=56, **arguments)
        assert scores.device.type == device
        assert (scores.cpu() - expected).abs().max() < 1e-10


# Refusals


@pytest.mark.parametrize("shape", [(512, 512), (1, 512, 512), (1, 1, 8, 8, 8), (1, 1, 0, 8)], ids=str)
def test_inputs_other_than_a_batch_of_planes_are_refused(shape):
    with pytest.raises(ValueError, match=r"images \(B, C, H, W\) .* got \("):
        OverlapTileInferer()(torch.zeros(shape), nn.Identity())


@pytest.mark.parametrize(
    "network, arguments",
    [
        (tiny(2, padding="same"), {"padding": "valid", "tile_size": 60}),
        (tiny(2), {"padding": "retain_dim", "tile_size": 60}),
        (lambda x: x[:, :, ::2, ::2], {"padding": "same"}),
        (lambda x: x[:1], {"padding": "same", "sw_batch_size": 2, "tile_size": 60, "margin": 8}),
    ],
)
def test_an_output_of_unexpected_size_is_refused(network, arguments):
    with pytest.raises(ValueError, match=r"the network returned \(.*the inferer expects \(.*Set `depth`"):
        infer(network, images(1, 1, 70, 70), depth=2, **arguments)


def test_a_network_that_returns_several_outputs_is_refused():
    with pytest.raises(TypeError, match="one tensor, got tuple"):
        infer(lambda x: (x, x), images(1, 1, 4, 4))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"orientations": 7}, "orientations must be one of 1, 4, 8, got 7"),
        ({"average": "votes"}, "average must be one of 'scores', 'probabilities', got 'votes'"),
        ({"padding": "zeros"}, "padding must be one of"),
        ({"memory_limit": "4GB"}, "memory_limit must be .*'auto', got '4GB'"),
        ({"sw_batch_size": 0}, "sw_batch_size must be at least 1 tile, got 0"),
        ({"tile_size": (1, 2, 3)}, r"one length or \(height, width\), got \(1, 2, 3\)"),
        ({"amp_dtype": "half"}, "amp_dtype must be one of .*'auto', 'float32', 'bfloat16', 'float16', got 'half'"),
    ],
    ids=str,
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        OverlapTileInferer(**arguments)


# Mixed precision in training


@pytest.mark.parametrize("amp_dtype", ["bfloat16", "float16", None])
def test_training_runs_in_mixed_precision_and_scores_are_single(amp_dtype):
    network = tiny(1).float()
    seen = []
    network.scores.register_forward_hook(
        lambda module, inputs, output: seen.append(
            (output.dtype, inputs[0].is_contiguous(memory_format=torch.channels_last))
        )
    )
    x = MetaTensor(torch.rand(1, 1, 20, 22), meta={"name": "a"})
    scores = MixedPrecisionInferer(amp_dtype, channels_last=True)(x, network)
    assert seen == [(getattr(torch, amp_dtype or "float32"), True)]
    assert scores.dtype == torch.float32
    assert scores.meta["name"] == "a"
    scores.sum().backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in network.parameters())


def test_mixed_precision_without_a_type_is_the_network_itself():
    network, x = tiny(1), images(1, 1, 20, 22)
    assert torch.allclose(MixedPrecisionInferer(None)(x, network), network(x))
    plain = MixedPrecisionInferer(None, channels_last=False)(x, network)
    assert type(plain) is torch.Tensor
    assert plain.dtype == torch.float64
