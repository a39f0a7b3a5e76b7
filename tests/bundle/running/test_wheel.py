"""The wheel: built, installed beside torch and MONAI, and used from a folder with another package `scripts`."""

from __future__ import annotations

import csv
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml
from PIL import Image

from bundle.datasets.sample import sample
from bundle.publishing.layout import source_files
from scripts.published import published
from scripts.settings import settings_path

ROOT = Path(__file__).resolve().parents[3]
IN_WHEEL = ("pyproject.toml", "README.md", "LICENSE", "scripts/", "configs/", "models/", "bundle/running/")
SETUPTOOLS = 77  # the oldest that reads this pyproject.toml

pytestmark = pytest.mark.slow

CPU = {"device": "cpu", "amp_dtype": "float32"}
OVERLAY = {  # names of `scripts` in a user's file
    "+imports": [
        "$from scripts.losses import WeightedCrossEntropyLoss as Loss",
        "$import scripts.losses as losses",
        "$import sys",
    ],
    "same": "$Loss is losses.WeightedCrossEntropyLoss",
    "apart": "$not any(path.endswith('original_unet') for path in sys.path)",  # its modules are not importable as `io`
    "loss": {"_target_": "scripts.losses.WeightedCrossEntropyLoss", "_disabled_": "$not (@same and @apart)"},
    "network_def#features": [2, 4, 8, 16, 32],
    "max_epochs": 1,
    "input_size": 188,
    "num_workers": 0,
    "label_kind": "instances",
    "key_metric": "instance_f1",
}
PROGRAM = """
import json, sys, types
task = json.loads(sys.argv[1])
if task["installed"]:
    from original_unet.running.program import WORKFLOWS, Program
    main = Program("original-unet", WORKFLOWS)
else:
    from bundle.__main__ import main
codes = []
for k, words in enumerate(task["commands"]):
    if k == 1 and task["installed"]:
        sys.modules["scripts"] = types.ModuleType("scripts")  # now a package of this name is imported already
    codes.append(main(words))
files = {}
for name, module in list(sys.modules.items()):
    if getattr(module, "__file__", None):
        files.setdefault(module.__file__, set()).add(id(module))
twice = [file for file, ids in files.items() if file.endswith(".py") and len(ids) > 1]
print(json.dumps({"codes": codes, "twice": twice, "files": list(files)}))
"""
API = """
import json
import original_unet
from original_unet import OverlapTileInferer, RonnebergerUNet, Segmenter, WeightedCrossEntropyLoss, weight_map
names = {name: getattr(original_unet, name).__module__ for name in original_unet.__all__}
print(json.dumps({"file": original_unet.__file__, "names": names}))
"""
SEGMENT = """
import sys
import numpy as np
from original_unet import Segmenter
from PIL import Image
image, weights = sys.argv[1:]
result = Segmenter(weights, device="cpu", amp_dtype="float32", threshold=0.4)(np.asarray(Image.open(image)))
np.savez("result.npz", **{name: getattr(result, name) for name in ("classes", "instances", "probabilities")})
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the files under version control."""
    # find_spec("pip") would bring back Python's own distutils, whose warning torch.compile fails on
    installed = {str(package.name).lower(): package.version for package in importlib.metadata.distributions()}
    if "pip" not in installed:
        pytest.skip("needs pip to build the wheel")
    found = installed.get("setuptools", "0")
    if int(found.split(".")[0]) < SETUPTOOLS:
        pytest.skip(f"needs setuptools {SETUPTOOLS} or newer to build the wheel without network, found {found}")
    source = tmp_path_factory.mktemp("source")
    for name in source_files(ROOT):
        if name.startswith(IN_WHEEL):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    options = ["--no-build-isolation", "--no-deps", "--no-index", "--disable-pip-version-check"]
    folder = tmp_path_factory.mktemp("wheel")
    done([sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", str(folder), str(source)], source)
    return next(folder.glob("original_unet-*.whl"))


@dataclass(frozen=True)
class Environment:
    """An environment with the wheel."""

    python: Path
    program: Path


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """A fresh environment with the wheel, and with the other packages of the current environment."""
    folder = tmp_path_factory.mktemp("environment")
    done([sys.executable, "-m", "venv", "--without-pip", str(folder)], folder)
    paths = sysconfig.get_paths("venv", {"base": str(folder), "platbase": str(folder)})
    programs, python = Path(paths["scripts"]), Path(paths["scripts"]) / Path(sys.executable).name
    options = ["--no-deps", "--no-index", "--disable-pip-version-check"]
    done([sys.executable, "-m", "pip", "--python", str(python), "install", *options, str(wheel)], folder)
    others = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    # added by a .pth file, a folder's own .pth files are not read: an editable install of this checkout stays invisible
    (Path(paths["purelib"]) / "other_packages.pth").write_text("\n".join(others), encoding="utf-8")
    return Environment(python, next(programs.glob("original-unet*")))


def done(words: list[str], folder: Path | str, code: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end in a folder, without this checkout on Python's path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    threads = {"OMP_NUM_THREADS": "1"}  # equal in both programs
    process = subprocess.run(
        words, cwd=folder, env={**kept, **threads, **variables}, capture_output=True, text=True, timeout=300
    )
    assert process.returncode == code, f"{' '.join(words)}\n{process.stdout}\n{process.stderr}"
    return process


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic sections of 96 x 96 pixels: three to train with, two to test with."""
    folder = tmp_path_factory.mktemp("data") / "sample"
    sample(str(folder), size=96, train=3, test=2)
    return folder


@pytest.fixture
def beside_decoy(tmp_path: Path) -> Path:
    """A folder with a package `scripts` that fails to import."""
    return with_decoy(tmp_path)


def with_decoy(folder: Path) -> Path:
    package = folder / "scripts"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('the decoy was imported')\n", encoding="utf-8")
    return folder


@dataclass(frozen=True)
class Results:
    """The folder of a program's results, and facts about its process."""

    folder: Path
    facts: dict[str, Any]
    output: str


def words(**keys: object) -> list[str]:
    return [f"--{key}={value}" for key, value in {**CPU, **keys}.items()]


@pytest.fixture(scope="module")
def both(environment: Environment, data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Results]:
    """Results of train, evaluate and segment by the installed program and by `python -m bundle`."""
    found = {}
    trained = words(weights="output/train/model.pt")  # all settings of the training are known from model.json
    commands = [
        ["train", str(data / "train"), *words(overlay="mine.yaml")],
        ["evaluate", str(data / "test"), *trained],
        ["segment", str(data / "test" / "images"), *trained, "--threshold=0.4"],
    ]
    for name, python, path in (("installed", environment.python, ""), ("checkout", sys.executable, str(ROOT))):
        folder = tmp_path_factory.mktemp(name)
        (folder / "mine.yaml").write_text(yaml.safe_dump(OVERLAY), encoding="utf-8")
        if name == "installed":
            path = str(with_decoy(folder))
        task = json.dumps({"installed": name == "installed", "commands": commands})
        process = done([str(python), "-c", PROGRAM, task], folder, PYTHONPATH=path)
        found[name] = Results(folder / "output", json.loads(process.stdout.splitlines()[-1]), process.stdout)
    return found


def test_the_wheel_is_small_and_holds_configs_and_weights_and_no_package_of_another_name(wheel: Path) -> None:
    assert wheel.stat().st_size < 100 * 10**6
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0].split("-")[0] for name in names} == {"original_unet"}
    configs = {f"original_unet/configs/{path.name}" for path in (ROOT / "configs").glob("*.yaml")}
    weights = {
        f"original_unet/models/{file.name}" for path in published().values() for file in (path, settings_path(path))
    }
    assert {name for name in names if "/models/" in name} == weights
    assert {*configs, "original_unet/configs/logging.conf", "original_unet/configs/metadata.json"} <= names


def test_every_public_name_is_importable_from_anywhere(environment: Environment, beside_decoy: Path) -> None:
    process = done([str(environment.python), "-c", API], "/", PYTHONPATH=str(beside_decoy))
    facts = json.loads(process.stdout)
    assert environment.python.parents[1] in Path(facts["file"]).parents  # not an editable install of the checkout
    assert all(module.startswith("original_unet.") for module in facts["names"].values())


@pytest.mark.parametrize("module", [False, True], ids=["original-unet", "python -m original_unet"])
def test_list_and_messages_name_the_program_as_it_was_called(
    module: bool, environment: Environment, beside_decoy: Path
) -> None:
    name = "python -m original_unet" if module else "original-unet"
    start = [str(environment.python), "-m", "original_unet"] if module else [str(environment.program)]
    listed = done(start, beside_decoy).stdout
    commands = [line.split()[0] for line in listed.splitlines() if line.startswith("  ")]
    assert f"usage: {name} COMMAND" in listed
    assert commands == ["train", "evaluate", "segment", "rank", "run"]
    assert f"{name} segment --help" in done([*start, "segment"], "/", code=2).stderr


def test_help_has_examples_for_the_installed_program(environment: Environment) -> None:
    process = done([str(environment.program), "segment", "--help"], "/")
    assert "original-unet segment my/images" in process.stdout + process.stderr
    assert "python -m bundle" not in process.stdout + process.stderr


def test_the_list_of_commands_loads_nothing_heavy(environment: Environment) -> None:
    code = (
        "import sys; from original_unet.running import program; assert not {'torch', 'monai', 'numpy'} & {*sys.modules}"
    )
    done([str(environment.python), "-c", code], "/")


def test_both_programs_write_the_same_files(both: dict[str, Results]) -> None:
    assert all(results.facts["codes"] == [0, 0, 0] for results in both.values())
    of_installed, of_checkout = (contents(both[name].folder) for name in ("installed", "checkout"))
    assert {"train/model.pt", "evaluation/object_metrics.json", "segmentation/instances/01.tif"} <= of_installed.keys()
    assert of_installed.keys() == of_checkout.keys()
    assert [name for name in of_installed if of_installed[name] != of_checkout[name]] == []


def contents(folder: Path) -> dict[str, Any]:
    """Map the results of a run to their bytes, without the number of the run and its durations."""
    found: dict[str, Any] = {}
    for path in folder.rglob("*"):
        if path.name == "history.csv":
            rows = csv.DictReader(path.read_text(encoding="utf-8").splitlines())
            found[path.relative_to(folder).as_posix()] = [{**row, "seconds": None} for row in rows]
        elif path.name == "model.json":
            found[path.relative_to(folder).as_posix()] = re.sub('"run": ".*?"', "", path.read_text(encoding="utf-8"))
        elif path.is_file() and "tfevents" not in path.name and path.name != "training_state.pt":  # both hold times
            found[path.relative_to(folder).as_posix()] = path.read_bytes()
    return found


def test_the_segmenter_gives_what_the_command_writes(
    both: dict[str, Results], environment: Environment, data: Path, beside_decoy: Path
) -> None:
    image, folder = data / "test" / "images" / "01.png", both["installed"].folder
    words = [str(environment.python), "-c", SEGMENT, str(image), str(folder / "train" / "model.pt")]
    done(words, beside_decoy, PYTHONPATH=str(beside_decoy))
    result, written = np.load(beside_decoy / "result.npz"), folder / "segmentation"
    np.testing.assert_array_equal(result["classes"], np.asarray(Image.open(written / "classes" / "01.png")))
    np.testing.assert_array_equal(result["instances"], tifffile.imread(written / "instances" / "01.tif"))
    np.testing.assert_array_equal(result["probabilities"], tifffile.imread(written / "probabilities" / "01.tif"))


def test_messages_differ_in_the_program_s_name_only(both: dict[str, Results]) -> None:
    told = {
        name: [line for line in results.output.splitlines() if " - " not in line][:-1] for name, results in both.items()
    }
    assert "next: original-unet segment my/images --weights output/train/model.pt" in [
        line.replace(os.sep, "/") for line in told["installed"]
    ]
    assert [line.replace("original-unet", "python -m bundle") for line in told["installed"]] == told["checkout"]


def test_recorded_configurations_keep_the_names_that_run_everywhere(both: dict[str, Results]) -> None:
    for results in both.values():
        recorded = b"".join(path.read_bytes() for path in results.folder.rglob("*tfevents*"))
        assert b"scripts.losses.WeightedCrossEntropyLoss" in recorded
        assert b"original_unet." not in recorded


def test_no_module_is_loaded_twice_nor_from_the_checkout(both: dict[str, Results]) -> None:
    facts = both["installed"].facts
    assert [file for file in facts["twice"] if "original_unet" in Path(file).parts] == []
    of_checkout = tuple(f"{ROOT / top}{os.sep}" for top in ("scripts", "bundle", "benchmarks", "tests"))
    assert [file for file in facts["files"] if file.startswith(of_checkout)] == []
    assert any(file.endswith(os.path.join("original_unet", "losses.py")) for file in facts["files"])


def test_mistakes_are_refused_from_the_root_folder_too(environment: Environment, data: Path) -> None:
    mistakes = {  # words: parts of the message
        ("train", str(data / "train"), "--max_epoch", "3"): ["'max_epoch'", "'max_epochs'"],
        ("segment", str(data), "--network_def#featres", "3"): ["'network_def#featres'", "'features'"],
        ("segment", str(data / "nowhere")): [str(data / "nowhere")],
        ("evaluate", str(data / "test"), "--weights", "nowhere.pt"): ["nowhere.pt"],
        ("run", "--config_file", "configs/inferense.yaml"): ["configs/inferense.yaml", "configs/inference.yaml"],
    }
    task = json.dumps({"installed": True, "commands": list(mistakes)})
    process = done([str(environment.python), "-c", PROGRAM, task], "/")
    assert json.loads(process.stdout.splitlines()[-1])["codes"] == [2] * len(mistakes)
    lines = process.stderr.splitlines()
    assert len(lines) == len(mistakes)
    for line, parts in zip(lines, mistakes.values(), strict=True):
        assert line.startswith("error: ")
        assert all(part in line for part in parts)


def test_the_weights_that_come_with_the_program_segment_from_the_root_folder(
    environment: Environment, data: Path, tmp_path: Path
) -> None:
    image, output = data / "test" / "images" / "00.png", tmp_path / "out"
    done([str(environment.program), "segment", str(image), "--output", str(output), "--device", "cpu"], "/")
    assert (output / "classes" / "00.png").is_file()


def test_trainings_and_evaluations_run_from_the_root_folder(
    environment: Environment, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(OVERLAY), encoding="utf-8")
    own = ["--overlay", str(tmp_path / "mine.yaml"), "--output", str(tmp_path / "train"), "--device", "cpu"]
    done([str(environment.program), "train", str(data / "train"), *own], "/")
    own = ["--weights", str(tmp_path / "train" / "model.pt"), "--output", str(tmp_path / "measured"), "--device", "cpu"]
    done([str(environment.program), "evaluate", str(data / "test"), *own], "/")
    assert (tmp_path / "measured" / "object_metrics.json").is_file()


def test_a_run_finds_the_configurations_of_the_package(environment: Environment, data: Path, tmp_path: Path) -> None:
    """Config files of the user, in a folder without `scripts`, give the same results."""
    shutil.copy(ROOT / "configs" / "inference.yaml", tmp_path / "mine.yaml")
    weights = next(environment.python.parents[1].rglob("original_unet/models/model.pt"))
    keys = {"dataset_dir": data / "test" / "images", "ckpt_path": weights, "device": "cpu", "save_overlays": "false"}
    given = [f"--{key}={value}" for key, value in keys.items()]
    commands = [
        ["run", "--config_file", "configs/inference.yaml", "--output_dir", "theirs", *given],
        ["run", "--config_file", "mine.yaml", "--output_dir", "mine", *given],
    ]
    task = json.dumps({"installed": True, "commands": commands})
    done([str(environment.python), "-c", PROGRAM, task], tmp_path)
    assert contents(tmp_path / "theirs") == contents(tmp_path / "mine") != {}
