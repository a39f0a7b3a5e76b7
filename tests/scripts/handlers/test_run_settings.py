"""The table of settings, on configurations that a reader can check by hand."""

from __future__ import annotations

import pytest
import yaml
from monai.bundle import ConfigParser

from scripts.handlers.tracking import RunSettings, building_parser, config_text, settings_of

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


def test_settings_are_told_one_by_one_with_what_expressions_came_to():
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
        "made": "$math",  # no number, no word
        "net._target_": "torch.nn.Linear",
        "net.out_features": "3",
        "handlers.Clip._target_": "scripts.Clip",
        "handlers.Clip.most": "5.0",
        "handlers.Shift._target_": "Shift",
        "handlers.Shift.by": "$@rate * 2",  # never asked for
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
    with pytest.raises(RuntimeError, match="name it in one, under handlers"):
        RunSettings("training")
