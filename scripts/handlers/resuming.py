"""Save the state of a training, and continue from a saved state as if the training had never stopped."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.engines import Trainer

from ..data.items import content_of_files
from ..data.tiles import seed_everything
from ..io.files import replacing
from ..settings import IN_STATE, ModelSettings, Training
from .checkpoints import bare
from .disk import continuing_later
from .state_file import check_state_file
from .time_limit import TimeLimit
from .tracking import building_parser, settings_of

logger = logging.getLogger(__name__)

RECORD = "record"  # key of `TrainingRecord` in a state
OWN_KEYS = {"trainer", IN_STATE, RECORD}
PARTS = ("training", "validation")
MAY_DIFFER = {  # parts of names of settings that say where, how long and how fast a training runs, not what it computes
    *(
        "bundle_root",
        "dataset_dir",
        "output_dir",
        "model_dir",
        "split_file",
        "finetune",
        "resume",
        "is_main",
        "split",
        "verbose",
    ),
    *("max_epochs", "max_minutes", "t_total", "val_interval", "validate_first", "patience", "learning_rate"),
    "warmup_steps",  # follows from max_epochs
    *("device", "on_gpu", "num_workers", "compile", "layout", "writer", "trainer", "evaluator", "handlers", "folders"),
    *("dataloader", "dataset", "settings", "_disabled_", "tracking_uri", "experiment_name", "run_name"),
}
SCHEDULED = {"params", "lr", "initial_lr"}  # entries of an optimiser's groups that a schedule changes


class SeedSteps:
    """Seed the global random numbers of each training step, for dropout, from the seed and the step.

    A resumed training then draws the same numbers as one that was never interrupted. Processes draw different numbers.

    Args:
        seed: of the whole training.
    """

    def __init__(self, seed: int) -> None:
        self.seed = int(seed)

    def attach(self, trainer: Trainer) -> None:
        """Seed before every step."""
        trainer.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self, trainer: Engine) -> None:
        """Seed for the current step."""
        # multiplied by large odd numbers, so that neighbouring steps, seeds and processes share no seed
        step, rank = trainer.state.iteration, idist.get_rank()
        seed_everything((self.seed * 0x9E3779B1 + step * 0x85EBCA77 + rank * 0xC2B2AE3D) % 2**32)


class TrainingRecord:
    """Describe what a training computes: its images and settings. A resumed training is compared with the record.

    Args:
        training, validation: items of both parts, as in a datalist.
        optimizer: its class and options are recorded.
    """

    def __init__(
        self, training: list[dict[str, Any]], validation: list[dict[str, Any]], optimizer: torch.optim.Optimizer
    ) -> None:
        self.items = {"training": training, "validation": validation}
        self.optimizer = type(optimizer).__name__
        self.parser = building_parser()

    @cached_property
    def content(self) -> dict[str, Any]:
        """The record, with plain values. All files of the data are read once, for their checksums."""
        settings: dict[str, str] = {}
        if self.parser is not None:
            settings = settings_of(self.parser.get(), self.parser.ref_resolver.resolved_content)
        return {
            "optimizer": self.optimizer,
            "settings": settings,
            **{part: content_of_files(items) for part, items in self.items.items()},
        }


class TrainingState:
    """Save everything a training needs to continue.

    Saves at intervals, at the end, and when `Interruption` stops the training between two steps. Place after
    `Validation` and `BestWeights`, and before handlers that may raise.

    Args:
        path: file to write, replaced atomically.
        objects: objects to save besides the trainer, e.g. {"model": ..., "optimizer": ..., "lr_scheduler": ...}.
        interval: epochs between two saves.
        time_limit: with a limit, save at each tenth of the time instead of at intervals.
        settings: saved with the state, so that a resumed training has the same. None: not saved.
        record: saved with the state, to compare a resumed training. None: not saved.

    Raises:
        OSError: the disk is full. The earlier state stays.
    """

    def __init__(
        self,
        path: str | Path,
        objects: Mapping[str, Any],
        interval: int = 1,
        time_limit: TimeLimit | None = None,
        settings: ModelSettings | None = None,
        record: TrainingRecord | None = None,
    ) -> None:
        self.path = Path(path)
        self.objects = dict(objects)
        self.interval = interval
        self.time_limit = time_limit
        self.settings = settings
        self.record = record
        self._tenth = 0  # of the time limit, at the last save
        self._saved: tuple[Any, ...] | None = None  # progress at the last save

    def attach(self, trainer: Trainer) -> None:
        """Follow a trainer."""
        if idist.get_rank() == 0:
            trainer.add_event_handler(Events.STARTED, self._start)
            trainer.add_event_handler(Events.EPOCH_COMPLETED(event_filter=self._is_due) | Events.COMPLETED, self)
            trainer.add_event_handler(Events.INTERRUPT, self._interrupted)

    def __call__(self, trainer: Engine) -> None:
        """Save the state of now, unless it is saved."""
        progress = trainer.state_dict()
        if self._saved == tuple(progress.items()):
            return
        state: dict[str, Any] = {name: bare(part).state_dict() for name, part in self.objects.items()}
        state["trainer"] = dict(progress)
        if self.settings is not None:
            state[IN_STATE] = self.settings.of(bare(self.objects["model"]), Training()).model_dump()
        if self.record is not None:
            state[RECORD] = self.record.content
        fault = _fault(state)
        if fault:
            logger.warning(f"the state of step {progress['iteration']} is not saved: {fault}")
            return
        with continuing_later(self.path), replacing(self.path) as temporary, temporary.open("wb") as file:
            torch.save(state, file)  # given a path, torch would not say that the disk is full
        self._saved = tuple(progress.items())

    def _start(self, _: Engine) -> None:
        self._saved, self._tenth = None, 0
        if self.record is not None:
            self.record.content  # noqa: B018  # reading files takes too long when a signal ends the training

    def _is_due(self, _: Engine, epoch: int) -> bool:
        if self.time_limit is None or not self.time_limit.limited:
            return epoch % self.interval == 0
        before, self._tenth = self._tenth, int(10 * self.time_limit.fraction)
        return self._tenth > before

    def _interrupted(self, trainer: Engine) -> None:
        self(trainer)
        if self._saved == tuple(trainer.state_dict().items()):
            logger.warning(
                f"the state after step {trainer.state.iteration} is in {self.path}. Continue with --resume true"
            )


class ResumeTraining:
    """Continue from a saved state. The rest of the training equals that of a training that was never interrupted.

    Place first, because other handlers start from the loaded state. A finished training ends at once, without an
    error. A changed learning rate takes effect, and other changed options of the optimiser. Changed settings are
    listed. States of other images, another network or another optimiser are refused.

    Args:
        path: file by `TrainingState`.
        objects: objects to load besides the trainer.
        record: of this training, to compare with the saved record. None: not compared.

    Raises:
        FileNotFoundError: no file at `path`.
        ValueError: the file is damaged, or its training had other images, epochs, another network or optimiser. The
            message names the setting and both values.
    """

    def __init__(self, path: str | Path, objects: Mapping[str, Any], record: TrainingRecord | None = None) -> None:
        self.path = Path(path)
        self.objects = dict(objects)
        self.record = record

    def attach(self, trainer: Trainer) -> None:
        """Load when the trainer starts."""
        trainer.add_event_handler(Events.STARTED, self)

    def __call__(self, trainer: Trainer) -> None:
        """Load the state. End a finished training."""
        state: Any = trainer.state
        max_epochs = state.max_epochs or 0
        saved = read_state(self.path)
        self._compare(saved, trainer)
        configured = _groups(self.objects.get("optimizer"))
        for key in trainer.state_dict_user_keys:  # states of earlier versions lack some
            saved["trainer"].setdefault(key, getattr(state, key))
        try:
            for name, part in self.objects.items():
                bare(part).load_state_dict(saved[name])
            trainer.load_state_dict(saved["trainer"])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"resume: {self.path} does not fit this network or optimiser. Give the settings of the first run "
                f"(network_def, overlays). {' '.join(str(error).split())[:300]}"
            ) from None
        for change in self._use_options(configured):
            logger.warning(f"resume: {change}")
        state.max_epochs = max_epochs  # the configuration's, not the saved one
        self._leave_out(trainer)
        if state.epoch >= max_epochs:
            logger.info(
                f"resume: the training of {self.path} has finished after {state.epoch} epochs, and max_epochs is "
                f"{max_epochs}. A larger max_epochs goes on"
            )
            trainer.terminate()
            return
        logger.info(f"resumed from {self.path} after epoch {state.epoch}, step {state.iteration}")

    def _compare(self, saved: Mapping[str, Any], trainer: Trainer) -> None:
        """Refuse another optimiser, other objects, epochs and images. List other settings."""
        record = saved.get(RECORD, {})
        now: dict[str, Any] = {}
        if self.record is not None and idist.get_rank() == 0:
            now = self.record.content
        differing = _differing(record.get("settings", {}), now.get("settings", {}))
        self._compare_objects(saved, record)
        length, own = saved["trainer"].get("epoch_length"), trainer.state.epoch_length
        for part in PARTS:
            if part in record and part in now:
                self._compare_images(part, record[part], now[part], trainer)
        if length != own:
            keys = [text for text in differing if text.startswith(("batch_size", "tiles_per_epoch"))]
            raise ValueError(
                f"resume: {self.path} has epochs of {length} steps, and this training of {own} "
                f"({'; '.join(keys) or 'batch_size, tiles_per_epoch, number of images and processes'}). Give the "
                "values of the first run, or start a new training with --finetune from its model.pt"
            )
        if differing:
            logger.warning(f"resume: settings other than before: {'; '.join(differing)}")

    def _compare_objects(self, saved: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        optimizer = self.objects.get("optimizer")
        name = type(optimizer).__name__
        found, expected = set(saved) - OWN_KEYS, set(self.objects)
        before, now = _options(saved.get("optimizer")), _options(None if optimizer is None else optimizer.state_dict())
        # without a record of the class, its options tell. Newer versions of torch may have more options
        same = record["optimizer"] == name if "optimizer" in record else before == now
        if found == expected and same:
            return
        raise ValueError(
            f"resume: {self.path} holds {_with(found, record.get('optimizer', 'an optimiser'), before - now)}; this "
            f"configuration has {_with(expected, name, now - before)}. Resume with the configuration files of the "
            "first run (variant_fast.yaml adds the average and another optimiser, variant_adam.yaml another optimiser)"
        )

    def _compare_images(self, part: str, before: Mapping[str, str], now: Mapping[str, str], trainer: Trainer) -> None:
        missing, new = [name for name in before if name not in now], [name for name in now if name not in before]
        if missing or new:
            raise ValueError(
                f"resume: the {part} images differ from those of {self.path} (dataset_dir, split_rule, val_fraction, "
                f"seed): {len(before)} before, {len(now)} now; {_some('missing', missing)}{_some('new', new)}give the "
                "first run's data and split (--split_file split.json), or start a new training with --finetune"
            )
        changed = [name for name in before if before[name] != now[name]]
        if changed:
            logger.warning(
                f"resume: {len(changed)} of {len(now)} {part} images or labels have changed, first {changed[0]}. "
                "Scores before and after are of different data"
            )

    def _use_options(self, configured: list[dict[str, Any]]) -> list[str]:
        """Use the configuration's options of the optimiser in place of the saved ones. Return what changed."""
        optimizer, schedule = self.objects.get("optimizer"), self.objects.get("lr_scheduler")
        changes: list[str] = []
        for k, (group, own) in enumerate(zip(_groups(optimizer, copies=False), configured, strict=True)):
            for name in own.keys() - SCHEDULED:
                if group.get(name) != own[name] and not {"max_momentum", "base_momentum"} & group.keys():
                    changes.append(f"{name} is {own[name]}, and was {group.get(name)}")
                    group[name] = own[name]
            before, rate = group.get("initial_lr"), own.get("initial_lr")
            if before is None or rate is None or before == rate:
                continue
            changes.append(f"learning_rate is {rate:g}, and was {before:g}")
            group["initial_lr"] = rate
            group["lr"] = group["lr"] * rate / before if before else rate
            if schedule is not None and hasattr(schedule, "base_lrs"):
                schedule.base_lrs[k] = rate
                schedule._last_lr[k] = group["lr"]
        return list(dict.fromkeys(changes))

    @staticmethod
    def _leave_out(trainer: Trainer) -> None:
        """Leave out the tiles of the open epoch that the training has used."""
        loader = trainer.data_loader
        leave_out = getattr(getattr(loader, "sampler", None), "leave_out", None)
        if leave_out is not None and trainer.state.epoch_length:
            steps = trainer.state.iteration % trainer.state.epoch_length
            leave_out(epoch=trainer.state.epoch + 1, tiles=steps * (loader.batch_size or 1))  # type: ignore[union-attr]


def read_state(path: str | Path) -> dict[str, Any]:
    """Read a training's state from a file, and check that it is whole.

    Returns:
        name -> state of the trainer, the network, the optimiser and so on.

    Raises:
        FileNotFoundError: no file at `path`.
        ValueError: the file is cut or damaged, holds anything but a state, or NaN in the network.

    Example:
        >>> from pathlib import Path
        >>> Path("training_state.pt").write_bytes(b"cut")
        3
        >>> read_state("training_state.pt")
        Traceback (most recent call last):
        ValueError: resume: training_state.pt is no whole state of a training (...). ...
    """
    path = Path(path)
    check_state_file(path)
    remedy = f"Start from the best weights instead (--finetune {path.with_name('model.pt')}), or put back a copy"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises pickle, zip, runtime and end-of-file errors here
        reason = "empty file" if path.stat().st_size == 0 else f"damaged or cut file, {type(error).__name__}"
        raise ValueError(f"resume: {path} is no whole state of a training ({reason}). {remedy}") from None
    wrong = _fault(state)
    if wrong:
        raise ValueError(f"resume: {path} is no whole state of a training ({wrong}). {remedy}")
    return dict(state)


def _fault(state: Any) -> str:
    """Find what a state lacks. "": nothing."""
    if not isinstance(state, Mapping):
        return f"holds {type(state).__name__}"
    if not isinstance(state.get("trainer"), Mapping) or not isinstance(state["trainer"].get("iteration"), int):
        return "has no trainer with its step; weights alone are no state"
    model = state.get("model", {})
    if not isinstance(model, Mapping):
        return f"its model is {type(model).__name__}"
    others = [name for name, values in model.items() if not isinstance(values, torch.Tensor)]
    if others:
        return f"{others[0]} of its model is no tensor"
    broken = [name for name, values in model.items() if not bool(torch.isfinite(values).all())]
    return f"NaN or infinite numbers in {len(broken)} tensors of the network, first in {broken[0]}" if broken else ""


def _groups(optimizer: torch.optim.Optimizer | None, copies: bool = True) -> list[dict[str, Any]]:
    groups = [] if optimizer is None else optimizer.param_groups
    return [dict(group) for group in groups] if copies else groups


def _options(state: Any) -> set[str]:
    """Name the options of a saved optimiser, which differ between optimisers."""
    groups = state.get("param_groups", []) if isinstance(state, Mapping) else []
    return {name for group in groups for name in group} - SCHEDULED


def _differing(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """List the settings with other values than before, for a message."""
    if not before or not now:
        return []
    names = [name for name in {**before, **now} if not MAY_DIFFER & set(name.split("."))]
    names = [name for name in names if name.split(".")[0] not in ModelSettings.model_fields]  # compared when read
    pairs = [(name, before.get(name, "(none)"), now.get(name, "(none)")) for name in names]
    # Python objects have their address in the text
    return [f"{name} {new} (before {old})" for name, old, new in pairs if old != new and " at 0x" not in old + new]


def _with(objects: set[str], optimizer: str, options: set[str]) -> str:
    """List the objects of a state, the optimiser, and the options that the other optimiser lacks."""
    return f"{', '.join(sorted(objects))} ({' '.join([optimizer, *sorted(options)])})"


def _some(what: str, names: list[str]) -> str:
    """Name the first of some images."""
    return f"{what}: {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}; " if names else ""
