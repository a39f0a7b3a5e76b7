"""Record the training data and the final weights of each process, for the test with two processes."""

from __future__ import annotations

import hashlib
import json
import signal
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


class Signalling:
    """Send a signal to the own process during a step of a training, or during the validation of an epoch.

    Args:
        number: of the signal, e.g. 15 for SIGTERM.
        step: number of the step. 0: none.
        evaluator: the validating engine.
        epoch: epoch whose validation gets the signal. 0: none.
    """

    def __init__(self, number: int, step: int = 0, evaluator: Engine | None = None, epoch: int = 0) -> None:
        self.number = number
        self.step = step
        self.evaluator = evaluator
        self.epoch = epoch

    def attach(self, trainer: Engine) -> None:
        if self.step:
            trainer.add_event_handler(Events.ITERATION_STARTED(once=self.step), self.send)
        if self.evaluator is not None:
            self.evaluator.add_event_handler(Events.ITERATION_STARTED, self.look, trainer)

    def look(self, _: Engine, trainer: Engine) -> None:
        if trainer.state.epoch == self.epoch:
            self.send()

    def send(self, *_: object) -> None:
        signal.raise_signal(self.number)
