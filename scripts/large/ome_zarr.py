"""Write results of large images as OME-Zarr 0.5, block by block.

    out.ome.zarr/                 image: probabilities, axes t, c, z, y, x as the source
        0, 1, 2, ...              full resolution, and a pyramid with a factor of 2 in y and x
        labels/classes/0, ...     class of each pixel, uint8
        labels/instances/0, ...   number of the object of each pixel, uint32

Without probabilities, the image is the class map, or the objects if they are the only result. Blocks are the shards of
Zarr 3, one file each: processes write different blocks side by side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..checks import check_choice
from ..io.files import naming
from ..io.image_file import ImageFileError, ImageHeader, require
from ..io.names import PathLike
from ..settings import project_version
from .grid import Block, BlockGrid, Span
from .ngff import ngff_unit
from .outputs import OUR_KEY

KINDS = {"probabilities": ("uint8", "float16", "float32"), "classes": ("uint8",), "instances": ("uint32",)}
_VERSION = "0.5"
_SMALLEST = 1024  # pixels: larger levels get another level


class Place(NamedTuple):
    """Where an array lies in the group, and its pixels.

    Args:
        group: path of the image in the group, "" for the root.
        dtype: of the stored pixels.
        channels: 0: no channel axis.
    """

    group: str
    dtype: str
    channels: int


class OmeZarrOutput:
    """An OME-Zarr 0.5 group of results. Several threads and processes may write different blocks.

    `create` makes the group, `write` fills the full resolution, `build_pyramid` one level after the other, and `finish`
    writes the metadata of OME: before it, viewers find no image. Copies by pickle open the group again.

    Args:
        path: folder of a group made by `create`.

    Raises:
        FileNotFoundError: no such folder.
        ImageFileError: a folder that `create` has not completed.

    Example:
        >>> from scripts.io import ImageHeader
        >>> from scripts.large import BlockGrid
        >>> grid = BlockGrid(planes=1, height=300, width=500, size=256)
        >>> output = OmeZarrOutput.create("out.ome.zarr", ImageHeader(1, 300, 500, 1), {}, grid, {"classes": "uint8"})
        >>> for block in grid:
        ...     output.write("classes", block, np.ones(block.shape, np.uint8))
        >>> output.finish()
        >>> int(output.read("classes", plane=0, rows=(0, 300), columns=(0, 500)).sum())
        150000
    """

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise FileNotFoundError(f"{self.path} does not exist, expected a result in OME-Zarr")
        zarr = require("zarr", "OME-Zarr results", self.path)
        try:
            self._group = zarr.open_group(self.path, mode="r+", zarr_format=3, use_consolidated=False)
            self._plan: dict[str, Any] = dict(self._group.attrs[OUR_KEY]["plan"])
            self.grid = BlockGrid(**self._plan["grid"])
            self.axes: dict[str, int] = {axis: int(length) for axis, length in self._plan["axes"].items()}
            self.places = {kind: Place(**place) for kind, place in self._plan["places"].items()}
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise ImageFileError(
                f"{self.path} is no complete result in OME-Zarr ({type(error).__name__}: {error}): delete the folder, "
                "and segment the image again"
            ) from error
        self._arrays: dict[tuple[str, int], Any] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return OmeZarrOutput, (self.path.absolute(),)

    @classmethod
    def create(
        cls,
        path: PathLike,
        header: ImageHeader,
        axes: Mapping[str, int],
        grid: BlockGrid,
        arrays: Mapping[str, str],
        class_names: Sequence[str] = ("background", "foreground"),
        settings: Mapping[str, Any] | None = None,
        chunk: int = 256,
    ) -> OmeZarrOutput:
        """Make a group with arrays of zeros. Blocks of zeros need not be written.

        Args:
            path: new folder.
            header: of the source: size, pixel size, time between frames.
            axes: of the source, `LargeImage.axes`: lengths of t and z.
            grid: blocks of the source. Their size is a multiple of `chunk`.
            arrays: kind -> type of the stored pixels. "probabilities": "uint8" (0 .. 255 for 0 .. 1), "float16" or
                "float32"; "classes": "uint8"; "instances": "uint32".
            class_names: name of each class, the channels of the probabilities.
            settings: of the run, for the metadata. Numbers, texts, lists and dictionaries.
            chunk: height and width of a compressed chunk in pixels, an even number. Viewers read whole chunks.

        Raises:
            FileExistsError: the folder exists.
            ValueError: an unknown kind or type, no kind, or sizes and axes that contradict each other.
            OSError: the disk is full, or the folder cannot be written to.
        """
        path = Path(path)
        _check(header, axes, grid, arrays, chunk)
        if path.exists():
            raise FileExistsError(f"{path} exists already: delete it, or give another output")
        zarr = require("zarr", "OME-Zarr results", path)
        with naming(path):
            group = zarr.open_group(path, mode="w-", zarr_format=3)
            places: dict[str, Place] = {}
            for kind in (kind for kind in KINDS if kind in arrays):
                channels = len(class_names) if kind == "probabilities" else 0
                places[kind] = place = Place(f"labels/{kind}" if places else "", arrays[kind], channels)
                for level, (height, width) in enumerate(_level_sizes(header.height, header.width)):
                    sizes = {axis: (length, 1, 1) for axis, length in axes.items()}  # of array, chunk and shard
                    if channels:
                        sizes["c"] = (channels, 1, channels)
                    sizes.update(y=(height, chunk, grid.size), x=(width, chunk, grid.size))
                    names = [axis for axis in "tczyx" if axis in sizes]
                    group.create_array(
                        "/".join(filter(None, (place.group, str(level)))),
                        shape=[sizes[axis][0] for axis in names],
                        chunks=[sizes[axis][1] for axis in names],
                        shards=[sizes[axis][2] for axis in names],
                        dtype=place.dtype,
                        compressors=zarr.codecs.ZstdCodec(level=3),
                        fill_value=0,
                        dimension_names=names,
                    )
            plan = {
                "grid": vars(grid),
                "axes": dict(axes),
                "places": {kind: place._asdict() for kind, place in places.items()},
                "class_names": list(class_names),
                "spacing": list(header.spacing),
                "unit": header.unit,
                "plane_distance": header.plane_distance,
                "frame_interval": header.frame_interval,
            }
            content = {"version": project_version(), "settings": dict(settings or {}), "plan": plan}
            group.attrs[OUR_KEY] = content  # last: without it, the group is incomplete
        return cls(path)

    @cached_property
    def levels(self) -> int:
        """Number of levels, with the full resolution."""
        return len(_level_sizes(self.grid.height, self.grid.width))

    def level_grid(self, level: int) -> BlockGrid:
        """Get the blocks of a level. Level 0 has the blocks of `grid`."""
        height, width = _level_sizes(self.grid.height, self.grid.width)[level]
        return BlockGrid(self.grid.planes, height, width, self.grid.size)

    def write(self, kind: str, block: Block, array: np.ndarray) -> None:
        """Write a block in the full resolution. A second call replaces the block.

        Args:
            kind: "probabilities", "classes" or "instances", as in `create`.
            block: of `grid`.
            array: (C, h, w) probabilities 0 .. 1, floating, or stored values. (h, w) classes or instances, integers.

        Raises:
            ValueError: another kind or shape, or values that the type cannot hold.
            OSError: the disk is full. The message names the folder.
        """
        self._write(kind, 0, block, self._stored(kind, block, array))

    def read(self, kind: str, plane: int, rows: Span, columns: Span, level: int = 0) -> np.ndarray:
        """Read a region as stored: (C, h, w) probabilities, or (h, w) classes or instances.

        Args:
            kind: as in `write`.
            plane: number of the plane.
            rows, columns: pixels [start, stop) on the level.
            level: 0 is the full resolution.

        Raises:
            IndexError: no such plane or region.
            ImageFileError: the pixels cannot be read. The message names the place.
        """
        size = self.level_grid(level)
        inside = rows[0] >= 0 and rows[1] <= size.height and columns[0] >= 0 and columns[1] <= size.width
        if not (0 <= plane < size.planes and inside):
            raise IndexError(f"plane {plane}, rows {rows}, columns {columns} of level {level}: outside of {size}")
        array, selection = self._array(kind, level), self._selection(kind, plane, rows, columns)
        try:
            return np.asarray(array[selection])
        except Exception as error:  # codecs raise types of their own
            raise ImageFileError(
                f"{self.path}, {kind}, level {level}, plane {plane}, rows {rows[0]} to {rows[1]}, columns "
                f"{columns[0]} to {columns[1]}: cannot be read ({type(error).__name__}: {error}). Segment the image "
                "again"
            ) from error

    def build_pyramid(self, kind: str, level: int, block: Block) -> None:
        """Write a block of a level from the complete level below.

        Probabilities are means of 2 x 2 pixels, classes and instances the first of them. At odd edges, means are of the
        pixels within the image.

        Args:
            kind: as in `write`.
            level: from 1.
            block: of `level_grid(level)`.
        """
        below = self.level_grid(level - 1)
        rows = (2 * block.rows[0], min(2 * block.rows[1], below.height))
        columns = (2 * block.columns[0], min(2 * block.columns[1], below.width))
        pixels = self.read(kind, block.plane, rows, columns, level - 1)
        self._write(kind, level, block, _means(pixels) if kind == "probabilities" else pixels[..., ::2, ::2])

    def finish(self) -> None:
        """Write the metadata of OME, after all levels. From then on, viewers open the group.

        Raises:
            ImageFileError: ome_zarr_models is not installed.
            OSError: the disk is full.
        """
        require("ome_zarr_models", "OME-Zarr results", self.path)
        with naming(self.path):
            for leftover in self.path.rglob("*.partial"):  # of processes that were killed
                leftover.unlink(missing_ok=True)
            labels = [kind for kind, place in self.places.items() if place.group]
            if labels:
                self._group["labels"].attrs["ome"] = {"version": _VERSION, "labels": labels}
            for kind in reversed(self.places):  # the root comes last
                group = self._group[self.places[kind].group] if self.places[kind].group else self._group
                group.attrs["ome"] = self._ome(kind)

    def _array(self, kind: str, level: int) -> Any:
        check_choice("kind", kind, tuple(self.places))
        if (kind, level) not in self._arrays:
            self._arrays[kind, level] = self._group["/".join(filter(None, (self.places[kind].group, str(level))))]
        return self._arrays[kind, level]

    def _selection(self, kind: str, plane: int, rows: Span, columns: Span) -> tuple[int | slice, ...]:
        numbers = dict(zip(self.axes, np.unravel_index(plane, tuple(self.axes.values())), strict=True))
        chosen: dict[str, int | slice] = {axis: int(number) for axis, number in numbers.items()}
        if self.places[kind].channels:
            chosen["c"] = slice(None)
        chosen.update(y=slice(*rows), x=slice(*columns))
        return tuple(chosen[axis] for axis in "tczyx" if axis in chosen)

    def _write(self, kind: str, level: int, block: Block, pixels: np.ndarray) -> None:
        array, selection = self._array(kind, level), self._selection(kind, block.plane, block.rows, block.columns)
        sizes = zip(selection, array.shards, strict=True)
        shard = tuple((one.start or 0) // n if isinstance(one, slice) else one for one, n in sizes)
        file = Path(self.path, array.path, array.metadata.encode_chunk_key(shard))
        with naming(self.path):
            file.unlink(missing_ok=True)  # zarr reads the old shard, which may be damaged
            array[selection] = pixels

    def _stored(self, kind: str, block: Block, array: np.ndarray) -> np.ndarray:
        check_choice("kind", kind, tuple(self.places))
        place = self.places[kind]
        expected = (place.channels, *block.shape) if place.channels else block.shape
        if array.shape != expected:
            raise ValueError(f"{kind} of block {block.number} have the shape {array.shape}, expected {expected}")
        dtype = np.dtype(place.dtype)
        if array.dtype == dtype or not array.size:
            return array.astype(dtype, copy=False)
        lowest, highest = float(array.min()), float(array.max())
        if kind == "probabilities":
            if array.dtype.kind != "f" or not (lowest >= 0 and highest <= 1):
                raise ValueError(
                    f"probabilities of block {block.number} are {array.dtype} from {lowest} to {highest}, expected "
                    f"0 to 1, or {dtype}"
                )
            return np.rint(array * np.float32(255)).astype(dtype) if dtype == np.uint8 else array.astype(dtype)
        if array.dtype.kind not in "iu" or lowest < 0 or highest > np.iinfo(dtype).max:
            raise ValueError(
                f"{kind} of block {block.number} are {array.dtype} from {lowest} to {highest}, expected integers "
                f"from 0 to {np.iinfo(dtype).max}"
            )
        return array.astype(dtype)

    def _ome(self, kind: str) -> dict[str, Any]:
        """Metadata of an image or of labels, checked against the specification."""
        from ome_zarr_models.v05.image import ImageAttrs
        from ome_zarr_models.v05.image_label import ImageLabelAttrs

        place = self.places[kind]
        content: dict[str, Any] = {"version": _VERSION, "multiscales": [self._multiscale(kind)]}
        if place.group:
            # an empty list: viewers choose colours. Without the key, validation by ome_zarr_models 1.6 fails
            label: dict[str, Any] = {"version": _VERSION, "source": {"image": "../../"}, "colors": []}
            if kind == "classes":
                names = self._plan["class_names"]
                colours = ["00000000", *(f"{colour}FF" for colour in _hexadecimal(len(names) - 1))]
                label["properties"] = [{"label-value": value, "name": name} for value, name in enumerate(names)]
                label["colors"] = [
                    {"label-value": value, "rgba": list(bytes.fromhex(colour))} for value, colour in enumerate(colours)
                ]
            content["image-label"] = label
            ImageLabelAttrs.model_validate(content)
        else:
            content["omero"] = {"channels": self._channels(kind)}
            ImageAttrs.model_validate(content)
        return content

    def _multiscale(self, kind: str) -> dict[str, Any]:
        plan = self._plan
        unit, interval = ngff_unit(plan["unit"]), plan["frame_interval"]
        known, space = unit is not None, {"type": "space", **({"unit": unit} if unit else {})}
        axes: dict[str, tuple[dict[str, str], float]] = {
            "t": ({"type": "time", **({"unit": "second"} if interval else {})}, interval or 1.0),
            "c": ({"type": "channel"}, 1.0),
            "z": (space, plan["plane_distance"] if known else 1.0),
            "y": (space, plan["spacing"][0] if known else 1.0),
            "x": (space, plan["spacing"][1] if known else 1.0),
        }
        present = {*self.axes, *("c" if self.places[kind].channels else ""), "y", "x"}
        names = [axis for axis in "tczyx" if axis in present]
        datasets = []
        for level in range(self.levels):
            factor = {axis: 2**level if axis in "yx" else 1 for axis in names}
            scale = [axes[axis][1] * factor[axis] for axis in names]
            shift = [axes[axis][1] * (factor[axis] - 1) / 2 for axis in names]  # from the middle of the first pixel
            moves = [{"type": "translation", "translation": shift}] if level else []
            datasets.append(
                {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}, *moves]}
            )
        metadata = {"description": "mean of 2 x 2 pixels" if kind == "probabilities" else "first of 2 x 2 pixels"}
        if kind == "probabilities":
            metadata["values"] = f"probabilities 0 to 1 are stored as 0 to {self._most(kind):g}"
        return {
            "name": kind,
            "axes": [{"name": axis, **axes[axis][0]} for axis in names],
            "datasets": datasets,
            "type": "mean" if kind == "probabilities" else "nearest",
            "metadata": metadata,
        }

    def _most(self, kind: str) -> float:
        """Largest stored value."""
        dtype = np.dtype(self.places[kind].dtype)
        return 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max)

    def _channels(self, kind: str) -> list[dict[str, Any]]:
        """How viewers show the image of the root."""
        names, most = self._plan["class_names"], self._most(kind)
        if kind == "probabilities":
            shown = list(zip(names, ("FFFFFF", *_hexadecimal(len(names) - 1)), [most] * len(names), strict=True))
        else:
            shown = [(kind, "FFFFFF", max(len(names) - 1.0, 1.0) if kind == "classes" else most)]
        return [
            {
                "label": label,
                "color": colour,
                "active": number > 0 or len(shown) == 1,  # not the background
                "window": {"min": 0.0, "max": most, "start": 0.0, "end": end},
            }
            for number, (label, colour, end) in enumerate(shown)
        ]


def _check(
    header: ImageHeader, axes: Mapping[str, int], grid: BlockGrid, arrays: Mapping[str, str], chunk: int
) -> None:
    if not arrays:
        raise ValueError(f"expected at least one of {', '.join(KINDS)} to write")
    for kind, dtype in arrays.items():
        check_choice("kind of array", kind, tuple(KINDS))
        check_choice(f"type of {kind}", dtype, KINDS[kind])
    if chunk < 2 or chunk % 2 or grid.size % chunk:
        raise ValueError(f"blocks of {grid.size} pixels are no multiple of an even chunk, got chunk {chunk}")
    planes = math.prod(axes.values())
    if (grid.planes, grid.height, grid.width) != (
        header.planes,
        header.height,
        header.width,
    ) or planes != header.planes:
        raise ValueError(
            f"the grid has {grid.planes} planes of {grid.height} x {grid.width} pixels and the axes {dict(axes)} have "
            f"{planes}, expected the image's {header.planes} of {header.height} x {header.width}"
        )


def _hexadecimal(count: int) -> list[str]:
    """Colours of the classes from 1, as on overlays: "E69F00"."""
    from ..plot.overlays import class_colours  # loads matplotlib

    return [colour.removeprefix("#").upper() for colour in class_colours(count)]


def _level_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Height and width of all levels."""
    sizes = [(height, width)]
    while max(sizes[-1]) > _SMALLEST:
        sizes.append((math.ceil(sizes[-1][0] / 2), math.ceil(sizes[-1][1] / 2)))
    return sizes


def _means(pixels: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 pixels of (C, h, w), rounded for integers. Odd edges are doubled."""
    height, width = pixels.shape[-2:]
    even = np.pad(pixels, [(0, 0), (0, height % 2), (0, width % 2)], mode="edge")
    means = even.reshape(len(pixels), (height + 1) // 2, 2, (width + 1) // 2, 2).mean(axis=(2, 4), dtype=np.float32)
    return np.rint(means).astype(pixels.dtype) if pixels.dtype.kind == "u" else means.astype(pixels.dtype)
