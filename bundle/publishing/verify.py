"""`python -m bundle verify`: check the bundle before it is published."""

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


def verify(schema: str | None = None, zoo: bool = False) -> None:
    """Check that the bundle is whole and agrees with itself.

    Prints one line for each rule. A broken rule prints every error: the file, what is wrong, and what to do. The exit
    code is 1 if a rule is broken. `make check` runs this command, too.

    Args:
        schema: local copy of the schema that metadata.json names. Default: download the schema.
        zoo: also check the model zoo's limits: weights or a link to weights, and no file above 25 MiB.
    """
    if schema is not None and not Path(str(schema)).is_file():
        raise UsageError(f"--schema {schema} does not exist, expected a JSON file; leave it out to download the schema")
    bundle = Bundle(ROOT, Path(str(schema)) if schema else None, zoo)
    broken = 0
    for rule in tracked(RULES, "verifying", error=True):
        found = check(rule, bundle)
        broken += isinstance(found, list) and bool(found)
        print(_line(rule, found))
    if broken:
        raise RunError(f"{broken} of {len(RULES)} rules do not hold")
    print(f"{len(RULES)} rules, none broken")


def check(rule: Rule, bundle: Bundle) -> list[Finding] | str:
    """Apply one rule.

    Returns:
        The errors, none if the rule holds. Or a text: why the rule cannot be checked here.

    Example:
        >>> from bundle.publishing.rules.files import licence
        >>> check(licence, Bundle(ROOT))
        []
    """
    try:
        with _quiet():
            return list(rule.find(bundle))
    except NotChecked as reason:
        return str(reason)
    except Exception as error:  # a broken file can make a rule fail anywhere
        broken = f"cannot be checked: {type(error).__name__}: {' '.join(str(error).split())}"
        return [Finding(broken, "the files that it reads", "correct the errors of the other rules first")]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence MONAI: progress, notes on plugins, and the warning that a configuration can run code."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _line(rule: Rule, found: list[Finding] | str) -> str:
    """Format a rule and its outcome, with the errors below."""
    if isinstance(found, str):
        return f"{rule.name:<20}not checked: {found}"
    if not found:
        return f"{rule.name:<20}{rule.checks}"
    lines = [f"{rule.name:<20}BROKEN"]
    for finding in found:
        lines += [f"  {finding.where}: {finding.what}", f"      {finding.mend}"]
    return "\n".join(lines)
