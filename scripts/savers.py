"""Everything that segmenting leaves on disk: label images, probabilities, overlays to look at, a table of objects."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
from ignite.engine import Engine, Events
from monai.engines import IterationEvents
from monai.utils import string_list_all_gather

from scripts.atomic_files import replacing, temporary_path
from scripts.engine_items import as_array, engine_items, source_of
from scripts.object_tables import object_table
from scripts.overlays import class_key, overlay_image, save_image
from scripts.result_names import ResultNames
from scripts.tables import six_digits, write_csv
from scripts.writers import SegmentationStore


class SegmentationSaver:
    """Save what an evaluator segments: `<output_dir>/<kind>/<name of the image>.<ending>`, and `objects.csv`.

    Classes, probabilities and instances go through `scripts.writers.SegmentationStore`: original formats where they
    serve, stacks as stacks. An overlay shows the instances, or the classes where there are no instances or more than
    two classes. The table of objects grows in a hidden file and takes its name when the run is over; several processes
    put theirs together. `classes.csv` says which value in the class maps is which class.

    Args:
        output_dir: where everything goes.
        classes: write class maps.
        probabilities: write the probabilities of all classes.
        instances: write instance maps, where there are any.
        overlays: write a PNG of the result on each image.
        objects: write the table of objects (`scripts.object_tables.object_table`), where there are instances.
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

    def attach(self, evaluator: Engine) -> None:
        """Follow an evaluator."""
        evaluator.add_event_handler(Events.STARTED, self._start)
        evaluator.add_event_handler(IterationEvents.MODEL_COMPLETED, self._save)  # where FolderEvaluator catches errors
        evaluator.add_event_handler(Events.COMPLETED, self._finish)
        evaluator.add_event_handler(Events.EXCEPTION_RAISED, self._give_up)

    def _start(self, _: Engine) -> None:
        self._store = SegmentationStore(self.output_dir, self.kinds, self.class_values, self.tiff_axes)
        self._table = ObjectsCSV(self.output_dir / "objects.csv") if self.objects else None

    def _save(self, evaluator: Engine) -> None:
        for item in engine_items(evaluator):
            self.save(item)

    def save(self, item: Mapping[str, Any]) -> None:
        """Save the results of one image.

        Raises:
            ValueError: the image does not know the file it comes from.
        """
        source = source_of(item, self.image_key)
        if not source:
            raise ValueError(f'"{self.image_key}" has no metadata that name its file; load it with LoadImaged')
        results = {kind: as_array(item[key]) for kind, key in self.keys.items() if key in item}
        if self._store is not None:
            for kind, result in results.items():
                self._store.add(kind, source, result)
        image = as_array(item[self.image_key])
        instances = results["instances"][0] if "instances" in results else None
        if self.overlays:
            several = "probabilities" in results and len(results["probabilities"]) > 2
            labels = results["classes"][0] if several or instances is None else instances
            save_image(overlay_image(image, labels.astype(np.int64)), self.overlay_path(source))
        if self._table is not None and instances is not None:
            spacing, unit = spacing_of(item[self.image_key])
            channels = image[0] if image.shape[0] == 1 else image
            self._table.add(Path(source).name, object_table(instances, channels, spacing, unit))

    def overlay_path(self, source: str) -> Path:
        """Where an overlay goes: `overlays/<name>.png`, for a plane of a stack `overlays/<name>_0003.png`."""
        return self.output_dir / "overlays" / f"{self._names.of(source)}.png"

    def _finish(self, _: Engine) -> None:
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

    def _give_up(self, _: Engine, error: BaseException) -> None:
        """Leave no unfinished files behind when the run stops (Ctrl-C, a full disk); complete results stay."""
        if self._store is not None:
            self._store.discard()
        if self._table is not None:
            self._table.discard()
        raise error  # ignite leaves that to the handlers of this event


class ObjectsCSV:
    """A table that grows image by image in a hidden file and appears complete, at `close`.

    Args:
        path: the table; its first column is `image`, the others are those of any of the added tables.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: dict[str, None] = {"image": None}
        self._rows = temporary_path(path.with_suffix(f".{idist.get_rank()}.jsonl"))  # rows whose columns may still grow
        self._rows.parent.mkdir(parents=True, exist_ok=True)
        self._rows.write_text("", encoding="utf-8")

    def add(self, image: str, table: Mapping[str, np.ndarray]) -> None:
        """Append the objects of one image."""
        self.columns |= dict.fromkeys(table)
        values = [column.tolist() for column in table.values()]
        with self._rows.open("a", encoding="utf-8") as file:
            for row in zip(*values, strict=True):
                file.write(json.dumps({"image": image, **dict(zip(table, map(six_digits, row), strict=True))}) + "\n")

    def close(self) -> None:
        """Write the table; with several processes the first writes the rows of all."""
        if idist.get_world_size() > 1:
            rows = string_list_all_gather(self._rows.read_text(encoding="utf-8").splitlines(), delimiter="\n")
            self.columns = dict.fromkeys(string_list_all_gather(list(self.columns)))
            self._rows.write_text("".join(f"{row}\n" for row in rows if row), encoding="utf-8")
        if idist.get_rank() == 0:
            with (
                self._rows.open(encoding="utf-8") as lines,
                replacing(self.path) as temporary,
                temporary.open("w", newline="", encoding="utf-8") as file,
            ):
                writer = csv.DictWriter(file, list(self.columns), lineterminator="\n")
                writer.writeheader()
                writer.writerows(json.loads(line) for line in lines)
        self.discard()

    def discard(self) -> None:
        """Remove the hidden file."""
        self._rows.unlink(missing_ok=True)


def spacing_of(image: Any) -> tuple[tuple[float, float] | None, str | None]:
    """Height and width of a pixel and their unit, from the metadata of `PlaneReader`; (None, None) if unknown."""
    meta = getattr(image, "meta", {})
    unit = str(meta.get("unit", "pixel"))
    if unit == "pixel" or "spacing" not in meta:
        return None, None
    height, width = (float(value) for value in np.ravel(as_array(meta["spacing"]))[:2])
    return (height, width), unit
