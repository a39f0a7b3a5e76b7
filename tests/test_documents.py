"""The README and the pages of docs/: commands parse and run, links lead somewhere."""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import fire.parser
import numpy as np
import pytest
import tifffile
import tomllib
from PIL import Image

from bundle.__main__ import main
from bundle.datasets.sample import sample
from bundle.running.configuration import merge_files
from bundle.running.errors import UsageError
from bundle.running.overrides import check_overrides
from bundle.running.program import KEYS_OF, WORKFLOWS, Program
from bundle.running.run import RUN_ARGUMENTS, tracking_keys
from tests.documents import Command, anchors, commands
from tests.modules import run_modules

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
VIEWERS = ROOT / "docs" / "viewers.md"
FOR_ALL_SHELLS = [
    "README.md",
    "docs/viewers.md",
    "docs/train.md",
    "docs/segment.md",
    "docs/tracking.md",
    "docs/experiments.md",
]
BASES = {
    "train": ["train"],
    "evaluate": ["train", "evaluate"],
    "segment": ["inference"],
    "preview": ["train", "preview"],
}  # files in configs/
OF_USERS = ("my.yaml", "my/data/plan.yaml")  # files that a page leaves to the reader
TARGETS = re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
TINY = {
    "network_def#features": "[2,4,8,16,32]",
    "max_epochs": "1",
    "tiles_per_epoch": "3",
    "input_size": "188",
    "num_workers": "0",
}


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def all_commands() -> list[Any]:
    return [
        pytest.param(command, id=f"{page.name}: {command.line[:60]}")
        for page in PAGES
        for command in commands(read(page))
    ]


def understood(words: list[str]) -> tuple[list[Any], dict[str, Any]]:
    """Split the words after a command into positional arguments and options, read as by fire."""
    positional: list[Any] = []
    options: dict[str, Any] = {}
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        if not word.startswith("--"):
            positional.append(fire.parser.DefaultParseValue(word))
            continue
        name, equals, value = word[2:].partition("=")
        if not equals:
            value = "True" if not waiting or waiting[0].startswith("--") else waiting.pop(0)
        assert name not in options, f"--{name} is given twice"
        options[name] = fire.parser.DefaultParseValue(value)
    return positional, options


def listed(given: Any) -> list[str]:
    """Files or names in a value: a list, or text with commas."""
    return [str(name).strip() for name in (given.strip("[]").split(",") if isinstance(given, str) else given or [])]


def check_keys(files: list[str], keys: Mapping[str, Any], tracking: Any = None) -> None:
    """Refuse missing files and keys that the configurations do not have."""
    merged = merge_files("--config_file", [str(ROOT / name) for name in files])
    there = dict.fromkeys(keys.keys() & {"split_file", "backend"}, __file__)  # files of users must exist
    check_overrides({**tracking_keys(tracking), **merged}, {**keys, **there})


def check_own(program: Program, name: str, words: list[str]) -> None:
    """Check a command of this project: known, with known options, keys and overlays."""
    assert name in program.commands, name
    if words == ["--help"]:
        return
    function = program.command(name)
    positional, options = understood(words)
    bound = inspect.signature(function).bind(*positional, **options)  # TypeError for unknown options
    free = next((p.name for p in inspect.signature(function).parameters.values() if p.kind is p.VAR_KEYWORD), "")
    keys = dict(bound.arguments.pop(free, {}))
    if name in BASES:
        overlays = [overlay for overlay in listed(bound.arguments.get("overlay")) if overlay not in OF_USERS]
        first, *others = BASES[name]
        others += ["large"] if str(bound.arguments.get("output")).endswith(".zarr") else []
        files = [f"configs/{stem}.yaml" for stem in (first, *overlays, *others)]
        tracking = keys.pop("tracking", None)
        if name in ("train", "preview") and "from" in keys:  # the short name
            keys["finetune"] = keys.pop("from")
        check_keys(files, keys, tracking)
    elif name in ("plan", "doctor"):
        check_keys(["configs/train.yaml"], keys)
    elif name == "run":
        check_run(options | ({"run_id": positional[0]} if positional else {}))
    elif name == "export":
        check_keys(["configs/inference.yaml"], keys)
    elif name == "label":
        configs = [
            listed(options.get(kind, f"configs/{file}"))
            for kind, file in (("inference", "inference.yaml"), ("training", "train.yaml"))
        ]
        for key in keys:
            assert any(accepted(files, {key: keys[key]}) for files in configs), key
    else:
        assert not keys, keys


def accepted(files: list[str], keys: Mapping[str, Any]) -> bool:
    try:
        check_keys(files, keys)
    except UsageError:
        return False
    return True


def check_run(options: dict[str, Any]) -> None:
    """Check the options of `run`, of MONAI or of this project."""
    files = listed(options["config_file"])
    keys = {name: value for name, value in options.items() if name not in RUN_ARGUMENTS}
    check_keys(files, keys, options.get("tracking"))
    assert options.get("run_id", "run") in merge_files("--config_file", [str(ROOT / name) for name in files])


def check_module(module: str, words: list[str]) -> None:
    if module == "bundle":
        check_own(main, words[0], words[1:])
    elif module == "original_unet":
        if words:
            check_own(Program("original-unet", WORKFLOWS), words[0], words[1:])
    elif module == "monai.bundle":
        assert hasattr(import_module("monai.bundle.__main__"), words[0]), words[0]
        if words[0] == "run":
            positional, options = understood(words[1:])
            check_run(options | ({"run_id": positional[0]} if positional else {}))
    elif module != "pip":  # find_spec("pip") would bring back Python's own distutils, with a warning in later tests
        assert importlib.util.find_spec(module) is not None, module


def check_pip(words: list[str]) -> None:
    for place, word in enumerate(words):
        if word in ("-c", "-r"):
            assert (ROOT / words[place + 1]).is_file(), words[place + 1]
        extras = re.fullmatch(r"\.\[(.*)\]", word)
        assert extras is None or set(extras[1].split(",")) <= set(EXTRAS), word


def check(words: list[str]) -> None:
    """Raise AssertionError, TypeError or UsageError for a command that cannot run."""
    program, *rest = words
    if program == "original-unet":
        check_own(Program("original-unet", WORKFLOWS), rest[0], rest[1:])
    elif program in ("python", "torchrun") and "-m" in rest:
        at = rest.index("-m")
        check_module(rest[at + 1], rest[at + 2 :])
    elif program == "python":
        assert (ROOT / rest[0]).is_file(), rest[0]
    elif program == "pip":
        check_pip(rest)
    elif program == "make":
        assert set(rest) <= set(TARGETS), rest


@pytest.mark.parametrize("command", all_commands())
def test_a_documented_command_is_known_with_its_options_keys_and_files(command: Command) -> None:
    if (command.below or "").startswith("error: "):
        with pytest.raises(UsageError) as refused:
            check(command.words)
        assert f"error: {refused.value}" == command.below
    else:
        check(command.words)


@pytest.mark.parametrize(
    "line",
    [
        "original-unet trian my/data",
        "original-unet fetch isbi2012",
        "python -m bundle train my/data --max_epoch 3",
        "python -m bundle train my/data --overlay variant_gone",
        "python -m bundle fetch isbi2012 --sourse folder",
        "python -m bundle export onnx --network_def#featres 3",
        "python -m bundle label my/images --learning_rat 1e-4",
        "python -m monai.bundle run training --config_file configs/gone.yaml",
        "python -m monai.bundle run traning --config_file configs/train.yaml",
        "python -m monai.bundle run --config_file configs/inference.yaml --datset_dir my/images",
        "python -m monai.bundle push_to_hf_hub",
        "python -m benchmarks.gone",
        "python examples/gone.py",
        'pip install -c constraints.txt ".[onx]"',
        "pip install -c constrains.txt torch",
        "make demos",
    ],
)
def test_a_command_that_cannot_run_is_found(line: str) -> None:
    with pytest.raises((AssertionError, TypeError, UsageError)):
        check(Command(line).words)


def test_commands_are_found_in_blocks_sessions_and_text() -> None:
    blocks = [
        "    pip install \\\n        torch\n    text",
        "a `make demo`",
        "    $ make check\n    done",
        "```python\nmake x\n```\n",
    ]
    text = "\n\n".join(blocks)
    assert [(c.line, c.below) for c in commands(text)] == [
        ("pip install torch", None),
        ("make check", "done"),
        ("make demo", None),
    ]
    assert len(list(commands(read(ROOT / "README.md")))) >= 15


@pytest.mark.parametrize("name", FOR_ALL_SHELLS)
def test_a_page_for_users_has_commands_for_every_shell(name: str) -> None:
    """cmd.exe knows no comments, no single quotes and no backslash at the end of a line; PowerShell expands $."""
    for command in commands(read(ROOT / name)):
        bare = re.sub(r'"[^"]*"', "", command.line)
        assert not re.search(r" #|['\\$;~*]|&&", bare), command.line
        assert "$" not in command.line, command.line
    assert " \\\n" not in read(ROOT / name)


def test_the_front_page_is_short_and_shows_both_ways_side_by_side() -> None:
    lines = read(ROOT / "README.md").splitlines()
    assert len(lines) < 150
    both = [line for line in lines[:40] if "`original-unet" in line and "`python -m monai.bundle" in line]
    assert [line.split("|")[1].strip() for line in both] == ["segment", "train"]


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    text = read(page)
    found = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    for link in found:
        target, _, anchor = link.partition("#")
        if re.match(r"https?:", target):
            continue
        path = page.parent / target if target else page
        assert path.exists(), link
        assert not anchor or anchor in anchors(read(path)), link


def test_the_documented_shapes_for_qupath_are_one_for_each_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Object 7 is a pixel that another pixel touches by a corner; object 9 has nine pixels."""
    (code,) = (
        block for block in re.findall(r"^```python\n(.*?)^```$", read(VIEWERS), re.M | re.S) if "geojson" in block
    )
    monkeypatch.chdir(tmp_path)
    labels = np.zeros((9, 12), np.uint16)
    labels[1, 1] = labels[2, 2] = 7
    labels[5:8, 6:9] = 9
    path = Path("my/segmentation/instances/22.tif")
    path.parent.mkdir(parents=True)
    tifffile.imwrite(path, labels)
    exec(code.replace("original_unet", "scripts"), {})
    features = json.loads(Path("22.geojson").read_text())["features"]
    assert [feature["properties"]["name"] for feature in features] == ["7", "9"]
    assert [feature["geometry"]["type"] for feature in features] == ["MultiPolygon"] * 2
    assert len(features[0]["geometry"]["coordinates"]) == 2
    ((ring,),) = features[1]["geometry"]["coordinates"]
    assert ring[0] == ring[-1]
    points = np.array(ring)
    assert (points.min(axis=0).tolist(), points.max(axis=0).tolist()) == ([6, 5], [9, 8])  # corners of pixels


def test_pictures_are_small() -> None:
    assert [path.name for path in (ROOT / "docs" / "images").iterdir() if path.stat().st_size > 500_000] == []


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with `my/images`, an image, and `my/data`, three images with labels."""
    sample(str(tmp_path / "made"), size=96, train=3, test=1)
    (tmp_path / "my").mkdir()
    (tmp_path / "made" / "train").rename(tmp_path / "my" / "data")
    (tmp_path / "made" / "test" / "images").rename(tmp_path / "my" / "images")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shortened(words: list[str]) -> list[str]:
    """Append settings for a tiny training to a command. Replace values of the same settings."""
    if "training" not in words and "train" not in words:
        return words
    kept = list(words)
    tiny = {name: value for name, value in TINY.items() if "--from" not in words or not name.startswith("network_def")}
    for name in tiny:
        if f"--{name}" in kept:
            at = kept.index(f"--{name}")
            del kept[at : at + 2]
    return [*kept, *(word for name, value in tiny.items() for word in (f"--{name}", value))]


def of_front_page(chosen: Callable[[list[str]], bool]) -> list[list[str]]:
    return [words for command in commands(read(ROOT / "README.md")) if chosen(words := command.words)]


@pytest.mark.slow
def test_the_front_page_s_commands_run_in_a_user_s_folder_in_both_ways(folder: Path) -> None:
    short = of_front_page(lambda words: words[0] == "original-unet" and len(words) > 2)
    order = sorted(short, key=lambda words: (words[1] != "train", len(words)))  # all trainings write output/data
    assert len(order) >= 6
    for words in order:
        device = ["--device", "cpu"] if words[1] in KEYS_OF else []
        codes = (0, 3) if words[1] == "doctor" else (0,)  # three images are few
        assert main([*shortened(words[1:]), *device]) in codes, words
    assert (folder / "output" / "data" / "model.json").is_file()
    assert (folder / "output" / "evaluation" / "data" / "object_metrics.json").is_file()

    for name in ("configs", "scripts"):
        (folder / name).symlink_to(ROOT / name, target_is_directory=True)
    (folder / "models").mkdir()
    for name in ("model.pt", "model.json"):
        (folder / "models" / name).symlink_to(ROOT / "models" / name)
    monai = of_front_page(lambda words: words[:3] == ["python", "-m", "monai.bundle"])
    assert len(monai) == 2
    published = (ROOT / "models" / "model.json").read_bytes()
    run_modules(folder, *([*shortened(words[2:]), "--device", "cpu"] for words in monai))
    (image,) = (folder / "my" / "images").iterdir()
    places = ("my/segmentation", "output/segmentation")  # both with the published weights
    np.testing.assert_array_equal(
        *(np.asarray(Image.open(folder / place / "classes" / image.name)) for place in places)
    )
    assert (folder / "models" / "model.json").read_bytes() != published  # the table says so
    assert (ROOT / "models" / "model.json").read_bytes() == published
