"""Segment a folder of images in spite of single failures, and get the items of an engine's iteration."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine
from monai.engines import SupervisedEvaluator
from monai.utils import CommonKeys, ensure_tuple

from .data.items import describe_failure

SHOWN = 5
OF_ONE_IMAGE = (RuntimeError, ValueError)  # errors that concern a single image


class FolderErrors(RuntimeError):
    """Report the failed images of a folder, after all images were tried."""


class FolderEvaluator(SupervisedEvaluator):
    """Segment a folder with MONAI's `SupervisedEvaluator`, in batches of one image. Failed images are skipped.

    An image fails if `TolerantDataset` cannot read it, or if network, inferer, postprocessing or a handler of
    MODEL_COMPLETED raises RuntimeError or ValueError. After the handlers of COMPLETED, `run` logs all failures and
    raises a single `FolderErrors`: the command ends with an exit code other than 0. Errors of other kinds (a full disk,
    a mistake in the configuration) stop the run at once.

    For authors of handlers: save results at MODEL_COMPLETED. Images with an earlier failure do not fire this event. At
    ITERATION_COMPLETED, a failed image has empty lists as `engine.state.output` and `engine.state.batch`. Report
    failures in another thread with `note_failure`.

    Args:
        args, kwargs: as for `SupervisedEvaluator`.

    Raises:
        ValueError: the data loader makes batches of several images.
        FolderErrors: from `run`: images failed.

    Example:
        >>> evaluator = FolderEvaluator("cpu", val_data_loader=[], network=torch.nn.Identity())
        >>> evaluator.failures
        []
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        size = getattr(self.data_loader, "batch_size", 1)
        if size not in (1, None):
            raise ValueError(
                f"FolderEvaluator needs batches of one image, because sizes differ. Set batch_size to 1, got {size}"
            )
        self.failures: list[str] = []

    def run(self, global_epoch: int = 1) -> None:  # type: ignore[override]  # as MONAI overrides ignite's
        """Segment all images, then report the failures."""
        self.failures = []
        super().run(global_epoch)
        if not self.failures:
            return
        for failure in self.failures:
            self.logger.error("failed: %s", failure)
        more = [f"... and {len(self.failures) - SHOWN} more, see the log"] if len(self.failures) > SHOWN else []
        others = ", the others were segmented" if len(self.failures) < self.state.iteration else ""
        head = f"{len(self.failures)} of {self.state.iteration} images failed{others}:"
        raise FolderErrors("\n  ".join([head, *self.failures[:SHOWN], *more]))

    def note_failure(self, name: str, error: BaseException) -> None:
        """Record a failed image. A handler may do so during later images, and no later than at COMPLETED."""
        self.failures.append(describe_failure(name, error))

    def _iteration(self, engine: SupervisedEvaluator, batchdata: Any) -> Any:
        if "failure" in batchdata:
            return self._skip(engine, str(ensure_tuple(batchdata["failure"])[0]))
        try:
            return super()._iteration(engine, batchdata)
        except OF_ONE_IMAGE as error:
            name = getattr(batchdata.get(CommonKeys.IMAGE), "meta", {}).get("filename_or_obj", "image")
            return self._skip(engine, describe_failure(str(ensure_tuple(name)[0]), error))

    def _skip(self, engine: SupervisedEvaluator, failure: str) -> list[Any]:
        self.failures.append(failure)
        engine.state.batch, engine.state.output = [], []
        return []


def engine_items(engine: Engine) -> list[dict[str, Any]]:
    """Get the images of a MONAI engine's iteration as one dictionary each: loaded data and network output by key.

    The output wins where batch and output share a key.

    Raises:
        ValueError: the output is not a list, as with `decollate=False`.

    Example:
        >>> from ignite.engine import Engine
        >>> engine = Engine(lambda *_: None)
        >>> engine.state.batch, engine.state.output = [{"image": 1, "label": 2}], [{"image": 3, "pred": 4}]
        >>> engine_items(engine)
        [{'image': 3, 'label': 2, 'pred': 4}]
    """
    batch, output = engine.state.batch, engine.state.output
    if not isinstance(output, list):
        raise ValueError(f"expected a list with one dictionary per image, got {type(output).__name__}. Decollate it")
    loaded = batch if isinstance(batch, list) and len(batch) == len(output) else [{}] * len(output)
    return [{**b, **o} for b, o in zip(loaded, output, strict=True)]
