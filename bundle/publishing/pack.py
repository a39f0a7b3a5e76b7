"""`python -m bundle pack`: write the zip file for the model zoo, MONAI and MONAI Label.

The zip file holds a JSON twin of each main YAML configuration, because `monai.bundle.load` looks only for JSON.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import yaml
from monai.bundle import ConfigParser

from bundle.experiments.provenance import commit_of
from bundle.publishing.bioimageio import write_bioimageio
from bundle.publishing.describe import describe, name_network, of_other_weights
from bundle.publishing.exporters import check_installed
from bundle.publishing.layout import (
    LARGE_FILES,
    MEBIBYTE,
    METADATA,
    NAME,
    SETTINGS,
    WEIGHTS,
    ZOO_LIMIT,
    source_files,
    travelling_files,
    write_archive,
)
from bundle.running.errors import RunError, UsageError
from bundle.running.failures import explain
from bundle.running.run import ROOT
from bundle.running.weights import named_weights
from scripts.handlers.checkpoints import load_weights
from scripts.io.files import replacing, sha256_of
from scripts.networks.unet import RonnebergerUNet
from scripts.published import published
from scripts.settings import ModelSettings, settings_path

DESCRIBED = (METADATA, "configs/train.yaml", "configs/inference.yaml")  # files that describe the network
TWINS = ("train", "inference", "evaluate", "multi_gpu_train", "multi_gpu_inference")  # names in the zoo's bundles


def json_twins(configs: Path) -> dict[str, bytes]:
    """Convert the main YAML configurations to JSON. Each twin is read back and compared with the original.

    Args:
        configs: folder of the YAML files. Missing files of `TWINS` are skipped.

    Returns:
        File name -> content.

    Raises:
        RunError: a configuration has a value without JSON equivalent: a date, or a number as key.

    Example:
        >>> _ = Path("train.yaml").write_text("seed: 0")
        >>> json.loads(json_twins(Path("."))["train.json"])
        {'seed': 0}
    """
    originals = {name: configs / f"{name}.yaml" for name in TWINS}
    return {f"{name}.json": _twin(path) for name, path in originals.items() if path.is_file()}


def _twin(original: Path) -> bytes:
    config = ConfigParser.load_config_file(original)
    try:
        text = json.dumps(config, indent=4)
    except TypeError as error:  # a date, for example
        raise RunError(f"{original}: {error}; write text or numbers instead") from error
    twin = json.loads(text)
    for key, value in config.items():
        if repr(twin.get(key)) != repr(value):  # repr: 1 == True, but JSON keeps them apart
            raise RunError(f"{original}: {key} is {value!r}, in JSON {twin.get(key)!r}; use values that both can hold")
    return f"{text}\n".encode()


def pack(
    out: str = "build", weights: str | None = None, large_files: str | None = None, bioimageio: bool = False
) -> None:
    """Write the zip file to publish, in the model zoo's layout.

    Writes OUT/original_unet_segmentation_vX.Y.Z.zip with configs, scripts, licence, model card, terms of the data and
    weights. The same commit and weights give the same bytes. The main YAML configurations have JSON twins, for
    monai.bundle.load.

    Args:
        out: folder to write into; made if absent.
        weights: weights to publish, a file or a name, with their model.json if there is one. Default: all published
            weights in models.
        large_files: address (URL) of the weights. The zip file then holds large_files.yml with address and checksum
            instead of the weights. The model zoo requires a link for files above 25 MiB.
        bioimageio: also write a model package of bioimage.io, for deepImageJ, ilastik and QuPath.
    """
    given = _given(weights)
    if bioimageio:
        check_installed("onnx")
    path = write_package(ROOT, Path(str(out)).expanduser(), given, large_files)
    commit = commit_of(ROOT)
    print(f"{path}: {path.stat().st_size / MEBIBYTE:.1f} MiB" + (f", commit {commit}" if commit else ""))
    print(f"sha256 {sha256_of(path)}")
    if bioimageio:
        config = str(ROOT / "configs" / "inference.yaml")
        write_bioimageio(given or ROOT / WEIGHTS, path.with_suffix(".bioimageio.zip"), config)


def _given(weights: object) -> Path | None:
    """Find the file of weights to publish. The settings are beside the file of a link."""
    named = named_weights("--weights", weights)
    if named is None:
        return None
    path = Path(named).expanduser().resolve()
    if not path.is_file():
        raise UsageError(f"--weights {path} does not exist, expected a file of weights")
    return path


def write_package(root: Path, out: Path, weights: Path | None = None, address: str | None = None) -> Path:
    """Write a bundle's zip file into the folder `out`, and return its path.

    Args:
        root: the bundle, a checkout or a copy.
        out: the folder.
        weights: default: models/model.pt in `root`, and the other published weights there.
        address: address (URL) of the weights, to link them instead of packing them.

    Raises:
        UsageError: neither weights nor a link to weights.
        RunError: the file holds more than weights, or the weights do not fit their network.
    """
    metadata = json.loads((root / METADATA).read_text(encoding="utf-8"))
    files: dict[str, Path | bytes] = {name: root / name for name in travelling_files(root)}
    own = root / WEIGHTS
    others = {} if weights or address else _other_weights(root)
    weights = weights or (own if own.is_file() else None)
    with TemporaryDirectory() as folder:
        configs = shutil.copytree(root / "configs", Path(folder) / "configs")
        if weights is not None or (root / SETTINGS).is_file():
            files |= _described(root, metadata, weights)
            for name in DESCRIBED:
                (configs / Path(name).name).write_bytes(_content(files[name]))
        files |= {f"configs/{name}": content for name, content in json_twins(configs).items()}
    files |= _weights(root, weights, address) | others
    version = metadata["version"]
    path = out / f"{NAME}_v{version}.zip"
    with replacing(path) as temporary:
        write_archive(temporary, {f"{NAME}/{name}": content for name, content in files.items()})
    return path


def _described(root: Path, metadata: Mapping[str, Any], weights: Path | None) -> dict[str, Path | bytes]:
    """Write the network of the weights into metadata and configurations. For linked weights, model.json names it."""
    network, settings = _checked(root, weights or root / WEIGHTS)
    described = describe(metadata, network, settings)
    own = root / WEIGHTS
    if weights is not None and own.is_file() and sha256_of(weights) != sha256_of(own):
        described = of_other_weights(described, settings)
    files: dict[str, Path | bytes] = {name: root / name for name in DESCRIBED}
    if described != metadata:
        files[METADATA] = f"{json.dumps(described, indent=4, ensure_ascii=False)}\n".encode()
    for name in DESCRIBED[1:]:
        text = (root / name).read_text(encoding="utf-8")
        files[name] = name_network(text, network, settings).encode()
    return files


def _content(file: Path | bytes) -> bytes:
    return file if isinstance(file, bytes) else file.read_bytes()


def _weights(root: Path, weights: Path | None, address: str | None) -> dict[str, Path | bytes]:
    """Return the entry of the weights, or of large_files.yml with a link to them."""
    if weights is None:
        if address:
            raise UsageError("--large_files needs the weights for their checksum; give them with --weights FILE")
        if not (root / LARGE_FILES).is_file():
            raise UsageError(f"no weights: neither {WEIGHTS} nor {LARGE_FILES} exists; train, or give --weights FILE")
        return {name: root / name for name in (LARGE_FILES, SETTINGS) if (root / name).is_file()}
    settings = settings_path(weights)
    beside: dict[str, Path | bytes] = {SETTINGS: settings} if settings.is_file() else {}
    if address:
        entry = {"path": WEIGHTS, "url": str(address), "hash_val": sha256_of(weights), "hash_type": "sha256"}
        return {LARGE_FILES: yaml.safe_dump({"large_files": [entry]}, sort_keys=False).encode(), **beside}
    size = weights.stat().st_size
    if size > ZOO_LIMIT:
        sizes = f"the weights have {size / MEBIBYTE:.0f} MiB, the model zoo accepts files of {ZOO_LIMIT // MEBIBYTE}"
        print(f"note: {sizes}; --large_files URL links them instead", file=sys.stderr)
    return {WEIGHTS: weights, **beside}


def _other_weights(root: Path) -> dict[str, Path | bytes]:
    """List the published weights beside the default weights, and their settings."""
    weights = [path for path in published(root / "models").values() if path.stem.split(".")[0] != Path(WEIGHTS).stem]
    found = {path.relative_to(root).as_posix(): path for file in weights for path in (file, settings_path(file))}
    return {name: found[name] for name in source_files(root) if name in found}  # weights of users are not tracked


def _is_training_state(weights: Path) -> bool:
    try:
        state = torch.load(weights, map_location="meta", weights_only=True)
    except Exception:  # `load_weights` explains what is wrong
        return False
    return not all(isinstance(value, torch.Tensor) for value in state.values())


def _checked(root: Path, weights: Path) -> tuple[RonnebergerUNet, ModelSettings]:
    """Build the network of weights, and refuse files of anything else."""
    if _is_training_state(weights):
        raise RunError(f"{weights} holds more than weights, such as a training's state; give the model.pt beside it")
    parser = ConfigParser(ConfigParser.load_config_file(root / "configs" / "inference.yaml"))
    parser["ckpt_path"] = weights
    try:
        network = parser.get_parsed_content("network_def")
        if weights.is_file():
            load_weights(network, weights)
    except (ValueError, RuntimeError) as error:
        raise RunError(explain(error)) from error
    return network, parser.get_parsed_content("settings")
