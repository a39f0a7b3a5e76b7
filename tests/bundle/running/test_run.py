"""`python -m bundle run`: refused keys, the values in the workflow, messages after failures."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bundle.__main__ import main
from bundle.running.errors import UsageError
from bundle.running.run import tracking_keys

# MONAI's warning "configs are programs"; `run` keeps the warning for configs of other bundles
pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file:UserWarning")

CONFIG = """
imports: [$import json, $import pathlib]
max_epochs: 400
learning_rate: 0.1
shuffle: true
split_file: null
mode: valid
sizes: [572, 700]
device: "$'c' + 'pu'"
out_file: OUT
network_def: {_target_: torch.nn.Linear, in_features: 2, out_features: 3}
network: "$@network_def.to(@device)"
compose: {_target_: monai.transforms.Compose, transforms: []}
train:
  loader: {_target_: monai.data.DataLoader, dataset: [1, 2], batch_size: 1}
  handlers:
  - {_target_: monai.handlers.StatsHandler, _disabled_: true}
show: "$[@max_epochs, @learning_rate, @shuffle, @split_file, @mode, @sizes]"
run:
- "$pathlib.Path(@out_file).write_text(json.dumps([@show, @network.bias is not None, @train#loader.batch_size]))"
training: "@run"
failing:
- "$1 / 0"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A bundle with a small config. The workflow writes all values to out.json."""
    path = tmp_path / "configs" / "small.yaml"
    path.parent.mkdir()
    path.write_text(CONFIG.replace("OUT", json.dumps(str(tmp_path / "out.json"))), encoding="utf-8")
    return path


def run(config: object, *words: object, run_id: str = "training") -> int:
    return main(["run", run_id, "--config_file", str(config), *(str(word) for word in words)])


def seen(config: Path) -> Any:
    """Values that were read: [[max_epochs, learning_rate, shuffle, split_file, mode, sizes], bias, batch_size]."""
    return json.loads((config.parents[1] / "out.json").read_text(encoding="utf-8"))


def test_it_runs_what_monai_runs(config: Path) -> None:
    assert run(config) == 0
    assert seen(config) == [[400, 0.1, True, None, "valid", [572, 700]], True, 1]


@pytest.mark.parametrize(
    "words, index, value",
    [
        (["--max_epochs", "3"], 0, 3),
        (["--max_epochs=3"], 0, 3),
        (["--max-epochs", "3"], 0, 3),
        (["--max_epochs", "$1 + 1"], 0, 2),
        (["--learning_rate", "1e-3"], 1, 0.001),
        (["--learning_rate", "'1e-3'"], 1, 0.001),
        (["--learning_rate", "@max_epochs"], 1, 400),
        (["--shuffle", "false"], 2, False),
        (["--shuffle", "False"], 2, False),
        (["--noshuffle"], 2, False),
        (["--split_file", "a/b.json"], 3, "a/b.json"),
        (["--split_file", "null"], 3, None),
        (["--max_epochs", "None"], 0, None),
        (["--mode", "null"], 4, None),
        (["--mode", "same"], 4, "same"),
        (["--mode", "my run #3"], 4, "my run #3"),
        (["--sizes", "[188]"], 5, [188]),
        (["--sizes#1", "204"], 5, [572, 204]),
        (["--sizes::0", "204"], 5, [204, 700]),
    ],
)
def test_values_arrive_as_yaml_would_read_them(words: list[str], index: int, value: Any, config: Path) -> None:
    assert run(config, *words) == 0
    got = seen(config)[0][index]
    assert (type(got), got) == (type(value), value)


@pytest.mark.parametrize(
    "words, at, value",
    [
        (["--network_def#bias", "false"], 1, False),  # not in the config, but an argument of torch.nn.Linear
        (["--train#loader#batch_size", "2"], 2, 2),
        (["--train#loader#num_workers", "0"], 2, 1),  # DataLoader passes any argument on
        (["--train#handlers#0#name", "x"], 2, 1),
        (["--network_def#_mode_", "default"], 2, 1),
    ],
)
def test_arguments_that_a_component_accepts_may_be_added(words: list[str], at: int, value: Any, config: Path) -> None:
    assert run(config, *words) == 0
    assert seen(config)[at] == value


@pytest.mark.parametrize(
    "words, message",
    [
        (["--max_epoch", "3"], "unknown key 'max_epoch'; did you mean 'max_epochs'?"),
        (["--maxepochs", "3"], "unknown key 'maxepochs'; did you mean 'max_epochs'?"),
        (["--learning_rat=1"], "unknown key 'learning_rat'; did you mean 'learning_rate'?"),
        (["--batch_size", "3"], "unknown key 'batch_size'; did you mean 'train#loader#batch_size'?"),
        (["--+sizes", "[3]"], "unknown key '+sizes'; + merges in config files only, give the whole value as --sizes"),
        (["--zzz", "3"], "unknown key 'zzz'; the config has imports, max_epochs,"),
        (
            ["--train#loder#batch_size", "3"],
            "unknown key 'train#loder#batch_size'; did you mean 'train#loader#batch_size'",
        ),
        (["--train#zzz", "3"], "unknown key 'train#zzz'; 'train' has loader, handlers"),
        (["--network#bias", "false"], "'network' is '$@network_def.to(@device)', which has no keys of its own"),
        (["--sizes#2", "204"], "unknown key 'sizes#2'"),
        (["--max_epochs#now", "3"], "unknown key 'max_epochs#now'"),
        (
            ["--network_def#in_feature", "3"],
            "torch.nn.Linear takes no argument 'in_feature'; did you mean 'in_features'",
        ),
        (["--train#handlers#0#nane", "x"], "monai.handlers.StatsHandler takes no argument 'nane'; did you mean 'name'"),
        (["--max_epochs", "three"], "max_epochs is a number (now 400), got 'three'; give a number"),
        (["--shuffle", "maybe"], "shuffle is a switch (now True), got 'maybe'; give true or false"),
        (
            ["--network_def", "x.pt"],
            "network_def is a component (torch.nn.Linear), got 'x.pt'; set a part (--network_def#",
        ),
    ],
)
def test_what_the_config_does_not_know_is_refused_before_anything_runs(
    words: list[str], message: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config, *words) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.count("\n") == 1
    assert not (config.parents[1] / "out.json").exists()


@pytest.mark.parametrize(
    "words, message",
    [
        (["trainin"], "nothing to run under 'trainin' (run_id); did you mean 'training' or 'train'?"),
        (["zzz"], "nothing to run under 'zzz' (run_id); the config has run, failing, training"),
        (["training", "--init_id", "initialise"], "nothing to run under 'initialise' (init_id)"),
        (["training", "max_epochs", "3"], "nothing to run under '3' (final_id)"),  # the dashes were forgotten
    ],
)
def test_run_ids_must_exist(words: list[str], message: str, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *words, "--config_file", str(config)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "no --config_file given"),
        (["--config_file", "DIR/smal.yaml"], "DIR/smal.yaml does not exist; there are DIR/small.yaml"),
        (["--config_file", "['DIR/small.yaml','DIR/over.yaml']"], "DIR/over.yaml does not exist"),
        (
            ["--config_file", "DIR/small.yaml", "--meta_file", "DIR/meta.json"],
            "--meta_file DIR/meta.json does not exist",
        ),
        (
            ["--config_file", "DIR/small.yaml", "--logging_file", "DIR/l.conf"],
            "--logging_file DIR/l.conf does not exist",
        ),
        (["--args_file", "DIR/args.yaml"], "--args_file DIR/args.yaml does not exist"),
    ],
)
def test_files_must_exist(words: list[str], message: str, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(config.parent)
    assert main(["run", "training", *(word.replace("DIR", folder) for word in words)]) == 2
    assert message.replace("DIR", folder) in capsys.readouterr().err


@pytest.mark.parametrize(
    "content, message",
    [
        ("a: [1, 2\nb: 3", "cannot be read: line 2"),
        ("a: 1\na: 2", "cannot be read: line 2: .*'a'"),
        ("a: 1\nb: &b {c: *b}", "cannot be read: line 2: .*itself"),
        ("a: " + "[" * 2000, "nested too deeply"),
        (
            "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
            + "".join(f"{n}: &{n} [{', '.join(['*' + o] * 10)}]\n" for o, n in zip("abcdef", "bcdefg", strict=True)),
            "line",
        ),
        ("- 1\n- 2", "holds list, expected keys and values"),
        ("", "holds NoneType, expected keys and values"),
        ("+nowhere: {a: 1}", "do not fit together: .*nowhere"),
        ("nowhere#deeper: 1", "do not fit together: .*nowhere"),
    ],
)
def test_a_config_that_cannot_be_read_is_one_message_with_its_name(
    content: str, message: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (config.parent / "over.yaml").write_text(content, encoding="utf-8")
    assert run(f"['{config}','{config.parent / 'over.yaml'}']") == 2
    shown = capsys.readouterr().err
    assert re.search(message, shown)
    assert "over.yaml" in shown
    assert shown.count("\n") == 1


@pytest.mark.parametrize("form", ["['{0}','{1}']", "[{0},{1}]", "{0},{1}"])
def test_later_config_files_override_earlier_ones(form: str, config: Path) -> None:
    over = config.parent / "over.yaml"
    over.write_text("max_epochs: 7\n'network_def#bias': false\n", encoding="utf-8")
    assert run(form.format(config, over)) == 0
    assert seen(config)[0][0] == 7
    assert seen(config)[1] is False


@pytest.mark.parametrize(
    "content, parts",
    [
        ("max_epoch: 7", ["'max_epoch'", "'max_epochs'"]),
        ("netwrk: {_target_: torch.nn.Linear, in_features: 1}", ["'netwrk'", "'network'"]),
        ("network_def#biass: false", ["network_def#biass", "'bias'"]),
        ("+train#zzz: [1]", ["train#zzz"]),
    ],
)
def test_a_file_of_changes_is_as_strict_as_the_command_line(
    content: str, parts: list[str], config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    over = config.parent / "over.yaml"
    over.write_text(content, encoding="utf-8")
    assert run(f"['{config}','{over}']") == 2
    shown = capsys.readouterr().err
    assert all(part in shown for part in [*parts, "over.yaml", "small.yaml"])
    assert not (config.parents[1] / "out.json").exists()


def test_a_file_of_changes_may_add_keys_that_are_read_or_run(config: Path) -> None:
    over = config.parent / "over.yaml"
    over.write_text(
        "rate: 0.2\nlearning_rate: '@rate'\nanew: ['$@show']\n'train#loader#num_workers': 0\n", encoding="utf-8"
    )
    assert run(f"['{config}','{over}']") == 0
    assert seen(config)[0][1] == 0.2


@pytest.mark.parametrize(
    "word, part",
    [
        ("--flip_prob=7", "flip_prob is 7"),
        ("--lr=1", "'learning_rate'"),
        ("--resume=perhaps", "resume is 'perhaps'"),
        ("--orientations=8", "inference"),
        ("--class_names=cell", "class_names is 'cell'"),
        ("--seed=abc", "seed is 'abc'"),
    ],
)
def test_settings_of_the_bundle_are_refused_by_name_and_range(
    word: str, part: str, bundle_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(bundle_root / "configs" / "train.yaml", word) == 2
    assert part in capsys.readouterr().err


def test_settings_in_a_file_are_refused_with_the_file(
    tmp_path: Path, bundle_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    over = tmp_path / "over.yaml"
    over.write_text("batch_size: 0", encoding="utf-8")
    assert run(f"['{bundle_root / 'configs' / 'train.yaml'}','{over}']") == 2
    assert all(part in capsys.readouterr().err for part in ["batch_size is 0"])


def test_an_args_file_is_as_strict_and_the_command_line_wins(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = config.parent / "args.yaml"
    args.write_text(f"run_id: training\nconfig_file: {config}\nmax_epochs: 5\nlearning_rate: 1e-3\n", encoding="utf-8")
    assert main(["run", "--args_file", str(args), "--max_epochs", "6"]) == 0
    assert seen(config)[0][:2] == [6, 0.001]
    args.write_text(f"run_id: training\nconfig_file: {config}\nmax_epoch: 5\n", encoding="utf-8")
    assert main(["run", "--args_file", str(args)]) == 2
    assert "did you mean 'max_epochs'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "extra, message",
    [
        ("failing: ['$1 / 0']", "in 'failing#0': ZeroDivisionError: division by zero"),
        ("failing: ['$@netwrk']", "in 'failing#0': reference to unknown key '@netwrk'; did you mean '@network'?"),
        (
            "broken: {_target_: torch.nn.Linear, in_features: -1, out_features: 3}\nfailing: ['$@broken']",
            "in 'broken': Trying to create tensor with negative dimension",
        ),
        (
            "broken: {_target_: scripts.nowhere.Thing}\nfailing: ['$@broken']",
            "in 'broken': Cannot locate class or function path: 'scripts.nowhere.Thing'",
        ),
        (
            "compose#transforms: [{_target_: monai.transforms.Flipd, keys: image}]\nfailing: ['$@compose({})']",
            "in 'failing#0': KeyError:",
        ),
    ],
)
def test_failures_name_the_cause_and_the_key_and_show_no_trace(
    extra: str, message: str, config: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    over = config.parent / "over.yaml"
    over.write_text(extra, encoding="utf-8")
    assert run(f"['{config}','{over}']", run_id="failing") == 1
    shown = capfd.readouterr()
    assert f"error: {message}" in shown.err
    assert "Traceback" not in shown.err + shown.out
    assert "--trace" in shown.err


def test_the_trace_is_shown_on_request(config: Path) -> None:
    with pytest.raises(RuntimeError, match="Failed to evaluate") as raised:
        run(config, "--trace", run_id="failing")
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_components_of_a_bundle_elsewhere_are_found_from_initialize_on(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "parts_elsewhere.py").write_text("def answer():\n    return 42\n", encoding="utf-8")
    over = config.parent / "over.yaml"
    over.write_text(
        "answer: {_target_: parts_elsewhere.answer}\ninitialize: ['$@answer']\nmode: '@answer'\n", encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path.parent)
    path = list(sys.path)
    assert run(f"['{config}','{over}']") == 0
    assert seen(config)[0][4] == 42
    assert sys.path == path


@pytest.mark.slow
def test_as_a_program_a_misspelt_key_of_the_real_config_is_one_line_and_exit_code_2(bundle_root: Path) -> None:
    words = ["run", "training", "--config_file", "configs/train.yaml", "--max_epoch", "3"]
    done = subprocess.run(
        [sys.executable, "-m", "bundle", *words], cwd=bundle_root, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (2, "error: unknown key 'max_epoch'; did you mean 'max_epochs'?\n")


def test_without_tracking_there_are_no_keys():
    assert tracking_keys(None) == {}


def test_the_keys_of_a_file_are_known_and_its_handlers_are_none(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"handlers_id": {"trainer": {}}, "configs": {"trainer": {"_target_": "X"}, "where": 1}}))
    assert tracking_keys(str(path)) == {"where": 1}


def test_mlflow_can_be_told_where_and_under_which_name():
    pytest.importorskip("mlflow", reason="mlflow is not installed (pip install '.[tracking]')")
    assert {"tracking_uri", "experiment_name", "run_name"} <= set(tracking_keys("mlflow"))


@pytest.mark.parametrize(
    "given, message",
    [
        ("mflow", "did you mean 'mlflow'"),
        ("wandb", "give mlflow, or a file"),
        ({"configs": {}}, "keys handlers_id and configs"),
    ],
)
def test_what_is_no_tracker_is_refused(given, message):
    with pytest.raises(UsageError, match=message):
        tracking_keys(given)
