"""Hide packages from a process, as if they were not installed."""

from __future__ import annotations

import sys
from collections.abc import Collection
from importlib.machinery import ModuleSpec
from typing import Any

# libraries for special file formats, for exports and for MLflow
HEAVY = (
    "itk",
    "nibabel",
    "imagecodecs",
    "mlflow",
    "openvino",
    "onnx",
    "onnxruntime",
    "pydicom",
    "zarr",
    "ome_zarr_models",
    "dask",
    "distributed",
)
COMMAND_LINE = ("fire", "rich")


class _Without:
    """Find modules, except those of some packages."""

    def __init__(self, finder: Any, names: Collection[str]) -> None:
        self._finder = finder
        self._names = names

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return None if name.partition(".")[0] in self._names else self._finder.find_spec(name, path, target)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finder, name)


def hide(names: Collection[str]) -> None:
    """Hide packages from the process. Call before any import of the packages."""
    loaded = sorted({name.partition(".")[0] for name in sys.modules} & set(names))
    assert not loaded, f"already imported: {loaded}"
    sys.meta_path[:] = [_Without(finder, names) for finder in sys.meta_path]
