"""A network for programs that tile images in their own way: probabilities as large as the input.

deepImageJ, ilastik and QuPath know no outputs smaller than the input, no sizes of 16 n + 12 pixels, and not all of them
know a softmax. So all three are parts of the exported network.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from scripts.networks.geometry import valid_input_size
from scripts.networks.unet import RonnebergerUNet


class MirroredUNet(nn.Module):
    """Mirror the image at its edges, run the network, and return probabilities for every pixel of the image.

    Outputs nearer to an edge than `halo` pixels depend on mirrored pixels. Tiles that overlap by twice the halo, at
    multiples of `step`, give the probabilities of a single pass over the whole image.

    Args:
        arguments: of `RonnebergerUNet`.

    Attributes:
        network: the `RonnebergerUNet`.
        depth, in_channels, out_channels: as of the network.
        step: sides of inputs are multiples of `step` pixels, 16 in the paper.
        halo: pixels of context, a multiple of `step`: 96 for the paper's network. 0 with `retain_dim`.
        least: smallest side of an input in pixels, more than twice the halo: 208 for the paper's network.
        padding, retain_dim: "same" and False, the geometry for `OverlapTileInferer`.

    Shape:
        (B, in_channels, H, W) float32, H and W multiples of `step` -> (B, out_channels, H, W) float32, softmax over the
        channels, sigmoid for one channel.

    Example:
        >>> network = MirroredUNet(features=(4, 8, 16))
        >>> network.step, network.halo, network.least, network(torch.zeros(1, 1, 48, 60)).shape
        (4, 20, 44, torch.Size([1, 2, 48, 60]))
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        network = RonnebergerUNet(**arguments)
        self.network = network
        self.depth, self.padding, self.retain_dim = network.depth, "same", False
        self.in_channels, self.out_channels = network.in_channels, network.out_channels
        self.step = 2**network.depth
        padded = network.padding == "same"
        context = 7 * self.step if padded else network.margin  # of padded networks: out of reach of the zeros
        self.halo = -(-context // self.step) * self.step
        offset, smallest = (0, 2 * self.step) if padded else (4 * (self.step - 1), valid_input_size(1, network.depth))
        after = context + (offset - 2 * context) % self.step  # pixels for a size that fits the network
        self.least = max(2 * self.halo + self.step, -(-(smallest - context - after) // self.step) * self.step)
        self.pads = [context, after, context, after]
        self.first = context - network.margin  # row and column of the image's first pixel in the network's output

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute probabilities, see the class."""
        rows, columns = x.shape[2], x.shape[3]
        scores = self.network(nn.functional.pad(x, self.pads, mode="reflect"))
        scores = scores.narrow(2, self.first, rows).narrow(3, self.first, columns)
        return scores.sigmoid() if self.out_channels == 1 else scores.softmax(dim=1)
