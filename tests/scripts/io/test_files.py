"""Tables and reports on disk."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts.io.files import (
    FolderError,
    SameFileError,
    concerns_all_files,
    identities,
    read_csv,
    refuse_overwriting,
    remove_leftovers,
    temporary_path,
    write_csv,
    write_json,
)

ROOT = Path(__file__).resolve().parents[3]


def test_tables_come_back_as_they_were_written(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", [{"a": 1, "b": 'quo"ted, text'}, {"a": None, "c": 2.5}])
    assert (tmp_path / "t.csv").read_text() == 'a,b,c\n1,"quo""ted, text",\n,,2.5\n'
    assert read_csv(tmp_path / "t.csv")[0] == {"a": "1", "b": 'quo"ted, text', "c": ""}


def test_nan_becomes_null_in_json(tmp_path: Path) -> None:
    write_json(tmp_path / "t.json", {"a": [float("nan"), 1.5], "b": {"c": (float("nan"),)}})
    assert json.loads((tmp_path / "t.json").read_text()) == {"a": [None, 1.5], "b": {"c": [None]}}


# Temporary files


def test_temporary_files_of_dead_processes_are_removed_and_no_others(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    leftovers = [
        f".tmp-{dead.pid}-cells.tif",
        temporary_path(tmp_path / "a.png").name.replace(f"{os.getpid()}", f"{dead.pid}"),
    ]
    others = [f".tmp-{os.getpid()}-cells.tif", ".tmp-1-0123abcd-other-machine.tif", ".tmp-notes.txt", "cells.tif"]
    for name in (*leftovers, *others):
        (tmp_path / name).write_text("half")
    assert sorted(path.name for path in remove_leftovers(tmp_path)) == sorted(leftovers)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)
    os.utime(tmp_path / others[1], (0, 0))  # another machine's, of years ago
    assert [path.name for path in remove_leftovers(tmp_path)] == [others[1]]


def test_the_first_file_of_a_process_removes_the_leftovers_of_a_killed_process(tmp_path: Path) -> None:
    write = "import os, sys; from scripts.io.files import replacing\nwith replacing(sys.argv[1]) as t: "
    target = str(tmp_path / "table.csv")
    killed = subprocess.run([sys.executable, "-c", write + "t.touch(); os.kill(os.getpid(), 9)", target], cwd=ROOT)
    assert killed.returncode == -9
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".tmp-")
    write_csv(target, [{"a": 1}])
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


@pytest.mark.parametrize("name", ["n" * 251 + ".csv", "ü" * 125 + ".csv", "n." + "x" * 253])
def test_names_of_the_greatest_length_are_written(name: str, tmp_path: Path) -> None:
    write_csv(tmp_path / name, [{"a": 1}])
    assert read_csv(tmp_path / name) == [{"a": "1"}]


# What a table or a terminal may do


@pytest.mark.parametrize(
    "cell, written",
    [
        ("=1+1", "'=1+1"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-a", "'-a"),
        ("@SUM(1)", "'@SUM(1)"),
        ("a=b", "a=b"),
        ("-0.5", "-0.5"),
        (-0.5, "-0.5"),
        ("\t=1", r"\t=1"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\udcff.png", r"a\xff.png"),
        ("a\u202egnp.png", r"a\u202egnp.png"),
        ("zellen ü 細胞.png", "zellen ü 細胞.png"),
    ],
)
def test_text_in_tables_is_neither_formula_nor_control_characters(cell: Any, written: str, tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", [{"image": cell}])
    assert read_csv(tmp_path / "t.csv") == [{"image": written}]


def test_a_full_disk_concerns_all_files_and_a_missing_file_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FolderError) as not_a_folder:
        temporary_path(tmp_path / "file" / "a.png")
    assert concerns_all_files(not_a_folder.value)
    assert concerns_all_files(OSError(errno.ENOSPC, "No space left on device"))
    assert not concerns_all_files(OSError(errno.ENAMETOOLONG, "File name too long"))
    assert not concerns_all_files(IsADirectoryError(errno.EISDIR, "Is a directory"))
    assert not concerns_all_files(ValueError("bad"))


# Results and their sources


@pytest.mark.parametrize("link", ["same", "symbolic", "hard", "folder"])
def test_a_result_that_is_its_source_is_refused_however_it_is_named(link: str, tmp_path: Path) -> None:
    source = tmp_path / "in" / "a.png"
    source.parent.mkdir()
    source.write_text("pixels")
    result = tmp_path / "out" / "a.png"
    if link == "folder":
        result.parent.symlink_to(source.parent)
    else:
        result.parent.mkdir()
    if link == "same":
        result = tmp_path / "out" / ".." / "in" / "a.png"
    if link == "symbolic":
        result.symlink_to(source)
    if link == "hard":
        result.hardlink_to(source)
    with pytest.raises(SameFileError, match=r"a\.png.*choose another"):
        refuse_overwriting([tmp_path / "new.png", result], identities(["absent.png", source]), "choose another")
    refuse_overwriting([tmp_path / "new.png", tmp_path / "out" / "b.png"], identities([source]), "choose another")
