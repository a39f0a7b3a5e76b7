"""Find unannotated pixels of partly annotated images, from cell markers or from the image border."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt, mean

NOT_ANNOTATED = -1


def annotated_pixels(labels: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
    """Find annotated pixels: the label is not negative and the mask is not 0.

    Args:
        labels: classes or instances, any shape. Negative: not annotated.
        valid: mask or weight map of the same shape. None: no mask.

    Returns:
        bool, the same shape.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> annotated_pixels(np.array([0, 1, -1]), valid=np.array([0, 1, 1]))
        array([False,  True, False])
    """
    if valid is None:
        return labels >= 0
    if valid.shape != labels.shape:
        raise ValueError(f"valid has the shape {valid.shape}, the labels {labels.shape}; they must be equal")
    return (labels >= 0) & (valid != 0)


def mark_border(objects: np.ndarray, width: int) -> np.ndarray:
    """Mark background near the image border as not annotated.

    Background in the border may be a cell: the Cell Tracking Challenge does not outline cells completely outside the
    field of interest. For DIC-C2DH-HeLa and PhC-C2DH-U373 the border is 50 pixels wide.

    Args:
        objects: integer instance map (H, W), 0 = background. Negative pixels stay as they are.
        width: width of the border in pixels. 0: off.

    Returns:
        Copy of `objects` with `NOT_ANNOTATED` (-1) on background in the border. Unsigned dtypes become int64.

    Raises:
        ValueError: the width is negative.

    Example:
        >>> mark_border(np.array([[0, 0, 0], [7, 0, 0], [0, 0, 0]]), width=1)
        array([[-1, -1, -1],
               [ 7,  0, -1],
               [-1, -1, -1]])
    """
    if width < 0:
        raise ValueError(f"the border's width must be 0 px or more, got {width}")
    height, columns = objects.shape
    border = np.ones(objects.shape, dtype=bool)
    border[width : max(height - width, 0), width : max(columns - width, 0)] = False
    return _marked(objects, border)


def unmasked_markers(objects: np.ndarray, markers: np.ndarray) -> list[int]:
    """Find markers of cells without a mask: half of the marker's pixels or more are background.

    Args:
        objects: integer instance map (H, W), 0 = background, negative = not annotated.
        markers: integer (H, W), 0 = no marker, a positive ID on each cell, as in the challenge's folders `TRA`.

    Returns:
        IDs of the markers, ascending.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> unmasked_markers(np.array([5, 5, 0, 0]), markers=np.array([1, 0, 0, 2]))
        [2]
    """
    if objects.shape != markers.shape:
        raise ValueError(f"markers have the shape {markers.shape}, the objects {objects.shape}; they must be equal")
    numbers = np.unique(markers[markers > 0])
    return numbers[mean(objects == 0, markers, numbers) >= 0.5].tolist()


def mark_unannotated(objects: np.ndarray, markers: np.ndarray) -> np.ndarray:
    """Mark background around cells without a mask as not annotated.

    The paper gives unannotated pixels weight 0. The files of the challenge do not list unannotated pixels. Here a
    background pixel is not annotated if the nearest marker belongs to a cell without a mask. Distances to masks would
    give much of the cell to a neighbour: markers are small (a twentieth of a HeLa cell).

    Args and Raises:
        as in `unmasked_markers`.

    Returns:
        Copy of `objects` with `NOT_ANNOTATED`, as from `mark_border`.

    Example:
        >>> mark_unannotated(np.array([[5, 5, 0, 0, 0, 0]]), markers=np.array([[0, 1, 0, 0, 2, 0]]))
        array([[ 5,  5,  0, -1, -1, -1]])
    """
    missing = unmasked_markers(objects, markers)
    if not missing:
        return _marked(objects, np.zeros(objects.shape, bool))
    rows, columns = distance_transform_edt(markers <= 0, return_distances=False, return_indices=True)
    return _marked(objects, np.isin(markers[rows, columns], missing))


def _marked(objects: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Copy with -1 on the background among `pixels`."""
    signed = objects.astype(objects.dtype if np.issubdtype(objects.dtype, np.signedinteger) else np.int64)
    signed[pixels & (objects == 0)] = NOT_ANNOTATED
    return signed
