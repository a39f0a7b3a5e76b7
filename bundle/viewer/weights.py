"""The list of weights: published weights, weights of trainings in this viewer, and files of the user."""

from __future__ import annotations

import html
from pathlib import Path

from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QWidget

from ..running.package import library_package

BROWSE = "a file ..."


class TrainedWeights(QObject):
    """Weights trained or opened in this viewer, newest first, for all lists of weights."""

    added = Signal(str)  # the path

    def __init__(self) -> None:
        super().__init__()
        self.paths: list[str] = []

    def add(self, path: str | Path) -> None:
        """Put a file of weights first, and tell all lists."""
        text = str(path)
        self.paths = [text, *(one for one in self.paths if one != text)]
        self.added.emit(text)


TRAINED = TrainedWeights()


class WeightsList(QComboBox):
    """Choose weights: a published name or a file.

    Args:
        first: an entry without weights, such as "nothing". None: no such entry.
        parent: of the widget.

    Attributes:
        chosen: name or path of the weights. None: the entry without weights.
    """

    def __init__(self, first: str | None = None, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._first = first
        self._fill(None)
        self.activated.connect(self._browse)
        TRAINED.added.connect(self._show_added)

    @property
    def chosen(self) -> str | None:
        """Name or path of the weights. None: the entry without weights."""
        return self.currentData()

    def choose(self, weights: str) -> None:
        """Choose weights of the list by name or path.

        Raises:
            ValueError: the list has no such weights.
        """
        at = self.findData(weights)
        if at < 0:
            raise ValueError(f"no weights {weights} in the list. Add the file with '{BROWSE}'")
        self.setCurrentIndex(at)

    def _fill(self, chosen: str | None) -> None:
        before = self.blockSignals(True)
        self.clear()
        if self._first is not None:
            self.addItem(self._first, None)
        for path in TRAINED.paths:
            self.addItem(f"{Path(path).parent.name}/{Path(path).name}", path)
            self.setItemData(self.count() - 1, html.escape(path), 3)  # tool tip
        names = library_package("published").published()
        for name in sorted(names, key=lambda one: (not one.startswith("nuclei"), one)):
            self.addItem(name, name)
        self.addItem(BROWSE, BROWSE)
        at = self.findData(chosen) if chosen is not None else -1
        self.setCurrentIndex(max(at, 0))
        self.blockSignals(before)

    def _show_added(self, path: str) -> None:
        keeps = self._first is not None  # a start for trainings stays as chosen
        self._fill(self.chosen if keeps else path)
        if not keeps:
            self.currentIndexChanged.emit(self.currentIndex())

    def _browse(self, _: int) -> None:
        if self.chosen != BROWSE:
            return
        path, _filter = QFileDialog.getOpenFileName(self, "Weights", "", "Weights (*.pt)")
        self._fill(None)
        if path:
            TRAINED.add(path)
            self.choose(path)
