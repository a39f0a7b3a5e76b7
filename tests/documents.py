"""Read documents in Markdown: commands, and anchors of headings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import NamedTuple

PROGRAMS = ("python", "pip", "original-unet", "make", "torchrun", "tensorboard", "mlflow", "curl")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
INDENTED = re.compile(r"(?:(?<=\n\n)|\A)(?:^    .*\n(?:\n+(?=    ))?)+", re.M)
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


class Command(NamedTuple):
    """A command as printed, in a single line; and the line printed below, if the command is shown with its output."""

    line: str
    below: str | None = None

    @property
    def words(self) -> list[str]:
        """The words after a shell has removed quotes and comments."""
        return shlex.split(re.sub(r"\s+# .*", "", self.line))  # `comments=True` would cut --network_def#features


def commands(markdown: str) -> Iterator[Command]:
    """Find the commands in blocks of code and in `code` within text.

    Example:
        >>> [command.words for command in commands("run `make demo`\\n\\n    pip install torch\\n")]
        [['pip', 'install', 'torch'], ['make', 'demo']]
    """
    text = FENCE.sub("", markdown)
    for block in INDENTED.findall(text):
        yield from _of_block(re.sub(r" *\\\n *", " ", block))
    for code in INLINE.findall(INDENTED.sub("", text)):
        if " " in code and code.split()[0] in PROGRAMS:
            yield Command(code)


def _of_block(block: str) -> Iterator[Command]:
    lines = [line[4:] for line in block.splitlines() if line.strip()]
    session = any(line.startswith("$ ") for line in lines)
    for line, below in zip(lines, [*lines[1:], None], strict=True):
        if line.startswith("$ "):
            yield Command(line.removeprefix("$ "), below)
        elif not session and line.split()[0] in PROGRAMS:
            yield Command(line)


def anchors(markdown: str) -> set[str]:
    """The anchors of a document's headings, as repository hosts make them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", markdown), re.M)
    return {re.sub(r"[^\w -]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}
