"""Which steps of a long piece of work are done, kept in a file, so that it can go on after any interruption."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from bundle.provenance import MACHINE
from scripts.tables import write_json


class StepRecord:
    """Which steps are done, how long each took and in how many goes; a file, so that a later call knows.

    Args:
        path: JSON file, {step: {"done": bool, "goes": [{"started", "seconds", "versions", "hardware"}]}}.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def has(self, step: str) -> bool:
        """Whether a step is done."""
        return bool(self.content.get(step, {}).get("done"))

    def done(self, step: str) -> None:
        """Note that a step is done."""
        self.content.setdefault(step, {"goes": []})["done"] = True
        write_json(self.path, self.content)

    @contextmanager
    def running(self, step: str) -> Iterator[None]:
        """Time one go at a step, even when it is interrupted; of one that was killed `seconds` stays null."""
        started = datetime.now(timezone.utc).isoformat(timespec="seconds")
        go: dict[str, Any] = {"started": started, "seconds": None, **{key: make() for key, make in MACHINE.items()}}
        self.content.setdefault(step, {"done": False, "goes": []})["goes"].append(go)
        write_json(self.path, self.content)
        begun = time.monotonic()
        try:
            yield
        finally:
            go["seconds"] = round(time.monotonic() - begun)
            write_json(self.path, self.content)
