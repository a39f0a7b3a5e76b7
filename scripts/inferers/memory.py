"""How much memory a forward pass of a U-Net takes, how much there is, and keeping what a training step frees."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable

import psutil
import torch
from ignite.engine import Engine, Events

# Bytes per input pixel at the peak of a forward pass without gradients, for a net with 64 features in its top level.
# Measured on a CPU as growth of the peak resident size, tiles of 1004 pixels; the larger of unpadded and padded and of
# both memory layouts, rounded up: 1811, 993, 1876 and 6442. float64 takes more than twice float32's, and float16 more
# than bfloat16's, because convolutions without a native kernel unfold or convert their input. About 90 MB of a pass do
# not grow with the tile, which limits of some hundred MB notice. `python -m benchmarks.memory --tables pixels`
BYTES_PER_PIXEL = {torch.float32: 1856, torch.bfloat16: 1024, torch.float16: 1920, torch.float64: 6656}

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h


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
    """Bytes that are free on a device now, with what torch keeps of freed memory; of anything but a GPU, in RAM."""
    if device.type != "cuda":
        return psutil.virtual_memory().available
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


class KeepFreedMemory:
    """Keep the memory that one step of a training, or one tile, frees for the next one, until the run ends.

    The GNU C library gives large blocks back to the system as they are freed, and gets them anew, page by page, a
    moment later: a fifth of the time of a step or a tile on a CPU. Elsewhere (macOS, Windows, musl) this does nothing.
    """

    def attach(self, engine: Engine) -> None:
        """Follow a trainer or an evaluator."""
        engine.add_event_handler(Events.STARTED, lambda _: keep_freed_memory(True))
        engine.add_event_handler(Events.COMPLETED, lambda _: keep_freed_memory(False))


def keep_freed_memory(keep: bool) -> bool:
    """Tell the GNU C library whether this process keeps freed memory or gives it back to the system.

    Args:
        keep: False: give back what is free now, too.

    Returns:
        whether it did; False where the library is another.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    blocks_of_their_own, kept_bytes = (0, 2**31 - 1) if keep else (65536, 2**17)  # the latter are its defaults
    done = library.mallopt(_M_MMAP_MAX, blocks_of_their_own) and library.mallopt(_M_TRIM_THRESHOLD, kept_bytes)
    if not keep:
        library.malloc_trim(0)
    return bool(done)
