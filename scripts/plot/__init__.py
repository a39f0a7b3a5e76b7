"""Draw images and figures from arrays. No function reads a file."""

from scripts.lazy import lazy

_MODULES = {
    "class_key": "overlays",
    "curves_figure": "panels",
    "figure_pixels": "panels",
    "fill": "overlays",
    "jaccard_figure": "evaluation",
    "outlines": "overlays",
    "overlay_image": "overlays",
    "panel_figure": "panels",
    "save_figure": "panels",
    "save_image": "overlays",
    "threshold_figure": "evaluation",
}
__all__ = list(_MODULES)
__getattr__ = lazy(__name__, _MODULES)
