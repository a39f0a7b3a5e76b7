"""Find problems of the machine and of a data set before a training, worst first, and estimate memory and time.

The checks of labels and pairs are the checks of every training: `scripts.data.label_check.examine_labels`.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ..data.items import describe_failure
from ..data.label_check import examine_labels, exchanged_folders
from ..data.pairs import some
from ..data.splits import split_datalist, too_few
from ..machine import GIB, Machine, free_space, has_mps, shared_memory, versions, writable
from ..transforms.instance_labels import InstanceLabelsd
from .choices import HALF, QUARTER, TILES
from .costs import LIBRARIES, images_memory, step_memory, step_seconds
from .facts import LARGE, DataFacts
from .listing import find_items
from .measuring import Progress, measure
from .overlay import Plan, cannot_be_split, describe, plan_of

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)  # worst first
OLDEST = {
    "torch": "2.6",
    "monai": "1.6",
    "pytorch-ignite": "0.5.3",
    "numpy": "1.26",
    "scipy": "1.12",
    "scikit-image": "0.24",
}
LITTLE_DISK, NO_DISK = GIB, GIB // 4  # a training writes weights, state and pictures: 0.6 GB with the full network
LITTLE_SHARED = 2**26  # bytes; the default of Docker
FEW_IMAGES = 5
TINY = 5.0  # diameter in pixels, below which the pooling loses objects
STEPS = 4000  # of variant_fast without a time limit


@dataclass(frozen=True)
class Problem:
    """A problem with its remedy.

    Args:
        severity: "error": a training is refused or fails. "warning": the training loses quality. "note": good to know.
        subject: of the problem, in a word or two.
        text: finding, file or key, and remedy.
    """

    severity: str
    subject: str
    text: str


@dataclass
class Diagnosis:
    """Problems, and facts about machine, data and training."""

    problems: list[Problem] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)

    def add(self, severity: str, subject: str, text: str) -> None:
        """Add a problem."""
        self.problems.append(Problem(severity, subject, text))

    @property
    def worst(self) -> str | None:
        """The worst severity. None: no problem."""
        return next((one for one in SEVERITIES if any(problem.severity == one for problem in self.problems)), None)

    def content(self) -> dict[str, Any]:
        """Return everything for JSON, the problems worst first."""
        order = sorted(self.problems, key=lambda problem: SEVERITIES.index(problem.severity))
        return {
            "worst": self.worst,
            "problems": [asdict(problem) for problem in order],
            "machine": self.machine,
            "data": self.data,
            "training": self.training,
        }


def diagnose(
    dataset: str | Path | None = None,
    output: str | Path = "output",
    given: Mapping[str, Any] | None = None,
    machine: Machine | None = None,
    progress: Progress = iter,
    timed: bool = True,
) -> Diagnosis:
    """Find problems of the machine and of a data set. Damaged files do not end the checks.

    Args:
        dataset: folder, or a .json list. None: the machine alone.
        output: folder of the results.
        given: settings chosen by the user, for example label_kind.
        machine: of the training. None: this one.
        progress: wraps the list of items, for example with a bar.
        timed: measure the seconds of a training step.

    Example:
        >>> "torch" in diagnose(timed=False).machine["packages"]
        True
    """
    found = Diagnosis()
    machine = machine or Machine.here()
    _check_machine(found, machine, Path(output))
    plan = None
    if dataset is not None:
        plan = _check_data(found, dataset, machine, given or {}, progress)
        _check_write(found, "data folder", Path(dataset).expanduser(), f"plan.yaml goes to {output} instead", NOTE)
    _expect(found, machine, plan, timed)
    return found


def _check_machine(found: Diagnosis, machine: Machine, output: Path) -> None:
    packages = versions()
    free, shared = free_space(output), shared_memory()
    found.machine = {
        "device": machine.device,
        "processor": machine.words,
        "memory_gib": round(machine.memory / GIB, 1),
        "disk_gib": round(free / GIB, 1),
        "shared_memory_mib": None if shared is None else shared // 2**20,
        "packages": packages,
    }
    if find_spec("numba") is None:
        found.add(WARNING, "numba", "not installed: loops over pixels run slowly. pip install numba")
    for name, oldest in OLDEST.items():
        if packages[name] != "unknown" and _number(packages[name]) < _number(oldest):
            text = f"{packages[name]} is too old, expected {oldest} or newer: pip install -U {name}"
            found.add(ERROR, name, text)
    if machine.device == "cpu" and shutil.which("nvidia-smi"):
        found.add(
            WARNING, "GPU", "an NVIDIA driver is here, but torch finds no GPU. Install torch for CUDA (pytorch.org)"
        )
    if machine.device == "cpu" and has_mps():
        found.add(NOTE, "GPU", "the GPU of this Apple machine is not used by default, and was not tried: --device mps")
    if machine.device == "cpu" and not machine.bfloat16 and "AVX512" not in machine.processor:
        found.add(
            NOTE, "processor", f"{machine.processor} alone: full networks take seconds a step. The plan has a quarter"
        )
    if free < LITTLE_DISK:
        text = f"{free / GIB:.2f} GiB free for {output}, a training writes up to 0.6. Free some, or --output elsewhere"
        found.add(ERROR if free < NO_DISK else WARNING, "disk", text)
    if shared is not None and shared < LITTLE_SHARED:
        text = f"{shared // 2**20} MiB of /dev/shm, for worker processes. docker run --shm-size 1g, or --num_workers 0"
        found.add(WARNING, "shared memory", text)
    _check_write(found, "output folder", output, "give another with --output", ERROR)


def _number(text: str) -> tuple[int, ...]:
    """(2, 6, 0) of "2.6.0+cpu"."""
    parts = text.partition("+")[0].split(".")[:3]
    return tuple(int("".join(filter(str.isdigit, part)) or 0) for part in parts)


def _check_write(found: Diagnosis, subject: str, folder: Path, remedy: str, severity: str) -> None:
    there = folder.expanduser().absolute()
    while not there.exists():
        there = there.parent
    there = there if there.is_dir() else there.parent
    if not writable(there):
        found.add(severity, subject, f"{there} is read-only: {remedy}")


def _check_data(
    found: Diagnosis, dataset: str | Path, machine: Machine, given: Mapping[str, Any], progress: Progress
) -> Plan | None:
    """Check files, then labels and pairs as in a training. Return the plan, or None."""
    try:
        listing = find_items(dataset, given)
    except Exception as error:  # whatever a damaged file raises
        found.add(ERROR, "data set", str(error))
        return None
    measured = measure(listing.items, listing.settings.get("tiff_axes"), machine.cores, progress)
    for text in measured.unreadable:
        found.add(ERROR, "file", text)
    facts = measured.facts
    if not facts.items:
        return None
    exchanged = exchanged_folders(measured.items, facts.labels, listing.settings.get("tiff_axes"))
    if exchanged is not None:  # explains all other findings
        found.add(ERROR, "labels", exchanged.text)
        return None
    plan = plan_of(dataset, facts, listing, machine, given)
    found.data = {"images": len(listing.items), "words": describe(facts), "plan": plan.values}
    single = cannot_be_split(plan)
    if single:
        found.add(ERROR, "data set", too_few(len(listing.items)))
    kind = plan.case.chosen["label_kind"]
    if kind.value is None:
        found.add(ERROR, "labels", kind.reason)
    else:
        rule = "all" if single else plan.values.get("split_rule") or "last"
        _check_labels(found, plan, [dict(item) for item in measured.items], rule)
    _check_images(found, facts)
    return plan


def _check_labels(found: Diagnosis, plan: Plan, items: list[dict[str, Any]], rule: str) -> None:
    """The checks of every training, with the plan's settings and split."""
    values = plan.values
    labels = InstanceLabelsd(
        kind=values["label_kind"],
        separation_gap=values.get("separation_gap") or 1,
        out_channels=len(values["class_names"]),
        class_values=values.get("label_values"),
        markers_key="markers",
    )
    try:
        parts = split_datalist(items, values.get("val_fraction") or 0.2, rule)
        report = examine_labels(
            parts["training"], parts["validation"], labels, values["class_names"], key_metric=values["key_metric"]
        )
    except Exception as error:  # whatever a damaged file raises
        found.add(ERROR, "labels", describe_failure(str(items[0]["label"]), error))
        return
    found.data["labels"] = report.line
    for one in report.findings:
        found.add(ERROR if one.sure else WARNING, "labels", one.text)


def _check_images(found: Diagnosis, facts: DataFacts) -> None:
    count, empty = len(facts.items), len(facts.items) - len(facts.filled)
    constant = [item.image.name for item in facts.items if item.image.lowest == item.image.highest]
    large = [item.image for item in facts.items if max(abs(item.image.lowest), abs(item.image.highest)) > LARGE]
    kinds = sorted({item.image.dtype for item in facts.items})
    pairs = [f"{name} = {other}" for name, other in facts.copies]
    small = float(np.percentile(facts.diameters, 10)) if len(facts.diameters) else TINY
    for is_so, severity, subject, text in (
        (constant, WARNING, "images", f"{some(constant)} images have a single grey value: take them out"),
        (
            large,
            WARNING,
            "images",
            f"{some([image.name for image in large])} images have grey values beyond {LARGE:g}: cameras give none, so "
            "they may mark missing pixels. Replace them in the files",
        ),
        (pairs, WARNING, "images", f"{some(pairs)} images are copies, which flatter the scores: take them out"),
        (len(kinds) > 1, WARNING, "images", f"images of {' and '.join(kinds)}: check that their contrast is alike"),
        (1 < count < FEW_IMAGES, WARNING, "images", f"{count} images are few: some tens give good results"),
        (0 < empty < count, NOTE, "labels", f"{empty} of {count} labels are empty: right, if nothing is missing"),
        (
            small < TINY,
            WARNING,
            "labels",
            f"a tenth of the objects is at most {small:.1f} px wide: remove specks, or enlarge the images",
        ),
        (
            all(item.image.equal_channels for item in facts.items),
            NOTE,
            "images",
            "colour images with equal channels: save them as grey images",
        ),
    ):
        if is_so:
            found.add(severity, subject, text)


def _expect(found: Diagnosis, machine: Machine, plan: Plan | None, timed: bool) -> None:
    """Memory and time of the planned training."""
    levels, tile, channels, images = (HALF if machine.device == "cuda" else QUARTER), TILES[0], 1, 0
    if plan is not None:
        levels, tile, channels = plan.case.levels, int(plan.values["input_size"]), int(plan.values["in_channels"])
        images = images_memory([item.image.size for item in plan.case.facts.items], channels)
    step = step_memory(levels, tile)
    need = LIBRARIES + images + (step if machine.device == "cpu" else 0)
    found.training = {"features": levels, "input_size": tile, "memory_gib": round(need / GIB, 1)}
    if machine.device == "cuda":
        found.training["gpu_memory_gib"] = round(step / GIB, 1)
    text = f"the training needs about {need / GIB:.1f} GiB, {machine.memory / GIB:.1f} are free"
    if need > machine.memory:
        found.add(ERROR, "memory", f"{text}. Close programs, or cut the images into parts")
    elif need > 0.7 * machine.memory:
        found.add(WARNING, "memory", text)
    if not timed or found.worst == ERROR:
        return
    seconds = step_seconds(levels, tile, channels)
    minutes = None if plan is None else plan.values["max_minutes"]
    found.training["seconds_a_step"] = round(seconds, 3)
    found.training["minutes"] = minutes or round(STEPS * seconds / 60, 1)
    found.training["steps"] = int(60 * minutes / seconds) if minutes else STEPS
