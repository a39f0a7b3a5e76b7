"""Arrays and image files for the tests."""

from __future__ import annotations

from pathlib import Path

import itk
import nibabel
import numpy as np
import pydicom
import tifffile
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from scripts.io.reader import PlaneReader


def numbered(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def read(address: object, **options: object) -> np.ndarray:
    reader = PlaneReader(**options)
    return reader.get_data(reader.read(str(address)))[0]


def write_any(path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 255, (40, 50)).astype(np.uint8)
    if path.suffix in (".png", ".jpg", ".bmp"):
        Image.fromarray(array).save(path)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, array, photometric="minisblack", compression="lzw" if "lzw" in path.name else None)
    elif ".nii" in path.name:
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)
    else:
        itk.imwrite(itk.image_from_array(array), str(path))


TIFF_AXES = {  # shape written, how, (planes, channels), index of plane k in the array -> (H, W[, C])
    "plane": ((5, 7), {}, (1, 1)),
    "colour": ((5, 7, 3), {"photometric": "rgb"}, (1, 3)),
    "colour planar": ((3, 5, 7), {"photometric": "rgb", "planarconfig": "separate"}, (1, 3)),
    "colour + alpha": ((5, 7, 4), {"photometric": "rgb", "extrasamples": ["unassalpha"]}, (1, 3)),
    "two samples": ((5, 7, 2), {"planarconfig": "contig"}, (1, 2)),
    "pages": ((4, 5, 7), {}, (4, 1)),
    "three pages": ((3, 5, 7), {}, (3, 1)),
    "colour pages": ((4, 5, 7, 3), {"photometric": "rgb"}, (4, 3)),
    "imagej slices": ((4, 5, 7), {"imagej": True, "metadata": {"axes": "ZYX"}}, (4, 1)),
    "imagej channels": ((2, 5, 7), {"imagej": True, "metadata": {"axes": "CYX"}}, (1, 2)),
    "imagej hyperstack": ((2, 3, 2, 5, 7), {"imagej": True, "metadata": {"axes": "TZCYX"}}, (6, 2)),
    "ome": ((2, 3, 5, 7), {"ome": True, "metadata": {"axes": "CZYX"}}, (3, 2)),
    "ome lzw": ((2, 3, 5, 7), {"ome": True, "metadata": {"axes": "CZYX"}, "compression": "lzw"}, (3, 2)),
}

H, W = 5, 7


def image(path: Path, planes: int = 1, **options: object) -> Path:
    shape = (H, W) if planes == 1 else (planes, H, W)
    tifffile.imwrite(path, np.zeros(shape, np.uint8), **{"photometric": "minisblack", **options})
    return path


def labels(value: int = 1) -> np.ndarray:
    array = np.zeros((H, W), int)
    array[1, 2] = value
    return array


def save_dicom(path: Path, rows_first: np.ndarray) -> None:
    """A minimal secondary capture with a single frame."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    data = pydicom.dataset.FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.Modality, data.PatientName = "OT", "Nobody^Known"
    data.Rows, data.Columns = rows_first.shape
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated = data.BitsStored = 8 * rows_first.itemsize
    data.HighBit = data.BitsStored - 1
    data.PixelSpacing = [0.3, 0.2]
    data.PixelData = rows_first.tobytes() + b"\0" * (rows_first.nbytes % 2)
    data.save_as(path, enforce_file_format=True)
