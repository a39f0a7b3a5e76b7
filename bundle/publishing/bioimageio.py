"""A model package in the format of bioimage.io (https://bioimage.io), which Fiji's deepImageJ, ilastik and QuPath read.

The description follows version 0.5 of the format (https://github.com/bioimage-io/spec-bioimage-io). An unpadded network
is told by its axes: inputs of 188 + 16 n pixels, outputs smaller by 184.
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
from bundle.errors import UsageError
from bundle.experiments.provenance import sha256_of
from bundle.experiments.trained import Trained, load_trained
from bundle.publishing.archive import write_archive
from bundle.publishing.bioimageio_description import description, documentation, preprocessing
from bundle.publishing.export import write_checked
from bundle.publishing.exporters import FORMATS, check_installed, tile_sizes
from scripts import checks
from scripts.io.files import replacing
from scripts.networks import geometry, unet

WEIGHT_FILES = {  # format: its file; in the order of preference, the first of those chosen is the origin of the others
    "pytorch_state_dict": "weights.pt",
    "torchscript": "weights-torchscript.pt",
    "onnx": "weights.onnx",
}
TEST_SIZE = (396, 412)  # px, about: unequal, so that exchanged axes do not pass


def write_bioimageio(
    weights: Path,
    out: Path,
    config_file: str | Sequence[str] = "configs/inference.yaml",
    weight_formats: Sequence[str] = ("torchscript", "onnx"),
    image: np.ndarray | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> None:
    """Write a model package: description, weights, test and sample tensors, cover picture, documentation.

    Args:
        weights: a flat state_dict.
        out: zip file to write.
        config_file: configuration for inference, or a list with overlays.
        weight_formats: torchscript, which all of these programs read; onnx, for those without torch;
            pytorch_state_dict, with the network's source, for training on. Each takes 124 MB for the paper's network.
        image: grey values (C, H, W) to test and show with, at least as large as the smallest input; None: synthetic.
        overrides: keys of the configuration and their values.

    Raises:
        UsageError: an unknown format, or a preprocessing that the format of bioimage.io cannot express.
        RunError: weights that do not fit, or an export that differs from the network.
    """
    chosen = [name for name in WEIGHT_FILES if name in weight_formats]
    if not chosen or set(weight_formats) - set(WEIGHT_FILES):
        raise UsageError(f"weight formats must be of {', '.join(WEIGHT_FILES)}, got {', '.join(weight_formats)}")
    if out.suffix != ".zip":
        raise UsageError(f"the package is a zip file, got {out}")
    for name in set(chosen) & set(FORMATS):
        check_installed(name)
    trained = load_trained(config_file, str(weights), overrides)
    steps = preprocessing(trained.info)
    raw = _test_image(trained, image)
    normal = trained.normalized(raw)
    with torch.inference_mode():
        output = _probabilities(trained.network(normal)).numpy()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_tensors(folder, raw, output)
        described = _write_weights(folder, trained, chosen, normal)
        (folder / "README.md").write_text(documentation(trained), encoding="utf-8")
        (folder / "rdf.yaml").write_text(
            yaml.safe_dump(description(trained, steps, described), sort_keys=False),
            encoding="utf-8",
        )
        with replacing(out) as temporary:
            write_archive(temporary, {file.name: file for file in folder.iterdir()})
    print(f"{out}: written, {out.stat().st_size / 1e6:.1f} MB")


def _test_image(trained: Trained, image: np.ndarray | None) -> np.ndarray:
    """Grey values float32 (C, H, W) of a size that fits the network, from the centre of what is given."""
    least, step = tile_sizes(trained.network)
    channels = trained.network.in_channels
    if image is None:
        grey, _ = synthetic_section(np.random.default_rng(0), TEST_SIZE)
        image = np.repeat(grey[None], channels, axis=0)
    if image.ndim != 3 or len(image) != channels or min(image.shape[1:]) < least:
        raise UsageError(
            f"the test image must be ({channels}, H, W) of at least {least} pixels a side, got {image.shape}"
        )
    sides = zip(image.shape[1:], TEST_SIZE, strict=True)
    rows, columns = (least + (min(pair) - least) // step * step for pair in sides)
    top, left = (image.shape[1] - rows) // 2, (image.shape[2] - columns) // 2
    return np.ascontiguousarray(image[:, top : top + rows, left : left + columns], dtype=np.float32)


def _probabilities(scores: torch.Tensor) -> torch.Tensor:
    return scores.sigmoid() if scores.shape[1] == 1 else scores.softmax(dim=1)


def _write_tensors(folder: Path, raw: np.ndarray, output: np.ndarray) -> None:
    """Test tensors (1, C, H, W), as TIFF to look at, and a cover: the image's centre and what is found in it."""
    np.save(folder / "test_input.npy", raw[None])
    np.save(folder / "test_output.npy", output)
    tifffile.imwrite(folder / "sample_input.tif", raw)
    tifffile.imwrite(folder / "sample_output.tif", output[0])
    side = min(output.shape[2:])
    top, left = ((n - side) // 2 for n in raw.shape[1:])
    grey = raw[0, top : top + side, left : left + side]
    low, high = float(grey.min()), float(grey.max())
    found = output[0, -1, (output.shape[2] - side) // 2 :, (output.shape[3] - side) // 2 :][:side, :side]
    panels = np.concatenate([(grey - low) / max(high - low, 1e-6), found], axis=1)  # twice as wide as high
    Image.fromarray((panels * 255).round().astype(np.uint8)).save(folder / "cover.png")


def _write_weights(
    folder: Path, trained: Trained, chosen: Sequence[str], image: torch.Tensor
) -> dict[str, dict[str, Any]]:
    """The weights in each format, exports compared with the network, and what the description says of them."""
    described: dict[str, dict[str, Any]] = {}
    for name in chosen:
        path = folder / WEIGHT_FILES[name]
        entry: dict[str, Any] = {"source": path.name}
        if name == "pytorch_state_dict":
            torch.save(trained.network.state_dict(), path)
            (folder / "architecture.py").write_text(network_source(), encoding="utf-8")
            (folder / "environment.yaml").write_text(yaml.safe_dump(_environment(trained)), encoding="utf-8")
            entry |= {
                "architecture": {
                    "source": "architecture.py",
                    "sha256": sha256_of(folder / "architecture.py"),
                    "callable": "RonnebergerUNet",
                    "kwargs": _network_arguments(trained),
                },
                "dependencies": {"source": "environment.yaml"},
            }
        else:
            made = path.with_suffix(FORMATS[name].suffix)  # by which it can be read back
            write_checked(trained, FORMATS[name], made, image)
            made.rename(path)
        entry |= {"opset_version": _opset(path)} if name == "onnx" else {"pytorch_version": _torch_version()}
        described[name] = entry | {"sha256": sha256_of(path)} | ({"parent": chosen[0]} if described else {})
    return described


def _opset(path: Path) -> int:
    import onnx

    model = onnx.load(path, load_external_data=False)
    return int(next(entry.version for entry in model.opset_import if entry.domain == ""))


def _torch_version() -> str:
    return torch.__version__.split("+")[0]


def _network_arguments(trained: Trained) -> dict[str, Any]:
    """What the configuration gives to the network's class."""
    names = [key for key in trained.parser["network_def"] if not key.startswith("_")]
    return {key: trained.parser.get_parsed_content(f"network_def#{key}") for key in names}


def network_source() -> str:
    """The network and the arithmetic that it needs as one source file, which needs torch, numpy and monai alone."""
    future = "from __future__ import annotations\n"
    own = re.compile(r"^from scripts\..*\n", re.MULTILINE)
    parts = [own.sub("", inspect.getsource(module)).replace(future, "") for module in (checks, geometry, unet)]
    return future + "\n".join(parts)


def _environment(trained: Trained) -> dict[str, Any]:
    """What the state_dict's network needs, as a conda environment."""
    versions = trained.parser["_meta_"]
    packages = [f"pytorch=={_torch_version()}", "pip", {"pip": [f"monai=={versions['monai_version']}"]}]
    return {"name": "original-unet", "channels": ["conda-forge"], "dependencies": ["python >=3.11", *packages]}
