"""`python -m bundle`: the list of commands, unknown names, help, no work before all words are understood."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bundle.__main__ import COMMANDS, main
from bundle.running.program import WORKFLOWS


def test_alone_it_lists_every_command_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, (_, summary) in COMMANDS.items():
        assert f"  {name:<11}{summary}" in lines
        assert len(summary) < 70


@pytest.mark.parametrize(
    "words",
    [
        "",
        "segmnt images",
        "train --help",
        "segment --help",
        *(f"{name} --help" for name in sorted(COMMANDS.keys() - WORKFLOWS.keys())),
        "export",
        "pack --waits em",
        "plan",
        "train . --max_minuts 3",
        "train . --batch_size 0",
        "segment . --tresh 3",
        "evaluate . --out_put x",
        "preview . --tresh 3",
        "plan . --label_knd x",
        "doctor . --label_kind x",
        "run --config_file configs/train.yaml --max_minuts 3",
        "run training --config_file configs/train.yml",
        *(
            f"{name} no/folder"
            for name in ("train", "evaluate", "segment", "rank", "plan", "doctor", "preview", "report")
        ),
    ],
)
def test_help_and_refusals_load_neither_torch_nor_monai(words: str, bundle_root: Path) -> None:
    """Both take seconds to import."""
    code = (
        f"import sys; from bundle.__main__ import main; code = main({words.split()}); assert code in (0, 2), code; "
        "heavy = {'torch', 'monai', 'numpy', 'scipy'} & set(sys.modules); assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=bundle_root, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "words, found",
    [
        ("train . --split_file no.json", "no.json"),
        ("evaluate . --split_file no.json", "no.json"),
        ("run training --config_file configs/train.yaml --split_file no.json", "no.json"),
        ("segment . --backend no.onnx", "no.onnx"),
        ("train . --resume true --output TMP", "training_state.pt"),
        ("segment README.md --output TMP/notes.zarr", "notes.zarr exists"),
        ("segment README.md --output TMP/notes.zarr --overwrite true", "notes.zarr is no result"),
        ("segment README.md --output TMP/half.zarr", "half.zarr.part"),
        ("rank . --output TMP/notes.csv", "notes.csv"),
        ("report TMP --output TMP/notes.html", "notes.html"),
        ("preview . --output TMP/notes.html", "notes.html"),
    ],
)
def test_missing_files_and_outputs_that_must_stay_are_refused_at_once(
    words: str, found: str, bundle_root: Path, tmp_path: Path
) -> None:
    """Without torch and MONAI, and without a change of the files."""
    for folder in ("notes.zarr", "half.zarr.part"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.txt").write_text("mine")
    for name in ("notes.csv", "notes.html"):
        (tmp_path / name).write_text("day,note\n")
    before = {path: path.is_file() and path.read_text() for path in tmp_path.rglob("*")}
    code = (
        f"import sys; from bundle.__main__ import main; code = main({words.replace('TMP', str(tmp_path)).split()}); "
        "heavy = {'torch', 'monai', 'numpy', 'scipy'} & set(sys.modules); assert not heavy, heavy; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=bundle_root, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert found in done.stderr
    assert {path: path.is_file() and path.read_text() for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("name", COMMANDS)
def test_the_line_of_a_command_is_the_first_line_of_its_help(name: str) -> None:
    assert main.command(name).__doc__.splitlines()[0] == COMMANDS[name][1]


def test_help_names_the_arguments_and_nothing_of_the_program_inside(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", "--help"]) == 0
    shown = "".join(capsys.readouterr())
    assert "sample FOLDER" in shown
    assert "--seed" in shown
    assert "GROUP" not in shown


@pytest.mark.parametrize("given, near", [("sampel", "sample"), ("fech", "fetch"), ("runs", "run")])
def test_unknown_command_names_the_nearest_and_lists_all(
    given: str, near: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([given]) == 2
    shown = capsys.readouterr().err
    assert f"unknown command '{given}'; did you mean '{near}'?" in shown
    assert all(name in shown for name in COMMANDS)


@pytest.mark.parametrize(
    "name, words",
    [
        ("sample", ["--size", "--train", "--seed"]),
        ("fetch", ["isbi2012", "--source"]),
        ("run", ["--config_file", "--trace", "Additional flags are accepted"]),
    ],
)
def test_help_shows_the_arguments(name: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    captured = capsys.readouterr()
    assert all(word in captured.out + captured.err for word in words)


@pytest.mark.parametrize("extra", [["--sized", "100"], ["stray", "word", "and", "another", "one", "more", "left"]])
def test_nothing_starts_before_all_words_are_understood(
    extra: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", str(tmp_path / "new"), *extra]) == 2
    assert "python -m bundle sample --help" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["bench", "--quick", "weight_map"],
        ["reproduce", "--quick", "em", "--experiment", "em"],
        ["verify", "--zoo", "no"],
    ],
)
def test_a_switch_takes_no_value(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert f"{words[1]} takes no value, got '{words[2]}'" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["pack", "--out"], ["bench", "step", "--output"], ["sample", "folder", "--size"]])
def test_an_option_without_its_value_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert words[-1] in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["sample", "folder", "--size", "64", "--size", "128"],
        ["run", "--max_epochs=1", "--max-epochs=2"],
        ["train", "folder", "--overlay", "a", "--overlay=b"],
    ],
)
def test_an_option_given_twice_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    option = words[-1].partition("=")[0] if "=" in words[-1] else words[-2]
    assert f"error: {option.replace('max-', 'max_')} is given more than once" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["1e3", "2024", "a#1", "007", "[x]"])
def test_names_of_folders_arrive_as_given(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sample", name, "--size", "64", "--train", "1", "--test", "0"]) == 0
    assert (tmp_path / name / "train").is_dir()


@pytest.mark.parametrize(
    "words, parts",
    [
        (["sample"], ["FOLDER", "sample data/sample"]),
        (["segment"], ["PATH", "segment my/images"]),
        (["plan"], ["DATASET", "plan my/data"]),
        (["doctor", "a", "b"], ["'b'"]),
        (["sample", "a", "--sized", "3"], ["'--sized'", "'--size'"]),
    ],
)
def test_a_missing_or_superfluous_argument_is_explained_in_two_lines(
    words: list[str], parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert all(part in first for part in parts)
    assert f"python -m bundle {words[0]} --help" in second


def test_as_a_program_it_ends_with_the_exit_code(bundle_root: Path) -> None:
    words = [sys.executable, "-m", "bundle", "sample", "ignored", "--size", "3"]
    done = subprocess.run(words, cwd=bundle_root, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == "error: --size is 3, expected a whole number of at least 64\n"
