"""The model card: the zoo's sections, and figures that are those of the results."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bundle.errors import RunError
from bundle.experiments.experiments import EXPERIMENTS
from bundle.experiments.report import RESULT, TABLE, read_results, results_table
from bundle.publishing.rules.basis import Bundle, Finding, NotChecked, rule

CARD, RESULTS = "docs/README.md", "docs/results"
SECTIONS = (  # as most bundles of the zoo have them, in this order; its template names them differently
    *("# Model Overview", "## Data", "## Training configuration", "### Input", "### Output", "## Performance"),
    *("## MONAI Bundle Commands", "# Disclaimer", "# References", "# License"),
)


@rule("card sections")
def card_sections(bundle: Bundle) -> Iterator[Finding]:
    """The model card has the sections of the zoo's cards, in their order and depth."""
    headings = [line.rstrip() for line in _prose(bundle.text(CARD)) if line.startswith("#")]
    for wanted in SECTIONS:
        if headings.count(wanted) != 1:
            near = [line for line in headings if line.lstrip("# ").lower() == wanted.lstrip("# ").lower()]
            found = f"'{near[0]}' in its place" if near and near[0] != wanted else f"{headings.count(wanted)} of them"
            yield Finding(f"expected one heading '{wanted}', found {found}", CARD, "write the heading exactly so, once")
    places = [headings.index(wanted) for wanted in SECTIONS if wanted in headings]
    if places != sorted(places):
        yield Finding("the sections are in another order", CARD, f"expected {', '.join(SECTIONS)}")


@rule("results")
def results(bundle: Bundle) -> Iterator[Finding]:
    """The card's figures are rows of the results table, and the table is what the results files say."""
    root = bundle.root / RESULTS
    if not any(root.glob(f"*/{RESULT}")):
        raise NotChecked(f"{RESULTS} holds no {RESULT}")
    try:
        found = read_results(root)
    except RunError as error:
        yield Finding(str(error), RESULTS, "put back what `python -m bundle reproduce` wrote")
        return
    table = results_table(found)
    if not bundle.has(f"{RESULTS}/{TABLE}") or bundle.text(f"{RESULTS}/{TABLE}") != table:
        yield Finding(
            f"not what the {RESULT} files say", f"{RESULTS}/{TABLE}", f"python -m bundle report --results_dir {RESULTS}"
        )
    card = _rows(bundle.text(CARD))
    measured = {result["experiment"] for result in found}
    for row in card:
        known = any(_is_of(row, line.measure) for name in measured for line in EXPERIMENTS[name].published)
        if known and row not in _rows(table):
            yield Finding(f"no row of {RESULTS}/{TABLE}: {row}", CARD, "copy the table's row")
    for section in re.split(r"^## ", table, flags=re.M)[1:]:
        name = next(name for name in EXPERIMENTS if section.startswith(EXPERIMENTS[name].title))
        own = [row for row in _rows(section) if row in card]
        for line in EXPERIMENTS[name].published:
            if not any(_is_of(row, line.measure) for row in own):
                yield Finding(
                    f"no row '{line.measure}' of {name}, which has results",
                    CARD,
                    f"copy its rows from {RESULTS}/{TABLE}",
                )


def _is_of(row: str, measure: str) -> bool:
    """Whether a row of a table begins with a measure."""
    return row.startswith(f"| {measure} |")


def _rows(text: str) -> list[str]:
    """The rows of a text's tables, however their columns are spaced."""
    return [re.sub(r"\s+", " ", line).strip() for line in text.splitlines() if line.lstrip().startswith("|")]


def _prose(text: str) -> list[str]:
    """A text's lines, without those of fenced code, where # begins a comment."""
    return re.sub(r"^```.*?^```", "", text, flags=re.M | re.S).splitlines()
