"""Drive the napari plugin in a real window: time from opening an image to objects, memory, and screenshots.

    xvfb-run -a -s "-screen 0 1600x1000x24" python -m benchmarks.viewer --out viewer [--image IMAGE] [--minutes 1]

Needs the extra `napari`. OUT receives `viewer.json` and the screenshots `open.png`, `segmenting.png`, `segmented.png`,
`threshold.png`, `training.png`, `trained.png`. Without IMAGE, the synthetic nuclei of the plugin are segmented.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from scripts.io.files import write_json

WAIT = 1800  # seconds, for a step to end
TEN = 10  # images


class Window:
    """A viewer with both widgets.

    Args:
        out: folder of the screenshots.
        weights: of the widget Segment.
    """

    def __init__(self, out: Path, weights: str) -> None:
        import napari

        self.out = out
        self.viewer = napari.Viewer(ndisplay=2)
        self.viewer.window.resize(1560, 960)
        self.segment: Any = self.viewer.window.add_plugin_dock_widget("original-unet", "Segment", tabify=False)[1]
        self.train: Any = None
        self.segment.weights.choose(weights)

    def work(self, seconds: float = 0.05) -> None:
        """Let the viewer work."""
        from qtpy.QtWidgets import QApplication

        end = time.monotonic() + seconds
        while time.monotonic() < end:
            QApplication.processEvents()
            time.sleep(0.005)

    def until(self, done: Callable[[], bool]) -> float:
        """Let the viewer work until `done()`. Returns the seconds.

        Raises:
            TimeoutError: not done in time.
        """
        begun = time.monotonic()
        while not done():
            self.work()
            if time.monotonic() - begun > WAIT:
                raise TimeoutError(f"{self.segment.status.text()} | {self.train and self.train.status.text()}")
        return time.monotonic() - begun

    def picture(self, name: str) -> None:
        """Write a screenshot of the window."""
        self.work(0.5)
        self.viewer.window.screenshot(str(self.out / name), canvas_only=False, flash=False)

    def close_layers(self) -> None:
        """Remove all layers, one by one: removed at once, napari 0.9 ended with Mesa 22's software rendering."""
        for layer in list(self.viewer.layers)[::-1]:
            self.viewer.layers.remove(layer)
            self.work(0.2)

    @property
    def measured(self) -> bool:
        """Whether the objects of the chosen image are measured."""
        return self.segment.status.text()[:1].isdigit() and "objects" in self.segment.status.text()


def memory() -> float:
    """Resident memory of this process in GiB."""
    return float(psutil.Process().memory_info().rss) / 2**30


def measure_segmenting(window: Window, image: Path | None) -> dict[str, Any]:
    """Open an image, segment it, change the threshold, and cancel."""
    viewer, widget = window.viewer, window.segment
    begun = time.monotonic()
    opened = viewer.open(image) if image else viewer.open_sample("original-unet", "nuclei")
    window.work(0.5)
    window.picture("open.png")
    before = memory()
    widget.segment()
    window.work(0.2)
    window.picture("segmenting.png")
    window.until(lambda: window.measured)
    found: dict[str, Any] = {
        "layer": str(opened[0].data.shape),
        "seconds from opening to objects": round(time.monotonic() - begun, 1),
        "objects": widget.status.text(),
        "memory before and after, GiB": [round(before, 2), round(memory(), 2)],
    }
    window.picture("segmented.png")
    labels = viewer.layers[f"{opened[0].name} objects"]
    for threshold, key in ((0.9, "threshold raised"), (0.2, "threshold lowered")):
        old = labels.data.copy()
        widget.fields["threshold"].setValue(threshold)
        changed = partial(_differs, labels, old)
        found[f"seconds until the preview, {key}"] = round(window.until(changed), 2)
    window.work(1)
    window.picture("threshold.png")
    widget.reset_button.click()
    widget.segment()
    found["seconds again, library loaded"] = round(window.until(lambda: widget._worker is None), 1)
    widget.segment()
    widget.cancel()  # at once: six small planes take a second
    found["seconds until cancelled"] = round(window.until(lambda: widget._worker is None), 2)
    found["after cancel"] = widget.status.text()
    return found


def _differs(layer: Any, pixels: np.ndarray) -> bool:
    return not np.array_equal(layer.data, pixels)


def measure_memory(window: Window, size: int) -> dict[str, Any]:
    """Segment ten images of size x size, and remove each image with its results."""
    from bundle.viewer.sample import nuclei

    tile, after = nuclei()[0][0][0], []
    pixels = np.tile(tile, (size // tile.shape[0], size // tile.shape[1]))
    for number in range(TEN):
        window.close_layers()
        window.viewer.add_image(np.roll(pixels, 7 * number, 0), name=f"image {number}")
        window.segment.status.setText("")
        window.segment.segment()
        window.until(lambda: window.measured)
        after.append(round(memory(), 2))
    return {"memory after each of ten images, GiB": after, "size": size}


def measure_training(window: Window, minutes: float, folder: Path) -> dict[str, Any]:
    """Train on the open sample."""
    window.close_layers()
    window.viewer.open_sample("original-unet", "nuclei")
    window.train = window.viewer.window.add_plugin_dock_widget("original-unet", "Train", tabify=True)[1]
    widget = window.train
    widget.minutes.setValue(minutes)
    widget.output.setText(str(folder))
    begun = time.monotonic()
    widget.train()
    window.until(lambda: widget._process is None or "probability while learning" in window.viewer.layers)
    first = round(time.monotonic() - begun, 1)
    window.viewer.layers["nuclei labels"].visible = False
    window.work(1)
    window.picture("training.png")
    window.until(lambda: widget._process is None)
    window.until(lambda: not widget._predicting)
    window.picture("trained.png")
    return {
        "minutes": minutes,
        "seconds until the first probability": first,
        "seconds in all": round(time.monotonic() - begun, 1),
        "at the end": widget.status.text(),
        "weights of Segment": window.segment.weights.chosen == str(folder / "model.pt"),
    }


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--image", type=Path, help="an image or stack")
    parser.add_argument("--weights", default="nuclei_small")
    parser.add_argument("--minutes", type=float, default=1.0, help="of the training; 0: none")
    parser.add_argument("--size", type=int, default=1024, help="of the ten images")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    window = Window(given.out, given.weights)
    found = {"segmenting": measure_segmenting(window, given.image), "memory": measure_memory(window, given.size)}
    if given.minutes:
        found["training"] = measure_training(window, given.minutes, (given.out / "training").resolve())
    write_json(given.out / "viewer.json", found)
    print(f"results: {given.out / 'viewer.json'}")
    window.viewer.close()


if __name__ == "__main__":
    main()
