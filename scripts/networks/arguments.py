"""Check the arguments of the network before anything is allocated, and count its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from itertools import pairwise
from typing import Annotated, Any, Literal

import torch
from monai.networks.layers.factories import Norm
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..io.memory import available_memory

MAX_LEVELS = 10  # the smallest input of 10 levels has 12284 x 12284 pixels
Channels = Annotated[int, Field(ge=1)]


class NetworkArguments(BaseModel):
    """Arguments of `RonnebergerUNet`, with the type and range of each. The descriptions are for messages.

    Raises:
        pydantic.ValidationError (a ValueError): see `checked`.

    Example:
        >>> NetworkArguments(features=[4, 8]).up_kernel_size
        2
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    spatial_dims: Literal[1, 2, 3] = Field(2, description="1, 2 or 3")
    in_channels: Channels = Field(1, description="a whole number of at least 1")
    out_channels: Channels = Field(2, description="a whole number of at least 1")
    features: Annotated[list[Channels], Field(min_length=2, max_length=MAX_LEVELS)] = Field(
        [64, 128, 256, 512, 1024],
        description=f"the channels of 2 to {MAX_LEVELS} levels, whole numbers of at least 1, such as [64, 128, 256]",
    )
    dropout: float = Field(0.5, ge=0, lt=1, description="a rate from 0 to below 1")
    dropout_at: Literal["contracting_end", "stages"] = Field(
        "contracting_end", description="'contracting_end' or 'stages'"
    )
    padding: Literal["valid", "same"] = Field("valid", description="'valid' or 'same'")
    norm: str | list[Any] | None = Field(None, description="null, or a normalisation of MONAI such as batch")
    up_kernel_size: Literal[2, 3] = Field(2, description="2 or 3")
    up_features: list[Channels] | None = Field(
        None, description="null, or whole numbers of at least 1, a number less than in features"
    )
    up_activation: bool = Field(False, description="true or false")
    concat: Literal["skip_first", "up_first"] = Field("skip_first", description="'skip_first' or 'up_first'")
    retain_dim: bool = Field(False, description="true or false")


def checked(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Check arguments of the network and add the defaults.

    Args:
        arguments: names and values. Tuples count as lists.

    Returns:
        all arguments, ready to be written as JSON. `up_features` is a list.

    Raises:
        ValueError: an unknown name, a wrong type or value, or more weights than fit the free memory. The
            message names the argument, its value and what was expected.

    Example:
        >>> checked({"features": (4, 8, 16)})["up_features"]
        [4, 8]
    """
    given = {name: list(value) if isinstance(value, tuple) else value for name, value in arguments.items()}
    try:
        whole = NetworkArguments.model_validate(given).model_dump()
    except ValidationError as error:
        names = dict.fromkeys(str(one["loc"][0]) for one in error.errors())
        raise ValueError(". ".join(_wrong(name, given.get(name)) for name in names)) from None
    if whole["up_features"] is None:
        whole["up_features"] = whole["features"][:-1]
    if len(whole["up_features"]) != len(whole["features"]) - 1:
        raise ValueError(
            f"up_features is {whole['up_features']}, expected one level less than features ({whole['features']})"
        )
    _check_norm(whole["norm"])
    _check_memory(whole)
    return whole


def weight_count(arguments: Mapping[str, Any]) -> int:
    """Count the weights of a network's convolutions, without biases and normalisation.

    Args:
        arguments: all arguments, see `checked`.

    Example:
        >>> weight_count(checked({}))  # of 31030658 parameters of the paper's network
        31023808
    """
    dims, features = arguments["spatial_dims"], arguments["features"]
    taps, up_taps = 3**dims, arguments["up_kernel_size"] ** dims
    count = sum(taps * (above + here) * here for above, here in pairwise((arguments["in_channels"], *features)))
    for (here, below), up in zip(pairwise(features), arguments["up_features"], strict=True):
        count += up_taps * below * up + taps * (here + up + here) * here
    return int(count + features[0] * arguments["out_channels"])


def described(state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Read channels and width of a `RonnebergerUNet` from the shapes of its weights.

    Args:
        state: flat state_dict.

    Returns:
        `in_channels`, `out_channels` and `features`. Empty for weights of another class of network.

    Example:
        >>> from scripts.networks.unet import RonnebergerUNet
        >>> described(RonnebergerUNet(features=(4, 8)).state_dict())
        {'in_channels': 1, 'out_channels': 2, 'features': [4, 8]}
    """
    features: list[int] = []
    first: torch.Tensor | None = None
    for name, values in state.items():
        level = name.split(".")[1:2] if name.startswith("contracting.") and name.endswith(".weight") else []
        if level == [str(len(features))] and values.ndim > 2:  # the first convolution of the level
            features.append(values.shape[0])
            first = values if first is None else first
    scores = state.get("scores.weight")
    if first is None or scores is None or scores.ndim == 0:
        return {}
    return {"in_channels": first.shape[1], "out_channels": scores.shape[0], "features": features}


def _wrong(name: str, value: Any) -> str:
    """Say what is wrong with an argument."""
    field = NetworkArguments.model_fields.get(name)
    if field is not None:
        return f"{name} is {value!r}, expected {field.description}"
    near = get_close_matches(name, NetworkArguments.model_fields, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f". Expected {', '.join(NetworkArguments.model_fields)}"
    return f"the network takes no argument {name!r}{hint}"


def _check_norm(norm: str | Sequence[Any] | None) -> None:
    """Raise ValueError for a normalisation that MONAI does not have."""
    name = norm if isinstance(norm, str) or norm is None else next(iter(norm), "")
    if name is not None and str(name).upper() not in Norm.names:
        raise ValueError(f"norm is {norm!r}, expected null or one of {', '.join(map(str.lower, Norm.names))}")


def _check_memory(arguments: Mapping[str, Any]) -> None:
    """Raise ValueError for weights larger than the free memory."""
    needed, there = 4 * weight_count(arguments), available_memory()
    if needed > there:
        raise ValueError(
            f"features is {arguments['features']}: the weights would need {needed / 2**30:,.0f} GiB, and "
            f"{there / 2**30:,.0f} GiB of memory are free. Give fewer channels"
        )
