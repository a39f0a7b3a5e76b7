"""Everything that segmenting leaves on disk: label images, probabilities, overlays to look at, a table of objects.

Results are written beside the main thread, so that writing one image takes no time from computing the next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import ignite.distributed as idist
import numpy as np
from ignite.engine import Engine, Events
from monai.engines import IterationEvents

from scripts.data.items import source_of
from scripts.engines import OF_ONE_IMAGE, FolderEvaluator, engine_items
from scripts.io.arrays import as_array
from scripts.io.files import write_csv
from scripts.io.names import ResultNames
from scripts.io.writer import SegmentationStore
from scripts.metrics.shapes import ObjectsCSV, object_table
from scripts.plot.overlays import class_key, overlay_image, save_image


class Background:
    """One thread that does one job at a time, in the order in which they are given.

    No job waits in a queue: giving the next one waits for the one before, so that at most the data of one job are kept
    and its error is known before the next begins. An error is kept for `wait`, never lost.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="background")
        self._job: Future[None] | None = None

    def wait(self) -> None:
        """Wait for the job at work, if there is one, and raise what it raised."""
        job, self._job = self._job, None
        if job is not None:
            job.result()

    def do(self, job: Callable[..., None], *args: Any) -> None:
        """Wait for the job before, and begin this one; raises what the one before raised, and does not begin then."""
        self.wait()
        self._job = self._thread.submit(job, *args)

    def close(self) -> None:
        """Let the job at work end, and the thread; an error of that job that nobody waited for is dropped."""
        self._thread.shutdown(wait=True)
        self._job = None


BESIDE_BYTES = 2**28  # results of more than this, those of an image of 3600 x 3600, are not kept beside the next image


class ImageResults(NamedTuple):
    """What is to be saved of one image.

    Args:
        source: address of the image.
        image: (C, H, W).
        maps: "classes" (1, H, W), "probabilities" (K, H, W), "instances" (1, H, W), as far as there are such.
        spacing: height and width of a pixel, None if not known.
        unit: of `spacing`.
    """

    source: str
    image: np.ndarray
    maps: dict[str, np.ndarray]
    spacing: tuple[float, float] | None
    unit: str | None

    @property
    def nbytes(self) -> int:
        """Memory that they take."""
        return self.image.nbytes + sum(result.nbytes for result in self.maps.values())


class SegmentationSaver:
    """Save what an evaluator segments: `<output_dir>/<kind>/<name of the image>.<ending>`, and `objects.csv`.

    Classes, probabilities and instances go through `scripts.io.SegmentationStore`: original formats where they
    serve, stacks as stacks. An overlay shows the instances, or the classes where there are no instances or more than
    two classes. The table of objects grows in a hidden file and takes its name when the run is over; several processes
    put theirs together. `classes.csv` says which value in the class maps is which class.

    Args:
        output_dir: where everything goes.
        classes: write class maps.
        probabilities: write the probabilities of all classes.
        instances: write instance maps, where there are any.
        overlays: write a PNG of the result on each image.
        objects: write the table of objects (`scripts.metrics.object_table`), where there are instances.
        class_values: grey value of each class in the class maps; None: its number.
        class_names: of all classes, for `classes.csv`; None: no such file.
        tiff_axes: as given to the reader.
        image_key: the image on which overlays are drawn and intensities are measured: give the one before normalisation
            where intensities matter. Its metadata hold file name and size of a pixel.
        pred_key: class map (1, H, W).
        prob_key: probabilities (K, H, W); may be missing.
        instances_key: instances (1, H, W), 0 = background; may be missing.
    """

    def __init__(
        self,
        output_dir: str | Path,
        classes: bool = True,
        probabilities: bool = True,
        instances: bool = True,
        overlays: bool = True,
        objects: bool = True,
        class_values: Sequence[int] | None = None,
        class_names: Sequence[str] | None = None,
        tiff_axes: str | None = None,
        image_key: str = "image",
        pred_key: str = "pred",
        prob_key: str = "prob",
        instances_key: str = "instances",
    ) -> None:
        self.output_dir = Path(output_dir)
        wanted = {"classes": classes, "probabilities": probabilities, "instances": instances}
        self.kinds = tuple(kind for kind, on in wanted.items() if on)
        self.overlays = overlays
        self.objects = objects
        self.class_values = class_values
        self.class_names = class_names if classes else None
        self.tiff_axes = tiff_axes
        self.image_key = image_key
        self.keys = {"classes": pred_key, "probabilities": prob_key, "instances": instances_key}
        self._names = ResultNames()
        self._store: SegmentationStore | None = None
        self._table: ObjectsCSV | None = None
        self._background: Background | None = None
        self._at_work = ""  # the image that it writes

    def attach(self, evaluator: Engine) -> None:
        """Follow an evaluator."""
        evaluator.add_event_handler(Events.STARTED, self._start)
        evaluator.add_event_handler(IterationEvents.MODEL_COMPLETED, self._save)  # where FolderEvaluator catches errors
        evaluator.add_event_handler(Events.COMPLETED, self._finish)
        evaluator.add_event_handler(Events.EXCEPTION_RAISED, self._give_up)

    def _start(self, _: Engine) -> None:
        self._store = SegmentationStore(self.output_dir, self.kinds, self.class_values, self.tiff_axes)
        self._table = ObjectsCSV(self.output_dir / "objects.csv") if self.objects else None
        self._background = Background()

    def _save(self, evaluator: Engine) -> None:
        assert self._background is not None  # made when the run started
        for item in engine_items(evaluator):
            results = self._results(item)
            self._wait(evaluator)
            self._at_work = results.source
            self._background.do(self._write, results)
            if results.nbytes > BESIDE_BYTES:
                self._wait(evaluator)

    def _wait(self, evaluator: Engine) -> None:
        """Wait until the image before is written; errors of it are noted where they concern it alone, else raised."""
        try:
            if self._background is not None:
                self._background.wait()
        except OF_ONE_IMAGE as error:
            if not isinstance(evaluator, FolderEvaluator):
                raise
            evaluator.note_failure(self._at_work, error)

    def save(self, item: Mapping[str, Any]) -> None:
        """Save the results of one image, at once.

        Raises:
            ValueError: the image does not know the file it comes from.
        """
        self._write(self._results(item))

    def _results(self, item: Mapping[str, Any]) -> ImageResults:
        """Arrays in main memory of what an engine gives."""
        source = source_of(item, self.image_key)
        if not source:
            raise ValueError(f'"{self.image_key}" has no metadata that name its file; load it with LoadImaged')
        maps = {kind: as_array(item[key]) for kind, key in self.keys.items() if key in item}
        return ImageResults(source, as_array(item[self.image_key]), maps, *spacing_of(item[self.image_key]))

    def _write(self, found: ImageResults) -> None:
        """Measure, draw and write."""
        image, maps = found.image, found.maps
        if self._store is not None:
            for kind, result in maps.items():
                self._store.add(kind, found.source, result)
        instances = maps["instances"][0] if "instances" in maps else None
        if self.overlays:
            several = "probabilities" in maps and len(maps["probabilities"]) > 2
            labels = maps["classes"][0] if several or instances is None else instances
            save_image(overlay_image(image, labels.astype(np.int32, copy=False)), self.overlay_path(found.source))
        if self._table is not None and instances is not None:
            channels = image[0] if image.shape[0] == 1 else image
            table = object_table(instances, channels, found.spacing, found.unit)
            self._table.add(Path(found.source).name, table)

    def overlay_path(self, source: str) -> Path:
        """Where an overlay goes: `overlays/<name>.png`, for a plane of a stack `overlays/<name>_0003.png`."""
        return self.output_dir / "overlays" / f"{self._names.of(source)}.png"

    def _finish(self, evaluator: Engine) -> None:
        self._wait(evaluator)
        if self.class_names is not None and idist.get_rank() == 0:
            values = range(len(self.class_names)) if self.class_values is None else self.class_values
            colours = ["", *(colour for _, colour in class_key(self.class_names))]
            rows = zip(values, self.class_names, colours, strict=True)
            columns = ("value", "class", "overlay_colour")
            write_csv(self.output_dir / "classes.csv", [dict(zip(columns, row, strict=True)) for row in rows])
        if self._store is not None:
            self._store.close()
        if self._table is not None:
            self._table.close()
        if self._background is not None:
            self._background.close()

    def _give_up(self, _: Engine, error: BaseException) -> None:
        """Leave no unfinished files behind when the run stops (Ctrl-C, a full disk); complete results stay."""
        try:
            if self._background is not None:
                self._background.close()
        finally:  # even where waiting is interrupted, too
            if self._store is not None:
                self._store.discard()
            if self._table is not None:
                self._table.discard()
        raise error  # ignite leaves that to the handlers of this event


def spacing_of(image: Any) -> tuple[tuple[float, float] | None, str | None]:
    """Height and width of a pixel and their unit, from the metadata of `PlaneReader`; (None, None) if unknown."""
    meta = getattr(image, "meta", {})
    unit = str(meta.get("unit", "pixel"))
    if unit == "pixel" or "spacing" not in meta:
        return None, None
    height, width = (float(value) for value in np.ravel(as_array(meta["spacing"]))[:2])
    return (height, width), unit
