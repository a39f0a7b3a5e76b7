"""Save weights and the state of a training, load them safely, and stop early."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint
from ignite.handlers.checkpoint import BaseSaveHandler
from monai.engines import Evaluator, Trainer
from torch import nn

from ..io.files import replacing
from ..settings import IN_STATE, ModelSettings, Training, write_weights
from .time_limit import TimeLimit
from .weights import read_tensors


class BestWeights:
    """Keep the weights of the best validation as a flat state_dict. Stop the training without further gain.

    The trainer's state keeps the best score and the count of validations without gain, also for a resumed training. A
    training without any validation saves the last weights, for example in MONAI Label with fewer than three labels.

    Args:
        path: file to write, e.g. models/model.pt; replaced atomically.
        network: the network to save.
        evaluator: its key metric decides; larger is better.
        patience: number of validations without gain before the training stops. 0: never stop.
        settings: written beside the weights, in models/model.json. None: the defaults.
        data: facts about the training data, from `scripts.data.describe_training`, for models/model.json.
    """

    def __init__(
        self,
        path: str | Path,
        network: nn.Module,
        evaluator: Evaluator,
        patience: int = 0,
        settings: ModelSettings | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = Path(path)
        self.network = network
        self.evaluator = evaluator
        self.patience = patience
        self.settings = settings
        self.data = dict(data or {})

    def attach(self, trainer: Trainer) -> None:
        """Compare after each validation of the training."""
        trainer.state_dict_user_keys.extend(["best_key_metric", "validations_without_gain"])
        state: Any = trainer.state
        state.best_key_metric, state.validations_without_gain = float("-inf"), 0
        self.evaluator.add_event_handler(Events.COMPLETED, self, trainer)
        trainer.add_event_handler(Events.COMPLETED, self._keep_last)

    def _keep_last(self, trainer: Trainer) -> None:
        state: Any = trainer.state
        if state.best_key_metric == float("-inf") and state.validations_without_gain == 0:
            save_weights(self.network, self.path, self.settings, Training(**self.data, epoch=state.epoch))
            trainer.logger.warning(f"no validation took place: the weights of the last epoch are in {self.path}")

    def __call__(self, evaluator: Engine, trainer: Trainer) -> None:
        """Compare the score of the finished validation with the best score."""
        name = evaluator.state.key_metric_name  # type: ignore[attr-defined]  # added by MONAI's Workflow
        score = float(evaluator.state.metrics[name])
        state: Any = trainer.state
        if score > state.best_key_metric:
            state.best_key_metric, state.validations_without_gain = score, 0
            facts = Training(**self.data, key_metric=name.removeprefix("val_"), best=score, epoch=state.epoch)
            save_weights(self.network, self.path, self.settings, facts)
            trainer.logger.info(f"best {name} so far: {score:.4f} in epoch {state.epoch}; weights in {self.path}")
            return
        state.validations_without_gain += 1
        if 0 < self.patience <= state.validations_without_gain:
            trainer.logger.info(f"no gain in {name} for {self.patience} validations: stopping early")
            trainer.terminate()


class _Saver(BaseSaveHandler):
    """Write a file whole or not at all. After a failure, ignite's `DiskSaver` would leave a part of the new file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, checkpoint: Mapping[str, Any], filename: str, metadata: Mapping[str, Any] | None = None) -> None:
        """Save the file, from the first process only."""
        if idist.get_rank() == 0:
            with replacing(self.path) as temporary, temporary.open("wb") as file:
                torch.save(checkpoint, file)  # given a path, torch would not say that the disk is full

    def remove(self, filename: str) -> None:
        """Keep the earlier file. The save replaces it atomically."""


class _Constant:
    """Add a fixed value to a saved state."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def state_dict(self) -> Any:
        return self.value


class TrainingState:
    """Save everything a training needs to continue, and continue from the saved file.

    Place after `Validation` and before handlers that may raise.

    Args:
        path: file to write, replaced atomically.
        objects: objects to save besides the trainer, e.g. {"model": ..., "optimizer": ..., "lr_scheduler": ...}.
        interval: epochs between two saves. The last epoch and an interruption (Ctrl-C) are always saved.
        resume: load `path` at the start, and continue with the next epoch.
        time_limit: with a limit, save at each tenth of the time instead of at intervals.
        settings: saved with the state, so that a resumed training has the same. None: not saved.

    Raises:
        FileNotFoundError: `resume`, but no file at `path`.
        ValueError: `resume`, but the file is from another configuration, or its training has reached `max_epochs`.
    """

    def __init__(
        self,
        path: str | Path,
        objects: Mapping[str, Any],
        interval: int = 1,
        resume: bool = False,
        time_limit: TimeLimit | None = None,
        settings: ModelSettings | None = None,
    ) -> None:
        self.path = Path(path)
        self.objects = dict(objects)
        self.settings = settings
        self.interval = interval
        self.resume = resume
        self.time_limit = time_limit
        self._tenth = 0  # of the time limit, at the last save

    def attach(self, trainer: Trainer) -> None:
        """Load at the start if asked to. Save at intervals, at the end and at an interruption."""
        objects = {**self.objects, "trainer": trainer}
        if self.resume:
            trainer.add_event_handler(Events.STARTED, self._load, objects)
        saved: dict[str, Any] = dict(objects)
        if self.settings is not None:
            saved[IN_STATE] = _Constant(self.settings.of(_bare(self.objects["model"]), Training()).model_dump())
        save = Checkpoint(saved, _Saver(self.path), filename_pattern=self.path.name, n_saved=None)
        trainer.add_event_handler(Events.EPOCH_COMPLETED(event_filter=self._is_due) | Events.COMPLETED, save)
        trainer.add_event_handler(Events.INTERRUPT, save)
        trainer.add_event_handler(Events.EXCEPTION_RAISED, self._save_and_raise, save)

    def _is_due(self, _: Engine, epoch: int) -> bool:
        if self.time_limit is None or not self.time_limit.limited:
            return epoch % self.interval == 0
        before, self._tenth = self._tenth, int(10 * self.time_limit.fraction)
        return self._tenth > before

    @staticmethod
    def _save_and_raise(trainer: Engine, error: BaseException, save: Checkpoint) -> None:
        if isinstance(error, KeyboardInterrupt):
            state = trainer.state
            if state.epoch_length and state.iteration and state.iteration % state.epoch_length == 0:
                state.iteration -= 1  # interrupted in a validation: the open epoch is validated after resuming
            save(trainer)
        raise error

    def _load(self, trainer: Engine, objects: Mapping[str, Any]) -> None:
        if not self.path.is_file():
            raise FileNotFoundError(
                f"resume: no training state at {self.path}. Start without --resume, or set model_dir to its folder"
            )
        max_epochs = trainer.state.max_epochs or 0
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        self._check_configuration(state)
        for key in trainer.state_dict_user_keys:  # the saved training may have had no time limit
            state.get("trainer", {}).setdefault(key, getattr(trainer.state, key))
        try:
            Checkpoint.load_objects(objects, state)
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                f"resume: {self.path} does not fit this network or optimiser. Give the settings of the first run "
                f"(network_def, overlays). {' '.join(str(error).split())[:300]}"
            ) from error
        if trainer.state.epoch >= max_epochs:
            raise ValueError(
                f"resume: {self.path} was saved after epoch {trainer.state.epoch}, and max_epochs is {max_epochs}. "
                "Raise max_epochs"
            )
        trainer.state.max_epochs = max_epochs  # the configuration's, not the saved one
        trainer.logger.info(f"resumed from {self.path} after epoch {trainer.state.epoch}")

    def _check_configuration(self, state: Mapping[str, Any]) -> None:
        """Refuse a state with another optimiser or other objects than the configuration, such as a moving average."""
        now = {name: self.objects[name].state_dict() for name in {"optimizer"} & set(self.objects)}
        found, expected = _parts(state) - {"trainer", IN_STATE}, {*self.objects, *_parts(now)}
        if found != expected:
            raise ValueError(
                f"resume: {self.path} holds {', '.join(sorted(found))}; this configuration has "
                f"{', '.join(sorted(expected))}. Resume with the configuration files of the first run "
                "(variant_fast.yaml adds the average and another optimizer, variant_adam.yaml another optimizer)"
            )


def _parts(state: Mapping[str, Any]) -> set[str]:
    """Name the saved objects, and the setting typical of the optimiser: momentum or betas."""
    groups = state.get("optimizer", {}).get("param_groups", [])
    return {*state, *({"momentum", "betas"} & {name for group in groups for name in group})}


class LoadWeights:
    """Load weights into a network when an engine starts. Without valid weights, the run ends with an error.

    Args:
        path: a flat state_dict, or a training's state with the key "model".
        network: receives all weights.

    Raises:
        FileNotFoundError, ValueError: at the start of the run, see `load_weights`.
    """

    def __init__(self, path: str | Path, network: nn.Module) -> None:
        self.path = Path(path)
        self.network = network

    def attach(self, engine: Engine) -> None:
        """Load when the engine starts."""
        engine.add_event_handler(Events.STARTED, lambda: load_weights(self.network, self.path))


def save_weights(
    network: nn.Module, path: Path, settings: ModelSettings | None = None, training: Training | None = None
) -> None:
    """Write a flat state_dict and its settings (model.json beside model.pt), from the first process only.

    Args:
        network: any module, also if wrapped for several processes or GPUs.
        path: file of the weights. An existing file is replaced as a whole.
        settings: of the training. None: the defaults. The network's arguments are taken from the network.
        training: facts about the training.

    Example:
        >>> save_weights(nn.Linear(2, 1), Path("model.pt"))
    """
    if idist.get_rank() == 0:
        bare = _bare(network)
        known = (settings or ModelSettings()).of(bare, training or Training())
        write_weights(bare.state_dict(), path, known)


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Load all weights of a network. Files with code (pickles of anything but tensors) are refused.

    Args:
        network: any module, also if wrapped for several processes or GPUs.
        path: a flat state_dict, or a training's state with the key "model".

    Raises:
        FileNotFoundError: no file at `path`.
        ValueError: the file holds anything but tensors, or names and shapes differ from the network's; NaN or infinite
            numbers.

    Example:
        >>> network = torch.nn.Linear(2, 1)
        >>> torch.save(network.state_dict(), "model.pt")
        >>> load_weights(network, "model.pt")
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"weights: no file at {path}. Train first (python -m monai.bundle run training --config_file "
            "configs/train.yaml), or set ckpt_path to a file of weights"
        )
    bare = _bare(network)
    bare.load_state_dict(read_tensors(path, bare.state_dict()))


def _bare(network: nn.Module) -> nn.Module:
    """Unwrap a network. Wrappers for several processes or GPUs change the names in the state_dict."""
    wrappers = (nn.parallel.DistributedDataParallel, nn.DataParallel)
    return network.module if isinstance(network, wrappers) else network
