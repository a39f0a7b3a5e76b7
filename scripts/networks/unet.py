"""Build the network of Fig. 1 (Ronneberger, Fischer, Brox, MICCAI 2015, arXiv 1505.04597) and published variants.

The paper's network: 23 convolutions, 31,030,658 parameters for one channel in and two classes out, 572 -> 388.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import prod, sqrt
from typing import Any

import torch
from monai.networks.layers.factories import Conv, Dropout, Pool
from monai.networks.layers.utils import get_norm_layer
from torch import nn

from .arguments import checked
from .geometry import center_crop, margin, output_size


class RonnebergerUNet(nn.Module):
    """U-Net as in the paper: unpadded 3x3 convolutions, no normalisation, copy-and-crop skips.

    The defaults are the paper's network. An input axis must have the length 16k + 60 (in general
    2^depth * k + 4 * (2^depth - 1)). The output is shorter by 184 pixels, twice `margin`. Use
    `scripts.inferers.OverlapTileInferer` for images of any size.

    Args:
        spatial_dims: 1, 2 or 3 spatial axes.
        in_channels: channels of the input, 1 for grey images, 3 for RGB.
        out_channels: classes K; 1 for a single sigmoid output.
        features: channels of each level, top to bottom. The number of poolings, `depth`, is the length minus 1.
        dropout: rate, see `dropout_at`. The paper names no rate; 0.5 is from the authors' release.
        dropout_at: "contracting_end" (Sec. 3.1: after the convolutions of the lowest two levels, before the skip is
            taken) or "stages" (after every pooling and every concatenation).
        padding: "valid" (the paper) or "same": zero-padded convolutions, output as large as the input. Input axes must
            then be divisible by 2^depth.
        norm: None (the paper), or a normalisation by MONAI's name, e.g. "batch", between convolution and ReLU.
        up_kernel_size: 2 (the paper) or 3, the kernel of the stride-2 transposed convolutions.
        up_features: output channels of each up-convolution, top to bottom; None: half of the input channels, as in
            Fig. 1. The authors' release has 128 instead of 64 in the top level: (128, 128, 256, 512).
        up_activation: whether a ReLU follows each up-convolution (the authors' release).
        concat: "skip_first" or "up_first" (the authors' release): order of the two halves at each concatenation.
        retain_dim: interpolate (nearest) the output back to the size of the input.

    Attributes:
        definition: all arguments, to build the same network again.
        depth: number of poolings, 4 in the paper.
        margin: pixels lost on every side, 92 in the paper; 0 for "same" or `retain_dim`.

    Shape:
        (B, in_channels, *spatial) -> (B, out_channels, *(spatial - 2 * margin)), raw scores before softmax / sigmoid.

    Raises:
        ValueError: arguments of a wrong type or out of range, or more weights than fit the memory. In `forward`: an
            input of wrong rank, channel count or size.

    Example:
        >>> network = RonnebergerUNet(features=(4, 8, 16))
        >>> network.depth, network.margin, network(torch.zeros(1, 1, 60, 60)).shape
        (2, 20, torch.Size([1, 2, 20, 20]))
    """

    __constants__ = ("retain_dim",)  # TorchScript omits an unused `interpolate`. Older torch lacks its operations

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 2,
        features: Sequence[int] = (64, 128, 256, 512, 1024),
        dropout: float = 0.5,
        dropout_at: str = "contracting_end",
        padding: str = "valid",
        norm: str | tuple | None = None,
        up_kernel_size: int = 2,
        up_features: Sequence[int] | None = None,
        up_activation: bool = False,
        concat: str = "skip_first",
        retain_dim: bool = False,
    ) -> None:
        super().__init__()
        given = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        self.definition = self.complete(given)
        features, up_features = self.definition["features"], self.definition["up_features"]

        self.spatial_dims = spatial_dims
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.depth = len(features) - 1
        self.padding = padding
        self.retain_dim = retain_dim
        self.margin = margin(self.depth) if padding == "valid" and not retain_dim else 0

        def convolutions(channels_in: int, channels_out: int) -> list[nn.Module]:
            layers: list[nn.Module] = []
            for channels in (channels_in, channels_out):
                pad = 1 if padding == "same" else 0
                layers.append(Conv[Conv.CONV, spatial_dims](channels, channels_out, kernel_size=3, padding=pad))
                if norm is not None:
                    layers.append(get_norm_layer(norm, spatial_dims, channels_out))
                layers.append(nn.ReLU(inplace=True))
            return layers

        # torch's Dropout drops single values, as Caffe's did; Dropout2d would drop whole feature maps
        drop = Dropout[Dropout.DROPOUT, 1]
        at_stages = dropout_at == "stages" and dropout > 0
        at_end = dropout_at == "contracting_end" and dropout > 0

        self.contracting = nn.ModuleList()
        for level, (above, here) in enumerate(pairwise((in_channels, *features))):
            layers = convolutions(above, here)
            if level > 0:
                pool = Pool[Pool.MAX, spatial_dims](kernel_size=2, stride=2)
                layers = [pool, *([drop(dropout)] if at_stages else []), *layers]
            if at_end and level >= self.depth - 1:
                layers.append(drop(dropout))
            self.contracting.append(nn.Sequential(*layers))

        self.expansive = nn.ModuleList()
        below = features[-1]
        for here, up in zip(reversed(features[:-1]), reversed(up_features), strict=True):
            # kernel 3 needs one pixel of output padding to double the size exactly
            extra = {"padding": 1, "output_padding": 1} if up_kernel_size == 3 else {}
            upconv = Conv[Conv.CONVTRANS, spatial_dims](below, up, kernel_size=up_kernel_size, stride=2, **extra)
            self.expansive.append(
                _Expand(
                    nn.Sequential(upconv, nn.ReLU(inplace=True)) if up_activation else upconv,
                    nn.Sequential(*([drop(dropout)] if at_stages else []), *convolutions(here + up, here)),
                    skip_first=concat == "skip_first",
                )
            )
            below = here
        self.scores = Conv[Conv.CONV, spatial_dims](features[0], out_channels, kernel_size=1)
        self.reset_parameters()

    @staticmethod
    def complete(arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Check some arguments of the network and add the defaults. The result can be written as JSON.

        Raises:
            ValueError: see `scripts.networks.arguments.checked`.

        Example:
            >>> RonnebergerUNet.complete({"features": (4, 8, 16)})["up_features"]
            [4, 8]
        """
        return checked(arguments)

    def reset_parameters(self) -> None:
        """Draw weights from N(0, sqrt(2 / N)), N = incoming nodes of one neuron (Sec. 3, He et al. 2015); biases 0."""
        for module in self.modules():
            if isinstance(module, nn.modules.conv._ConvNd):
                taps = float(prod(module.kernel_size))
                if module.transposed:
                    taps /= prod(module.stride)  # an output pixel uses only every stride-th tap of the kernel
                nn.init.normal_(module.weight, std=sqrt(2 / (taps * module.in_channels)))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute scores, before the softmax, for images (B, C, *spatial)."""
        if not torch.jit.is_scripting() and not torch.jit.is_tracing() and not torch.compiler.is_compiling():
            self._check_input(x)  # a check of sizes would fix the sizes in exports and graphs
        size = x.shape[2:]
        skips: list[torch.Tensor] = []
        for stage in self.contracting:
            x = stage(x)  # (B, 64, 568, 568) -> (B, 128, 280, 280)
            skips.append(x)
        x = skips.pop()
        for stage in self.expansive:
            x = stage(x, skips.pop())  # (B, 1024, 28, 28), (B, 512, 64, 64) -> (B, 512, 52, 52)
        x = self.scores(x)  # (B, 64, 388, 388) -> (B, 2, 388, 388)
        if self.retain_dim:
            x = nn.functional.interpolate(x, size=size)
        return x

    @torch.jit.unused
    def _check_input(self, x: torch.Tensor) -> None:
        """Raise ValueError with the expected shape."""
        expected = f"(batch, {self.in_channels}, {', '.join('DHW'[-self.spatial_dims :])})"
        if x.ndim != self.spatial_dims + 2:
            raise ValueError(f"RonnebergerUNet expects an input {expected}, got {x.ndim} axes: {tuple(x.shape)}")
        if x.shape[1] != self.in_channels:
            raise ValueError(
                f"RonnebergerUNet expects {self.in_channels} channels, got {x.shape[1]} in {tuple(x.shape)}. "
                "Convert the images or set in_channels"
            )
        for size in x.shape[2:]:
            if self.padding == "valid":
                output_size(int(size), self.depth)
            elif size % 2**self.depth:
                step = 2**self.depth
                below = size // step * step
                raise ValueError(
                    f"input_size {size} does not fit {self.depth} poolings of a padded network. "
                    f"The nearest multiples of {step} are {below} and {below + step}"
                )


class _Expand(nn.Module):
    """Run a step of the expansive path: up-convolution, copy and crop, concatenation, two convolutions."""

    def __init__(self, up: nn.Module, convolutions: nn.Module, skip_first: bool) -> None:
        super().__init__()
        self.up = up
        self.convolutions = convolutions
        self.skip_first = skip_first

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        x = self.up(x)  # (B, 1024, 28, 28) -> (B, 512, 56, 56)
        skip = center_crop(skip, list(x.shape[2:]))  # (B, 512, 64, 64) -> (B, 512, 56, 56)
        x = torch.cat([skip, x] if self.skip_first else [x, skip], dim=1)  # -> (B, 1024, 56, 56)
        return self.convolutions(x)  # -> (B, 512, 52, 52)
