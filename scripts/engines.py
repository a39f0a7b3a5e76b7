"""Engines: inference over a folder that goes on past an image that fails, and what an engine has just worked on."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine
from monai.data import MetaTensor
from monai.engines import SupervisedEvaluator
from monai.utils import CommonKeys, ensure_tuple

from scripts.data.items import describe_failure

SHOWN = 5
OF_ONE_IMAGE = (RuntimeError, ValueError)  # errors that say nothing about the other images


class FolderErrors(RuntimeError):
    """Some images of a folder could not be segmented; raised after all others were."""


class FolderEvaluator(SupervisedEvaluator):
    """MONAI's `SupervisedEvaluator` for folders, with batches of one image.

    An item that `TolerantDataset` gives as a failure, or for which the network, the inferer, the postprocessing or a
    handler of MODEL_COMPLETED raises RuntimeError or ValueError, is noted in `failures` and passed over. When the run
    is over and every handler of COMPLETED has saved what it holds, `run` logs them and raises one `FolderErrors`, so
    that a command ends with an exit code other than 0. Errors of other kinds (a full disk, a mistake in the
    configuration) stop the run at once.

    For a handler: MODEL_COMPLETED is not fired for an image that failed before it, so whatever saves results belongs
    there; at ITERATION_COMPLETED such an image has an empty list for `engine.state.output` and `engine.state.batch`.
    A handler that goes on with an image while the next one is computed reports its failure by `note_failure`.

    Args:
        args: as of `SupervisedEvaluator`.
        kwargs: as of `SupervisedEvaluator`.

    Raises:
        ValueError: the data loader makes batches of several images.
        FolderErrors: (run) images failed.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        size = getattr(self.data_loader, "batch_size", 1)
        if size not in (1, None):
            raise ValueError(
                f"FolderEvaluator takes one image at a time (sizes differ); set batch_size to 1, got {size}"
            )
        self.failures: list[str] = []

    def run(self, global_epoch: int = 1) -> None:  # type: ignore[override]  # as MONAI overrides ignite's
        """Segment all images, then report those that failed."""
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
        """Note that an image failed, of which a handler learns when another is at work; at the latest at COMPLETED."""
        self.failures.append(describe_failure(name, error))

    def _iteration(self, engine: SupervisedEvaluator, batchdata: Any) -> Any:
        failure = batchdata.get("failure") if isinstance(batchdata, dict) else None
        if failure is not None:
            return self._pass_over(engine, str(ensure_tuple(failure)[0]))
        try:
            return super()._iteration(engine, batchdata)
        except OF_ONE_IMAGE as error:
            return self._pass_over(engine, describe_failure(_name(batchdata), error))

    def _pass_over(self, engine: SupervisedEvaluator, failure: str) -> list[Any]:
        self.failures.append(failure)
        engine.state.batch, engine.state.output = [], []
        return []


def _name(batchdata: Any) -> str:
    """The file of the one image in a batch, as far as it is known."""
    image = batchdata.get(CommonKeys.IMAGE) if isinstance(batchdata, dict) else None
    name = image.meta.get("filename_or_obj") if isinstance(image, MetaTensor) else None
    return str(ensure_tuple(name)[0]) if name else "image"


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
