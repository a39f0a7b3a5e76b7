"""Estimate the memory of a forward pass, read the free memory, and keep freed memory between training steps."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable

import torch
from ignite.engine import Engine, Events

from ..io.memory import available_memory

# Bytes per input pixel at the peak of a forward pass without gradients, for a network with 64 features in the top
# level. Measured on a CPU as growth of the peak resident size, with tiles of 1004 pixels; the larger of unpadded and
# padded and of both memory layouts, rounded up: 1811, 993, 1876 and 6442. Convolutions without a native kernel unfold
# or convert their input: float64 takes more than twice as much as float32, and float16 more than bfloat16. A pass
# takes another 90 MB at any tile size. This matters for limits of a few hundred MB.
# The table `pixels` of benchmarks.memory, a module of the project's repository, measures the values again.
BYTES_PER_PIXEL = {torch.float32: 1856, torch.bfloat16: 1024, torch.float16: 1920, torch.float64: 6656}

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h


def bytes_per_pixel(network: Callable, dtype: torch.dtype) -> int:
    """Estimate the peak memory of a forward pass per input pixel, in proportion to the features of the top level.

    Args:
        network: a module; its first convolution has the features of the top level. For plain functions: 64, as in
            the paper.
        dtype: type of the computation; unknown types count as float32.

    Example:
        >>> bytes_per_pixel(torch.nn.Conv2d(1, 32, 3), torch.float32)
        928
    """
    weights = network.parameters() if isinstance(network, torch.nn.Module) else ()
    width = next((weight.shape[0] for weight in weights if weight.ndim > 2), 64)
    return max(1, BYTES_PER_PIXEL.get(dtype, BYTES_PER_PIXEL[torch.float32]) * width // 64)


def free_memory(device: torch.device) -> int:
    """Read the free bytes of a GPU, including freed memory kept by torch. Without a GPU: see `available_memory`.

    Example:
        >>> free_memory(torch.device("cpu")) > 0
        True
    """
    if device.type != "cuda":
        return available_memory()
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


class KeepFreedMemory:
    """Reuse memory freed by a training step or a tile for the next, until the run ends.

    The GNU C library returns large freed blocks to the system. Getting the blocks back takes a fifth of the time of a
    step or a tile on a CPU. With other C libraries (macOS, Windows, musl) the handler does nothing.

    Example, in a list of handlers::

        - _target_: scripts.inferers.KeepFreedMemory
    """

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer or an evaluator."""
        engine.add_event_handler(Events.STARTED, lambda _: keep_freed_memory(True))
        engine.add_event_handler(Events.COMPLETED, lambda _: keep_freed_memory(False))


def keep_freed_memory(keep: bool) -> bool:
    """Tell the GNU C library to keep freed memory for the process, or to return it to the system, now and in future.

    Returns:
        Whether the setting was accepted. False without the GNU C library.

    Example:
        >>> keep_freed_memory(True) == keep_freed_memory(False)
        True
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    mmap_max, trim_threshold = (0, 2**31 - 1) if keep else (65536, 2**17)  # the latter are the library's defaults
    done = library.mallopt(_M_MMAP_MAX, mmap_max) and library.mallopt(_M_TRIM_THRESHOLD, trim_threshold)
    if not keep:
        library.malloc_trim(0)
    return bool(done)
