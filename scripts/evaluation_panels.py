"""A picture of every image of an evaluation: what was asked for, what was found, and where they differ."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ignite.engine import Engine, Events

from scripts.engine_items import as_array, engine_items, source_of
from scripts.figures import panel_figure, save_figure
from scripts.result_names import ResultNames
from scripts.training_figures import panel_arrays


class EvaluationPanels:
    """Write `<output_dir>/panels/<name>.png` for every image: image, label, probability, prediction, error.

    Args:
        output_dir: where the folder goes.
        class_names: names of the classes 0 .. K - 1. With more than two the panel shows the probability of the class
            predicted, else that of class 1.
        objects: show objects, a colour each, in place of classes: `reference_key` beside `instances_key`.
        instances_key: predicted label image (1, H, W).
        reference_key: reference label image (1, H, W).
        image_key: whose metadata tell the file name.
    """

    def __init__(
        self,
        output_dir: str | Path,
        class_names: Sequence[str],
        objects: bool = False,
        instances_key: str = "pred_instances",
        reference_key: str = "reference",
        image_key: str = "image",
    ) -> None:
        self.folder = Path(output_dir) / "panels"
        self.class_names = list(class_names)
        self.objects = objects
        self.instances_key = instances_key
        self.reference_key = reference_key
        self.image_key = image_key
        self._names = ResultNames()

    def attach(self, evaluator: Engine) -> None:
        """Follow an evaluator."""
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, evaluator: Engine) -> None:
        """Draw the images of this iteration."""
        shown_class = 1 if len(self.class_names) == 2 else None
        for item in engine_items(evaluator):
            name = self._names.of(source_of(item, self.image_key) or f"image_{evaluator.state.iteration:04d}")
            arrays = panel_arrays(item, (self.image_key, "label", "pred", "pred", "weight"), shown_class)
            sides = (self.reference_key, self.instances_key) if self.objects else ()
            maps = tuple(as_array(item[key])[0].clip(0).astype(int) for key in sides)
            figure = panel_figure(
                **arrays,  # type: ignore[arg-type]  # image and label are always there
                class_names=self.class_names,
                probability_class=shown_class,
                title=name,
                objects=(maps[0], maps[1]) if maps else None,
            )
            save_figure(figure, self.folder / f"{name}.png")
