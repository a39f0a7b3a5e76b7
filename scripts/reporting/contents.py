"""Check the JSON files of a run before a report uses them: they may be damaged, edited, or come from elsewhere."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..handlers.run_file import RUN
from ..io.record import RECORD

Number = float | None  # null stands for NaN
_Names = Annotated[list[str], Field(min_length=1)]  # a file for each channel

_Page = Annotated[int, Field(ge=0, lt=10**6)]


class _Content(BaseModel):
    """Keys that a report reads. Other keys are free."""

    model_config = ConfigDict(extra="allow", strict=True)


class _Record(_Content):
    folder: str | None = None
    data: str | None = None
    items: list[dict[str, str | _Names]] = []
    weights: str | None = None
    settings: dict[str, str] = {}
    versions: dict[str, str] = {}
    hardware: dict[str, str | float] = {}
    command: str = ""
    started: str | None = None
    seconds: Number = None
    failures: list[str] = []


class _Metrics(_Content):
    split: str | None = None
    mean: dict[str, Number] = {}


class _Level(_Content):
    threshold: float
    f1: Number = None
    precision: Number = None
    recall: Number = None


class _Objects(_Content):
    seg: Number = None
    det: Number = None
    reference_objects: int = 0
    instances: list[_Level] = []


class _Best(_Content):
    score: Number = None
    threshold: float


class _Curve(_Content):
    f: list[Number]
    precision: list[Number] = []
    recall: list[Number] = []


class _Curves(_Content):
    thresholds: list[float] = []
    v_rand: _Curve | None = None
    v_info: _Curve | None = None

    @model_validator(mode="after")
    def _check_lengths(self) -> _Curves:
        lines = [line for curve in (self.v_rand, self.v_info) if curve for line in (curve.f, *_given(curve))]
        if any(len(line) != len(self.thresholds) for line in lines):
            raise ValueError(f"expected {len(self.thresholds)} values in each curve, as many as thresholds")
        return self


def _given(curve: _Curve) -> list[list[Number]]:
    return [getattr(curve, name) for name in ("precision", "recall") if name in curve.model_fields_set]


class _Membranes(_Content):
    split: str | None = None
    slices: int = 0
    v_rand: _Best | None = None
    v_info: _Best | None = None
    curves: _Curves = _Curves()


class _Finished(_Content):
    image: str
    pages: Annotated[list[_Page | None], Field(min_length=2)] | None = None


class _Split(_Content):
    training: list[Any] = []
    validation: list[Any] = []


CONTENTS: dict[str, type[_Content]] = {
    RUN: _Record,
    "metrics.json": _Metrics,
    "object_metrics.json": _Objects,
    "em_metrics.json": _Membranes,
    "split.json": _Split,
    RECORD: _Finished,
}


def check_content(name: str, content: Any) -> dict[str, Any]:
    """Return the content of a JSON file, if its keys have the types that a report expects.

    Args:
        name: of the file, a key of `CONTENTS`.
        content: of the file; of a line in "results.jsonl".

    Raises:
        ValueError: another type. The message names the key.

    Example:
        >>> check_content("split.json", {"training": ["a.png"]})
        {'training': ['a.png']}
        >>> check_content("split.json", {"training": 5})
        Traceback (most recent call last):
        ValueError: training: Input should be a valid list
    """
    try:
        CONTENTS[name].model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{place}: {first['msg']}" if place else f"expected an object: {first['msg']}") from None
    return dict(content)
