"""Parts of both widgets' forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtWidgets import QComboBox, QFrame, QHBoxLayout, QScrollArea, QVBoxLayout, QWidget

LEARNING = "probability while learning"  # layer of a training


def row(*widgets: QWidget) -> QHBoxLayout:
    """Place widgets side by side."""
    layout = QHBoxLayout()
    for widget in widgets:
        layout.addWidget(widget)
    return layout


def scrolled(widget: QWidget) -> QVBoxLayout:
    """Give a widget a layout that scrolls, since small screens are lower than a form."""
    area, content, outer = QScrollArea(widgetResizable=True), QWidget(), QVBoxLayout(widget)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setWidget(content)
    outer.setContentsMargins(0, 0, 0, 0)
    outer.addWidget(area)
    return QVBoxLayout(content)


def follow_layers(viewer: Any, changed: Callable[[Any], None]) -> None:
    """Call a function after layers were added, removed, moved or renamed."""
    events = viewer.layers.events
    for event in (events.inserted, events.removed, events.reordered, events.renamed):
        event.connect(changed)


def list_layers(box: QComboBox, layers: list[Any]) -> None:
    """List layers in a box. The chosen layer stays chosen; if it is gone, the last layer is chosen."""
    chosen = box.currentData()
    box.blockSignals(True)
    box.clear()
    for layer in layers:
        box.addItem(layer.name, layer)
    box.setCurrentIndex(next((at for at, one in enumerate(layers) if one is chosen), len(layers) - 1))
    box.blockSignals(False)
