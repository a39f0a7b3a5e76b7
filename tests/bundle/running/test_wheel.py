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
IN_WHEEL = (
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "scripts/",
    "configs/",
    "models/",
    "bundle/running/",
    "bundle/viewer/",
)
SETUPTOOLS = 77  # the oldest that reads this pyproject.toml
PROGRESS = ("training: ", "evaluating: ", "segmenting: ", "fitting: ", "looking: ")  # as many lines as the time allows

pytestmark = pytest.mark.slow

CPU = {"device": "cpu", "amp_dtype": "float32"}
NOT_COMPILED = {"NUMBA_DISABLE_JIT": "1"}  # for a few small images, compiling takes longer than Python
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
import contextlib, io, json, os, runpy, sys, types
task = json.loads(sys.argv[1])
answers = []
for k, (start, *words) in enumerate(task["commands"]):
    if k == 1 and task["installed"]:
        sys.modules["scripts"] = types.ModuleType("scripts")  # now a package of this name is imported already
    sys.argv = [start, *words]
    run, code = runpy.run_path if os.path.isfile(start) else runpy.run_module, None
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            run(start, run_name="__main__")
        except SystemExit as end:
            code = end.code
    answers.append({"code": code, "out": out.getvalue(), "err": err.getvalue()})
files = {}
for name, module in list(sys.modules.items()):
    if getattr(module, "__file__", None):
        files.setdefault(module.__file__, set()).add(id(module))
twice = [file for file, ids in files.items() if file.endswith(".py") and len(ids) > 1]
print(json.dumps({"answers": answers, "twice": twice, "files": list(files)}))
"""
API = """
import json
import sys
import numpy as np
import original_unet
from original_unet import OverlapTileInferer, RonnebergerUNet, Segmenter, WeightedCrossEntropyLoss, weight_map
from PIL import Image
image, weights, results = sys.argv[1:]
result = Segmenter(weights, device="cpu", amp_dtype="float32", threshold=0.4)(np.asarray(Image.open(image)))
np.savez(results, **{name: getattr(result, name) for name in ("classes", "instances", "probabilities")})
names = {name: getattr(original_unet, name).__module__ for name in original_unet.__all__}
print(json.dumps({"file": original_unet.__file__, "names": names}))
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
    kept["OMP_NUM_THREADS"] = "1"  # equal in both programs
    process = subprocess.run(words, cwd=folder, env={**kept, **variables}, capture_output=True, text=True, timeout=300)
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


Answers = dict[str, dict[str, Any]]  # command: code, out, err


@dataclass(frozen=True)
class Results:
    """The folder of a program's results, the answers to the commands, and facts about the process."""

    folder: Path
    facts: dict[str, Any]

    @property
    def codes(self) -> list[int]:
        return [answer["code"] for answer in self.facts["answers"]]


def run_all(python: str | Path, commands: list[list[str]], folder: Path | str, path: str = "") -> dict[str, Any]:
    """Run commands one after another in a new process. A command begins with a module, or with the file of a program.

    Returns the answers (code, out, err) and the loaded modules.
    """
    task = json.dumps({"installed": python != sys.executable, "commands": commands})
    process = done([str(python), "-c", PROGRAM, task], folder, PYTHONPATH=path, **NOT_COMPILED)
    facts: dict[str, Any] = json.loads(process.stdout)
    return facts


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
    for name, start, python, path in (
        ("installed", str(environment.program), environment.python, ""),
        ("checkout", "bundle", sys.executable, str(ROOT)),
    ):
        folder = tmp_path_factory.mktemp(name)
        (folder / "mine.yaml").write_text(yaml.safe_dump(OVERLAY), encoding="utf-8")
        if name == "installed":
            path = str(with_decoy(folder))
        found[name] = Results(folder / "output", run_all(python, [[start, *words] for words in commands], folder, path))
    return found


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder with config files, and with the results of `from_root`."""
    folder = tmp_path_factory.mktemp("users")
    (folder / "overlay.yaml").write_text(yaml.safe_dump(OVERLAY), encoding="utf-8")
    shutil.copy(ROOT / "configs" / "inference.yaml", folder / "inference.yaml")
    return folder


@pytest.fixture(scope="module")
def from_root(environment: Environment, data: Path, users: Path) -> Answers:
    """Answers of the installed program to commands in the root folder."""
    program, train, test, weights = (
        str(path) for path in (environment.program, data / "train", data / "test", users / "train" / "model.pt")
    )
    images = words(dataset_dir=data / "test" / "images", ckpt_path=weights, save_overlays="false")
    commands = {
        "segment by the program": [program, "segment"],
        "segment by the module": ["original_unet", "segment"],
        "help": [program, "segment", "--help"],
        "unknown key": [program, "train", train, "--max_epoch", "3"],
        "unknown key of the network": [program, "segment", test, "--network_def#featres", "3"],
        "no images": [program, "segment", "my/nowhere"],
        "no weights": [program, "evaluate", test, "--weights", "nowhere.pt"],
        "no configuration": [program, "run", "--config_file", "configs/inferense.yaml"],
        "train": [program, "train", train, *words(overlay=users / "overlay.yaml", output=users / "train")],
        "plan": [program, "plan", train, f"--output={users / 'planned'}"],
        "train by a plan": [
            *(program, "train", train, "--plan", str(users / "planned" / "plan.yaml"), "--num_workers=0"),
            *words(output=users / "by_plan", max_epochs=1, tiles_per_epoch=1, input_size=188),
            "--network_def#features=[2,4,8,16,32]",
        ],
        "doctor": [program, "doctor", test, f"--output={users / 'planned'}"],
        "evaluate": [program, "evaluate", test, *words(weights=weights, output=users / "measured")],
        "run of the package's file": [
            *(program, "run", "--config_file", "configs/inference.yaml"),
            *(f"--output_dir={users / 'theirs'}", *images),
        ],
        "run of the user's file": [
            *(program, "run", "--config_file", str(users / "inference.yaml")),
            *(f"--output_dir={users / 'mine'}", *images),
        ],
    }
    return dict(zip(commands, run_all(environment.python, [*commands.values()], "/")["answers"], strict=True))


@pytest.fixture(scope="module")
def in_python(environment: Environment, both: dict[str, Results], data: Path, tmp_path_factory) -> Results:
    """Results and public names of the package in Python, in the root folder, with a package `scripts` on the path."""
    results, folder = tmp_path_factory.mktemp("in_python") / "results.npz", both["installed"].folder
    words = [str(data / "test" / "images" / "01.png"), str(folder / "train" / "model.pt"), str(results)]
    process = done([str(environment.python), "-c", API, *words], "/", PYTHONPATH=str(folder.parent), **NOT_COMPILED)
    return Results(results, json.loads(process.stdout))


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


def test_every_public_name_is_importable_from_anywhere(environment: Environment, in_python: Results) -> None:
    facts = in_python.facts
    assert environment.python.parents[1] in Path(facts["file"]).parents  # not an editable install of the checkout
    assert all(module.startswith("original_unet.") for module in facts["names"].values())


@pytest.mark.parametrize("module", [False, True], ids=["original-unet", "python -m original_unet"])
def test_the_list_names_the_program_as_it_was_called(
    module: bool, environment: Environment, beside_decoy: Path
) -> None:
    name = "python -m original_unet" if module else "original-unet"
    start = [str(environment.python), "-m", "original_unet"] if module else [str(environment.program)]
    listed = done(start, beside_decoy).stdout
    commands = [line.split()[0] for line in listed.splitlines() if line.startswith("  ")]
    assert f"usage: {name} COMMAND" in listed
    assert commands == ["train", "evaluate", "segment", "rank", "plan", "doctor", "report", "preview", "run"]


def test_messages_name_the_program_as_it_was_called(from_root: Answers) -> None:
    for start, name in (("program", "original-unet"), ("module", "python -m original_unet")):
        answer = from_root[f"segment by the {start}"]
        assert answer["code"] == 2
        assert f"{name} segment --help" in answer["err"]


def test_plan_and_doctor_are_in_the_installed_program(from_root: Answers, users: Path) -> None:
    assert from_root["plan"]["code"] == 0, from_root["plan"]["err"]
    assert from_root["train by a plan"]["code"] == 0, from_root["train by a plan"]["err"]
    assert (users / "by_plan" / "model.pt").is_file()
    assert from_root["doctor"]["code"] in (0, 3), from_root["doctor"]["err"]
    assert "tiles of" in from_root["doctor"]["out"]


def test_help_has_examples_for_the_installed_program(from_root: Answers) -> None:
    answer = from_root["help"]
    assert answer["code"] == 0
    assert "original-unet segment my/images" in answer["out"] + answer["err"]
    assert "python -m bundle" not in answer["out"] + answer["err"]


def test_the_list_of_commands_loads_nothing_heavy(environment: Environment) -> None:
    code = (
        "import sys; from original_unet.running import program; assert not {'torch', 'monai', 'numpy'} & {*sys.modules}"
    )
    done([str(environment.python), "-c", code], "/")


def test_both_programs_write_the_same_files(both: dict[str, Results]) -> None:
    assert all(results.codes == [0, 0, 0] for results in both.values())
    of_installed, of_checkout = (contents(both[name].folder) for name in ("installed", "checkout"))
    assert {
        "train/model.pt",
        "evaluation/test/object_metrics.json",
        "segmentation/instances/01.tif",
    } <= of_installed.keys()
    assert of_installed.keys() == of_checkout.keys()
    assert [name for name in of_installed if of_installed[name] != of_checkout[name]] == []


WITH_TIMES = ("training_state.pt", "run.log")


def contents(folder: Path) -> dict[str, Any]:
    """Map the results of a run to their bytes, without the number of the run and its durations."""
    found: dict[str, Any] = {}
    for path in folder.rglob("*"):
        if path.name == "history.csv":
            rows = csv.DictReader(path.read_text(encoding="utf-8").splitlines())
            found[path.relative_to(folder).as_posix()] = [{**row, "seconds": None} for row in rows]
        elif path.name == "model.json":
            found[path.relative_to(folder).as_posix()] = re.sub('"run": ".*?"', "", path.read_text(encoding="utf-8"))
        elif path.name == "run.json":
            record = json.loads(path.read_text(encoding="utf-8"))  # with folders and times
            found[path.relative_to(folder).as_posix()] = [record["workflow"], record["items"], record["versions"]]
        elif path.is_file() and "tfevents" not in path.name and path.name not in WITH_TIMES:
            found[path.relative_to(folder).as_posix()] = path.read_bytes()
    return found


def test_the_segmenter_gives_what_the_command_writes(both: dict[str, Results], in_python: Results) -> None:
    result, written = np.load(in_python.folder), both["installed"].folder / "segmentation"
    np.testing.assert_array_equal(result["classes"], np.asarray(Image.open(written / "classes" / "01.png")))
    np.testing.assert_array_equal(result["instances"], tifffile.imread(written / "instances" / "01.tif"))
    np.testing.assert_array_equal(result["probabilities"], tifffile.imread(written / "probabilities" / "01.tif"))


def test_messages_differ_in_the_program_s_name_only(both: dict[str, Results]) -> None:
    told = {}
    for name, results in both.items():
        lines = [line for answer in results.facts["answers"] for line in answer["out"].splitlines()]
        lines = [re.sub(r"(, )?\d+:\d\d:\d\d left", "", line) for line in lines]  # the time differs between runs
        told[name] = [line for line in lines if " - " not in line and not line.startswith(PROGRESS)]
    assert any(line.startswith("next: original-unet ") for line in told["installed"])
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


@pytest.mark.parametrize(
    "mistake, parts",
    [
        ("unknown key", ["'max_epoch'", "'max_epochs'"]),
        ("unknown key of the network", ["'network_def#featres'", "'features'"]),
        ("no images", ["my/nowhere"]),
        ("no weights", ["nowhere.pt"]),
        ("no configuration", ["configs/inferense.yaml", "configs/inference.yaml"]),
    ],
)
def test_mistakes_are_refused_from_the_root_folder_too(mistake: str, parts: list[str], from_root: Answers) -> None:
    answer = from_root[mistake]
    assert answer["code"] == 2
    (line,) = answer["err"].splitlines()
    assert line.startswith("error: ")
    assert all(part in line for part in parts)


def test_the_weights_that_come_with_the_program_segment_from_the_root_folder(
    environment: Environment, data: Path, tmp_path: Path
) -> None:
    image, output = data / "test" / "images" / "00.png", tmp_path / "out"
    done([str(environment.program), "segment", str(image), "--output", str(output), "--device", "cpu"], "/")
    assert (output / "classes" / "00.png").is_file()


def test_trainings_and_evaluations_run_from_the_root_folder(from_root: Answers, users: Path) -> None:
    assert (from_root["train"]["code"], from_root["evaluate"]["code"]) == (0, 0)
    assert (users / "train" / "model.pt").is_file()
    assert (users / "measured" / "object_metrics.json").is_file()


def test_a_run_finds_the_configurations_of_the_package(from_root: Answers, users: Path) -> None:
    """Config files of the user, in a folder without `scripts`, give the same results."""
    assert [from_root[name]["code"] for name in ("run of the package's file", "run of the user's file")] == [0, 0]
    assert contents(users / "theirs") == contents(users / "mine") != {}
