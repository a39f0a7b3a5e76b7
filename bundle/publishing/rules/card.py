"""Rules for the model card, docs/README.md: its sections, and its figures."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bundle.experiments.experiments import EXPERIMENTS
from bundle.experiments.report import RESULT, TABLE, read_results, results_table
from bundle.publishing.layout import CARD
from bundle.publishing.rules.basis import Bundle, Finding, NotChecked
from bundle.running.errors import RunError

RESULTS = "docs/results"
SECTIONS = (  # names and order of most bundles in the zoo; the zoo's template differs
    *("# Model Overview", "## Data", "## Training configuration", "### Input", "### Output", "## Performance"),
    *("## MONAI Bundle Commands", "# Disclaimer", "# References", "# License"),
)


def card_sections(bundle: Bundle) -> Iterator[Finding]:
    """The model card has the sections of the zoo's cards, in the same order and depth."""
    text = re.sub(r"^```.*?^```", "", bundle.text(CARD), flags=re.M | re.S)  # in code, # begins a comment
    headings = [line.rstrip() for line in text.splitlines() if line.startswith("#")]
    for wanted in SECTIONS:
        if headings.count(wanted) != 1:
            near = [line for line in headings if line.lstrip("# ").lower() == wanted.lstrip("# ").lower()]
            found = f"'{near[0]}' in its place" if near and near[0] != wanted else f"{headings.count(wanted)} of them"
            yield Finding(f"expected one heading '{wanted}', found {found}", CARD, "write exactly this heading, once")
    places = [headings.index(wanted) for wanted in SECTIONS if wanted in headings]
    if places != sorted(places):
        yield Finding("the sections are in another order", CARD, f"expected {', '.join(SECTIONS)}")


def results(bundle: Bundle) -> Iterator[Finding]:
    """The model card's figures are rows of the results table. The table equals the results files."""
    root = bundle.root / RESULTS
    if not any(root.glob(f"*/{RESULT}")):
        raise NotChecked(f"{RESULTS} holds no {RESULT}")
    try:
        found = read_results(root)
    except RunError as error:
        yield Finding(str(error), RESULTS, "restore the file that `python -m bundle reproduce` wrote")
        return
    table = results_table(found)
    if not bundle.has(f"{RESULTS}/{TABLE}") or bundle.text(f"{RESULTS}/{TABLE}") != table:
        command = f"run: python -m bundle report --results_dir {RESULTS}"
        yield Finding(f"differs from the {RESULT} files", f"{RESULTS}/{TABLE}", command)
    card, rows = _rows(bundle.text(CARD)), _rows(table)
    measures = {line.measure for result in found for line in EXPERIMENTS[result["experiment"]].published}
    for row in card:
        if row not in rows and any(_is_of(row, measure) for measure in measures):
            yield Finding(f"no row of {RESULTS}/{TABLE}: {row}", CARD, "copy the table's row")
    for section in re.split(r"^## ", table, flags=re.M)[1:]:
        name = next(name for name in EXPERIMENTS if section.startswith(EXPERIMENTS[name].title))
        own = [row for row in _rows(section) if row in card]
        for line in EXPERIMENTS[name].published:
            if not any(_is_of(row, line.measure) for row in own):
                missing = f"no row '{line.measure}' of {name}, which has results"
                yield Finding(missing, CARD, f"copy its rows from {RESULTS}/{TABLE}")


def _is_of(row: str, measure: str) -> bool:
    """Whether a row of a table begins with a measure."""
    return row.startswith(f"| {measure} |")


def _rows(text: str) -> list[str]:
    """Read the rows of all tables, with single spaces."""
    return [re.sub(r"\s+", " ", line).strip() for line in text.splitlines() if line.lstrip().startswith("|")]
