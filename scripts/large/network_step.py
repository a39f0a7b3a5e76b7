"""Segment one block of a large image: read its pixels with their context, infer, write probabilities and classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..inferers import OverlapTileInferer, Region
from ..transforms.activations import LikeliestClassd, probabilities
from .grey_values import GreyValues
from .grid import Block, BlockGrid
from .planes import PlaneArray

if TYPE_CHECKING:
    from .ome_zarr import OmeZarrOutput
    from .source import LargeImage

_ready: dict[int, tuple[torch.nn.Module, torch.nn.Module]] = {}  # network -> itself on its device, in this process


@dataclass(frozen=True)
class NetworkStep:
    """Segment blocks by number. Travels to worker processes.

    Args:
        image: the large image.
        grid: its blocks.
        grey_values: of each plane.
        network: with its weights, on the CPU.
        inferer: overlap-tile inference.
        device: where to compute.
        classes: number of classes, at least 2.
        threshold: of the foreground.
        foreground_above: blocks without a grey value above are background. None: all blocks are computed.
        output: receives classes and, if wanted, probabilities.
        mask: receives the foreground, with the threshold before any rounding.
    """

    image: LargeImage
    grid: BlockGrid
    grey_values: tuple[GreyValues, ...]
    network: torch.nn.Module
    inferer: OverlapTileInferer
    device: str
    classes: int
    threshold: float
    foreground_above: float | None
    output: OmeZarrOutput
    mask: PlaneArray

    def __call__(self, number: int) -> bool:
        """Segment a block. Return whether it was computed: empty blocks are not."""
        block = self.grid[number]
        values = self.grey_values[block.plane]
        if not any(values.scales) or self._empty(block, values):
            found = np.zeros((self.classes, *block.shape), np.float32)
            found[0] = 1
            computed = False
        else:
            found, computed = self._infer(block, values), True
        self._write(block, found)
        return computed

    def _empty(self, block: Block, values: GreyValues) -> bool:
        if self.foreground_above is None:
            return False
        if values.maxima:
            return values.maxima[block.number % (len(self.grid) // self.grid.planes)] <= self.foreground_above
        return not bool((self.image.read(block.plane, block.rows, block.columns) > self.foreground_above).any())

    @torch.inference_mode()
    def _infer(self, block: Block, values: GreyValues) -> np.ndarray:
        network = self._on_device()
        region = Region(block.rows, block.columns)
        window = Region(*self.grid.window(block, self.inferer.context(network)))
        pixels = torch.from_numpy(values.normalize(self.image, block.plane, window.rows, window.columns))
        size = (self.grid.height, self.grid.width)
        found = self.inferer.region(pixels[None].to(self.device), network, region, window, size)
        scores = found["pred"] if isinstance(found, dict) else found
        try:
            return probabilities(scores[0]).float().cpu().numpy()
        except ValueError as error:
            place = f"rows {block.rows}, columns {block.columns} of plane {block.plane}"
            raise ValueError(f"{self.image.path}, {place}: {error}") from error

    def _write(self, block: Block, found: np.ndarray) -> None:
        classes = LikeliestClassd().convert(torch.from_numpy(found))[0].numpy().astype(np.uint8)
        self.mask.write(block, (found[1] > self.threshold).astype(np.uint8))
        self.output.write("classes", block, classes)
        if "probabilities" in self.output.places:
            self.output.write("probabilities", block, found)

    def _on_device(self) -> torch.nn.Module:
        """Get the network on the device. It is moved once in each process."""
        known = _ready.get(id(self.network))
        if known is None or known[0] is not self.network:
            _ready.clear()
            moved = self.network.to(torch.device(self.device), memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
            known = _ready[id(self.network)] = (self.network, moved)
        return known[1]
