"""Load a trained network outside of a workflow, as described by `inference.yaml`, for export to other formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser

from bundle.datasets.synthetic_em import synthetic_section
from bundle.running.errors import RunError, UsageError
from bundle.running.failures import explain
from bundle.running.overrides import check_overrides
from scripts.handlers.checkpoints import load_weights
from scripts.io.files import sha256_of
from scripts.networks.unet import RonnebergerUNet
from scripts.transforms.intensity import normalize_image

NOT_DESCRIBED = {"network", "sha256", "version"}  # settings that exported files describe in another way


@dataclass(frozen=True)
class Trained:
    """A network with its weights."""

    parser: ConfigParser  # the configuration with overrides
    network: RonnebergerUNet  # in eval mode, float32, on the CPU
    weights: Path  # file of the weights
    info: dict[str, Any]  # for exported files: settings, geometry, version, checksum of the weights

    def image(self, path: str | None = None, size: tuple[int, int] = (512, 512)) -> torch.Tensor:
        """Prepare an image file, else a synthetic section of the given size, as input (1, C, H, W)."""
        if path is not None:
            if not Path(path).is_file():
                raise UsageError(f"--image {path} does not exist")
            return self.prepared(path)
        grey, _ = synthetic_section(np.random.default_rng(0), size)
        return self.normalized(grey[None].astype(np.float32))

    def prepared(self, address: str) -> torch.Tensor:
        """Read an image file, or a plane of a stack ("stack.tif#page=3"), as input (1, C, H, W) of the network."""
        item = self.parser.get_parsed_content("preprocessing")({"image": address})
        return item["image"].as_tensor()[None]

    def normalized(self, image: np.ndarray) -> torch.Tensor:
        """Scale grey values (1, H, W) or (C, H, W) by the configuration; returns a batch (1, C, H, W)."""
        method, flatten = self.info["intensity"], float(self.info["flatten"])
        scaled = normalize_image(torch.from_numpy(image), method=method, flatten=flatten)
        return torch.as_tensor(scaled)[None].expand(-1, self.network.in_channels, -1, -1).contiguous()


def load_trained(
    config_file: str | Sequence[str], ckpt_path: str | None = None, overrides: Mapping[str, Any] | None = None
) -> Trained:
    """Build the network of a configuration for inference and load its weights.

    Args:
        config_file: inference.yaml, or a list of inference.yaml and overlays.
        ckpt_path: weights. None: `ckpt_path` of the configuration.
        overrides: further keys of the configuration and their values.

    Raises:
        UsageError: a missing configuration, an unknown key, or a network other than a 2D RonnebergerUNet.
        FileNotFoundError: missing weights.
        RunError: weights of another network.

    Example:
        >>> from bundle.running.run import ROOT
        >>> trained = load_trained(str(ROOT / "configs" / "inference.yaml"), str(ROOT / "models" / "model.pt"))
        >>> trained.info["depth"], trained.image(size=(188, 188)).shape
        (4, torch.Size([1, 1, 188, 188]))
    """
    files = [config_file] if isinstance(config_file, str) else [str(name) for name in config_file]
    for name in files:
        if not Path(name).is_file():
            raise UsageError(f"--config_file {name} does not exist; give configs/inference.yaml, with overlays if any")
    parser = ConfigParser(ConfigParser.load_config_files(files))
    meta = Path(files[0]).parent / "metadata.json"
    if meta.is_file():
        parser.read_meta(str(meta))
    changes = dict(overrides or {}) | ({} if ckpt_path is None else {"ckpt_path": str(ckpt_path)})
    parser.update(check_overrides(parser.get(), changes))
    try:
        network, settings = (parser.get_parsed_content(key) for key in ("network_def", "settings"))
    except RuntimeError as error:  # MONAI's, around the error of a component
        raise RunError(explain(error)) from error
    if not isinstance(network, RonnebergerUNet) or network.spatial_dims != 2:
        raise UsageError(f"network_def is {type(network).__name__}, expected a two-dimensional RonnebergerUNet")
    weights = Path(parser.get_parsed_content("ckpt_path"))
    try:
        load_weights(network, weights)
    except ValueError as error:
        raise RunError(str(error)) from error
    info: dict[str, Any] = settings.model_dump(exclude=NOT_DESCRIBED)
    info |= {"depth": network.depth, "margin": network.margin, "padding": network.padding}
    info |= {"retain_dim": network.retain_dim, "output": "scores before the softmax (sigmoid for one channel)"}
    info |= {"weights": weights.name, "weights_sha256": sha256_of(weights)}
    if meta.is_file():
        info |= {"version": parser["_meta_"]["version"]}
    return Trained(parser, network.float().eval(), weights, info)
