"""Predict with the weights that a training has saved, instead of those of its last epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from monai.engines import Evaluator
from torch import nn

from .checkpoints import bare, load_weights


def predict_saved(
    path: str | Path,
    network: nn.Module,
    evaluator: Evaluator,
    probabilities: Callable[[dict[str, Any]], dict[str, Any]],
    items: Iterable[Mapping[str, Any]],
) -> Iterator[dict[str, Any]]:
    """Predict images with the weights on disk.

    Args:
        path: the file of weights.
        network: a network of the same kind. Its weights stay as they are.
        evaluator: its inferer predicts, on its device.
        probabilities: transform from the scores under "pred" to probabilities.
        items: with "image" (C, H, W).

    Yields:
        each item with the probabilities under "pred", (K, H, W).

    Raises:
        FileNotFoundError, ValueError: as `scripts.handlers.load_weights`.
    """
    saved = deepcopy(bare(network)).eval()
    load_weights(saved, path)
    engine: Any = evaluator  # MONAI does not declare its attributes
    with torch.inference_mode():
        for item in items:
            scores = engine.inferer(item["image"][None].to(engine.state.device), saved)[0]
            yield probabilities({**item, "pred": scores})
