"""What a bioimage.io package says of the network: the content of rdf.yaml, and its documentation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bundle.errors import UsageError
from bundle.experiments.trained import Trained
from bundle.publishing.exporters import tile_sizes
from bundle.running.run import ROOT

FORMAT = "0.5.4"


def preprocessing(info: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The configuration's scaling of grey values in the format's own steps, by which other programs do the same."""
    if info["flatten"]:
        raise UsageError("bioimage.io's format has no step for flatten; make a package with weights trained without")
    each = {"axes": ["y", "x"]}  # every channel by itself
    if info["intensity"] == "z_score":
        steps = [{"id": "zero_mean_unit_variance", "kwargs": each}]
    else:  # to 0 .. 1, then to -1 .. 1
        scale = {"id": "scale_range", "kwargs": {**each, "min_percentile": 1.0, "max_percentile": 99.0}}
        steps = [scale, {"id": "scale_linear", "kwargs": {"gain": 2.0, "offset": -1.0}}]
    return [{"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}, *steps]


def description(trained: Trained, steps: list[dict[str, Any]], weights: Mapping[str, Any]) -> dict[str, Any]:
    """The content of rdf.yaml.

    Args:
        trained: the network.
        steps: of `preprocessing`.
        weights: format -> its entry: file, checksum, version.
    """
    meta, network = trained.parser["_meta_"], trained.network
    least, step = tile_sizes(network)
    lost = 2 * network.margin
    classes = network.out_channels
    names = list(trained.info["class_names"]) if classes > 1 else [trained.info["class_names"][-1]]
    channels = [f"channel_{i}" for i in range(network.in_channels)]
    inputs = {
        "id": "image",
        "description": "grey values of any scale; mirror the image at its edges for an answer as large as it",
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": channels},
            *({"type": "space", "id": axis, "size": {"min": least, "step": step}} for axis in "yx"),
        ],
        "data": {"type": "float32"},
        "preprocessing": steps,
        "test_tensor": {"source": "test_input.npy"},
        "sample_tensor": {"source": "sample_input.tif"},
    }
    outputs = {
        "id": "probabilities",
        "description": "probability of each class" + (f"; {network.margin} pixels a side are lost" if lost else ""),
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": names},
            *({"type": "space", "id": a, "size": {"tensor_id": "image", "axis_id": a, "offset": -lost}} for a in "yx"),
        ],
        "data": {"type": "float32", "range": [0.0, 1.0]},
        "postprocessing": [
            {"id": "sigmoid"} if classes == 1 else {"id": "softmax", "kwargs": {"axis": "channel"}},
        ],
        "test_tensor": {"source": "test_output.npy"},
        "sample_tensor": {"source": "sample_output.tif"},
    }
    return {
        "format_version": FORMAT,
        "type": "model",
        "name": meta["name"],
        "description": meta["description"],
        "version": meta["version"],
        "authors": [{"name": meta["authors"]}],
        "license": "Apache-2.0",
        "cite": [citation(text) for text in meta["references"]],
        "tags": ["unet2d", "segmentation", "semantic-segmentation", "2d", "pytorch", "cells", "electron-microscopy"],
        "documentation": {"source": "README.md"},
        "covers": [{"source": "cover.png"}],
        "inputs": [inputs],
        "outputs": [outputs],
        "weights": dict(weights),
        "config": {
            "bioimageio": {
                "architecture_type": "U-Net",
                "task": "segmentation",
                "out_of_scope_use": meta["intended_use"],
                "model_parameter_count": sum(weight.numel() for weight in network.parameters()),
            },
            "original_unet": trained.info,
        },
    }


def citation(text: str) -> dict[str, str]:
    """A reference of the metadata with its DOI, or the address of its preprint."""
    doi, preprint = re.search(r"doi (10\.\S+)", text), re.search(r"arXiv (\d+\.\d+)", text)
    if doi:
        return {"text": text, "doi": doi[1]}
    if preprint:
        return {"text": text, "url": f"https://arxiv.org/abs/{preprint[1]}"}
    raise UsageError(f"bioimage.io wants a DOI or a preprint in each reference of metadata.json, none in: {text}")


def documentation(trained: Trained) -> str:
    """README.md: how to use the package, then the model card."""
    least, step = tile_sizes(trained.network)
    lost = 2 * trained.network.margin
    card = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    return f"""# {trained.parser["_meta_"]["name"]}

Input: grey values, sides of {least} + {step} n pixels. Output: a probability for each of {trained.info["class_names"]},
{lost} pixels shorter and narrower than the input, centred in it. For an answer as large as the image extend it by
mirroring at its edges, {lost // 2} pixels a side and up to the next size that fits. Grey values are scaled over the
whole input: give whole images, or large tiles.

## Validation

Compare with labels of your own images before you rely on it: Dice and IoU per class on images that were not trained
with. How these weights were measured, and what falls short, is in the model card below. Weights sha256
{trained.info["weights_sha256"]}.

{card}"""
