"""Documents, comments, docstrings and messages in the zip name only commands and files that the zip's user has.

The user has the unpacked zip file and the packages of its `metadata.json`, but not the repository.
"""

from __future__ import annotations

import ast
import io
import json
import re
import shlex
import sys
import tokenize
import zipfile
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from importlib import import_module
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import PurePosixPath

import pytest

from bundle.__main__ import COMMANDS
from bundle.publishing.layout import NAME, source_files
from bundle.publishing.pack import write_package
from tests.bundle.copies import ROOT
from tests.documents import anchors

TRACKED = source_files(ROOT)
FOLDERS = "|".join(sorted({re.escape(name.split("/")[0]) for name in TRACKED if "/" in name}))
ROOT_FILES = "|".join(re.escape(name) for name in TRACKED if "/" not in name)
TARGETS = "|".join(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.M))
PROGRAMS = {"python", "pip", "torchrun", "tensorboard", "mlflow"}  # of packages that anybody can install
NEEDS_CHECKOUT = {"-c", "--constraint", "-r", "--requirement", "-e", "--editable"}  # options of pip with files
MADE_BY_USERS = ("config.yaml", "plan.yaml")  # written with --tracking mlflow, and beside the data


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> Iterator[dict[str, str]]:
    """The texts in the zip file of this checkout, by path in the bundle. Weights have an empty text."""
    path = write_package(ROOT, tmp_path_factory.mktemp("zip"))
    with zipfile.ZipFile(path) as archive:
        names = {name: name.removeprefix(f"{NAME}/") for name in archive.namelist()}
        yield {
            inner: "" if inner.endswith((".pt", ".png")) else archive.read(name).decode()
            for name, inner in names.items()
        }
    path.unlink()  # as large as the weights


def prose_of_python(source: str) -> Iterator[str]:
    """Yield the comments, docstrings and other strings of a module. Values in f-strings become {}."""
    comments = ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            comments += token.string.lstrip("# ") + " "
        elif token.type not in (tokenize.NL, tokenize.NEWLINE):
            yield comments
            comments = ""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def prose_of(name: str, text: str) -> Iterator[str]:
    """Yield the texts of a file with single spaces, so that a command over two lines is whole."""
    parts = prose_of_python(text) if name.endswith(".py") else [re.sub(r"\n *# *", "\n", text)]
    return (" ".join(part.split()) for part in parts)


def is_in(names: set[str], path: str) -> bool:
    """Whether a path or a pattern is a file or folder of the zip."""
    return any(fnmatch(name, path) or name.startswith(f"{path.rstrip('/')}/") for name in names)


@cache
def providers_by_module() -> dict[str, set[str]]:
    """The installed packages with each module."""
    return {module: {name.lower() for name in found} for module, found in packages_distributions().items()}


def runs(module: str, command: str, packages: set[str]) -> bool:
    """Whether `python -m MODULE COMMAND` runs with these packages alone."""
    top = module.partition(".")[0]
    if module == "pip":  # find_spec("pip") would bring back Python's own distutils, with a warning in later tests
        return True
    if top not in sys.stdlib_module_names and not providers_by_module().get(top, set()) & packages:
        return False
    if find_spec(module) is None:
        return False
    return module != "monai.bundle" or not command or hasattr(import_module("monai.bundle.__main__"), command)


def wrong_commands(text: str, names: set[str], packages: set[str]) -> Iterator[str]:
    """Find commands and files in a text that a user of the zip file does not have."""
    for module, command in re.findall(r" -m ([\w.]*\w)(?: ([a-z]\w*))?", text):
        if not runs(module, command, packages):
            yield f"-m {module} {command}"
    for program in re.findall(r"\bpython3? ([\w/]+\.py)", text):
        if program not in names:
            yield f"python {program}"
    yield from re.findall(rf"\bmake (?:{TARGETS})\b", text)
    yield from re.findall(rf"\boriginal-unet (?:{'|'.join(COMMANDS)})\b", text)
    for given in re.findall(r"\bpip install ([^`)]{,80})", text):
        words = [word.strip("\"'") for word in given.split()]
        if NEEDS_CHECKOUT & set(words) or any(word.startswith((".", "original")) for word in words):
            yield f"pip install {given}"
    for path in re.findall(rf"(?<![\w/.-])(?:{FOLDERS})/[\w*./-]*[\w*]", text):
        if not is_in(names, path):
            yield path
    for name in re.findall(r"(?<![\w/.*-])[\w*]+\.yaml\b", text):
        if name not in MADE_BY_USERS and not is_in(names, f"configs/{name}"):
            yield name
    for name in re.findall(rf"(?<![\w/.-])(?:{ROOT_FILES})(?!\w)", text):
        if not is_in(names, name) and not is_in(names, f"*/{name}"):
            yield name


def dead_links(name: str, texts: dict[str, str]) -> Iterator[str]:
    """Find links and images of a Markdown document that lead out of the zip."""
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", texts[name]):
        if target.startswith(("http:", "https:")):
            continue
        path = (PurePosixPath(name).parent / target).as_posix() if target else name
        if path not in texts or (anchor and anchor not in anchors(texts[path])):
            yield f"{target}#{anchor}"


def foreign_lines(markdown: str) -> Iterator[str]:
    """Find lines of code that are neither Python nor begin with a program that anybody can install."""
    for line in re.findall(r"^    (\S.*)$", markdown, re.M):
        if line.split()[0] not in PROGRAMS:
            try:
                ast.parse(line)
            except SyntaxError:
                yield line


def packages_of(metadata: str) -> set[str]:
    """The packages that the bundle requires."""
    content = json.loads(metadata)
    return {"monai", "torch", "numpy", *(name.lower() for name in content["required_packages_version"])}


def test_every_command_and_file_named_in_the_zip_is_there(packed: dict[str, str]) -> None:
    names, packages = set(packed), packages_of(packed["configs/metadata.json"])
    found = {
        f"{name}: {wrong}"
        for name, text in packed.items()
        for part in prose_of(name, text)
        for wrong in wrong_commands(part, names, packages)
    }
    assert sorted(found) == []


def test_links_in_the_zip_s_documents_stay_in_the_zip(packed: dict[str, str]) -> None:
    documents = [name for name in packed if name.endswith(".md")]
    assert documents == ["docs/README.md"]
    assert [link for name in documents for link in dead_links(name, packed)] == []
    assert [line for name in documents for line in foreign_lines(packed[name])] == []


def test_the_card_s_commands_begin_with_those_of_monai(packed: dict[str, str]) -> None:
    section = packed["docs/README.md"].split("## MONAI Bundle Commands")[1].split("\n## ")[0]
    commands = [shlex.split(line) for line in re.findall(r"^    (python .+|torchrun .+)$", section, re.M)]
    assert len(commands) >= 6
    assert all("monai.bundle" in words for words in commands)


def test_the_zip_s_metadata_list_every_package_that_its_code_imports(packed: dict[str, str]) -> None:
    packages, imported = packages_of(packed["configs/metadata.json"]), set()
    for name, text in packed.items():
        if name.endswith(".py"):
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Import):
                    imported |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    imported.add(str(node.module).partition(".")[0])
    optional = {"mlflow", "distributed"}  # only for --tracking mlflow and for --scheduler
    for module in imported - optional - set(sys.stdlib_module_names):
        assert providers_by_module()[module] & packages, module


NAMES = {
    "configs/train.yaml",
    "configs/metadata.json",
    "docs/README.md",
    "scripts/io/png.py",
    "models/model.pt",
    "LICENSE",
}
PACKAGES = {"monai", "torch", "numpy"}


@pytest.mark.parametrize(
    "text",
    [
        "export it with `python -m bundle export`",
        "python -m benchmarks.memory --tables pixels",
        "python -m monai.bundle push_to_hf_hub",
        "torchrun --standalone -m bundle run",
        "python -m original_unet.running",
        "python examples/segment_with_onnxruntime.py",
        "small network (make demo)",
        "original-unet run training",
        "pip install -c constraints.txt torch",
        'pip install ".[onnx]"',
        "see docs/exports.md",
        "models/gone.pt",
        "--config_file configs/gone.yaml",
        "as in variant_gone.yaml",
        "configs/variant_*.yaml",
        "measured by tests/paper",
        "versions of pyproject.toml",
    ],
)
def test_a_command_or_file_of_the_repository_is_found(text: str) -> None:
    assert list(wrong_commands(text, NAMES, PACKAGES)) != []


@pytest.mark.parametrize(
    "text",
    [
        "python -m monai.bundle run training --config_file \"['configs/train.yaml']\" --dataset_dir my/data",
        "python -m monai.bundle download_large_files",
        "torchrun --nproc_per_node=gpu -m monai.bundle run training --config_file configs/train.yaml",
        "python -m pip install openvino, or set onnx_engine to onnxruntime",
        'pip install mlflow "sqlalchemy<2.1"',
        "the weights models/model.pt and the folder scripts/io, see train.yaml and configs/*.yaml",
        "make such a file, make it smaller, by the original-unet developers",
    ],
)
def test_what_a_user_of_the_zip_has_is_accepted(text: str) -> None:
    assert list(wrong_commands(text, NAMES, PACKAGES)) == []


def test_comments_messages_and_commands_over_two_lines_are_read() -> None:
    source = '# a\n# comment\nname = 1\nraise ValueError(f"{name}: run python -m "\n    "bundle export")\n'
    assert {"a comment", "{}: run python -m bundle export"} <= set(prose_of("a.py", source))
    assert list(prose_of("a.yaml", "a: 1  # see\n# there\n")) == ["a: 1 # see there"]


def test_links_out_of_the_zip_and_lines_for_other_shells_are_found() -> None:
    text = "# A heading\n[a](#a-heading) [b](#b) [c](c.md) ![d](images/d.png)\n\n    make demo\n    import sys\n"
    assert list(dead_links("docs/README.md", {"docs/README.md": text})) == ["#b", "c.md#", "images/d.png#"]
    assert list(foreign_lines(text)) == ["make demo"]
