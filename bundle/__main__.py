"""`python -m bundle COMMAND`: the bundle's own tools, the twin of `python -m monai.bundle`.

Only the chosen command's module is imported, so that the list and a misspelt name answer at once.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

from bundle.errors import RunError, UsageError
from bundle.terminal import show

COMMANDS = {  # name: what the list says; each is a function of that name in the module that `module_of` gives
    "sample": "Make a synthetic electron microscopy data set; no download.",
    "fetch": "Download a public data set and verify every file that has a checksum.",
    "run": "Run a workflow like monai.bundle, but refuse unknown keys.",
    "verify": "Check that the bundle is whole and agrees with itself.",
    "pack": "Write the zip file to publish, in the model zoo's layout.",
    "reproduce": "Train, measure and write down one of the paper's three experiments.",
    "export": "Write the trained network as ONNX, TorchScript, pt2 or TensorRT.",
    "label": "Serve the bundle with MONAI Label, for annotation programs.",
    "bench": "Measure speeds as ratios; write JSON and a Markdown table.",
    "report": "Write and show the table of results, paper and board beside ours.",
}
PACKAGES = {  # name: package of its module; the others lie beside this file
    "sample": "datasets",
    "fetch": "datasets",
    "run": "running",
    "verify": "publishing",
    "pack": "publishing",
    "reproduce": "experiments",
    "export": "publishing",
    "label": "labelling",
    "report": "experiments",
}
PROGRAM = "python -m bundle"
HELP_WORDS = ("-h", "--help", "help")


def module_of(name: str) -> str:
    """The module that holds a command as a function of the same name."""
    return f"bundle.{PACKAGES[name]}.{name}" if name in PACKAGES else f"bundle.{name}"


def main(argv: Sequence[str]) -> int:
    """Run one command.

    Args:
        argv: the words after `python -m bundle`.

    Returns:
        exit code: 0 done, 1 tried and failed, 2 not understood, 130 interrupted.
    """
    if not argv or argv[0] in HELP_WORDS:
        _list_commands()
        return 0
    name, words = argv[0], list(argv[1:])
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        _complain(f"unknown command '{name}'{hint}")
        _list_commands(error=True)
        return 2
    try:
        call = _understand(name, words)
        if call is not None:
            call()
    except UsageError as error:
        _complain(str(error))
        return 2
    except (RunError, OSError) as error:
        _complain(str(error))
        return 1
    except KeyboardInterrupt:
        _complain("interrupted")
        return 130
    except SystemExit as stop:  # how fire ends after help (0) and after words it cannot use (2)
        if stop.code:
            print(f"its arguments: {PROGRAM} {name} --help", file=sys.stderr)
        return int(stop.code or 0)
    return 0


def _understand(name: str, words: list[str]) -> Callable[[], Any] | None:
    """Turn words into a call that has not happened yet, so that no work starts before all words are understood.

    Args:
        name: one of `COMMANDS`.
        words: what follows it.

    Returns:
        the call, or None if help was asked for.

    Raises:
        RunError: fire is not installed.
        SystemExit: by fire, after it has shown help or what it cannot use.
    """
    try:
        import fire  # here: the list of commands need not wait for it
    except ModuleNotFoundError as error:
        raise RunError(f"{PROGRAM} {name} needs the package fire: pip install fire") from error

    command = getattr(importlib.import_module(module_of(name)), name)
    calls: list[Callable[[], Any]] = []

    @functools.wraps(command)  # fire reads the arguments and the help from the command itself
    def remember(*args: Any, **kwargs: Any) -> None:
        calls.append(functools.partial(command, *args, **kwargs))

    if any(word in ("-h", "--help") for word in words):  # a command that takes any --key would take --help for one
        words = ["--", "--help"]
    fire.Fire(remember, command=words, name=name)
    return calls[0] if calls else None


def _list_commands(error: bool = False) -> None:
    """Print each command with its line; to standard error after a mistake."""
    show(f"usage: {PROGRAM} COMMAND ...\n", error=error)
    for name, line in COMMANDS.items():
        show(line, heading=f"  {name:<11}", error=error)
    show(f"\nthe arguments of a command: {PROGRAM} COMMAND --help", error=error)


def _complain(message: str) -> None:
    """Print one message to standard error."""
    print(f"error: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
