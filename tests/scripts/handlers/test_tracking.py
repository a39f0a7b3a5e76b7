"""Settings, numbers and files for trackers, without any tracker. With trackers: tests/configs/test_tracking.py."""

from __future__ import annotations

import sys

import pytest
import yaml
from ignite.engine import Engine
from monai.bundle import ConfigParser

from bundle.running.errors import UsageError
from bundle.running.run import tracking_keys
from scripts.handlers.tracking import (
    RunFiles,
    RunSettings,
    building_parser,
    config_text,
    log_metrics,
    log_picture,
    mlflow_handler,
    numbers,
    settings_of,
)

CONFIG = """
imports: [$import math]
classes: [a, b]
rate: 1.0e-3
file: null
count: "$len(@classes)"
radius: "$math.sqrt(9)"
made: "$math"
net: {_target_: torch.nn.Linear, in_features: "@count", out_features: 3}
handlers:
- {_target_: scripts.Clip, most: 5.0}
- {_target_: Shift, by: "$@rate * 2"}
- {_target_: Shift, by: 4}
steps: ["@net", "@rate"]
run: ["$@net"]
training: "@run"
"""


def test_settings_are_listed_with_the_values_of_expressions():
    parser = ConfigParser(yaml.safe_load(CONFIG))
    parser.parse()
    for key in ("count", "radius", "made"):
        parser.get_parsed_content(key)
    assert settings_of(parser.get(), parser.ref_resolver.resolved_content) == {
        "classes": "['a', 'b']",
        "rate": "0.001",
        "file": "None",
        "count": "2",
        "radius": "3.0",
        "made": "$math",  # neither number nor word
        "net._target_": "torch.nn.Linear",
        "net.out_features": "3",
        "handlers.Clip._target_": "scripts.Clip",
        "handlers.Clip.most": "5.0",
        "handlers.Shift._target_": "Shift",
        "handlers.Shift.by": "$@rate * 2",  # not evaluated
        "handlers.Shift_2._target_": "Shift",
        "handlers.Shift_2.by": "4",
    }


def test_the_text_is_the_configuration_without_metadata():
    config = yaml.safe_load(CONFIG)
    assert yaml.safe_load(config_text({**config, "_meta_": {"version": "1"}})) == config


class Knowing:
    def __init__(self) -> None:
        self.parser = building_parser()


def test_a_component_finds_the_parser_that_builds_it():
    parser = ConfigParser({"part": {"_target_": f"{__name__}.Knowing"}, "whole": "$[@part]"})
    parser.parse()
    (part,) = parser.get_parsed_content("whole")
    assert part.parser is parser
    assert Knowing().parser is None


def test_run_settings_needs_a_configuration():
    with pytest.raises(RuntimeError, match=r"RunSettings.*configuration"):
        RunSettings("training")


def test_numbers_of_a_report_have_the_names_of_their_keys():
    report = {"seg": 0.5, "mean": {"dice cell (dead)": 1, "n": None}, "ok": True, "curve": [1.0], "split": "whole"}
    assert numbers(report, "metrics") == {"metrics.seg": 0.5, "metrics.mean.dice cell _dead_": 1.0}


def test_without_mlflow_nothing_is_told_and_nothing_fails(tmp_path):
    engine = Engine(lambda *_: None)
    assert mlflow_handler(engine) is None
    RunFiles(tmp_path).attach(engine)
    (tmp_path / "metrics.json").write_text("no JSON")
    log_metrics(engine, {"loss": 1.0}, 1)
    log_picture(engine, tmp_path / "missing.png", 1, "missing")
    engine.run([0])


def test_only_changed_files_that_fit_the_patterns_are_found(tmp_path):
    (tmp_path / "panels").mkdir()
    for name in ("metrics.json", "table.csv", "weights.pt", "panels/00.png", "panels/00.csv"):
        (tmp_path / name).write_text("")
    found = {path.relative_to(tmp_path).as_posix() for path in RunFiles(tmp_path)._files()}
    assert found == {"metrics.json", "table.csv", "panels/00.png"}


def test_asking_for_a_missing_mlflow_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)  # an import fails, as if it were not installed
    assert tracking_keys(None) == {}
    with pytest.raises(UsageError, match=r"mlflow.*pip install"):
        tracking_keys("mlflow")
