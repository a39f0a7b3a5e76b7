"""Write a plan as an overlay of `configs/train.yaml`: a value a line, with the reason as a comment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ..data.cell_tracking import find_cell_tracking
from ..data.label_check import exchanged_folders
from ..data.splits import too_few
from ..io.names import shown
from ..machine import Machine
from ..options.table import SETTINGS
from .choices import RECIPE, Case, choose
from .facts import DataFacts
from .keys import CHOSEN, OF_LISTS, SECTIONS
from .kinds import Choice
from .listing import Listing, find_items
from .measuring import Progress, measure
from .shipped import shipped_weights

FILE = "plan.yaml"
NOTE = "plan"  # key of the facts about the plan. Components do not read the key
GAP = 0.05  # share of the frames between training and validation
HELD = 0.2
FEATURES = "network_def#features"
OWN_FEATURES = re.compile(r"\$\[[0-9, ]+\] if @finetune is None and not @resume else None")
MARKS = ("$", "@", "%")  # of expressions, references and macros
PLACES = ("bundle_root", "output_dir", "model_dir", "device")  # of the machine, not of the data
PLAIN = {name for name, setting in SETTINGS.items() if "train" in setting.of and name not in PLACES}
SPLIT = {
    "_target_": "scripts.data.split_cell_tracking",
    "dataset_dir": "@dataset_dir",
    "training": "@training_frames",
    "validation": "@validation_frames",
    "output": "$@output_dir + '/split.json'",
}
CHALLENGE_BORDER = 50  # pixels, for cell tracking sets


class UndecidedError(ValueError):
    """The kind of the labels is unknown, or a training would refuse the labels."""


@dataclass(frozen=True)
class Plan:
    """A plan, as text and as values.

    Args:
        text: content of the file.
        case: facts and choices.
    """

    text: str
    case: Case

    @property
    def values(self) -> dict[str, Any]:
        """Key -> value, without the keys to find the files."""
        return {key: choice.value for key, choice in self.case.chosen.items()}


def make_plan(
    dataset: str | Path,
    given: Mapping[str, Any] | None = None,
    machine: Machine | None = None,
    progress: Progress = iter,
    place: str | Path = FILE,
    single: bool = False,
) -> Plan:
    """Look at every image and label once, and choose the settings of a training.

    Args:
        dataset: folder, or a .json list.
        given: settings chosen by the user, for example label_kind or tiff_axes.
        machine: of the training. None: this one.
        progress: wraps the list of items, for example with a bar.
        place: file of the plan, for the command in the first lines.
        single: accept a single image, for a training with a split file.

    Raises:
        FileNotFoundError, ValueError, ImageFileError: images or labels are missing, do not fit, or cannot be read.
        ValueError: a single image; the name of a folder would be run as code in a configuration.
        UndecidedError (a ValueError): the kind of the labels is unknown, or a training would refuse the labels.

    Example:
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> for kind in ("images", "labels"):
        ...     Path("cells", kind).mkdir(parents=True)
        ...     for k in range(3):
        ...         Image.fromarray(np.eye(40, dtype=np.uint8)).save(Path("cells", kind, f"{k}.png"))
        >>> make_plan("cells").values["label_kind"]
        'binary'
    """
    machine = machine or Machine.here()
    listing = find_items(dataset, given)
    for name in listing.settings.values():
        if not _is_plain(name):
            raise ValueError(
                f"the name {shown(name)!r} would be code in a plan: a folder must not begin with $, @ or %"
            )
    measured = measure(listing.items, listing.settings.get("tiff_axes"), machine.cores, progress)
    if measured.unreadable:
        count, first = len(measured.unreadable), measured.unreadable[0]
        raise ValueError(f"{count} of {len(listing.items)} images cannot be used, first: {first}. Mend or remove them")
    exchanged = exchanged_folders(measured.items, measured.facts.labels, listing.settings.get("tiff_axes"))
    if exchanged is not None:
        raise UndecidedError(exchanged.text)
    plan = plan_of(dataset, measured.facts, listing, machine, given, place)
    kind = plan.case.chosen["label_kind"]
    if kind.value is None:
        raise UndecidedError(f"label_kind {kind.reason}" if "unknown" in kind.reason else kind.reason)
    if cannot_be_split(plan) and not single:
        raise ValueError(too_few(len(listing.items)))
    return plan


def cannot_be_split(plan: Plan) -> bool:
    """Tell whether a training would find no image to hold out."""
    return len(plan.case.listing.items) < 2 and plan.case.value("split_rule") != "all"


def plan_of(
    dataset: str | Path,
    facts: DataFacts,
    listing: Listing,
    machine: Machine,
    given: Mapping[str, Any] | None = None,
    place: str | Path = FILE,
) -> Plan:
    """Choose the settings of a training from facts. Arguments as in `make_plan`."""
    path = Path(dataset).expanduser().resolve()
    case = Case(facts, listing, machine, shipped_weights(), dict(given or {}), path.name)
    choices = choose(case)
    note = {"images": len(listing.items), "device": machine.device, "overlays": [RECIPE]}
    parts = [
        *_head(path, case, place),
        *_lines(choices),
        *_layout(path, listing, facts.short_side),
        "",
        *_note(note),
        "",
    ]
    return Plan("\n".join(parts), case)


def _head(path: Path, case: Case, place: str | Path) -> list[str]:
    """First lines: the data, the machine, and the command."""
    configs = ",".join(f"'{name}'" for name in ("configs/train.yaml", f"configs/{RECIPE}.yaml", Path(place).as_posix()))
    return [
        _comment(f"{path.name}: {describe(case.facts)}."),
        _comment(f"For {case.machine.words}. Edit any value; a new plan replaces the file with --overwrite only."),
        _comment(f'  python -m monai.bundle run training --config_file "[{configs}]"'),
        f"dataset_dir: {_value(path.as_posix())}",
    ]


def code_in(content: Mapping[str, Any]) -> str | None:
    """Find code in a plan: components, expressions, and keys foreign to plans.

    Data sets may come with a plan of strangers. A plan with code is a program.

    Args:
        content: of the file.

    Returns:
        The first key with code. None: all values are plain.

    Example:
        >>> code_in({"sigma": 3.0}), code_in({"sigma": "$print()"}), code_in({"loss#_target_": "print"})
        (None, 'sigma', 'loss#_target_')
    """
    for key, value in content.items():
        known = key in PLAIN or key in OF_LISTS or key in CHOSEN or key == NOTE
        own = (key == "split" and value == SPLIT) or (key == FEATURES and OWN_FEATURES.fullmatch(str(value)))
        if not own and not (known and _is_plain(value)):
            return key
    return None


def _is_plain(value: Any) -> bool:
    """Check for numbers, text, lists and tables without code."""
    if isinstance(value, Mapping):
        return "_target_" not in value and all(map(_is_plain, (*value, *value.values())))
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return not (isinstance(value, str) and value.lstrip().startswith(MARKS))


def describe(facts: DataFacts) -> str:
    """Describe images and objects in a line.

    Example:
        >>> from scripts.planning.facts import ItemFacts, image_facts, object_facts
        >>> from scripts.data.label_facts import label_facts
        >>> plane = np.eye(40, dtype=np.uint8)
        >>> describe(DataFacts([ItemFacts(image_facts("a", plane), label_facts("a", plane), object_facts(plane))]))
        '1 image of 40 x 40, uint8, 0 to 1; 1 object each (median), 7 px wide'
    """
    sizes = sorted({item.image.size for item in facts.items})
    first, last = (" x ".join(map(str, size)) for size in (sizes[0], sizes[-1]))
    count = len(facts.items)
    kinds = ", ".join(sorted({item.image.dtype for item in facts.items}))
    low, high = min(item.image.lowest for item in facts.items), max(item.image.highest for item in facts.items)
    parts = [f"{count} image{'s' if count > 1 else ''} of {first}{f' to {last}' if first != last else ''}, {kinds}"]
    text = f"{parts[0]}, {low:g} to {high:g}"
    if not facts.filled:
        return f"{text}; nothing labelled"
    each = int(np.median([len(item.objects.diameters) for item in facts.filled]))
    text += f"; {each} object{'' if each == 1 else 's'} each (median), {np.median(facts.diameters):.0f} px wide"
    empty = count - len(facts.filled)
    text += f"; {empty} image{'s' if empty > 1 else ''} without objects" if empty else ""
    return text + (f"; {len(facts.copies)} copies ({facts.copies[0][0]})" if facts.copies else "")


def _lines(choices: Mapping[str, Choice]) -> list[str]:
    lines = []
    for section, keys in SECTIONS.items():
        there = [key for key in keys if key in choices]
        lines += ["", f"# {section}"] if there else []
        lines += [f"{key}: {_value(choices[key].value)}  {_comment(choices[key].reason)}" for key in there]
    return lines


def _layout(dataset: Path, listing: Listing, side: int) -> list[str]:
    """Settings to find the files."""
    lines = [f"{key}: {_value(value)}  # as found in the folder" for key, value in listing.settings.items()]
    if listing.reference is not None:
        lines += _frames(dataset, listing.reference, side)
    return ["", "# files", *lines] if lines else []


def _frames(dataset: Path, reference: str, side: int) -> list[str]:
    """The split of a cell tracking set: the last frames validate, or the last of several sequences."""
    items = find_cell_tracking(dataset, None, reference)
    of: dict[str, list[int]] = {}
    for item in items:
        file = Path(item["image"])
        of.setdefault(file.parent.name, []).append(int(re.sub(r"\D", "", file.stem)))
    names = sorted(of)
    if len(names) > 1:
        parts: dict[str, dict[str, Any]] = {
            "training": {"sequences": names[:-1]},
            "validation": {"sequences": names[-1]},
        }
        why = "another sequence shows other cells"
    else:
        frames = sorted(of[names[0]])
        held = max(1, round(HELD * len(frames)))
        last = max(1, len(frames) - held - max(1, round(GAP * len(frames))))
        ranges = {"training": (frames[0], frames[last - 1]), "validation": (frames[-held], frames[-1])}
        parts = {part: {"sequences": names[0], "frames": f"{a}-{b}"} for part, (a, b) in ranges.items()}
        why = "the last frames, after a gap: cells change slowly"
    border = CHALLENGE_BORDER if side >= 8 * CHALLENGE_BORDER else 0
    return [
        *(
            f"{part}_frames: {_value({**chosen, 'reference': reference})}{f'  # {why}' if part == 'validation' else ''}"
            for part, chosen in parts.items()
        ),
        f"split: {_value(SPLIT)}",
        f"field_border: {border}  # pixels; the challenge does not outline cells wholly inside the border",
    ]


def _note(note: Mapping[str, Any]) -> list[str]:
    return [f"{NOTE}: {_value(note)}  # read by the command train, which puts the overlays before the plan"]


def _comment(text: str) -> str:
    """Write a comment on one line of YAML. Names of files may hold line ends, after which code would follow."""
    return f"# {shown(text)}"


def _value(value: Any) -> str:
    """Write a value on one line of YAML, control characters and line ends as escapes."""
    style = '"' if isinstance(value, str) and not value.isprintable() else None
    text = yaml.safe_dump(
        value, default_flow_style=True, default_style=style, width=10**6, sort_keys=False, allow_unicode=True
    )
    return text.removesuffix("\n").removesuffix("\n...")
