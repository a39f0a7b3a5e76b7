"""Draw images and figures from arrays. No function reads a file."""

from scripts.lazy import lazy

_NAMES = {
    "evaluation": ["jaccard_figure", "threshold_figure"],
    "overlays": ["class_key", "fill", "outlines", "overlay_image", "save_image"],
    "panels": ["curves_figure", "figure_pixels", "panel_figure", "save_figure"],
}
__all__ = [name for names in _NAMES.values() for name in names]
__getattr__ = lazy(__name__, _NAMES)
