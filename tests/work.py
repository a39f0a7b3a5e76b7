"""Count work in units that do not depend on the machine: the operations of torch and their tensors."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

COPYING = ("aten.copy_", "aten._to_copy", "aten.clone")


class Described(NamedTuple):
    """A tensor without its values."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    bytes: int

    @property
    def numel(self) -> int:
        return prod(self.shape)


class Operation(NamedTuple):
    """An operation of torch: its name, the tensors read, the tensors made or written. Views are left out."""

    name: str
    inputs: tuple[Described, ...]
    made: tuple[Described, ...]


class Watch(TorchDispatchMode):
    """While entered, remember every operation, those of the way back too."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inputs = _described((args, kwargs))
        out = func(*args, **(kwargs or {}))
        returned = out if isinstance(out, tuple | list) else (out,)
        is_view = [item.alias_info is not None and not item.alias_info.is_write for item in func._schema.returns]
        made = _described([item for item, view in zip(returned, is_view, strict=False) if not view])
        self.operations.append(Operation(func._schema.name.replace("::", "."), inputs, made))
        return out

    def count(self, name: str) -> int:
        """How often an operation ran."""
        return sum(operation.name == name for operation in self.operations)

    def copied(self) -> int:
        """Bytes written by operations that do nothing but copy, or convert to another type or layout."""
        return sum(made.bytes for operation in self.operations if operation.name in COPYING for made in operation.made)

    def made(self) -> list[Described]:
        """Every tensor that was made, those in place left out."""
        return [made for operation in self.operations if not operation.name.endswith("_") for made in operation.made]


def _described(tree: Any) -> tuple[Described, ...]:
    tensors = (leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor))
    return tuple(Described(tuple(t.shape), t.stride(), t.numel() * t.element_size()) for t in tensors)
