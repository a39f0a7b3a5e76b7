"""Tables and reports on disk."""

from __future__ import annotations

import json
from pathlib import Path

from scripts.io.files import read_csv, write_csv, write_json


def test_tables_come_back_as_they_were_written(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", [{"a": 1, "b": 'quo"ted, text'}, {"a": None, "c": 2.5}])
    assert (tmp_path / "t.csv").read_text() == 'a,b,c\n1,"quo""ted, text",\n,,2.5\n'
    assert read_csv(tmp_path / "t.csv")[0] == {"a": "1", "b": 'quo"ted, text', "c": ""}


def test_nan_becomes_null_in_json(tmp_path: Path) -> None:
    write_json(tmp_path / "t.json", {"a": [float("nan"), 1.5], "b": {"c": (float("nan"),)}})
    assert json.loads((tmp_path / "t.json").read_text()) == {"a": [None, 1.5], "b": {"c": [None]}}
