"""A handler that other parts of a configuration refer to."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine


class Attached:
    """Attach a handler that stands under a name of its own, so that other parts of a configuration can refer to it.

    MONAI looks at the list of handlers entry by entry, and wants a mapping for each.

    Args:
        handler: has a method `attach`.
    """

    def __init__(self, handler: Any) -> None:
        self.handler = handler

    def attach(self, engine: Engine) -> None:
        """Attach the handler to an engine."""
        self.handler.attach(engine)
