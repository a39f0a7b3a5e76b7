"""Rules for configs/metadata.json: schema, version of the bundle, versions of packages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from bundle.publishing.rules.basis import Bundle, Finding, NotChecked

METADATA = "configs/metadata.json"
TIMEOUT = 5.0  # seconds; short, for machines without network
CORE = {"monai": "monai_version", "torch": "pytorch_version", "numpy": "numpy_version"}


def schema(bundle: Bundle) -> Iterator[Finding]:
    """The metadata follow MONAI's schema."""
    try:
        import jsonschema  # a tool of developers, no dependency of the bundle
    except ImportError as error:
        raise NotChecked("jsonschema is not installed: pip install jsonschema") from error
    for broken in jsonschema.Draft7Validator(_schema(bundle)).iter_errors(bundle.metadata):
        place = "#".join(str(part) for part in broken.absolute_path) or "top level"
        yield Finding(broken.message, f"{METADATA}, {place}", "follow the schema")


def versions(bundle: Bundle) -> Iterator[Finding]:
    """The version is the same in metadata.json, its changelog, pyproject.toml and CHANGELOG.md."""
    version = bundle.metadata["version"]
    if version not in bundle.metadata.get("changelog", {}):
        yield Finding(f"changelog has no entry for {version}", METADATA, "add a line that says what is new")
    for name, form in (("pyproject.toml", 'version = "{}"'), ("CHANGELOG.md", "## {}")):
        if bundle.has(name) and not re.search(rf"^{re.escape(form.format(version))}(\s|$)", bundle.text(name), re.M):
            yield Finding(f"'{form.format(version)}' is missing", name, f"write the version of {METADATA}, {version}")
    if bundle.zoo and any(len(part) > 1 for part in re.split(r"\D+", version)):
        what = f"version {version} has a part of two digits, and the zoo compares versions as text"
        yield Finding(what, METADATA, "raise the part before it")


def packages(bundle: Bundle) -> Iterator[Finding]:
    """The metadata name the tested versions of packages, from constraints.txt."""
    if not bundle.has("constraints.txt"):
        raise NotChecked("constraints.txt is missing, as in every unpacked bundle")
    lines = bundle.text("constraints.txt").splitlines()
    pinned = dict(line.split("==", 1) for line in lines if "==" in line)
    stated = {name: bundle.metadata[key] for name, key in CORE.items()}
    for name, version in (stated | bundle.metadata.get("required_packages_version", {})).items():
        if pinned.get(name) != version:
            tested = pinned.get(name, "nothing")
            yield Finding(f"{name} {version}, but constraints.txt has {tested}", METADATA, "write the tested version")


def _schema(bundle: Bundle) -> Any:
    """Read the schema from the given copy, or from the address in the metadata."""
    if bundle.schema:
        return json.loads(Path(bundle.schema).read_text(encoding="utf-8"))
    address = bundle.metadata["schema"]
    try:
        with urlopen(address, timeout=TIMEOUT) as answer:
            return json.load(answer)
    except (OSError, HTTPException, ValueError) as error:  # ValueError: the answer is not JSON
        reason = getattr(error, "reason", error)
        raise NotChecked(f"{address} cannot be reached ({reason}); give a copy with --schema FILE") from error
