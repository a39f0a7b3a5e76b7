"""The app that MONAI Label runs for `python -m bundle label`: its own `monaibundle` app, and what that lacks.

Copied as main.py into the app's folder, beside `monaibundle` as it was; runs in MONAI Label's environment alone.
"""

from __future__ import annotations

from typing import Any

from monaibundle import MyApp
from monailabel.interfaces.app import MONAILabelApp
from monailabel.tasks.activelearning.epistemic import Epistemic
from monailabel.tasks.infer.bundle import BundleInferTask
from monailabel.tasks.scoring.epistemic_v2 import EpistemicScoring
from monailabel.transform.writer import PolygonWriter
from monailabel.utils.others.label_colors import get_color

OUTPUT = "output"  # in a request: asap, dsa or json, for clients that draw annotations


class LabelTask(BundleInferTask):
    """Inference that answers requests for annotations with a polygon around every object, all others as it was."""

    def writer(self, data: dict[str, Any], extension: Any = None, dtype: Any = None) -> tuple[Any, Any]:
        """Path of the file that is the answer, and what is said beside it."""
        if OUTPUT not in data:
            return super().writer(data, extension, dtype)
        from scripts.engine_items import as_array  # the served bundle's own; MONAI Label has imported it by now
        from scripts.served_labels import outlines

        name = next(label for label, number in self.labels.items() if number == 1)
        polygons = outlines(as_array(data["instances"])[0], data.get("min_poly_area") or 0)
        data["result"]["annotation"] = {
            "location": data.get("location"),
            "size": data.get("size"),
            "elements": [{"label": name, "contours": [polygon]} for polygon in polygons],
            "labels": {name: get_color(name, None)},
        }
        return PolygonWriter(label=self.output_label_key, json=self.output_json_key)(data)


class OneByOne(EpistemicScoring):
    """Scoring by one thread, since the threads would share a configuration that each request changes."""

    def __call__(self, request: dict[str, Any], datastore: Any) -> Any:
        """Score all images that have no label yet."""
        return super().__call__({**request, "max_workers": 1}, datastore)


class LabelApp(MyApp, MONAILabelApp):
    """`monaibundle` with annotations, and with the strategy that belongs to its scoring. (MONAI Label looks for a class
    that names `MONAILabelApp` itself as a base.)
    """

    def init_infers(self) -> dict[str, Any]:
        """The served bundle."""
        return {name: LabelTask(path, self.conf) for name, path in self.models.items()}

    def init_strategies(self) -> dict[str, Any]:
        """The strategies first and random; with a model to score by also epistemic: the least certain image first."""
        strategies = super().init_strategies()
        return {**strategies, "epistemic": Epistemic()} if self.epistemic_models else strategies

    def init_scoring_methods(self) -> dict[str, Any]:
        """Uncertainty by dropout, where the server was started with it."""
        return {
            name: OneByOne(method.infer_task, method.max_samples, method.simulation_size)
            for name, method in super().init_scoring_methods().items()
        }
