"""What an engine has just worked on, image by image, for handlers that report, draw or save."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from monai.utils import convert_to_numpy


def engine_items(engine: Engine) -> list[dict[str, Any]]:
    """The images of the current iteration: what was loaded (`weight`, ...) and what came out (`pred`, ...), by key.

    MONAI's engines take batches apart before post-processing; the output comes first where both have a key.

    Raises:
        ValueError: batch and output are not lists, as with `decollate=False`.
    """
    batch, output = engine.state.batch, engine.state.output
    if not isinstance(output, list):
        raise ValueError(f"expected a list with one dictionary per image, got {type(output).__name__}; decollate it")
    loaded = batch if isinstance(batch, list) and len(batch) == len(output) else [{}] * len(output)
    return [{**b, **o} for b, o in zip(loaded, output, strict=True)]


def source_of(item: Mapping[Any, Any], key: Hashable = "image") -> str:
    """The address an image was loaded from, "" where nothing is known of it."""
    return str(getattr(item.get(key), "meta", {}).get("filename_or_obj", ""))


def file_of(item: Mapping[Any, Any], *keys: Hashable) -> str:
    """How an error names an entry: by the file of the first of `keys` that has one, else by the first key."""
    return next(filter(None, (source_of(item, key) for key in keys)), f"{keys[0]!r} (no file name known)")


def as_array(value: Any) -> np.ndarray:
    """A tensor on any device, or an array, as an array; bfloat16, which numpy lacks, becomes float32."""
    if isinstance(value, torch.Tensor):
        value = value.detach()
        value = value.float() if value.dtype == torch.bfloat16 else value
    return np.asarray(convert_to_numpy(value))
