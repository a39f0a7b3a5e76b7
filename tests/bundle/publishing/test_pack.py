"""`python -m bundle pack`: equal bytes, equal JSON twins; the unpacked bundle runs and can be uploaded."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import threading
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigParser, download_large_files
from monai.bundle.scripts import _add_model_card_metadata
from PIL import Image

from bundle.__main__ import main
from bundle.datasets.sample import sample
from bundle.publishing.layout import LARGE_FILES, NAME, SETTINGS, WEIGHTS
from bundle.publishing.pack import TWINS, json_twins, write_package
from bundle.running.errors import RunError, UsageError
from scripts.handlers.checkpoints import save_weights
from scripts.networks.unet import RonnebergerUNet
from scripts.settings import ModelSettings
from tests.bundle.copies import ROOT, copy_of_bundle
from tests.bundle.publishing.hub import REPOSITORY, Hub
from tests.modules import run_modules
from tests.optional import needs_onnx

FEATURES = [2, 4, 8, 16, 32]
NOT_COMPILED = {"NUMBA_DISABLE_JIT": "1"}  # for a few small images, compiling takes longer than Python
VERSION = json.loads((ROOT / "configs" / "metadata.json").read_text())["version"]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A copy of the bundle with a small network and weights."""
    root = copy_of_bundle(tmp_path / "source")
    torch.manual_seed(0)
    save_weights(RonnebergerUNet(features=FEATURES), root / WEIGHTS)
    return root


@pytest.fixture
def unpacked(small: Path, tmp_path: Path) -> Path:
    """The folder of the unpacked bundle."""
    with zipfile.ZipFile(write_package(small, tmp_path)) as archive:
        archive.extractall(tmp_path / "unpacked")
    return tmp_path / "unpacked" / NAME


def names_in(path: Path) -> set[str]:
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


def test_the_same_content_gives_the_same_bytes(small: Path, tmp_path: Path) -> None:
    first = write_package(small, tmp_path / "a")
    assert first.name == f"original_unet_segmentation_v{VERSION}.zip"
    again = shutil.copytree(small, tmp_path / "elsewhere")
    for path in sorted(again.rglob("*"), reverse=True):
        os.utime(path, (1, 1))
        if path.is_file():
            path.chmod(stat.S_IRUSR | stat.S_IWUSR | stat.S_IXUSR)
    (again / "scripts" / "__pycache__").mkdir()
    (again / "scripts" / "__pycache__" / "geometry.pyc").write_bytes(b"left over")
    assert write_package(again, tmp_path / "b").read_bytes() == first.read_bytes()
    (again / "docs" / "README.md").write_text("other")
    assert write_package(again, tmp_path / "b").read_bytes() != first.read_bytes()


def test_it_holds_what_the_zoo_s_bundles_hold_and_nothing_else(small: Path, tmp_path: Path) -> None:
    (small / "tests").mkdir()
    (small / "tests" / "test_x.py").touch()
    (small / "models" / "training_state.pt").touch()
    (small / "docs" / "images").mkdir(exist_ok=True)
    for name in ("panel.png", "nuclei_worst.png"):  # of the front page, and of the card
        (small / "docs" / "images" / name).touch()
    names = names_in(write_package(small, tmp_path))
    assert all(name.startswith(f"{NAME}/") for name in names)
    inner = {name.removeprefix(f"{NAME}/") for name in names}
    assert {name.split("/")[0] for name in inner} == {"LICENSE", "configs", "docs", "models", "scripts"}
    assert {"LICENSE", WEIGHTS, "configs/metadata.json", "configs/logging.conf", "docs/data_license.txt"} <= inner
    assert {"configs/train.json", "configs/inference.json", "configs/train.yaml", "configs/inference.yaml"} <= inner
    assert {name for name in inner if name.startswith("models/")} == {WEIGHTS, SETTINGS}
    of_the_card = {"docs/README.md", "docs/data_license.txt", "docs/images/nuclei_worst.png"}
    assert {name for name in inner if name.startswith("docs/")} == of_the_card


def test_all_published_weights_travel_unless_some_are_given_or_linked(small: Path, tmp_path: Path) -> None:
    (small / "models" / "mine.pt").touch()  # without settings
    for suffix in (".pt", ".json"):
        shutil.copy(small / "models" / f"model{suffix}", small / "models" / f"nuclei{suffix}")
    both = {WEIGHTS, SETTINGS, "models/nuclei.pt", "models/nuclei.json"}
    for given, expected in (
        ({}, both),
        ({"weights": small / "models" / "nuclei.pt"}, {WEIGHTS, SETTINGS}),
        ({"address": "https://example.org/model.pt"}, {SETTINGS}),
    ):
        names = {name.removeprefix(f"{NAME}/") for name in names_in(write_package(small, tmp_path, **given))}
        assert {name for name in names if name.startswith("models/")} == expected


def test_settings_unlike_the_defaults_travel_without_being_typed(small: Path, tmp_path: Path) -> None:
    weights = tmp_path / "a#1" / "cells.pt"
    network = RonnebergerUNet(in_channels=3, features=[2, 4, 8], padding="same")
    given = ModelSettings(in_channels=3, class_names=["background", "cell"], intensity="percentile", min_area=7)
    save_weights(network, weights, given)
    with zipfile.ZipFile(write_package(small, tmp_path, weights)) as archive:
        archive.extractall(tmp_path)
    bundle = tmp_path / NAME
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert (metadata["eval_metrics"], metadata["data_source"]) == ({}, "not recorded")  # not those of models/model.pt
    assert "0 background, 1 cell" in metadata["label_classes"]
    for suffix in ("yaml", "json"):
        config = ConfigParser.load_config_file(bundle / "configs" / f"inference.{suffix}")
        parser = ConfigParser({**config, "bundle_root": str(bundle)})
        settings = parser.get_parsed_content("settings")
        assert (settings.class_names, settings.intensity, settings.min_area) == (given.class_names, "percentile", 7)
        packed = parser.get_parsed_content("network_def")
        packed.load_state_dict(torch.load(bundle / WEIGHTS, weights_only=True))
        assert packed.definition == network.definition


def test_of_a_checkout_only_what_is_under_version_control_travels(small: Path, tmp_path: Path) -> None:
    git = ["git", "-C", str(small), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "LICENSE", "configs", "docs", "scripts", "pyproject.toml"], check=True)
    before = write_package(small, tmp_path / "a").read_bytes()
    (small / "configs" / "mine.yaml").write_text("dataset_dir: my/own/data\n")
    assert write_package(small, tmp_path / "b").read_bytes() == before


def test_twins_are_equal_to_what_they_are_made_from() -> None:
    twins = json_twins(ROOT / "configs")
    assert set(twins) == {f"{name}.json" for name in TWINS}
    for name, content in twins.items():
        original = yaml.safe_load((ROOT / "configs" / name.replace(".json", ".yaml")).read_text())
        twin = json.loads(content)
        assert twin == original
        assert list(twin) == list(original)  # the order of keys decides the order of merging


@pytest.mark.parametrize("line", ["table: {0: 1}", "day: 2020-01-01"])
def test_what_json_cannot_say_is_refused(line: str, tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text(f"{line}\n")
    with pytest.raises(RunError, match=r"train\.yaml"):
        json_twins(tmp_path)


def test_large_weights_are_linked_and_monai_brings_them(small: Path, tmp_path: Path) -> None:
    weights = shutil.move(small / WEIGHTS, tmp_path / "release.pt")
    settings = shutil.move(small / SETTINGS, tmp_path / "release.json")
    path = write_package(small, tmp_path, weights, weights.as_uri())
    assert f"{NAME}/{WEIGHTS}" not in names_in(path)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path)
    [link] = yaml.safe_load((tmp_path / NAME / LARGE_FILES).read_text())["large_files"]
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert link == {"path": WEIGHTS, "url": weights.as_uri(), "hash_val": digest, "hash_type": "sha256"}
    download_large_files(str(tmp_path / NAME))
    assert (tmp_path / NAME / WEIGHTS).read_bytes() == weights.read_bytes()
    assert (tmp_path / NAME / SETTINGS).read_bytes() == settings.read_bytes()

    for name in (LARGE_FILES, SETTINGS):  # a committed link works in the same way
        (small / name).write_bytes((tmp_path / NAME / name).read_bytes())
    assert write_package(small, tmp_path / "again").read_bytes() == path.read_bytes()


def test_without_weights_or_with_wrong_ones_nothing_is_written(small: Path, tmp_path: Path) -> None:
    state = torch.load(small / WEIGHTS, weights_only=True)
    torch.save({"model": state, "trainer": {"epoch": 1}}, tmp_path / "training_state.pt")
    torch.save(RonnebergerUNet(features=[1, 2, 3, 4, 5]).state_dict(), tmp_path / "narrow.pt")
    (tmp_path / "text.pt").write_text("no weights")
    for name, said in (("training_state", "more than weights"), ("narrow", "does not fit"), ("text", "plain tensors")):
        with pytest.raises(RunError, match=said):
            write_package(small, tmp_path / "out", tmp_path / f"{name}.pt")
    (small / WEIGHTS).unlink()
    with pytest.raises(UsageError, match="no weights"):
        write_package(small, tmp_path / "out")
    with pytest.raises(UsageError, match="needs the weights"):
        write_package(small, tmp_path / "out", address="https://example.org/model.pt")
    assert not list(tmp_path.glob("out/*"))


def test_the_command_says_where_and_which(monkeypatch, small: Path, tmp_path: Path, capsys) -> None:
    monkeypatch.setattr("bundle.publishing.pack.ROOT", small)
    assert main(["pack", "--out", str(tmp_path)]) == 0
    path = tmp_path / f"{NAME}_v{VERSION}.zip"
    shown = capsys.readouterr().out
    assert f"{path}: " in shown
    assert f"sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}" in shown
    assert main(["pack", "--out", str(tmp_path), "--weights", "nowhere.pt"]) == 2


@needs_onnx
def test_of_a_link_to_weights_weights_and_settings_are_packed(monkeypatch, small: Path, tmp_path: Path) -> None:
    monkeypatch.setattr("bundle.publishing.pack.ROOT", small)
    (tmp_path / "best.pt").symlink_to(small / WEIGHTS)
    assert main(["pack", "--out", str(tmp_path / "out"), "--weights", str(tmp_path / "best.pt")]) == 0
    (path,) = (tmp_path / "out").glob("*.zip")
    with zipfile.ZipFile(path) as archive:
        for name in (WEIGHTS, SETTINGS):
            assert archive.read(f"{NAME}/{name}") == (small / name).read_bytes()


def test_the_package_of_bioimage_io_is_written_beside_it(monkeypatch, small: Path, tmp_path: Path) -> None:
    monkeypatch.setattr("bundle.publishing.pack.ROOT", small)
    monkeypatch.chdir(tmp_path)
    assert main(["pack", "--out", str(tmp_path), "--bioimageio"]) == 0
    names = names_in(tmp_path / f"{NAME}_v{VERSION}.bioimageio.zip")
    assert {"rdf.yaml", "weights.onnx", "weights-torchscript.pt", "test_input.npy", "test_output.npy"} <= names


IN_PYTHON = """
import runpy, sys, warnings
from pathlib import Path
import torch
import monai.bundle

warnings.simplefilter("ignore")
(package, data, out), training = map(Path, sys.argv[1:4]), sys.argv[4:]
monai.bundle.download(name="original_unet_segmentation", bundle_dir=str(out), url=package.as_uri(), progress=False)
root = out / "original_unet_segmentation"
assert (root / "models" / "model.pt").is_file()

sys.argv = ["monai.bundle", "run", "training", *training]
try:
    runpy.run_module("monai.bundle", run_name="__main__")
except SystemExit as end:
    assert not end.code

sys.path.insert(0, str(root))  # load imports the bundle's scripts, but puts nothing on the path
networks = []
for kind in ("train", "inference"):
    networks.append(monai.bundle.load("original_unet_segmentation", bundle_dir=str(out), workflow_type=kind))
from scripts.networks.unet import RonnebergerUNet
assert Path(sys.modules["scripts"].__file__).parent == root / "scripts"
ours = RonnebergerUNet(features=[2, 4, 8, 16, 32])
ours.load_state_dict(torch.load(root / "models" / "model.pt", weights_only=True))
image = torch.rand(1, 1, 204, 188, generator=torch.Generator().manual_seed(0))
evaluation = monai.bundle.create_workflow(
    config_file=[str(root / "configs" / name) for name in ("train.json", "evaluate.json")], run_id="evaluating",
    workflow_type="train", bundle_root=str(root), dataset_dir=str(data / "test"), split_rule="all", device="cpu",
    label_kind="instances", input_size=188, num_workers=0, output_dir=str(out), model_dir=str(out / "models"),
)
evaluation.run()
monai.bundle.run(  # the function of the command
    config_file=str(root / "configs" / "inference.yaml"), bundle_root=str(root), device="cpu",
    dataset_dir=str(data / "test" / "images"), output_dir=str(out / "by_command"),
)
workflow = monai.bundle.create_workflow(
    config_file=str(root / "configs" / "inference.json"), workflow_type="inference", bundle_root=str(root),
    dataset_dir=str(data / "test" / "images"), output_dir=str(out / "by_workflow"), device="cpu",
)
workflow.run()
workflow.finalize()
expected = ours.eval()(image)
for network in networks:
    assert type(network) is RonnebergerUNet
    assert torch.equal(network.eval()(image), expected)
# the workflow stores channels last, which changes the order of sums
torch.testing.assert_close(workflow.network_def.eval()(image), expected, rtol=0, atol=1e-5)
"""


@pytest.mark.slow
def test_unpacked_elsewhere_it_trains_evaluates_and_segments(small: Path, tmp_path: Path) -> None:
    package = write_package(small, tmp_path)
    weights = (small / WEIGHTS).read_bytes()
    shutil.rmtree(small)
    data, work = tmp_path / "data", tmp_path / "work"
    root = work / NAME  # monai.bundle.download unpacks the package
    sample(str(data), size=96, train=3, test=2)
    work.mkdir()
    given = {
        "config_file": root / "configs" / "train.yaml",
        "bundle_root": root,
        "device": "cpu",
        "dataset_dir": data / "train",
        "label_kind": "instances",
        "input_size": 188,
        "num_workers": 0,
        "max_epochs": 1,
        "output_dir": work / "train",
        "model_dir": work / "models",
    }
    training = [f"--{key}={value}" for key, value in given.items()]
    run_in(work, "-c", IN_PYTHON, *map(str, (package, data, work)), *training)  # download, load, run, create_workflow
    assert (work / "models" / "model.pt").read_bytes() != weights
    assert (work / "train" / "history.csv").read_text().count("\n") == 2
    assert json.loads((work / "evaluation" / "metrics.json").read_text())["images"] == 2
    classes = [sorted((work / by / "classes").iterdir()) for by in ("by_command", "by_workflow")]
    assert [path.name for path in classes[0]] == ["00.png", "01.png"]
    assert [path.read_bytes() for path in classes[0]] == [path.read_bytes() for path in classes[1]]
    left = {path.name for path in root.rglob("*") if path.is_file() and path.parent.name != "__pycache__"}
    assert left == {Path(name).name for name in names_in(package)}, (
        "runs write where they are told to, not into the bundle"
    )


def run_in(folder: Path, *words: str) -> None:
    """Run Python in a folder, without the repository."""
    alone = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    alone |= {"OMP_NUM_THREADS": "1", **NOT_COMPILED}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=alone, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def in_the_card(bundle: Path, ending: str, *options: str) -> list[str]:
    """Find the command of the bundle's card with this ending. Return the module and the words, with more options."""
    section = (bundle / "docs" / "README.md").read_text().split("## MONAI Bundle Commands")[1].split("\n## ")[0]
    [line] = [line for line in section.splitlines() if line.startswith("    python -m") and line.endswith(ending)]
    return [*shlex.split(line)[2:], *options]


@pytest.mark.slow
def test_in_the_unpacked_bundle_the_card_s_commands_segment_train_resume_and_evaluate(
    unpacked: Path, tmp_path: Path
) -> None:
    run_in(unpacked, "-c", "import scripts; from importlib.util import find_spec; assert find_spec('bundle') is None")
    sample(str(tmp_path / "data"), size=96, train=1, test=1)
    shutil.copytree(tmp_path / "data" / "test" / "images", unpacked / "my" / "images")
    sample(str(unpacked / "data" / "isbi2012"), size=96, train=5, test=1)
    named = re.findall(r"`(data/isbi2012/\S+)`", (unpacked / "docs" / "README.md").read_text())
    assert [name for name in named if (unpacked / name).is_file()] == named != []
    weights = (unpacked / WEIGHTS).read_bytes()
    quick = ("--device", "cpu", "--input_size", "188", "--num_workers", "0")
    run_modules(
        unpacked,
        in_the_card(unpacked, "--dataset_dir my/images --output_dir my/segmentation"),
        in_the_card(unpacked, "data_isbi2012.yaml']\"", *quick, "--max_epochs", "1"),
        in_the_card(unpacked, "--resume true", *quick, "--max_epochs", "2"),
        in_the_card(unpacked, "'configs/evaluate.yaml']\"", *quick),
        **NOT_COMPILED,
    )
    [classes] = (unpacked / "my" / "segmentation" / "classes").iterdir()
    assert np.asarray(Image.open(classes)).shape == (96, 96)
    assert (unpacked / WEIGHTS).read_bytes() != weights
    history = (unpacked / "output" / "train" / "history.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in history] == ["epoch", "1", "2"]
    report = json.loads((unpacked / "output" / "train" / "evaluation" / "metrics.json").read_text())
    assert report["images"] == 1


def split_card(text: str) -> tuple[dict, str]:
    """Metadata and text of a card on the hub."""
    _, head, body = text.split("---\n", 2)
    return yaml.safe_load(head), body


def test_the_hub_s_card_is_ours_with_its_licence_recognised(unpacked: Path) -> None:
    card = (unpacked / "docs" / "README.md").read_text()
    (unpacked / "README.md").write_text(card)
    _add_model_card_metadata(str(unpacked / "README.md"))  # a step of push_to_hf_hub before the upload
    head, body = split_card((unpacked / "README.md").read_text())
    assert head["license"] == "apache-2.0"
    assert head["library_name"] == "monai"
    assert body.endswith(card)


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("huggingface_hub"), reason="needs huggingface_hub: pip install huggingface_hub")
def test_pushing_uploads_every_file_of_the_bundle_and_its_card(unpacked: Path) -> None:
    contents = {p.relative_to(unpacked).as_posix(): p.read_bytes() for p in unpacked.rglob("*") if p.is_file()}
    place = {"repo": REPOSITORY, "name": NAME, "bundle_dir": str(unpacked.parent)}
    code = f"import monai.bundle; monai.bundle.push_to_hf_hub(**{place}, token='hf_none', version='0.1.0')"
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, args=(0.01,))
        thread.start()
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"HF_ENDPOINT": hub.address, "HF_HUB_DISABLE_XET": "1", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        hub.shutdown()
        thread.join()
    assert done.returncode == 0, done.stderr
    [created] = hub.created
    # old versions of huggingface_hub send a switch, new versions a word
    assert "private" in (created.get("visibility"), *(key for key in created if created[key] is True))
    assert hub.tags == ["0.1.0"]
    head, body = split_card(hub.files.pop("README.md").decode())
    assert head["license"] == "apache-2.0"
    assert body.strip() == contents["docs/README.md"].decode().strip()
    assert hub.files == contents
