"""The files of the bundle: those that must be there, and how large they may be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from monai.bundle import ConfigParser

from bundle.publishing.layout import (
    LARGE_FILES,
    MEBIBYTE,
    OWN_LIMIT,
    WEIGHTS,
    ZOO_LIMIT,
    source_files,
    travelling_files,
)
from bundle.publishing.rules.basis import STANDALONE, Bundle, Finding, rule

REQUIRED = (
    *("LICENSE", "configs/metadata.json", "configs/logging.conf", *(f"configs/{name}" for name in STANDALONE)),
    *("docs/README.md", "docs/data_license.txt", "scripts/__init__.py"),
)
LINK = ("path", "url", "hash_val", "hash_type")  # what the zoo reads of a large file; the last two are ours to give


@rule("files")
def required_files(bundle: Bundle) -> Iterator[Finding]:
    """What MONAI and the zoo ask for is there; for the zoo the weights, or a link to them, too."""
    for name in REQUIRED:
        if not bundle.has(name):
            yield Finding("missing", name, "add it; MONAI's bundle specification and the model zoo ask for it")
    if bundle.has(LARGE_FILES):
        for entry in _links(bundle):
            missing = [key for key in LINK if not entry.get(key)]
            if missing:
                yield Finding(
                    f"the entry of {entry.get('path', 'a file')} lacks {', '.join(missing)}",
                    LARGE_FILES,
                    "let `python -m bundle pack --large_files URL` write it",
                )
    if bundle.zoo and not bundle.has(WEIGHTS) and WEIGHTS not in {entry.get("path") for entry in _links(bundle)}:
        yield Finding("missing", WEIGHTS, f"train, or name where it can be downloaded in {LARGE_FILES}")


@rule("file sizes")
def file_sizes(bundle: Bundle) -> Iterator[Finding]:
    """No file has more than 95 MiB, in the zoo 25 MiB; larger ones are linked in large_files.yml."""
    linked = {entry.get("path") for entry in _links(bundle)}
    names = travelling_files(bundle.root) if bundle.zoo else source_files(bundle.root)
    limit = ZOO_LIMIT if bundle.zoo else OWN_LIMIT
    if bundle.zoo and bundle.has(WEIGHTS):
        names = [*names, WEIGHTS]
    for name in names:
        size = (bundle.root / name).stat().st_size
        if size > limit and name not in linked:
            yield Finding(
                f"{size / MEBIBYTE:.0f} MiB, allowed are {limit // MEBIBYTE}",
                name,
                f"put it where it can be downloaded and link it in {LARGE_FILES} (`pack --large_files URL`)",
            )


def _links(bundle: Bundle) -> list[dict[str, Any]]:
    """The entries of large_files.yml; none without the file."""
    if not bundle.has(LARGE_FILES):
        return []
    entries: list[dict[str, Any]] = ConfigParser.load_config_file(bundle.root / LARGE_FILES)["large_files"]
    return entries
