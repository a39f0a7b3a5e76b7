"""Parts of both widgets' forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QEvent, QSize, Qt
from qtpy.QtWidgets import QComboBox, QFrame, QHBoxLayout, QLayout, QScrollArea, QVBoxLayout, QWidget

LEARNING = "probability while learning"  # layer of a training


def row(*widgets: QWidget) -> QHBoxLayout:
    """Place widgets side by side."""
    layout = QHBoxLayout()
    for widget in widgets:
        layout.addWidget(widget)
    return layout


class Scrolled(QScrollArea):
    """Scroll a form up and down, since screens may be low. The width is that of the form in the style of the viewer."""

    def minimumSizeHint(self) -> QSize:
        """Ask for the form's width."""
        form = self.widget()
        width = 0 if form is None else form.minimumSizeHint().width() + self.verticalScrollBar().sizeHint().width()
        return QSize(width, super().minimumSizeHint().height())

    def eventFilter(self, watched: Any, event: Any) -> bool:
        """Notice a form that has become wider, by another style or text."""
        if event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return bool(super().eventFilter(watched, event))


def show_scrolled(widget: QWidget, layout: QLayout) -> None:
    """Show a finished layout in a widget."""
    area, content, outer = Scrolled(widgetResizable=True), QWidget(), QVBoxLayout(widget)
    content.setLayout(layout)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setWidget(content)
    outer.setContentsMargins(0, 0, 0, 0)
    outer.addWidget(area)


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
