"""Names of images with control characters, formulas, other encodings, or as long as the file system allows."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.hostile.checks import broken_files, leftovers, table
from tests.hostile.conftest import TINY
from tests.hostile.program import Outcome, Program
from tests.hostile.samples import cells, write_pairs

NAMES: dict[str, bytes] = {
    "equals": b"=cmd|' !A0.png",
    "plus": b"+1+2.png",
    "minus": b"-2+3.png",
    "at": b"@SUM(A1).png",
    "escape": b"a\x1b[2J\x1b]0;title\x07.png",
    "bell": b"bell\x07.png",
    "line_end": b"two\nlines.png",
    "return": b"re\rturn.png",
    "tab": b"ta\tb.png",
    "delete": b"\x7f.png",
    "right_to_left": "a\u202egnp.png".encode(),
    "long": b"l" * 251 + b".png",
    "long_stack": b"s" * 251 + b".tif",
    "long_umlauts": "ü".encode() * 125 + b".png",
    "not_utf8": b"\xff\xfe\xe4.png",
    "quotes": b"a\"b',c;d.png",
    "comment": b"a#b#page=2.png",
    "percent": b"%s%d{0}.png",
    "dollar": b"$HOME`id`.png",
    "null_word": b"null.png",
    "spaces": b" two  spaces .png",
    "umlauts": "zellkörner.png".encode(),
    "japanese": "細胞.png".encode(),
}
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202e]")


@pytest.fixture(scope="module")
def named(program: Program, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Path]:
    """A run over all names, each an image of its own."""
    folder = tmp_path_factory.mktemp("names")
    (folder / "images").mkdir()
    for k, name in enumerate(NAMES.values()):
        write(os.fsencode(folder / "images") + b"/" + name, k)
    words = ("--output", folder / "out", "--weights", weights, "--device=cpu")
    return program.run("bundle", "segment", folder / "images", *words), folder / "out"


def write(path: bytes, seed: int) -> None:
    """Write an image; a stack of two if the name ends with .tif."""
    content = io.BytesIO()
    if path.endswith(b".tif"):
        tifffile.imwrite(content, np.stack([cells(seed)[0]] * 2), photometric="minisblack")
    else:
        Image.fromarray(cells(seed)[0]).save(content, "PNG")
    with open(path, "wb") as file:
        file.write(content.getvalue())


@pytest.mark.parametrize("kind", NAMES)
def test_every_name_gets_results_or_is_named(named, kind):
    outcome, out = named
    stem = os.fsdecode(NAMES[kind]).rpartition(".")[0]
    assert outcome.code is not None, str(outcome)
    found = [path for path in (out / "classes").glob("*") if path.name.startswith(stem[:200])]
    if found:
        return
    visible = re.sub(r"[^a-z0-9]", "", stem.lower())[:60]
    failed = [
        line for line in outcome.err.splitlines() if visible and visible in re.sub(r"[^a-z0-9]", "", line.lower())
    ]
    assert outcome.code == 1, str(outcome)
    assert failed, str(outcome)


def test_only_impossible_names_fail(named):
    outcome, out = named
    results = len(list((out / "classes").glob("*")))
    assert results >= len(NAMES) - 2, str(outcome)  # room for names that no file system can take with another ending


def test_no_control_character_reaches_the_terminal(named):
    found = CONTROL.findall(named[0].text)
    assert not found, found


def test_no_control_character_and_no_formula_reaches_the_table(named):
    outcome, out = named
    text = (out / "objects.csv").read_bytes().decode()
    assert not CONTROL.findall(text), str(outcome)
    rows = table(out / "objects.csv")
    assert rows
    assert not [row["image"] for row in rows if row["image"][:1] in "=+-@\t\r"]


def test_all_results_are_whole(named):
    assert not broken_files(named[1])
    assert not leftovers(named[1])


@pytest.mark.parametrize("kind", ["escape", "equals", "line_end", "not_utf8", "long"])
def test_a_training_takes_or_names_them(program: Program, tmp_path, kind):
    data = write_pairs(tmp_path / "data", count=2, size=64)
    image, labels = cells(5, 64)
    for folder, pixels in (("images", image), ("labels", labels)):
        with open(os.fsencode(data / folder) + b"/" + NAMES[kind], "wb") as file:
            Image.fromarray(pixels).save(file, "PNG")
    out = tmp_path / "out"
    outcome = program.run("bundle", "train", data, "--output", out, *TINY, "--max_epochs=1", "--label_kind=instances")
    assert outcome.code in (0, 1), str(outcome)
    assert not CONTROL.findall(outcome.text)
    assert "Traceback" not in outcome.text, str(outcome)
    assert not broken_files(out)
    assert outcome.code == 1 or (out / "model.pt").exists()


@pytest.mark.parametrize("kind", ["escape", "line_end", "not_utf8"])
def test_a_damaged_image_with_such_a_name_is_named_without_control_characters(program, weights, tmp_path, kind):
    (tmp_path / "images").mkdir()
    with open(os.fsencode(tmp_path / "images") + b"/" + NAMES[kind], "wb") as file:
        file.write(b"no image")
    words = ("--output", tmp_path / "out", "--weights", weights)
    outcome = program.run("bundle", "segment", tmp_path / "images", *words)
    assert outcome.code in (1, 2), str(outcome)
    assert not CONTROL.findall(outcome.text), str(outcome)
    assert "Traceback" not in outcome.text, str(outcome)
