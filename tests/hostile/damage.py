"""Write an image in all formats, and damage the files."""

from __future__ import annotations

import gzip
import io
import random
import re
import struct
import zlib

import numpy as np
import tifffile
from PIL import Image

CHECKED = (".png", "_deflate.tif", ".nii.gz", "_zlib.mha", "_gzip.nrrd")  # formats with checksums


def whole_files(image: np.ndarray) -> dict[str, bytes]:
    """Encode an image.

    Args:
        image: (H, W) uint8.

    Returns:
        ending of a file name -> content of the file.
    """
    return {
        ".png": _by_pillow(image, "PNG"),
        ".bmp": _by_pillow(image, "BMP"),
        ".jpg": _by_pillow(image, "JPEG"),
        ".tif": _tiff(image, None),
        "_deflate.tif": _tiff(image, "zlib"),
        ".nii": _nifti(image),
        ".nii.gz": gzip.compress(_nifti(image)),
        ".mha": _metaimage(image, packed=False),
        "_zlib.mha": _metaimage(image, packed=True),
        ".nrrd": _nrrd(image, packed=False),
        "_gzip.nrrd": _nrrd(image, packed=True),
        ".dcm": _dicom(image),
    }


def kind_of(ending: str) -> str:
    """Name a format, for file names without equal stems: `nii_gz`."""
    return ending.strip("._").replace(".", "_")


def _by_pillow(image: np.ndarray, kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind)
    return file.getvalue()


def _tiff(image: np.ndarray, compression: str | None) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, image, compression=compression, photometric="minisblack", metadata=None)
    return file.getvalue()


def _nifti(image: np.ndarray) -> bytes:
    import nibabel

    return nibabel.Nifti1Image(image.T, np.eye(4)).to_bytes()


def _metaimage(image: np.ndarray, packed: bool) -> bytes:
    data = zlib.compress(image.tobytes()) if packed else image.tobytes()
    head = f"ObjectType = Image\nNDims = 2\nBinaryData = True\nDimSize = {image.shape[1]} {image.shape[0]}\n"
    head += f"CompressedData = True\nCompressedDataSize = {len(data)}\n" if packed else "CompressedData = False\n"
    return f"{head}ElementType = MET_UCHAR\nElementDataFile = LOCAL\n".encode() + data


def _nrrd(image: np.ndarray, packed: bool) -> bytes:
    data = gzip.compress(image.tobytes()) if packed else image.tobytes()
    head = f"NRRD0004\ntype: uchar\ndimension: 2\nsizes: {image.shape[1]} {image.shape[0]}\n"
    return f"{head}encoding: {'gzip' if packed else 'raw'}\n\n".encode() + data


def _dicom(image: np.ndarray) -> bytes:
    import pydicom
    from pydicom.dataset import FileMetaDataset

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid(entropy_srcs=["hostile"])
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data = pydicom.Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.Rows, data.Columns = image.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    data.PixelData = image.tobytes()
    file = io.BytesIO()
    pydicom.dcmwrite(file, data, enforce_file_format=True)
    return file.getvalue()


def cut(content: bytes, rng: random.Random) -> bytes:
    """Leave the first part, at most 9 tenths."""
    return content[: rng.randint(1, len(content) * 9 // 10)]


def flipped(content: bytes, rng: random.Random) -> bytes:
    """Turn a bit in the second half, where all formats have pixels."""
    place = rng.randint(len(content) // 2, len(content) - 20)
    return content[:place] + bytes([content[place] ^ 1 << rng.randint(0, 7)]) + content[place + 1 :]


def lying(ending: str, content: bytes, size: int) -> bytes:
    """Declare another height and width in the header. The pixels stay.

    Args:
        ending: of `whole_files`.
        content: a whole file of 96 x 96 pixels.
        size: declared height and width.
    """
    old = struct.pack("<H", 96)
    match ending:
        case ".png":
            head = b"IHDR" + struct.pack(">II", size, size) + content[24:29]
            return content[:12] + head + struct.pack(">I", zlib.crc32(head)) + content[33:]
        case ".bmp":
            return content[:18] + struct.pack("<ii", size, size) + content[26:]
        case ".jpg":
            place = content.index(b"\xff\xc0") + 5
            return content[:place] + struct.pack(">HH", *2 * [min(size, 65000)]) + content[place + 4 :]
        case ".tif" | "_deflate.tif":
            for tag in (256, 257):  # width and height, SHORT or LONG
                place = re.search(re.escape(struct.pack("<H", tag)) + rb"[\x03\x04]\x00\x01\x00\x00\x00", content)
                assert place
                entry = struct.pack("<HHII", tag, 4, 1, size)
                content = content[: place.start()] + entry + content[place.start() + 12 :]
            return content
        case ".nii":
            return content[:42] + struct.pack("<hh", *2 * [min(size, 32000)]) + content[46:]
        case ".nii.gz":
            return gzip.compress(lying(".nii", gzip.decompress(content), size))
        case ".dcm":
            for tag in (b"\x28\x00\x10\x00US\x02\x00", b"\x28\x00\x11\x00US\x02\x00"):
                assert tag + old in content
                content = content.replace(tag + old, tag + struct.pack("<H", min(size, 65000)))
            return content
    return content.replace(b"96 96", f"{size} {size}".encode())


def damaged_files(image: np.ndarray, seed: int = 0) -> dict[str, tuple[bytes, bool]]:
    """Damage files of all formats, always in the same way for a seed.

    Returns:
        100 names -> content; whether the damage can be seen by a careful reader. A turned bit of a pixel, without a
        checksum, cannot.
    """
    rng = random.Random(seed)
    whole = whole_files(image)
    files: dict[str, tuple[bytes, bool]] = {}
    for ending, content in whole.items():
        kind = kind_of(ending)
        for k in range(3):
            files[f"cut{k}_{kind}{ending}"] = cut(content, rng), True
        for k in range(2):
            files[f"flipped{k}_{kind}{ending}"] = flipped(content, rng), ending in CHECKED
        for size in (97, 3_000):
            files[f"declares_{size}_{kind}{ending}"] = lying(ending, content, size), True
        files[f"empty_{kind}{ending}"] = b"", True
    files["text.png"] = b"no image\n" * 50, True
    files["random.tif"] = rng.randbytes(5000), True
    files["zip_is.mha"] = b"PK\x03\x04" + rng.randbytes(500), True
    files["png_is_cut_before_pixels.png"] = whole[".png"][:40], True
    return files
