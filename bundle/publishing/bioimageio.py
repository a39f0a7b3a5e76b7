"""Write model packages for bioimage.io (https://bioimage.io), for Fiji's deepImageJ, ilastik and QuPath.

The description follows version 0.5 of the format (https://github.com/bioimage-io/spec-bioimage-io). The packed network
returns probabilities as large as its input, see `bundle.publishing.mirrored`.
"""

from __future__ import annotations

import inspect
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
import yaml
from PIL import Image

from bundle.datasets.synthetic_em import synthetic_section
from bundle.experiments.trained import Trained, load_trained
from bundle.publishing import mirrored
from bundle.publishing.export import write_checked
from bundle.publishing.exporters import FORMATS, check_installed
from bundle.publishing.layout import CARD, write_archive
from bundle.publishing.mirrored import MirroredUNet
from bundle.running.errors import UsageError
from bundle.running.run import ROOT
from scripts.io.files import replacing, sha256_of
from scripts.networks import geometry, unet

FORMAT = "0.5.4"  # version of bioimage.io's format
WEIGHT_FILES = {  # format -> file, best first; further formats name the first chosen format as their parent
    "pytorch_state_dict": "weights.pt",
    "torchscript": "weights-torchscript.pt",
    "onnx": "weights.onnx",
}
CHECKED = '''

def checked(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Complete the arguments of the network, which were checked when this file was written."""
    up = arguments["up_features"]
    return {**arguments, "up_features": list(arguments["features"])[:-1] if up is None else list(up)}
'''  # in place of `scripts.networks.arguments`, which needs more packages
TEST_SIZE = (384, 400)  # pixels, at most; unequal, to notice swapped axes


def write_bioimageio(
    weights: Path,
    out: Path,
    config_file: str | Sequence[str] = "configs/inference.yaml",
    weight_formats: Sequence[str] = ("torchscript", "onnx"),
    overrides: Mapping[str, Any] | None = None,
) -> None:
    """Write a model package: description, weights, test and sample tensors, cover picture, documentation.

    Args:
        weights: a flat state_dict.
        out: zip file to write.
        config_file: configuration for inference, or a list with overlays.
        weight_formats: torchscript (for deepImageJ, ilastik and QuPath), onnx (for programs without torch), or
            pytorch_state_dict (with the network's source, for further training). Each takes 124 MB for the paper's
            network.
        overrides: keys of the configuration and their values.

    Raises:
        UsageError: an unknown format of weights, or a preprocessing unknown to bioimage.io.
        RunError: the weights do not fit, or an export differs from the network.
    """
    chosen = [name for name in WEIGHT_FILES if name in weight_formats]
    if not chosen or not set(weight_formats) <= set(WEIGHT_FILES):
        raise UsageError(f"weight formats must be of {', '.join(WEIGHT_FILES)}, got {', '.join(weight_formats)}")
    if out.suffix != ".zip":
        raise UsageError(f"the package is a zip file, got {out}")
    for name in set(chosen) & set(FORMATS):
        check_installed(name)
    trained = load_trained(config_file, str(weights), overrides)
    steps = preprocessing(trained.info)
    network = MirroredUNet(**trained.network.definition).eval()
    network.network.load_state_dict(trained.network.state_dict())
    raw = _test_image(network)
    normal = trained.normalized(raw)
    with torch.inference_mode():
        output = network(normal).numpy()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_tensors(folder, raw, output)
        described = _write_weights(folder, trained, network, chosen, normal)
        (folder / "README.md").write_text(_documentation(trained, network), encoding="utf-8")
        _write_yaml(folder / "rdf.yaml", _description(trained, network, steps, described))
        with replacing(out) as temporary:
            write_archive(temporary, {file.name: file for file in folder.iterdir()})
    print(f"{out}: written, {out.stat().st_size / 1e6:.1f} MB")


def preprocessing(info: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Translate the configuration's "intensity" and "flatten" into steps of bioimage.io's format.

    Raises:
        UsageError: `flatten` is not 0. The format has no step for flatten.

    Example:
        >>> [step["id"] for step in preprocessing({"intensity": "z_score", "flatten": 0})]
        ['ensure_dtype', 'zero_mean_unit_variance']
    """
    if info["flatten"]:
        raise UsageError("bioimage.io's format has no step for flatten; package weights that were trained without it")
    each = {"axes": ["y", "x"]}  # scale each channel separately
    if info["intensity"] == "z_score":
        steps = [{"id": "zero_mean_unit_variance", "kwargs": each}]
    else:  # to 0 .. 1, then to -1 .. 1
        scale = {"id": "scale_range", "kwargs": {**each, "min_percentile": 1.0, "max_percentile": 99.0}}
        steps = [scale, {"id": "scale_linear", "kwargs": {"gain": 2.0, "offset": -1.0}}]
    return [{"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}, *steps]


def citation(text: str) -> dict[str, str]:
    """Make a citation of a reference in metadata.json, with DOI or address of the preprint.

    Raises:
        UsageError: the reference has neither DOI nor arXiv number.

    Example:
        >>> citation("U-Net, arXiv 1505.04597")["url"]
        'https://arxiv.org/abs/1505.04597'
    """
    doi, preprint = re.search(r"doi (10\.\S+)", text), re.search(r"arXiv (\d+\.\d+)", text)
    if doi:
        return {"text": text, "doi": doi[1]}
    if preprint:
        return {"text": text, "url": f"https://arxiv.org/abs/{preprint[1]}"}
    raise UsageError(f"each reference in metadata.json needs a DOI or a preprint for bioimage.io, none in: {text}")


def network_source() -> str:
    """Return the source code of the network and its sizes as a single file. It imports nothing of this project.

    Example:
        >>> "class MirroredUNet" in network_source()
        True
    """
    future = "from __future__ import annotations\n"
    own = re.compile(r"^from (?:\.|scripts\.)\S* import .*\n", re.MULTILINE)
    parts = [own.sub("", inspect.getsource(module)).replace(future, "") for module in (geometry, unet, mirrored)]
    return future + "\n".join([*parts, CHECKED])


def _description(
    trained: Trained, network: MirroredUNet, steps: list[dict[str, Any]], weights: Mapping[str, Any]
) -> dict[str, Any]:
    """Make the content of rdf.yaml, from the steps of `preprocessing` and the entries of `_write_weights`."""
    meta = trained.parser["_meta_"]
    names = list(trained.info["class_names"]) if network.out_channels > 1 else [trained.info["class_names"][-1]]
    halo = {"halo": network.halo} if network.halo else {}
    channels = [f"channel_{i}" for i in range(network.in_channels)]
    inputs = {
        "id": "image",
        "description": "grey values of any scale",
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": channels},
            *({"type": "space", "id": axis, "size": {"min": network.least, "step": network.step}} for axis in "yx"),
        ],
        "data": {"type": "float32"},
        "preprocessing": steps,
        "test_tensor": {"source": "test_input.npy"},
        "sample_tensor": {"source": "sample_input.tif"},
    }
    outputs = {
        "id": "probabilities",
        "description": "probability of each class",
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": names},
            *({"type": "space", "id": a, "size": {"tensor_id": "image", "axis_id": a}} | halo for a in "yx"),
        ],
        "data": {"type": "float32", "range": [0.0, 1.0]},
        "test_tensor": {"source": "test_output.npy"},
        "sample_tensor": {"source": "sample_output.tif"},
    }
    return {
        "format_version": FORMAT,
        "type": "model",
        "name": meta["name"],
        "description": meta["description"],
        "version": meta["version"],
        "authors": [{"name": meta["authors"]}],
        "license": "Apache-2.0",
        "cite": [citation(text) for text in meta["references"]],
        "tags": ["unet2d", "segmentation", "semantic-segmentation", "2d", "pytorch", "cells", "electron-microscopy"],
        "documentation": {"source": "README.md"},
        "covers": [{"source": "cover.png"}],
        "inputs": [inputs],
        "outputs": [outputs],
        "weights": dict(weights),
        "config": {
            "bioimageio": {
                "architecture_type": "U-Net",
                "task": "segmentation",
                "out_of_scope_use": meta["intended_use"],
                "model_parameter_count": sum(weight.numel() for weight in network.parameters()),
            },
            "original_unet": trained.info,
        },
    }


def _documentation(trained: Trained, network: MirroredUNet) -> str:
    """Make README.md: how to use the package, then the model card."""
    card = re.sub(r"^!\[.*\n", "", (ROOT / CARD).read_text(encoding="utf-8"), flags=re.M)  # without its pictures
    return f"""# {trained.parser["_meta_"]["name"]}

Input: grey values, sides of {network.least} + {network.step} n pixels. Output: a probability for each of
{trained.info["class_names"]}, as large as the input. The network mirrors the image at its edges. Tiles need
{network.halo} pixels of context a side, the halo of the description. Grey values are scaled over the whole input, so
give whole images or large tiles.

## Validation

Before you rely on the predictions, compare them with labels of your own images: Dice and IoU per class, on images that
were not used for training. The model card below describes the measurements of these weights, and their limits.
Weights sha256 {trained.info["weights_sha256"]}.

{card}"""


def _test_image(network: MirroredUNet) -> np.ndarray:
    """Make a synthetic section, float32 (C, H, W), in a size for the network."""
    rows, columns = (max(network.least, side // network.step * network.step) for side in TEST_SIZE)
    grey, _ = synthetic_section(np.random.default_rng(0), TEST_SIZE)
    return np.repeat(_centre(grey, rows, columns)[None], network.in_channels, axis=0).astype(np.float32)


def _centre(image: np.ndarray, rows: int, columns: int) -> np.ndarray:
    top, left = (image.shape[-2] - rows) // 2, (image.shape[-1] - columns) // 2
    return image[..., top : top + rows, left : left + columns]


def _write_tensors(folder: Path, raw: np.ndarray, output: np.ndarray) -> None:
    """Write test tensors (1, C, H, W), TIFF files to look at, and a cover: image and prediction, side by side."""
    np.save(folder / "test_input.npy", raw[None])
    np.save(folder / "test_output.npy", output)
    tifffile.imwrite(folder / "sample_input.tif", raw)
    tifffile.imwrite(folder / "sample_output.tif", output[0])
    side = min(output.shape[2:])
    grey, found = (_centre(plane, side, side) for plane in (raw[0], output[0, -1]))
    low, high = float(grey.min()), float(grey.max())
    panels = np.concatenate([(grey - low) / max(high - low, 1e-6), found], axis=1)  # bioimage.io wants covers of 2 : 1
    Image.fromarray((panels * 255).round().astype(np.uint8)).save(folder / "cover.png")


def _write_weights(
    folder: Path, trained: Trained, network: MirroredUNet, chosen: Sequence[str], image: torch.Tensor
) -> dict[str, dict[str, Any]]:
    """Write the weights in each format, compare exports with the network, and return entries for the description."""
    described: dict[str, dict[str, Any]] = {}
    info = trained.info | {"padding": network.padding, "retain_dim": False, "margin": 0, "output": "probabilities"}
    torch_version = torch.__version__.split("+")[0]
    for name in chosen:
        path = folder / WEIGHT_FILES[name]
        entry: dict[str, Any] = {"source": path.name}
        if name == "pytorch_state_dict":
            torch.save(network.state_dict(), path)
            (folder / "architecture.py").write_text(network_source(), encoding="utf-8")
            monai = f"monai=={trained.parser['_meta_']['monai_version']}"
            packages = ["python >=3.11", f"pytorch=={torch_version}", "pip", {"pip": [monai]}]
            environment = {"name": "original-unet", "channels": ["conda-forge"], "dependencies": packages}
            _write_yaml(folder / "environment.yaml", environment)
            entry |= {
                "architecture": {
                    "source": "architecture.py",
                    "sha256": sha256_of(folder / "architecture.py"),
                    "callable": "MirroredUNet",
                    "kwargs": trained.network.definition,
                },
                "dependencies": {"source": "environment.yaml"},
            }
        else:
            made = path.with_suffix(FORMATS[name].suffix)  # the suffix selects the engine for reading the file back
            write_checked(network, info, FORMATS[name], made, image)
            made.rename(path)
        if name == "onnx":
            import onnx

            opsets = onnx.load(path, load_external_data=False).opset_import
            entry["opset_version"] = next(opset.version for opset in opsets if not opset.domain)
        else:
            entry["pytorch_version"] = torch_version
        described[name] = entry | {"sha256": sha256_of(path)} | ({"parent": chosen[0]} if described else {})
    return described


def _write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
