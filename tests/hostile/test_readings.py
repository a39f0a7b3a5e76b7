"""Pictures are read as every viewer shows them; numbers that cannot be computed with are no empty results."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.hostile.checks import table
from tests.hostile.program import Outcome, Program
from tests.hostile.samples import cells

IMAGE = cells(3)[0][:80]  # 80 rows, 96 columns


def turned(orientation: int, undo: Image.Transpose) -> Image.Image:
    """Store the picture so that a viewer that knows EXIF shows it upright."""
    picture = Image.fromarray(IMAGE).transpose(undo)
    exif = Image.Exif()
    exif[274] = orientation
    picture.info["exif"] = exif.tobytes()
    return picture


def palette() -> Image.Image:
    """Grey values through a palette in reversed order."""
    picture = Image.fromarray(255 - IMAGE)
    indexed = Image.frombytes("P", picture.size, picture.tobytes())
    indexed.putpalette([255 - k // 3 for k in range(768)])
    return indexed


def write_all(folder: Path) -> None:
    """Write the same picture in many ways, all of which viewers show alike."""
    folder.mkdir()
    Image.fromarray(IMAGE).save(folder / "reference.png")
    turns = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    for number, undo in turns.items():
        picture = turned(number, undo)
        picture.save(folder / f"exif{number}.jpg", quality=100, exif=picture.info["exif"])
        picture.save(folder / f"exif{number}png.png", exif=picture.info["exif"])
    palette().save(folder / "palette.png")
    palette().save(folder / "palette_tiff.tif")
    tifffile.imwrite(folder / "miniswhite.tif", 255 - IMAGE, photometric="miniswhite", metadata=None)
    tifffile.imwrite(folder / "bigendian.tif", IMAGE.astype(">u2") * 100, byteorder=">", photometric="minisblack")
    tifffile.imwrite(folder / "offset32.tif", IMAGE.astype(np.uint32) + 2_000_000_000, photometric="minisblack")
    tifffile.imwrite(folder / "offset32signed.tif", IMAGE.astype(np.int32) - 2_000_000_000, photometric="minisblack")
    tifffile.imwrite(folder / "float64.tif", IMAGE.astype(np.float64) * 1e-3 + 1e6, photometric="minisblack")
    Image.fromarray(IMAGE).save(folder / "grey.bmp")


NAMES = (
    *("exif3.jpg", "exif6.jpg", "exif8.jpg", "exif3png.png", "exif6png.png", "exif8png.png"),
    *("palette.png", "palette_tiff.tif", "miniswhite.tif", "bigendian.tif", "offset32.tif", "offset32signed.tif"),
    *("float64.tif", "grey.bmp"),
)


@pytest.fixture(scope="module")
def shown(program: Program, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Path]:
    folder = tmp_path_factory.mktemp("readings")
    write_all(folder / "images")
    words = ("--output", folder / "out", "--weights", weights, "--device=cpu")
    return program.run("bundle", "segment", folder / "images", *words), folder / "out"


@pytest.mark.parametrize("name", NAMES)
def test_the_result_lies_on_the_picture_as_shown(shown, name):
    outcome, out = shown
    path = out / "probabilities" / f"{Path(name).stem}.tif"
    assert path.exists(), str(outcome)
    found, reference = tifffile.imread(path), tifffile.imread(out / "probabilities" / "reference.tif")
    assert found.shape == reference.shape
    if "jpg" in name:
        assert np.corrcoef(found[1].ravel(), reference[1].ravel())[0, 1] > 0.95
    else:
        assert np.abs(found - reference).max() < 0.02


def segment(program: Program, source: Path, out: Path, weights: Path, *options: str) -> Outcome:
    return program.run("bundle", "segment", source, "--output", out, "--weights", weights, "--device=cpu", *options)


@pytest.mark.parametrize("value", [0, 7, 255])
def test_a_constant_image_has_no_object_and_a_warning(program: Program, weights, tmp_path, value):
    Image.fromarray(np.full((90, 90), value, np.uint8)).save(tmp_path / "flat.png")
    outcome = segment(program, tmp_path / "flat.png", tmp_path / "out", weights)
    assert outcome.code == 0, str(outcome)
    assert not table(tmp_path / "out" / "objects.csv")
    assert any("flat.png" in line and "warn" in line.lower() for line in outcome.text.splitlines()), str(outcome)


def test_time_stays_time(program: Program, weights, tmp_path):
    stack = np.stack([cells(k)[0] for k in range(3)])
    metadata = {"axes": "TYX", "finterval": 2.5, "unit": "um"}
    tifffile.imwrite(tmp_path / "time.tif", stack, imagej=True, metadata=metadata)
    outcome = segment(program, tmp_path / "time.tif", tmp_path / "out", weights)
    assert outcome.code == 0, str(outcome)
    for kind in ("classes", "instances"):
        with tifffile.TiffFile(tmp_path / "out" / kind / "time.tif") as file:
            assert file.series[0].axes == "TYX"
            known = file.imagej_metadata or {}
            assert known.get("finterval") == 2.5 or "2.5" in (file.ome_metadata or "") + str(file.shaped_metadata)


def test_a_second_series_is_named_once(program: Program, weights, tmp_path):
    with tifffile.TiffWriter(tmp_path / "two.ome.tif", ome=True) as writer:
        writer.write(cells(1, 40, 2)[0], metadata={"axes": "YX", "Name": "label"}, photometric="minisblack")
        writer.write(cells(2)[0], metadata={"axes": "YX", "Name": "whole"}, photometric="minisblack")
    outcome = segment(program, tmp_path / "two.ome.tif", tmp_path / "out", weights)
    assert outcome.code == 0, str(outcome)
    found = next((tmp_path / "out" / "classes").iterdir())
    assert tifffile.imread(found).shape[-2:] == (96, 96)
    assert len([line for line in outcome.text.splitlines() if "2 series" in line]) == 1


def test_a_stack_written_as_rgb_leads_to_its_axes(program: Program, weights, tmp_path):
    tifffile.imwrite(tmp_path / "four.tif", np.stack([cells(k)[0] for k in range(4)]), photometric="rgb")
    outcome = segment(program, tmp_path / "four.tif", tmp_path / "out", weights)
    if outcome.code == 0:  # read as the stack that it is
        assert tifffile.imread(tmp_path / "out" / "classes" / "four.tif").shape == (4, 96, 96)
    else:
        assert "tiff_axes" in outcome.text, str(outcome)


def test_files_of_unknown_kind_are_counted_in_one_line(program: Program, weights, tmp_path):
    for k in range(5):
        (tmp_path / f"sheet{k}.xlsx").write_bytes(b"PK")
    Image.fromarray(IMAGE).save(tmp_path / "image.png")
    outcome = segment(program, tmp_path, tmp_path / "out", weights)
    assert outcome.code == 0, str(outcome)
    lines = [line for line in outcome.text.splitlines() if ".xlsx" in line]
    assert len(lines) == 1, str(outcome)
    assert re.search(r"\b5\b", lines[0])
