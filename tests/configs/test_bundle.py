"""The bundle's promises to MONAI, and the agreement of the two configurations that stand alone."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
import torch
import yaml
from monai.bundle import ConfigParser, ConfigWorkflow, verify_net_in_out

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
STANDALONE = ("train.yaml", "inference.yaml")
OVERLAYS = sorted(p.name for p in CONFIGS.glob("*.yaml") if p.name not in STANDALONE)

# ids that MONAI, MONAI Label and the model zoo ask for, whether or not something here refers to them
RESERVED = {
    "train.yaml": {"imports", "initialize", "run", "training", "val_interval", "device", "dataset_dir"},
    "inference.yaml": {"imports", "initialize", "run", "inference"},
}


def base_of(overlay: str) -> str:
    return "inference.yaml" if "inference" in overlay else "train.yaml"


def leaves(config: object, path: str = "") -> dict[str, object]:
    if isinstance(config, dict):
        return {k: v for key, value in config.items() for k, v in leaves(value, f"{path}#{key}".lstrip("#")).items()}
    return {path: config}


def load(name: str) -> dict:
    return yaml.safe_load((CONFIGS / name).read_text())


def test_metadata_is_valid_against_monais_schema(data_root):
    schema = json.loads((data_root / "meta_schema_20240725.json").read_text())
    jsonschema.validate(json.loads((CONFIGS / "metadata.json").read_text()), schema)


def test_the_version_and_its_changelog_entry_exist_and_the_project_states_the_same():
    metadata = json.loads((CONFIGS / "metadata.json").read_text())
    assert metadata["version"] in metadata["changelog"]
    assert f'version = "{metadata["version"]}"' in (ROOT / "pyproject.toml").read_text()
    assert f"## {metadata['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_metadata_names_the_versions_that_are_pinned():
    metadata = json.loads((CONFIGS / "metadata.json").read_text())
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    stated = metadata["required_packages_version"] | {
        "monai": metadata["monai_version"],
        "torch": metadata["pytorch_version"],
        "numpy": metadata["numpy_version"],
    }
    assert {name: pinned[name] for name in stated} == stated


@pytest.mark.parametrize("name, kind", [("train.yaml", "train"), ("inference.yaml", "infer")])
def test_every_property_that_monai_knows_is_there(name, kind, tmp_path, tiny_dataset, caplog, monkeypatch):
    """MONAI lists required ids that are missing, and warns of optional ones that are not referred to as it expects."""
    monkeypatch.chdir(ROOT)
    workflow = ConfigWorkflow(
        workflow_type=kind,
        config_file=str(CONFIGS / name),
        meta_file=str(CONFIGS / "metadata.json"),
        logging_file=str(CONFIGS / "logging.conf"),
        dataset_dir=str(tiny_dataset / ("images" if kind == "infer" else "")),
        output_dir=str(tmp_path),
        model_dir=str(tmp_path),
    )
    monkeypatch.syspath_prepend(ROOT)
    workflow.initialize()
    caplog.clear()
    assert not workflow.check_properties()
    assert not [r.message for r in caplog.records if r.name.startswith("monai.bundle")]


def test_the_network_takes_and_gives_what_the_metadata_says(monkeypatch):
    monkeypatch.chdir(ROOT)
    for name in STANDALONE:
        verify_net_in_out(
            net_id="network_def",
            meta_file=str(CONFIGS / "metadata.json"),
            config_file=str(CONFIGS / name),
            device="cpu",
            n=1,
        )


def test_train_and_inference_agree_on_network_intensity_and_tiles():
    train, inference = load("train.yaml"), load("inference.yaml")
    for key in ("in_channels", "class_names", "out_channels", "amp_dtype", "intensity", "flatten"):
        assert train[key] == inference[key]
    apart = ("dropout", "_disabled_")  # dropout is of training, an exported file in its place of inference
    networks = [{k: v for k, v in c["network_def"].items() if k not in apart} for c in (train, inference)]
    assert networks[0] == networks[1]
    assert inference["network"] == "$@exported if @backend else " + train["network"].removeprefix("$")

    def for_images(transforms: list[dict]) -> list[dict]:
        images = [t for t in transforms if "image" in t.get("keys", []) and t["_target_"] != "CopyItemsd"]
        return [{k: v for k, v in t.items() if k not in ("keys", "allow_missing_keys")} for t in images]

    prepared = [train[key] for key in ("load", "channel_first", "normalize")]
    assert for_images(prepared) == for_images(inference["preprocessing"]["transforms"])
    validation, alone = train["validate"]["inferer"], inference["inferer"]
    assert validation["_target_"] == alone["_target_"]
    defaults = {"tile_size": None, "orientations": 1, "memory_limit": 3 * 2**30}
    assert {k: inference[k] for k in defaults} == defaults  # validation leaves them at the class's defaults


@pytest.mark.parametrize("name", ["phc_u373", "dic_hela"])
def test_cells_are_segmented_as_they_were_validated(name):
    trained = load("train.yaml") | load(f"data_{name}.yaml")
    segmented = load("inference.yaml") | load(f"inference_{name}.yaml")
    for key in ("class_names", "threshold", "min_area", "fill_holes", "split_necks", "close_gaps", "field_border"):
        assert trained[key] == segmented[key], key


@pytest.mark.parametrize("name", STANDALONE)
def test_no_key_goes_unused(name):
    text, config = (CONFIGS / name).read_text(), load(name)
    for key in config:
        used = re.search(rf"@{re.escape(key)}\b", text) is not None
        assert used or key in RESERVED[name] or key in ("train", "validate"), f"{key} in {name} is used nowhere"


@pytest.mark.parametrize("name", [*STANDALONE, *OVERLAYS])
def test_configurations_are_plain(name):
    text = (CONFIGS / name).read_text()
    assert "lambda" not in text
    assert not re.search(r"handlers#\d|transforms#\d|\[:-?\d*\]", text), "positions"
    assert not re.search(r":\s*\d+e-?\d", text), "1e-3 is a string in YAML: write 1.0e-3"
    assert all(len(line) <= 140 for line in text.splitlines() if "monai.bundle run" not in line)


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_says_why_and_how_in_its_first_two_lines(name):
    first, second = (CONFIGS / name).read_text().splitlines()[:2]
    assert first.startswith("# ")
    assert second.startswith("#   ")
    assert "monai.bundle run" in second
    assert f"configs/{name}" in second


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_changes_only_what_exists_and_repeats_nothing(name):
    base = load(base_of(name))
    known, overlay = leaves(base), load(name)
    parser = ConfigParser(base)
    for key, value in overlay.items():
        parent, _, argument = key.rpartition("#")
        exists = key in parser or (argument and parent in parser and "_target_" in parser[parent])
        own = key in ("finalize", "evaluating") or f"@{key}" in str(overlay)  # a new value, used in the overlay itself
        assert exists or own, f"{name}: {key} is neither in {base_of(name)} nor used"
        if not isinstance(value, dict):
            assert key not in known or known[key] != value, f"{name} repeats {key}"


def test_importing_nothing_custom_before_the_run():
    """`scripts` can be imported from `run` on; MONAI adds the bundle to the path only there."""
    for name in [*STANDALONE, *OVERLAYS]:
        assert "scripts" not in str(load(name).get("initialize", [])) + str(load(name).get("imports", []))


def test_logging_configuration_holds_only_what_monai_accepts():
    for handler in re.findall(r"args=\((.*)\)", (CONFIGS / "logging.conf").read_text()):
        assert handler.strip(",") in ("sys.stdout", "sys.stderr")


def test_the_paper_s_values_are_the_defaults(monkeypatch):
    monkeypatch.chdir(ROOT)
    parser = ConfigParser(load("train.yaml"))
    expected = {
        "batch_size": 1,
        "momentum": 0.99,
        "w0": 10.0,
        "sigma": 5.0,
        "elastic_points": 3,
        "elastic_sigma": 10.0,
        "input_size": 572,
    }
    assert {k: parser.get_parsed_content(k) for k in expected} == expected
    assert parser["optimizer"]["_target_"] == "torch.optim.SGD"
    network = parser.get_parsed_content("network_def")
    assert sum(p.numel() for p in network.parameters()) == 31_030_658
    assert isinstance(network, torch.nn.Module)
