"""`python -m bundle verify`: what must hold before the bundle is published."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from bundle.errors import RunError, UsageError
from bundle.publishing.rules import RULES
from bundle.publishing.rules.basis import Bundle, Finding, NotChecked, Rule
from bundle.running.run import ROOT
from bundle.terminal import tracked

NOT_CHECKED = "not checked"


def verify(schema: str | None = None, zoo: bool = False) -> None:
    """Check that the bundle is whole and agrees with itself.

    Prints a line for every rule, and what was found, where, and how to mend it. `make check` runs it.

    Args:
        schema: a local copy of the schema that metadata.json names; by default its address is asked.
        zoo: hold the model zoo's own limits, too: weights or a link to them, no file above 25 MiB.
    """
    if schema is not None and not Path(str(schema)).is_file():
        raise UsageError(f"--schema {schema} does not exist, expected a JSON file; leave it out to ask its address")
    bundle = Bundle(ROOT, Path(str(schema)) if schema else None, zoo)
    broken = 0
    for rule in tracked(RULES, "verifying"):
        found = check(rule, bundle)
        broken += isinstance(found, list) and bool(found)
        print(_line(rule, found))
    if broken:
        raise RunError(f"{broken} of {len(RULES)} rules do not hold")
    print(f"{len(RULES)} rules, none broken")


def check(rule: Rule, bundle: Bundle) -> list[Finding] | str:
    """Apply one rule.

    Returns:
        what it found, nothing if it holds; or the reason why it could not be checked.
    """
    try:
        with _quiet():
            return list(rule.find(bundle))
    except NotChecked as reason:
        return str(reason)
    except Exception as error:  # whatever a broken bundle makes a rule stumble over is one more thing to tell
        broken = f"cannot be checked: {type(error).__name__}: {' '.join(str(error).split())}"
        return [Finding(broken, "the files that it reads", "mend what other rules find first")]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what MONAI says on the way: progress, notes on plugins, that a config is a program (these are ours)."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _line(rule: Rule, found: list[Finding] | str) -> str:
    """A rule and its outcome; findings below it."""
    if isinstance(found, str):
        return f"{rule.name:<20}{NOT_CHECKED}: {found}"
    if not found:
        return f"{rule.name:<20}{rule.checks}"
    lines = [f"{rule.name:<20}BROKEN"]
    for finding in found:
        lines += [f"  {finding.where}: {finding.what}", f"      {finding.mend}"]
    return "\n".join(lines)
