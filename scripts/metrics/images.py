"""Numbers of every image, measured once for all metrics and reports of an engine."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from itertools import zip_longest
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.handlers import IgniteMetricHandler
from monai.metrics import CumulativeIterationMetric

from ..io.arrays import as_array


def measure_once(engine: Engine, measure: Callable[..., Any], *arguments: Any) -> Any:
    """Call `measure(*arguments)` once in an iteration of an engine, and give the same result to later callers.

    The engine's `state.measured` holds the results until the next iteration starts. Later callers need the same
    argument objects, since equal objects are measured again. Do not change the result: all callers share it.

    Example:
        >>> from ignite.engine import Engine
        >>> engine, image = Engine(lambda engine, batch: batch), torch.ones(2, 2)
        >>> measure_once(engine, torch.sum, image) is measure_once(engine, torch.sum, image)
        True
    """
    state: Any = engine.state
    if not hasattr(state, "measured"):
        state.measured = {}
        engine.add_event_handler(Events.ITERATION_STARTED, lambda _: state.measured.clear())
    key = (measure, *map(id, arguments))
    if key not in state.measured:
        state.measured[key] = (measure(*arguments), arguments)  # stored objects keep their id
    return state.measured[key][0]


class ImageMetric(CumulativeIterationMetric):
    """Collect numbers of every image, over all processes. Base class: subclasses reduce the numbers to scores.

    Call it with predictions and labels, either batches (B, C, H, W) or lists of images (C, H, W).

    Args:
        measure: function (prediction (C, H, W), label (C, H, W), *options) -> array, of one shape for all images.
        options: further arguments of `measure`.
    """

    def __init__(self, measure: Callable[..., np.ndarray], *options: Any) -> None:
        super().__init__()
        self.measure_image = measure
        self.options = options

    @abstractmethod
    def per_image(self, numbers: np.ndarray) -> np.ndarray:
        """Compute the score of every image, (N,) or (N, K), from the numbers of all images (N, ...)."""

    @abstractmethod
    def over_images(self, numbers: np.ndarray) -> np.ndarray:
        """Compute one score for all images, from their numbers (N, ...)."""

    def get_buffer(self) -> torch.Tensor:
        """Give the scores of every image since the last reset, float32 (N, K), for `monai.handlers.MetricsSaver`."""
        numbers = self._numbers()
        if numbers is None:
            return torch.zeros(0, 1)
        return torch.from_numpy(self.per_image(numbers).astype(np.float32).reshape(len(numbers), -1))

    def aggregate(self) -> torch.Tensor:
        """Give the score of all images since the last reset, a scalar. NaN without images."""
        numbers = self._numbers()
        return torch.tensor(float("nan") if numbers is None else float(self.over_images(numbers)))

    def _sync(self) -> None:
        """Gather the numbers of all processes, in the order of the images, see `scripts.data.ShareSampler`.

        MONAI's own method waits for ever if a process has no images.
        """
        if self._synced:
            return
        own = None if self._buffers is None else torch.stack(self._buffers[0]).cpu()
        shares = [own] * idist.get_world_size()
        if len(shares) > 1:
            torch.distributed.all_gather_object(shares, own)
        turns = zip_longest(*(share for share in shares if share is not None))
        images = [numbers for turn in turns for numbers in turn if numbers is not None]
        self._synced_tensors = [torch.stack(images)] if images else None
        self._synced = True

    def _numbers(self) -> np.ndarray | None:
        buffer = super().get_buffer()
        return None if buffer is None else buffer.numpy()

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **_: object) -> torch.Tensor:
        if y is None:
            raise ValueError(f"{type(self).__name__} compares with a label, got none")
        images = zip(as_array(y_pred), as_array(y), strict=True)
        return torch.from_numpy(np.stack([self.measure_image(*image, *self.options) for image in images]))


class ImageMetricHandler(IgniteMetricHandler):
    """Give the images of an engine to an `ImageMetric`. Metrics with the same measure share its result.

    Args:
        metric: the metric.
        output_transform: takes the lists of predictions and labels out of the engine's output.
    """

    def __init__(self, metric: ImageMetric, output_transform: Callable) -> None:
        super().__init__(metric_fn=metric, output_transform=output_transform)
        self.metric = metric

    def iteration_completed(self, engine: Engine) -> None:
        """Measure the images of this iteration."""
        for image in zip(*self._output_transform(engine.state.output), strict=True):
            numbers = measure_once(engine, self.metric.measure_image, *image, *self.metric.options)
            self.metric.append(torch.from_numpy(numbers))
