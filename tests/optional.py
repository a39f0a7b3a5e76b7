"""Skip tests if optional packages are not installed."""

from __future__ import annotations

import importlib.util

import pytest

from bundle.publishing.exporters import FORMATS

needs_onnx = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in FORMATS["onnx"].needs),
    reason="onnx, onnxscript or onnxruntime is not installed: pip install '.[onnx]'",
)
needs_napari = pytest.mark.skipif(
    importlib.util.find_spec("napari") is None, reason="napari is not installed: pip install '.[napari]'"
)
needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed: pip install '.[onnx,openvino]'"
)
