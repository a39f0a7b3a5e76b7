"""The app that MONAI Label runs for `python -m bundle label`: its own `monaibundle` app, and what that lacks.

Copied as main.py into the app's folder, beside `monaibundle` as it was; runs in MONAI Label's environment alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from monaibundle import MyApp
from monailabel.interfaces.app import MONAILabelApp
from monailabel.tasks.activelearning.epistemic import Epistemic
from monailabel.tasks.infer.bundle import BundleInferTask
from monailabel.tasks.scoring.epistemic_v2 import EpistemicScoring
from monailabel.tasks.train.bundle import BundleTrainTask
from monailabel.transform.writer import PolygonWriter
from monailabel.utils.others.generic import strtobool
from monailabel.utils.others.label_colors import get_color

# `scripts`, the served bundle's own, is imported in methods: MONAI Label puts it on the path while it builds the tasks
OUTPUT = "output"  # in a request: asap, dsa or json, for clients that draw annotations


class LabelTask(BundleInferTask):
    """Inference that answers requests for annotations with a polygon around every object, all others as it was."""

    def writer(self, data: dict[str, Any], extension: Any = None, dtype: Any = None) -> tuple[Any, Any]:
        """Path of the file that is the answer, and what is said beside it."""
        if OUTPUT not in data:
            return super().writer(data, extension, dtype)
        from scripts.engine_items import as_array
        from scripts.outlines import outlines

        name = next(label for label, number in self.labels.items() if number == 1)
        polygons = outlines(as_array(data["instances"])[0], data.get("min_poly_area") or 0)
        data["result"]["annotation"] = {
            "location": data.get("location"),
            "size": data.get("size"),
            "elements": [{"label": name, "contours": [polygon]} for polygon in polygons],
            "labels": {name: get_color(name, None)},
        }
        return PolygonWriter(label=self.output_label_key, json=self.output_json_key)(data)


class LabelTraining(BundleTrainTask):
    """Training that also takes annotations, which QuPath's extension submits as XML, in place of label images."""

    def _fetch_datalist(self, request: dict[str, Any], datastore: Any) -> list[dict[str, str]]:
        items: list[dict[str, str]] = super()._fetch_datalist(request, datastore)
        return [{**item, "label": self._draw(item)} if item["label"].endswith(".xml") else item for item in items]

    def _draw(self, item: dict[str, str]) -> str:
        """Path of a label image: polygons filled with the number of their class, or with their own."""
        from PIL import Image

        from scripts.outlines import fill
        from scripts.readers import plane_size

        classes = [name.lower() for name in self.bundle_config["class_names"]]
        polygons = []
        for number, annotation in enumerate(ElementTree.parse(item["label"]).iter("Annotation"), start=1):
            name = annotation.get("Name", "").lower()
            if name not in classes[1:]:
                raise ValueError(
                    f"{item['label']}: annotation '{name}' is of no class; expected {', '.join(classes[1:])}"
                )
            points = [(float(point.get("X", "")), float(point.get("Y", ""))) for point in annotation.iter("Coordinate")]
            polygons.append(
                (number if self.bundle_config["label_kind"] == "instances" else classes.index(name), points)
            )
        path = Path(self.bundle_path) / "output" / "labels" / f"{Path(item['image']).name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(fill(polygons, plane_size(item["image"]))).save(path)
        return str(path)


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

    def init_trainers(self) -> dict[str, Any]:
        """Training of the served bundle."""
        if strtobool(self.conf.get("skip_trainers", "false")):
            return {}
        return {name: LabelTraining(path, self.conf) for name, path in self.models.items()}

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

    def infer_wsi(self, request: dict[str, Any], datastore: Any = None) -> Any:
        """Annotations of an image. MONAI Label takes every TIFF for a slide and asks for OpenSlide; here none is."""
        return self.infer(request, datastore)
