"""Explain the failure of a workflow in one message, in place of MONAI's long chain of traces."""

from __future__ import annotations

import re
import traceback
from typing import Any

import torch

from .errors import did_you_mean
from .overrides import close_ids, known_ids

WRAPPERS = (  # MONAI's own messages around the cause: instantiate(), ConfigExpression.evaluate(), apply_transform()
    "Failed to instantiate component",
    "Failed to evaluate",
    "applying transform",
)
PLAIN = (ValueError, RuntimeError, OSError)  # their messages need no name of the exception
MISSING = (  # MONAI's two messages for an unknown id
    re.compile(r"the referring item `@([\w:]+)` is not defined in the config content"),
    re.compile(r"id='([\w:]+)' is not found in the config resolver"),
)


def explain(error: BaseException, config: dict[str, Any] | None = None) -> str:
    """Name the cause of a failed workflow and the config key of the failure.

    Args:
        error: raised by the workflow.
        config: the merged config, for similar ids after a reference to an unknown id.

    Returns:
        one message, usually one line: "in 'train#dataset': no images in ...".

    Example:
        >>> wrapped = RuntimeError("Failed to evaluate '$1 / 0'")
        >>> wrapped.__cause__ = ZeroDivisionError("division by zero")
        >>> explain(wrapped)
        'ZeroDivisionError: division by zero'
    """
    cause = _cause(error)
    message = _worker_message(str(cause)) or _message(cause)
    if isinstance(cause, torch.OutOfMemoryError):
        message = _out_of_memory(cause, config or {})
    for pattern in MISSING:
        found = pattern.search(str(cause))
        if found and config is not None:
            id = found.group(1).replace("::", "#")
            near = close_ids(id, known_ids(config))[:1]
            message = f"reference to unknown key '@{id}'{did_you_mean('@' + name for name in near)}"
    key = _failing_id(error)
    return f"in '{key}': {message}" if key else message


def _cause(error: BaseException) -> BaseException:
    """Unwrap MONAI's messages only: other errors raised `from` an error have the better message."""
    while error.__cause__ is not None and str(error).startswith(WRAPPERS):
        error = error.__cause__
    return error


def _failing_id(error: BaseException) -> str | None:
    """Find the config id, nested by "#", that MONAI was resolving, the innermost of several; None outside of MONAI."""
    ids = [
        frame.f_locals.get("id")
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_name == "_resolve_one_item"
    ]
    return str(ids[-1]).replace("::", "#") if ids and ids[-1] else None


def _message(error: BaseException) -> str:
    """Return an exception's message, with the exception's name where the message says little (KeyError: 'image')."""
    text = str(error).strip()
    if isinstance(error, PLAIN) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _out_of_memory(error: torch.OutOfMemoryError, config: dict[str, Any]) -> str:
    """Name the settings that decide on a GPU's memory, with their values in the config."""
    asked = re.search(r"Tried to allocate ([\d.]+ \w+)", str(error))
    what = "the GPU ran out of memory" + (f" (asked for {asked[1]})" if asked else "")
    lower = [f"{key} ({config[key]})" for key in ("batch_size", "input_size") if key in config]
    return f"{what}; lower {' or '.join(lower or ['memory_limit'])}, or close other programs that use the GPU"


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
