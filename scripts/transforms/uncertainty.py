"""Measure how uncertain a network is, at each pixel: entropy of the probabilities, deviation over orientations."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from math import log
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type, convert_to_tensor, ensure_tuple_rep


def entropy(probabilities: Any) -> torch.Tensor:
    """Compute the entropy of the classes at each pixel, divided by the entropy of equal probabilities.

    Args:
        probabilities: float (K, *spatial), tensor or array; sum 1 over the K classes.

    Returns:
        float32 (1, *spatial): 0 for a certain class, 1 for equal probabilities.

    Raises:
        ValueError: fewer than two classes.

    Example:
        >>> entropy(torch.tensor([[0.5, 1.0], [0.5, 0.0]]))
        tensor([[1., 0.]])
    """
    planes = convert_to_tensor(probabilities, track_meta=False)
    if len(planes) < 2:
        raise ValueError(f"entropy needs a probability for each of at least 2 classes, got {len(planes)}")
    total = torch.zeros(planes.shape[1:], device=planes.device)
    for plane in planes:  # one class at a time: memory of a single plane
        total += torch.special.entr(plane.float())
    return total.div_(log(len(planes))).clamp_(0, 1)[None]


class Entropyd(MapTransform):
    """Add the entropy of the probabilities. Dictionary version of `entropy`.

    Args:
        keys: probabilities (K, *spatial).
        output_keys: where the entropy is written, float32 (1, *spatial).
        allow_missing_keys: skip missing keys.

    Example:
        >>> Entropyd()({"prob": torch.tensor([[0.5], [0.5]])})["entropy"]
        tensor([[1.]])
    """

    def __init__(
        self, keys: KeysCollection = "prob", output_keys: KeysCollection = "entropy", allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.output_keys = ensure_tuple_rep(output_keys, len(self.keys))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the entropy to a copy of `data`."""
        item = dict(data)
        for key, output_key in self.key_iterator(item, self.output_keys):
            item[output_key] = convert_to_dst_type(entropy(item[key]), item[key], dtype=torch.float32)[0]
        return item


class UnpackDeviationd(MapTransform):
    """Move the deviation that `OverlapTileInferer` returns with the scores to an entry of its own. Place first.

    Entries that are scores alone stay as they are.

    Args:
        keys: results of the inferer: scores, or {"pred": scores, "deviation": deviation}. Become the scores.
        output_key: where the deviation is written, float32 (1, H, W).
        allow_missing_keys: skip missing keys.

    Example:
        >>> sorted(UnpackDeviationd()({"pred": {"pred": torch.zeros(2, 1, 1), "deviation": torch.zeros(1, 1, 1)}}))
        ['deviation', 'pred']
    """

    def __init__(
        self, keys: KeysCollection = "pred", output_key: str = "deviation", allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.output_key = output_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Split the entries in a copy of `data`."""
        item = dict(data)
        for key in self.key_iterator(item):
            if isinstance(item[key], Mapping):
                item[self.output_key] = item[key]["deviation"]
                item[key] = item[key]["pred"]
        return item
