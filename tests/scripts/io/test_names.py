"""Addresses of planes, formats by their ending, names of results."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.io.names import ResultNames, image_name, image_suffix, plane_address, split_address
from scripts.io.writer import SegmentationStore


@pytest.mark.parametrize(
    "address, path, page",
    [
        ("a.tif", "a.tif", None),
        ("a.tif#page=0", "a.tif", 0),
        ("a/b c#2.tif#page=12", "a/b c#2.tif", 12),
        ("a#page=x.tif", "a#page=x.tif", None),
    ],
)
def test_an_address_is_a_path_and_perhaps_a_page(address: str, path: str, page: int | None):
    assert split_address(address) == (Path(path), page)
    if page is not None:
        assert plane_address(path, page) == address


@pytest.mark.parametrize(
    "address, name, suffix",
    [
        ("d/a.png", "a", ".png"),
        ("d/a.b.PNG", "a.b", ".png"),
        ("d/a.nii.gz#page=3", "a", ".nii.gz"),
        ("d/a.ome.tif", "a", ".ome.tif"),
        ("d/notes.txt", "notes.txt", ""),
    ],
)
def test_results_are_named_by_the_file_without_its_ending(address: str, name: str, suffix: str):
    assert image_name(address) == name
    assert image_suffix(split_address(address)[0]) == suffix


def test_dicom_is_known_by_its_first_bytes(tmp_path: Path):
    for name in ("IM0001", "1.2.840.10008.7"):
        (tmp_path / name).write_bytes(b"\0" * 128 + b"DICM")
        assert image_suffix(tmp_path / name) == ".dcm"
        assert image_name(tmp_path / name) == name
    (tmp_path / "IM0001").rename(tmp_path / "DICOMDIR")
    assert image_suffix(tmp_path / "DICOMDIR") == ""  # the table of contents of a folder, no image


def test_images_of_one_name_get_their_folder_as_prefix():
    names = ResultNames()
    addresses = ["01/t000.tif", "02/t000.tif", "01/t001.tif", "01/t000.tif", "02/t000.tif", "x/s.tif#page=3"]
    assert [names.of(address) for address in addresses] == ["t000", "02_t000", "t001", "t000", "02_t000", "s_0003"]
    assert names.of_file("x/s.tif#page=4") == "s"


def test_images_that_differ_only_in_the_ending_are_refused():
    names = ResultNames()
    names.of("in/a.png")
    with pytest.raises(ValueError, match=r"in/a\.png and in/a\.tif would both be named a; rename one"):
        names.of("in/a.tif")


@pytest.mark.parametrize(
    "name, classes, others",
    [("a.png", "a.png", "a.tif"), ("a.jpg", "a.png", "a.tif"), ("a.bmp", "a.png", "a.tif"), ("a.tif", "a.tif", "a.tif"),
     ("a.TIFF", "a.tif", "a.tif"), ("a.ome.tif", "a.tif", "a.tif"), ("a.nii", "a.nii", "a.nii"),
     ("a.nii.gz", "a.nii.gz", "a.nii.gz"), ("a.mha", "a.mha", "a.mha"), ("a.mhd", "a.mha", "a.mha"),
     ("a.nrrd", "a.nrrd", "a.nrrd"), ("a.nhdr", "a.nrrd", "a.nrrd"), ("a.dcm", "a.mha", "a.mha")],
)  # fmt: skip
def test_format_of_the_result_follows_the_image(name: str, classes: str, others: str):
    store = SegmentationStore("out")
    assert store.path_of("classes", f"in/{name}") == Path("out/classes") / classes
    assert store.path_of("instances", f"in/{name}#page=3") == Path("out/instances") / others
    assert store.path_of("probabilities", f"in/{name}") == Path("out/probabilities") / others


def test_a_plane_and_an_image_never_share_a_name():
    names = ResultNames(["in/s.tif#page=3", "in/s_0003.tif"])
    assert names.of("in/s_0003.tif") == "s_0003"
    assert names.of("in/s.tif#page=3") == "s.tif_0003"


def test_the_whole_list_decides_whatever_the_order_of_the_calls():
    listed = ["01/t000.tif", "02/t000.tif"]
    names = ResultNames(listed)
    assert [names.of(address) for address in reversed(listed)] == ["02_t000", "t000"]
    assert [names.in_table(address) for address in reversed(listed)] == ["02/t000.tif", "t000.tif"]
