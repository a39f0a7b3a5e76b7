"""Measure every object of a label image, and collect the tables of many images in one CSV file."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import ignite.distributed as idist
import numpy as np
from monai.utils import string_list_all_gather
from numpy.typing import DTypeLike
from scipy.ndimage import label

from ..io.files import six_digits, text_cell, write_csv
from ..io.names import shown
from ..io.tables import GrowingCSV
from ..io.units import unit_name
from .measures import ObjectMeasures


def object_table(
    instances: np.ndarray,
    image: np.ndarray | None = None,
    spacing: Sequence[float] | None = None,
    unit: str | None = None,
) -> dict[str, np.ndarray]:
    """Measure every object, by the definitions of scikit-image's `regionprops_table`.

    `regionprops_table` itself takes four times as long, and twice as long again with units.

    Args:
        instances: integer (H, W), 0 = background.
        image: (H, W) or (C, H, W). Adds the mean intensity, of each channel if there are several.
        spacing: height and width of a pixel. Adds columns in units, the perimeter only for square pixels.
        unit: of `spacing`, e.g. "um" or "nm", in the names of these columns. None: "units".

    Returns:
        Columns of equal length, a row per object: `label`, `area_px`, `centroid_y_px`, `centroid_x_px`, `bbox_top`,
        `bbox_left`, `bbox_bottom`, `bbox_right` (end not included), `equivalent_diameter_px`, `perimeter_px`,
        `major_axis_px`, `minor_axis_px`, `eccentricity` (of the shape in pixels). With spacing `area_um2`,
        `centroid_y_um`, ... With an image `mean_intensity` or `mean_intensity_0`, ... Without objects the columns have
        length 0.

    Raises:
        ValueError: the shapes differ, or `spacing` is not two positive numbers.

    Example:
        >>> table = object_table(np.array([[0, 7, 7], [0, 7, 7]]), spacing=(0.5, 0.5), unit="um")
        >>> table["label"], table["area_px"], table["area_um2"], table["centroid_x_um"]
        (array([7]), array([4.]), array([1.]), array([0.75]))
    """
    if instances.ndim != 2:
        raise ValueError(f"instances must be one plane (H, W), got the shape {instances.shape}")
    if image is not None and (image.ndim not in (2, 3) or image.shape[-2:] != instances.shape):
        raise ValueError(f"the image has the shape {image.shape}, the instances {instances.shape}; they must be equal")
    channels = None if image is None else image[None] if image.ndim == 2 else image
    return measures_table(
        ObjectMeasures.of(instances, channels), spacing, unit, np.float64 if image is None else image.dtype
    )


def measures_table(
    objects: ObjectMeasures,
    spacing: Sequence[float] | None = None,
    unit: str | None = None,
    grey_dtype: DTypeLike = np.float64,
) -> dict[str, np.ndarray]:
    """Give the columns of `object_table` for measured objects.

    Args:
        objects: the measures.
        spacing, unit: as in `object_table`.
        grey_dtype: type of the image. Mean intensities have the same type, float64 for images of integers.

    Example:
        >>> table = measures_table(ObjectMeasures.of(np.array([[0, 7, 7], [0, 7, 7]])))
        >>> table["label"], table["area_px"]
        (array([7]), array([4.]))
    """
    table = {"label": objects.numbers, **_columns(objects, (1.0, 1.0), "px")}
    if spacing is not None:
        height, width = (float(s) for s in spacing)
        if not (height > 0 and width > 0):
            raise ValueError(f"spacing must be two positive numbers (height, width of a pixel), got {spacing}")
        in_units = _columns(objects, (height, width), unit_name(unit or "units"))
        table |= {name: column for name, column in in_units.items() if name not in table}
    digits = grey_dtype if np.issubdtype(grey_dtype, np.floating) else np.float64
    channels = objects.intensities.T
    for i, sums in enumerate(channels):
        name = "mean_intensity" if len(channels) == 1 else f"mean_intensity_{i}"
        table[name] = (sums / objects.areas).astype(digits)
    return table


def image_summary(
    instances: np.ndarray,
    classes: np.ndarray | None = None,
    class_names: Sequence[str] | None = None,
    spacing: Sequence[float] | None = None,
    unit: str | None = None,
) -> dict[str, np.ndarray]:
    """Summarise the objects of an image, for a table of images.

    Args:
        instances: integer (H, W), 0 = background.
        classes: class map, integer (H, W). With more than two classes, each class but the background is summarised.
        class_names: names of all classes, for the columns. None: class_1, class_2, ...
        spacing: height and width of a pixel. Adds the median area in units.
        unit: of `spacing`, as in `object_table`.

    Returns:
        Columns of length 1: `height_px`, `width_px`, `objects`, `median_area_px` (NaN without objects) and
        `foreground_share`, the share of pixels in objects. With several classes also `objects_<name>` (the instances of
        class 1, the connected regions of others) and `share_<name>`; `foreground_share` then counts all of them.

    Example:
        >>> summary = image_summary(np.array([[0, 7, 7], [0, 0, 9]]))
        >>> [summary[name].tolist() for name in ("objects", "median_area_px", "foreground_share")]
        [[2], [1.5], [0.5]]
    """
    areas = np.bincount(instances.ravel())[1:]
    pixels = None if classes is None else np.bincount(classes.ravel().astype(int))
    names = class_names or (() if pixels is None else [f"class_{k}" for k in range(len(pixels))])
    regions = {name: label(classes == k)[1] for k, name in enumerate(names) if k > 1 and classes is not None}
    return summary_table(instances.shape, areas[areas > 0], pixels, names, regions, spacing, unit)


def summary_table(
    shape: Sequence[int],
    areas: np.ndarray,
    class_pixels: np.ndarray | None = None,
    class_names: Sequence[str] = (),
    regions: Mapping[str, int] | None = None,
    spacing: Sequence[float] | None = None,
    unit: str | None = None,
) -> dict[str, np.ndarray]:
    """Give the columns of `image_summary` for counted pixels.

    Args:
        shape: height and width of the image.
        areas: of the objects, (N,).
        class_pixels: pixels of each class, up to the last class in the image. None: no class map.
        class_names: names of all classes.
        regions: number of connected regions for each name of a class beyond class 1. Without a number, the column is
            missing.
        spacing, unit: as in `image_summary`.

    Example:
        >>> summary_table((2, 3), np.array([2, 1]))["foreground_share"]
        array([0.5])
    """
    median = float(np.median(areas)) if len(areas) else float("nan")
    found: dict[str, float] = {"height_px": shape[0], "width_px": shape[1]}
    found |= {"objects": len(areas), "median_area_px": median}
    if spacing is not None:
        found[f"median_area_{unit_name(unit or 'units')}2"] = median * float(np.prod(spacing))
    size = shape[0] * shape[1]
    if class_pixels is None or len(class_names) <= 2:
        found["foreground_share"] = _share(areas.sum(), size)
    else:
        found["foreground_share"] = _share(class_pixels[1:].sum(), size)
        numbers = {class_names[1]: len(areas), **(regions or {})}
        for k, name in enumerate(class_names[1:], 1):
            if name in numbers:
                found[f"objects_{name}"] = numbers[name]
            found[f"share_{name}"] = _share(class_pixels[k] if k < len(class_pixels) else 0, size)
    return {name: np.array([value]) for name, value in found.items()}


def _share(pixels: int, size: int) -> float:
    return float(pixels / size) if size else float("nan")


def _columns(objects: ObjectMeasures, spacing: tuple[float, float], unit: str) -> dict[str, np.ndarray]:
    """Give the columns of `object_table` for pixels of this height and width."""
    areas = objects.areas * np.prod(spacing)
    covariances = objects.covariances * np.outer(spacing, spacing)
    minor, major = np.clip(np.linalg.eigvalsh(covariances), 0, None).T  # ascending
    y, x = (objects.centres * spacing).T
    columns = {
        "area_px" if unit == "px" else f"area_{unit}2": areas,
        f"centroid_y_{unit}": y,
        f"centroid_x_{unit}": x,
        **dict(zip(("bbox_top", "bbox_left", "bbox_bottom", "bbox_right"), objects.boxes.T, strict=True)),
        f"equivalent_diameter_{unit}": np.sqrt(4 * areas / np.pi),
    }
    if spacing[0] == spacing[1]:
        columns[f"perimeter_{unit}"] = objects.perimeters * spacing[0]
    columns[f"major_axis_{unit}"], columns[f"minor_axis_{unit}"] = 4 * np.sqrt(major), 4 * np.sqrt(minor)
    columns["eccentricity"] = np.sqrt(1 - np.divide(minor, major, out=np.ones_like(minor), where=major > 0))
    return columns


class ObjectsCSV:
    """Write a table of many images as one CSV file, image by image: see `scripts.io.GrowingCSV`.

    Of several processes, the later ones write hidden files. At the end, the first one writes all rows.

    Args:
        path: the CSV file. The first column is `image`. The other columns are those of all added tables.
        kept: images of an earlier run whose rows stay in the file. Other rows of an earlier run are dropped.

    Example:
        >>> from pathlib import Path
        >>> file = ObjectsCSV(Path("objects.csv"))
        >>> file.add("a.png", {"label": np.array([1, 2]), "area_px": np.array([20.0, 7.5])})
        >>> file.close()
        >>> Path("objects.csv").read_text().splitlines()
        ['image,label,area_px', 'a.png,1,20.0', 'a.png,2,7.5']
    """

    def __init__(self, path: Path, kept: Collection[str] = ()) -> None:
        self.path = path
        self._rank = idist.get_rank()
        self._file = GrowingCSV(path if self._rank == 0 else path.with_name(f".{path.stem}.rank{self._rank}.csv"))
        if self._rank == 0:
            others = sorted(path.parent.glob(f".{path.stem}.rank*.csv"))  # of a run that was killed
            if kept:
                columns, rows = read_objects([path, *others])
                cells = {text_cell(shown(name)) for name in kept}
                self._file.add([row for row in rows if _file_name(row["image"]) in cells], columns)
            if idist.get_world_size() > 1 and not self._file.columns:
                self._file.add([], ["image"])  # without a table, rows of the others would not count after a kill
            for other in others:
                other.unlink(missing_ok=True)
        idist.barrier()

    def add(self, image: str, table: Mapping[str, np.ndarray]) -> None:
        """Append the rows of one image.

        Args:
            image: name for the first column.
            table: columns of equal length, as from `object_table` or `image_summary`.
        """
        values = {name: _six_digits(column) for name, column in table.items()}
        rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
        self._file.add([{"image": image, **row} for row in rows], ["image", *values])

    def close(self, order: Sequence[str] = ()) -> None:
        """Finish the file. Of several processes the first one writes the rows of all.

        Args:
            order: names of images. Rows are sorted by their images' places here. (): rows stay as added.
        """
        if not self._file.columns:
            self._file.add([], ["image"])  # in place of an earlier table
        if idist.get_world_size() > 1:
            self._gather(string_list_all_gather(_lines(self._file.path), delimiter="\n"))
        if order and self._rank == 0 and self.path.exists():
            columns, rows = read_objects([self.path])
            places = {text_cell(shown(name)): place for place, name in enumerate(order)}
            rows.sort(key=lambda row: places.get(_file_name(row["image"]), len(places)))
            write_csv(self.path, rows, columns)

    def _gather(self, lines: Sequence[str]) -> None:
        """Write the rows of all processes, in the first process."""
        if self._rank == 0:
            columns: dict[str, None] = {}
            rows = []
            for text in lines:
                read = csv.DictReader(io.StringIO(json.loads(text), newline=""))
                columns |= dict.fromkeys(read.fieldnames or [])
                rows += list(read)
            write_csv(self.path, rows, list(columns))
        idist.barrier()
        if self._rank > 0:
            self._file.path.unlink(missing_ok=True)


def _lines(path: Path) -> list[str]:
    """Give a file as a line of text, to be exchanged between processes."""
    return [json.dumps(path.read_text(encoding="utf-8") if path.exists() else "")]


def read_objects(paths: Sequence[Path]) -> tuple[list[str], list[dict[str, str]]]:
    """Read tables of objects. Images of earlier files are left out of later ones.

    Returns:
        names of the columns; rows. Empty, if there is no file, or no file has a column `image`.

    Example:
        >>> read_objects([])
        ([], [])
    """
    columns: dict[str, None] = {}
    rows: list[dict[str, str]] = []
    for path in paths:
        if path.exists():
            with path.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file)
                if "image" in (reader.fieldnames or []):
                    columns |= dict.fromkeys(reader.fieldnames or [])
                    known = {row["image"] for row in rows}
                    rows += [row for row in reader if row["image"] not in known]
    return list(columns), rows


def _file_name(cell: str) -> str:
    """Name the file of a cell "stack.tif#page=3"."""
    return re.sub(r"#page=\d+$", "", cell)


def _six_digits(column: np.ndarray) -> list[float | None]:
    """Give the numbers of a column as in the file. NaN gives an empty cell."""
    values = column.tolist()
    return values if column.dtype.kind in "iu" else [None if value != value else six_digits(value) for value in values]
