"""Bring stored pixels to the picture that viewers show: orientation, lookup table, inverted grey values.

Results lie on the picture as shown. Labels keep their stored values, since a value is a class or an object, but are
turned as the image.
"""

from __future__ import annotations

from typing import Any

import numpy as np

ORIENTATION = 274  # tag of EXIF and TIFF
_TRANSPOSED = (5, 6, 7, 8)
_FLIPPED = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}  # axes, after the transposition


def is_transposed(orientation: int) -> bool:
    """Tell whether an orientation exchanges rows and columns.

    Example:
        >>> is_transposed(6), is_transposed(3)
        (True, False)
    """
    return orientation in _TRANSPOSED


def turned(array: np.ndarray, orientation: int) -> np.ndarray:
    """Turn and mirror pixels by the orientation 1 to 8 of EXIF and TIFF.

    Args:
        array: (H, W) or (H, W, C) as stored.
        orientation: 1 or unknown numbers: as stored.

    Example:
        >>> turned(np.array([[1, 2, 3]]), 6)[:, 0]
        array([1, 2, 3])
    """
    if is_transposed(orientation):
        array = array.swapaxes(0, 1)
    return np.flip(array, _FLIPPED.get(orientation, ()))


def inverted(array: np.ndarray, bits: int) -> np.ndarray:
    """Invert grey values that are stored with the minimum as white.

    Args:
        array: any shape.
        bits: bits of a value in the file. Signed and floating values are mirrored within their range in `array`.

    Example:
        >>> inverted(np.array([0, 255], np.uint8), 8)
        array([255,   0], dtype=uint8)
    """
    if array.dtype == bool:
        return ~array
    if array.dtype.kind == "u":
        return array.dtype.type(2**bits - 1) - array
    return array.min() + array.max() - array if array.size else array


def shown_palette(colours: Any) -> np.ndarray:
    """Convert a palette (N, 3) to a table of values: (N,) if all entries are grey, else (N, 3).

    Example:
        >>> shown_palette([[0, 0, 0], [9, 9, 9]]), shown_palette([[1, 2, 3]]).shape
        (array([0, 9]), (1, 3))
    """
    table = np.asarray(colours)
    return table[:, 0] if (table == table[:, :1]).all() else table


def looked_up(indices: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Replace indices by the values of a palette. Indices beyond the palette become 0, as in Pillow.

    Example:
        >>> looked_up(np.array([[0, 7]]), np.array([5, 6]))
        array([[5, 0]])
    """
    missing = int(indices.max(initial=0)) + 1 - len(table)
    if missing > 0:
        table = np.concatenate([table, np.zeros((missing, *table.shape[1:]), table.dtype)])
    return table[indices]


def cmyk_to_rgb(array: np.ndarray) -> np.ndarray:
    """Convert inks (H, W, 4), uint8 or uint16, to RGB (H, W, 3) as Pillow does.

    Example:
        >>> cmyk_to_rgb(np.array([[[0, 255, 0, 0]]], np.uint8))
        array([[[255,   0, 255]]], dtype=uint8)
    """
    most = float(np.iinfo(array.dtype).max)
    light = 1 - array / most
    return np.rint(light[..., :3] * light[..., 3:] * most).astype(array.dtype)
