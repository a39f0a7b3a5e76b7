"""`python -m bundle verify`: the bundle passes every rule, and each rule finds errors in a broken copy."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from bundle.__main__ import main
from bundle.publishing import layout
from bundle.publishing.rules import RULES, card, configs, files, metadata, settings, workflows
from bundle.publishing.rules.basis import Bundle, NotChecked
from bundle.publishing.verify import Rule, check
from tests.bundle.copies import ROOT, copy_of_bundle, replace_in
from tests.bundle.web import closed_address

METADATA, TRAIN, INFERENCE = "configs/metadata.json", "configs/train.yaml", "configs/inference.yaml"
CARD, OVERLAY = "docs/README.md", "configs/variant_adam.yaml"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return copy_of_bundle(tmp_path)


@pytest.fixture
def schema(data_root: Path) -> Path:
    return data_root / "meta_schema_20240725.json"


def set_metadata(root: Path, change: Callable[[dict], object]) -> None:
    content = json.loads((root / METADATA).read_text())
    change(content)
    (root / METADATA).write_text(json.dumps(content))


def add_line(name: str, line: str) -> Callable[[Path], object]:
    def add(root: Path) -> None:
        with (root / name).open("a") as file:
            file.write(line + "\n")

    return add


def edit(name: str, old: str, new: str) -> Callable[[Path], object]:
    return lambda root: replace_in(root / name, old, new)


def remove(name: str) -> Callable[[Path], object]:
    return lambda root: (root / name).unlink()


def meta(change: Callable[[dict], object]) -> Callable[[Path], object]:
    return lambda root: set_metadata(root, change)


def first_row(root: Path, measure: str) -> str:
    text = (root / CARD).read_text()
    return next(line for line in text.splitlines() if re.match(rf"\| {measure} +\|", line))


@pytest.mark.parametrize(
    "rule", [rule for rule in RULES.values() if rule is not metadata.schema], ids=lambda rule: rule.__name__
)
def test_the_bundle_passes(rule: Rule) -> None:
    assert check(rule, Bundle(ROOT)) == []


def test_the_metadata_are_in_the_schema_s_form(schema: Path) -> None:
    assert check(metadata.schema, Bundle(ROOT, schema)) == []


BROKEN = [  # rule, change of the copy, expected part of the message
    (files.required_files, remove("docs/data_license.txt"), "docs/data_license.txt"),
    (files.required_files, add_line("large_files.yml", "large_files: [{path: models/model.pt, url: a}]"), "hash_val"),
    (files.licence, edit("LICENSE", "END OF TERMS AND CONDITIONS", ""), "LICENSE"),
    (files.licence, edit("pyproject.toml", '"Apache-2.0"', '"MIT"'), "pyproject.toml"),
    (files.licence, edit(CARD, "Apache License 2.0", "MIT"), CARD),
    (files.data_licence, edit("docs/data_license.txt", "PhC-C2DH-U373", "some cells"), "data_phc_u373.yaml"),
    (metadata.versions, meta(lambda m: m.update(version="9.9.9")), "no entry for 9.9.9"),
    (metadata.versions, edit("pyproject.toml", 'version = "', 'version = "9.'), "pyproject.toml"),
    (metadata.versions, edit("CHANGELOG.md", "\n## 0", "\n## version 0"), "CHANGELOG.md"),
    (metadata.packages, meta(lambda m: m.update(numpy_version="1.0")), "numpy 1.0"),
    (metadata.packages, meta(lambda m: m["required_packages_version"].update(fire="0.1")), "fire 0.1"),
    (configs.unused_keys, add_line(TRAIN, "left_over: 1"), "'left_over'"),
    (configs.unused_keys, edit(INFERENCE, '"@tile_progress"', "false"), "'tile_progress'"),
    (configs.dangling_references, edit(TRAIN, '"@momentum"', '"@momentumm"'), "@momentumm"),
    (configs.dangling_references, add_line(OVERLAY, 'loss#weight: "@train#weighting"'), "@train#weighting"),
    (configs.imports, edit(INFERENCE, "- $import torch", "- $import torch\n- $import os.path as p"), "import of 'p'"),
    (configs.imports, edit(TRAIN, "seed: 0", 'seed: "$time.time()"'), "'time' is used, but not imported"),
    (configs.imports, add_line(OVERLAY, 'seed: "$[k for k in sys.argv][0]"'), "'sys' is used, but not imported"),
    (configs.overlays, add_line(OVERLAY, "max_epoch: 3"), "did you mean 'max_epochs'"),
    (configs.overlays, add_line(OVERLAY, "network_def#drop: 0.1"), "takes no argument 'drop'"),
    (configs.overlays, edit(OVERLAY, "configs/variant_adam.yaml", "configs/other.yaml"), "second line"),
    (configs.overlays, edit(OVERLAY, "configs/train.yaml", "configs/gone.yaml"), "configs/gone.yaml does not exist"),
    (configs.components, edit(TRAIN, "WeightedCrossEntropyLoss", "WeightedCrossEntropy"), "cannot be imported"),
    (
        configs.components,
        edit(TRAIN, "_target_: EnsureChannelFirstd", "_target_: EnsureChannelfirstd"),
        "channel_first",
    ),
    (configs.components, edit(OVERLAY, "  lr:", "  learning_rate:"), "no argument 'learning_rate'"),
    (configs.logging, edit("configs/logging.conf", "(sys.stdout,)", "(open('log', 'w'),)"), "logging.conf"),
    (configs.absolute_paths, add_line(TRAIN, "model_dir: /home/someone/models"), "/home/someone/models"),
    (configs.absolute_paths, add_line(TRAIN, "model_dir: \"$'/scratch' + '/models'\""), "'/scratch'"),
    (workflows.agreement, edit(INFERENCE, '  method: "$@settings.intensity"', "  method: percentile"), "normalize"),
    (workflows.agreement, edit(INFERENCE, "scripts.io.PlaneReader", "PILReader"), "load is"),
    (workflows.agreement, meta(lambda m: size(m, "outputs", "16*n")), "outputs#pred#spatial_shape"),
    (workflows.agreement, meta(lambda m: shape(m, "outputs").update(channel_def={"0": "a", "1": "b"})), "channel_def"),
    (workflows.agreement, meta(lambda m: shape(m, "inputs").update(num_channels=3)), "inputs#image#num_channels"),
    (workflows.properties, edit(TRAIN, "\ntrain:", "\ntraining_part:"), "train#trainer"),
    (workflows.properties, edit(TRAIN, '"@train#postprocessing"', '"@load"'), "trainer#postprocessing is not"),
    (workflows.properties, edit(TRAIN, "_target_: scripts.handlers.StopOnDivergence", '"@loss"'), "cannot be made"),
    (workflows.properties, edit(TRAIN, "\n  key_metric: null", "\n  best: null"), "no train#key_metric"),
    (settings.table, add_line(TRAIN, "patient: 3"), "'patient' has no row"),
    (settings.table, edit(TRAIN, "\npatience: 15", "\npatience: -1"), "patience is -1"),
    (settings.table, edit(TRAIN, "\npatience: 15", "\npatience: 16"), "docs/settings.md"),
    (settings.table, edit(INFERENCE, "\nbackend: null", "\nback: null"), "'backend' names inference"),
    (settings.table, add_line(INFERENCE, "patience: 3"), "'patience' does not name inference"),
    (settings.table, edit(TRAIN, "# default binary", "# default instances"), "label_kind"),
    (
        workflows.network_in_and_out,
        meta(lambda m: shape(m, "outputs").update(num_channels=3)),
        "stated is (1, 3, 4, 4)",
    ),
    (workflows.network_in_and_out, meta(lambda m: size(m, "outputs", "16*n")), "stated is (1, 2, 16, 16)"),
    (workflows.network_in_and_out, meta(lambda m: size(m, "inputs", "16*n")), "input (1, 1, 16, 16)"),
    (workflows.network_in_and_out, meta(lambda m: shape(m, "outputs").update(dtype="float64")), "stated is float64"),
    (card.card_sections, edit(CARD, "## MONAI Bundle Commands", "## Commands"), "## MONAI Bundle Commands"),
    (card.card_sections, edit(CARD, "# References", "## References"), "'## References' in its place"),
    (card.card_sections, edit(CARD, "## Data", "## Data\n\n## Data"), "2 of them"),
    (card.results, add_line("docs/results/table.md", "| SEG | 1.0 |"), "docs/results/table.md"),
    (
        card.results,
        lambda root: replace_in(root / CARD, first_row(root, "SEG"), "| SEG | 1.0000 |"),
        "| SEG | 1.0000 |",
    ),
    (card.results, lambda root: replace_in(root / CARD, first_row(root, "DET") + "\n", ""), "no row 'DET' of u373"),
]


def shape(content: dict, side: str) -> dict:
    return content["network_data_format"][side]["image" if side == "inputs" else "pred"]


def size(content: dict, side: str, form: str) -> None:
    shape(content, side)["spatial_shape"] = [form, form]


@pytest.mark.parametrize(
    "rule, damage, message", BROKEN, ids=[f"{r.__name__}-{k}" for k, (r, _, _) in enumerate(BROKEN)]
)
def test_a_rule_finds_what_it_is_for(rule: Rule, damage: Callable[[Path], object], message: str, copy: Path) -> None:
    damage(copy)
    found = check(rule, Bundle(copy))
    assert isinstance(found, list)
    assert any(message in f"{finding.where}: {finding.what}" for finding in found), found
    assert all(finding.mend for finding in found)


def test_every_rule_is_shown_to_find_something() -> None:
    tested_below = {files.file_sizes, metadata.schema}
    assert {rule for rule, _, _ in BROKEN} | tested_below == set(RULES.values())


def test_metadata_that_is_not_in_the_schema_s_form_is_found(copy: Path, schema: Path) -> None:
    set_metadata(copy, lambda content: content.pop("authors"))
    found = check(metadata.schema, Bundle(copy, schema))
    assert any("'authors' is a required property" in finding.what for finding in found)


def test_a_schema_out_of_reach_is_said_to_be_not_checked(copy: Path) -> None:
    address = f"{closed_address()}/schema.json"
    set_metadata(copy, lambda content: content.update(schema=address))
    reason = check(metadata.schema, Bundle(copy))
    assert isinstance(reason, str)
    assert address in reason
    assert "--schema FILE" in reason


def test_large_files_are_found_unless_they_are_linked(copy: Path) -> None:
    (copy / "models").mkdir()
    with (copy / layout.WEIGHTS).open("wb") as file:
        file.truncate(layout.ZOO_LIMIT + 1)  # a sparse file: no space on the disk
    with (copy / "scripts" / "film.mp4").open("wb") as file:
        file.truncate(layout.OWN_LIMIT + 1)
    names = {
        zoo: {finding.where for finding in check(files.file_sizes, Bundle(copy, zoo=zoo))} for zoo in (False, True)
    }
    assert names == {False: {"scripts/film.mp4"}, True: {"scripts/film.mp4", layout.WEIGHTS}}
    (copy / layout.LARGE_FILES).write_text("large_files:\n- {path: models/model.pt}\n")
    assert {finding.where for finding in check(files.file_sizes, Bundle(copy, zoo=True))} == {"scripts/film.mp4"}


def test_the_zoo_wants_weights_and_versions_that_sort_as_text(copy: Path) -> None:
    set_metadata(copy, lambda content: content.update(version="0.10.0"))
    assert not [finding for finding in check(files.required_files, Bundle(copy)) if "model.pt" in finding.where]
    assert [finding.where for finding in check(files.required_files, Bundle(copy, zoo=True))] == [layout.WEIGHTS]
    assert any("two digits" in finding.what for finding in check(metadata.versions, Bundle(copy, zoo=True)))


def test_a_configuration_that_cannot_be_read_is_a_finding_not_a_trace(copy: Path) -> None:
    (copy / TRAIN).write_text("a: [1, 2")
    for rule in (configs.unused_keys, workflows.properties):
        assert check(rule, Bundle(copy))


def cannot_be_checked(bundle: Bundle) -> list:
    raise NotChecked("no network")


def test_the_command_lists_every_rule_and_fails_where_one_does(monkeypatch, copy, schema, capsys) -> None:
    quick = {name: RULES[name] for name in ("licence", "metadata schema", "versions", "agreement")}
    monkeypatch.setattr("bundle.publishing.verify.RULES", quick)
    assert main(["verify", "--schema", str(schema)]) == 0
    shown = capsys.readouterr().out
    assert all(f"{name:<20}{rule.__doc__.splitlines()[0]}" in shown for name, rule in quick.items())
    assert shown.endswith(f"{len(quick)} rules: {len(quick)} hold, 0 not checked\n")
    monkeypatch.setitem(quick, "metadata schema", cannot_be_checked)
    assert main(["verify", "--schema", str(schema)]) == 0
    assert capsys.readouterr().out.endswith(f"{len(quick)} rules: {len(quick) - 1} hold, 1 not checked\n")
    monkeypatch.undo()
    monkeypatch.setattr("bundle.publishing.verify.RULES", quick)
    edit(INFERENCE, '  method: "$@settings.intensity"', "  method: percentile")(copy)
    monkeypatch.setattr("bundle.publishing.verify.ROOT", copy)
    assert main(["verify", "--schema", str(schema)]) == 1
    captured = capsys.readouterr()
    assert "agreement           BROKEN\n  configs/train.yaml: normalize is" in captured.out
    assert f"1 of {len(quick)} rules do not hold" in captured.err
    assert main(["verify", "--schema", "nowhere.json"]) == 2
