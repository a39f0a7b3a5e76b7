"""Sort images by what is most worth annotating next, in `ranking.csv`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from monai.engines import IterationEvents

from ..data.datalist import natural_order
from ..data.items import source_of
from ..data.sharing import share_images
from ..engines import engine_items
from ..io.arrays import as_array
from ..io.files import write_csv
from ..io.names import ResultNames, shown
from ..io.tables import check_table
from ..metrics.stability import object_instability
from ..ranks import gather

logger = logging.getLogger(__name__)

COLUMNS = ("rank", "image", "score")
PRINTED = 20


class ImageRanking:
    """Write a table of all images, the most worth annotating first, and print the first 20.

    Columns: rank, image, score. The score is `scripts.metrics.object_instability` of the objects of class 1, from 0 to
    1. Failed images are not in the table.

    Args:
        path: the table, a CSV file. The table of an earlier ranking is replaced.
        threshold, min_area, fill_holes, split, gap, field_border: as in `scripts.transforms.InstancesFromScoresd`.
        image_key: image with its file name in the metadata.
        prob_key: probabilities (K, H, W).

    Raises:
        ValueError: at the start of the run: another file has the name of the table.

    Example, in a configuration::

        handlers:
        - _target_: scripts.handlers.ImageRanking
          path: ranking.csv
    """

    def __init__(
        self,
        path: str | Path,
        threshold: float = 0.5,
        min_area: int = 0,
        fill_holes: int = 0,
        split: float = 0,
        gap: int = 0,
        field_border: int = 0,
        image_key: str = "source",
        prob_key: str = "prob",
    ) -> None:
        self.path = Path(path)
        self.threshold = threshold
        self.options: dict[str, Any] = {"min_area": min_area, "fill_holes": fill_holes, "split": split, "gap": gap}
        self.options["field_border"] = field_border
        self.image_key = image_key
        self.prob_key = prob_key
        self._names = ResultNames()
        self._scores: dict[str, float] = {}

    def attach(self, evaluator: Engine) -> None:
        """Follow an evaluator."""
        evaluator.add_event_handler(Events.STARTED, self._start)
        evaluator.add_event_handler(IterationEvents.MODEL_COMPLETED, self._score)
        evaluator.add_event_handler(Events.COMPLETED, self._write)

    def unfinished(self, items: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """List the images for this process, see `scripts.data.share_images`: all images for a single process.

        Args:
            items: list of images, {"image": address}.
        """
        return share_images(items)

    def _start(self, _: Engine) -> None:
        self._scores = {}
        check_table(self.path, COLUMNS)

    def _score(self, evaluator: Engine) -> None:
        for item in engine_items(evaluator):
            name = self._names.in_table(source_of(item, self.image_key))
            chance = as_array(item[self.prob_key][1])
            self._scores[name] = object_instability(chance, self.threshold, **self.options)

    def _write(self, _: Engine) -> None:
        scores = {name: score for share in gather(self._scores) for name, score in share.items()}
        if idist.get_rank() != 0 or not scores:
            return
        ranked = sorted(scores.items(), key=lambda pair: (-pair[1], natural_order(pair[0])))
        rows = [(rank, name, f"{score:.4f}") for rank, (name, score) in enumerate(ranked, 1)]
        write_csv(self.path, [dict(zip(COLUMNS, row, strict=True)) for row in rows], COLUMNS)
        width = max(len(name) for _, name, _ in rows[:PRINTED])
        for rank, name, score in (COLUMNS, *rows[:PRINTED]):
            print(f"{rank:>5}  {name:<{max(width, 5)}}  {score}")
        if len(rows) > PRINTED:
            print(f"  ...  {len(rows) - PRINTED} more images are in {shown(self.path)}")
