"""Every deformation moves image, label and weight map together, so that their times can be compared."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import augmentation

TWO_RESAMPLINGS = (augmentation.MONAI, augmentation.WRITE_UP, augmentation.SEPARABLE)


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
    # label and weight follow from the image, except near its zeros, where half a pixel decides
    clear = np.abs(image) > 0.5 * before.std()
    assert (label[clear] == (image[clear] > 0)).mean() > 0.99
    loss = 0.05 if name in TWO_RESAMPLINGS else 1e-3  # two resamplings lose more at the kink of the weight
    assert np.abs(weight - 1 - np.abs(image))[clear].mean() < loss * before.std()


def test_simard_s_blur_is_the_same_by_kernel_and_by_axes():
    noise = np.random.default_rng(0).uniform(-1, 1, (40, 50))
    np.testing.assert_allclose(augmentation.blur_by_kernel(noise), augmentation.blur_by_axes(noise), atol=1e-12)
