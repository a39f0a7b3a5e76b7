"""How much memory a forward pass of a U-Net takes, and how much there is."""

from __future__ import annotations

from collections.abc import Callable

import psutil
import torch

# Bytes per input pixel at the peak of a forward pass without gradients, for a net with 64 features in its top level.
# Measured on a CPU as growth of the peak resident size, tiles of 380 to 1004 pixels; the larger of unpadded and padded
# and of both memory layouts, rounded up: 1601, 993, 1876 and 6442. float64 takes more than twice float32's, and float16
# more than bfloat16's, because convolutions without a native kernel unfold or convert their input.
BYTES_PER_PIXEL = {torch.float32: 1664, torch.bfloat16: 1024, torch.float16: 1920, torch.float64: 6656}


def bytes_per_pixel(network: Callable, dtype: torch.dtype) -> int:
    """Estimated peak memory of a forward pass per input pixel, in proportion to the features of the top level.

    Args:
        network: a module, whose first convolution tells its width; of any other callable the paper's 64 are assumed.
        dtype: that it computes in; unknown ones count as float32.
    """
    weights = network.parameters() if isinstance(network, torch.nn.Module) else ()
    width = next((weight.shape[0] for weight in weights if weight.ndim > 2), 64)
    return max(1, BYTES_PER_PIXEL.get(dtype, BYTES_PER_PIXEL[torch.float32]) * width // 64)


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device now; of anything but a GPU, in main memory."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
