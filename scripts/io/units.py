"""Name units of length, and convert pixel sizes to micrometres."""

from __future__ import annotations

import math
from collections.abc import Sequence

UM_PER = {
    "um": 1.0,
    "nm": 1e-3,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
    "pm": 1e-6,
    "inch": 25400.0,
    "angstrom": 1e-4,
}
COARSEST_UM = 20.0  # 72 to 1200 dpi (353 to 21 um) are print settings, not pixel sizes
_OF_PRINT = ("inch", "cm")  # ImageJ passes print settings on in these units
_NAMES = {
    **dict.fromkeys(("µm", "\u03bcm", "\\u00b5m", "micron", "microns", "micrometer", "micrometre"), "um"),
    **dict.fromkeys(("nanometer", "nanometre"), "nm"),
    **dict.fromkeys(("millimeter", "millimetre"), "mm"),
    **dict.fromkeys(("centimeter", "centimetre"), "cm"),
    **dict.fromkeys(("meter", "metre"), "m"),
    **dict.fromkeys(("picometer", "picometre"), "pm"),
    "in": "inch",
    **dict.fromkeys(("å", "\\u00c5"), "angstrom"),
}


def unit_name(unit: str) -> str:
    """Return the usual ASCII name of a unit of length. Unknown units stay as they are.

    Example:
        >>> unit_name("µm"), unit_name("micron"), unit_name("pixel")
        ('um', 'um', 'pixel')
    """
    return _NAMES.get(unit.lower(), unit)


def micrometres(spacing: Sequence[float] | None, unit: str | None) -> tuple[float, float] | None:
    """Convert the pixel size of an image to micrometres.

    Args:
        spacing: height and width of a pixel, as in `ImageHeader.spacing`. None: unknown.
        unit: of `spacing`, as in `ImageHeader.unit`.

    Returns:
        Height and width of a pixel in um. None if the pixel size is unknown: another unit than of length ("pixel"), a
        size that is not positive, or a print setting (above 20 um in inch or cm).

    Example:
        >>> micrometres((4.0, 5.0), "nm"), micrometres((1.0, 1.0), "pixel")
        ((0.004, 0.005), None)
    """
    name = unit_name(unit or "")
    if spacing is None or name not in UM_PER:
        return None
    height, width = (float(value) * UM_PER[name] for value in spacing)
    if not (0 < height < math.inf and 0 < width < math.inf):
        return None
    return None if name in _OF_PRINT and min(height, width) > COARSEST_UM else (height, width)
