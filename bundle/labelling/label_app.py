"""MONAI Label's app `monaibundle`, extended by annotations and by a strategy, with images that nobody can change.

`bundle.labelling.label_folder` copies this file to main.py in the app's folder. Only MONAI Label's environment can
import this file. Requests arrive checked, see `bundle.labelling.guard`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import requests
from monaibundle import MyApp
from monailabel.config import settings
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.app import MONAILabelApp
from monailabel.tasks.activelearning.epistemic import Epistemic
from monailabel.tasks.infer.bundle import BundleInferTask
from monailabel.tasks.scoring.epistemic_v2 import EpistemicScoring
from monailabel.tasks.train.bundle import BundleTrainTask
from monailabel.transform.writer import PolygonWriter
from monailabel.utils.others.generic import strtobool
from monailabel.utils.others.label_colors import get_color

# Only methods import `scripts` of the served bundle: MONAI Label sets the import path while building the tasks.
OUTPUT = "output"  # key of a request from clients with annotations: asap, dsa or json


class ReadOnlyImages(LocalDatastore):
    """A datastore that takes labels and keeps images as they are. The images are links to the user's files."""

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Refuse: the copy would go through a link, into the user's file."""
        raise PermissionError(f"image {image_id}: this server takes no images. Put it into the studies, and restart")

    def remove_image(self, image_id: str) -> None:
        """Refuse: MONAI Label would remove the user's file."""
        raise PermissionError(f"image {image_id}: this server removes no images")


class LabelTask(BundleInferTask):
    """Inference, extended by annotations: a polygon around every object."""

    def writer(self, data: dict[str, Any], extension: Any = None, dtype: Any = None) -> tuple[Any, Any]:
        """Write the answer. Return the path and JSON of the answer."""
        if OUTPUT not in data:
            return super().writer(data, extension, dtype)
        from scripts.io.arrays import as_array
        from scripts.plot.overlays import outlines

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
    """Training, extended by labels in XML: annotations from QuPath's extension."""

    def _fetch_datalist(self, request: dict[str, Any], datastore: Any) -> list[dict[str, str]]:
        items: list[dict[str, str]] = super()._fetch_datalist(request, datastore)
        return [{**item, "label": self._draw(item)} if item["label"].endswith(".xml") else item for item in items]

    def _draw(self, item: dict[str, str]) -> str:
        """Fill polygons with the number of the class or object. Return the path of the label image."""
        from PIL import Image

        from scripts.io.reader import plane_size
        from scripts.plot.overlays import fill

        settings = self.bundle_config.get_parsed_content("settings")
        classes = [name.lower() for name in settings.class_names]
        polygons = []
        text = Path(item["label"]).read_text(encoding="utf-8")
        if "<!DOCTYPE" in text.upper():  # entities in a short file could fill the memory
            raise ValueError(f"{item['label']}: annotations must not hold a document type")
        for number, annotation in enumerate(ElementTree.fromstring(text).iter("Annotation"), start=1):
            name = annotation.get("Name", "").lower()
            if name not in classes[1:]:
                raise ValueError(f"{item['label']}: annotation '{name}' is no class; expected {', '.join(classes[1:])}")
            points = [(float(point.get("X", "")), float(point.get("Y", ""))) for point in annotation.iter("Coordinate")]
            instances = self.bundle_config["label_kind"] == "instances"
            polygons.append((number if instances else classes.index(name), points))
        path = Path(self.bundle_path) / "output" / "labels" / f"{Path(item['image']).name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(fill(polygons, plane_size(item["image"]))).save(path)
        return str(path)


class OneByOne(EpistemicScoring):
    """Scoring in a single thread. Threads would share the configuration, and every request changes it."""

    def __call__(self, request: dict[str, Any], datastore: Any) -> Any:
        """Score all images without a label."""
        return super().__call__({**request, "max_workers": 1}, datastore)


class LabelApp(MyApp, MONAILabelApp):
    """The app `monaibundle`, extended. MONAI Label searches for a class with `MONAILabelApp` among its bases."""

    def init_infers(self) -> dict[str, Any]:
        """Inference with the served bundle."""
        return {name: LabelTask(path, self.conf) for name, path in self.models.items()}

    def init_trainers(self) -> dict[str, Any]:
        """Training of the served bundle."""
        if strtobool(self.conf.get("skip_trainers", "false")):
            return {}
        return {name: LabelTraining(path, self.conf) for name, path in self.models.items()}

    def init_strategies(self) -> dict[str, Any]:
        """The strategies first and random. With dropout scoring also epistemic: the least certain image first."""
        strategies = super().init_strategies()
        return {**strategies, "epistemic": Epistemic()} if self.epistemic_models else strategies

    def init_scoring_methods(self) -> dict[str, Any]:
        """Uncertainty by dropout, if the server was started with --epistemic_dropout."""
        return {
            name: OneByOne(method.infer_task, method.max_samples, method.simulation_size)
            for name, method in super().init_scoring_methods().items()
        }

    def init_datastore(self) -> LocalDatastore:
        """The folder of images and labels."""
        return ReadOnlyImages(
            self.studies,
            extensions=settings.MONAI_LABEL_DATASTORE_FILE_EXT,
            auto_reload=settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
            read_only=settings.MONAI_LABEL_DATASTORE_READ_ONLY,
        )

    def infer_wsi(self, request: dict[str, Any], datastore: Any = None) -> Any:
        """Annotate an image. MONAI Label would treat every TIFF as a slide and need OpenSlide."""
        return self.infer(request, datastore)

    def _local_request(self, url: str, params: Any, action: str) -> Any:
        """Ask the server to score the images again, after a training in another process. The server wants the token."""
        token = json.loads((Path(self.app_dir) / "guard.json").read_text(encoding="utf-8"))["token"]
        answer = requests.post(
            f"http://127.0.0.1:{settings.MONAI_LABEL_SERVER_PORT}{url}",
            json=params or {},
            headers={"Authorization": f"Bearer {token}"},
            timeout=60,
        )
        return answer.json() if answer.ok else None
