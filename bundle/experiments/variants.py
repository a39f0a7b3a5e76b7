"""Turn the arguments of `reproduce` into runs: ablations, folds, seeds and widths of an experiment."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from bundle.experiments.experiments import ABLATIONS, PAPER_FEATURES, QUICK_FEATURES, network_of
from bundle.running.errors import UsageError, check_whole

FOLDS = 5


@dataclass(frozen=True)
class Variant:
    """A training with its evaluations."""

    experiment: str  # name in `EXPERIMENTS`
    ablation: str | None  # name in `ABLATIONS`. None: the experiment itself
    quick: bool  # a run of minutes. Its figures mean nothing
    fold: int | None  # of em, held out block of slices. None: the configuration's own split
    seed: int  # of weights, tiles and order
    features: int  # channels of the network's first level

    @property
    def folder(self) -> str:
        """Name of the results folder: the experiment and all values other than defaults."""
        parts = [self.experiment, self.ablation, None if self.fold is None else f"fold{self.fold}"]
        parts += [f"seed{self.seed}" if self.seed else None, "quick" if self.quick else None]
        parts += [f"features{self.features}" if self.features != _usual_features(self.quick) else None]
        return "-".join(part for part in parts if part)

    @property
    def overrides(self) -> dict[str, Any]:
        """Keys of the configuration and their values."""
        block = {} if self.fold is None else {"split_rule": "block", "fold": self.fold}
        width = {} if self.features == PAPER_FEATURES else network_of(self.features)
        return {"seed": self.seed, **block, **width}

    def command(self, max_epochs: int | None) -> str:
        """Write the command for a reader, without the paths of this machine."""
        words = ["python", "-m", "bundle", "reproduce", self.experiment, *(["--quick"] if self.quick else [])]
        for option, value, default in (
            ("max_epochs", max_epochs, None),
            ("fold", self.fold, None),
            ("seed", self.seed, 0),
            ("features", self.features, _usual_features(self.quick)),
            ("ablation", self.ablation, None),
        ):
            words += [] if value == default else [f"--{option}", str(value)]
        return shlex.join(words)


def _usual_features(quick: bool) -> int:
    return QUICK_FEATURES if quick else PAPER_FEATURES


def variants(
    experiment: str,
    quick: bool,
    ablation: str | Sequence[str] | None,
    fold: int | str | None,
    seed: int | Sequence[int],
    features: int | None,
) -> list[Variant]:
    """List the runs in order: by seed, then the experiment before its ablations, then by fold.

    Raises:
        UsageError: an unknown ablation, fold, seed or width.

    Example:
        >>> runs = variants("hela", quick=False, ablation="padded", fold=None, seed=[0, 2], features=None)
        >>> [run.folder for run in runs]
        ['hela', 'hela-padded', 'hela-seed2', 'hela-padded-seed2']
    """
    seeds, names, folds = _seeds(seed), (None, *_ablations(ablation)), _folds(experiment, fold)
    if features is not None:
        check_whole("features", features)
    width = features or _usual_features(quick)
    return [Variant(experiment, name, quick, k, s, width) for s, name, k in product(seeds, names, folds)]


def _folds(experiment: str, fold: int | str | None) -> list[int | None]:
    """Check the folds; [None] for the configuration's own split."""
    if fold is None:
        return [None]
    if experiment == "em" and fold == "all":
        return list(range(FOLDS))
    if experiment != "em" or isinstance(fold, bool) or not isinstance(fold, int) or fold not in range(FOLDS):
        raise UsageError(f"--fold is for em only, 0 to {FOLDS - 1} or all; got {fold!r} for {experiment}")
    return [fold]


def _seeds(seed: int | Sequence[int]) -> list[int]:
    seeds: list[Any] = list(seed) if isinstance(seed, (list, tuple)) else [seed]
    if not seeds or any(isinstance(value, bool) or not isinstance(value, int) or value < 0 for value in seeds):
        shown = ",".join(str(value) for value in seeds)
        raise UsageError(f"--seed is {shown or 'empty'}, expected a whole number of at least 0, or several: 0,1,2")
    return list(dict.fromkeys(seeds))


def _ablations(given: str | Sequence[str] | None) -> list[str]:
    if given is None:
        return []
    if given is True or not given:
        raise UsageError(f"--ablation needs a name; there are {', '.join(ABLATIONS)}, and all")
    names = given.split(",") if isinstance(given, str) else [str(name) for name in given]
    names = list(ABLATIONS) if names == ["all"] else [name.strip() for name in names]
    unknown = [name for name in names if name not in ABLATIONS]
    if unknown:
        raise UsageError(f"unknown ablation {', '.join(unknown)}; there are {', '.join(ABLATIONS)}, and all")
    return names
