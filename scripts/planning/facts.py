"""Measure images and labels of a data set, each file once: the facts for a plan and for a diagnosis.

Functions on arrays come first. `measure_item` reads the files of an item, `data_facts` joins all items.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import ndimage
from skimage.measure import label as connected_components
from skimage.transform import resize

from ..data.label_facts import LabelFacts, label_facts, touching_pairs
from ..io.reader import PlaneReader

SMALL = 32  # side of the thumbnails, pixels
GRID = 8  # blocks along a side, for the light
FEW_BACKGROUND = 0.2  # share of background from which the light is measured in the background alone
LOW, MIDDLE, HIGH = 1, 50, 99  # percentiles of grey values
LARGE = 1e15  # far above the values of cameras, and far below those whose squares leave the range of float32
OUTLIERS = 1.8  # standard deviation with and without the outermost percents, above which outliers are far


@dataclass(frozen=True)
class ImageFacts:
    """Facts about an image. Channels are averaged, except for their number."""

    name: str  # address
    size: tuple[int, int]  # rows, columns
    channels: int
    equal_channels: bool  # several channels of equal content: a grey image saved as RGB
    dtype: str
    lowest: float
    highest: float
    percentiles: tuple[float, float, float]  # 1st, 50th, 99th
    outliers: float  # standard deviation, divided by the one between the 1st and 99th percentile
    unevenness: float  # range of a smooth fit to the light, in standard deviations of the image
    thumbnail: np.ndarray  # (32, 32), mean 0 and length 1
    digest: str  # of the pixels


@dataclass(frozen=True)
class ObjectFacts:
    """Facts about the objects of a label image: connected components of equal value."""

    diameters: np.ndarray  # of circles of equal area, pixels (N,)
    touching: int  # pairs of values that touch
    gaps: np.ndarray  # background between the nearest neighbours, pixels, narrowest place of each pair (M,)
    core: np.ndarray  # share of the pixels of each value whose 8 neighbours have the value, too (K,)
    background_depth: float  # 90th percentile of the distance of background pixels to the next object, pixels
    contrast: float | None  # median in objects minus median in the background, in standard deviations of the image


@dataclass(frozen=True)
class ItemFacts:
    """Facts about an image and its label."""

    image: ImageFacts
    label: LabelFacts
    objects: ObjectFacts


@dataclass(frozen=True)
class DataFacts:
    """Facts about a data set.

    Args:
        items: facts of all readable items, in the order of the data set.
        pixel_size: from the headers, micrometres. None: unknown.
    """

    items: Sequence[ItemFacts]
    pixel_size: float | None = None

    @cached_property
    def labels(self) -> list[LabelFacts]:
        """Facts about all labels."""
        return [item.label for item in self.items]

    @cached_property
    def filled(self) -> list[ItemFacts]:
        """Items with a value other than 0 in the label."""
        return [item for item in self.items if len(item.label.values)]

    @cached_property
    def values(self) -> list[float]:
        """All values of the labels, with 0 if a label has 0."""
        found = {float(value) for label in self.labels for value in label.values}
        return sorted(found | ({0.0} if any(label.foreground < 1 for label in self.labels) else set()))

    @cached_property
    def diameters(self) -> np.ndarray:
        """Diameters of all objects in pixels."""
        return np.concatenate([item.objects.diameters for item in self.items])

    @cached_property
    def gaps(self) -> np.ndarray:
        """Gaps between neighbouring objects in pixels."""
        return np.concatenate([item.objects.gaps for item in self.items])

    @cached_property
    def foreground(self) -> float:
        """Share of pixels that are not 0, over all labels."""
        pixels = np.array([np.prod(item.image.size) for item in self.items], float)
        return float(np.average([label.foreground for label in self.labels], weights=pixels))

    @cached_property
    def shares(self) -> dict[float, float]:
        """Share of pixels of each value, over all labels."""
        pixels = sum(float(np.prod(item.image.size)) for item in self.items)
        found = dict.fromkeys(self.values, 0.0)
        for label in self.labels:
            for value, area in zip(label.values, label.areas, strict=True):
                found[float(value)] += float(area) / pixels
        if 0.0 in found:
            found[0.0] = 1 - sum(share for value, share in found.items() if value)
        return found

    @cached_property
    def short_side(self) -> int:
        """Median of the shorter side of the images in pixels."""
        return int(np.median([min(item.image.size) for item in self.items]))

    @cached_property
    def copies(self) -> list[tuple[str, str]]:
        """Images with the pixels of an earlier image: (address, address of the earlier image)."""
        first: dict[str, str] = {}
        pairs = [(item.image.name, first.setdefault(item.image.digest, item.image.name)) for item in self.items]
        return [(name, other) for name, other in pairs if name != other]


def image_facts(name: str, plane: np.ndarray, label: np.ndarray | None = None) -> ImageFacts:
    """Measure an image.

    Args:
        name: address of the file.
        plane: (H, W) or (H, W, C), any dtype.
        label: (H, W); 0 is background, in which the light is measured. None, or little background: everywhere.

    Example:
        >>> facts = image_facts("a.png", np.arange(100.0).reshape(10, 10))
        >>> facts.channels, facts.lowest, facts.highest, facts.percentiles[1]
        (1, 0.0, 99.0, 49.5)
    """
    grey, scale = grey_values(plane)
    low, middle, high = (float(value) for value in np.percentile(grey, (LOW, MIDDLE, HIGH)))
    std = float(grey.std())
    inner = float(np.clip(grey, low, high).std())
    background = None if label is None or (label == 0).mean() < FEW_BACKGROUND else label == 0
    small = resize(grey, (SMALL, SMALL), anti_aliasing=True, preserve_range=True)
    small = small - small.mean()
    return ImageFacts(
        name=name,
        size=(int(plane.shape[0]), int(plane.shape[1])),
        channels=1 if plane.ndim == 2 else int(plane.shape[-1]),
        equal_channels=plane.ndim == 3 and bool((plane == plane[..., :1]).all()),
        dtype=plane.dtype.name,
        lowest=float(plane.min()),
        highest=float(plane.max()),
        percentiles=(low * scale, middle * scale, high * scale),
        outliers=std / inner if inner else (1.0 if not std else np.inf),
        unevenness=_unevenness(grey, background) / std if std else 0.0,
        thumbnail=small / max(float(np.linalg.norm(small)), 1e-12),
        digest=hashlib.sha256(f"{plane.dtype} {plane.shape}".encode() + plane.tobytes()).hexdigest(),
    )


def grey_values(plane: np.ndarray) -> tuple[np.ndarray, float]:
    """Average the channels of an image. Large values are scaled, since their squares would be infinite.

    Args:
        plane: (H, W) or (H, W, C), any dtype, finite.

    Returns:
        (H, W), float32; and the grey value that became 1. Unscaled images: 1.

    Example:
        >>> grey_values(np.array([[1e300, 0.0]]))
        (array([[1., 0.]], dtype=float32), 1e+300)
    """
    largest = float(max(abs(plane.max()), abs(plane.min()))) if plane.dtype.kind == "f" else 0.0
    scale = largest if largest > LARGE else 1.0
    values = plane.astype(np.float64) / scale if scale > 1 else plane
    return (values if plane.ndim == 2 else values.mean(axis=-1)).astype(np.float32), scale


def _unevenness(grey: np.ndarray, background: np.ndarray | None) -> float:
    """Range of a polynomial of degree 2, fitted to the medians of 8 x 8 blocks."""
    rows, columns = (np.array_split(np.arange(length), GRID) for length in grey.shape)
    places, medians = [], []
    for y, row in enumerate(rows):
        for x, column in enumerate(columns):
            if not len(row) or not len(column):
                continue
            cut = np.s_[row[0] : row[-1] + 1, column[0] : column[-1] + 1]
            pixels = grey[cut].ravel() if background is None else grey[cut][background[cut]]
            if len(pixels) >= 0.1 * len(row) * len(column):
                places.append((y, x))
                medians.append(float(np.median(pixels)))
    if len(places) < GRID * GRID // 2:
        return 0.0
    y, x = (np.array(places, float).T - GRID / 2) / GRID
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)
    fit = terms @ np.linalg.lstsq(terms, np.array(medians), rcond=None)[0]
    return float(fit.max() - fit.min())


def object_facts(plane: np.ndarray, grey: np.ndarray | None = None) -> ObjectFacts:
    """Measure the objects of a label image.

    Args:
        plane: (H, W); 0 is background. Each connected component of equal value is an object.
        grey: the image (H, W), for the contrast. None: no contrast.

    Example:
        >>> facts = object_facts(np.array([[7, 7, 0, 0, 9], [7, 7, 0, 0, 9]]))
        >>> facts.diameters.round(1).tolist(), facts.touching, facts.gaps.tolist()
        ([2.3, 1.6], 0, [2.0])
    """
    codes = _codes(plane)
    components = connected_components(codes, background=0, connectivity=2)
    areas = np.bincount(components.ravel())[1:]
    mask = components > 0
    depth, gaps = 0.0, np.zeros(0)
    if len(areas) and not mask.all():
        distance, nearest = ndimage.distance_transform_edt(~mask, return_indices=True)
        depth = float(np.percentile(distance[~mask], 90))
        gaps = _gaps(components[tuple(nearest)], distance)
    contrast = None
    if grey is not None and len(areas) and not mask.all() and grey.std() > 0:
        contrast = float((np.median(grey[mask]) - np.median(grey[~mask])) / grey.std())
    return ObjectFacts(
        diameters=2 * np.sqrt(areas / np.pi),
        touching=touching_pairs(codes),
        gaps=gaps,
        core=_core(codes),
        background_depth=depth,
        contrast=contrast,
    )


def _codes(plane: np.ndarray) -> np.ndarray:
    """Numbers 1 ... K in place of the values other than 0."""
    values = np.unique(plane)
    values = values[values != 0]
    return np.where(plane == 0, 0, np.searchsorted(values, plane) + 1)


def _gaps(owner: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Narrowest background between each two objects whose nearest regions meet, in pixels. Touching objects have none.

    Where the owner changes from pixel to pixel, the distances of both pixels to their owners sum to the width.
    """
    first: list[np.ndarray] = []
    widths: list[np.ndarray] = []
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        a, b, width = owner[one], owner[other], distance[one] + distance[other]
        meet = a != b
        first.append(np.minimum(a, b)[meet].astype(np.int64) * (int(owner.max()) + 1) + np.maximum(a, b)[meet])
        widths.append(width[meet])
    pairs, places = np.unique(np.concatenate(first), return_inverse=True)
    narrowest = np.full(len(pairs), np.inf)
    np.minimum.at(narrowest, places, np.concatenate(widths))
    return narrowest[narrowest > 0]


def _core(codes: np.ndarray) -> np.ndarray:
    """Share of the pixels of each value inside of its regions. Near 0: lines, or the blurred border of other values."""
    inside = ndimage.minimum_filter(codes, 3) == ndimage.maximum_filter(codes, 3)
    count = int(codes.max()) + 1
    total = np.bincount(codes.ravel(), minlength=count)[1:]
    return np.bincount(codes[inside], minlength=count)[1:] / np.maximum(total, 1)


def measure_item(item: Mapping[str, Any], images: PlaneReader, labels: PlaneReader) -> ItemFacts:
    """Read and measure an image and its label.

    Args:
        item: {"image": address, "label": address}. A list of addresses stands for the channels of an image.
        images, labels: readers.

    Raises:
        ImageFileError, FileNotFoundError: a file cannot be read.
    """
    image = item["image"]
    names = [image] if isinstance(image, str) else list(image)
    plane, label = images.get_data(names)[0], labels.get_data([str(item["label"])])[0]
    label = label if label.dtype.kind != "f" else np.nan_to_num(label)
    return ItemFacts(
        image_facts(str(names[0]), plane, label),
        label_facts(str(item["label"]), label),
        object_facts(label, grey_values(plane)[0]),
    )


def resemblance(thumbnails: Sequence[np.ndarray]) -> tuple[float, float]:
    """Compare each image with the next one, and with the one half of the data set further.

    Args:
        thumbnails: (32, 32) each, mean 0 and length 1, in the order of the data set.

    Returns:
        Medians of both correlations, from -1 to 1. (0, 0) for fewer than four images.

    Example:
        >>> resemblance([np.eye(32) / 32**0.5] * 4)
        (1.0, 1.0)
    """
    if len(thumbnails) < 4:
        return 0.0, 0.0
    flat = np.stack([thumbnail.ravel() for thumbnail in thumbnails])
    half = len(flat) // 2
    near = (flat[1:] * flat[:-1]).sum(axis=1)
    far = (flat[half:] * flat[: len(flat) - half]).sum(axis=1)
    return round(float(np.median(near)), 4), round(float(np.median(far)), 4)
