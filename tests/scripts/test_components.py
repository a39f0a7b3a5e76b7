"""Names of components in the installed package, here in a package of another name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.components import own_name, renamed

CONFIG = {
    "imports": [
        "$import torch",
        "$import scripts",
        "$import scripts.losses as losses",
        "$import scripts.losses",
        "$from scripts.losses import Loss",
        "$from scripts.nowhere import Loss",
        "$import scriptsome",
    ],
    "path": "scripts.losses.Loss",  # text, no component
    "loss": {"_target_": "scripts.losses.Loss", "parts": [{"_target_": "scripts.losses.Other"}]},
    "foreign": {"_target_": "scripts.theirs.Thing"},
    "layer": {"_target_": "torch.nn.ReLU", "_mode_": "default"},
    "named": {"_target_": "$scripts.losses.Loss"},
    "number": 3,
}
EXPECTED = {
    "imports": [
        "$import torch",
        "$import packed_parts as scripts",
        "$import packed_parts.losses as losses",
        "$import packed_parts.losses",
        "$from packed_parts.losses import Loss",
        "$from scripts.nowhere import Loss",
        "$import scriptsome",
    ],
    "path": "scripts.losses.Loss",
    "loss": {"_target_": "packed_parts.losses.Loss", "parts": [{"_target_": "scripts.losses.Other"}]},
    "foreign": {"_target_": "scripts.theirs.Thing"},
    "layer": {"_target_": "torch.nn.ReLU", "_mode_": "default"},
    "named": {"_target_": "$scripts.losses.Loss"},
    "number": 3,
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package with a class `losses.Loss`, and a module that fails to import."""
    folder = tmp_path / "packed_parts"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "losses.py").write_text("class Loss: pass\n", encoding="utf-8")
    (folder / "broken.py").write_text("import no_such_package\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder.name
    for name in [name for name in sys.modules if name.partition(".")[0] == folder.name]:
        del sys.modules[name]


def test_names_that_the_package_has_are_renamed_and_all_others_stay(package: str) -> None:
    assert renamed(CONFIG, package) == EXPECTED


def test_in_a_checkout_a_configuration_is_returned_as_it_is() -> None:
    assert renamed(CONFIG) is CONFIG


def test_a_component_that_fails_to_import_is_not_looked_for_elsewhere(package: str) -> None:
    assert own_name("scripts.broken.Thing", package) == f"{package}.broken.Thing"


def test_the_content_given_stays_unchanged(package: str) -> None:
    config = {"loss": {"_target_": "scripts.losses.Loss"}}
    assert renamed(config, package)["loss"]["_target_"] == "packed_parts.losses.Loss"
    assert config["loss"]["_target_"] == "scripts.losses.Loss"
