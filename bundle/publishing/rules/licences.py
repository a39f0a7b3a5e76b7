"""What others may do with the bundle, and with the data that it was made for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from bundle.publishing.rules.basis import Bundle, Finding, rule

DATA_LICENCE = "docs/data_license.txt"


@rule("licence")
def licence(bundle: Bundle) -> Iterator[Finding]:
    """LICENSE is the Apache License 2.0, and what names a licence names the same."""
    text = " ".join(bundle.text("LICENSE").split())
    if "Apache License Version 2.0" not in text or "END OF TERMS AND CONDITIONS" not in text:
        yield Finding("not the whole text of the Apache License 2.0", "LICENSE", "put it back whole")
    if bundle.has("pyproject.toml") and 'license = "Apache-2.0"' not in bundle.text("pyproject.toml"):
        yield Finding("another licence than LICENSE", "pyproject.toml", 'license = "Apache-2.0"')
    if not re.search(r"^# License\n\s*Apache License 2\.0", bundle.text("docs/README.md"), re.M):
        yield Finding(
            "section License does not begin with it", "docs/README.md", "write: Apache License 2.0, see LICENSE"
        )


@rule("data licence")
def data_licence(bundle: Bundle) -> Iterator[Finding]:
    """data_license.txt has the terms of every data set that a configuration is for."""
    terms = bundle.text(DATA_LICENCE)
    for name, config in bundle.workflows.items():
        if not name.startswith("data_"):
            continue
        folder = config.get("dataset_dir", bundle.workflows["train.yaml"].get("dataset_dir", ""))
        called = PurePosixPath(re.sub(r"['\")]+$", "", str(folder))).name
        if _plain(called) not in _plain(terms) and name not in terms:
            yield Finding(
                f"neither '{called}' nor '{name}' is named", DATA_LICENCE, "add its source, terms and what to cite"
            )


def _plain(text: str) -> str:
    """Letters and digits alone, so that ISBI 2012 and isbi2012 are one."""
    return re.sub(r"[\W_]+", "", text).lower()
