"""`plan` and `doctor`, and how `train` uses a plan: which value wins, what is kept, what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from PIL import Image

from bundle.__main__ import main
from bundle.datasets.sample import sample
from bundle.running import workflows
from bundle.running.configuration import merge_files
from scripts.data.splits import too_few
from scripts.io.files import read_csv
from scripts.published import published

pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file:UserWarning")

TINY = ["--network_def#features=[2,4,8,16,32]", "--input_size=188", "--num_workers=0", "--device=cpu"]
SHORT = [*TINY, "--max_epochs=1", "--tiles_per_epoch=2", "--fit_objects=false"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four synthetic sections of 96 x 96 pixels, with instance labels."""
    folder = tmp_path_factory.mktemp("made")
    sample(str(folder), size=96, train=4, test=1)
    return folder / "train"


@pytest.fixture
def data(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with the data set `my/data`, the current folder."""
    shutil.copytree(made, tmp_path / "my" / "data")
    monkeypatch.chdir(tmp_path)
    return Path("my/data")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Record what `train` would run, without a training."""
    seen = SimpleNamespace(files=[], changes={}, config={})

    def run(run_id: str, config_file: list[str], trace: bool, **changes: object) -> None:
        seen.files, seen.changes = config_file, changes
        seen.config = merge_files("--config_file", config_file)

    monkeypatch.setattr(workflows, "run", run)
    return seen


def content(file: Path) -> dict:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def test_a_plan_is_written_beside_the_data_and_the_next_command_is_told(data: Path, capsys) -> None:
    assert main(["plan", str(data)]) == 0
    out = capsys.readouterr().out
    assert content(data / "plan.yaml")["label_kind"] == "instances"
    assert (data / "plan.yaml").read_text(encoding="utf-8") in out
    assert "train my/data" in out.splitlines()[-1]


def test_an_edited_plan_is_kept_until_overwrite(data: Path, capsys) -> None:
    assert main(["plan", str(data)]) == 0
    file = data / "plan.yaml"
    commented = file.read_text(encoding="utf-8") + "# checked by hand\n"
    file.write_text(commented, encoding="utf-8")
    capsys.readouterr()
    assert main(["plan", str(data)]) == 0  # the same values
    out = capsys.readouterr().out
    assert [word for word in ("my/data/plan.yaml is kept", "data are the same", "--overwrite") if word not in out] == []
    assert file.read_text(encoding="utf-8") == commented
    edited = commented.replace("sigma: ", "sigma: 4  # was ")
    file.write_text(edited, encoding="utf-8")
    assert main(["plan", str(data)]) == 2
    message = capsys.readouterr().err
    assert file.read_text(encoding="utf-8") == edited
    assert [word for word in ("my/data/plan.yaml", "sigma 4", "--overwrite") if word not in message] == []
    assert main(["plan", str(data), "--overwrite"]) == 0
    assert content(file)["sigma"] != 4


def test_a_kept_plan_says_that_the_data_have_changed(data: Path, capsys) -> None:
    assert main(["plan", str(data)]) == 0
    for kind in ("images", "labels"):
        (data / kind / "03.png").unlink()
    main(["plan", str(data), "--max_minutes", "7"])
    message = capsys.readouterr().err
    words = ("were 4 images", "now 3 images", "max_minutes 30, new 7.0", "my/data --max_minutes 7 --overwrite")
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize("command", ["plan", "train", "evaluate"])
@pytest.mark.parametrize("text", ["sigma: 3\ninput_size: [", "sigma: 3\nsigma: 4\n", "sigma: 3\nscale: &a [*a]\n"])
def test_an_unreadable_plan_is_named_with_the_line_and_the_remedy(text: str, command: str, data: Path, capsys) -> None:
    (data / "plan.yaml").write_text(text, encoding="utf-8")
    assert main([command, str(data)]) == 2
    message = capsys.readouterr().err
    assert [word for word in ("my/data/plan.yaml", "line 2", "plan my/data --overwrite") if word not in message] == []


def test_a_trusted_plan_that_holds_itself_is_refused(data: Path, tmp_path: Path, capsys) -> None:
    file = tmp_path / "trusted.yaml"
    file.write_text("scale: 0.1\nnetwork_def: &a {x: *a}\n", encoding="utf-8")
    assert main(["train", str(data), "--plan", str(file)]) == 2
    message = capsys.readouterr().err
    assert [word for word in (str(file), "line 2", "itself") if word not in message] == []


@pytest.mark.parametrize("command", ["plan", "train", "doctor"])
def test_a_single_image_is_refused_in_the_same_words(command: str, data: Path, capsys) -> None:
    for kind in ("images", "labels"):
        for file in sorted((data / kind).iterdir())[1:]:
            file.unlink()
    assert main([command, str(data)]) == 1
    said = capsys.readouterr()
    assert too_few(1) in said.out + said.err
    assert not (data / "plan.yaml").exists()
    assert main(["plan", str(data), "--split_rule", "all"]) == 0


def test_a_single_image_is_planned_for_a_training_with_a_split_file(data: Path, started) -> None:
    for kind in ("images", "labels"):
        for file in sorted((data / kind).iterdir())[1:]:
            file.unlink()
    split = {"training": ["00.png"], "validation": ["00.png"], "rule": {"how": "all"}}
    Path("split.json").write_text(json.dumps(split), encoding="utf-8")
    assert main(["train", str(data), "--split_file", "split.json"]) == 0
    assert content(data / "plan.yaml")["label_kind"] == "instances"
    assert started.changes["split_file"] == "split.json"


def test_the_plan_of_a_read_only_folder_goes_to_the_results(data: Path, started, capsys) -> None:
    data.chmod(0o555)
    try:
        assert main(["plan", str(data)]) == 0
        assert main(["train", str(data)]) == 0
    finally:
        data.chmod(0o755)
    assert "output/data/plan.yaml" in capsys.readouterr().out
    assert str(Path("output/data/plan.yaml")) in started.files


@pytest.mark.parametrize(
    "words, said",
    [
        (["--label_knd", "classes"], ["label_knd", "label_kind"]),
        (["--label_kind", "cells"], ["label_kind", "cells", "instances"]),
        (["--max_minuts", "3"], ["'max_minuts'", "'max_minutes'"]),
        (["--seed", "3"], ["seed"]),
    ],
)
def test_a_plan_refuses_what_it_does_not_choose(words: list[str], said: list[str], data: Path, capsys) -> None:
    for command in ("plan", "doctor"):
        assert main([command, str(data), *words]) == 2
        message = capsys.readouterr().err
        assert [word for word in said if word not in message] == []
    assert not (data / "plan.yaml").exists()


def test_a_plan_is_shown_whole_when_made_and_in_one_line_later(data: Path, started, capsys) -> None:
    shown = []
    for _ in range(2):
        assert main(["train", str(data)]) == 0
        shown.append(capsys.readouterr().out)
    plan = content(data / "plan.yaml")
    assert "sigma: " in shown[0]
    assert "sigma: " not in shown[1]
    (line,) = [line for line in shown[1].splitlines() if line.startswith("plan: ")]
    assert str(data / "plan.yaml") in line
    assert f"{len(plan) - 1} settings" in line  # without the facts about the plan


def test_a_training_makes_a_plan_and_trains_with_it(data: Path) -> None:
    assert main(["train", str(data), *SHORT]) == 0
    settings = json.loads(Path("output/data/model.json").read_text(encoding="utf-8"))
    plan = content(data / "plan.yaml")
    assert {key: settings[key] for key in ("label_kind", "class_names", "key_metric")} == {
        key: plan[key] for key in ("label_kind", "class_names", "key_metric")
    }
    assert len(read_csv(Path("output/data/history.csv"))) == 1
    before = (data / "plan.yaml").read_bytes()
    longer = [word for word in SHORT if "max_epochs" not in word]
    assert main(["train", str(data), *longer, "--max_epochs=2", "--resume=true"]) == 0
    assert len(read_csv(Path("output/data/history.csv"))) == 2
    assert (data / "plan.yaml").read_bytes() == before


def test_folders_of_other_names_and_films_of_a_challenge_train_and_are_measured_by_their_plan(data: Path) -> None:
    (data / "images").rename(data / "raw")
    (data / "labels").rename(data / "masks")
    assert main(["train", str(data), *SHORT]) == 0
    weights = ["--weights", "output/data/model.pt", "--save_panels=false", "--warping_error=false", "--device=cpu"]
    assert main(["evaluate", str(data), *weights, "--split_file", "output/data/split.json"]) == 0
    assert len(read_csv(Path("output/evaluation/data/metrics_per_image.csv"))) == 1

    film = Path("film")
    for kind, prefix in (("raw", "01/t"), ("masks", "01_ST/SEG/man_seg")):
        for k, file in enumerate(sorted((data / kind).iterdir())):
            target = film / f"{prefix}{k:03}.tif"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.open(file).save(target)
    assert main(["train", str(film), *SHORT]) == 0
    held = json.loads(Path("output/film/split.json").read_text(encoding="utf-8"))
    assert held["validation"] == ["t003.tif"]
    assert len(held["training"]) == 2  # a frame between both parts
    by_plan = ["--overlay", "film/plan.yaml", "--weights", "output/film/model.pt", TINY[0]]
    assert main(["evaluate", str(film), *weights[2:], *by_plan, "--output", "measured"]) == 0
    (row,) = read_csv(Path("measured/metrics_per_image.csv"))
    assert "t003" in row["image"]


def test_the_command_line_wins_over_overlays_and_overlays_over_the_plan(data: Path, started) -> None:
    assert main(["plan", str(data)]) == 0
    Path("mine.yaml").write_text("sigma: 4.5\nscale: 0.01\n", encoding="utf-8")
    assert main(["train", str(data), "--overlay", "mine.yaml", "--scale", "0.02"]) == 0
    names = [Path(file).name for file in started.files]
    assert names == ["train.yaml", "variant_fast.yaml", "plan.yaml", "mine.yaml"]
    assert started.config["sigma"] == 4.5
    assert started.config["key_metric"] == "instance_f1"
    assert started.changes["scale"] == 0.02


def test_a_recipe_of_the_user_replaces_that_of_the_plan(data: Path, started) -> None:
    assert main(["plan", str(data)]) == 0
    assert main(["train", str(data), "--overlay", "variant_adam"]) == 0
    assert [Path(file).name for file in started.files] == ["train.yaml", "plan.yaml", "variant_adam.yaml"]
    assert main(["train", str(data), "--overlay", "variant_fast"]) == 0
    assert [Path(file).name for file in started.files].count("variant_fast.yaml") == 1


def test_epochs_take_the_place_of_the_plan_s_minutes(data: Path, started) -> None:
    assert main(["train", str(data), "--max_epochs", "7"]) == 0
    assert started.changes["max_minutes"] is None
    assert main(["train", str(data), "--max_epochs", "7", "--max_minutes", "3"]) == 0
    assert started.changes["max_minutes"] == 3


def test_weights_to_start_from_keep_their_classes_and_scaling(data: Path, started) -> None:
    assert main(["train", str(data), "--from", "nuclei_small"]) == 0
    assert started.changes["class_names"] is None
    assert started.changes["intensity"] is None
    assert started.changes["finetune"].endswith(published()["nuclei_small"].name)


@pytest.mark.parametrize("words", [["--plan=false"], ["--overlay", "variant_fast"], ["--resume", "true"]])
def test_no_plan_is_made_without_asking(words: list[str], data: Path, started) -> None:
    state = Path("output/data/training_state.pt")
    state.parent.mkdir(parents=True)
    state.touch()
    assert main(["train", str(data), *words]) == 0
    assert "plan.yaml" not in [Path(file).name for file in started.files]
    assert not (data / "plan.yaml").exists()


def test_a_named_plan_is_used_and_a_missing_one_is_refused(data: Path, started, capsys) -> None:
    assert main(["plan", str(data), "--output", "elsewhere"]) == 0
    assert main(["train", str(data), "--plan", "elsewhere/plan.yaml"]) == 0
    assert str(Path("elsewhere/plan.yaml")) in started.files
    assert main(["train", str(data), "--plan", "elsewhere/gone.yaml"]) == 2
    assert "elsewhere/gone.yaml" in capsys.readouterr().err


def test_other_images_another_kind_and_another_device_are_told(data: Path, started, capsys) -> None:
    assert main(["plan", str(data)]) == 0
    for kind in ("images", "labels"):
        (data / kind / "03.png").unlink()
    file = data / "plan.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("device: cpu", "device: cuda"), encoding="utf-8")
    capsys.readouterr()
    assert main(["train", str(data), "--label_kind", "binary"]) == 0
    out = capsys.readouterr().out
    assert [word for word in ("4 images, now 3", "cuda", "instances", "--overwrite") if word not in out] == []


def test_wrong_labels_are_refused_before_a_plan_and_may_still_be_trained_with(data: Path, started, capsys) -> None:
    for file in (data / "labels").iterdir():
        label = np.asarray(Image.open(file))
        Image.fromarray((1 + (label > 0)).astype(np.uint8)).save(file)
    assert main(["train", str(data)]) == 1
    message = capsys.readouterr().err
    assert [word for word in ("my/data", "1, 2", "--label_values") if word not in message] == []
    assert not (data / "plan.yaml").exists()
    assert started.files == []
    assert main(["train", str(data), "--check_labels", "warn"]) == 0
    assert [Path(file).name for file in started.files] == ["train.yaml"]


def test_a_wrong_setting_ends_before_images_are_read(data: Path, capsys) -> None:
    assert main(["train", str(data), "--max_epoch", "3"]) == 2
    assert "max_epochs" in capsys.readouterr().err
    assert not (data / "plan.yaml").exists()


@pytest.mark.parametrize(
    "line, key",
    [
        ("sigma: $__import__('pathlib').Path('run').touch()", "sigma"),
        ("initialize: [$__import__('pathlib').Path('run').touch()]", "initialize"),
        ("loss: {_target_: os.mkdir, path: run}", "loss"),
        ("bundle_root: elsewhere", "bundle_root"),
        ("plan: {overlays: [../elsewhere.yaml]}", "plan"),
        ("class_names: &names [*names]", "line 1"),
        (f"class_names: {'[' * 3000}", "nested"),
        ("5: 3", "5"),
        ("? [w0]\n: 3", "plan.yaml"),
    ],
)
def test_a_plan_with_code_that_came_with_the_data_is_refused(line: str, key: str, data: Path, started, capsys) -> None:
    (data / "plan.yaml").write_text(f"{line}\n", encoding="utf-8")
    for command in ("train", "evaluate") if key != "plan" else ("train",):
        assert main([command, str(data)]) == 2
        message = capsys.readouterr().err
        assert [word for word in ("my/data/plan.yaml", key) if word not in message] == []
    assert started.files == []
    assert not Path("run").exists()


def test_a_plan_of_another_data_set_is_told(data: Path, started, capsys) -> None:
    assert main(["plan", str(data)]) == 0
    shutil.copytree(data, "my/others")
    capsys.readouterr()
    assert main(["train", "my/others"]) == 0
    told = capsys.readouterr().out
    assert [word for word in ("my/others/plan.yaml", "data set data", "this is others") if word not in told] == []


def test_the_doctor_ends_with_a_code_for_the_worst_problem(data: Path, capsys) -> None:
    assert main(["doctor", str(data)]) == 3  # few images
    assert "4 images" in capsys.readouterr().out
    (data / "labels" / "01.png").unlink()
    assert main(["doctor", str(data), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["worst"] == "error"
    assert "01.png" in found["problems"][0]["text"]
    assert main(["doctor", "my/nowhere"]) == 2


def test_a_plan_works_with_the_strict_run_and_its_keys_are_checked(data: Path, capsys) -> None:
    assert main(["plan", str(data)]) == 0
    files = f"configs/train.yaml,configs/variant_fast.yaml,{data / 'plan.yaml'}"
    places = ["--output_dir=out", "--model_dir=out"]
    assert main(["run", "training", "--config_file", files, *places, *SHORT]) == 0
    assert Path("out/model.pt").is_file()
    assert "the plan is for" not in capsys.readouterr().out
    two = f"configs/train.yaml,{data / 'plan.yaml'}"  # trains, with the paper's optimiser
    assert main(["run", "training", "--config_file", two, "--output_dir=two", "--model_dir=two", *SHORT]) == 0
    assert "the plan is for configs/variant_fast.yaml" in capsys.readouterr().out
    file = data / "plan.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("sigma:", "sgma:"), encoding="utf-8")
    assert main(["train", str(data), *SHORT]) == 2
    message = capsys.readouterr().err
    assert [word for word in ("plan.yaml", "sgma", "sigma") if word not in message] == []


def test_configs_with_code_are_named_and_plans_made_here_are_not(data, bundle_root, capsys):
    """A run with a missing folder ends before the training."""
    assert main(["plan", "my/data"]) == 0
    Path("mine.yaml").write_text("sigma: $1 + 1\n", encoding="utf-8")
    capsys.readouterr()
    for overlay in ("my/data/plan.yaml", "mine.yaml"):
        files = f"['{bundle_root}/configs/train.yaml','{overlay}']"
        assert main(["run", "training", "--config_file", files, "--dataset_dir", "nowhere", "--output_dir", "out"]) == 1
        assert (f"note: {overlay}" in capsys.readouterr().err) == (overlay == "mine.yaml")
