"""`python -m bundle COMMAND`: the bundle's own tools, beside those of `python -m monai.bundle`.

Only the module of the chosen command is imported. The list of commands and the message after a misspelt name are
immediate.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any

from bundle.errors import RunError, UsageError, did_you_mean
from bundle.terminal import show

COMMANDS = {  # name: (module, line in the list). The module has a function of the same name.
    "sample": ("datasets.sample", "Make a synthetic electron microscopy data set; no download."),
    "fetch": ("datasets.fetch", "Download a public data set and verify every file that has a checksum."),
    "run": ("running.run", "Run a workflow like monai.bundle, but refuse unknown keys."),
    "verify": ("publishing.verify", "Check that the bundle is whole and agrees with itself."),
    "pack": ("publishing.pack", "Write the zip file to publish, in the model zoo's layout."),
    "reproduce": ("experiments.reproduce", "Train and measure one of the paper's three experiments."),
    "export": ("publishing.export", "Write the trained network as ONNX, TorchScript, pt2 or TensorRT."),
    "label": ("labelling.label", "Serve the bundle with MONAI Label, for annotation programs."),
    "bench": ("bench", "Measure speeds as ratios; write JSON and a Markdown table."),
    "report": ("experiments.report", "Write the table of results, beside the paper's and the board's."),
}
PROGRAM = "python -m bundle"
HELP_WORDS = ("-h", "--help", "help")


def command(name: str) -> Callable[..., Any]:
    """Import the function of a command.

    Example:
        >>> command("report").__module__
        'bundle.experiments.report'
    """
    return getattr(importlib.import_module(f"bundle.{COMMANDS[name][0]}"), name)


def main(argv: Sequence[str]) -> int:
    """Run the command in the words after `python -m bundle`.

    Returns:
        exit code: 0 done, 1 failed, 2 not understood, 130 interrupted.

    Example:
        >>> main(["sample", "data", "--size", "64", "--train", "1", "--test", "0"])
        data: 1 images to train with, 0 to test with, 64 x 64 pixels, with instance labels
        next: python -m bundle run training --config_file configs/train.yaml ...
        0
    """
    if not argv or argv[0] in HELP_WORDS:
        _list_commands()
        return 0
    name, words = argv[0], list(argv[1:])
    if name not in COMMANDS:
        _complain(f"unknown command '{name}'{did_you_mean(get_close_matches(name, COMMANDS, n=1))}")
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
    except SystemExit as stop:  # by fire, after help (0) or after unfit words (2)
        if stop.code:
            print(f"its arguments: {PROGRAM} {name} --help", file=sys.stderr)
        return int(stop.code or 0)
    return 0


def _understand(name: str, words: list[str]) -> Callable[[], Any] | None:
    """Turn the words after a command's name into a call for later. No work starts before all words are understood.

    Returns:
        the call; None after help.

    Raises:
        UsageError: a switch has a value other than True or False.
        RunError: fire is not installed.
        SystemExit: by fire, after help or after unfit words.
    """
    try:
        import fire  # imported late, since the list of commands needs no fire
    except ModuleNotFoundError as error:
        raise RunError(f"{PROGRAM} {name} needs the package fire: pip install fire") from error

    function = command(name)
    calls: list[functools.partial[Any]] = []

    @functools.wraps(function)  # fire reads the arguments and the help from the function
    def remember(*args: Any, **kwargs: Any) -> None:
        calls.append(functools.partial(function, *args, **kwargs))

    if "-h" in words or "--help" in words:  # commands with free keys would accept --help as a key
        words = ["--", "--help"]
    fire.Fire(remember, command=words, name=name)
    if not calls:
        return None
    _check_switches(function, calls[0])
    return calls[0]


def _check_switches(function: Callable[..., Any], call: functools.partial[Any]) -> None:
    """Refuse a word after a switch, and an option without its value.

    fire takes the word in `--quick step` as the value of `quick`, and True as the value of a last `--out`.
    """
    signature = inspect.signature(function)
    for name, value in signature.bind(*call.args, **call.keywords).arguments.items():
        parameter = signature.parameters[name]
        if isinstance(parameter.default, bool) and not isinstance(value, bool):
            raise UsageError(f"--{name} takes no value, got {value!r}; put other words before the options")
        if isinstance(value, bool) and "bool" not in str(parameter.annotation):
            raise UsageError(f"--{name} needs a value")


def _list_commands(error: bool = False) -> None:
    """Print the list of commands; to standard error after a mistake."""
    show(f"usage: {PROGRAM} COMMAND ...\n", error=error)
    for name, (_, line) in COMMANDS.items():
        show(line, heading=f"  {name:<11}", error=error)
    show(f"\nthe arguments of a command: {PROGRAM} COMMAND --help", error=error)


def _complain(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
