"""The table of requests for MONAI Label. Requests missing here are refused."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError

from . import keys
from .keys import Refused, Served

IMAGES = (".png", ".tif", ".tiff", ".bmp", ".jpg", ".jpeg", ".nii.gz", ".nii", ".mha", ".nrrd")
LABELS = (".png", ".tif", ".tiff", ".bmp", ".nii.gz", ".nii", ".mha", ".nrrd", ".xml")  # JPEG would blur the numbers
SMALL = 2**20  # bytes of a request without files
LARGE = 2**30  # bytes of a request with a file: an image of 16 bit and 20000 x 20000 pixels has 0.8 GB
SHOWN = 60  # characters of a refused value in a message


@dataclass(frozen=True)
class Endpoint:
    """A row of the table: methods and path, and the models of query, JSON body or form.

    Args:
        files: field of an uploaded file -> endings.
    """

    methods: tuple[str, ...]
    path: str
    query: type[keys.Fields] = keys.Fields
    body: type[keys.Body] | None = None
    form: type[keys.Fields] | None = None
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def limit(self) -> int:
        """Largest body in bytes."""
        return LARGE if self.files else SMALL if self.body or self.form else 0


READ = ("GET",)
SESSION = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
ENDPOINTS = (
    Endpoint(READ, "/info/"),
    Endpoint(("POST",), "/infer/{model}", keys.InferQuery, form=keys.InferForm, files={"file": IMAGES}),
    Endpoint(("POST",), "/infer/wsi/{model}", keys.RegionQuery, keys.Region),
    Endpoint(("POST",), "/infer/wsi_v2/{model}", keys.RegionQuery, form=keys.RegionForm, files={"file": IMAGES}),
    Endpoint(("POST",), "/batch/infer/{model}", keys.BatchQuery, keys.Batch),
    Endpoint(("GET", "DELETE"), "/batch/infer", keys.StatusQuery),
    Endpoint(("POST",), "/train/{model}", keys.RunQuery, keys.Train),
    Endpoint(("GET", "DELETE"), "/train/", keys.StatusQuery),
    Endpoint(("POST",), "/activelearning/(first|random|epistemic)", body=keys.Sample),
    Endpoint(("POST",), "/scoring/{model}", keys.RunQuery, keys.Scoring),
    Endpoint(("GET", "DELETE"), "/scoring/", keys.StatusQuery),
    Endpoint(READ, "/datastore/", keys.StoreQuery),
    Endpoint(("GET", "HEAD"), "/datastore/image", keys.ImageQuery),
    Endpoint(READ, "/datastore/image/info", keys.ImageQuery),
    Endpoint(READ, "/datastore/label", keys.LabelQuery),
    Endpoint(("HEAD",), "/datastore/label", keys.LabelCheck),
    Endpoint(("PUT",), "/datastore/label", keys.SubmitQuery, form=keys.SubmitForm, files={"label": LABELS}),
    Endpoint(READ, "/datastore/label/info", keys.LabelQuery),
    Endpoint(("PUT",), "/session/", keys.SessionQuery, form=keys.SessionForm, files={"files": IMAGES}),
    Endpoint(("GET", "DELETE"), f"/session/{SESSION}", keys.OpenSessionQuery),
)


def find_endpoint(method: str, path: str, model: str) -> Endpoint:
    """Find the row of a request.

    Raises:
        Refused: no row has the method and the path.

    Example:
        >>> find_endpoint("POST", "/train/unet", model="unet").body.__name__
        'Train'
    """
    for endpoint in ENDPOINTS:
        pattern = endpoint.path.replace("{model}", re.escape(model))
        if method in endpoint.methods and re.fullmatch(pattern, path):
            return endpoint
    raise Refused(f"{method} {path[:SHOWN]} is not served. GET / lists the served requests")


def check_keys(model: type[BaseModel], values: object, served: Served, where: str) -> None:
    """Check keys and values of a query, a form or a JSON body.

    Raises:
        Refused: unknown key, wrong type, or value out of range. The message names key and value.

    Example:
        >>> check_keys(keys.Options, {"close_gaps": 100_000}, Served("unet", list), "body")
        Traceback (most recent call last):
        ...
        bundle.labelling.guard.keys.Refused: body: 'close_gaps' is '100000': Input should be less than or equal to 20
    """
    try:
        model.model_validate(values, context=served)
    except ValidationError as error:
        raise Refused(f"{where}: " + "; ".join(map(_reason, error.errors()[:5]))) from error


def _reason(error: Mapping[str, Any]) -> str:
    key = "/".join(part for part in map(str, error["loc"]) if "[" not in part) or "value"  # without parts of unions
    if error["type"] == "extra_forbidden":
        return f"'{key[:SHOWN]}' is no key of this request"
    if error["type"] == "missing":
        return f"'{key}' is missing"
    return f"'{key[:SHOWN]}' is {str(error['input'])[:SHOWN]!r}: {error['msg'].removeprefix('Value error, ')}"


def check_files(endpoint: Endpoint, files: Collection[tuple[str, str]]) -> None:
    """Check uploaded files, pairs of field and file name: a single file for each field, with a known ending.

    Raises:
        Refused: unknown field, two files for a field, or unknown ending.

    Example:
        >>> submit = find_endpoint("PUT", "/datastore/label", "unet")
        >>> check_files(submit, [("label", "cells.png")])
    """
    if len({key for key, _ in files}) < len(files):
        raise Refused("form: two files for a field, expected a single file")
    for key, name in files:
        endings = endpoint.files.get(key)
        if endings is None:
            raise Refused(f"form: '{key[:SHOWN]}' is no file of this request")
        if not name.lower().endswith(endings) or len(name) > 255 or not name.isprintable():
            raise Refused(f"form: file '{name[-SHOWN:]}' must end in {', '.join(endings)}")


def check_content(name: str, head: bytes) -> None:
    """Refuse uploaded files with a header naming further files: the server would read files of its own disk.

    Args:
        name: of the file.
        head: its first MiB.

    Raises:
        Refused: an NRRD or MHA file without its pixels.

    Example:
        >>> check_content("a.mha", b"ObjectType = Image\\nElementDataFile = LOCAL\\n")
    """
    if name.lower().endswith(".nrrd"):
        header = head.replace(b"\r\n", b"\n").partition(b"\n\n")
        keys_ = [re.sub(rb"\s", b"", line.partition(b":")[0]).lower() for line in header[0].split(b"\n")]
        inside = bool(header[1]) and b"datafile" not in keys_
    elif name.lower().endswith(".mha"):
        # readers take the first line with the key, and divide it by the first of = and :
        lines = re.findall(rb"(?i)([^\n]*)elementdatafile([^\n]*)\n", head)
        inside = (
            len(lines) == 1 and not lines[0][0].strip() and bool(re.fullmatch(rb"(?i)\s*[=:]\s*LOCAL\s*", lines[0][1]))
        )
    else:
        return
    if not inside:
        raise Refused(
            f"form: the header of '{name[-SHOWN:]}' must end within 1 MiB, and the pixels follow in the same file"
        )
