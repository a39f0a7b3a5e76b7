"""What MONAI would refuse to load, and what would tie the bundle to one machine."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

from monai.bundle.workflows import _reject_executable_logging_config

from bundle.publishing.rules.basis import Bundle, Finding, rule
from bundle.publishing.rules.expressions import expressions, strings

LOGGING = "configs/logging.conf"
ABSOLUTE = re.compile(r"/\w|~[/\w]|[A-Za-z]:[\\/]")


@rule("logging")
def logging(bundle: Bundle) -> Iterator[Finding]:
    """logging.conf holds classes of `logging`, literals and sys.stdout alone: MONAI refuses all else."""
    try:
        _reject_executable_logging_config(str(bundle.root / LOGGING))  # MONAI's own judge; it has no public one
    except ValueError as error:
        yield Finding(str(error), LOGGING, "write literals, sys.stdout or sys.stderr")


@rule("paths")
def absolute_paths(bundle: Bundle) -> Iterator[Finding]:
    """No configuration names a place of one machine."""
    contents: dict[str, Any] = {**bundle.workflows, "metadata.json": bundle.metadata}
    for name, config in contents.items():
        plain = [(id, text) for id, text in strings(config) if not text.startswith("$")]
        for id, text in [*plain, *_parts_of_expressions(config)]:
            if ABSOLUTE.match(text):
                yield Finding(
                    f"'{text}' is a place of one machine",
                    f"configs/{name}, {id}",
                    "name it below @bundle_root, or let it be given on the command line",
                )


def _parts_of_expressions(config: Any) -> Iterator[tuple[str, str]]:
    """Texts inside of expressions, but those put behind another: `@bundle_root + '/data'` is no absolute path."""
    for id, tree in expressions(config):
        sums = [node for node in ast.walk(tree) if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add)]
        behind = {node.right for node in sums}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in behind:
                yield id, node.value
