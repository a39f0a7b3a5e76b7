"""Fast paths against the plain way to the same result, where the tests of their own modules do not compare the two.

docs/benchmarks.md lists all of them. What a comparison tolerates is named in it; exact where nothing is.
"""

from __future__ import annotations

import pytest
import torch
from monai.engines import SupervisedTrainer

from scripts.inferers.memory import KeepFreedMemory
from scripts.inferers.overlap_tile import MixedPrecisionInferer
from scripts.losses import WeightedCrossEntropyLoss
from scripts.networks.unet import RonnebergerUNet

# Training steps


def gradients(dtype: torch.dtype, amp_dtype: str | None, channels_last: bool) -> torch.Tensor:
    """Concatenate all gradients of a step. Network and tile are the same for all arguments."""
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
