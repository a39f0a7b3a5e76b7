"""The copied weight map and ours are the same map, so that their times can be compared."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks import weight_map
from benchmarks.measure import Setup


def test_the_copied_weight_map_is_the_formula_on_a_strip_by_hand():
    mask = np.array([[1, 0, 0, 0, 1, 0]]) > 0
    d1_plus_d2 = np.array([1 + 3, 2 + 2, 3 + 1, 1 + 5])
    expected = np.ones((1, 6))
    expected[0, [1, 2, 3, 5]] += 10 * np.exp(-(d1_plus_d2**2) / 50)
    np.testing.assert_allclose(weight_map.copied(mask), expected, atol=1e-12)
    np.testing.assert_allclose(weight_map.ours(mask), expected, atol=1e-6)


def test_both_weight_maps_agree_on_synthetic_nuclei():
    instances = weight_map.nuclei(160, 40)
    assert 30 < len(np.unique(instances)) - 1 <= 40
    np.testing.assert_allclose(weight_map.ours(instances > 0), weight_map.copied(instances > 0), atol=1e-5)


def test_different_results_are_not_compared(monkeypatch, tmp_path):
    monkeypatch.setattr(weight_map, "copied", lambda mask: weight_map.ours(mask) + 1e-3)
    with pytest.raises(ValueError, match=r"0\.001"):
        next(weight_map.rows(Setup(1, torch.device("cpu"), None, tmp_path, quick=True)))
