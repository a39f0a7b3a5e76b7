"""Make weights by hand: a network that finds bright cells, without a training."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

FEATURES = (2, 4, 8, 16, 32)


def bright_cells(features: tuple[int, ...] = FEATURES) -> dict[str, torch.Tensor]:
    """Get the state of a U-Net with class 1 where the image is bright: the upper level passes the image on."""
    generator = torch.Generator().manual_seed(0)
    state: dict[str, torch.Tensor] = {}

    def add(name: str, *shape: int, bias: int) -> None:
        state[f"{name}.weight"] = torch.randn(shape, generator=generator) * 1e-3
        state[f"{name}.bias"] = torch.zeros(bias)

    for level, (above, here) in enumerate(zip((1, *features), features, strict=False)):
        first = int(level > 0)
        add(f"contracting.{level}.{first}", here, above, 3, 3, bias=here)
        add(f"contracting.{level}.{first + 2}", here, here, 3, 3, bias=here)
    for level, here in enumerate(reversed(features[:-1])):
        below = features[-1 - level]
        add(f"expansive.{level}.up", below, here, 2, 2, bias=here)
        add(f"expansive.{level}.convolutions.0", here, 2 * here, 3, 3, bias=here)
        add(f"expansive.{level}.convolutions.2", here, here, 3, 3, bias=here)
    last = f"expansive.{len(features) - 2}.convolutions"
    for name in ("contracting.0.0", "contracting.0.2", f"{last}.0", f"{last}.2"):
        state[f"{name}.weight"][0] = 0
        state[f"{name}.weight"][0, 0, 1, 1] = 1
    state["scores.weight"] = torch.tensor([[0.0, 0.0], [4.0, 0.0]]).reshape(2, 2, 1, 1)
    if features[0] > 2:
        state["scores.weight"] = torch.cat([state["scores.weight"], torch.zeros(2, features[0] - 2, 1, 1)], dim=1)
    state["scores.bias"] = torch.tensor([0.0, -4.8])
    return state


def write_weights(folder: Path, state: Any = None, features: tuple[int, ...] = FEATURES, **settings: Any) -> Path:
    """Write `model.pt` and `model.json` beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(bright_cells(features) if state is None else state, folder / "model.pt")
    checksum = hashlib.sha256((folder / "model.pt").read_bytes()).hexdigest()
    known = {
        "format": 1,
        "sha256": checksum,
        "network": {"features": list(features)},
        "label_kind": "instances",
        **settings,
    }
    (folder / "model.json").write_text(json.dumps(known))
    return folder / "model.pt"
