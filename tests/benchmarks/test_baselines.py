"""What the benchmarks compare is the same work: baselines give the right result before their times mean anything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import deformation, exports, inference, metrics, step, training, weight_map
from benchmarks.measure import PAPER, Setup
from scripts.inferers import OverlapTileInferer
from scripts.networks import RonnebergerUNet
from scripts.tiling import plan_tiles


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
    from skimage.io import imsave

    file = tmp_path / "0.png"
    imsave(file, np.eye(9, dtype=np.uint8) * 255, check_contrast=False)
    monkeypatch.setattr(weight_map, "copied", lambda mask: weight_map.ours(mask) + 1e-3)
    with pytest.raises(SystemExit, match=r"differ by 0\.001"):
        weight_map.compare(file, repeats=1)


def planes(moved: object) -> list[np.ndarray]:
    """Image, label and weight of a dictionary or a list."""
    values = [moved[key] for key in deformation.KEYS] if isinstance(moved, dict) else moved
    return [np.squeeze(np.asarray(value)) for value in values]


def test_every_deformation_moves_image_label_and_weight_together():
    before = planes(deformation.sample_item(deformation.SIZE))[0]
    for name, run in deformation.methods().items():
        image, label, weight = planes(run())
        inside = tuple(slice((a - b) // 2, (a + b) // 2) for a, b in zip(image.shape, label.shape, strict=True))
        assert np.abs(image - before).mean() > 0.3 * before.std(), name
        image = image[inside]
        assert set(np.unique(label)) <= {0, 1}, name
        # away from its zeros, where half a pixel decides, the image tells its label and its weight
        clear = np.abs(image) > 0.5 * before.std()
        assert (label[clear] == (image[clear] > 0)).mean() > 0.99, name
        assert np.abs(weight - 1 - np.abs(image))[clear].mean() < 1e-3 * before.std(), name


def test_times_of_methods_are_taken_in_turn_and_the_threads_are_given_back():
    order: list[str] = []
    before = torch.get_num_threads()
    times = deformation.measure({name: lambda name=name: order.append(name) for name in "ab"}, repeats=3, threads=1)
    assert order == ["a", "b"] * 5  # two to warm up
    assert [len(values) for values in times.values()] == [3, 3]
    assert torch.get_num_threads() == before


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
    loop = training.WriteUpLoop(setup, data, 316)
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
    assert list(scores) == ["network, float32", "network, bfloat16", "torchscript, float32"]
    torch.testing.assert_close(scores["torchscript, float32"], scores["network, float32"], rtol=0, atol=1e-4)
    assert not torch.equal(scores["network, bfloat16"], scores["network, float32"])


def test_the_literal_scores_by_hand():
    truth = np.array([[1, 1, 0, 1, 1]]) > 0
    assert metrics.literal_scores(truth * 1.0, truth) == (1, 1)
    # one region over both cells: 2 x 4 of 16 pairs, so a precision of 1/2 and a recall of 1; no information
    assert metrics.literal_scores(np.ones(truth.shape), truth) == pytest.approx((2 / 3, 0))


def test_the_literal_seg_by_hand():
    reference = np.array([[1, 1, 1, 0, 2, 2]])
    assert metrics.literal_seg(np.array([[7, 7, 0, 0, 0, 8]]), reference) == pytest.approx((2 / 3 + 0) / 2)
    assert len(np.unique(metrics.tiles_of_cells(2048)[1])) - 1 == 5329
