"""The widget Train: train on open layers or a folder, with live curve and live probability of an image."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.figure import Figure
from napari.layers import Image, Labels
from napari.qt.threading import create_worker
from qtpy.QtCore import QProcess, QProcessEnvironment, QTimer
from qtpy.QtWidgets import (
    QApplication,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QLabel,
    QLineEdit,
    QListWidget,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from ..running.configuration import ROOT
from ..running.package import HOME, INSTALLED, library_package
from .form import LEARNING, follow_layers, list_layers, row, show_scrolled
from .layers import placed, plane_in_view, planes_of
from .scoring import PlaneScorer
from .training_set import write_training_set
from .weights import TRAINED, WeightsList

LOOK = 1000  # milliseconds between two looks at the files of a training
LAST = 60_000  # milliseconds for a training to save its state
ANNOTATED = "annotated"  # folder of the training set, in the folder of the results
HISTORY, WEIGHTS, SETTINGS = "history.csv", "model.pt", "model.json"  # files of a training
LONGEST = 1024  # pixels: the shown part of a large image

_RUNNING: set[QProcess] = set()


class TrainWidget(QWidget):
    """Train on images and labels of open layers, or on a folder.

    The training is a process of its own, `original-unet train`. The viewer stays responsive. If the viewer ends, the
    state of the training is saved. Weights and `model.json` are written to the folder of the results. The widget
    Segment lists the weights.

    Args:
        napari_viewer: the viewer.

    Attributes:
        status: label with progress and problems.
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.pairs: list[tuple[Any, Any]] = []
        self._process: QProcess | None = None
        self._lines: list[str] = []
        self._before: dict[str, int] = {}  # times of the last change of the files, at the start
        self._seen: dict[str, int] = {}  # when last looked at
        self._opened: Any = None  # image layer of a folder
        self._learning: Any = None  # image layer
        self._predicting = False
        self._timer = QTimer(self, interval=LOOK)
        self._build()
        self._connect()
        self._list_layers()

    def _build(self) -> None:
        self.image, self.labels, self.list = QComboBox(), QComboBox(), QListWidget(maximumHeight=70)
        self.add_button, self.clear_button = QPushButton("Add pair"), QPushButton("Clear")
        self.folder, self.browse_button = (
            QLineEdit(placeholderText="or a folder with images and labels"),
            QPushButton("..."),
        )
        self.start = WeightsList(first="as planned for the images")
        self.minutes = QDoubleSpinBox(decimals=1, minimum=0.1, maximum=10_000, value=30, suffix=" min")
        self.output = QLineEdit(str(Path.home() / "original-unet" / "training"))
        self.train_button, self.stop_button = QPushButton("Train"), QPushButton("Stop")
        self.resume_button = QPushButton("Go on")
        self.resume_button.setToolTip("Go on with the training in the folder of the results, up to the minutes above")
        self.stop_button.setEnabled(False)
        self.progress = QProgressBar(maximum=1000, textVisible=False)
        self.status = QLabel(wordWrap=True)
        self.figure = Figure(figsize=(4, 2.4), layout="constrained")
        self.canvas = FigureCanvasQTAgg(self.figure)
        self.canvas.setMinimumHeight(180)
        form = QFormLayout()
        form.addRow("Image", self.image)
        form.addRow("Labels", self.labels)
        form.addRow("", row(self.add_button, self.clear_button))
        form.addRow("Pairs", self.list)
        form.addRow("Folder", row(self.folder, self.browse_button))
        form.addRow("Start from", self.start)
        form.addRow("Train for", self.minutes)
        form.addRow("Results in", self.output)
        layout = QVBoxLayout()
        layout.addLayout(form)
        layout.addLayout(row(self.train_button, self.stop_button, self.resume_button))
        layout.addWidget(self.progress)
        layout.addWidget(self.status)
        layout.addWidget(self.canvas)
        layout.addStretch()
        show_scrolled(self, layout)

    def _connect(self) -> None:
        follow_layers(self.viewer, self._list_layers)
        self.add_button.clicked.connect(self.add_pair)
        self.clear_button.clicked.connect(self._clear_pairs)
        self.browse_button.clicked.connect(self._browse)
        self.train_button.clicked.connect(self.train)
        self.resume_button.clicked.connect(self.resume)
        self.stop_button.clicked.connect(self.stop)
        self._timer.timeout.connect(self._look)

    def _list_layers(self, _event: object = None) -> None:
        for box, kind in ((self.image, Image), (self.labels, Labels)):
            layers = [layer for layer in self.viewer.layers if isinstance(layer, kind) and layer is not self._learning]
            list_layers(box, layers)
        self.pairs = [pair for pair in self.pairs if all(layer in self.viewer.layers for layer in pair)]
        self._show_pairs()

    def add_pair(self) -> None:
        """Add the chosen image and labels to the pairs."""
        pair = (self.image.currentData(), self.labels.currentData())
        if None in pair:
            self.status.setText("a pair needs an image layer and a labels layer")
        elif pair not in self.pairs:
            self.pairs.append(pair)
            self._show_pairs()

    def _clear_pairs(self) -> None:
        self.pairs = []
        self._show_pairs()

    def _show_pairs(self) -> None:
        self.list.clear()
        self.list.addItems([f"{image.name} + {labels.name}" for image, labels in self.pairs])

    def _browse(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Images and labels")
        if folder:
            self.folder.setText(folder)

    # ------------------------------------------------------------------ the process

    @property
    def results(self) -> Path:
        """Folder of the results."""
        return Path(self.output.text()).expanduser().absolute()

    def train(self) -> None:
        """Write the training set, and start the training."""
        if self._process is not None:
            return
        if not self.output.text().strip():
            self.status.setText("no folder for the results: type one in the field Results in")
            return
        try:
            with library_package("io.locks").FolderLock(self.results):  # another training may read its images there
                folder, told = self._training_set()
        except (OSError, ValueError, RuntimeError) as error:
            self.status.setText(str(error))
            return
        words = ["train", str(folder), "--output", str(self.results), "--max_minutes", f"{self.minutes.value():g}"]
        if self.start.chosen is not None:
            words += ["--from", self.start.chosen]
        self._run(words, f"{told}starting ...")

    def resume(self) -> None:
        """Go on with the training in the folder of the results."""
        if self._process is not None:
            return
        if not (self.results / "training_state.pt").is_file():
            self.status.setText(f"no training to go on with in {self.results}: it has no training_state.pt")
            return
        folder = Path(self.folder.text()).expanduser().absolute() if self.folder.text() else self.results / ANNOTATED
        words = ["train", str(folder), "--output", str(self.results), "--max_minutes", f"{self.minutes.value():g}"]
        self._run([*words, "--resume", "true"], "going on ...")

    def stop(self) -> None:
        """End the training after the current step. Its state is saved, and the best weights stay."""
        if self._process is not None:
            self.status.setText("stopping: the current step ends, then the state is saved ...")
            self._process.terminate()

    def _training_set(self) -> tuple[Path, str]:
        """Get the folder of images and labels: given, or written from layers."""
        if self.folder.text():
            folder = Path(self.folder.text()).expanduser().absolute()
            if not folder.is_dir():
                raise ValueError(f"{folder} is no folder. Give a folder with images and labels, or clear the field")
            return folder, ""
        pairs = self.pairs or [(self.image.currentData(), self.labels.currentData())]
        if None in pairs[0]:
            raise ValueError("nothing to train on: open an image and its labels, or give a folder")
        folder = self.results / ANNOTATED
        written = write_training_set(pairs, folder)
        empty = f" ({written.empty} planes without labels left out)" if written.empty else ""
        return folder, f"{written.images} images with labels{empty}; "

    def _run(self, words: Sequence[str], text: str) -> None:
        program = ["-m", HOME] if INSTALLED else ["-m", "bundle"]
        process = _running_process()
        environment = QProcessEnvironment.systemEnvironment()
        environment.insert("PYTHONUNBUFFERED", "1")
        process.setProcessEnvironment(environment)
        if not INSTALLED:
            process.setWorkingDirectory(str(ROOT))
        process.setProcessChannelMode(QProcess.ProcessChannelMode.MergedChannels)
        process.readyRead.connect(self._read)
        process.finished.connect(self._ended)
        process.errorOccurred.connect(self._not_started)
        self._process, self._lines, self._before = process, [], self._times()
        self._seen = dict(self._before)
        self.train_button.setEnabled(False)
        self.resume_button.setEnabled(False)
        self.stop_button.setEnabled(True)
        for field in (self.output, self.folder, self.minutes):
            field.setEnabled(False)  # they name the running training
        self.progress.setRange(0, 0)
        self.status.setText(text)
        self._timer.start()
        process.start(sys.executable, [*program, *words])

    def _read(self) -> None:
        assert self._process is not None
        text = bytes(self._process.readAll()).decode(errors="replace")
        self._lines += [line for line in text.splitlines() if line.strip()]
        line = next((one for one in reversed(self._lines) if re.match(r"(training:|epoch|resume:)", one)), None)
        if line is not None:
            self.status.setText(line)
            self._show_share(line)

    def _show_share(self, line: str) -> None:
        """Show the progress, from the remaining time in a line of the training."""
        left = re.search(r"(\d+):(\d\d):(\d\d) left|(\d+):(\d\d):(\d\d)$", line)
        if left is None:
            return
        hours, minutes, seconds = (int(part) for part in left.groups() if part is not None)
        share = 1 - (60 * hours + minutes + seconds / 60) / self.minutes.value()
        self.progress.setRange(0, 1000)
        self.progress.setValue(round(1000 * min(max(share, 0), 1)))

    def _not_started(self, error: Any) -> None:
        if error == QProcess.ProcessError.FailedToStart:
            self._end(f"the training could not be started: {sys.executable} is no Python program")

    def _ended(self, code: int, _status: Any) -> None:
        self._look()
        weights = self.results / WEIGHTS
        saved = self._times().get(WEIGHTS) != self._before.get(WEIGHTS)
        if saved:
            TRAINED.add(weights)
        where = f"weights: {weights}, in the list of Segment" if saved else "no weights yet"
        if code == 0:
            self._end(f"done; {where}")
        elif code in (130, 143):
            self._end(f"stopped; {where}. Go on continues the training")
        else:
            told = [line for line in self._lines if "error" in line.lower()] or self._lines
            self._end("\n".join(told[-3:]) or f"the training has ended with the code {code}")

    def _end(self, text: str) -> None:
        self._timer.stop()
        if self._process is not None:
            _RUNNING.discard(self._process)
        self._process = None
        self.train_button.setEnabled(True)
        self.resume_button.setEnabled(True)
        self.stop_button.setEnabled(False)
        for field in (self.output, self.folder, self.minutes):
            field.setEnabled(True)
        self.progress.setRange(0, 1000)
        self.progress.setValue(0)
        self.status.setText(text)

    def closeEvent(self, event: Any) -> None:
        """End the training with the widget."""
        end_trainings()
        super().closeEvent(event)

    # ------------------------------------------------------------------ curve and probability

    def _times(self) -> dict[str, int]:
        """Times of the last change of the files of a training."""
        found = {}
        for name in (HISTORY, WEIGHTS):
            with suppress(OSError):
                found[name] = os.stat(self.results / name).st_mtime_ns
        return found

    def _look(self) -> None:
        """Draw the curve, and predict with the newest weights."""
        times = self._times()
        if times.get(HISTORY) != self._seen.get(HISTORY):
            self._seen[HISTORY] = times.get(HISTORY, 0)
            self._draw()
        if times.get(WEIGHTS) != self._seen.get(WEIGHTS) and not self._predicting:
            self._seen[WEIGHTS] = times.get(WEIGHTS, 0)
            self._predict()

    def _draw(self) -> None:
        """Draw loss and key metric of all epochs."""
        try:
            rows = pd.read_csv(self.results / HISTORY)
        except (OSError, ValueError):  # gone
            return
        key = ""
        with suppress(OSError, ValueError, KeyError):  # no validation so far
            key = f"val_{json.loads((self.results / SETTINGS).read_text(encoding='utf-8'))['key_metric']}"
        self.figure.clear()
        left = self.figure.add_subplot()
        left.plot(rows["epoch"], rows["loss"], color="tab:blue", marker=".")
        left.set(xlabel="epoch (100 tiles)", yscale="log")
        left.set_ylabel("loss", color="tab:blue")
        if key in rows:
            known = rows[["epoch", key]].dropna()
            right = left.twinx()
            right.plot(known["epoch"], known[key], color="tab:orange", marker=".")
            right.set_ylim(0, 1.02)
            right.set_ylabel(key.removeprefix("val_"), color="tab:orange")
        self.canvas.draw_idle()

    def _predict(self) -> None:
        """Predict a part of an image with the weights on disk, in a thread."""
        layer = self._watched()
        if layer is None:
            return
        self._predicting = True
        worker = create_worker(_probability, layer, str(self.results / WEIGHTS), self.viewer.dims.current_step)
        worker.returned.connect(self._show_probability)
        worker.finished.connect(self._predicted)
        worker.start()

    def _predicted(self) -> None:
        self._predicting = False

    def _watched(self) -> Any:
        """Layer for the live probability: of the first pair, or the first image of the folder."""
        if not self.folder.text():
            return self.pairs[0][0] if self.pairs else self.image.currentData()
        if self._opened is None:
            files = sorted((Path(self.folder.text()).expanduser() / "images").glob("*.*"))
            with suppress(Exception):  # a format that the viewer does not read: no picture
                self._opened = self.viewer.open(files[0], layer_type="image")[0]
        return self._opened

    def _show_probability(self, found: tuple[np.ndarray, Mapping[str, Any]] | None) -> None:
        if found is None:
            self._seen.pop(WEIGHTS, None)  # look again
            return
        pixels, place = found
        if self._learning is None or self._learning not in self.viewer.layers or self._learning.ndim != pixels.ndim:
            options = {"contrast_limits": (0, 1), "colormap": "magma", "opacity": 0.8}
            self._learning = Image(pixels, name=LEARNING, **options, **place)
            self.viewer.add_layer(self._learning)
        else:
            self._learning.data = pixels
            self._learning.scale, self._learning.translate = place["scale"], place["translate"]


def _running_process() -> QProcess:
    """Make a process without a parent. Qt would kill it with the widget, before a training has saved its state."""
    application = QApplication.instance()
    assert application is not None
    if not _RUNNING:
        application.aboutToQuit.connect(end_trainings)
    process = QProcess()
    _RUNNING.add(process)
    return process


def end_trainings() -> None:
    """End all trainings, and wait until their state is saved."""
    for process in list(_RUNNING):
        process.terminate()
    for process in list(_RUNNING):
        process.waitForFinished(LAST)
        _RUNNING.discard(process)


def _probability(layer: Any, weights: str, step: Sequence[float]) -> tuple[np.ndarray, Mapping[str, Any]] | None:
    """Predict the middle of the plane in view.

    Returns:
        probability of class 1, and its place in the viewer. None: the weights are being written.
    """
    try:
        scorer = PlaneScorer(weights)
        planes = planes_of(layer, scorer.settings.in_channels)
    except (OSError, ValueError):
        return None
    number = plane_in_view(planes, step)
    start = [max(0, (length - LONGEST) // 2) for length in planes.size]
    part = planes[number][start[0] : start[0] + LONGEST, start[1] : start[1] + LONGEST]
    pixels = scorer(part).probability
    place = dict(placed(layer, planes))
    corner = [*np.unravel_index(number, planes.leading), *start] if planes.leading else start
    place["translate"] = place["translate"] + np.array(corner) * place["scale"]
    return pixels.reshape((1,) * len(planes.leading) + pixels.shape), place
