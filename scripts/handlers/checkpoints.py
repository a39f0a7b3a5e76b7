"""Save the best weights of a training, load weights safely, and stop early."""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from monai.engines import Evaluator, Trainer
from torch import nn

from ..published import described, listed
from ..settings import ModelSettings, Training, read_settings, write_weights
from .disk import continuing_later
from .weights import read_tensors

logger = logging.getLogger(__name__)

LOWEST = float("-inf")  # best score before the first validation


class BestWeights:
    """Keep the weights of the best validation as a flat state_dict. Stop the training without further gain.

    The trainer's state keeps the best score and the count of validations without gain, also for a resumed training. The
    weights on disk may be newer than the state, after a crash between both. Their score in model.json then counts: only
    better weights replace them.

    Weights are always written. A training without any validation saves the last weights, for example in MONAI Label
    with fewer than three labels. While the key metric is NaN, the newest weights are kept.

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
        self._begun = False  # whether a validation of this run was compared
        self._provisional = False  # whether this run wrote weights without a score

    def attach(self, trainer: Trainer) -> None:
        """Compare after each validation of the training."""
        trainer.state_dict_user_keys.extend(["best_key_metric", "validations_without_gain", "key_metric", "run"])
        state: Any = trainer.state
        state.best_key_metric, state.validations_without_gain = LOWEST, 0
        state.key_metric = ""  # name of the score in best_key_metric
        state.run = secrets.token_hex(8)  # names the training in model.json, for resuming
        trainer.add_event_handler(Events.STARTED, self._start)
        trainer.add_event_handler(Events.EPOCH_STARTED, self._stop_without_gain)
        trainer.add_event_handler(Events.COMPLETED, self._keep_last)
        self.evaluator.add_event_handler(Events.COMPLETED, self, trainer)
        # MONAI would log the first score as "new best", also NaN
        self.evaluator.state.best_metric, self.evaluator.state.best_metric_epoch = LOWEST, 0

    def __call__(self, evaluator: Engine, trainer: Trainer) -> None:
        """Compare the score of the finished validation with the best score."""
        metric = evaluator.state.key_metric_name  # type: ignore[attr-defined]  # added by MONAI's Workflow
        name, score = metric.removeprefix("val_"), float(evaluator.state.metrics[metric])
        state: Any = trainer.state
        if not self._begun:
            self._compare_with_disk(trainer, name)
        if score > state.best_key_metric:
            state.best_key_metric, state.validations_without_gain = score, 0
            self._save(trainer, key_metric=name, best=score)
            return
        if math.isnan(score):
            self._keep_without_score(trainer, metric)
        state.validations_without_gain += 1
        self._stop_without_gain(trainer, metric)

    def _start(self, _: Trainer) -> None:
        self._begun = self._provisional = False

    def _compare_with_disk(self, trainer: Trainer, name: str) -> None:
        """Take over the score of the weights on disk, if they are of this training and newer than its state."""
        self._begun = True
        state: Any = trainer.state
        if state.key_metric not in ("", name) and state.best_key_metric > LOWEST:
            logger.warning(
                f"the key metric is {name}, and was {state.key_metric} before: the next weights replace {self.path}"
            )
            state.best_key_metric = LOWEST
        state.key_metric = name
        if not self.path.is_file():
            state.best_key_metric = LOWEST
            return
        try:
            known = read_settings(self.path)
        except ValueError:  # of other weights: nothing is known of these
            return
        saved = None if known is None else known.training
        if saved is None or saved.run != state.run or saved.key_metric != name or saved.best is None:
            return
        if saved.best > state.best_key_metric:
            logger.info(f"{self.path} has {name} {saved.best:.4f}, of epoch {saved.epoch}: newer than the state")
            state.best_key_metric = saved.best

    def _stop_without_gain(self, trainer: Trainer, metric: str = "the key metric") -> None:
        state: Any = trainer.state
        if 0 < self.patience <= state.validations_without_gain:
            logger.info(
                f"no gain in {metric} for {state.validations_without_gain} validations: stopping early. A larger "
                "patience goes on"
            )
            trainer.terminate()

    def _keep_without_score(self, trainer: Trainer, metric: str) -> None:
        """Save weights whose score is NaN, unless there are weights with a score, or weights to start from."""
        if trainer.state.best_key_metric > LOWEST or (self.path.is_file() and not self._provisional):
            return
        if not self._provisional:
            logger.warning(
                f"{metric} is NaN: no validation image has what it needs. {self.path} has the newest weights until a "
                "validation gives a number"
            )
        self._provisional = True
        self._save(trainer)

    def _keep_last(self, trainer: Trainer) -> None:
        """Name the best weights. A training without a score keeps the last."""
        state: Any = trainer.state
        if state.best_key_metric > LOWEST:
            logger.info(f"best {state.key_metric}: {state.best_key_metric:.4f}, in {self.path}")
        if state.best_key_metric == LOWEST and state.iteration > 0:
            self._save(trainer)
            why = "no validation gave a number" if state.validations_without_gain else "no validation took place"
            logger.warning(f"{why}: the weights of the last epoch are in {self.path}")

    def _save(self, trainer: Trainer, **score: Any) -> None:
        state: Any = trainer.state
        facts = Training(**self.data, **score, epoch=state.epoch, run=state.run)
        with continuing_later(self.path):
            save_weights(self.network, self.path, self.settings, facts)


class LoadWeights:
    """Load weights into a network when an engine starts. Without valid weights, the run ends with an error.

    The log names the file, and published weights by name and purpose.

    Args:
        path: a flat state_dict, or a training's state with the key "model".
        network: receives the weights.
        partly: for fine-tuning: other layers than those of the weights are allowed, see `load_weights`.

    Raises:
        FileNotFoundError, ValueError: at the start of the run, see `load_weights`.
    """

    def __init__(self, path: str | Path, network: nn.Module, partly: bool = False) -> None:
        self.path = Path(path)
        self.network = network
        self.partly = partly

    def attach(self, engine: Engine) -> None:
        """Load when the engine starts."""
        engine.add_event_handler(Events.STARTED, self._load)

    def _load(self) -> None:
        load_weights(self.network, self.path, self.partly)
        if not self.partly and idist.get_rank() == 0:
            logger.info("weights: %s", described(self.path))


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
        known = (settings or ModelSettings()).of(bare(network), training or Training())
        write_weights(bare(network).state_dict(), path, known)


def load_weights(network: nn.Module, path: str | Path, partly: bool = False) -> None:
    """Load all weights of a network. Files with code (pickles of anything but tensors) are refused.

    Args:
        network: any module, also if wrapped for several processes or GPUs.
        path: a flat state_dict, or a training's state with the key "model".
        partly: layers whose names and shapes fit are loaded. The others keep their weights and are listed in the log,
            for example the last layer, for other classes.

    Raises:
        FileNotFoundError: no file at `path`.
        ValueError: the file holds anything but tensors, or names and shapes differ from the network's; NaN or infinite
            numbers; with `partly`, no layer fits, or a layer that is not trained would stay random.

    Example:
        >>> network = torch.nn.Linear(2, 1)
        >>> torch.save(network.state_dict(), "model.pt")
        >>> load_weights(network, "model.pt")
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"weights: no file at {path}. Train first (python -m monai.bundle run training --config_file "
            f"configs/train.yaml), or set ckpt_path. {listed()}"
        )
    network = bare(network)
    own = network.state_dict()
    tensors = read_tensors(path, own, partly)
    random = [name for name, values in network.named_parameters() if not values.requires_grad and name not in tensors]
    if random:
        raise ValueError(
            f"weights: {path} has no {random[0]} for this network, and freeze_contracting would keep it random. Leave "
            "freeze_contracting out"
        )
    network.load_state_dict({**own, **tensors})


def bare(network: nn.Module) -> nn.Module:
    """Unwrap a network. Wrappers for several processes or GPUs change the names in the state_dict.

    Example:
        >>> bare(nn.DataParallel(nn.Linear(2, 1)))
        Linear(in_features=2, out_features=1, bias=True)
    """
    wrappers = (nn.parallel.DistributedDataParallel, nn.DataParallel)
    return network.module if isinstance(network, wrappers) else network
