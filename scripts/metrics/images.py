"""Numbers of every image, measured once for all metrics and reports of an engine.

The first metric or report that needs a measure of an image computes it and leaves it in `engine.state`. The others take
it from there, until the engine's next iteration.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from monai.handlers import IgniteMetricHandler
from monai.metrics import CumulativeIterationMetric

from scripts.io.arrays import as_array


def measure_once(engine: Engine, measure: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function once in an iteration of an engine, and give its result to everyone who asks again.

    Args:
        engine: its `state.measured` holds the results of the current iteration. The next iteration drops them.
        measure: function without side effects.
        arguments: of `measure`. The result is given again for the same objects, not for equal ones.

    Returns:
        `measure(*arguments)`. Do not change it, others may get the same object.

    Example:
        >>> from ignite.engine import Engine
        >>> engine, image = Engine(lambda engine, batch: batch), torch.ones(2, 2)
        >>> measure_once(engine, torch.sum, image) is measure_once(engine, torch.sum, image)
        True
    """
    state: Any = engine.state
    kept: tuple[int, Any, dict[Any, Any]] = getattr(state, "measured", (-1, None, {}))
    if kept[0] != state.iteration or kept[1] is not state.output:
        state.measured = kept = (state.iteration, state.output, {})
    results = kept[2]
    key = (measure, *map(id, arguments))
    if key not in results:
        results[key] = (measure(*arguments), arguments)  # objects that are kept do not lose their id to others
    return results[key][0]


class ImageMetric(CumulativeIterationMetric):
    """Collect numbers of every image, over all processes. Base class: `aggregate` reduces them to one number.

    Call it with predictions and labels, either batches (B, C, H, W) or lists of images (C, H, W).

    Args:
        measure: function (prediction (C, H, W), label (C, H, W), *options) -> array, of one shape for all images.
        options: further arguments of `measure`.
    """

    def __init__(self, measure: Callable[..., np.ndarray], *options: Any) -> None:
        super().__init__()
        self.measure_image = measure
        self.options = options

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **_: object) -> torch.Tensor:
        if y is None:
            raise ValueError(f"{type(self).__name__} compares with a label, got none")
        images = zip(as_array(y_pred), as_array(y), strict=True)
        return torch.from_numpy(np.stack([self.measure_image(*image, *self.options) for image in images]))

    def measured(self) -> np.ndarray | None:
        """Give the numbers of all images since the last reset, (N, ...). None without images."""
        buffer = CumulativeIterationMetric.get_buffer(self)
        return None if buffer is None else buffer.numpy()


class ImageMetricHandler(IgniteMetricHandler):
    """Give the images of an engine to an `ImageMetric`. What several metrics measure is measured once.

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
