"""Read files of weights: plain tensors only, with the names, shapes and numbers of a network."""

from __future__ import annotations

import logging
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..networks.arguments import described

logger = logging.getLogger(__name__)


def read_tensors(path: Path, expected: Mapping[str, torch.Tensor], partly: bool = False) -> Mapping[str, torch.Tensor]:
    """Read weights for a network. Code in the file is never run.

    Args:
        path: a flat state_dict, or a training's state with the key "model", and "average" for averaged weights.
        expected: the state_dict of the network.
        partly: return the layers that fit the network. A line in the log lists the other layers.

    Raises:
        ValueError: the file is damaged or of another kind, holds anything but tensors, names, shapes or dtypes differ
            from the network's, or numbers are NaN or infinite. The message names the file, the reason and the remedy.
            With `partly`, other widths of the network are refused, and files without any layer that fits.

    Example:
        >>> network = torch.nn.Linear(2, 1)
        >>> torch.save(network.state_dict(), "model.pt")
        >>> list(read_tensors(Path("model.pt"), network.state_dict()))
        ['weight', 'bias']
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about kinds of files that are refused below
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises pickle, zip, runtime and end-of-file errors here
        raise ValueError(
            f"weights: {path} is not a file of plain tensors: {_why_unreadable(path, error)}. Expected a state_dict, "
            "such as the model.pt of a training"
        ) from None  # torch's message would advise to load code
    tensors = state
    if isinstance(state, Mapping) and "model" in state:
        tensors = state.get("average", state["model"])  # as validated and saved
        if "trainer" in state:
            logger.warning(
                f"{path} is the state of a training: its weights are those of the last step. The best weights are in "
                "the model.pt beside it"
            )
    if not isinstance(tensors, Mapping):
        raise ValueError(
            f"weights: {path} holds a {type(tensors).__name__}, expected a state_dict: names and tensors. Give the "
            "model.pt of a training"
        )
    _check_tensors(path, tensors)
    _check_arguments(path, tensors, expected, ("features",) if partly else ("in_channels", "out_channels", "features"))
    if partly:
        return _fitting(path, tensors, expected)
    _check_shapes(path, tensors, expected)
    return tensors


def _why_unreadable(path: Path, error: Exception) -> str:
    """Say in a few words why torch cannot load a file as plain tensors."""
    text = str(error)
    code = re.search(r"GLOBAL ([\w.]+)", text)
    if path.stat().st_size == 0:
        return "it is empty"
    if "TorchScript" in text:
        return "it is an exported network, which segment takes as backend, with the suffix .ts"
    if code is not None:
        return f"it holds Python objects ({code[1]}), which are programs. Ask for the weights alone"
    if zipfile.is_zipfile(path):
        return "it is a zip file of other things, or damaged inside"
    with path.open("rb") as file:
        begins_as_zip = file.read(2) == b"PK"
    if begins_as_zip:
        return "it is cut off. Copy or download it again"
    return f"it is of another kind, or damaged ({type(error).__name__})"


def _check_tensors(path: Path, tensors: Mapping[str, Any]) -> None:
    """Raise ValueError unless all entries are named tensors."""
    others = [name for name, values in tensors.items() if not (isinstance(name, str) and torch.is_tensor(values))]
    if others or not tensors:
        entries = ", ".join(list(map(str, tensors))[:5]) or "nothing"
        raise ValueError(
            f"weights: {path} holds {entries}, expected a state_dict: names and tensors. Save the tensors alone"
        )


def _check_arguments(
    path: Path, tensors: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], names: Sequence[str]
) -> None:
    """Raise ValueError if arguments of the network differ from those of the weights."""
    own, found = described(expected), described(tensors)
    for name in names:
        if name in own and name in found and own[name] != found[name]:
            key = name if name != "features" else "network_def#features"
            raise ValueError(
                f"weights: {path} does not fit the network: {name} {found[name]} in the weights, {own[name]} in the "
                f"network. Set {key} to {found[name]}, or give other weights"
            )


def _fits(values: torch.Tensor, expected: torch.Tensor) -> bool:
    return values.shape == expected.shape and values.is_floating_point() == expected.is_floating_point()


def _fitting(
    path: Path, tensors: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]
) -> Mapping[str, torch.Tensor]:
    """Choose the layers that fit a network as a whole. A line in the log names the others."""

    def layer(name: str) -> str:
        return name.rpartition(".")[0] or name

    new = {layer(name) for name, own in expected.items() if name not in tensors or not _fits(tensors[name], own)}
    chosen = {name: tensors[name] for name in expected if layer(name) not in new}
    if not chosen:
        raise ValueError(
            f"weights: no layer of {path} fits the network, for example {next(iter(tensors))}. Use the network of the "
            "weights (network_def, overlays), or other weights"
        )
    _check_finite(path, chosen)
    layers = dict.fromkeys(map(layer, expected))
    unused = [name for name in dict.fromkeys(map(layer, tensors)) if name not in layers]
    told = f"{len(layers) - len(new)} of {len(layers)} layers are those of {path}"
    if new:
        told += f"; initialised anew: {', '.join(name for name in layers if name in new)}"
    logger.info(told + (f"; not used: {', '.join(unused)}" if unused else ""))
    return chosen


def _check_shapes(path: Path, tensors: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    """Raise ValueError unless names, shapes and kinds of numbers are those of a network."""
    wrong = [f"{name} is missing" for name in expected.keys() - tensors.keys()]
    wrong += [f"{name} is unknown" for name in tensors.keys() - expected.keys()]
    wrong += [
        f"{name} has the shape {tuple(values.shape)} {values.dtype}, expected {tuple(expected[name].shape)}"
        for name, values in tensors.items()
        if name in expected and not _fits(values, expected[name])
    ]
    if wrong:
        raise ValueError(
            f"weights: {path} does not fit the network. Use the configuration of its training (network_def, overlays). "
            f"{'; '.join(sorted(wrong)[:3])}{f'; {len(wrong) - 3} more' if len(wrong) > 3 else ''}"
        )
    _check_finite(path, tensors)


def _check_finite(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Raise ValueError for weights with NaN or infinite numbers."""
    broken = [name for name, values in tensors.items() if not bool(torch.isfinite(values).all())]
    if broken:
        raise ValueError(
            f"weights: {path} has NaN or infinite numbers in {len(broken)} of {len(tensors)} tensors, first in "
            f"{broken[0]}. The training went wrong, or the file is damaged: use other weights"
        )
