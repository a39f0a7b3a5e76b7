"""Choose the images of a report, measure them, and make their pictures."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..data.datalist import natural_order
from ..data.items import describe_failure
from ..failures import cause_of
from .gather import Item, Run
from .measured import Measured, draw, measure
from .pictures import Picture
from .results import Results

logger = logging.getLogger(__name__)

Track = Callable[[Sequence[str], str], Iterable[str]]


@dataclass(frozen=True)
class Case:
    """An image with a picture.

    Args:
        name: of the image, as in the tables.
        picture: for the viewer.
        measured: figures.
    """

    name: str
    picture: Picture
    measured: Measured = field(default_factory=Measured)


@dataclass(frozen=True)
class Cases:
    """The images of a report.

    Args:
        cases: images with pictures, worst first.
        measured: name of an image -> figures, of all images measured for the report.
        available: number of images to choose from.
        segmented_here: images segmented for the report, instead of read from results.
        seconds: for the images segmented here.
        failures: a line for each image that could not be read or segmented.
        missing: why there are no pictures; "": there are some.
    """

    cases: Sequence[Case] = ()
    measured: Mapping[str, Measured] = field(default_factory=dict)
    available: int = 0
    segmented_here: int = 0
    seconds: float = 0.0
    failures: Sequence[str] = ()
    missing: str = ""


def make_cases(
    run: Run,
    items: Mapping[str, Item],
    most: int,
    most_bytes: int,
    track: Track = lambda names, _: names,
) -> Cases:
    """Choose images of a run, measure them, and make their pictures.

    Results in the folder are read. Without results, the images are segmented with the weights of the run. If there are
    more images than pictures, half of the pictures are the worst images by the key metric. The others are drawn at
    random, by a fixed seed. An evaluation has measured its images. The images of a training are all measured here. The
    images of a segmentation have no score: all pictures are drawn at random.

    Args:
        run: from `read_run`.
        items: from `images_of`.
        most: number of pictures.
        most_bytes: for all pictures together.
        track: shows progress: gets names and a description, and gives the names one by one.

    Example:
        >>> from pathlib import Path
        >>> make_cases(Run(Path("out"), ("training",)), {}, most=4, most_bytes=10**6).missing[:10]
        'The images'
    """
    names = list(items) or list(run.finished) or list(run.areas)
    if not names:
        return Cases(missing=_nothing_to_show(run))
    results = Results(run, items)
    if not results.reads and run.weights is None:
        return Cases(missing="The weights of the run were not found, and the run has saved no results: no pictures.")
    known = {name: row.get(run.key_column or "") for name, row in run.table.items()}
    first = names if not run.table and "training" in run.kinds else choose(names, known, most)
    measured: dict[str, Measured] = {}
    pictures: dict[str, Picture] = {}
    failures: list[str] = []

    def look(chosen: Sequence[str], draws: bool) -> None:
        for name in track(chosen, "pictures" if draws else "measuring"):
            try:
                loaded = results.of(name)
                if name not in measured:
                    measured[name] = measure(loaded, results.settings)
                if draws:
                    share = most_bytes // len(chosen)
                    pictures[name] = draw(name, loaded, measured[name], results.settings, share)
            except Exception as error:  # whatever an image or its results raise: the others go on
                failures.append(describe_failure(name, cause_of(error) if isinstance(error, RuntimeError) else error))
                logger.warning("no picture of %s", failures[-1])

    look(first, draws=len(first) <= most)
    segmented = results.segmented
    if len(first) > most:
        look(choose(list(measured), {name: _score(each) for name, each in measured.items()}, most), draws=True)
    order = {name: _badness(known.get(name), measured[name]) for name in pictures}
    cases = [
        Case(name, pictures[name], measured[name])
        for name in sorted(pictures, key=lambda name: (order[name], natural_order(name)))
    ]
    return Cases(cases, measured, len(names), segmented, round(results.seconds, 1), failures)


def choose(names: Sequence[str], scores: Mapping[str, float | None], most: int) -> list[str]:
    """Choose images: half of them those with the lowest scores, the others at random with a fixed seed.

    Args:
        names: of all images.
        scores: name -> score. Missing, None or NaN: not known.
        most: number of images.

    Example:
        >>> choose(["a", "b"], {"a": 0.9, "b": 0.1}, most=1)
        ['b']
    """
    if most >= len(names):
        return list(names)
    known = {name: score for name in names if (score := scores.get(name)) is not None and math.isfinite(score)}
    worst = sorted(known, key=lambda name: (known[name], natural_order(name)))[: (most + 1) // 2]
    others = [name for name in names if name not in set(worst)]
    return [*worst, *random.Random(0).sample(others, most - len(worst))]


def _score(measured: Measured) -> float | None:
    """Return the most important score of an image. None: no truth."""
    return next(iter(measured.scores.values()), None)


def _badness(known: float | None, measured: Measured) -> float:
    """Sort key: images with low scores first; without truth, uncertain images first. Undefined scores are last."""
    score = _score(measured) if known is None else known
    if score is None:
        return -(measured.uncertainty or 0.0)
    return score if math.isfinite(score) else math.inf


def _nothing_to_show(run: Run) -> str:
    if run.record.get("items") and not run.is_in_place:
        return (
            "The folder was moved, or comes from elsewhere: no pictures, since its run.json could name any image of "
            "this computer. Name the folder of the images: --data my/data."
        )
    if run.record.get("items"):
        return (
            "The images were not found where the run has read them: no pictures. Name their folder now: --data my/data."
        )
    return "The images of the run are not known: no pictures. Name their folder: --data my/data."
