"""Which pixels of a partly annotated image say nothing: told from markers that every cell has, or near the edge."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt, mean

NOT_ANNOTATED = -1


def mark_border(objects: np.ndarray, width: int) -> np.ndarray:
    """Say of the background near the image's edge that nothing is known of it.

    The Cell Tracking Challenge outlines no cell that lies wholly outside its field of interest, in a border of 50
    pixels for DIC-C2DH-HeLa and PhC-C2DH-U373: what looks like background there may be a cell.

    Args:
        objects: integer (H, W), 0 = background, each value above 0 one object; below 0 stays as it is.
        width: of the border in pixels; 0 marks nothing.

    Returns:
        Array like `objects`, with `NOT_ANNOTATED` (-1) on background in the border; int64 if `objects` is unsigned.

    Raises:
        ValueError: the width is negative.
    """
    if width < 0:
        raise ValueError(f"the border's width must be 0 px or more, got {width}")
    marked = objects.astype(objects.dtype if np.issubdtype(objects.dtype, np.signedinteger) else np.int64)
    if width:
        border = np.ones(objects.shape, dtype=bool)
        border[width : max(objects.shape[0] - width, 0), width : max(objects.shape[1] - width, 0)] = False
        marked[border & (objects == 0)] = NOT_ANNOTATED
    return marked


def annotated_pixels(labels: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
    """Which pixels are annotated: those that are not negative and, given a mask or weight map, not 0 in it.

    Args:
        labels: of any shape; classes or objects, negative: not annotated.
        valid: of the same shape.

    Returns:
        bool, of the same shape.

    Raises:
        ValueError: the shapes differ.
    """
    if valid is None:
        return labels >= 0
    if valid.shape != labels.shape:
        raise ValueError(f"valid has the shape {valid.shape}, the labels {labels.shape}; they must be equal")
    return (labels >= 0) & (valid != 0)


def unmasked_markers(objects: np.ndarray, markers: np.ndarray) -> list[int]:
    """The markers of cells that were not outlined.

    Args:
        objects: integer (H, W), 0 = background, each value above 0 one object, below 0 = said to be not annotated.
        markers: integer (H, W), 0 = no marker, each value above 0 the marker of one cell.

    Returns:
        the numbers of those markers that have half of their pixels or more on background, ascending.

    Raises:
        ValueError: the shapes differ.
    """
    if objects.shape != markers.shape:
        raise ValueError(f"markers have the shape {markers.shape}, the objects {objects.shape}; they must be equal")
    numbers = np.unique(markers[markers > 0])
    return [int(number) for number in numbers[mean(objects == 0, markers, numbers) >= 0.5]]


def mark_unannotated(objects: np.ndarray, markers: np.ndarray) -> np.ndarray:
    """Say of the pixels around cells without a mask that nothing is known of them.

    The paper trains on partially annotated images and gives unannotated pixels weight 0; which these are, the
    challenge's files do not say. Here: background whose nearest marker is that of a cell without a mask. (The distance
    to the masks in place of their markers would leave much of a cell without mask to its neighbours: markers are small,
    a twentieth of a HeLa cell.) In a fully annotated image nothing changes.

    Args:
        objects: as in `unmasked_markers`; values below 0 stay as they are.
        markers: integer (H, W), a marker on every cell, as the Cell Tracking Challenge gives them (`TRA`).

    Returns:
        Array like `objects`, with `NOT_ANNOTATED` (-1) where nothing is known; int64 if `objects` is unsigned.

    Raises:
        ValueError: the shapes differ.
    """
    missing = unmasked_markers(objects, markers)
    marked = objects.astype(objects.dtype if np.issubdtype(objects.dtype, np.signedinteger) else np.int64)
    if missing:
        rows, cols = distance_transform_edt(markers <= 0, return_distances=False, return_indices=True)
        marked[(objects == 0) & np.isin(markers[rows, cols], missing)] = NOT_ANNOTATED
    return marked
