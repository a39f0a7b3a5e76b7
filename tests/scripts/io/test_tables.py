"""Tables that grow row by row, with complete rows."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from scripts.io.files import read_csv
from scripts.io.tables import GrowingCSV

ROOT = Path(__file__).resolve().parents[3]


def test_rows_are_in_the_file_when_they_are_added_and_nothing_else_is_left(tmp_path: Path) -> None:
    table = GrowingCSV(tmp_path / "t.csv")
    for k in range(5):
        table.add([{"image": f"{k}.png", "label": label} for label in range(3)])
        assert [row["image"] for row in read_csv(table.path)] == [f"{n}.png" for n in range(k + 1) for _ in range(3)]
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_later_columns_widen_the_table_and_a_table_without_rows_has_its_columns(tmp_path: Path) -> None:
    table = GrowingCSV(tmp_path / "t.csv")
    table.add([], ["image", "label"])
    assert table.path.read_text() == "image,label\n"
    table.add([{"image": "a", "label": 1}])
    table.add([{"image": "b", "label": 2, "area": 0.5}])
    table.add([{"image": "c", "area": 3}])
    assert table.path.read_text() == "image,label,area\na,1,\nb,2,0.5\nc,,3\n"


def test_an_earlier_table_stays_until_the_first_rows(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image\nearlier\n")
    table = GrowingCSV(tmp_path / "t.csv")
    assert table.path.read_text() == "image\nearlier\n"
    table.add([{"image": "a"}])
    assert table.path.read_text() == "image\na\n"


WRITE_FOR_EVER = """
import sys
from pathlib import Path
from scripts.io.tables import GrowingCSV
table, k = GrowingCSV(Path(sys.argv[1])), 0
while True:
    table.add([{"image": k, "row": row, "text": "x" * 90, "end": "end"} for row in range(100)])
    k += 1
"""


def test_a_process_killed_while_writing_costs_at_most_the_last_image(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    for k in range(2):
        writer = subprocess.Popen([sys.executable, "-c", WRITE_FOR_EVER, str(path)], cwd=ROOT)
        while not path.exists():
            time.sleep(0.01)
        time.sleep(0.1 * k)
        writer.kill()
        writer.wait()
        rows = read_csv(path)
        complete = rows[: len(rows) // 100 * 100]  # a kill in a write of several memory pages may cut the last image
        assert [row["end"] for row in complete] == ["end"] * len(complete)
        assert [int(row["row"]) for row in complete] == [*range(100)] * (len(complete) // 100)
        path.unlink()


def test_on_a_full_disk_the_table_keeps_its_rows_and_goes_on_when_there_is_space(small_disk: Path) -> None:
    table, written = GrowingCSV(small_disk / "t.csv"), 0
    (small_disk / "other").write_bytes(bytes(200_000))
    with suppress(OSError):
        while written < 1000:
            table.add([{"image": written, "text": "x" * 200} for _ in range(20)])
            written += 1
    assert 0 < written < 1000
    assert [row["image"] for row in read_csv(table.path)] == [str(k) for k in range(written) for _ in range(20)]
    (small_disk / "other").unlink()
    table.add([{"image": "last", "text": ""}])
    table.add([{"image": "very last", "text": ""}])
    rows = read_csv(table.path)
    assert len(rows) == 20 * written + 2
    assert [row["image"] for row in rows[-2:]] == ["last", "very last"]
    assert [path.name for path in small_disk.iterdir()] == ["t.csv"]
