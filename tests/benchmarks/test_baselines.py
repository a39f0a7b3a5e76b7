"""What the benchmarks compare is the same work: baselines give the right result before their times mean anything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import augmentation, em_slice, exports, inference, literal_metrics, metrics, step, training, weight_map
from benchmarks.measure import PAPER, Setup
from scripts.inferers.overlap_tile import OverlapTileInferer
from scripts.inferers.precision import computes_in_bfloat16
from scripts.inferers.tiling import plan_tiles
from scripts.networks.unet import RonnebergerUNet
from tests.same_scores import assert_same_scores


def test_the_copied_weight_map_is_the_formula_on_a_strip_by_hand():
    mask = np.array([[1, 0, 0, 0, 1, 0]]) > 0
    d1_plus_d2 = np.array([1 + 3, 2 + 2, 3 + 1, 1 + 5])
    expected = np.ones((1, 6))
    expected[0, [1, 2, 3, 5]] += 10 * np.exp(-(d1_plus_d2**2) / 50)
    np.testing.assert_allclose(weight_map.copied(mask), expected, atol=1e-12)
    np.testing.assert_allclose(weight_map.ours(mask), expected, atol=1e-6)


def test_both_weight_maps_agree_on_made_nuclei():
    instances = weight_map.nuclei(160, 40)
    assert 30 < len(np.unique(instances)) - 1 <= 40
    np.testing.assert_allclose(weight_map.ours(instances > 0), weight_map.copied(instances > 0), atol=1e-5)


def test_a_comparison_of_different_results_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(weight_map, "copied", lambda mask: weight_map.ours(mask) + 1e-3)
    with pytest.raises(ValueError, match=r"differ by 0\.001"):
        next(weight_map.rows(Setup(1, torch.device("cpu"), None, tmp_path, quick=True)))


def planes(moved: object) -> list[np.ndarray]:
    """Image, label and weight of a dictionary or a list."""
    values = [moved[key] for key in augmentation.KEYS] if isinstance(moved, dict) else moved
    return [np.squeeze(np.asarray(value)) for value in values]


@pytest.mark.parametrize("name", augmentation.methods())
def test_every_deformation_moves_image_label_and_weight_together(name):
    before = planes(augmentation.sample_item(augmentation.SIZE))[0]
    image, label, weight = planes(augmentation.methods()[name]())
    inside = tuple(slice((a - b) // 2, (a + b) // 2) for a, b in zip(image.shape, label.shape, strict=True))
    assert np.abs(image - before).mean() > 0.3 * before.std()
    image = image[inside]
    assert set(np.unique(label)) <= {0, 1}
    # away from its zeros, where half a pixel decides, the image tells its label and its weight
    clear = np.abs(image) > 0.5 * before.std()
    assert (label[clear] == (image[clear] > 0)).mean() > 0.99
    loss = 0.05 if name in AFTER_ONE_ANOTHER else 1e-3  # of two resamplings, where the weight has a kink
    assert np.abs(weight - 1 - np.abs(image))[clear].mean() < loss * before.std()


AFTER_ONE_ANOTHER = (augmentation.MONAI, augmentation.WRITE_UP, augmentation.SEPARABLE)


def test_simard_s_blur_is_one_whichever_way_it_is_computed():
    noise = np.random.default_rng(0).uniform(-1, 1, (40, 50))
    np.testing.assert_allclose(augmentation.blur_by_kernel(noise), augmentation.blur_by_axes(noise), atol=1e-12)


@pytest.mark.parametrize("size", [(100, 90), (388, 389), (700, 400)])
def test_an_image_tile_by_tile_has_the_scores_of_the_overlap_tile_inferer(size):
    torch.manual_seed(0)
    network = RonnebergerUNet(features=(4, 8, 16, 32, 64)).eval()
    x = torch.randn(1, 1, *size)
    with torch.inference_mode():
        ours, theirs = OverlapTileInferer()(x, network), inference.tile_by_tile(x, network)
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size, tiles", [(388, 1), (389, 4), (512, 4), (2048, 36), (8192, 484)])
def test_the_baseline_takes_the_fewest_tiles_that_leave_no_seams(size, tiles):
    assert inference.tiles_of(size) == tiles == len(plan_tiles((size, size), tile_size=572).tiles)


def test_turned_passes_are_the_mean_over_orientations():
    torch.manual_seed(0)
    network = RonnebergerUNet(features=(4, 8, 16, 32, 64)).eval()
    x = torch.randn(1, 1, 70, 50)
    with torch.inference_mode():
        passes = inference.turned_passes(x, network, OverlapTileInferer())
        ours = OverlapTileInferer(orientations=8)(x, network)
    torch.testing.assert_close(passes, ours, rtol=0, atol=1e-4)


def test_operations_are_those_of_the_layers_by_hand():
    """Two for each tap, input and output channel, and pixel: 3 x 3, 2 x 2 up, 1 x 1."""
    sizes = [(572, 1, 64), (570, 64, 64), (284, 64, 128), (282, 128, 128), (140, 128, 256), (138, 256, 256)]
    sizes += [(68, 256, 512), (66, 512, 512), (32, 512, 1024), (30, 1024, 1024)]
    sizes += [(56, 1024, 512), (54, 512, 512), (104, 512, 256), (102, 256, 256)]
    sizes += [(200, 256, 128), (198, 128, 128), (392, 128, 64), (390, 64, 64)]
    expected = sum(2 * 9 * here * there * (side - 2) ** 2 for side, here, there in sizes)
    ups = [(28, 1024, 512), (52, 512, 256), (100, 256, 128), (196, 128, 64)]
    expected += sum(2 * 4 * here * there * side**2 for side, here, there in ups) + 2 * 64 * 2 * 388**2
    assert inference.operations_on([torch.Size((1, 1, 572, 572))], PAPER) == expected
    assert expected == pytest.approx(0.301e12, rel=0.01)


def test_the_plain_step_and_ours_compute_one_loss_and_move_the_weights_alike():
    setup = Setup(1, torch.device("cpu"), None, Path(), quick=True)
    x, target = step.tile(252, setup.device)
    steps = [
        step.PlainStep(step.network(setup, channels_last=False), x, target),
        step.Step(step.network(setup, channels_last=True), x, target, "float32"),
    ]
    weights = []
    for one in steps:
        for group in one.optimizer.param_groups:
            group["lr"] = 1e-2
        for module in one.network.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    losses = [[one() for _ in range(3)] for one in steps]
    weights = [torch.cat([weight.detach().flatten() for weight in one.network.parameters()]) for one in steps]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[0][2] != losses[0][0]
    torch.testing.assert_close(weights[1], weights[0], rtol=0, atol=1e-5)


def test_the_write_up_s_loop_moves_image_and_label_together_and_weights_the_moved_label(tmp_path):
    setup = Setup(1, torch.device("cpu"), None, tmp_path, quick=True)
    data = training.training_data(setup)
    loop = training.WriteUpLoop(setup, data, 316, augmentation.blur_by_axes)
    loop.images = [mask.astype(np.float32) for mask in loop.masks]  # an image that tells its label
    image, label, weight = loop.sample()
    assert image.shape == (316, 316)
    assert label.shape == weight.shape == (132, 132)
    inner = image[92:-92, 92:-92]
    assert ((inner > 0.5) == label).mean() > 0.95  # the rest are edges, between which the image is interpolated
    np.testing.assert_allclose(weight, weight_map.ours(label), atol=1e-4)
    assert np.isfinite(loop())


def test_the_workflow_is_timed_while_it_trains(tmp_path):
    setup = Setup(1, torch.device("cpu"), None, tmp_path, quick=True)
    whole, waits = training.workflow_times(setup, training.training_data(setup), 252)
    assert len(whole) == len(waits) == 3
    assert min(waits) >= 0
    assert all(wait < spent for wait, spent in zip(waits, whole, strict=True))


def test_an_exported_network_does_the_same_work_as_the_network_itself(tmp_path):
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


def test_the_literal_scores_by_hand():
    truth = np.array([[1, 1, 0, 1, 1]]) > 0
    assert literal_metrics.v_rand_and_v_info(truth * 1.0, truth) == (1, 1)
    # one region over both cells: 2 x 4 of 16 pairs, so a precision of 1/2 and a recall of 1; no information
    assert literal_metrics.v_rand_and_v_info(np.ones(truth.shape), truth) == pytest.approx((2 / 3, 0))
    half = np.array([[1.0, 1.0, 0.0, 0.0, 0.0]])  # two of four found, nothing wrong: F = 4 / 6
    assert literal_metrics.pixel_error(half, truth) == pytest.approx(1 / 3)
    assert literal_metrics.pixel_error(np.full((1, 5), 0.5), truth) == pytest.approx(1 - 8 / 9)


def test_the_literal_thinning_by_hand():
    np.testing.assert_array_equal(literal_metrics.thinned(np.array([[1, 0, 0, 0, 1, 0, 0]])), [[1, 1, 0, 2, 2, 2, 2]])


def test_the_literal_seg_by_hand():
    reference = np.array([[1, 1, 1, 0, 2, 2]])
    assert literal_metrics.seg(np.array([[7, 7, 0, 0, 0, 8]]), reference) == pytest.approx((2 / 3 + 0) / 2)
    assert len(np.unique(metrics.tiles_of_cells(2048)[1])) - 1 == 5329


@pytest.mark.parametrize("is_simple", [literal_metrics.simple_by_pieces, literal_metrics.simple_by_yokoi])
def test_the_literal_warping_error_is_the_one_by_hand(is_simple):
    truth = np.ones((5, 7), bool)
    truth[:, 3] = False  # two cells and a membrane between them
    assert literal_metrics.warping_error(truth * 1.0, truth, is_simple) == 0
    assert literal_metrics.warping_error(np.roll(truth, 1, axis=1) * 1.0, truth, is_simple) == 0  # moved, no mistake
    broken = truth.copy()
    broken[2, 3] = True  # a gap in the membrane: one pixel joins the cells
    assert literal_metrics.warping_error(broken * 1.0, truth, is_simple) == pytest.approx(1 / 35)


@pytest.mark.parametrize("name", metrics.measures(np.zeros((4, 4)), np.ones((4, 4), bool)))
def test_every_literal_measure_gives_the_same_as_ours(name):
    image, mask = em_slice.em_slice()
    proposal = em_slice.proposal_of(image)[:72, :80]
    table = metrics.measures(proposal, mask[:72, :80])
    for other, measure in table.items():
        if other.split(",")[0] == name.split(",")[0]:
            assert measure.literal() == pytest.approx(measure.ours(), abs=1e-12)
