"""Fast paths against the plain way to the same result, where the tests of their own modules do not compare the two.

docs/benchmarks.md lists all of them. What a comparison tolerates is named in it; exact where nothing is.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import CacheDataset, Dataset
from monai.engines import SupervisedTrainer
from monai.transforms import Compose
from scipy import ndimage
from skimage.measure import label
from skimage.morphology import local_maxima, reconstruction
from skimage.segmentation import watershed

from scripts.inferers.memory import KeepFreedMemory
from scripts.inferers.overlap_tile import MixedPrecisionInferer
from scripts.losses import WeightedCrossEntropyLoss
from scripts.networks.unet import RonnebergerUNet
from scripts.transforms.elastic import Rand2DElasticTiled
from scripts.transforms.separation import split_at_necks
from scripts.transforms.weight_maps import WeightMapd


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


def test_tiles_of_cached_weight_maps_are_those_of_maps_computed_anew():
    instances = label(blobs(0), connectivity=1)[None]
    items = [{"image": torch.rand(1, 30, 40), "label": torch.tensor(instances > 0), "instances": instances}] * 2

    def tiles(kind: type[Dataset], **arguments: object) -> list[dict[str, torch.Tensor]]:
        keys = ["image", "label", "weight"]
        tile = Rand2DElasticTiled(keys, ["label", "weight"], 60, depth=2, mode=["bilinear", "nearest", "bilinear"])
        dataset = kind(items, Compose([WeightMapd(), tile]).set_random_state(0), **arguments)
        return [dataset[k % 2] for k in range(6)]

    for cached, plain in zip(tiles(CacheDataset, progress=False), tiles(Dataset), strict=True):
        for key in ("image", "label", "weight"):
            assert torch.equal(cached[key], plain[key])


# Objects


@pytest.mark.parametrize("depth", [0.5, 1.0, 2.0])
def test_necks_cut_in_the_box_of_an_object_are_those_cut_in_the_whole_image(depth):
    instances = label(blobs(5, 0.4, (60, 80)), connectivity=1)
    expected, last = instances.copy(), int(instances.max())
    rimmed = np.pad(instances, 1, mode="edge")
    for number in range(1, last + 1):
        distance = ndimage.distance_transform_edt(rimmed == number)[1:-1, 1:-1]
        peaks = local_maxima(reconstruction(np.maximum(distance - depth, 0), distance)) & (distance > 0)
        seeds, count = label(peaks, connectivity=2, return_num=True)
        if count > 1:
            parts = watershed(-distance, seeds, connectivity=2, mask=distance > 0)
            expected[parts > 1] = expected.max() + parts[parts > 1] - 1
    assert expected.max() > last
    np.testing.assert_array_equal(split_at_necks(instances, depth), expected)
