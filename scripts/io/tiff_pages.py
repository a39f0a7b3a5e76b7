"""Read parts of TIFF series: some pages, or a region of the pages. Only tiles and strips in the part are decoded."""

from __future__ import annotations

import math

import numpy as np
import tifffile

_JPEG = (6, 7, 34892, 33007)  # values of Compression whose decoder needs the tables of the page
Wanted = tuple[int | slice, ...]
Span = tuple[int, int]  # [start, stop)


def read_part(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, wanted: Wanted) -> np.ndarray:
    """Read a part of a series.

    Args:
        tif: the open file.
        series: a series of the file.
        wanted: an index or a slice for each axis of the series.

    Returns:
        The series' array at `wanted`, in the file's dtype.

    Raises:
        ValueError: a page of the metadata is missing, or a tile cannot be decoded. tifffile and imagecodecs also raise
            errors of their own.

    Example:
        >>> tifffile.imwrite("stack.tif", np.zeros((4, 50, 70), np.uint8), photometric="minisblack")
        >>> with tifffile.TiffFile("stack.tif") as tif:
        ...     read_part(tif, tif.series[0], (3, slice(10, 20), slice(30, 35))).shape
        (10, 5)
    """
    if series.dataoffset is not None and series.keyframe.is_memmappable:  # one block, as ImageJ writes stacks
        return np.array(_mapped(series.keyframe, series.shape, series.dtype, series.dataoffset)[wanted])
    page_shape = series.keyframe.shape
    leading = series.shape[: len(series.shape) - len(page_shape)]  # the axes of the pages
    if math.prod(leading) != len(series):
        raise ValueError(f"{len(series)} pages, but its metadata promise {math.prod(leading)}")
    numbers = np.arange(len(series)).reshape(leading)[wanted[: len(leading)]]
    with tif.filehandle.lock:  # pages are found at their first use
        pages = [page for number in np.ravel(numbers) if (page := series[int(number)]) is not None]
    if len(pages) < np.size(numbers):
        raise ValueError("a page that its metadata promise is missing")
    parts = np.stack([_page_part(page, wanted[len(leading) :]) for page in pages])
    return parts.reshape(*np.shape(numbers), *parts.shape[1:])


def has_regions(series: tifffile.TiffPageSeries) -> bool:
    """Tell whether a region of a page can be decoded without the other rows of the page.

    Example:
        >>> tifffile.imwrite("tiles.tif", np.zeros((64, 96), np.uint8), tile=(16, 32), compression="zlib")
        >>> with tifffile.TiffFile("tiles.tif") as tif:
        ...     has_regions(tif.series[0])
        True
    """
    page = series.keyframe
    return page.is_memmappable or (page.is_tiled and _is_divided(page))


def rows_of_strips(series: tifffile.TiffPageSeries) -> int:
    """Get the number of rows to decode together: of a strip, or of the whole page.

    Example:
        >>> tifffile.imwrite("strips.tif", np.zeros((64, 96), np.uint8), rowsperstrip=8, compression="zlib")
        >>> with tifffile.TiffFile("strips.tif") as tif:
        ...     rows_of_strips(tif.series[0])
        8
    """
    page = series.keyframe
    return int(page.rowsperstrip) if _is_divided(page) and not page.is_tiled else int(page.imagelength)


def _is_divided(page: tifffile.TiffPage) -> bool:
    """False: tiles with a depth, and NDPI files, whose tiles tifffile finds within a strip."""
    return page.imagedepth == 1 and page.tiledepth == 1 and page.jpegheader is None


def _mapped(
    page: tifffile.TiffPage | tifffile.TiffFrame, shape: tuple[int, ...], dtype: np.dtype, offset: int
) -> np.ndarray:
    """Map an uncompressed block of pixels. Nothing is read before indexing."""
    file = page.parent.filehandle
    with file.lock:  # numpy moves the position in the file
        return file.memmap_array(page.parent.byteorder + dtype.char, shape, offset)


def _page_part(page: tifffile.TiffPage | tifffile.TiffFrame, wanted: Wanted) -> np.ndarray:
    """The part of a page: `wanted` has an index or slice for each axis of the page's shape."""
    keyframe, file = page.keyframe, page.parent.filehandle
    assert keyframe is not None  # of a page with pixels
    if file.closed:  # tifffile closes the other files of a series
        file.open()
        try:
            return _page_part(page, wanted)
        finally:
            file.close()
    region = dict(zip(keyframe.axes, wanted, strict=True))
    rows, columns = region.get("Y"), region.get("X")
    if (
        keyframe.axes not in ("YX", "YXS", "SYX")
        or not (isinstance(rows, slice) and isinstance(columns, slice))  # the caller's axes are others than the file's
        or not _is_divided(keyframe)
        or (keyframe.is_contiguous and not keyframe.is_memmappable)  # predictors and bit orders without compression
    ):
        return page.asarray()[wanted]
    assert keyframe.dtype is not None  # known, since otherwise the axes are not
    if keyframe.is_memmappable:
        return np.array(_mapped(page, keyframe.shape, keyframe.dtype, page.dataoffsets[0])[wanted])
    top, bottom, _ = rows.indices(keyframe.imagelength)
    left, right, _ = columns.indices(keyframe.imagewidth)
    part = _decoded(page, keyframe, (top, bottom), (left, right))  # (S, h, w, C)
    lengths = {"Y": bottom - top, "X": right - left}
    part = part.reshape([lengths.get(axis, n) for axis, n in zip(keyframe.axes, keyframe.shape, strict=True)])
    return part[tuple(slice(None) if axis in "YX" else one for axis, one in region.items())]


def _decoded(
    page: tifffile.TiffPage | tifffile.TiffFrame, keyframe: tifffile.TiffPage, rows: Span, columns: Span
) -> np.ndarray:
    """Decode the tiles or strips of a region, as tifffile's `TiffPage.asarray` does for a page: (S, h, w, C)."""
    file, (top, bottom), (left, right) = page.parent.filehandle, rows, columns
    planes, _, height, width, samples = keyframe.shaped
    high, wide = (keyframe.tilelength, keyframe.tilewidth) if keyframe.is_tiled else (keyframe.rowsperstrip, width)
    down, across = math.ceil(height / high), math.ceil(width / wide)
    numbers = [
        (plane * down + row) * across + column
        for plane in range(planes)
        for row in range(top // high, math.ceil(bottom / high))
        for column in range(left // wide, math.ceil(right / wide))
    ]
    with file.lock:  # read or made at the first use
        decode, tables = keyframe.decode, (page.dataoffsets, page.databytecounts)
    options = {"jpegtables": page.jpegtables} if keyframe.compression in _JPEG else {}
    result = np.full((planes, bottom - top, right - left, samples), keyframe.nodata, keyframe.dtype)
    if max(numbers, default=0) >= min(map(len, tables)):
        raise ValueError(f"the file lists {min(map(len, tables))} of {planes * down * across} tiles or strips")
    offsets, sizes = ([table[number] for number in numbers] for table in tables)
    for data, number in file.read_segments(offsets, sizes, numbers, lock=file.lock):
        pixels, (plane, _, y, x, _), _ = decode(data, number, **options)
        if pixels is None:  # an empty tile of a sparse file
            continue
        pixels = pixels[0, : height - y, : width - x]
        y0, y1 = max(y, top), min(y + pixels.shape[0], bottom)
        x0, x1 = max(x, left), min(x + pixels.shape[1], right)
        result[plane, y0 - top : y1 - top, x0 - left : x1 - left] = pixels[y0 - y : y1 - y, x0 - x : x1 - x]
    return result
