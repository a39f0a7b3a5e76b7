"""How features lie in memory while a network trains: channel by channel, or pixel by pixel (channels-last)."""

from __future__ import annotations

import torch


def trains_in_channels_last(device: torch.device | str) -> bool:
    """Whether a device has fast gradients of convolutions for channels-last features; inference suits it everywhere.

    GPUs have, and processors with AVX-512. With AVX2, which is what most laptops have, oneDNN has none for the weights:
    they take four times as long as those of features laid out channel by channel, so that a whole step takes longer by
    half, though its way there is faster. Processors of other kinds were not measured and keep torch's own layout.
    """
    # what torch asks of oneDNN, which needs AVX-512 for it on x86 whether or not it multiplies bfloat16
    return torch.device(device).type != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def training_layout(device: torch.device | str) -> torch.memory_format:
    """The layout of weights, and with them of features, in training on a device.

    Args:
        device: where the network trains.
    """
    return torch.channels_last if trains_in_channels_last(device) else torch.contiguous_format
