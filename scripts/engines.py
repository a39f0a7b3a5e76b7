"""Segment a folder of images in spite of single failures, and get the items of an engine's iteration."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence, Sized
from typing import Any

from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator
from monai.utils import CommonKeys, ensure_tuple

from .data.items import describe_failure, paths_in
from .io.files import concerns_all_files
from .io.names import shown, split_address
from .ranks import gather, world_size

logger = logging.getLogger(__name__)

SHOWN = 5


class FolderErrors(RuntimeError):
    """Report the failed images of a folder, after all images were tried."""


def concerns_all_images(error: BaseException) -> bool:
    """Tell an error of disk, folder or GPU, after which no image can succeed, from an error of a single image.

    Too little memory concerns a single image: the others may be smaller.

    Example:
        >>> concerns_all_images(ValueError("too small")), concerns_all_images(RuntimeError("CUDA error: misaligned"))
        (False, True)
    """
    cause: BaseException | None = error
    while cause is not None:
        text = str(cause)
        device = isinstance(cause, RuntimeError) and any(f"{name} error" in text for name in ("CUDA", "cuDNN", "HIP"))
        if concerns_all_files(cause) or (device and "out of memory" not in text):
            return True
        cause = cause.__cause__
    return not isinstance(error, Exception)  # Ctrl-C, for example


class FolderEvaluator(SupervisedEvaluator):
    """Segment a folder with MONAI's `SupervisedEvaluator`, in batches of one image. Failed images are skipped.

    An image fails if `TolerantDataset` cannot read it, or if network, inferer, postprocessing or a handler of
    MODEL_COMPLETED raises an error of any type. After the handlers of COMPLETED, `run` logs all failures and raises a
    single `FolderErrors`: the command ends with an exit code other than 0. Errors that surely concern all images (a
    full disk, a broken GPU, see `concerns_all_images`) stop the run at once.

    Several processes (torchrun) report the failures of all, see `share_failures`. All raise the same error.

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
        self._reasons: set[str] = set()
        self._images: int | None = None  # of all processes. None: not exchanged yet

    def run(self, global_epoch: int = 1) -> None:  # type: ignore[override]  # as MONAI overrides ignite's
        """Segment all images, then report the failures. Without images, nothing happens."""
        self.failures, self._reasons, self._images = [], set(), None
        if not (isinstance(self.data_loader, Sized) and len(self.data_loader) == 0):
            super().run(global_epoch)
        elif world_size() > 1:
            _run_without_images(self, global_epoch)
        else:
            return
        self.share_failures()
        if not self.failures:
            return
        count, images = len(self.failures), self._images or 0
        if count > 1 and count >= images and len(self._reasons) == 1:
            raise FolderErrors(f"all {images} images failed, for the same reason. The first: {self.failures[0]}")
        for failure in self.failures if count > SHOWN else ():
            logger.error("failed: %s", failure)
        more = [f"... and {count - SHOWN} more, see the log"] if count > SHOWN else []
        others = ", the others are done" if count < images else ""
        head = f"{count} of {images} images failed{others}:"
        raise FolderErrors("\n  ".join([head, *self.failures[:SHOWN], *more]))

    def share_failures(self) -> None:
        """Exchange the failures of all processes, after the last failure of this process. Waits for the slowest.

        `failures` are then the same in all processes. Later calls in the same run do nothing.
        """
        if self._images is None:
            shares = gather((self.failures, self._reasons, self.state.iteration))
            self.failures = [failure for failures, _, _ in shares for failure in failures]
            self._reasons = set().union(*(reasons for _, reasons, _ in shares))
            self._images = sum(images for _, _, images in shares)

    def note_failure(self, name: str, error: BaseException) -> None:
        """Record a failed image. A handler may do so during later images, and no later than at COMPLETED."""
        self._note(name, describe_failure(name, error))

    def _note(self, name: str, failure: str) -> None:
        self.failures.append(failure)
        self._reasons.add(failure.replace(shown(name), "").replace(shown(name.split("#page=")[0]), ""))

    def _iteration(self, engine: SupervisedEvaluator, batchdata: Any) -> Any:
        if "failure" in batchdata:
            failure, name = (str(ensure_tuple(batchdata.get(key, ""))[0]) for key in ("failure", "failed"))
            self._note(name or "image", failure)
            return self._skip(engine)
        try:
            return super()._iteration(engine, batchdata)
        except Exception as error:  # whatever an image makes network, transforms or libraries raise
            if concerns_all_images(error):
                raise
            meta = getattr(batchdata.get(CommonKeys.IMAGE), "meta", {})
            self.note_failure(str(ensure_tuple(meta.get("filename_or_obj", "image"))[0]), error)
            return self._skip(engine)

    def _skip(self, engine: SupervisedEvaluator) -> list[Any]:
        engine.state.batch, engine.state.output = [], []
        return []


class SharedEvaluator(SupervisedEvaluator):
    """MONAI's `SupervisedEvaluator` for several processes: a process without images takes part in the metrics.

    MONAI skips the run of a process without images. The others would wait for its numbers for ever.

    Args:
        args, kwargs: as for `SupervisedEvaluator`.

    Example:
        >>> evaluator = SharedEvaluator("cpu", val_data_loader=[], network=torch.nn.Identity())
        >>> evaluator.run(3)
        >>> evaluator.state.epoch
        3
    """

    def run(self, global_epoch: int = 1) -> None:  # type: ignore[override]  # as MONAI overrides ignite's
        """Evaluate the images of this process."""
        if self.state.epoch_length != 0:
            super().run(global_epoch)
        else:
            _run_without_images(self, global_epoch)


def _run_without_images(engine: Engine, epoch: int) -> None:
    """Let all handlers take part in what the processes exchange."""
    engine.state.epoch, engine.state.iteration = epoch, 0
    for event in (Events.STARTED, Events.EPOCH_STARTED, Events.EPOCH_COMPLETED, Events.COMPLETED):
        engine.fire_event(event)


def engine_items(engine: Engine) -> list[dict[str, Any]]:
    """Get the images of a MONAI engine's iteration as one dictionary each: loaded data and network output by key.

    The output wins where batch and output share a key.

    Raises:
        ValueError: the output is not a list, as with `decollate=False`.

    Example:
        >>> from ignite.engine import Engine, Events
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


def data_files(engine: Engine) -> tuple[list[str], list[str]]:
    """List the images of an engine's data set, and all its files.

    Returns:
        addresses of the images, of the first channel if the channels are files; paths of images, labels and other
        files. Empty if the data set is no list of items.

    Example:
        >>> from ignite.engine import Engine
        >>> data_files(Engine(lambda *_: None))
        ([], [])
    """
    data = getattr(getattr(getattr(engine, "data_loader", None), "dataset", None), "data", None)
    items = [item for item in data if isinstance(item, Mapping)] if isinstance(data, Sequence) else []
    channels = [list(paths_in([item.get(CommonKeys.IMAGE)])) for item in items]
    files = [str(split_address(path)[0]) for item in items for path in paths_in(item.values())]
    return [paths[0] for paths in channels if paths], list(dict.fromkeys(files))
