"""Say in one message what stopped a workflow, in place of the long chain of traces that MONAI wraps around it."""

from __future__ import annotations

import re
import traceback
from typing import Any

import torch

from bundle.running.overrides import close_ids, known_ids

WRAPPERS = (  # MONAI's own words around the cause: instantiate(), ConfigExpression.evaluate(), apply_transform()
    "Failed to instantiate component",
    "Failed to evaluate",
    "applying transform",
)
PLAIN = (ValueError, RuntimeError, OSError)  # their messages speak for themselves; others are shown with their kind
MISSING = (  # the two ways MONAI says that an id does not exist
    re.compile(r"the referring item `@([\w:]+)` is not defined in the config content"),
    re.compile(r"id='([\w:]+)' is not found in the config resolver"),
)


def explain(error: BaseException, config: dict[str, Any] | None = None) -> str:
    """The cause of a failed workflow and the config key that it arose in.

    Args:
        error: what the workflow raised.
        config: the merged config, for the nearest known ids after a reference to an unknown one.

    Returns:
        one message, as a rule one line: "in 'train#dataset': no images in ...".
    """
    cause = root_cause(error)
    message = _worker_message(str(cause)) or _message(cause)
    if isinstance(cause, torch.OutOfMemoryError):
        message = _out_of_memory(cause, config or {})
    for pattern in MISSING:
        found = pattern.search(str(cause))
        if found and config is not None:
            id = found.group(1).replace("::", "#")
            near = close_ids(id, known_ids(config))
            message = f"reference to unknown key '@{id}'" + (f"; did you mean '@{near[0]}'?" if near else "")
    key = failing_id(error)
    return f"in '{key}': {message}" if key else message


def root_cause(error: BaseException) -> BaseException:
    """Look through MONAI's wrappers and no further: what anyone else raised `from` another error says it better.

    Args:
        error: the exception caught.

    Returns:
        the first exception of its chain that is not a wrapper.
    """
    while error.__cause__ is not None and str(error).startswith(WRAPPERS):
        error = error.__cause__
    return error


def failing_id(error: BaseException) -> str | None:
    """The config id that MONAI was resolving when the error arose; None outside of that.

    Args:
        error: the exception caught, with its trace.

    Returns:
        id nested by "#"; the innermost, since each id is resolved inside the one that refers to it.
    """
    ids = [
        frame.f_locals.get("id")
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_name == "_resolve_one_item"
    ]
    return str(ids[-1]).replace("::", "#") if ids and ids[-1] else None


def _message(error: BaseException) -> str:
    """Message of an exception; its kind before it where the message alone says little (KeyError: 'image')."""
    text = str(error).strip()
    if isinstance(error, PLAIN) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _out_of_memory(error: torch.OutOfMemoryError, config: dict[str, Any]) -> str:
    """Name the settings that a GPU's memory depends on, with their values where the config has them."""
    asked = re.search(r"Tried to allocate ([\d.]+ \w+)", str(error))
    what = "the GPU ran out of memory" + (f" (asked for {asked[1]})" if asked else "")
    lower = [f"{key} ({config[key]})" for key in ("batch_size", "input_size") if key in config]
    return f"{what}; lower {' or '.join(lower or ['memory_limit'])}, or close other programs that use the GPU"


def _worker_message(text: str) -> str | None:
    """The cause, as `root_cause` finds it, in the trace that a worker of torch's DataLoader passes on as text."""
    if not text.startswith("Caught ") or "Original Traceback" not in text:
        return None
    blocks = re.split(r"\n\nThe above exception was the direct cause|\n\nDuring handling of the above", text)
    for block in reversed(blocks):  # the outermost error comes last
        lines = block.splitlines()
        last_frame = max((i for i, line in enumerate(lines) if line.startswith("  ")), default=-1)
        message = "\n".join(lines[last_frame + 1 :]).strip()
        message = re.sub(r"^(ValueError|RuntimeError|OSError|FileNotFoundError): ", "", message)
        if message and not message.startswith(WRAPPERS):
            return message
    return None
