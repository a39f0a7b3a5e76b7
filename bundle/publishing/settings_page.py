"""Write `docs/settings.md` from the table of settings: `python -m bundle.publishing.settings_page`."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from bundle.running.configuration import ROOT, read_file
from bundle.running.settings_list import rows
from bundle.running.workflows import WORKFLOWS

PAGE = "docs/settings.md"
HEAD = """# Settings

    original-unet train my/data --learning_rate 3e-4 --max_epochs 200
    original-unet train --help

Every key can be set on the command line, as `--KEY VALUE`, or in a file of changes: `--overlay my.yaml`, or the list
`--config_file` of `run` and of MONAI's command. Switches take true, false, yes, no, on, off, 1 and 0. Both commands
refuse wrong values and unknown keys before any work. Expressions (`$...`) and references (`@...`) are not checked.

"in" names the files in `configs/` with the key. A training keeps the keys "as trained" in `model.json`, and later
commands read them there.

Arguments of components are joined by `#`, such as `--network_def#dropout 0.2`. The component checks the value.

This page is made from `scripts/options/table.py`, by `python -m bundle.publishing.settings_page`.
"""


def page(configs: Mapping[str, Mapping[str, Any]]) -> str:
    """Write the page.

    Args:
        configs: content of train.yaml, evaluate.yaml and inference.yaml, under train, evaluate and inference.

    Example:
        >>> page(read_workflows()).splitlines()[0]
        '# Settings'
    """
    lines = [HEAD]
    for group, settings in groupby(rows(configs), key=lambda row: row.group):
        lines += [f"## {group}", "", "| key | value | default | in | meaning |", "|---|---|---|---|---|"]
        for row in settings:
            places = [name for name in row.of if row.name in configs[name]] or ["overlays"]
            lines.append(f"| `{row.name}` | {row.expected} | {row.default} | {', '.join(places)} | {row.help} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def read_workflows() -> dict[str, dict[str, Any]]:
    """Read train.yaml, evaluate.yaml and inference.yaml.

    Example:
        >>> sorted(read_workflows())
        ['evaluate', 'inference', 'train']
    """
    return {name: read_file("--config_file", str(ROOT / "configs" / f"{name}.yaml")) for name in WORKFLOWS}


if __name__ == "__main__":
    (ROOT / PAGE).write_text(page(read_workflows()), encoding="utf-8")
