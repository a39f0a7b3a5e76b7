"""Files that are no images, are gigantic, or name other files: each in a folder with a good image."""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.hostile.conftest import TINY
from tests.hostile.program import Program
from tests.hostile.samples import write_images, write_pairs

SECONDS = 90  # a whole run; opening a FIFO waits for ever


def fifo(folder: Path) -> None:
    os.mkfifo(folder / "bad.png")


def fifo_tiff(folder: Path) -> None:
    os.mkfifo(folder / "bad.tif")


def fifo_nifti(folder: Path) -> None:
    os.mkfifo(folder / "bad.nii.gz")


def device(folder: Path) -> None:
    (folder / "bad.png").symlink_to("/dev/zero")


def device_nrrd(folder: Path) -> None:
    (folder / "bad.nrrd").symlink_to("/dev/zero")


def link_to_nothing(folder: Path) -> None:
    (folder / "bad.tif").symlink_to(folder / "nothing.tif")


def link_to_itself(folder: Path) -> None:
    (folder / "bad.png").symlink_to(folder / "bad.png")


def png_of_100000(folder: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 100_000, 100_000, 1, 0, 0, 0, 0)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(12_501 * 1000)) for _ in range(100)) + packer.flush()
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    (folder / "bad.png").write_bytes(content)


def bmp_of_3000000(folder: Path) -> None:
    head = struct.pack("<IiiHHIIiiII", 40, 3_000_000, 2_000_000, 1, 24, 0, 0, 0, 0, 0, 0)
    (folder / "bad.bmp").write_bytes(b"BM" + struct.pack("<IHHI", 54 + 1000, 0, 0, 54) + head + bytes(1000))


def ome_of_100000000_planes(folder: Path) -> None:
    planes, path = np.zeros((2, 32, 32), np.uint8), folder / "bad.ome.tif"
    tifffile.imwrite(path, planes, ome=True, metadata={"axes": "ZYX"})
    with tifffile.TiffFile(path) as file:
        described = str(file.ome_metadata)
    assert 'SizeZ="2"' in described
    tifffile.imwrite(path, planes, metadata=None, description=described.replace('SizeZ="2"', 'SizeZ="100000000"'))


def gz_of_9_gb(folder: Path) -> None:
    head = bytearray(352)
    struct.pack_into("<i8h", head, 0, 348, 0, 0, 0, 0, 0, 0, 0, 0)
    struct.pack_into("<8h", head, 40, 3, 30_000, 30_000, 10, 1, 1, 1, 1)
    struct.pack_into("<hh", head, 70, 2, 8)
    struct.pack_into("<f", head, 108, 352.0)
    head[344:348] = b"n+1\0"
    part = gzip.compress(bytes(2**26))
    (folder / "bad.nii.gz").write_bytes(gzip.compress(bytes(head)) + part * (9 * 2**30 // 2**26))


def mha_of_10_gb(folder: Path) -> None:
    head = (
        "ObjectType = Image\nNDims = 3\nDimSize = 100000 1000 100\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
    )
    (folder / "bad.mha").write_bytes(head.encode() + bytes(1000))


def nrrd_of_10_gb(folder: Path) -> None:
    head = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 100000 1000 100\nencoding: gzip\n\n"
    (folder / "bad.nrrd").write_bytes(head.encode() + gzip.compress(bytes(1000)))


def tiff_of_2_gb(folder: Path) -> None:
    tifffile.imwrite(folder / "bad.tif", np.zeros((64, 64), np.uint8), compression="zlib", metadata=None)
    content = (folder / "bad.tif").read_bytes()
    for tag in (256, 257):
        old = next(
            content[k : k + 12]
            for kind in (3, 4)
            if (k := content.find(struct.pack("<HHI", tag, kind, 1))) >= 0
        )  # fmt: skip
        content = content.replace(old, struct.pack("<HHII", tag, 4, 1, 200_000))
    (folder / "bad.tif").write_bytes(content)


def nrrd_names_a_file_elsewhere(folder: Path) -> None:
    secret = folder.parent / "secret.raw"
    secret.write_bytes(bytes(range(256)) * 36)
    head = f"NRRD0004\ntype: uchar\ndimension: 2\nsizes: 96 96\nencoding: raw\ndata file: {secret}\n"
    (folder / "bad.nhdr").write_text(head)


def nrrd_names_the_folder_above(folder: Path) -> None:
    (folder.parent / "secret.raw").write_bytes(bytes(range(256)) * 36)
    head = "NRRD0004\ntype: uchar\ndimension: 2\nsizes: 96 96\nencoding: raw\ndata file: ../secret.raw\n"
    (folder / "bad.nrrd").write_text(head)


def mhd_names_a_file_elsewhere(folder: Path) -> None:
    (folder.parent / "secret.raw").write_bytes(bytes(range(256)) * 36)
    head = "ObjectType = Image\nNDims = 2\nDimSize = 96 96\nElementType = MET_UCHAR\nElementDataFile = ../secret.raw\n"
    (folder / "bad.mhd").write_text(head)


def tiff_with_65535_tags(folder: Path) -> None:
    (folder / "bad.tif").write_bytes(b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 65535) + b"\xff" * 4000)


def tiff_of_pages_in_a_circle(folder: Path) -> None:
    tifffile.imwrite(folder / "bad.tif", np.zeros((64, 64), np.uint8), metadata=None)
    content = bytearray((folder / "bad.tif").read_bytes())
    first = struct.unpack("<I", content[4:8])[0]
    number = struct.unpack("<H", content[first : first + 2])[0]
    content[first + 2 + 12 * number : first + 6 + 12 * number] = struct.pack("<I", first)
    (folder / "bad.tif").write_bytes(content)


KINDS = [value for value in list(globals().values()) if getattr(value, "__module__", "") == __name__]


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_a_special_file_is_named_and_the_others_are_segmented(program: Program, weights, tmp_path, make: Callable):
    images = write_images(tmp_path / "images", count=2)
    make(images)
    words = ("--output", tmp_path / "out", "--weights", weights, "--device=cpu")
    outcome = program.run("bundle", "segment", images, *words, timeout=SECONDS)
    assert outcome.code is not None, f"hangs: {outcome}"
    circle = make is tiff_of_pages_in_a_circle  # tifffile reads the page once
    assert outcome.code == 1 or (circle and outcome.code == 0), str(outcome)
    assert circle or "bad." in outcome.last, str(outcome)
    assert len(list((tmp_path / "out" / "classes").glob("0*.png"))) == 2, str(outcome)
    assert circle or not list((tmp_path / "out" / "classes").glob("bad*"))
    assert outcome.peak < 2 * 2**30


@pytest.mark.parametrize("which", ["image", "label", "list", "weights", "split", "single image", "data of a header"])
def test_a_fifo_anywhere_ends_with_its_name(program: Program, weights, tmp_path, which):
    data, out = write_pairs(tmp_path / "data", count=3, size=64), tmp_path / "out"
    words = ["train", data, "--output", out, *TINY, "--max_epochs=1", "--label_kind=instances"]
    segment = ["segment", data / "images", "--output", out, "--weights", weights]
    path = data / "bad.json"
    match which:
        case "image" | "label":
            path = data / f"{which}s" / "01.png"
            path.unlink()
        case "list":
            words[1] = path
        case "weights":
            words = [*segment[:-1], path := tmp_path / "bad.pt"]
        case "split":
            words.append(f"--split_file={path}")
        case "single image":
            words = ["segment", path := data / "bad.png", *segment[2:]]
        case "data of a header":
            head = "NRRD0004\ntype: uchar\ndimension: 2\nsizes: 96 96\nencoding: raw\ndata file: bad.raw\n"
            (data / "images" / "bad.nrrd").write_text(head)
            path, words = data / "images" / "bad.raw", segment
    os.mkfifo(path)
    outcome = program.run("bundle", *words, timeout=SECONDS)
    assert outcome.code in (1, 2), str(outcome)
    assert path.stem in outcome.last, str(outcome)
