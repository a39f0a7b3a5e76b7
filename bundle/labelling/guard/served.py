"""The app of `monailabel start_server --uvicorn_app guard.served:app`: MONAI Label's, behind the guard."""

from __future__ import annotations

import json
from pathlib import Path

from monailabel.app import app as monai_label
from monailabel.config import settings
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.others.generic import device_list

from .asgi import Guard
from .keys import Served

FILE = "guard.json"  # who may ask; in the app's folder, readable by its owner alone


def _images() -> list[str]:
    names: list[str] = app_instance().datastore().list_images()
    return names


def _guarded() -> Guard:
    """Wrap MONAI Label's app. Without the file nothing is served."""
    access = json.loads((Path(settings.MONAI_LABEL_APP_DIR) / FILE).read_text(encoding="utf-8"))
    served = Served(access.pop("model"), _images, device_list())
    return Guard(monai_label, served, **access)


app = _guarded()
