"""Answer requests of MONAI Label."""

from scripts.serving.labels import ServedLabeld

__all__ = ["ServedLabeld"]
