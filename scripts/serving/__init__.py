"""What MONAI Label is given."""

from scripts.serving.labels import ServedLabeld

__all__ = [
    "ServedLabeld",
]
