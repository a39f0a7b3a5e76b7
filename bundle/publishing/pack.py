"""`python -m bundle pack`: the zip file that the model zoo, MONAI and MONAI Label take.

JSON twins of the YAML configurations, for what looks for JSON alone, such as `monai.bundle.load`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import torch
import yaml
from monai.bundle import ConfigParser

from bundle.errors import RunError, UsageError
from bundle.experiments.provenance import commit_of, sha256_of
from bundle.publishing.archive import write_archive
from bundle.publishing.bioimageio import write_bioimageio
from bundle.publishing.exporters import check_installed
from bundle.publishing.layout import LARGE_FILES, MEBIBYTE, NAME, WEIGHTS, ZOO_LIMIT, travelling_files
from bundle.running.run import ROOT
from scripts.handlers.checkpoints import load_weights
from scripts.io.files import replacing

TWINS = ("train", "inference", "evaluate", "multi_gpu_train")  # names that the zoo's bundles have


def json_twins(configs: Path) -> dict[str, bytes]:
    """The twins of a folder's configurations, each proved equal to its original by MONAI's own reader.

    Args:
        configs: holds the YAML files; `TWINS` that are not there are left out.

    Returns:
        file name -> content.

    Raises:
        RunError: a configuration says something that JSON cannot, such as a key that is a number.
    """
    originals = {name: configs / f"{name}.yaml" for name in TWINS}
    return {f"{name}.json": _twin(path) for name, path in originals.items() if path.is_file()}


def _twin(original: Path) -> bytes:
    config = ConfigParser.load_config_file(original)
    with tempfile.TemporaryDirectory() as folder:
        twin = Path(folder) / f"{original.stem}.json"
        try:
            ConfigParser.export_config_file(config, str(twin), fmt="json", indent=4)
        except TypeError as error:  # a date, for one
            raise RunError(f"{original}: {error}; write it as text or numbers") from error
        back = ConfigParser.load_config_file(twin)
        for key, value in config.items():
            # as values, since text and number keys look alike in JSON; and as JSON, since True == 1
            if back.get(key) != value or json.dumps(back[key]) != json.dumps(value):
                raise RunError(f"{original}: {key} is {value!r}, as JSON {back.get(key)!r}; write what both can say")
        return twin.read_bytes() + b"\n"


def pack(
    out: str = "build", weights: str | None = None, large_files: str | None = None, bioimageio: bool = False
) -> None:
    """Write the zip file to publish, in the model zoo's layout.

    Makes OUT/original_unet_segmentation_vX.Y.Z.zip of configs, scripts, docs, licence and weights: the same bytes for
    the same commit and weights. Beside the YAML configurations it holds JSON twins, which monai.bundle.load asks for.

    Args:
        out: the folder to write into; made if absent.
        weights: a file of weights that fit configs/inference.yaml; by default models/model.pt.
        large_files: address where the weights can be downloaded; they are then linked, with their checksum, in
            large_files.yml instead of packed, as the model zoo asks of files above 25 MiB.
        bioimageio: write the model package of bioimage.io, too, for deepImageJ, ilastik and QuPath, beside the other.
    """
    given = Path(str(weights)).expanduser() if weights else None
    if given is not None and not given.is_file():
        raise UsageError(f"--weights {given} does not exist, expected a file of weights")
    if bioimageio:
        check_installed("onnx")
    path = write_package(ROOT, Path(str(out)).expanduser(), given, large_files)
    commit = commit_of(ROOT)
    print(f"{path}: {path.stat().st_size / MEBIBYTE:.1f} MiB" + (f", commit {commit}" if commit else ""))
    print(f"sha256 {sha256_of(path)}")
    if bioimageio:
        config = str(ROOT / "configs" / "inference.yaml")
        write_bioimageio(given or ROOT / WEIGHTS, path.with_suffix(".bioimageio.zip"), config)


def write_package(root: Path, out: Path, weights: Path | None = None, address: str | None = None) -> Path:
    """Write a bundle's zip file.

    Args:
        root: the bundle, a checkout or a copy.
        out: the folder to write into.
        weights: by default the bundle's models/model.pt.
        address: where the weights can be downloaded; they are linked instead of packed.

    Returns:
        the zip file.

    Raises:
        UsageError: neither weights nor a link to them.
        RunError: weights that are not plain tensors, or do not fit the network of inference.yaml.
    """
    version = json.loads((root / "configs" / "metadata.json").read_text(encoding="utf-8"))["version"]
    files: dict[str, Path | bytes] = {name: root / name for name in travelling_files(root)}
    files |= {f"configs/{name}": content for name, content in json_twins(root / "configs").items()}
    files |= _weights(root, weights, address)
    path = out / f"{NAME}_v{version}.zip"
    with replacing(path) as temporary:
        write_archive(temporary, {f"{NAME}/{name}": content for name, content in files.items()})
    return path


def _weights(root: Path, weights: Path | None, address: str | None) -> dict[str, Path | bytes]:
    """The weights, or large_files.yml that links them."""
    own = root / WEIGHTS
    weights = weights or (own if own.is_file() else None)
    if weights is None:
        if address:
            raise UsageError("--large_files needs the weights for their checksum; give them with --weights FILE")
        if not (root / LARGE_FILES).is_file():
            raise UsageError(
                f"no weights: neither {WEIGHTS} nor {LARGE_FILES} is there; train, or give them with --weights FILE"
            )
        return {LARGE_FILES: root / LARGE_FILES}
    _check_fit(root, weights)
    if address:
        return {LARGE_FILES: _link(weights, address)}
    size = weights.stat().st_size
    if size > ZOO_LIMIT:
        sizes = f"the weights have {size / MEBIBYTE:.0f} MiB, the model zoo takes files of {ZOO_LIMIT // MEBIBYTE}"
        print(f"note: {sizes}; --large_files URL links them instead", file=sys.stderr)
    return {WEIGHTS: weights}


def _check_fit(root: Path, weights: Path) -> None:
    """Refuse weights that inference.yaml could not load."""
    parser = ConfigParser(ConfigParser.load_config_file(root / "configs" / "inference.yaml"))
    with torch.device("meta"):  # sizes only
        network = parser.get_parsed_content("network_def")
    network = network.to_empty(device="cpu")
    try:
        load_weights(network, weights)
    except ValueError as error:
        raise RunError(str(error)) from error
    state = torch.load(weights, map_location="meta", weights_only=True)
    if not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise RunError(f"{weights} holds more than weights, such as the state to go on from; give model.pt beside it")


def _link(weights: Path, address: str) -> bytes:
    """large_files.yml, as the zoo and `monai.bundle download_large_files` read it."""
    entry = {"path": WEIGHTS, "url": str(address), "hash_val": sha256_of(weights), "hash_type": "sha256"}
    return yaml.safe_dump({"large_files": [entry]}, sort_keys=False).encode()
