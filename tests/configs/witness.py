"""Record the training data and the final weights of each process, for the test with two processes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
import torch.distributed as dist
from ignite.engine import Engine, Events


class Witness:
    """Record image names, a digest of the tiles and of the final weights, per process."""

    def __init__(self, folder: str, network: torch.nn.Module) -> None:
        self.folder = Path(folder)
        self.network = network
        self.images: list[list[str]] = []
        self.tiles = hashlib.sha256()

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.look)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.name)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def look(self, engine: Engine) -> None:
        self.tiles.update(engine.state.output[0]["image"].numpy().tobytes())

    def name(self, engine: Engine) -> None:
        """Tiles have no names; the sampler has the numbers of the images."""
        loader = engine.data_loader
        self.images.append(sorted(Path(loader.dataset.data[k]["image"]).name for k in loader.sampler))

    def write(self, _: Engine) -> None:
        digest = hashlib.sha256()
        for value in self.network.state_dict().values():
            digest.update(value.contiguous().numpy().tobytes())
        content = {"images": self.images, "tiles": self.tiles.hexdigest(), "weights": digest.hexdigest()}
        (self.folder / f"rank{dist.get_rank()}.json").write_text(json.dumps(content))
