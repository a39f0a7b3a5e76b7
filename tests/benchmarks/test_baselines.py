"""What the benchmarks compare is the same work: baselines give the right result before their times mean anything."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks import deformation, exports, inference, metrics, weight_map
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


def test_the_literal_scores_by_hand():
    truth = np.array([[1, 1, 0, 1, 1]]) > 0
    assert metrics.literal_scores(truth * 1.0, truth) == (1, 1)
    # one region over both cells: 2 x 4 of 16 pairs, so a precision of 1/2 and a recall of 1; no information
    assert metrics.literal_scores(np.ones(truth.shape), truth) == pytest.approx((2 / 3, 0))


def test_the_literal_seg_by_hand():
    reference = np.array([[1, 1, 1, 0, 2, 2]])
    assert metrics.literal_seg(np.array([[7, 7, 0, 0, 0, 8]]), reference) == pytest.approx((2 / 3 + 0) / 2)
    assert len(np.unique(metrics.tiles_of_cells(2048)[1])) - 1 == 5329
