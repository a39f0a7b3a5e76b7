"""Explain a failed workflow in one message, in place of MONAI's long chain of traces.

`python -m monai.bundle run` prints the message at its end (`explain_failures`, the first step of every `run`). The
project's own commands print the same text. The module imports nothing of this package, so that both can load it alone.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from difflib import get_close_matches
from types import TracebackType
from typing import Any

import torch

WRAPPERS = (  # MONAI's own messages around the cause: instantiate(), ConfigExpression.evaluate(), apply_transform()
    "Failed to instantiate component",
    "Failed to evaluate",
    "applying transform",
)
PLAIN = (ValueError, RuntimeError, OSError, ImportError)  # their messages need no name of the exception
MISSING = (  # MONAI's two messages for an unknown id
    re.compile(r"the referring item `@([\w:]+)` is not defined in the config content"),
    re.compile(r"id='([\w:]+)' is not found in the config resolver"),
)
STEP = re.compile(r"(initialize|run|finalize)(#\d+)?")  # keys that say nothing about the failing part
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")  # in names of files; a terminal would obey
CPU_INSTEAD = "Set device to cpu, or install the driver and a torch build for this GPU"
WORKERS = "Set num_workers to 0, or give the container or machine more: docker run --shm-size 8g"
DISK = "Free some space, or write to another disk (output_dir, model_dir)"
CAUSE_NAMED = 5.0  # seconds
OTHER_FAILED = "another process of this run ended. Its message names the cause"
REMEDIES = (  # texts of libraries -> what was found, what to do. {0}: the groups of the pattern
    (r"unable to (?:open|allocate|resize|mmap) .*(?:shared memory|shm)|shm_open", f"/dev/shm is too small. {WORKERS}"),
    (r"DataLoader worker .*Bus error|out of shared memory", f"/dev/shm is too small. {WORKERS}"),
    (
        r"DataLoader worker \(pid\(?s?\)? [\d, ]+\) (?:exited unexpectedly|is killed)",
        "a process that prepares tiles was killed, usually for lack of memory. Lower num_workers (0: no processes), "
        "batch_size or input_size",
    ),
    (
        r"received 0 items of ancdata|Too many open files",
        "too many open files. Set num_workers to 0, or: ulimit -n 4096",
    ),
    (r"No space left on device(.*)", f"the disk is full{{0}}. {DISK}"),
    (r"Disk quota exceeded(.*)", f"the disk quota is used up{{0}}. {DISK}"),
    (r"PytorchStreamWriter failed|file write failed", f"a file could not be written, the disk may be full. {DISK}"),
    (r"Read-only file system(.*)", "the file system is read-only{0}. Write to another folder (output_dir, model_dir)"),
    (r"DefaultCPUAllocator: .*allocate (\d+) bytes", "out of memory (asked for {0} bytes). {lower}"),
    (r"DefaultCPUAllocator: (?:can't allocate|not enough) memory", "out of memory. {lower}"),
    (r"Torch not compiled with CUDA enabled", f"this torch has no support for CUDA. {CPU_INSTEAD}"),
    (
        r"Found no NVIDIA driver|No CUDA GPUs are available|no CUDA-capable device",
        f"no CUDA GPU is found. {CPU_INSTEAD}",
    ),
    (r"NVIDIA driver on your system is too old", f"the NVIDIA driver is too old for this torch. {CPU_INSTEAD}"),
    (r"invalid device ordinal", "this machine has fewer GPUs than the number in device. Set device to cuda:0 or cpu"),
    (r"no kernel image is available", f"this torch has no code for this GPU. {CPU_INSTEAD}"),
    (
        r"(?:Invalid device string: '(.*)'|type at start of device string: (.*))",
        "device is {0}, expected cpu, cuda or cuda:0",
    ),
    (r"Address already in use|EADDRINUSE", "the port is in use by another run. Add --standalone to torchrun"),
    (r"Connection (?:closed|reset) by peer|\[gloo|remote process has exited|NCCL error", OTHER_FAILED),
)
LIBRARIES = ("builtins", "torch", "multiprocessing")  # modules of exceptions with such texts
PACKAGES = {"skimage": "scikit-image", "cv2": "opencv-python", "PIL": "pillow", "yaml": "pyyaml"}  # name in pip
LOWERED = ("batch_size", "input_size", "memory_limit")  # settings that decide on memory


def explain(error: BaseException) -> str:
    """Name the cause of a failed workflow, the key of the configuration and the remedy.

    Args:
        error: raised by the workflow.

    Returns:
        one message, usually one line: "in 'train#dataset': no images in ...".

    Example:
        >>> from scripts.failures import explain
        >>> wrapped = RuntimeError("Failed to evaluate '$1 / 0'")
        >>> wrapped.__cause__ = ZeroDivisionError("division by zero")
        >>> explain(wrapped)
        'ZeroDivisionError: division by zero'
    """
    cause = cause_of(error)
    config = _settings_around(error)
    message = _message(cause, config)
    for pattern in MISSING:
        found = pattern.search(str(cause))
        if found:
            message = _unknown_key(found[1].replace("::", "#"), config)
    key = _failing_key(error)
    return f"in '{key}': {message}" if key and not STEP.fullmatch(key) else message


def cause_of(error: BaseException) -> BaseException:
    """Unwrap MONAI's messages only: other errors raised `from` an error have the better message.

    Example:
        >>> from scripts.failures import cause_of
        >>> cause_of(KeyError("a"))
        KeyError('a')
    """
    while error.__cause__ is not None and str(error).startswith(WRAPPERS):
        error = error.__cause__
    return error


def explain_failures() -> None:
    """End this Python process, if a workflow fails, with one message on standard error instead of the trace.

    The first step of every `run` in the configurations. Errors of threads, such as TensorBoard's on a full disk, are
    one message, too. With the environment variable MONAI_DEBUG=1, traces are shown as always.

    Example:
        >>> import sys, threading
        >>> from scripts.failures import explain_failures
        >>> before = sys.excepthook, threading.excepthook
        >>> explain_failures()
        >>> sys.excepthook, threading.excepthook = before
    """
    if os.environ.get("MONAI_DEBUG", "0") in ("", "0"):
        sys.excepthook = _print_message
        threading.excepthook = lambda args: _print_message(args.exc_type, args.exc_value or args.exc_type(), None)


def first_to_fail(error: BaseException | None = None) -> bool:
    """Tell whether this process was the first to fail. Errors of other processes of the run follow from the first.

    Args:
        error: of this process. A lost connection to another process waits 5 s for that process, or for
            `scripts.handlers.WatchRanks`, to name the cause.

    Returns:
        True for the first process that asks, for a single process, and if the others cannot be asked.

    Example:
        >>> from scripts.failures import first_to_fail
        >>> first_to_fail()
        True
    """
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return True
    if error is not None and _message(cause_of(error), {}) == OTHER_FAILED:
        time.sleep(CAUSE_NAMED)
    try:
        return int(distributed.distributed_c10d._get_default_store().add("original_unet_failures", 1)) == 1
    except RuntimeError:  # the process that holds the counter has ended
        return True


def _print_message(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
    """Print the message of an error that ends the process, as `sys.excepthook`."""
    if not first_to_fail(error):
        return
    if issubclass(kind, KeyboardInterrupt):
        print("error: interrupted", file=sys.stderr)
    else:
        message = CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), explain(error))
        print(f"error: {message}\n(MONAI_DEBUG=1 shows where it arose)", file=sys.stderr)


def _message(error: BaseException, config: Mapping[str, Any]) -> str:
    """Return the text of an exception, with a remedy for known texts of libraries."""
    if isinstance(error, torch.OutOfMemoryError):
        asked = re.search(r"Tried to allocate ([\d.]+ \w+)", str(error))
        what = "the GPU ran out of memory" + (f" (asked for {asked[1]})" if asked else "")
        return f"{what}. {_lower(config)}, or close other programs that use the GPU"
    if isinstance(error, MemoryError):
        return f"out of memory{f' ({error})' if str(error) else ''}. {_lower(config)}"
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        return f"the package {package} is not installed. Install it with: pip install {PACKAGES.get(package, package)}"
    text = str(error).strip()
    of_library = type(error).__module__.partition(".")[0] in LIBRARIES and not isinstance(error, ValueError)
    for pattern, remedy in REMEDIES if of_library else ():  # this project's own messages stay as they are
        found = re.search(pattern, text)
        if found:
            groups = [group for group in found.groups() if group] or [""]
            return remedy.format(*groups, lower=_lower(config))
    worker = _worker_message(text)
    if worker is not None:
        return worker
    if isinstance(error, PLAIN) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _lower(config: Mapping[str, Any]) -> str:
    """Name the settings that decide on memory, with their values in the configuration."""
    known = [f"{key} ({config[key]})" for key in LOWERED if key in config]
    return f"Lower {' or '.join(known or ['memory_limit'])}"


def _worker_message(text: str) -> str | None:
    """Find the cause in the trace that a worker process of torch's DataLoader passes on as text."""
    if not text.startswith("Caught ") or "Original Traceback" not in text:
        return None
    blocks = re.split(r"\n\nThe above exception was the direct cause|\n\nDuring handling of the above", text)
    for block in reversed(blocks):  # the outermost error is last
        lines = block.splitlines()
        last_frame = max((i for i, line in enumerate(lines) if line.startswith("  ")), default=-1)
        message = "\n".join(lines[last_frame + 1 :]).strip()
        message = re.sub(r"^(ValueError|RuntimeError|OSError|FileNotFoundError): ", "", message)
        if message and not message.startswith(WRAPPERS):
            return message
    return None


def _resolving(error: BaseException) -> list[Mapping[str, Any]]:
    """List the variables of MONAI's calls that were resolving the configuration, the innermost last."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return [frame.f_locals for frame in frames if frame.f_code.co_name == "_resolve_one_item"]


def _failing_key(error: BaseException) -> str | None:
    """Find the key, nested by "#", that MONAI was resolving, the innermost of several. None: outside of MONAI."""
    keys = [variables.get("id") for variables in _resolving(error)]
    return str(keys[-1]).replace("::", "#") if keys and keys[-1] else None


def _settings_around(error: BaseException) -> dict[str, Any]:
    """Read keys, nested by "#", and values of the configuration that MONAI was resolving. Empty outside of MONAI."""
    resolvers = [variables["self"] for variables in _resolving(error) if "self" in variables]
    items = getattr(resolvers[-1], "items", {}) if resolvers else {}
    return {str(id).replace("::", "#"): item.get_config() for id, item in items.items() if id}


def _unknown_key(key: str, config: Mapping[str, Any]) -> str:
    """Explain a reference to a missing key, with the nearest key."""
    names = [name for name in config if not any(part.isdigit() for part in name.split("#"))]
    near = get_close_matches(key, names, n=1, cutoff=0.7)
    return f"reference to unknown key '@{key}'" + (f"; did you mean '@{near[0]}'?" if near else "")
