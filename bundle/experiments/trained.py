"""A trained network outside of a workflow, as `inference.yaml` describes it: for what writes it into other formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser

from bundle.datasets.synthetic_em import synthetic_section
from bundle.errors import RunError, UsageError
from bundle.experiments.provenance import sha256_of
from bundle.running.overrides import check_overrides
from scripts.handlers.checkpoints import load_weights
from scripts.networks.unet import RonnebergerUNet
from scripts.transforms.intensity import normalize_image

DESCRIBED = ("in_channels", "class_names", "intensity", "flatten")  # keys of the configuration that a file repeats


@dataclass(frozen=True)
class Trained:
    """A network with its weights.

    Attributes:
        parser: the configuration, overrides applied.
        network: in eval mode, float32, on the CPU.
        weights: the file they came from.
        info: what an exported file says of itself: classes, grey values, geometry, version, checksum of the weights.
    """

    parser: ConfigParser
    network: RonnebergerUNet
    weights: Path
    info: dict[str, Any]

    def image(self, path: str | None = None, size: tuple[int, int] = (512, 512)) -> torch.Tensor:
        """An image (1, C, H, W) as the network gets it: a file, else a synthetic section of the given size."""
        if path is not None:
            if not Path(path).is_file():
                raise UsageError(f"--image {path} does not exist")
            return self.prepared(path)
        grey, _ = synthetic_section(np.random.default_rng(0), size)
        return self.normalized(grey[None].astype(np.float32))

    def prepared(self, address: str) -> torch.Tensor:
        """An image file, or one plane of it ("stack.tif#page=3"), as the network gets it: (1, C, H, W)."""
        item = self.parser.get_parsed_content("preprocessing")({"image": address})
        return item["image"].as_tensor()[None]

    def normalized(self, image: np.ndarray) -> torch.Tensor:
        """Grey values (1, H, W) or (C, H, W) as the configuration scales them, as a batch (1, C, H, W)."""
        scaled = normalize_image(
            torch.from_numpy(image), method=self.info["intensity"], flatten=float(self.info["flatten"])
        )
        return torch.as_tensor(scaled)[None].expand(-1, self.network.in_channels, -1, -1).contiguous()


def load_trained(
    config_file: str | Sequence[str], ckpt_path: str | None = None, overrides: Mapping[str, Any] | None = None
) -> Trained:
    """Build the network of a configuration for inference and load its weights.

    Args:
        config_file: inference.yaml, or a list with its overlays after it.
        ckpt_path: weights; None: the configuration's `ckpt_path`.
        overrides: further keys of the configuration and their values.

    Raises:
        UsageError: a configuration that does not exist, an unknown key, a network other than RonnebergerUNet.
        RunError: no weights, or weights that do not fit.
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
    network = parser.get_parsed_content("network_def")
    if not isinstance(network, RonnebergerUNet) or network.spatial_dims != 2:
        raise UsageError(f"network_def is {type(network).__name__}, expected a two-dimensional RonnebergerUNet")
    weights = Path(parser.get_parsed_content("ckpt_path"))
    try:
        load_weights(network, weights)
    except ValueError as error:
        raise RunError(str(error)) from error
    info = {key: parser.get_parsed_content(key) for key in DESCRIBED}
    info |= {"depth": network.depth, "margin": network.margin, "padding": network.padding}
    info |= {"retain_dim": network.retain_dim, "output": "scores before the softmax (sigmoid for one channel)"}
    info |= {"weights": weights.name, "weights_sha256": sha256_of(weights)}
    if meta.is_file():
        info |= {"version": parser["_meta_"]["version"]}
    return Trained(parser, network.float().eval(), weights, info)
