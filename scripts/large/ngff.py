"""Axes, pixel size and units in the metadata of OME-Zarr (NGFF), versions 0.4 and 0.5.

Reading takes axes in any order, and files with small defects, since the names of axes and the scales say enough.
Written metadata are checked with ome_zarr_models, see `scripts.large.ome_zarr`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..io.units import UM_PER, unit_name

VERSIONS = ("0.4", "0.5")
_SECONDS = {
    **dict.fromkeys(("second", "s"), 1.0),
    **dict.fromkeys(("millisecond", "ms"), 1e-3),
    "microsecond": 1e-6,
    "nanosecond": 1e-9,
    **dict.fromkeys(("minute", "min"), 60.0),
    **dict.fromkeys(("hour", "h"), 3600.0),
    "day": 86400.0,
}
_UNITS = {
    "pm": "picometer",
    "angstrom": "angstrom",
    "nm": "nanometer",
    "um": "micrometer",
    "mm": "millimeter",
    "cm": "centimeter",
    "inch": "inch",
    "m": "meter",
}


class Layout(NamedTuple):
    """What the metadata of an image say about its arrays.

    Args:
        path: of the array with the full resolution, within the group.
        axes: name of each axis of the array: "t", "c", "z", "y" and "x", or other names.
        scale: length of a pixel along each axis, in the unit. 1 if unknown.
        units: unit of each axis. None if unknown.
    """

    path: str
    axes: tuple[str, ...]
    scale: tuple[float, ...]
    units: tuple[str | None, ...]


def image_layout(attributes: Mapping[str, Any]) -> Layout:
    """Read axes and pixel size from the attributes of the group of an OME-Zarr image.

    Args:
        attributes: of the group. Version 0.5 has them under "ome".

    Raises:
        ValueError: no image, an image of another version, or metadata that contradict themselves. The message names
            key, value and remedy.

    Example:
        >>> scale = {"type": "scale", "scale": [0.5, 0.5]}
        >>> axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
        >>> level = {"path": "0", "coordinateTransformations": [scale]}
        >>> image_layout({"multiscales": [{"version": "0.4", "axes": axes, "datasets": [level]}]})
        Layout(path='0', axes=('y', 'x'), scale=(0.5, 0.5), units=('micrometer', 'micrometer'))
    """
    ome = attributes["ome"] if isinstance(attributes.get("ome"), Mapping) else attributes
    try:
        multiscale = ome["multiscales"][0]
        version = str(ome.get("version", multiscale.get("version", "0.4")))
    except (KeyError, IndexError, TypeError, AttributeError):
        raise ValueError("has no image: the key 'multiscales' is missing or empty") from None
    if version not in VERSIONS:
        raise ValueError(f"has OME-Zarr metadata of version {version}, expected {' or '.join(VERSIONS)}: convert it")
    try:
        axes = [dict(axis) for axis in multiscale["axes"]]
        names = tuple(str(axis["name"]) for axis in axes)
        units = tuple(str(axis["unit"]) if axis.get("unit") else None for axis in axes)
        level = multiscale["datasets"][0]
        path = str(level["path"])
        transformations = [
            *(level.get("coordinateTransformations") or ()),
            *(multiscale.get("coordinateTransformations") or ()),
        ]
        scales = [[float(value) for value in one["scale"]] for one in transformations if "scale" in one]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(
            f"has damaged metadata in 'multiscales' ({type(error).__name__}: {error}); expected axes with names, and "
            "datasets with paths: write it again"
        ) from None
    for scale in scales:
        if len(scale) != len(names):
            raise ValueError(
                f"has a scale of {len(scale)} values for {len(names)} axes ({', '.join(names)}): correct it"
            )
    return Layout(path, names, tuple(map(math.prod, zip([1.0] * len(names), *scales, strict=True))), units)


def spatial_size(
    axes: Sequence[str], scale: Sequence[float], units: Sequence[str | None]
) -> tuple[tuple[float, float], float, str]:
    """Get the pixel size of an image from the scales and units of its axes.

    Args:
        axes: names of the axes, with "y" and "x".
        scale: length of a pixel along each axis.
        units: unit of each axis, None: unknown.

    Returns:
        Pixel size (rows, columns), distance of planes, and unit, as in `scripts.io.ImageHeader`. Without a known unit
        or with a size that is not positive: (1, 1), 1 and "pixel".

    Example:
        >>> spatial_size("zyx", (1.0, 250.0, 250.0), ("micrometer", "nanometer", "nanometer"))
        ((250.0, 250.0), 1000.0, 'nm')
    """
    named = {axis: (size, unit_name(unit or "")) for axis, size, unit in zip(axes, scale, units, strict=True)}
    unit = named["y"][1]

    def length(axis: str) -> float:
        size, own = named.get(axis, (math.nan, ""))
        return size if own == unit else size * UM_PER.get(own, math.nan) / UM_PER[unit]

    if unit not in UM_PER or not all(0 < length(axis) < math.inf for axis in "yx"):
        return (1.0, 1.0), 1.0, "pixel"
    return (length("y"), length("x")), length("z") if 0 < length("z") < math.inf else 1.0, unit


def seconds(value: float, unit: str | None) -> float | None:
    """Convert a duration of NGFF to seconds. None if the unit is unknown, or the duration is not positive.

    Example:
        >>> seconds(5.0, "minute"), seconds(1.0, None)
        (300.0, None)
    """
    length = value * _SECONDS.get(unit or "", math.nan)
    return length if 0 < length < math.inf else None


def ngff_unit(unit: str) -> str | None:
    """Get the name of a unit of length in NGFF. None for unknown units, as "pixel".

    Example:
        >>> ngff_unit("um"), ngff_unit("pixel")
        ('micrometer', None)
    """
    return _UNITS.get(unit_name(unit))
