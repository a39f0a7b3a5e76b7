"""Declared sizes are compared with file and memory, checksums are checked, and headers name only files beside."""

from __future__ import annotations

import gzip
import os
import resource
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import itk
import nibabel
import numpy as np
import pydicom
import pytest
import tifffile
from PIL import Image

from scripts.io import memory
from scripts.io.image_file import ImageFileError
from scripts.io.memory import available_memory
from scripts.io.reader import read_header
from tests.scripts.io.made import numbered, read, save_dicom

PIXELS = numbered(40, 50)
MHA = "NDims = 2\nBinaryData = True\nBinaryDataByteOrderMSB = False\nElementType = MET_UCHAR\n"
NRRD = "NRRD0004\ntype: uint8\ndimension: 2\n"


def mha(path: Path) -> None:
    path.write_bytes(f"{MHA}DimSize = 200000 200000\nElementDataFile = LOCAL\n".encode() + PIXELS.tobytes())


def packed_mha(path: Path) -> None:
    head = f"{MHA}DimSize = 200000 200000\nCompressedData = True\nElementDataFile = LOCAL\n"
    path.write_bytes(head.encode() + zlib.compress(PIXELS.tobytes()))


def nrrd(path: Path) -> None:
    path.write_bytes(f"{NRRD}sizes: 200000 200000\nencoding: raw\n\n".encode() + PIXELS.tobytes())


def packed_nrrd(path: Path) -> None:
    path.write_bytes(f"{NRRD}sizes: 200000 200000\nencoding: gzip\n\n".encode() + gzip.compress(PIXELS.tobytes()))


def nifti(path: Path) -> None:
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape((30000, 30000, 30))
    header["vox_offset"], header["magic"] = 352, b"n+1"
    content = header.binaryblock + bytes(4) + PIXELS.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def ome(path: Path) -> None:
    pixels = 'ID="P" DimensionOrder="XYZCT" Type="uint8" SizeX="50" SizeY="40" SizeZ="100000000" SizeC="1" SizeT="1"'
    text = f'<OME><Image ID="I"><Pixels {pixels}><TiffData/></Pixels></Image></OME>'
    tifffile.imwrite(path, PIXELS, description=text, metadata=None)


def shaped(path: Path) -> None:
    tifffile.imwrite(path, PIXELS, description='{"shape": [100000000, 40, 50]}', metadata=None)


def patched(**tags: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        tile = (64, 64) if "TileWidth" in tags else None
        tifffile.imwrite(path, PIXELS, metadata=None, compression="zlib", tile=tile)
        with tifffile.TiffFile(path, mode="r+") as tif:
            for name, value in tags.items():
                tif.pages.first.tags[name].overwrite(value)

    return write


def png(path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    size = chunk(b"IHDR", struct.pack(">IIBBBBB", 100000, 100000, 1, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + size + chunk(b"IDAT", zlib.compress(bytes(9999))) + chunk(b"IEND", b""))


def bmp(path: Path) -> None:
    Image.fromarray(PIXELS).save(path)
    content = bytearray(path.read_bytes())
    content[18:26] = struct.pack("<ii", 3_000_000, 2_000_000)
    path.write_bytes(content)


def dicom(path: Path) -> None:
    save_dicom(path, PIXELS)
    dataset = pydicom.dcmread(path)
    dataset.Rows = 80
    dataset.save_as(path)


def jpeg(path: Path) -> None:
    Image.fromarray(np.full_like(PIXELS, 128)).save(path, progressive=True, optimize=True)
    content = path.read_bytes()
    place = content.index(b"\xff\xc2") + 5  # height and width
    path.write_bytes(content[:place] + struct.pack(">HH", 3000, 3000) + content[place + 4 :])


TOO_SMALL: dict[str, tuple[str, Callable[[Path], None]]] = {
    "a.mha": ("200,000 x 200,000", mha),
    "packed.mha": ("200,000 x 200,000", packed_mha),
    "a.nrrd": ("200,000 x 200,000", nrrd),
    "packed.nrrd": ("200,000 x 200,000", packed_nrrd),
    "a.nii": ("30,000 x 30,000 x 30", nifti),
    "a.nii.gz": ("30,000 x 30,000 x 30", nifti),
    "a.ome.tif": ("100,000,000", ome),
    "shaped.tif": ("100,000,000", shaped),
    "wide.tif": ("40 x 4,000,000", patched(ImageWidth=4_000_000)),
    "tile.tif": ("200,000 x 200,000", patched(TileWidth=200_000, TileLength=200_000)),
    "a.png": ("100,000 x 100,000", png),
    "a.bmp": ("3,000,000 x 2,000,000", bmp),
    "a.dcm": ("50 x 80", dicom),
    "a.jpg": ("3,000 x 3,000", jpeg),
}


@pytest.mark.parametrize("name", TOO_SMALL)
def test_a_size_that_the_file_cannot_hold_is_refused_without_memory_for_it(name: str, tmp_path: Path):
    size, write = TOO_SMALL[name]
    write(tmp_path / name)
    itk.MetaImageIO.New()  # load ITK before counting
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageFileError, match=size) as caught:
        read_header(tmp_path / name)
    assert name in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


def test_an_image_larger_than_the_free_memory_is_refused_with_both_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    Image.fromarray(np.zeros((3000, 4000), np.uint8)).save(tmp_path / "a.png")
    itk.imwrite(itk.image_from_array(np.zeros((3000, 4000), np.uint8)), str(tmp_path / "a.mha"), compression=True)
    nibabel.save(nibabel.Nifti1Image(np.zeros((4000, 3000), np.uint8), np.eye(4)), tmp_path / "a.nii.gz")
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3000, 4000), np.uint8), compression="zlib")
    for name in ("a.png", "a.mha", "a.nii.gz", "a.tif"):
        assert read(tmp_path / name).shape == (3000, 4000)
    monkeypatch.setattr("scripts.io.declared.available_memory", lambda: 5_000_000)
    for name in ("a.png", "a.mha", "a.nii.gz", "a.tif"):
        with pytest.raises(ImageFileError, match=r"24 MB .*5 MB") as caught:
            read(tmp_path / name)
        assert name in str(caught.value)


def test_the_limit_of_the_process_bounds_the_available_memory():
    limits = resource.getrlimit(resource.RLIMIT_AS)
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_AS, (2**40, limits[1]))
        wide = available_memory()
        with open("/proc/self/statm", encoding="ascii") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 10**8, limits[1]))
        os._exit(0 if available_memory() <= 10**8 < wide else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_of_one_colour_is_read(mode: str, progressive: bool, tmp_path: Path):
    Image.new(mode, (4000, 3000)).save(tmp_path / "a.jpg", progressive=progressive, optimize=True)
    assert read(tmp_path / "a.jpg").shape[:2] == (3000, 4000)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.mha", "a.nrrd", "a.png", "a.tif"])
def test_a_flipped_bit_in_compressed_pixels_is_an_error(name: str, tmp_path: Path):
    path, noise = tmp_path / name, np.random.default_rng(0).integers(0, 4, (150, 200)).astype(np.uint8) * 60
    if name.endswith(".nii.gz"):
        nibabel.save(nibabel.Nifti1Image(noise.T, np.eye(4)), path)
    elif path.suffix in (".mha", ".nrrd"):
        itk.imwrite(itk.image_from_array(noise), str(path), compression=True)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, noise, compression="zlib")
    else:
        Image.fromarray(noise).save(path)
    np.testing.assert_array_equal(read(path), noise)
    content, silent = path.read_bytes(), []
    for place in np.random.default_rng(1).integers(len(content) // 2, len(content) * 9 // 10, 20):
        damaged = bytearray(content)
        damaged[place] ^= 16
        path.write_bytes(damaged)
        try:
            same = np.array_equal(read(path), noise)
        except ImageFileError:
            continue
        silent += [] if same else [int(place)]
    assert silent == []


def test_compressed_bytes_after_the_pixels_are_bounded(tmp_path: Path):
    nibabel.save(nibabel.Nifti1Image(PIXELS.T, np.eye(4)), tmp_path / "a.nii")
    content = (tmp_path / "a.nii").read_bytes()
    for extra, refused in ((2**16, False), (2**26, True)):
        (tmp_path / "a.nii.gz").write_bytes(gzip.compress(content + bytes(extra), 1))
        if refused:
            with pytest.raises(ImageFileError, match="after the 2000 bytes"):
                read(tmp_path / "a.nii.gz")
        else:
            np.testing.assert_array_equal(read(tmp_path / "a.nii.gz"), PIXELS)


HEADERS = {
    "a.mhd": MHA + "DimSize = 50 40\nElementDataFile = {}\n",
    "list.mhd": MHA + "DimSize = 50 40\nElementDataFile = LIST\n{}\n",
    "a.mha": MHA + "DimSize = 50 40\nElementDataFile = {}\n",
    "a.nhdr": NRRD + "sizes: 50 40\nencoding: raw\ndata file: {}\n",
    "list.nhdr": NRRD + "sizes: 50 40\nencoding: raw\ndata file: LIST 2\n{}\n",
    "a.dcm": NRRD + "sizes: 50 40\nencoding: raw\ndatafile: {}\n",
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_may_name_only_regular_files_of_its_folder(name: str, tmp_path: Path):
    folder = tmp_path / "images"
    folder.mkdir()
    for place in (tmp_path, folder):
        (place / "pixels.raw").write_bytes(PIXELS.tobytes())
    os.mkfifo(folder / "pipe.raw")
    for wrong in (f"{tmp_path}/pixels.raw", "../pixels.raw", "images/../../pixels.raw", "pipe.raw", "absent.raw"):
        (folder / name).write_text(HEADERS[name].format(wrong))
        with pytest.raises(ImageFileError, match=name) as caught:
            read(folder / name)
        assert Path(wrong).name in str(caught.value)
    if name in ("a.mhd", "a.nhdr"):
        (folder / name).write_text(HEADERS[name].format("pixels.raw"))
        np.testing.assert_array_equal(read(folder / name), PIXELS)
        linked = tmp_path / "linked"  # header and pixels are links to one folder
        linked.mkdir()
        for file in (name, "pixels.raw"):
            (linked / file).symlink_to(folder / file)
        np.testing.assert_array_equal(read(linked / name), PIXELS)
        (linked / "pixels.raw").unlink()  # each file in a folder of its own, as git-annex and DVC keep files
        (linked / "pixels.raw").symlink_to(tmp_path / "pixels.raw")
        np.testing.assert_array_equal(read(linked / name), PIXELS)


def test_patterns_of_pixel_files_are_read(tmp_path: Path):
    for k in range(2):
        (tmp_path / f"t{k:02d}.raw").write_bytes((PIXELS + k).tobytes())
    head = MHA.replace("NDims = 2", "NDims = 3") + "DimSize = 50 40 2\nElementDataFile = t%02d.raw 0 1 1\n"
    (tmp_path / "a.mhd").write_text(head)
    np.testing.assert_array_equal(read(f"{tmp_path}/a.mhd#page=1"), PIXELS + 1)


def test_an_ome_file_may_name_only_files_of_its_folder(tmp_path: Path):
    folder = tmp_path / "images"
    folder.mkdir()
    tifffile.imwrite(tmp_path / "other.ome.tif", PIXELS)
    for name in (f"{tmp_path}/other.ome.tif", "../other.ome.tif"):
        pixels = 'ID="P" DimensionOrder="XYZCT" Type="uint8" SizeX="50" SizeY="40" SizeZ="1" SizeC="1" SizeT="1"'
        data = f'<TiffData IFD="0" PlaneCount="1"><UUID FileName="{name}">urn:uuid:1</UUID></TiffData>'
        text = f'<OME><Image ID="I"><Pixels {pixels}>{data}</Pixels></Image></OME>'
        tifffile.imwrite(folder / "a.ome.tif", PIXELS, description=text, metadata=None)
        with pytest.raises(ImageFileError, match=r"other\.ome\.tif"):
            read(folder / "a.ome.tif")
        own = text.replace("<OME>", '<OME UUID="urn:uuid:1">')  # written under that name, then moved
        tifffile.imwrite(folder / "a.ome.tif", PIXELS + 1, description=own, metadata=None)
        np.testing.assert_array_equal(read(folder / "a.ome.tif"), PIXELS + 1)


def test_the_description_of_old_versions_of_tifffile_is_read(tmp_path: Path):
    for text, fits in (("shape=(40, 50)", True), ("shape=(100000000, 40, 50)", False)):
        tifffile.imwrite(tmp_path / "a.tif", PIXELS, description=text, metadata=None)
        if fits:
            np.testing.assert_array_equal(read(tmp_path / "a.tif"), PIXELS)
        else:
            with pytest.raises(ImageFileError, match="100,000,000"):
                read(tmp_path / "a.tif")


def test_cached_files_of_a_container_count_as_free_memory(tmp_path: Path):
    for prefix in ("", "total_"):
        stat = f"anon 5\n{prefix}active_file 60\n{prefix}inactive_file 7\nactive_anon 1000\n"
        for name, content in (("limit", "100"), ("use", "90"), ("memory.stat", stat)):
            (tmp_path / name).write_text(content)
        assert list(memory._free(tmp_path, "limit", "use", prefix)) == [77]
