"""Find published weights by name: `nuclei` is the file `nuclei.pt` in the folder `models` of this bundle or package.

The name of `models/model.pt`, the default weights, is `em`. Weights without a file of settings (`nuclei.json`) have no
name. Weights of a training in `models` have none, either: their settings name the training (`run`). If such a training
has moved the default weights to `model.1.pt`, `em` is `model.1.pt`.

The commands load this file alone. Nothing is imported here but the standard library.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

HOME = Path(__file__).resolve().parent
FOLDER = next((folder for folder in (HOME, HOME.parent) if (folder / "configs").is_dir()), HOME) / "models"
DEFAULT = {"model": "em"}  # weights that every command uses if none are given
PURPOSES = {  # of published weights, by the first part of the name
    "em": "membranes in electron micrographs; nuclei: --weights nuclei (MONAI: --ckpt_path)",
    "nuclei": "nuclei in fluorescence",
}
NAME = re.compile(r"[A-Za-z0-9_-]+")  # no suffix, no separator, no expression


class UnknownWeightsError(ValueError):
    """A name is neither a file nor the name of published weights."""


def published(folder: Path = FOLDER) -> dict[str, Path]:
    """List the published weights of a folder: name -> file.

    Example:
        >>> published()["em"].name
        'model.pt'
    """
    found: dict[str, Path] = {}
    for settings in sorted(folder.glob("*.json"), key=lambda path: (len(path.name), path.name)):
        stem = settings.name.split(".")[0]  # of model.1.json: model
        weights = settings.with_suffix(".pt")
        if weights.is_file() and _is_published(settings):
            found.setdefault(DEFAULT.get(stem, stem), weights)
    return dict(sorted(found.items()))


def find_weights(given: str, folder: Path = FOLDER) -> str:
    """Return the file of weights under a name. Other paths are returned unchanged.

    A name is text without suffix and separator. Published weights win over a file of the same name in the working
    folder. Write `./nuclei` for the file.

    Args:
        given: name or path.
        folder: with the published weights.

    Raises:
        UnknownWeightsError: no published weights and no file or folder have the name. The message lists the names.

    Example:
        >>> from pathlib import Path
        >>> Path(find_weights("em")).name, find_weights("output/cells/model.pt")
        ('model.pt', 'output/cells/model.pt')
    """
    if not NAME.fullmatch(given):
        return given
    known = published(folder)
    if given in known:
        return str(known[given])
    if Path(given).exists():
        return given
    raise UnknownWeightsError(f"{given!r} is no file and no name of published weights. {listed(folder)}")


def listed(folder: Path = FOLDER) -> str:
    """Write the names of the published weights for a message.

    Example:
        >>> from pathlib import Path
        >>> listed(Path("empty"))
        'Give a file of weights, such as model.pt'
    """
    names = ", ".join(published(folder))
    return f"Give a file of weights, or a name: {names}" if names else "Give a file of weights, such as model.pt"


def described(weights: str | Path, folder: Path = FOLDER) -> str:
    """Write file, name and purpose of weights for a message. Other than published weights have no name.

    Example:
        >>> from scripts.published import described, published
        >>> described("output/cells/model.pt")
        'output/cells/model.pt'
        >>> described(published()["nuclei"]).split(" (")[0]
        'nuclei'
    """
    file = os.path.normpath(weights)
    name = next((name for name, own in published(folder).items() if own.resolve() == Path(file).resolve()), None)
    if name is None:
        return file
    purpose = PURPOSES.get(name.split("_")[0])
    return f"{name} ({file})" + (f", for {purpose}" if purpose else "")


def _is_published(settings: Path) -> bool:
    """Whether settings of weights name no training of a user."""
    try:
        training = json.loads(settings.read_text(encoding="utf-8-sig"))["training"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return False
    return isinstance(training, Mapping) and not training.get("run")
