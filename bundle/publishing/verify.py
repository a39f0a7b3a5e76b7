"""`python -m bundle verify`: check the bundle before publishing."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from bundle.publishing.rules import RULES
from bundle.publishing.rules.basis import Bundle, Finding, NotChecked
from bundle.running.errors import RunError, UsageError
from bundle.running.run import ROOT
from bundle.running.terminal import tracked

Rule = Callable[[Bundle], Iterator[Finding]]


def verify(schema: str | None = None, zoo: bool = False) -> None:
    """Check that the bundle is whole and agrees with itself.

    Prints a line for each rule. Below a broken rule, each error is listed with file, cause and remedy. The exit code is
    1 if a rule is broken. `make check` runs this command, too.

    Args:
        schema: local copy of the metadata's schema. Default: download from the address in metadata.json.
        zoo: also check the model zoo's limits: weights or a link to weights, and no file above 25 MiB.
    """
    if schema is not None and not Path(str(schema)).is_file():
        raise UsageError(f"--schema {schema} does not exist, expected a JSON file; leave it out to download the schema")
    bundle = Bundle(ROOT, Path(str(schema)) if schema else None, zoo)
    broken = unchecked = 0
    for name, rule in tracked(list(RULES.items()), "verifying"):
        found = check(rule, bundle)
        broken += isinstance(found, list) and bool(found)
        unchecked += isinstance(found, str)
        print(f"{name:<20}{_outcome(rule, found)}")
    if broken:
        raise RunError(f"{broken} of {len(RULES)} rules do not hold")
    print(f"{len(RULES)} rules: {len(RULES) - unchecked} hold, {unchecked} not checked")


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
            return list(rule(bundle))
    except NotChecked as reason:
        return str(reason)
    except Exception as error:  # a broken file can make a rule fail anywhere
        broken = f"cannot be checked: {type(error).__name__}: {' '.join(str(error).split())}"
        return [Finding(broken, "the files that it reads", "correct the errors of the other rules first")]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence MONAI: progress, notes on plugins, and warnings about code in configurations."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _outcome(rule: Rule, found: list[Finding] | str) -> str:
    """Describe the outcome of a rule, with errors on separate lines."""
    if isinstance(found, str):
        return f"not checked: {found}"
    if not found:
        return (rule.__doc__ or "").splitlines()[0]
    return "BROKEN" + "".join(f"\n  {one.where}: {one.what}\n      {one.mend}" for one in found)
