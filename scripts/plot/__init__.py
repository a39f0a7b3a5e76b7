"""Draw images and figures from arrays. No function reads a file.

| name               | what it returns                                                    |
|--------------------|--------------------------------------------------------------------|
| `overlay_image`    | image (uint8 RGB) with tinted classes or instances                 |
| `class_key`        | name and colour of every class                                     |
| `class_colours`    | different colours for classes                                      |
| `number_objects`   | picture with the number of every object                            |
| `outlines`         | a polygon around every object                                      |
| `fill`             | label image from polygons                                          |
| `save_image`       | nothing; writes an image as PNG                                    |
| `curves_figure`    | figure of training curves: loss, metrics, learning rate            |
| `panel_figure`     | figure of image, label, weight map, probability, prediction, error |
| `jaccard_figure`   | figure of the reference objects by Jaccard index                   |
| `threshold_figure` | figure of the EM challenge's measures over the thresholds          |
| `figure_pixels`    | pixels of a figure                                                 |
| `save_figure`      | pixels of a figure, also written as PNG                            |
"""

from ..lazy import lazy

_NAMES = {
    "evaluation": ["jaccard_figure", "threshold_figure"],
    "overlays": ["class_colours", "class_key", "fill", "number_objects", "outlines", "overlay_image", "save_image"],
    "panels": ["curves_figure", "figure_pixels", "panel_figure", "save_figure"],
}
__all__ = [name for names in _NAMES.values() for name in names]
__getattr__, __dir__ = lazy(__name__, _NAMES)
