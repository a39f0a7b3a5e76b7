"""A data set for folders of images of which some may be damaged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai.data import Dataset


class TolerantDataset(Dataset):
    """MONAI's `Dataset`, but an item that fails is given as {"failure": "path: what went wrong"} instead of raising.

    For inference only, with batches of one: a truncated file in a folder must not stop the others. `FolderEvaluator`
    passes such items over and reports them at the end.

    Args:
        data: items {"image": address, ...}.
        transform: what loads and prepares an item.
        name_key: the entry that names an item in messages.
    """

    def __init__(self, data: Any, transform: Any = None, name_key: str = "image") -> None:
        super().__init__(data, transform)
        self.name_key = name_key

    def _transform(self, index: int) -> Any:
        try:
            return super()._transform(index)
        except Exception as error:  # the purpose of this class: whatever a file does, the other files are served
            item = self.data[index]
            name = item.get(self.name_key, index) if isinstance(item, Mapping) else index
            return {"failure": describe_failure(str(name), error)}


def describe_failure(name: str, error: BaseException) -> str:
    """`path: what went wrong` in one line, without MONAI's frames around it ("applying transform ...")."""
    while error.__cause__ is not None and str(error).startswith("applying transform"):
        error = error.__cause__
    reason = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, KeyError):
        reason = f"no entry {reason}"
    return reason if reason.startswith(name.split("#page=")[0]) else f"{name}: {reason}"
