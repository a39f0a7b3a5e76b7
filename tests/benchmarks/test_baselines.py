"""What the benchmarks compare is the same work: baselines give the right result before their times mean anything."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks import deformation, em_slice, exports, inference, literal_metrics, metrics, weight_map
from scripts.networks import RonnebergerUNet


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
    for name, run in (deformation.methods() | deformation.training_ways()).items():
        image, label, weight = planes(run())
        inside = tuple(slice((a - b) // 2, (a + b) // 2) for a, b in zip(image.shape, label.shape, strict=True))
        assert np.abs(image - before).mean() > 0.3 * before.std(), name
        image = image[inside]
        assert set(np.unique(label)) <= {0, 1}, name
        # away from its zeros, where half a pixel decides, the image tells its label and its weight
        clear = np.abs(image) > 0.5 * before.std()
        assert (label[clear] == (image[clear] > 0)).mean() > 0.99, name
        # interpolated twice, the weight meets the kink of |image| more often
        tolerance = 5e-3 if "affine" in name.lower() or "per image" in name else 1e-3
        assert np.abs(weight - 1 - np.abs(image))[clear].mean() < tolerance * before.std(), name


def test_times_of_methods_are_taken_in_turn_and_the_threads_are_given_back():
    order: list[str] = []
    before = torch.get_num_threads()
    times = deformation.measure({name: lambda name=name: order.append(name) for name in "ab"}, repeats=3, threads=1)
    assert order == ["a", "b"] * 5  # two to warm up
    assert [len(values) for values in times.values()] == [3, 3]
    assert torch.get_num_threads() == before


def test_every_setting_of_the_inference_gives_the_scores_of_the_baseline():
    torch.manual_seed(0)
    network = RonnebergerUNet(features=(4, 8, 16, 32, 64)).eval()
    image = torch.rand(1, 1, 400, 40)
    with torch.inference_mode():
        scores = {setting: inference.prepare(setting, network)(image, network) for setting in inference.SETTINGS}
    baseline = scores[inference.SETTINGS[0]]
    for setting, got in scores.items():
        tolerance = 0.05 if setting.amp_dtype else 1e-5
        assert (got - baseline).abs().mean() < tolerance * baseline.std(), setting.name


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


def test_the_literal_region_scores_by_hand():
    truth = np.array([[1, 1, 0, 1, 1]]) > 0
    assert literal_metrics.v_rand_and_v_info(truth * 1.0, truth) == (1, 1)
    assert literal_metrics.rand_error(truth * 1.0, truth) == literal_metrics.pixel_error(truth * 1.0, truth) == 0
    # one region over both cells: 2 x 4 of 16 pairs, so a precision of 1/2 and a recall of 1; no information
    merged = np.ones(truth.shape)
    assert literal_metrics.v_rand_and_v_info(merged, truth) == pytest.approx((2 / 3, 0))
    assert literal_metrics.rand_error(merged, truth) == pytest.approx(1 / 3)
    assert literal_metrics.pixel_error(merged, truth) == pytest.approx(1 - 8 / 9)


def test_the_literal_thinning_by_hand():
    np.testing.assert_array_equal(literal_metrics.thinned(np.array([[1, 0, 0, 0, 1]])), [[1, 1, 0, 2, 2]])
    np.testing.assert_array_equal(literal_metrics.thinned(np.array([[1, 0, 0, 1]])), [[1, 1, 0, 2]])


def test_the_literal_warping_error_by_hand():
    truth = np.ones((7, 11))
    truth[:, 5] = 0
    shifted, gap = np.roll(truth, 1, axis=1), truth.copy()
    gap[2:5, 5] = 1  # three pixels of membrane are missing
    assert literal_metrics.warping_error(shifted, truth) == 0
    assert literal_metrics.warping_error(gap, truth) == pytest.approx(3 / 77)
    cut = np.ones((7, 11))  # one true cell, cut in two: all but the last pixel grows in from the edge
    assert literal_metrics.warping_error(truth, cut) == pytest.approx(1 / 77)


def test_both_literal_tests_of_simple_points_agree_on_all_rings():
    for code in range(512):
        rows = [[code >> 3 * y + x & 1 for x in range(3)] for y in range(3)]
        assert literal_metrics.simple_by_yokoi(rows, 1, 1) == literal_metrics.simple_by_pieces(rows, 1, 1), rows


def test_the_literal_seg_by_hand():
    reference = np.array([[1, 1, 1, 0, 2, 2]])
    assert literal_metrics.seg(np.array([[7, 7, 0, 0, 0, 8]]), reference) == pytest.approx((2 / 3 + 0) / 2)
    assert len(np.unique(metrics.tiles_of_cells(2048)[1])) - 1 == 5329


def assert_all_metrics_agree(image: np.ndarray, truth: np.ndarray) -> None:
    for name, ways in metrics.metric_ways(em_slice.proposal_of(image), truth).items():
        assert next(iter(ways)) == metrics.OURS
        assert ways[metrics.OURS]() == pytest.approx(ways[metrics.LITERAL](), rel=0, abs=1e-9), name


def test_our_challenge_metrics_are_the_literal_ones_on_a_made_section():
    image, truth = em_slice.em_slice()
    assert_all_metrics_agree(image[:80, :96], truth[:80, :96])


def test_our_challenge_metrics_are_the_literal_ones_on_a_real_slice(data_root):
    image, truth = em_slice.em_slice(data_root / "isbi2012")
    assert_all_metrics_agree(image[:128, :160], truth[:128, :160])


def test_the_weight_maps_that_are_timed_agree():
    ours, copied = weight_map.slice_ways().values()
    np.testing.assert_allclose(ours(), copied(), atol=1e-5)
