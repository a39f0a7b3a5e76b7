"""Fast paths against the plain way to the same result, where the tests of their own modules do not compare the two.

docs/benchmarks.md lists all of them. What a comparison tolerates is named in it; exact where nothing is.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
import torch
from monai.engines import SupervisedTrainer
from scipy import ndimage

from scripts.inferers.memory import KeepFreedMemory
from scripts.inferers.overlap_tile import MixedPrecisionInferer
from scripts.losses import WeightedCrossEntropyLoss
from scripts.metrics.thinning import thin_membrane
from scripts.metrics.warping import warp
from scripts.networks.unet import RonnebergerUNet

EIGHT = np.ones((3, 3))


def blobs(seed: int, share: float = 0.5, shape: tuple[int, int] = (30, 40)) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5)
    return noise > np.quantile(noise, 1 - share)


# Training steps


def gradients(dtype: torch.dtype, amp_dtype: str | None, channels_last: bool) -> torch.Tensor:
    """All gradients of one step in a row, of one network and one tile whatever the arguments say."""
    torch.manual_seed(0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = RonnebergerUNet(features=(8, 16, 32), dropout=0).to(memory_format=layout, dtype=dtype)
    image, label_, weight = torch.randn(1, 1, 92, 92), torch.randint(2, (1, 1, 52, 52)), 1 + torch.rand(1, 1, 52, 52)
    scores = MixedPrecisionInferer(amp_dtype, channels_last)(image.to(dtype), network)
    WeightedCrossEntropyLoss()(scores, torch.cat([label_, weight], 1)).backward()
    return torch.cat([parameter.grad.flatten() for parameter in network.parameters()])


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_a_step_in_channels_last_has_the_gradients_of_one_in_nchw(dtype, tolerance):
    """To 1e-10 of their length in double precision, to 1e-5 in single."""
    plain, fast = (gradients(dtype, None, channels_last) for channels_last in (False, True))
    assert (fast - plain).norm() < tolerance * plain.norm()


def test_a_step_in_bfloat16_has_nearly_the_gradients_of_one_in_single_precision():
    """To 3 % of their length, with 8 bits of mantissa; the direction to 1 in 1000."""
    plain, fast = (gradients(torch.float32, amp_dtype, True) for amp_dtype in (None, "bfloat16"))
    assert 0 < (fast - plain).norm() < 0.03 * plain.norm()
    assert torch.nn.functional.cosine_similarity(fast, plain, dim=0) > 0.999


def test_memory_that_is_kept_between_steps_does_not_change_them():
    def weights(handlers: list[KeepFreedMemory]) -> list[torch.Tensor]:
        torch.manual_seed(0)
        network = RonnebergerUNet(features=(4, 8, 16))
        batches = [{"image": torch.randn(1, 1, 60, 60), "label": torch.ones(1, 2, 20, 20)} for _ in range(3)]
        trainer = SupervisedTrainer(
            device=torch.device("cpu"),
            max_epochs=2,
            train_data_loader=batches,
            network=network,
            loss_function=WeightedCrossEntropyLoss(),
            optimizer=torch.optim.SGD(network.parameters(), lr=1e-2, momentum=0.99),
            train_handlers=handlers,
        )
        trainer.logger.disabled = True
        trainer.run()
        return list(network.parameters())

    for kept, plain in zip(weights([KeepFreedMemory()]), weights([]), strict=True):
        assert torch.equal(kept, plain)


# Measures and objects


def thinned_literally(cells: np.ndarray) -> np.ndarray:
    """Flood first come, first served, pixel by pixel on the plane itself: column by column, as the program visits."""
    regions = ndimage.label(cells)[0]
    height, width = cells.shape

    def beside(y: int, x: int) -> list[tuple[int, int]]:
        around = ((y, x - 1), (y - 1, x), (y, x + 1), (y + 1, x))
        return [(j, i) for j, i in around if 0 <= j < height and 0 <= i < width]

    columns_first = [(y, x) for x in range(width) for y in range(height)]
    queue = deque(p for p in columns_first if not cells[p] and any(cells[n] for n in beside(*p)))
    queued = set(queue)
    result = regions.copy()
    settled = cells.astype(bool)
    while queue:
        pixel = queue.popleft()
        seen = {int(result[n]) for n in beside(*pixel) if settled[n]} - {0}
        result[pixel] = seen.pop() if len(seen) == 1 else 0
        settled[pixel] = True
        for n in beside(*pixel):
            if not settled[n] and n not in queued:
                queued.add(n)
                queue.append(n)
    return result


@pytest.mark.parametrize("seed", range(6))
def test_thinning_in_lists_is_the_flood_pixel_by_pixel(seed):
    cells = blobs(seed, share=(0.1, 0.4, 0.7)[seed % 3])
    np.testing.assert_array_equal(thin_membrane(cells), thinned_literally(cells))


def warped_literally(truth: np.ndarray, proposal: np.ndarray) -> np.ndarray:
    """Turn pixels, columns first, that change no number of pieces in their 3 x 3 pixels, until none is left."""
    image = np.pad(truth, 1)
    while True:
        turned = False
        for x in range(truth.shape[1]):
            for y in range(truth.shape[0]):
                if image[y + 1, x + 1] == proposal[y, x]:
                    continue
                patch = image[y : y + 3, x : x + 3]
                flipped = patch.copy()
                flipped[1, 1] ^= True
                pieces = [(ndimage.label(p)[1], ndimage.label(~p, EIGHT)[1]) for p in (patch, flipped)]
                if pieces[0] == pieces[1]:
                    patch[1, 1] ^= True
                    turned = True
        if not turned:
            return image[1:-1, 1:-1]


@pytest.mark.parametrize("seed", range(4))
def test_warping_by_bits_of_rings_is_warping_by_counting_pieces(seed):
    truth, proposal = blobs(seed), blobs(seed, share=0.65)
    proposal[:, 20:] = blobs(seed + 10)[:, 20:]
    np.testing.assert_array_equal(warp(truth, proposal), warped_literally(truth, proposal))
