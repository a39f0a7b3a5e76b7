"""From scores to probabilities, whatever the number of outputs."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from scripts.precision import at_least_single


def probabilities(scores: torch.Tensor, channel_dim: int = 0) -> torch.Tensor:
    """Softmax over the classes (Sec. 3); a single output is a sigmoid and gives the two channels 1 - p and p.

    Args:
        scores: floating (K, *spatial), or with the classes on another axis, `channel_dim`.
        channel_dim: axis of the classes.

    Returns:
        float32 or float64, max(K, 2) channels that sum to 1.
    """
    scores = at_least_single(scores)
    if scores.shape[channel_dim] == 1:
        scores = torch.cat([torch.zeros_like(scores), scores], dim=channel_dim)  # sigmoid(s) = softmax(0, s)
    return scores.softmax(dim=channel_dim)


class ProbabilitiesFromScoresd(MapTransform):
    """Dictionary-based `probabilities`, for the output of the network, (K, *spatial).

    Args:
        keys: entries with scores.
        allow_missing_keys: do not raise where a key is missing.
    """

    def __init__(self, keys: KeysCollection = "pred", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        """Replace scores by probabilities."""
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = probabilities(out[key])
        return out
