"""Image files, tables and results, read and written by format."""

from scripts.io.arrays import as_array
from scripts.io.files import read_csv, replacing, six_digits, temporary_path, write_csv, write_json
from scripts.io.image_files import ImageFile, ImageFileError, ImageHeader, ItkFile, NiftiFile, PillowFile, png_bytes
from scripts.io.reader import (
    PlaneReader,
    image_name,
    image_suffix,
    plane_address,
    plane_size,
    read_header,
    split_address,
)
from scripts.io.tiff import TiffPlanes
from scripts.io.writer import ItkResult, NiftiResult, PngResult, ResultFile, ResultNames, SegmentationStore, TiffResult

__all__ = [
    "ImageFile",
    "ImageFileError",
    "ImageHeader",
    "ItkFile",
    "ItkResult",
    "NiftiFile",
    "NiftiResult",
    "PillowFile",
    "PlaneReader",
    "PngResult",
    "ResultFile",
    "ResultNames",
    "SegmentationStore",
    "TiffPlanes",
    "TiffResult",
    "as_array",
    "image_name",
    "image_suffix",
    "plane_address",
    "plane_size",
    "png_bytes",
    "read_csv",
    "read_header",
    "replacing",
    "six_digits",
    "split_address",
    "temporary_path",
    "write_csv",
    "write_json",
]
