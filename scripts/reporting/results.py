"""Read the results of a run image by image, or segment: image, truth, and what the network has found."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..data.items import paths_in
from ..io.names import plane_address, split_address
from ..io.reader import PlaneReader
from ..io.writer import SegmentationStore
from ..options import converted
from ..segmenter import Segmenter
from ..settings import CHOICES, ModelSettings
from ..transforms.instance_labels import InstanceLabelsd
from .gather import Item, Run


@dataclass(frozen=True)
class Segmented:
    """Results of an image. None: not known.

    Args:
        classes: class of each pixel, integer (H, W).
        probability: of class 1, or of the predicted class with several classes, float (H, W).
        instances: objects, integer (H, W).
        of_objects: probability of class 1, whose regions are the objects, float (H, W).
    """

    classes: np.ndarray | None = None
    probability: np.ndarray | None = None
    instances: np.ndarray | None = None
    of_objects: np.ndarray | None = None


@dataclass(frozen=True)
class Loaded:
    """An image with its results.

    Args:
        image: (H, W), (C, H, W) or, as shown, uint8 (H, W, 3).
        found: results.
        truth: classes and objects, integer (H, W), -1 where not annotated. None: no label.
    """

    image: np.ndarray
    found: Segmented
    truth: tuple[np.ndarray, np.ndarray] | None = None


class Results:
    """Read the results of a run, or segment with its weights.

    Args:
        run: from `scripts.reporting.gather.read_run`.
        items: from `images_of`. {}: results are shown above the overlays of a segmentation.
    """

    def __init__(self, run: Run, items: Mapping[str, Item]) -> None:
        addresses = [next(paths_in([item["image"]])) for item in items.values()] or list(run.finished or run.areas)
        self.run, self.items = run, items
        self.settings = settings_in_use(run)
        self.store = SegmentationStore(run.folder, sources=addresses)
        self.reads = any((run.folder / kind).is_dir() for kind in ("instances", "probabilities", "classes"))
        self.segmented, self.seconds = 0, 0.0
        self._segmenter: Segmenter | None = None

    def of(self, name: str) -> Loaded:
        """Load an image, its label and its results: read, or segmented.

        Raises:
            FileNotFoundError: neither results nor image and weights.
            ValueError: a file that cannot be read, or labels with wrong values.
        """
        item = self.items.get(name)
        address = name if item is None else next(paths_in([item["image"]]))
        image = None if item is None else PlaneReader().get_data(list(paths_in([item["image"]])))[0]
        found = self._read(address) if self.reads else Segmented()
        if found.probability is None and found.instances is None and found.classes is None:
            if image is None or self.run.weights is None:
                raise FileNotFoundError(f"neither results of {address} in {self.run.folder} nor image and weights")
            found = self._segment(image)
        truth = None if item is None or "label" not in item else read_truth(item, self.settings)
        shown = self._overlay(address) if image is None else image if image.ndim == 2 else np.moveaxis(image, 2, 0)
        return Loaded(shown, found, truth)

    def _overlay(self, address: str) -> np.ndarray:
        """Read the overlay of an image that is not known any more."""
        path = self.run.folder / "overlays" / f"{self.store.names.of(address)}.png"
        with Image.open(path) as opened:
            return np.asarray(opened.convert("RGB"))

    def _read(self, address: str) -> Segmented:
        _, page = split_address(address)
        planes: dict[str, np.ndarray] = {}
        for kind in ("classes", "probabilities", "instances"):
            path = self.store.path_of(kind, address)
            if path.is_file():
                place = str(path) if page is None else plane_address(path, page)
                planes[kind] = PlaneReader(labels=kind != "probabilities").get_data([place])[0]
        classes, scores = planes.get("classes"), planes.get("probabilities")
        values = self.run.settings.class_names if self.run.settings else []
        if classes is not None and classes.max(initial=0) >= max(2, len(values)):  # --class_map_values
            classes = None
        if scores is None:
            return Segmented(classes, None, planes.get("instances"))
        channels = np.moveaxis(np.atleast_3d(scores), 2, 0)
        return _segmented(channels.argmax(0) if classes is None else classes, channels, planes.get("instances"))

    def _segment(self, image: np.ndarray) -> Segmented:
        started = time.perf_counter()
        if self._segmenter is None:
            self._segmenter = Segmenter(self.run.weights, **used_settings(self.run))
        found = self._segmenter(image)
        self.segmented += 1
        self.seconds += time.perf_counter() - started
        return _segmented(found.classes, found.probabilities, found.instances)


def _segmented(classes: np.ndarray, probabilities: np.ndarray, instances: np.ndarray | None) -> Segmented:
    """Put together results. `probabilities` are (K, H, W)."""
    of_objects = probabilities[min(1, len(probabilities) - 1)]
    return Segmented(classes, of_objects if len(probabilities) == 2 else probabilities.max(0), instances, of_objects)


def used_settings(run: Run) -> dict[str, Any]:
    """List the settings of `Segmenter` with which an evaluation or a segmentation ran. {}: those of the weights.

    `run.json` may come from elsewhere. Text with code is no value of a setting.

    Raises:
        ValueError: a value of the wrong type or range.

    Example:
        >>> from pathlib import Path
        >>> used_settings(Run(Path("."), ("evaluation",), record={"settings": {"threshold": "0.4", "seed": "0"}}))
        {'threshold': 0.4}
    """
    if "training" in run.kinds:
        return {}
    recorded = run.record.get("settings", {})
    names = [name for name in (*CHOICES, "orientations") if recorded.get(name, "None") != "None"]
    return {name: converted(name, recorded[name]) for name in names}


def settings_in_use(run: Run) -> ModelSettings:
    """Return the settings of the weights, changed by those of the run, such as `--threshold 0.4` of an evaluation.

    Wrong values in `run.json` are left out here. Segmenting an image with these values fails, and names them.

    Example:
        >>> from pathlib import Path
        >>> settings_in_use(Run(Path("."), ("evaluation",), record={"settings": {"threshold": "0.4"}})).threshold
        0.4
    """
    try:
        changes = {name: value for name, value in used_settings(run).items() if name in CHOICES}
    except ValueError:
        changes = {}
    return (run.settings or ModelSettings()).model_copy(update=changes)


def read_truth(item: Item, settings: ModelSettings) -> tuple[np.ndarray, np.ndarray]:
    """Read the label of an image as a training does, without the separation gap.

    Args:
        item: "label", and "markers" if there are some: addresses.
        settings: how labels are read.

    Returns:
        classes and objects, int32 (H, W), -1 where not annotated.

    Raises:
        ValueError: values that are no labels.

    Example:
        >>> Image.fromarray(np.array([[0, 5]], np.uint8)).save("label.png")
        >>> read_truth({"label": "label.png"}, ModelSettings(label_kind="instances"))[1]
        array([[0, 5]], dtype=int32)
    """
    reader = PlaneReader(labels=True)
    label = reader.get_data([str(item["label"])])[0]
    markers = reader.get_data([str(item["markers"])])[0][None] if item.get("markers") else None
    convert = InstanceLabelsd(
        kind=settings.label_kind,
        class_values=settings.label_values,
        out_channels=max(2, len(settings.class_names)),
        field_border=settings.field_border,
    ).convert
    return convert(label[None], markers)
