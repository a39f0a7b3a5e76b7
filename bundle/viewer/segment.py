"""The widget Segment: find objects in an open layer, and change their settings without running the network again."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image
from napari.qt.threading import create_worker
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import (
    QApplication,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QGroupBox,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from ..running.package import library_package
from .form import LEARNING, follow_layers, list_layers, row, show_scrolled
from .layers import LayerPlanes, file_of, is_large, pixel_size_of, placed, plane_in_view, planes_of
from .scoring import (
    Cancelled,
    ObjectSettings,
    PlaneScorer,
    PlaneScores,
    find_objects,
    numbered_on,
    objects_table,
    segment_large,
)
from .weights import WeightsList

PAUSE = 150  # milliseconds after the last change of a setting, before objects are found again
MOST = 10**6  # pixels, of the fields for areas


@dataclass
class Result:
    """The layers that belong to a segmented image layer."""

    image: Any  # layer
    planes: LayerPlanes
    made_with: tuple[Any, ...]  # weights, views and pixel size
    pixel_size: tuple[float, float] | None
    settings: ObjectSettings
    probability: Any  # image layer: the scores that settings of objects act upon
    objects: Any = None  # labels layer
    classes: Any = None  # labels layer, for several classes
    painted: bool = False  # the user has edited the objects
    note: str = ""  # about planes without result
    stale: threading.Event = dataclasses.field(default_factory=threading.Event)  # the running search has old settings


@dataclass(frozen=True)
class _Plane:
    """A segmented plane, from the thread."""

    layer: Any
    planes: LayerPlanes
    made_with: tuple[Any, ...]
    pixel_size: tuple[float, float] | None
    number: int
    scores: PlaneScores
    found: np.ndarray
    classes: int


@dataclass(frozen=True)
class _Found:
    """Objects of a plane, or of all planes with their table, from the thread."""

    result: Result
    pixels: np.ndarray
    number: int | None
    table: Any
    stale: threading.Event


class Problem(str):
    """Message about a problem in a thread."""


class SegmentWidget(QWidget):
    """Segment an image layer of napari.

    Results are the layers `<name> objects` and `<name> probability`, of several classes `<name> classes`. The table of
    objects is in the features of the layer of objects. Work runs in a thread.

    Args:
        napari_viewer: the viewer.

    Attributes:
        status: label with progress and problems.
    """

    progressed = Signal(float, str)  # share and text, from the thread

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self._results: dict[Any, Result] = {}  # by image layer
        self._scorer: tuple[tuple[Any, ...], PlaneScorer] | None = None
        self._worker: Any = None
        self._cancel = threading.Event()
        self._layer: Any = None  # the image in work
        self._settings = ObjectSettings()  # of its objects
        self._result: Result | None = None  # of the image in work, after the first plane
        self._timer = QTimer(self, singleShot=True, interval=PAUSE)
        self._build()
        self._connect()
        self._list_layers()
        self._read_settings()
        threading.Thread(target=library_package, args=("segmenter",), daemon=True).start()  # takes seconds

    # ------------------------------------------------------------------ the form

    def _build(self) -> None:
        self.image = QComboBox()
        self.weights = WeightsList()
        self.orientations = QComboBox()
        for views, text in ((1, "1 view"), (4, "4 views, flipped"), (8, "8 views, flipped and turned: best, slowest")):
            self.orientations.addItem(text, views)
        self.pixel_size = QDoubleSpinBox(decimals=5, maximum=1000, singleStep=0.01, specialValueText="unknown")
        self.pixel_size.setSuffix(" µm")
        self.rescale = QCheckBox()
        self.output = QLineEdit()
        self._form = QFormLayout()
        for text, widget in (
            ("Image", self.image),
            ("Weights", self.weights),
            ("Views", self.orientations),
            ("Pixel size", self.pixel_size),
            ("", self.rescale),
            ("Result file", self.output),
        ):
            self._form.addRow(text, widget)
        self.run_button, self.cancel_button = QPushButton("Segment"), QPushButton("Cancel")
        self.cancel_button.setEnabled(False)
        self.progress = QProgressBar(maximum=1000, textVisible=False)
        self.status = QLabel(wordWrap=True)
        self.table_button, self.save_button = QPushButton("Show table"), QPushButton("Save table ...")
        self.copy_button = QPushButton("Copy command")
        self.copy_button.setToolTip("The command that segments a folder of images with these settings, for a terminal")
        layout = QVBoxLayout()
        layout.addLayout(self._form)
        layout.addLayout(row(self.run_button, self.cancel_button))
        layout.addWidget(self.progress)
        layout.addWidget(self._objects_group())
        layout.addLayout(row(self.table_button, self.save_button, self.copy_button))
        layout.addWidget(self.status)
        layout.addStretch()
        show_scrolled(self, layout)

    def _objects_group(self) -> QGroupBox:
        """Fields for the settings of objects, by their names in `model.json`."""
        self.fields: dict[str, QDoubleSpinBox | QSpinBox] = {
            "threshold": QDoubleSpinBox(decimals=3, minimum=0, maximum=1, singleStep=0.05),
            "min_area": QSpinBox(maximum=MOST, suffix=" px"),
            "fill_holes": QSpinBox(maximum=MOST, suffix=" px"),
            "split_necks": QDoubleSpinBox(decimals=1, maximum=1000, singleStep=0.5, suffix=" px"),
            "close_gaps": QSpinBox(maximum=1000, suffix=" px"),
            "field_border": QSpinBox(maximum=10_000, suffix=" px"),
        }
        texts = {
            "threshold": ("Threshold", "Probability above which a pixel belongs to an object. Lower: larger objects"),
            "min_area": ("Smallest object", "Smaller objects are left out"),
            "fill_holes": ("Largest hole filled", "Holes up to this size are filled"),
            "split_necks": ("Split at necks", "Objects are split where they are this much narrower. 0: off"),
            "close_gaps": ("Close gaps", "Gaps up to this width between two objects are filled. 0: off"),
            "field_border": ("Field border", "Objects wholly this close to the image edge are left out. 0: none"),
        }
        group = QGroupBox("Objects (act at once)")
        form = QFormLayout(group)
        for name, field in self.fields.items():
            text, tip = texts[name]
            field.setToolTip(f"{tip} ({name})")
            form.addRow(text, field)
        self.reset_button = QPushButton("Values of the weights")
        form.addRow(self.reset_button)
        return group

    def _connect(self) -> None:
        follow_layers(self.viewer, self._list_layers)
        self.image.currentIndexChanged.connect(self._show_layer)
        self.weights.currentIndexChanged.connect(self._read_settings)
        for field in self.fields.values():
            field.valueChanged.connect(self._settings_changed)
        self._timer.timeout.connect(self._find_again)
        self.progressed.connect(self._tell)
        self.run_button.clicked.connect(self.segment)
        self.cancel_button.clicked.connect(self.cancel)
        self.reset_button.clicked.connect(self._reset)
        self.table_button.clicked.connect(self._show_table)
        self.save_button.clicked.connect(self._save_table)
        self.copy_button.clicked.connect(self._copy_command)
        self.destroyed.connect(self._cancel.set)

    def _list_layers(self, _event: object = None) -> None:
        """List the image layers, without results."""
        chosen = self.image.currentData()
        for image in [one for one in self._results if one not in self.viewer.layers]:
            del self._results[image]  # frees the scores
            self.status.setText("")
        ours = {id(result.probability) for result in self._results.values()}
        images = [layer for layer in self.viewer.layers if isinstance(layer, Image) and layer.name != LEARNING]
        layers = [layer for layer in images if id(layer) not in ours]
        list_layers(self.image, layers)
        if chosen is None or self.image.currentData() is not chosen:
            self._show_layer()

    def _show_layer(self, _index: int = 0) -> None:
        """Show the pixel size of the chosen layer, and for large images the file of the result."""
        layer = self.image.currentData()
        size = None if layer is None else pixel_size_of(layer)
        self.pixel_size.setValue(0 if size is None or size[0] != size[1] else size[0])
        self._show_rows()
        if layer is not None and is_large(layer) and (path := file_of(layer)) is not None:
            stem = path.name.partition(".")[0]
            self.output.setText(str(path.with_name(f"{stem}_segmented.ome.zarr")))

    def _show_rows(self) -> None:
        """Show the rows of the form that concern layer and weights."""
        layer = self.image.currentData()
        large = layer is not None and is_large(layer)
        self._form.setRowVisible(self.output, large)
        self._form.setRowVisible(self.rescale, not large and bool(self.rescale.text()))
        self._form.setRowVisible(self.pixel_size, not large)

    def _read_settings(self, _index: object = None) -> None:
        """Show the settings of the weights. Results of other weights stay as they are."""
        weights = self.weights.chosen
        if weights is None:
            return
        try:
            settings = _settings_of(weights)
        except (OSError, ValueError) as error:
            self.status.setText(str(error))
            return
        for name, box in self.fields.items():
            before = box.blockSignals(True)
            box.setValue(getattr(settings, name))
            box.blockSignals(before)
        trained = settings.training.pixel_size
        self.rescale.setChecked(False)
        self.rescale.setText("" if trained is None else f"rescale to {trained:.3g} µm, as in training")
        self._show_rows()

    def _reset(self) -> None:
        """Take the settings of the weights, also for the result of the chosen image."""
        self._read_settings()
        self._settings_changed()

    @property
    def objects_settings(self) -> ObjectSettings:
        """The settings of objects in the form."""
        return ObjectSettings(**{name: field.value() for name, field in self.fields.items()})

    # ------------------------------------------------------------------ segmenting

    def segment(self) -> None:
        """Segment the chosen layer in a thread."""
        layer, weights = self.image.currentData(), self.weights.chosen
        if layer is None or weights is None:
            self.status.setText("no image: open one, or take File > Open Sample > Original U-Net")
            return
        if self._worker is not None:
            return
        if LEARNING in self.viewer.layers:
            self.viewer.layers[LEARNING].visible = False  # it would hide the objects
        self._cancel.clear()
        self._layer, self._settings, self._result = layer, self.objects_settings, None
        large = is_large(layer)
        try:
            if large:
                work = self._large_work(layer, weights)
            else:
                views, rescale = self.orientations.currentData(), self.rescale.isChecked()
                given = (layer, weights, self._size_of(layer), rescale, views, self._settings)
                work = create_worker(_with_messages, self._score(*given))
        except ValueError as error:
            self.status.setText(str(error))
            return
        self._begin(work, "loading the library and the weights ..." if self._scorer is None else "segmenting ...")

    def cancel(self) -> None:
        """End the work after the current tiles. Finished planes stay; unfinished large images go on next time."""
        self._cancel.set()
        self.status.setText("ending ...")

    def _begin(self, worker: Any, text: str) -> None:
        self._worker = worker
        worker.yielded.connect(self._receive)
        worker.finished.connect(self._end)
        self.run_button.setEnabled(False)
        self.cancel_button.setEnabled(True)
        self._tell(0, text)
        worker.start()

    def _tell(self, share: float, text: str) -> None:
        self.progress.setValue(round(1000 * share))
        self.status.setText(text)

    def _end(self) -> None:
        self._worker = None
        self.run_button.setEnabled(True)
        self.cancel_button.setEnabled(False)

    def _receive(self, message: Any) -> None:
        """Take a plane, the file of a large image, or the last text from the thread."""
        if isinstance(message, _Plane):
            self._add_plane(message)
        elif isinstance(message, Path):
            self._add_large(message)
        elif self._result is not None:
            self._tell(1, "measuring the objects ...")
            self._result.note = message
            self._find_objects(self._result)
        else:
            self._tell(0, message)

    def _size_of(self, layer: Any) -> tuple[float, float] | None:
        """Pixel size in micrometres: of the form, else of the layer if its pixels are not square."""
        given = self.pixel_size.value()
        return (given, given) if given else pixel_size_of(layer)

    def _score(
        self,
        layer: Any,
        weights: str,
        pixel_size: tuple[float, float] | None,
        rescale: bool,
        views: int,
        objects: ObjectSettings,
    ) -> Iterator[_Plane | str]:
        """Segment the planes of a layer, in the thread. The plane in view comes first."""
        if rescale and pixel_size is None:
            raise ValueError("to rescale, the pixel size of the image is needed: type it in micrometres")
        made_with, scorer = self._scorer_of(weights, views, pixel_size if rescale else None)
        planes, classes = planes_of(layer, scorer.settings.in_channels), len(scorer.settings.class_names)
        if not len(planes):
            raise ValueError(f"the layer '{layer.name}' has the shape {tuple(planes.pixels.shape)}: no planes")
        first = plane_in_view(planes, self.viewer.dims.current_step)
        order = [first, *(number for number in range(len(planes)) if number != first)]
        refused = []
        for done, number in enumerate(order):
            of_all = f"plane {done + 1} of {len(planes)}: " if len(planes) > 1 else ""

            def tell(tile: int, tiles: int, done: int = done, of_all: str = of_all) -> None:
                if self._cancel.is_set():
                    raise Cancelled
                self.progressed.emit((done + tile / tiles) / len(order), f"{of_all}{tile} of {tiles} tiles")

            try:
                tell(0, 1)
                scores = scorer(planes[number], tell)
                found = find_objects(scores.probability, objects, planes.size)
            except Cancelled:
                kept = f"; {done} of {len(planes)} planes are finished and stay" if len(planes) > 1 else ""
                yield f"cancelled{kept}"
                return
            except ValueError as error:
                if len(planes) == 1:
                    raise
                refused.append(f"plane {number} is left out: {error}")
                continue
            yield _Plane(layer, planes, made_with, pixel_size, number, scores, found, classes)
        more = f"; {len(refused) - 1} more planes are left out" if len(refused) > 1 else ""
        yield "".join(refused[:1]) + more

    def _scorer_of(
        self, weights: str, orientations: int, pixel_size: tuple[float, float] | None
    ) -> tuple[tuple[Any, ...], PlaneScorer]:
        """Keep the network for the next image, with the facts that decide its scores."""
        files = (Path(weights), Path(weights).with_suffix(".json"))  # a training replaces them
        changed = [file.stat().st_mtime_ns for file in files if file.is_file()]
        key = (weights, *changed, orientations, pixel_size)
        if self._scorer is None or self._scorer[0] != key:
            self._scorer = None  # frees the memory first
            self._scorer = (key, PlaneScorer(weights, orientations, pixel_size))
        return self._scorer

    def _add_plane(self, plane: _Plane) -> None:
        """Show the scores of a plane, and its objects."""
        if plane.layer not in self.viewer.layers:
            self._cancel.set()
            return
        if self._result is None:
            self._result = self._result_for(plane)
        result = self._result
        if not _alive(result, self.viewer):
            self.cancel()
            return
        at = plane.planes.place(plane.number)
        layers = [(result.probability, plane.scores.probability), (self._unpainted(result), plane.found)]
        if plane.classes > 2:
            if result.classes is None or result.classes not in self.viewer.layers:
                result.classes = self._add_labels(result, "classes", np.uint8, visible=False)
            layers.append((result.classes, plane.scores.classes))
        for one, pixels in layers:
            one.data[at] = pixels
            one.refresh()

    def _result_for(self, plane: _Plane) -> Result:
        """Get the result to go on with: of the same pixels and weights, else new layers."""
        layer, planes = plane.layer, plane.planes
        result = self._results.get(layer)
        same = result is not None and result.planes.pixels is planes.pixels and result.made_with == plane.made_with
        if result is None or not same or not _alive(result, self.viewer):
            result = self._new_result(plane)
        result.settings, result.pixel_size, result.note = self._settings, plane.pixel_size, ""
        result.stale.set()
        return result

    def _add_labels(self, result: Result, kind: str, dtype: type, **options: Any) -> Any:
        """Add an empty labels layer for a result."""
        image, planes = result.image, result.planes
        empty: np.ndarray = np.zeros((*planes.leading, *planes.size), dtype)
        return self.viewer.add_labels(empty, name=f"{image.name} {kind}", **options, **placed(image, planes))

    def _unpainted(self, result: Result) -> Any:
        """Get the layer for objects: a new one if the user has painted on the last one, to keep the work."""
        if result.objects is None or result.painted:
            if result.objects is not None:
                result.objects.visible = False
            result.objects, result.painted = self._add_labels(result, "objects", np.int32), False

            def paint(_event: object) -> None:
                result.painted = True

            result.objects.events.paint.connect(paint)
        return result.objects

    def _new_result(self, plane: _Plane) -> Result:
        """Add empty layers for the results, in place of earlier results of the image layer."""
        layer, planes = plane.layer, plane.planes
        earlier = self._results.pop(layer, None)
        if earlier is not None:
            for old in (earlier.probability, earlier.classes, None if earlier.painted else earlier.objects):
                with suppress(ValueError):
                    self.viewer.layers.remove(old)
            earlier.stale.set()
        small = plane.scores.probability.shape
        chosen = self.viewer.layers.selection.active
        probability = Image(
            np.zeros((*planes.leading, *small), np.float32),
            name=f"{layer.name} probability",
            contrast_limits=(0, 1),
            colormap="magma",
            visible=False,
            **placed(layer, planes, small),
        )
        result = Result(layer, planes, plane.made_with, plane.pixel_size, self._settings, probability)
        self._results[layer] = result  # before the layer: results are not listed as images
        self.viewer.add_layer(probability)
        self._unpainted(result)
        if chosen is not None and chosen in self.viewer.layers:
            self.viewer.layers.selection.active = chosen
        return result

    # ------------------------------------------------------------------ objects

    def _settings_changed(self, _value: float = 0) -> None:
        """Find the objects of the chosen image again, after a pause."""
        layer = self.image.currentData()
        if self._worker is not None and layer is self._layer:
            self._settings = self.objects_settings  # for the planes to come
        result = self._results.get(layer)
        if result is None:
            return
        result.settings = self.objects_settings
        result.stale.set()
        self._timer.start()

    def _find_again(self) -> None:
        result = self._results.get(self.image.currentData())
        if result is not None:
            self._find_objects(result)

    def _find_objects(self, result: Result) -> None:
        """Find the objects of all planes again, in a thread, the plane in view first."""
        if not _alive(result, self.viewer):
            self.status.setText(f"results of '{result.image.name}' were removed: press Segment for new ones")
            return
        result.stale.set()
        result.stale = threading.Event()
        first = plane_in_view(result.planes, self.viewer.dims.current_step)
        worker = create_worker(_with_messages, _objects_of(result, result.settings, first, result.stale))
        worker.yielded.connect(self._show_objects)
        worker.start()

    def _show_objects(self, found: _Found | Problem) -> None:
        if isinstance(found, Problem):
            self.status.setText(str(found))
            return
        result = found.result
        if found.stale.is_set() or not _alive(result, self.viewer):
            return
        objects = self._unpainted(result)
        if found.number is not None:
            objects.data[result.planes.place(found.number)] = found.pixels
            objects.refresh()
            return
        objects.data = found.pixels.reshape(objects.data.shape)
        objects.features = found.table
        planes = f" in {len(result.planes)} planes" if len(result.planes) > 1 else ""
        if self._worker is None:
            note = f"; {result.note}" if result.note else ""
            self.status.setText(f"{len(found.table)} objects{planes}{note}")

    # ------------------------------------------------------------------ large images

    def _large_work(self, layer: Any, weights: str) -> Any:
        path, output = file_of(layer), Path(self.output.text()).expanduser()
        if path is None:
            raise ValueError(
                f"the layer '{layer.name}' is large and was not read from a file: save it (File > Save Selected "
                "Layers), and open the file. Large images are segmented block by block, from the file"
            )
        if output.suffix != ".zarr" or not output.parent.is_dir():
            raise ValueError(f"the result file is '{output}': expected a name that ends in .ome.zarr, in a folder")
        views, objects = self.orientations.currentData(), self.objects_settings.options()
        return create_worker(_with_messages, self._large(weights, path, output, views, objects))

    def _large(
        self, weights: str, path: Path, output: Path, views: int, objects: dict[str, float]
    ) -> Iterator[Path | str]:
        """Segment a large image, in the thread."""

        def tell(step: str, done: int, total: int) -> None:
            if self._cancel.is_set():
                raise Cancelled
            self.progressed.emit(done / total, f"{step}: {done} of {total} blocks")

        try:
            yield segment_large(weights, path, output, views, objects, tell)
        except Cancelled:
            yield "cancelled; finished blocks are kept, and Segment goes on with the others"

    def _add_large(self, path: Path) -> None:
        """Show a finished large image."""
        import dask.array as da
        import zarr

        for kind, place in (("classes", "labels/classes"), ("objects", "labels/instances")):
            ome: Any = zarr.open_group(path / place, mode="r").attrs["ome"]
            multiscale = ome["multiscales"][0]
            levels = [da.from_zarr(path / place / level["path"]) for level in multiscale["datasets"]]
            steps = multiscale["datasets"][0]["coordinateTransformations"][0]["scale"]
            units = tuple(axis.get("unit") or "pixel" for axis in multiscale["axes"])
            name = f"{path.name.partition('.')[0]} {kind}"
            pyramid = {"data": levels, "multiscale": True} if len(levels) > 1 else {"data": levels[0]}
            self.viewer.add_labels(**pyramid, name=name, scale=steps, units=units, visible=kind != "classes")
        self.progress.setValue(1000)
        self.status.setText(f"written: {path}, with the table of objects beside it")

    # ------------------------------------------------------------------ results

    def _table(self) -> Any:
        result = self._results.get(self.image.currentData())
        if result is None or not len(result.objects.features):
            self.status.setText("no objects of this image: press Segment first")
            return None
        return result.objects.features

    def _show_table(self) -> None:
        if self._table() is None:
            return
        self.viewer.layers.selection.active = self._results[self.image.currentData()].objects
        self.viewer.window.add_plugin_dock_widget("napari", "Features table widget")

    def _save_table(self) -> None:
        if self._table() is None:
            return
        path, _ = QFileDialog.getSaveFileName(self, "Table of objects", "objects.csv", "CSV (*.csv)")
        if path:
            self.save_table(path)

    def save_table(self, path: str | Path) -> None:
        """Write the table of objects of the chosen image as CSV. Other files stay as they are if writing fails."""
        table = self._table()
        if table is None:
            return
        try:
            with library_package("io.files").replacing(path) as temporary:
                table.to_csv(temporary, index=False)
        except OSError as error:
            self.status.setText(f"{path} is not saved: {error}")
        else:
            self.status.setText(f"saved: {path}")

    @property
    def command(self) -> str:
        """The command that segments a folder of images with the settings of the form."""
        weights = str(self.weights.chosen)
        words = ["original-unet", "segment", "my/images", "--weights", weights]
        words += ["--orientations", str(self.orientations.currentData())]
        if self.rescale.isChecked():
            words += ["--pixel_size", f"{self.pixel_size.value():g}" if self.pixel_size.value() else "auto"]
        for name, value in self.objects_settings.options().items():
            words += [f"--{name}", f"{value:g}"]
        return subprocess.list2cmdline(words)

    def _copy_command(self) -> None:
        QApplication.clipboard().setText(self.command)
        self.status.setText("copied the command. Change my/images in it to your folder")


def _with_messages(work: Iterator[Any]) -> Iterator[Any]:
    """Yield expected errors as a last message. napari shows all other errors."""
    try:
        yield from work
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        yield Problem(str(error) or repr(error))


def _objects_of(result: Result, settings: ObjectSettings, first: int, stale: threading.Event) -> Iterator[_Found]:
    """Find the objects of all planes in the scores, in a thread. Ends early after a change of the settings."""
    planes, scores = result.planes, result.probability.data
    height, width = planes.size
    before = int(result.objects.data.reshape(-1, height, width)[:first].max(initial=0))
    found = find_objects(scores[planes.place(first)], settings, planes.size)
    yield _Found(result, np.where(found > 0, found + before, 0), first, None, stale)
    every = []
    for number in range(len(planes)):
        if stale.is_set():
            return
        here = number == first
        every.append(found if here else find_objects(scores[planes.place(number)], settings, planes.size))
    numbered = numbered_on(every)
    table = objects_table(numbered, planes.__getitem__, result.pixel_size)
    yield _Found(result, numbered, None, table, stale)


def _alive(result: Result, viewer: Any) -> bool:
    """Tell whether the layers of a result are still open."""
    return result.objects in viewer.layers and result.probability in viewer.layers


def _settings_of(weights: str) -> Any:
    """Read the settings of weights without loading torch.

    Raises:
        OSError, ValueError: no weights of this name; a file that cannot be read.
    """
    path = Path(library_package("published").find_weights(weights)).with_suffix(".json")
    settings = library_package("model_json").ModelSettings
    if not path.is_file():
        return settings()
    content = json.loads(path.read_text(encoding="utf-8"))
    return settings(**{name: value for name, value in content.items() if name != "format"})
