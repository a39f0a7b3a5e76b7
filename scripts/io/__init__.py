"""Read and write image files, result files and tables. Each image format has a module.

| name                                                | what it does                                                |
|-----------------------------------------------------|-------------------------------------------------------------|
| `PlaneReader`                                       | reads a plane of any image file, for MONAI's `LoadImaged`   |
| `read_header`, `plane_size`                         | read the size of an image file without its pixels           |
| `open_image`                                        | opens an image file of any format, to read several planes   |
| `SegmentationStore`                                 | writes class maps, probabilities and instances              |
| `plane_address`, `split_address`                    | build and split the address of a plane (`stack.tif#page=3`) |
| `image_name`, `image_suffix`, `ResultNames`         | names of images and of result files                         |
| `write_csv`, `read_csv`, `write_json`, `six_digits` | tables and numbers                                          |
| `replacing`, `temporary_path`                       | write a file completely or not at all                       |
| `FolderLock`, `FolderInUseError`                    | reserves a folder for one process; another process has it   |
| `GrowingCSV`                                        | writes a table row by row                                   |
| `check_table`                                       | refuses to replace a file other than a table                |
| `ResultFolder`, `RunRecord`                         | know the results of each image, and which are finished      |
| `shown`                                             | a name without control characters, for messages and tables  |
| `as_array`                                          | converts a tensor to a numpy array                          |
| `micrometres`                                       | converts a pixel size to micrometres                        |
| `ImageFile`, `ImageHeader`, `ImageFileError`        | interface for reading a format, and its error               |
| `ResultFile`                                        | interface for writing a format                              |
| `TiffPlanes`, `NiftiFile`, `ItkFile`, `PillowFile`  | read a format                                               |
| `TiffResult`, `NiftiResult`                         | write TIFF or NIfTI                                         |
| `ItkResult`, `PngResult`                            | write MHA or NRRD, or PNG                                   |
"""

from ..lazy import lazy

_NAMES = {
    "arrays": ["as_array"],
    "files": ["read_csv", "replacing", "six_digits", "temporary_path", "write_csv", "write_json"],
    "image_file": ["ImageFile", "ImageFileError", "ImageHeader", "ResultFile"],
    "itk": ["ItkFile", "ItkResult"],
    "locks": ["FolderInUseError", "FolderLock"],
    "names": ["ResultNames", "image_name", "image_suffix", "plane_address", "shown", "split_address"],
    "nifti": ["NiftiFile", "NiftiResult"],
    "png": ["PillowFile", "PngResult"],
    "reader": ["PlaneReader", "open_image", "plane_size", "read_header"],
    "record": ["RunRecord"],
    "results": ["ResultFolder"],
    "tables": ["GrowingCSV", "check_table"],
    "tiff": ["TiffPlanes", "TiffResult"],
    "units": ["micrometres"],
    "writer": ["SegmentationStore"],
}
__all__ = [name for names in _NAMES.values() for name in names]
__getattr__, __dir__ = lazy(__name__, _NAMES)
