"""Keys of requests, by name, type and range.

MONAI Label writes requests into configurations, which are programs, and opens files by names from requests. Only
numbers, booleans, known names and listed words may therefore pass.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo


class Refused(Exception):
    """A request missing in the table. The text is the answer."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Served:
    """Names of the server's model, images and devices, to check requests.

    Args:
        model: name of the served model.
        images: gives the IDs of the images in the datastore.
        devices: names of the devices, as MONAI Label's /info/ lists them.
    """

    model: str
    images: Callable[[], Collection[str]]
    devices: Collection[str] = ()


def parse_json(text: str | bytes) -> Any:
    """Read JSON. Refuse objects with a key twice: readers differ in the value they take.

    Raises:
        Refused: no JSON, or a key twice.

    Example:
        >>> parse_json('{"min_area": 4}')
        {'min_area': 4}
    """
    try:
        return json.loads(text, object_pairs_hook=_unique) if text else {}
    except (ValueError, RecursionError) as error:
        raise Refused(f"the request is no JSON: {str(error)[:100]}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key twice")
    return dict(pairs)


def _image(value: str, info: ValidationInfo) -> str:
    if value and value not in _served(info).images():
        raise ValueError("expected the ID of an image in the datastore")
    return value


def _device(value: str, info: ValidationInfo) -> str:
    if value not in _served(info).devices and not re.fullmatch(r"cpu|mps|cuda(:\d{1,2})?", value):
        raise ValueError("expected cpu, mps, cuda, cuda:N, or a device of /info/")
    return value


def _served(info: ValidationInfo) -> Served:
    if not isinstance(info.context, Served):
        raise TypeError("checks of names need the context `Served`")
    return info.context


def _read(value: object) -> Any:
    return parse_json(value) if isinstance(value, str) else value


Id = Annotated[str, Field(max_length=255), AfterValidator(_image)]  # "": the image comes along
Device = Annotated[str, Field(max_length=100), AfterValidator(_device)]
Text = Annotated[str, Field(max_length=100)]
Gpus = Annotated[str, Field(pattern=r"^(all|\d{1,2}(,\d{1,2}){0,15})?$")]
Weights = Annotated[str, Field(pattern=r"^model(\.\d{1,6})?\.pt$")]
Logging = Literal["DEBUG", "INFO", "WARNING", "ERROR", "debug", "info", "warning", "error"]
Nothing = Literal["", "None", "none"] | None
Workers = Annotated[int, Field(ge=0, le=64)]
Pixels = Annotated[int, Field(ge=0, le=10**9)]
Pair = Annotated[list[Annotated[int, Field(ge=0, le=10**7)]], Field(min_length=2, max_length=2)]
Points = Annotated[list[Annotated[list[int], Field(min_length=2, max_length=3)]], Field(max_length=1000)]
Suffix = Literal[".png", ".tif", ".tiff", ".bmp", ".nii.gz", ".nii", ".mha", ".nrrd"]


class Body(BaseModel):
    """Keys of a JSON object. Texts are not converted to numbers."""

    model_config = ConfigDict(extra="forbid", strict=True)

    client_id: Text | None = None  # MONAI Label's Python client adds its name everywhere


class Options(Body):
    """Options of a label, as in the key `displayable_configs` of configs/inference.yaml."""

    instances: bool = False
    orientations: Literal[1, 4, 8] = 1
    threshold: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.5
    min_area: Pixels = 0
    fill_holes: Pixels = 0
    split_necks: Annotated[float, Field(ge=0, le=10_000, allow_inf_nan=False)] = 0
    close_gaps: Annotated[int, Field(ge=0, le=20)] = 0  # 50 takes 30 s for 1000 x 1000 pixels


class Inference(Options):
    """Options of an inference, and how its label is written."""

    device: Device = "cpu"
    model_filename: Weights = "model.pt"
    logging: Logging = "INFO"
    output: Literal["asap", "dsa", "json"] = "json"
    min_poly_area: Pixels = 0
    result_extension: Suffix | None = None
    result_dtype: Literal["uint8", "uint16", "uint32", "int16", "int32"] | None = None
    result_compress: bool = False
    save_label: bool = False
    label_tag: Literal["original"] = "original"


class ByQuPath(Inference):
    """QuPath also sends clicks and a number of threads, without effect here."""

    foreground: Points = []
    background: Points = []
    max_workers: Workers = 0


class Region(Body):
    """Inference with polygons as the answer. Region and tile have no effect here."""

    level: Annotated[int, Field(ge=0, le=20)] = 0
    location: Pair = [0, 0]
    size: Pair = [0, 0]
    tile_size: Pair = [1024, 1024]
    min_poly_area: Pixels = 0
    params: ByQuPath = ByQuPath()


class Batch(Inference):
    """Inference of many images."""

    images: Literal["all", "labeled", "unlabeled"] | Annotated[list[Id], Field(max_length=100_000)] = "all"
    multi_gpu: bool = True
    gpus: Gpus = "all"
    max_workers: Workers = 1
    max_batch_size: Pixels = 0


class Train(Body):
    """A training. 3D Slicer and QuPath send all keys of /info/, also empty ones."""

    device: Device = "cpu"
    pretrained: bool = True
    max_epochs: Annotated[int, Field(ge=1, le=10_000)] = 50
    val_split: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.2
    multi_gpu: bool = True
    gpus: Gpus = "all"
    model_filename: Weights = "model.pt"
    run_id: Literal["", "run"] = ""
    tracking: Nothing = ""  # a path, which MONAI would run as a configuration
    tracking_uri: Nothing = ""
    tracking_experiment_name: Nothing = ""


class Sample(Body):
    """The next image. QuPath also sends the image on its screen, without effect here."""

    image: Id = ""
    patch_size: Pair = [0, 0]
    image_size: Pair = [0, 0]


class Scoring(Body):
    """Scores of the images without labels."""

    max_samples: Pixels = 0
    simulation_size: Annotated[int, Field(ge=1, le=100)] = 5
    device: Device = "cpu"
    multi_gpu: bool = False
    gpus: Gpus = "all"
    max_workers: Workers = 1
    logging: Logging = "INFO"


class Segment(BaseModel):
    """A class in a submitted label, from 3D Slicer."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Text
    idx: Annotated[int, Field(ge=0, le=65535)] = 0


class Submission(Body):
    """Facts about a submitted label."""

    label_info: Annotated[list[Segment], Field(max_length=1000)] = []


class Fields(BaseModel):
    """Keys of a query or a form: texts, converted like MONAI Label does."""

    model_config = ConfigDict(extra="forbid")


class InferQuery(Fields):
    """An image of the datastore, or of a session."""

    image: Id = ""
    session_id: Annotated[str, Field(pattern=r"^([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})?$")] = ""
    output: Literal["image", "json", "all"] | None = None


class RegionQuery(InferQuery):
    """As `InferQuery`, with other formats of the answer."""

    output: Literal["asap", "dsa", "json"] | None = None  # type: ignore[assignment]


class BatchQuery(Fields):
    """Which images to label."""

    images: Literal["all", "labeled", "unlabeled"] = "all"
    run_sync: bool = False


class RunQuery(Fields):
    """Whether the answer waits for the end of the work."""

    run_sync: bool = False
    enqueue: bool = False


class StatusQuery(Fields):
    """Which tasks to list."""

    all: bool = False
    check_if_running: bool = False


class StoreQuery(Fields):
    """How to list the datastore."""

    output: Literal["train", "stats", "all"] | None = None


class ImageQuery(Fields):
    """An image of the datastore."""

    image: Id
    check_sum: Annotated[str, Field(pattern=r"^([A-Za-z0-9]{1,10}:)?[0-9a-fA-F]{1,128}$")] | None = None


class LabelQuery(Fields):
    """A label of the datastore."""

    label: Id
    tag: Literal["final", "original"]


class LabelCheck(Fields):
    """A label of the datastore, by the name that MONAI Label wants for HEAD."""

    image: Id
    tag: Literal["final", "original"]


class SubmitQuery(Fields):
    """The image of a submitted label."""

    image: Annotated[Id, Field(min_length=1)]
    tag: Literal["final", "original", ""] = "final"


class SessionQuery(Fields):
    """How long to keep an image."""

    expiry: Annotated[int, Field(ge=0, le=86400)] = 0
    uncompress: Literal["false", "False", "0"] = "false"  # MONAI Label unpacks archives without checks of their paths


class OpenSessionQuery(Fields):
    """Whether to answer with the image."""

    update_ts: bool = False
    image: bool = False


class InferForm(Fields):
    """Options of an inference, as JSON."""

    params: Annotated[Inference, BeforeValidator(_read)] = Inference()


class RegionForm(Fields):
    """Options of an inference with polygons, as JSON."""

    wsi: Annotated[Region, BeforeValidator(_read)] = Region()


class SubmitForm(Fields):
    """Facts about a label, as JSON."""

    params: Annotated[Submission, BeforeValidator(_read)] = Submission()


class SessionForm(Fields):
    """The image itself is a file."""

    client_id: Text | None = None
