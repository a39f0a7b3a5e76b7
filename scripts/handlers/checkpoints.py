"""What outlives a training: the best weights, the state to go on from; when to stop; and loading weights safely."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint, DiskSaver
from monai.engines import Evaluator, Trainer
from torch import nn

from scripts.handlers.time_limit import TimeLimit, tenths_of

BEST, STALE = "best_key_metric", "validations_without_gain"  # kept in trainer.state, saved with the trainer


class BestWeights:
    """Keep the weights of the best validation as a flat state_dict, and stop when it no longer improves.

    The best score and the number of validations since then belong to the trainer's state: they are saved and restored
    with it, so a resumed training neither overwrites better weights nor forgets how long it has waited. A training that
    was never validated, as MONAI Label's with one or two labels, keeps its last weights.

    Args:
        path: the file to write, e.g. models/model.pt; replaced atomically.
        network: whose weights are kept.
        evaluator: its key metric (larger is better) decides.
        patience: stop after this many validations without gain; 0: never.
        min_gain: what counts as a gain.
    """

    def __init__(
        self, path: str | Path, network: nn.Module, evaluator: Evaluator, patience: int = 0, min_gain: float = 0.0
    ) -> None:
        self.path = Path(path)
        self.network = network
        self.evaluator = evaluator
        self.patience = patience
        self.min_gain = min_gain
        self._judged = False

    def attach(self, trainer: Trainer) -> None:
        """Judge after each validation of the evaluator that this trainer starts."""
        for name, start in ((BEST, float("-inf")), (STALE, 0)):
            trainer.state_dict_user_keys.append(name)
            setattr(trainer.state, name, start)
        self.evaluator.add_event_handler(Events.COMPLETED, self, trainer)
        trainer.add_event_handler(Events.COMPLETED, self._keep_last)

    def _keep_last(self, trainer: Trainer) -> None:
        """Save what a training without a single validation ends with."""
        if not self._judged and getattr(trainer.state, BEST) == float("-inf"):
            save_weights(self.network, self.path)
            trainer.logger.warning(f"nothing was validated: the weights of the last epoch are in {self.path}")

    def __call__(self, evaluator: Engine, trainer: Trainer) -> None:
        """Compare, save, count; `evaluator` has just finished."""
        self._judged = True
        name = evaluator.state.key_metric_name  # type: ignore[attr-defined]  # added by MONAI's Workflow
        score = float(evaluator.state.metrics[name])
        state = trainer.state
        if score > getattr(state, BEST) + self.min_gain:
            setattr(state, BEST, score)
            setattr(state, STALE, 0)
            save_weights(self.network, self.path)
            trainer.logger.info(f"best {name} so far: {score:.4f} in epoch {state.epoch}; weights in {self.path}")
            return
        setattr(state, STALE, getattr(state, STALE) + 1)
        if 0 < self.patience <= getattr(state, STALE):
            trainer.logger.info(f"no gain in {name} for {self.patience} validations: stopping early")
            trainer.terminate()


class TrainingState:
    """Save everything a training needs to go on, and go on from it.

    Args:
        path: the file to write, replaced atomically.
        objects: what to save beside the trainer, e.g. {"model": ..., "optimizer": ..., "lr_scheduler": ...}.
        interval: epochs between two saves; the last epoch and an interruption (Ctrl-C) save too.
        resume: load `path` when the training starts, and continue with the epoch after the one saved.
        time_limit: of a training in minutes: save at each tenth of it, whatever the interval.

    List it after the validation, whose outcome is part of the state, and before handlers that end an epoch with an
    error.

    Raises:
        FileNotFoundError: `resume` without a file at `path`.
        ValueError: `resume` from a training that has reached `max_epochs`.
    """

    def __init__(
        self,
        path: str | Path,
        objects: Mapping[str, Any],
        interval: int = 1,
        resume: bool = False,
        time_limit: TimeLimit | None = None,
    ) -> None:
        self.path = Path(path)
        self.objects = dict(objects)
        self.is_due = tenths_of(time_limit, interval)
        self.resume = resume

    def attach(self, trainer: Trainer) -> None:
        """Load at the start if asked to; save at intervals, at the end, and when the training is interrupted."""
        objects = {**self.objects, "trainer": trainer}
        if self.resume:
            trainer.add_event_handler(Events.STARTED, self._load, objects)
        saver = DiskSaver(str(self.path.parent), create_dir=True, require_empty=False)
        save = Checkpoint(objects, saver, filename_pattern=self.path.name, n_saved=None)
        trainer.add_event_handler(Events.EPOCH_COMPLETED(event_filter=self.is_due) | Events.COMPLETED, save)
        trainer.add_event_handler(Events.INTERRUPT, save)
        trainer.add_event_handler(Events.EXCEPTION_RAISED, self._save_and_raise, save)

    @staticmethod
    def _save_and_raise(trainer: Engine, error: BaseException, save: Checkpoint) -> None:
        if isinstance(error, KeyboardInterrupt):
            state = trainer.state
            if state.epoch_length and state.iteration and state.iteration % state.epoch_length == 0:
                state.iteration -= 1  # stopped in a validation: leave the epoch open, so that it is validated after all
            save(trainer)
        raise error

    def _load(self, trainer: Engine, objects: Mapping[str, Any]) -> None:
        if not self.path.is_file():
            raise FileNotFoundError(
                f"resume: no training state at {self.path}; start without --resume, or set model_dir to where it is"
            )
        max_epochs = trainer.state.max_epochs or 0
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        self._check_made_alike(state)
        for key in trainer.state_dict_user_keys:  # of a training without a time limit, say
            state.get("trainer", {}).setdefault(key, getattr(trainer.state, key))
        Checkpoint.load_objects(objects, state)
        if trainer.state.epoch >= max_epochs:
            raise ValueError(
                f"resume: {self.path} was saved after epoch {trainer.state.epoch} and max_epochs is {max_epochs}: "
                "nothing is left to train; raise max_epochs"
            )
        trainer.state.max_epochs = max_epochs  # the configuration's, not the saved one
        trainer.logger.info(f"resumed from {self.path} after epoch {trainer.state.epoch}")

    def _check_made_alike(self, state: Mapping[str, Any]) -> None:
        """Refuse the state of a training with another optimiser, or with a moving average where there is none now."""
        saved = set(state) - {"trainer"}
        groups = (_first_group(state.get("optimizer")), _first_group(self.objects.get("optimizer")))
        kinds = [{"momentum", "betas"} & set(group) for group in groups]
        if saved != set(self.objects) or kinds[0] != kinds[1]:
            found = ", ".join(sorted(saved | kinds[0]))
            expected = ", ".join(sorted({*self.objects, *kinds[1]}))
            raise ValueError(
                f"resume: {self.path} holds {found}; this configuration has {expected}. Resume with the configuration "
                "files that the training was begun with (variant_fast.yaml adds the average, it and variant_adam.yaml "
                "another optimizer)"
            )


def _first_group(optimizer: Any) -> Mapping[str, Any]:
    """Settings of an optimiser, or of its saved state."""
    groups = (
        optimizer.get("param_groups") if isinstance(optimizer, Mapping) else getattr(optimizer, "param_groups", None)
    )
    return groups[0] if groups else {}


class LoadWeights:
    """Load weights into a network when an engine starts, or refuse: nothing is ever predicted with random weights.

    Args:
        path: a flat state_dict, or a state with the key "model".
        network: receives the weights, all of them.
    """

    def __init__(self, path: str | Path, network: nn.Module) -> None:
        self.path = Path(path)
        self.network = network

    def attach(self, engine: Engine) -> None:
        """Load when the engine starts."""
        engine.add_event_handler(Events.STARTED, lambda: load_weights(self.network, self.path))


def save_weights(network: nn.Module, path: Path) -> None:
    """Write a flat state_dict atomically, from the first process only."""
    DiskSaver(str(path.parent), create_dir=True, require_empty=False)(_bare(network).state_dict(), path.name)


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Read weights as plain tensors (a pickle that holds code is refused) and put them into the network, all of them.

    Args:
        network: any module, or one wrapped for several processes.
        path: a flat state_dict, or a state with the key "model".

    Raises:
        FileNotFoundError: nothing at `path`.
        ValueError: not a file of plain tensors, or names and shapes that do not fit the network.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"weights: no file at {path}. Train first (python -m monai.bundle run training --config_file "
            "configs/train.yaml), or point ckpt_path to a file of weights"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises pickle, zip, runtime and end-of-file errors here
        reason = ": ".join([type(error).__name__, *str(error).splitlines()[:1]])
        raise ValueError(
            f"weights: {path} is not a file of plain tensors ({reason}); expected a state_dict, as a "
            "training writes it to models/model.pt"
        ) from error
    state = state.get("model", state)
    try:
        _bare(network).load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(
            f"weights: {path} does not fit the network; use the configuration they were trained with (features, "
            f"out_channels, variant). {' '.join(str(error).split())[:400]}"
        ) from error


def _bare(network: nn.Module) -> nn.Module:
    """The network without its wrapper for several processes or GPUs, whose state_dict has other names."""
    wrappers = (nn.parallel.DistributedDataParallel, nn.DataParallel)
    return network.module if isinstance(network, wrappers) else network
