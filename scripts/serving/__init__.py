"""Answer requests of MONAI Label.

`ServedLabeld`, the last transform of inference under MONAI Label, turns results into the label for an annotation
program.
"""

from .labels import ServedLabeld

__all__ = ["ServedLabeld"]
