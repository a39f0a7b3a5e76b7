"""Understand a command line and run one of several commands: `original-unet COMMAND`, `python -m bundle COMMAND`.

Only the module of the chosen command is imported. The list of commands and the message after a misspelt name are
immediate. The modules of `running` import one another relatively and nothing else of this project: `pip install` puts
them into the package `original_unet`.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import inspect
import io
import itertools
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, redirect_stderr
from contextvars import ContextVar
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from .errors import RunError, UsageError, did_you_mean
from .terminal import printable, show

TEXT = ("str", "str | None")  # annotations of arguments whose words stay as they are
HELP_WORDS = ("-h", "--help", "help")
CALLED_AS: ContextVar[str] = ContextVar("CALLED_AS", default="original-unet")  # the program's name, for messages
KEYS_OF = {  # command: workflow, for the list of keys
    "train": "train",
    "evaluate": "evaluate",
    "segment": "inference",
    "rank": "inference",
    "preview": "train",
}
WORKFLOWS = {  # name: (module, line in the list). The module has a function of the same name.
    "train": (f"{__package__}.workflows", "Train the network on images with labels."),
    "evaluate": (f"{__package__}.workflows", "Measure weights on images with labels."),
    "segment": (f"{__package__}.workflows", "Segment an image, a stack or a folder of images."),
    "rank": (f"{__package__}.workflows", "Sort images by what is most worth annotating next."),
    "plan": (f"{__package__}.plan", "Look at images and labels, and choose the settings of a training."),
    "doctor": (f"{__package__}.doctor", "Find problems of machine and data before a training, worst first."),
    "report": (f"{__package__}.reports", "Write a page about a training, an evaluation or a segmented folder."),
    "preview": (f"{__package__}.reports", "Write a page about what a training will see."),
    "run": (f"{__package__}.run", "Run a workflow like monai.bundle, but refuse unknown keys."),
}


def command_line(*words: str) -> str:
    """Write a command of the running program, for messages.

    Example:
        >>> command_line("train", "my data")
        'original-unet train "my data"'
    """
    return f"{CALLED_AS.get()} {subprocess.list2cmdline(words)}"


@dataclass(frozen=True)
class Program:
    """A program with several commands.

    Args:
        name: how users call the program, for messages.
        commands: name of a command -> (module, line in the list). The module has a function of the same name.

    Example:
        >>> Program("original-unet", WORKFLOWS)(["segmnt"])
        2
    """

    name: str
    commands: Mapping[str, tuple[str, str]]

    def __call__(self, argv: Sequence[str]) -> int:
        """Run the command in the words after the program's name.

        Returns:
            exit code: 0 done, 1 failed, 2 not understood, 130 interrupted by Ctrl-C, 143 by SIGTERM. Commands that
            return a whole number give their own code.
        """
        if not argv or argv[0] in HELP_WORDS:
            self._list_commands()
            return 0
        token = CALLED_AS.set(self.name)
        try:
            return self._call(argv[0], list(argv[1:]))
        finally:
            CALLED_AS.reset(token)

    def _call(self, name: str, words: list[str]) -> int:
        """Run a command. Returns its exit code."""
        if name not in self.commands:
            _complain(f"unknown command '{name}'{did_you_mean(get_close_matches(name, self.commands, n=1))}")
            self._list_commands(error=True)
            return 2
        try:
            call = self._understand(name, words)
            code = None if call is None else call()
        except UsageError as error:
            _complain(str(error))
            return 2
        except (RunError, OSError) as error:
            _complain(str(error))
            return 1
        except KeyboardInterrupt as stop:  # by Ctrl-C; by SIGTERM with the code 143
            _complain("" if getattr(stop, "told", False) else f"interrupted{getattr(stop, 'remedy', '')}")
            return int(getattr(stop, "code", 130))
        except SystemExit as stop:  # by fire, after help
            if not stop.code and self.commands[name] == WORKFLOWS.get(name) and name in KEYS_OF:
                show(self._module(name).keys_help(KEYS_OF[name]))
            return int(stop.code or 0)
        return code if isinstance(code, int) and not isinstance(code, bool) else 0

    def command(self, name: str) -> Callable[..., Any]:
        """Import the function of a command."""
        return getattr(self._module(name), name)

    def _module(self, name: str) -> Any:
        return importlib.import_module(self.commands[name][0])

    def _declared(self, name: str) -> Callable[..., Any]:
        """Get arguments and help of a command from its source: importing the module may take seconds."""
        spec = importlib.util.find_spec(self.commands[name][0])
        assert spec is not None
        assert spec.origin is not None
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
        (function,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
        function.body = function.body[:1]  # the docstring
        future = ast.parse("from __future__ import annotations").body
        names: dict[str, Any] = {}
        exec(compile(ast.Module([*future, function], []), spec.origin, "exec"), names)
        return names[name]

    def _understand(self, name: str, words: list[str]) -> Callable[[], Any] | None:
        """Turn the words after a command's name into a call for later. No work starts before all words are understood.

        Returns:
            the call; None after help.

        Raises:
            UsageError: an argument is missing, a word is left over; an option is given twice or without its value; a
                switch has a value other than True or False.
            RunError: fire is not installed.
            SystemExit: by fire, after help.
        """
        try:
            import fire  # imported late, since the list of commands needs no fire
        except ModuleNotFoundError as error:
            raise RunError(f"{self.name} {name} needs the package fire: pip install fire") from error

        function = self._declared(name)
        calls: list[functools.partial[Any]] = []

        @functools.wraps(function)  # fire reads the arguments and the help from the function
        def remember(*args: Any, **kwargs: Any) -> None:
            calls.append(functools.partial(function, *args, **kwargs))

        remember.__doc__ = str(function.__doc__).replace("python -m bundle", self.name)
        asked = "-h" in words or "--help" in words
        if asked:  # commands with free keys would accept --help as a key
            words = ["--", "--help"]
        texts = [key for key, value in inspect.signature(function).parameters.items() if value.annotation in TEXT]
        _check_options(words, texts)
        if not asked:  # the help would list what the decorators add as a group of commands
            fire.decorators.SetParseFns(**dict.fromkeys(texts, str))(remember)  # else 1e3 is read as 1000.0
            fire.decorators.SetParseFn(_with_comments)(remember)
        with nullcontext() if asked else redirect_stderr(io.StringIO()):
            try:
                fire.Fire(remember, command=words, name=name)
            except fire.core.FireExit as stop:
                if asked:
                    raise
                problem = _explained(stop.trace.elements[-1].ErrorAsStr(), name, remember)
                raise UsageError(f"{problem}\nits arguments: {self.name} {name} --help") from None
        if not calls:
            return None
        call = calls[0]
        _check_switches(function, call)
        return lambda: self.command(name)(*call.args, **call.keywords)

    def _list_commands(self, error: bool = False) -> None:
        """Print the list of commands; to standard error after a mistake."""
        show(f"usage: {self.name} COMMAND ...\n", error=error)
        for name, (_, line) in self.commands.items():
            show(line, heading=f"  {name:<11}", error=error)
        show(f"\nthe arguments of a command: {self.name} COMMAND --help", error=error)


def _explained(problem: str, name: str, function: Callable[..., Any]) -> str:
    """Explain a problem that fire has with the words of a command."""
    text, _, word = problem.partition(": ")
    if "required argument" in text:
        example = re.search(r"Examples:\s+(.+)", str(function.__doc__))
        return f"{name} needs {word.upper()}{f', for example: {example[1]}' if example else ''}"
    if word.startswith("--"):
        options = [f"--{key}" for key in inspect.signature(function).parameters]
        return f"unknown option '{word}'{did_you_mean(get_close_matches(word.partition('=')[0], options, n=1))}"
    if "consume" in text:
        return f"the word '{word}' is too much. Options begin with --, and names with spaces are written in quotes"
    return problem


def _with_comments(word: str) -> Any:
    """Read a value as fire does, but text with # whole: fire takes `a #1` for `a` and a comment of Python."""
    from fire.parser import DefaultParseValue

    return word if "#" in word and re.match(r"\s*[^\s\[{('\"]", word) else DefaultParseValue(word)


def _check_options(words: Sequence[str], texts: Sequence[str]) -> None:
    """Refuse an option given twice, of which fire would use the last, and an option for text without its value."""
    seen = set()
    for word, following in itertools.pairwise([*words, "--"]):
        name = word.partition("=")[0].removeprefix("--").replace("-", "_")
        if word == "--" or not word.startswith("--"):
            continue
        if name in seen:
            raise UsageError(f"--{name} is given more than once; give it once, several values as a,b")
        seen.add(name)
        if name in texts and "=" not in word and re.match("--|-[a-zA-Z]", following):
            raise UsageError(f"--{name} needs a value")


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


def _complain(message: str) -> None:
    """Print a message on standard error. An empty one: another process of the run has printed the cause."""
    if message:
        print(f"error: {printable(message)}", file=sys.stderr)


def installed(name: str = "original-unet") -> None:
    """Run the program of the installed package.

    Args:
        name: how users call the program, for messages.
    """
    sys.exit(Program(name, WORKFLOWS)(sys.argv[1:]))
