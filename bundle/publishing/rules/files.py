"""Rules for files: required files, sizes and licences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from monai.bundle import ConfigParser

from bundle.publishing.layout import (
    CARD,
    DATA_LICENCE,
    LARGE_FILES,
    MEBIBYTE,
    OWN_LIMIT,
    WEIGHTS,
    ZOO_LIMIT,
    source_files,
    travelling_files,
)
from bundle.publishing.rules.basis import STANDALONE, Bundle, Finding

REQUIRED = (
    *("LICENSE", "configs/metadata.json", "configs/logging.conf", *(f"configs/{name}" for name in STANDALONE)),
    *(CARD, DATA_LICENCE, "scripts/__init__.py"),
)
LINK = ("path", "url", "hash_val", "hash_type")  # the zoo requires the first two, this project also the checksum


def required_files(bundle: Bundle) -> Iterator[Finding]:
    """All files required by MONAI and the zoo exist. With --zoo also the weights, or a link to the weights."""
    for name in REQUIRED:
        if not bundle.has(name):
            yield Finding("missing", name, "add it; MONAI's bundle specification and the model zoo require it")
    for entry in _links(bundle):
        if missing := [key for key in LINK if not entry.get(key)]:
            what = f"the entry of {entry.get('path', 'a file')} lacks {', '.join(missing)}"
            yield Finding(what, LARGE_FILES, "let `python -m bundle pack --large_files URL` write it")
    if bundle.zoo and not bundle.has(WEIGHTS) and WEIGHTS not in {entry.get("path") for entry in _links(bundle)}:
        yield Finding("missing", WEIGHTS, f"train, or add the address of a download to {LARGE_FILES}")


def file_sizes(bundle: Bundle) -> Iterator[Finding]:
    """No file is larger than 95 MiB (25 MiB with --zoo). Larger files are linked in large_files.yml."""
    linked = {entry.get("path") for entry in _links(bundle)}
    names = travelling_files(bundle.root) if bundle.zoo else source_files(bundle.root)
    limit = ZOO_LIMIT if bundle.zoo else OWN_LIMIT
    if bundle.zoo and bundle.has(WEIGHTS):
        names = [*names, WEIGHTS]
    for name in names:
        size = (bundle.root / name).stat().st_size
        if size > limit and name not in linked:
            what = f"{size / MEBIBYTE:.0f} MiB, allowed are {limit // MEBIBYTE}"
            yield Finding(what, name, f"upload it elsewhere and link it in {LARGE_FILES} (`pack --large_files URL`)")


def licence(bundle: Bundle) -> Iterator[Finding]:
    """LICENSE is the whole Apache License 2.0. pyproject.toml and the model card name the same licence."""
    text = " ".join(bundle.text("LICENSE").split())
    if "Apache License Version 2.0" not in text or "END OF TERMS AND CONDITIONS" not in text:
        yield Finding("not the whole text of the Apache License 2.0", "LICENSE", "restore the whole text")
    if bundle.has("pyproject.toml") and 'license = "Apache-2.0"' not in bundle.text("pyproject.toml"):
        yield Finding("another licence than LICENSE", "pyproject.toml", 'write: license = "Apache-2.0"')
    if not re.search(r"^# License\n\s*Apache License 2\.0", bundle.text(CARD), re.M):
        yield Finding("section License lacks the licence's name", CARD, "write: Apache License 2.0, see LICENSE")


def data_licence(bundle: Bundle) -> Iterator[Finding]:
    """data_license.txt has the terms of every data set with a configuration."""
    terms = bundle.text(DATA_LICENCE)
    for name, config in bundle.workflows.items():
        if not name.startswith("data_"):
            continue
        folder = config.get("dataset_dir", bundle.workflows["train.yaml"].get("dataset_dir", ""))
        data_set = PurePosixPath(re.sub(r"['\")]+$", "", str(folder))).name
        if _plain(data_set) not in _plain(terms) and name not in terms:
            yield Finding(f"neither '{data_set}' nor '{name}' is named", DATA_LICENCE, "add source, terms, citation")


def _links(bundle: Bundle) -> list[dict[str, Any]]:
    """Read the entries of large_files.yml. Without the file: none."""
    if not bundle.has(LARGE_FILES):
        return []
    return ConfigParser.load_config_file(bundle.root / LARGE_FILES)["large_files"]


def _plain(text: str) -> str:
    """Keep only letters and digits: "ISBI 2012" becomes "isbi2012"."""
    return re.sub(r"[\W_]+", "", text).lower()
