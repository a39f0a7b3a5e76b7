"""Odd zip files are refused with the reason and the remedy. Nothing is written outside of the work folder."""

from __future__ import annotations

import shutil
import struct
import zipfile
from pathlib import Path

import pytest

from bundle.datasets.download import bring
from bundle.running.errors import RunError

LOCAL, CENTRAL = b"PK\x03\x04", b"PK\x01\x02"  # headers of a member


def change_headers(path: Path, local: int, central: int, value: int) -> None:
    """Write a number of 16 bits into both headers of the only member, at the given offsets."""
    content = bytearray(path.read_bytes())
    for header, offset in ((LOCAL, local), (CENTRAL, central)):
        struct.pack_into("<H", content, content.find(header) + offset, value)
    path.write_bytes(content)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A zip file with one member."""
    path = tmp_path / "data.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as content:
        content.writestr("set/a.txt", "a" * 5000)
    return path


def refusal(archive: Path, work: Path) -> str:
    """Get the message with which a zip file is refused."""
    work.mkdir()
    with pytest.raises(RunError) as raised:
        bring(str(archive), [], work)
    assert str(archive) in str(raised.value)
    return str(raised.value)


def test_a_plain_zip_file_is_unpacked(archive, tmp_path):
    (tmp_path / "work").mkdir()
    assert (bring(str(archive), [], tmp_path / "work") / "set" / "a.txt").read_text() == "a" * 5000


def test_names_with_a_colon_are_unpacked(tmp_path):
    (tmp_path / "work").mkdir()
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as content:
        content.writestr("10:30/a.txt", "x")
    assert [path.read_text() for path in bring(str(tmp_path / "data.zip"), [], tmp_path / "work").rglob("a.txt")] == [
        "x"
    ]


@pytest.mark.parametrize("name", ["../out.txt", "/elsewhere/out.txt", "a/../../out.txt", "C:\\out.txt", "..\\out.txt"])
def test_a_member_outside_of_the_folder_is_refused(name, tmp_path):
    archive = tmp_path / "data.zip"
    with zipfile.ZipFile(archive, "w") as content:
        content.writestr(zipfile.ZipInfo(name), "x")
    assert "outside" in refusal(archive, tmp_path / "work")
    assert not list(tmp_path.rglob("out.txt"))


def test_an_encrypted_file_is_refused(archive, tmp_path):
    change_headers(archive, 6, 8, 1)
    assert "encrypted" in refusal(archive, tmp_path / "work")


def test_an_unknown_compression_is_refused(archive, tmp_path):
    change_headers(archive, 8, 10, 97)
    assert "--source" in refusal(archive, tmp_path / "work")


@pytest.mark.parametrize("kept", [0, 10, 60])
def test_a_file_that_is_cut_off_is_refused(kept, archive, tmp_path):
    archive.write_bytes(archive.read_bytes()[:kept])
    assert "Download it again" in refusal(archive, tmp_path / "work")


def test_a_file_that_is_damaged_inside_is_refused(archive, tmp_path):
    content = bytearray(archive.read_bytes())
    content[41:46] = bytes(5)
    archive.write_bytes(content)
    assert "damaged" in refusal(archive, tmp_path / "work")


def test_a_file_larger_than_the_disk_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    archive = tmp_path / "data.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as content:
        content.writestr("zeros", bytes(10**7))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**6))
    assert "TMPDIR" in refusal(archive, tmp_path / "work")
    assert not list((tmp_path / "work").rglob("zeros"))
