"""`python -m bundle train`, `evaluate` and `segment`: results, which value wins, refused words."""

from __future__ import annotations

import gc
import json
import shlex
import shutil
import sqlite3
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from bundle.__main__ import main
from bundle.datasets.sample import sample
from scripts.io.files import read_csv

# MONAI's warning "configs are programs" stays for overlays of users
pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file:UserWarning")

ROOT = Path(__file__).resolve().parents[3]
CPU = "--device=cpu"
SMALL = ["--network_def#features=[2,4,8,16,32]", "--input_size=188", "--num_workers=0", CPU]
TINY = [*SMALL, "--label_kind=instances", "--plan=false"]
OVERLAYS = sorted(
    {path.stem for path in (ROOT / "configs").glob("*.yaml")} - {"train", "evaluate", "inference", "preview"}
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic sections of 64 x 64 pixels: `cells` with three images to train with, `test` with two."""
    folder = tmp_path_factory.mktemp("data")
    sample(str(folder), size=64, train=3, test=2)
    (folder / "train").rename(folder / "cells.v2")
    return folder


@pytest.fixture(scope="module")
def weights(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a training of one epoch."""
    folder = tmp_path_factory.mktemp("trained")
    assert main(["train", str(data / "cells.v2"), "--output", str(folder), "--max_epochs=1", *TINY]) == 0
    return folder / "model.pt"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, as a user has."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_training_goes_to_a_folder_named_after_the_data_set_and_ends_with_the_next_command(
    data: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published = ROOT / "models" / "model.pt"
    before = published.stat()
    assert main(["train", str(data / "cells.v2"), "--max_epochs=1", "--key_metric=mean_dice", *TINY]) == 0
    assert {"model.pt", "training_state.pt", "history.csv", "split.json"} <= files(here / "output" / "cells.v2")
    assert files(here) == {f"output/cells.v2/{name}" for name in files(here / "output" / "cells.v2")}
    assert (published.stat().st_mtime_ns, published.stat().st_size) == (before.st_mtime_ns, before.st_size)

    *_, weights, pictures, last = capsys.readouterr().out.splitlines()
    assert weights == f"weights: {Path('output/cells.v2/model.pt')}"
    assert pictures == f"look at: panel.png, curves.png in {Path('output/cells.v2')}"
    words = shlex.split(last.partition("python -m bundle ")[2].replace("my/images", str(data / "test" / "images")))
    assert main([*words, CPU]) == 0
    assert {"output/segmentation/classes/00.png", "output/segmentation/objects.csv"} <= files(here)


def test_a_training_that_finds_nothing_ends_with_a_warning_and_leads_to_the_report(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--max_epochs=1", "--min_area=100000", "--output", "out"]  # larger than any object
    assert main(["train", str(data / "cells.v2"), *given, *TINY]) == 0
    *_, last = capsys.readouterr().out.splitlines()
    assert last == "next: python -m bundle report out"
    logged = Path("out/run.log").read_text(encoding="utf-8").splitlines()[-1]
    assert "WARNING" in logged
    assert "instance_f1 is 0" in logged


def test_results_go_where_the_command_line_says_else_where_an_overlay_says(data: Path, here: Path) -> None:
    Path("mine.yaml").write_text("output_dir: theirs\nmodel_dir: weights\nmax_epochs: 2\n", encoding="utf-8")
    train = ["train", str(data / "cells.v2"), *TINY, "--overlay", "mine.yaml"]
    assert main(train) == 0
    assert Path("weights/model.pt").is_file()
    assert len(read_csv(Path("theirs/history.csv"))) == 2
    assert main([*train, "--output", "mine", "--max_epochs", "1"]) == 0
    assert {"model.pt", "history.csv"} <= files(here / "mine")
    assert len(read_csv(Path("mine/history.csv"))) == 1
    assert main([*train, "--output", "again", "--model_dir", "apart", "--max_epochs", "1"]) == 0
    assert Path("apart/model.pt").is_file()
    assert not Path("again/model.pt").exists()


@pytest.mark.parametrize(
    "words, measured",
    [
        ([], {"00.png", "01.png", "02.png"}),
        (["--overlay", "mine.yaml"], {"00.png", "01.png", "02.png"}),
        (["--split_file", "SPLIT"], {"HELD OUT"}),
        (["--split_rule", "last"], {"02.png"}),
    ],
    ids=["alone", "overlay with another rule", "split file", "split rule"],
)
def test_an_evaluation_measures_the_whole_folder_unless_told_otherwise(
    words: list[str], measured: set[str], data: Path, weights: Path
) -> None:
    Path("mine.yaml").write_text("split_rule: last\nval_fraction: 0.3\n", encoding="utf-8")
    split = weights.parent / "split.json"
    held_out = set(json.loads(split.read_text(encoding="utf-8"))["validation"])
    given = [word.replace("SPLIT", str(split)) for word in words]
    options = ["--weights", str(weights), "--save_panels=false", CPU]
    assert main(["evaluate", str(data / "cells.v2"), *given, *options]) == 0
    rows = read_csv(Path("output/evaluation/cells.v2/metrics_per_image.csv"))
    assert {f"{Path(str(row['image'])).stem}.png" for row in rows} == (
        held_out if measured == {"HELD OUT"} else measured
    )


def test_scores_of_images_that_chose_the_weights_are_called_optimistic(
    data: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split = ["--split_file", str(weights.parent / "split.json")]
    optimistic = {}
    for name, given in (("cells.v2", split), ("test", [])):
        assert main(["evaluate", str(data / name), "--weights", str(weights), *given, CPU]) == 0
        printed = capsys.readouterr().out.splitlines()
        logged = Path(f"output/evaluation/{name}/run.log").read_text(encoding="utf-8").splitlines()
        optimistic[name] = [sum("chose the weights" in line for line in lines) for lines in (printed, logged)]
    assert optimistic == {"cells.v2": [1, 1], "test": [0, 0]}


def test_each_data_set_has_its_own_folder_of_evaluation_named_in_the_last_line(
    data: Path, weights: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--weights", str(weights), CPU]
    for name in ("cells.v2", "test"):
        assert main(["evaluate", str(data / name), *options]) == 0
        assert str(Path("output/evaluation") / name) in capsys.readouterr().out.splitlines()[-1]
    assert {len(read_csv(path)) for path in Path("output/evaluation").glob("*/metrics_per_image.csv")} == {3, 2}
    shutil.copytree(data / "test", here / "other" / "test")
    before = files(here / "output")
    assert main(["evaluate", "other/test", *options]) == 2
    message = capsys.readouterr().err
    assert str(data / "test") in message
    assert "--output" in message
    assert files(here / "output") == before
    assert main(["evaluate", "other/test", *options, "--output", "chosen"]) == 0
    assert Path("chosen/metrics.json").is_file()


def test_an_evaluation_of_a_folder_that_is_not_here_is_not_replaced(
    data: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = here / "output" / "evaluation" / "test"
    folder.mkdir(parents=True)
    record = {"format": 1, "workflow": "evaluation", "settings": {}, "data": "/on/another/machine/test"}
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    assert main(["evaluate", str(data / "test")]) == 2
    message = capsys.readouterr().err
    assert [
        word for word in ("/on/another/machine/test", "output/evaluation/test", "--output") if word not in message
    ] == []
    assert files(here / "output") == {"evaluation/test/run.json"}


def test_an_evaluation_takes_the_keys_of_evaluate_yaml_from_an_overlay(data: Path, weights: Path) -> None:
    Path("mine.yaml").write_text(f"save_panels: false\nckpt_path: {weights}\nwarping_error: false\n", encoding="utf-8")
    given = ["--overlay", "mine.yaml", "--output", "there", CPU]
    assert main(["evaluate", str(data / "test"), *given]) == 0
    assert not Path("there/panels").exists()
    assert not Path("output").exists()
    assert Path("there/object_metrics.json").is_file()


def test_without_weights_those_of_the_bundle_are_measured_and_segment(
    data: Path, here: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = here / "one"
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
        shutil.copy(data / "test" / kind / "00.png", folder / kind)
    assert main(["segment", str(folder / "images"), "--output", "short", "--device=cpu"]) == 0
    for told in (capsys.readouterr().out, Path("short/run.log").read_text(encoding="utf-8")):
        assert f"weights: em ({ROOT / 'models' / 'model.pt'})" in told
    long = ["run", "--config_file", str(ROOT / "configs" / "inference.yaml"), "--dataset_dir", str(folder / "images")]
    keys = ["--ckpt_path", str(ROOT / "models" / "model.pt"), "--output_dir", "long", "--device=cpu"]
    assert main([*long, *keys]) == 0
    assert files(here / "short") == files(here / "long")
    for name in files(here / "long") - {"run.json", "run.log"}:  # with times and commands
        assert (here / "short" / name).read_bytes() == (here / "long" / name).read_bytes(), name

    assert main(["evaluate", "one", "--device=cpu", "--save_results=true"]) == 0
    scores = (
        tifffile.imread(folder / "probabilities/00.tif") for folder in (Path("short"), Path("output/evaluation/one"))
    )
    np.testing.assert_allclose(*scores, atol=0.02)  # bfloat16 on some processors


@pytest.mark.skipif(find_spec("mlflow") is None, reason="needs mlflow")
def test_runs_can_be_tracked_in_a_store_and_under_a_name_of_their_own(data: Path, weights: Path) -> None:
    store = ["--tracking", "mlflow", "--tracking_uri", "sqlite:///all.db", "--run_name"]
    assert main(["train", str(data / "cells.v2"), *store, "first", "--max_epochs=1", *TINY]) == 0
    given = ["--weights", str(weights), CPU]
    assert main(["evaluate", str(data / "test"), *store, "second", "--save_panels=false", *given]) == 0
    assert main(["segment", str(data / "test" / "images"), *store, "third", *given]) == 0
    with sqlite3.connect("all.db") as connection:
        names = {name for (name,) in connection.execute("select name from runs")}
    connection.close()
    assert {"first", "second", "third"} <= names


def test_a_plane_of_a_stack_with_a_relative_path(weights: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 256, (3, 64, 64), dtype=np.uint8)
    tifffile.imwrite("stack.tif", stack, photometric="minisblack")
    assert main(["segment", "stack.tif#page=1", "--weights", str(weights), CPU]) == 0
    assert len(files(Path("output/segmentation/classes"))) == 1


def test_a_training_may_start_from_weights_and_those_of_the_bundle_are_found_from_anywhere(
    data: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = ["train", str(data / "cells.v2"), "--max_epochs=1", "--validate_first=true", *TINY[1:]]
    assert main([*train, "--finetune", str(weights)]) == 0
    capsys.readouterr()
    assert main([*train, "--finetune", "models/model.pt", "--network_def#features=[2,4]"]) == 1
    assert "features" in capsys.readouterr().err  # the file was read: its network is another


@pytest.mark.parametrize("name", ["null", "$x", "@x", "1e3", "2024", "a#1", "a #1", "[1]", "a,b"])
def test_folders_may_have_any_name(name: str, data: Path, weights: Path) -> None:
    shutil.copytree(data / "test" / "images", name)
    for suffix in (".pt", ".json"):
        shutil.copy(weights.with_suffix(suffix), f"{name}{suffix}")
    assert main(["segment", name, "--output", f"{name} out", "--weights", f"{name}.pt", CPU]) == 0
    assert Path(f"{name} out", "classes", "01.png").is_file()


def test_an_overlay_s_weights_are_used_unless_others_are_given(data: Path, weights: Path) -> None:
    Path("mine.yaml").write_text(f"ckpt_path: {weights}\nsave_overlays: false\n", encoding="utf-8")
    segment = ["segment", str(data / "test" / "images"), "--overlay", "mine.yaml", CPU]
    assert main(segment) == 0
    assert main([*segment, "--weights", "nowhere.pt"]) == 2


def test_components_in_a_module_beside_an_overlay_are_found(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "loss_of_mine.py").write_text(
        "from scripts.losses import WeightedCrossEntropyLoss\nclass Mine(WeightedCrossEntropyLoss): pass\n",
        encoding="utf-8",
    )
    (folder / "mine.yaml").write_text("loss: {_target_: loss_of_mine.Mine}\n", encoding="utf-8")
    monkeypatch.delitem(sys.modules, "loss_of_mine", raising=False)
    before = list(sys.path)
    assert main(["train", str(data / "cells.v2"), "--overlay", str(folder / "mine.yaml"), "--max_epochs=1", *TINY]) == 0
    assert sys.path == before


@pytest.mark.parametrize("form", ["['variant_fast','mine.yaml']", "[variant_fast,mine.yaml]", "variant_fast,mine.yaml"])
@pytest.mark.parametrize("name", ["variant_fast", "variant_fast.yaml", "configs/variant_fast.yaml"])
def test_overlays_are_given_by_name_or_file_alone_or_as_a_list(
    form: str, name: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The named overlay has the key weight_decay, the file the key `half`; the misspelt key comes last."""
    Path("mine.yaml").write_text("half: 0.5\ndropout: '@half'\n", encoding="utf-8")
    overlay = form.replace("variant_fast", name)
    assert main(["train", str(data / "cells.v2"), "--overlay", overlay, "--weight_decy", "1", "--half", "1"]) == 2
    assert "unknown key 'weight_decy'; did you mean 'weight_decay'" in capsys.readouterr().err


@pytest.mark.parametrize("name", OVERLAYS)
def test_each_overlay_fits_the_commands_that_it_was_written_for(
    name: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = (ROOT / "configs" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[1]
    first = "segment" if "configs/inference.yaml" in command else "train"
    second = "evaluate" if first == "train" else "segment"
    for chosen in (first, second):  # the key after the overlay is refused, nothing runs
        assert main([chosen, str(data / "test"), "--overlay", name, "--devic", "cpu"]) == 2
        assert "unknown key 'devic'; did you mean 'device'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, parts",
    [
        (["train", "DATA/cells.v3"], ["DATASET", "DATA/cells.v3", "DATA/cells.v2"]),
        (["train", "nowhere"], ["DATASET", "nowhere", "images/ and labels/"]),
        (["segment", "DATA/test/image"], ["PATH", "DATA/test/images"]),
        (["segment", "DATA/test/images/00.pgn"], ["DATA/test/images/00.png"]),
        (["segment", "nowhere.tif#page=2"], ["nowhere.tif"]),
        (["segment", "DATA/test/images", "--weights", "nowhere.pt"], ["--weights", "nowhere.pt"]),
        (["segment", "DATA/test/images", "--ckpt_path", "nowhere.pt"], ["--weights", "nowhere.pt"]),
        (["segment", "DATA/test/images", "--weights", "FOLDER"], ["--weights", "FOLDER", "FOLDER/model.pt"]),
        (["evaluate", "DATA/test", "--weights", "FOLDER/modl.pt"], ["--weights", "FOLDER/model.pt"]),
        (["segment", "DATA/test/images", "--weights", "FOLDER/model.json"], ["--weights", "FOLDER/model.json", ".pt"]),
        (["segment", "DATA/test/images", "--weights", "a.onnx"], ["--weights", "a.onnx", "--backend"]),
        (["train", "DATA/test", "--finetune", "a.ts"], ["--finetune", "a.ts", ".pt"]),
        (["segment", "DATA/test/images", "--output", "FOLDER/model.pt"], ["--output", "FOLDER/model.pt", "file"]),
        (["segment", "DATA/test/images", "--weights", "a.pt", "--ckpt_path", "a.pt"], ["--weights", "--ckpt_path"]),
        (["segment", "DATA/test/images", "--dataset_dir", "DATA"], ["PATH", "--dataset_dir"]),
        (["train", "DATA/test", "--output", "a", "--output_dir", "b"], ["--output", "--output_dir"]),
        (["train", "DATA/test", "--weights", "FOLDER/model.pt"], ["--weights", "--from", "--resume"]),
        (["evaluate", "DATA/test", "--finetune", "FOLDER/model.pt"], ["--finetune", "--weights"]),
        (["train", "DATA/test", "--finetune", "FOLDER"], ["--finetune", "FOLDER/model.pt"]),
        (["train", "DATA/test", "--finetune", "models/nowhere.pt"], ["--finetune", "models/nowhere.pt"]),
        (["train", "DATA/test", "--from", "nowhere.pt"], ["nowhere.pt"]),
        (["train", "DATA/test", "--from", "nuclie"], ["--from", "nuclie", "em"]),
        (["train", "DATA/test", "--finetune", "nuclie"], ["--finetune", "nuclie", "em"]),
        (["train", "DATA/test", "--from"], ["--from", "value"]),
        (["train", "DATA/test", "--from", "em", "--finetune", "em"], ["--from", "--finetune"]),
        (["train", "DATA/test", "--form", "em"], ["'form'", "'--from'"]),
        (["evaluate", "DATA/test", "--from", "em"], ["--from", "--weights"]),
        (["evaluate", "DATA/test", "--weights", "nuclie"], ["--weights", "nuclie", "em"]),
        (["segment", "DATA/test/images", "--weights", "nuclie"], ["--weights", "nuclie", "em"]),
        (["segment", "DATA/test/images", "--ckpt_path", "nuclie"], ["--weights", "nuclie", "em"]),
        (["train", "DATA/test", "--config_file", "a.yaml"], ["--config_file", "--overlay", "python -m bundle run"]),
        (["train", "DATA/test", "--run_id", "training"], ["--run_id"]),
        (["train", "DATA/test", "--args_file", "a.yaml"], ["--args_file"]),
        (["train", "DATA/test", "--overlay", "variant_fsat"], ["variant_fsat", "'variant_fast'"]),
        (["train", "DATA/test", "--overlay", "inference"], ["inference", "'multi_gpu_inference'"]),
        (["train", "DATA/test", "--overlay", "mine/variant_fast.yaml"], ["mine/variant_fast.yaml", "'variant_fast'"]),
        (["train", "DATA/test", "--overlay", "typo.yaml"], ["typo.yaml", "'max_epoch'", "'max_epochs'"]),
        (["train", "DATA/test", "--overlay", "unread.yaml"], ["unread.yaml", "'theirs'", "configs/train.yaml"]),
        (["segment", "DATA/test", "--overlay", "variant_fast"], ["variant_fast", "configs/inference.yaml"]),
        (["segment", "DATA/test", "--outptu", "a"], ["'outptu'", "'--output'"]),
        (["evaluate", "DATA/test", "--overlays", "a"], ["'overlays'", "'--overlay'"]),
        (["segment", "DATA/test", "--overlay_label", "true"], ["'overlay_label'", "'overlay_labels'"]),
        (["evaluate", "DATA/test", "--key_metrc", "seg"], ["'key_metrc'", "'key_metric'"]),
        (["segment", "DATA/test", "--overlay", "a.yaml", "--overlay", "b.yaml"], ["--overlay", "once"]),
        (["segment", "DATA/test", "--weights"], ["--weights"]),
    ],
)
def test_mistakes_are_one_message_before_anything_starts(
    words: list[str], parts: list[str], data: Path, weights: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("typo.yaml").write_text("max_epoch: 3\n", encoding="utf-8")
    Path("unread.yaml").write_text("mine: 3\ntheirs: '@mine'\n", encoding="utf-8")
    places = {"DATA": str(data), "FOLDER": str(weights.parent)}
    before = files(here)

    def filled(text: str) -> str:
        for name, place in places.items():
            text = text.replace(name, place) if not text.startswith("DATASET") else text
        return text

    capsys.readouterr()
    assert main([filled(word) for word in words]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    assert shown.out == ""
    assert [part for part in parts if filled(part) not in shown.err] == []
    assert files(here) == before


@pytest.mark.parametrize(
    "words, parts",
    [
        (["train", "DATA/test/images"], ["no plan", "DATA/test/images", "labels/"]),
        (["train", "DATA/test/images", "--plan=false"], ["'datalist'", "DATA/test/images", "labels/"]),
        (["segment", "DATA/test"], ["'datalist'", "no images", "DATA/test", "images/"]),
    ],
)
def test_folders_without_images_are_one_message_and_leave_nothing_behind(
    words: list[str], parts: list[str], data: Path, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([word.replace("DATA", str(data)) for word in words]) == 1
    shown = capfd.readouterr().err
    assert all(part.replace("DATA", str(data)) in shown for part in parts)
    assert "Traceback" not in shown
    gc.collect()  # what the end of the process does
    assert files(here) == set()


def test_only_one_of_several_processes_tells_the_results(
    data: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert main(["segment", str(data / "test" / "images"), "--weights", str(weights), CPU]) == 0
    assert "results:" not in capsys.readouterr().out


def test_a_checkout_s_scripts_are_no_program() -> None:
    done = subprocess.run([sys.executable, "-m", "scripts"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "python -m monai.bundle run" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_image_alone_is_segmented(data: Path, weights: Path) -> None:
    assert main(["segment", str(data / "test" / "images" / "01.png"), "--weights", str(weights), CPU]) == 0
    with Image.open("output/segmentation/classes/01.png") as classes:
        assert classes.size == (64, 64)
