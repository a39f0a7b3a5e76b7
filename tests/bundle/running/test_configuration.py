"""Configurations are read, merged and looked up as by MONAI, which takes seconds to import."""

from __future__ import annotations

from pathlib import Path

import pytest
from monai.bundle import ConfigParser
from monai.bundle.config_item import ConfigComponent

from bundle.running.configuration import COMPONENT_KEYS, look_up, merge, merge_files, read_file
from bundle.running.overrides import known_ids

CONFIGS = sorted((Path(__file__).resolve().parents[3] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_configuration_is_read_and_merged_as_by_monai(path: Path) -> None:
    assert read_file("--config_file", str(path)) == ConfigParser.load_config_file(path)
    base = CONFIGS[0].with_name("inference.yaml" if path.stem in ("rank", "multi_gpu_inference") else "train.yaml")
    files = [str(base), str(path)]
    assert merge_files("--config_file", files) == ConfigParser.load_config_files(files)


def test_every_id_is_found_as_by_monai() -> None:
    config = read_file("--config_file", str(CONFIGS[0].with_name("train.yaml")))
    parser = ConfigParser(config)
    ids = [*known_ids(config), "train#handlers#0", "train::handlers::1::_target_"]
    assert len(ids) > 200
    for id in ids:
        assert look_up(config, id) == parser.get(id)
    for id in ("nothing", "max_epochs#deeper", "train#handlers#99", "train#handlers#x"):
        assert id not in parser
        assert look_up(config, id) is None


@pytest.mark.parametrize("changes", [{"a#b": 3}, {"+a": {"d": 1}}, {"a::c#1": 0}, {"+a#c": [5]}, {"new": {"x": 1}}])
def test_changes_are_merged_as_by_monai(changes: dict[str, object]) -> None:
    ours, parser = {"a": {"b": 1, "c": [1, 2]}}, ConfigParser({"a": {"b": 1, "c": [1, 2]}})
    merge(ours, changes)
    for id, value in changes.items():
        if id.startswith("+"):
            old = parser[id[1:]]
            parser[id[1:]] = old | value if isinstance(old, dict) else old + value
        else:
            parser[id] = value
    assert ours == parser.get()


def test_the_keys_of_components_are_those_of_monai() -> None:
    assert set(ConfigComponent.non_arg_keys) == COMPONENT_KEYS
