"""Save the results of segmentation in a second thread: label images, probabilities, overlays, a table of objects.

`SegmentationSaver` also keeps the record of the run, with which an interrupted run goes on.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import ignite.distributed as idist
import numpy as np
from ignite.engine import Engine, Events
from monai.engines import IterationEvents

from ..data.items import paths_in, source_of, spacing_of
from ..data.sharing import share_images
from ..engines import FolderEvaluator, concerns_all_images, data_files, engine_items
from ..io.arrays import as_array
from ..io.files import FolderError, read_csv, write_csv
from ..io.locks import FolderLock
from ..io.names import shown, split_address
from ..io.results import OF_OBJECTS, ResultFolder
from ..io.writer import SegmentationStore
from ..metrics.shapes import ObjectsCSV, image_summary, object_table
from ..plot.overlays import PALETTE, class_colours, class_key, number_objects, overlay_image, save_image
from ..ranks import from_first, gather
from .interruption import at_error

logger = logging.getLogger(__name__)

BESIDE_BYTES = 2**28  # larger results (above 3600 x 3600 pixels) are written before the next image is computed


class Background:
    """Run one job at a time in a second thread. Memory then holds the data of a single job.

    Example:
        >>> background, done = Background(), []
        >>> background.do(done.append, "job")
        >>> background.wait()
        >>> done
        ['job']
        >>> background.close()
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="background")
        self._job: Future[None] | None = None

    def wait(self) -> None:
        """Wait for the current job, if any, and raise its error."""
        job, self._job = self._job, None
        if job is not None:
            job.result()

    def do(self, job: Callable[..., None], *args: Any) -> None:
        """Wait for the previous job, then start the new job. An error of the previous job is raised instead."""
        self.wait()
        self._job = self._thread.submit(job, *args)

    def close(self) -> None:
        """Let the current job finish and end the thread. An error of the job is dropped."""
        self._thread.shutdown(wait=True)
        self._job = None


class ImageResults(NamedTuple):
    """Hold the results of an image.

    Args:
        source: address of the image.
        image: (C, H, W).
        maps: "classes" (1, H, W), "probabilities" (K, H, W), "instances", "entropy" and "deviation" (1, H, W); any of
            them may be missing.
        spacing: height and width of a pixel. None: unknown.
        unit: unit of `spacing`.
    """

    source: str
    image: np.ndarray
    maps: dict[str, np.ndarray]
    spacing: tuple[float, float] | None
    unit: str | None

    @property
    def nbytes(self) -> int:
        """Memory of all arrays in bytes."""
        return self.image.nbytes + sum(result.nbytes for result in self.maps.values())


class SegmentationSaver:
    """Save the results of an evaluator in `<output_dir>`.

    - `classes/`, `probabilities/`, `instances/`, `entropy/`, `deviation/`: maps, as written by
      `scripts.io.SegmentationStore`.
    - `overlays/<name>.png`, for plane 3 of a stack `<name>_0003.png`: instances on the image. Classes instead, without
      instances or with more than two classes.
    - `objects.csv`: table of objects (`scripts.metrics.object_table`). Rows are written as images are done.
    - `images.csv`: table of images (`scripts.metrics.image_summary`), in the same way.
    - `classes.csv`: value, name and colour of each class.
    - `results.jsonl`: record of the run, see `scripts.io.RunRecord`.

    The folder is locked during the run. Results never replace the images, nor files that no run has written.

    Args:
        output_dir: folder of the results.
        classes: write class maps.
        probabilities: write probabilities of all classes.
        instances: write instance maps, if computed.
        overlays: write overlays.
        overlay_labels: write the numbers of `objects.csv` on the objects of the overlays. Overlays of small objects are
            enlarged, up to 4 times.
        objects: write the tables of objects and of images, if instances are computed.
        uncertainty: write the entropy of the probabilities and, if computed, the deviation over orientations.
        class_values: grey value of each class in the class maps. None: the class's number.
        class_names: names of all classes for `classes.csv` and `images.csv`. None: no `classes.csv`.
        tiff_axes: axes of TIFF images, as for the reader.
        skip_finished: leave out images whose results are complete. Needs `unfinished` between the list of images and
            the data set.
        settings: settings that decide the results, name -> text, see `result_settings`. For `skip_finished`, they must
            be those of the earlier run.
        image_key: image for overlays and mean intensities, with file name and pixel size in its metadata. Mean
            intensities are in original units if the image is not normalised.
        pred_key: class map (1, H, W).
        prob_key: probabilities (K, H, W), may be missing.
        instances_key: instance map (1, H, W), 0 = background, may be missing.
        entropy_key: entropy (1, H, W), may be missing.
        deviation_key: deviation (1, H, W), may be missing.

    Raises:
        ValueError: during the run: an image without a file name in its metadata; two images with one result name;
            results over images or over files of others; `skip_finished` in a folder with results of other settings.
        FolderInUseError: another process writes into the folder.
    """

    _store: SegmentationStore
    _folder: ResultFolder
    _background: Background
    _finished: Mapping[Path, str]  # images of an earlier run that stay
    _begun: bool = False  # whether the record of this run has replaced an earlier one

    def __init__(
        self,
        output_dir: str | Path,
        classes: bool = True,
        probabilities: bool = True,
        instances: bool = True,
        overlays: bool = True,
        overlay_labels: bool = False,
        objects: bool = True,
        uncertainty: bool = False,
        class_values: Sequence[int] | None = None,
        class_names: Sequence[str] | None = None,
        tiff_axes: str | None = None,
        skip_finished: bool = False,
        settings: Mapping[str, str] | None = None,
        image_key: str = "image",
        pred_key: str = "pred",
        prob_key: str = "prob",
        instances_key: str = "instances",
        entropy_key: str = "entropy",
        deviation_key: str = "deviation",
    ) -> None:
        if classes and class_values is not None and class_names is not None and len(class_values) != len(class_names):
            values, names = list(class_values), ", ".join(class_names)
            raise ValueError(f"class_map_values is {values}, expected a grey value for each of the classes {names}")
        self.output_dir = Path(output_dir)
        wanted = {"classes": classes, "probabilities": probabilities, "instances": instances}
        wanted |= {"entropy": uncertainty, "deviation": uncertainty}
        self.kinds = tuple(kind for kind, on in wanted.items() if on)
        self.overlays = overlays
        self.overlay_labels = overlay_labels
        self.objects = objects
        self.class_values = class_values
        self.class_names = class_names
        self.tiff_axes = tiff_axes
        self.skip_finished = skip_finished
        self.settings = dict(settings or {})
        self.image_key = image_key
        self.keys = {"classes": pred_key, "probabilities": prob_key, "instances": instances_key}
        self.keys |= {"entropy": entropy_key, "deviation": deviation_key} if uncertainty else {}
        self._asked = [*self.kinds, *(["overlays"] if overlays else []), *(["objects"] if objects else [])]
        self._listed: list[str] | None = None  # addresses of all images, with the finished ones
        self._tables: list[ObjectsCSV] = []  # of objects and of images
        self._cleanup = ExitStack()
        self._at_work = ""  # source of the image in the second thread
        self._finished = {}

    def unfinished(self, items: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """List the images to be segmented: with `skip_finished` those without complete results, else all.

        Each of several processes gets a share, see `scripts.data.share_images`. Rank 0 decides what is finished.

        Args:
            items: list of images for the data set, {"image": address}, or a list of the addresses of the channels.

        Raises:
            ValueError: the results are of other settings.
        """
        items = list(items)
        self._listed = [_first_file(item) for item in items]
        if self.skip_finished:
            items = from_first(self._left(items) if idist.get_rank() == 0 else [])
        return share_images(items)

    def _left(self, items: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Leave out the images of complete results."""
        assert self._listed is not None
        folder = self._folder_of(self._listed)[0]
        finished, images = folder.finished(), len(folder.planes)
        logger.info(
            "skip_finished: %d of %d images are finished in %s, %d are left",
            *(len(finished), images, shown(self.output_dir), images - len(finished)),
        )
        return [item for item in items if split_address(_first_file(item))[0] not in finished]

    def _folder_of(self, images: Sequence[str]) -> tuple[ResultFolder, SegmentationStore]:
        store = SegmentationStore(self.output_dir, self.kinds, self.class_values, self.tiff_axes, images)
        return ResultFolder(store, self._asked, images, self.settings, idist.get_rank()), store

    def attach(self, evaluator: Engine) -> None:
        """Follow an evaluator."""
        evaluator.add_event_handler(Events.STARTED, self._start)
        evaluator.add_event_handler(IterationEvents.MODEL_COMPLETED, self._save)  # FolderEvaluator catches errors there
        evaluator.add_event_handler(Events.COMPLETED, self._finish)
        at_error(evaluator, self._give_up)

    def _start(self, evaluator: Engine) -> None:
        self._cleanup = ExitStack()  # runs its callbacks in reverse order
        first = idist.get_rank() == 0
        if first:
            self._cleanup.enter_context(FolderLock(self.output_dir))
        listed, files = data_files(evaluator)
        images = self._listed if self._listed is not None else listed
        self._folder, self._store = self._folder_of(images)
        self._cleanup.callback(self._store.discard)
        self._folder.check([*files, *(split_address(image)[0] for image in images)])
        finished = self._folder.finished() if self.skip_finished and first else {}
        idist.barrier()  # all processes have read the record
        self._finished = finished
        self._begun = False
        if idist.get_world_size() > 1:  # the other processes have records of their own
            if first:
                self._begin()
            self._begun = True
        idist.barrier()
        kept = list(finished.values())
        self._tables = [ObjectsCSV(self.output_dir / name, kept) for name in OF_OBJECTS if self.objects]
        self._background = Background()
        self._cleanup.callback(self._background.close)

    def _begin(self) -> None:
        """Replace the record of an earlier run, before the first result: images that all fail replace nothing."""
        self._folder.begin(self._finished)
        self._write_classes()
        self._begun = True

    def _save(self, evaluator: Engine) -> None:
        for item in engine_items(evaluator):
            image, source = item[self.image_key], source_of(item, self.image_key)
            if not source:
                raise ValueError(f'"{self.image_key}" has no file name in its metadata. Load it with LoadImaged')
            maps = {kind: as_array(item[key]) for kind, key in self.keys.items() if key in item}
            results = ImageResults(source, as_array(image), maps, *spacing_of(image))
            self._wait(evaluator)
            self._at_work = source
            self._background.do(self._write, results)
            if results.nbytes > BESIDE_BYTES:
                self._wait(evaluator)

    def _wait(self, evaluator: Engine) -> None:
        """Wait until the previous image is written. A `FolderEvaluator` notes errors of a single image."""
        try:
            self._background.wait()
        except Exception as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise FolderError(
                    f"{error.strerror}: {shown(str(error.filename or self.output_dir))} was not written. The images "
                    "before are complete: free some space, and go on with skip_finished true"
                ) from error
            if concerns_all_images(error) or not isinstance(evaluator, FolderEvaluator):
                raise
            evaluator.note_failure(self._at_work, error)

    def _write(self, results: ImageResults) -> None:
        if not self.output_dir.is_dir():
            raise FolderError(f"the folder {shown(self.output_dir)} has vanished during the run")
        if not self._begun:
            self._begin()
        image, maps = results.image, results.maps
        for kind, result in maps.items():
            self._store.add(kind, results.source, result)
        instances = maps["instances"][0] if "instances" in maps else None
        if self.overlays:
            self._write_overlay(results)
        if self._tables and instances is not None:
            channels = image[0] if image.shape[0] == 1 else image
            classes = maps["classes"][0] if "classes" in maps else None
            objects = object_table(instances, channels, results.spacing, results.unit)
            summary = image_summary(instances, classes, self.class_names, results.spacing, results.unit)
            for table, rows in zip(self._tables, (objects, summary), strict=True):
                table.add(self._folder.name(results.source), rows)
        self._folder.add(results.source, [*maps, "overlays", "objects"])

    def _write_overlay(self, results: ImageResults) -> None:
        """Draw the instances on the image, or the classes if there are several."""
        maps, probabilities = results.maps, results.maps.get("probabilities")
        count = 2 if probabilities is None else len(probabilities)
        kind = "classes" if count > 2 or "instances" not in maps else "instances"
        colours = class_colours(count - 1) if kind == "classes" else PALETTE
        picture = overlay_image(results.image, maps[kind][0].astype(np.int32, copy=False), colours=colours)
        if self.overlay_labels and "instances" in maps:
            picture = number_objects(picture, maps["instances"][0])
        save_image(picture, self.output_dir / "overlays" / f"{self._store.names.of(results.source)}.png")

    def _write_classes(self) -> None:
        if self.class_names is not None and "classes" in self.kinds:
            values = range(len(self.class_names)) if self.class_values is None else self.class_values
            colours = ["", *(colour for _, colour in class_key(self.class_names))]
            rows = zip(values, self.class_names, colours, strict=True)
            columns = ("value", "class", "overlay_colour")
            write_csv(self.output_dir / "classes.csv", [dict(zip(columns, row, strict=True)) for row in rows])

    def _finish(self, evaluator: Engine) -> None:
        self._wait(evaluator)
        try:
            self._store.close()
            self._folder.record_finished()
        except Exception as error:  # of a stack with missing planes
            if concerns_all_images(error) or not isinstance(evaluator, FolderEvaluator):
                raise
            evaluator.note_failure(str(getattr(error, "filename", None) or self.output_dir), error)
        if isinstance(evaluator, FolderEvaluator):
            evaluator.share_failures()
        if self._begun:
            sorted_again = self.skip_finished or idist.get_world_size() > 1
            for table in self._tables:
                table.close(self._folder.order() if sorted_again else [])
            self._folder.record.merge(self._folder.order())
            self._tell()
        gather(None)  # all processes are done with the folder
        self._cleanup.close()

    def _tell(self) -> None:
        """Count images and objects in a message, also those of other processes and of earlier runs."""
        if self._tables and idist.get_rank() == 0:
            rows = read_csv(self._tables[1].path)
            objects = sum(int(row["objects"]) for row in rows if row.get("objects"))
            if rows:
                images = f"{len(rows)} image{'' if len(rows) == 1 else 's'}"
                logger.info(f"{images}, {objects} object{'' if objects == 1 else 's'} in {shown(self.output_dir)}")

    def _give_up(self, _: Engine, error: BaseException) -> None:
        """Remove unfinished files when the run stops (Ctrl-C, a full disk). Complete results stay."""
        self._cleanup.close()
        if not isinstance(error, KeyboardInterrupt) or self._listed is None or idist.get_rank() != 0:
            return
        if self._begun or self._finished:
            self._folder.record.read()  # with the images of other processes
            logger.warning(
                "%d of %d images are finished in %s. Go on with skip_finished true",
                *(len(self._folder.record.images), len(self._folder.planes), shown(self.output_dir)),
            )
        else:
            logger.warning("no image is finished. Give the same command again")


def _first_file(item: Mapping[str, Any]) -> str:
    """Return the address that names the results of an image: of the first channel, if the channels are files."""
    return next(paths_in([item["image"]]))
