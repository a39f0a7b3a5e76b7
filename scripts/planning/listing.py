"""List the images and labels of a folder, also with unusual folder names, and of challenge sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data.cell_tracking import find_cell_tracking
from ..data.datalist import find_pairs
from ..data.pairs import existing
from ..io.names import PathLike, image_suffix
from .keys import OF_LISTS

LABEL_FOLDERS = (
    "labels",
    "label",
    "masks",
    "mask",
    "annotations",
    "groundtruth",
    "ground_truth",
    "gt",
    "segmentations",
)


@dataclass(frozen=True)
class Listing:
    """The items of a data set.

    Args:
        items: {"image": address, "label": address}.
        settings: settings for a training to find the same items.
        reference: of the Cell Tracking Challenge: "silver" or "gold". None: another layout.
    """

    items: list[dict[str, Any]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    reference: str | None = None


def find_items(dataset: PathLike, given: Mapping[str, Any] | None = None) -> Listing:
    """List images with their labels.

    Looks for the layouts of `scripts.data.find_pairs`, then for a data set of the Cell Tracking Challenge. Last, for
    two folders of images, one with a usual name for labels.

    Args:
        dataset: folder, or a .json list.
        given: settings to choose the files: "datalist#image_dir", "datalist#label_dir", "tiff_axes".

    Raises:
        FileNotFoundError, ValueError, ImageFileError: as `find_pairs`.

    Example:
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> for name in ("raw", "masks"):
        ...     Path("cells", name).mkdir(parents=True)
        ...     Image.new("L", (7, 5)).save(Path("cells", name, "a.png"))
        >>> dict(find_items("cells").settings)
        {'datalist#image_dir': 'raw', 'datalist#label_dir': 'masks'}
    """
    chosen = {name: (given or {})[name] for name in OF_LISTS if (given or {}).get(name) is not None}
    names = {name.partition("#")[2] or name: value for name, value in chosen.items()}
    root = existing(dataset, "the folder of the data set")
    if root.is_dir() and not {"image_dir", "label_dir"} & names.keys():
        if not _usual(root) and (reference := _reference(root)):
            return Listing(find_cell_tracking(root, None, reference), chosen, reference)
        if not _usual(root) and (folders := _other_folders(root)):
            chosen |= {"datalist#image_dir": folders[0], "datalist#label_dir": folders[1]}
            names |= {"image_dir": folders[0], "label_dir": folders[1]}
    return Listing(find_pairs(root, **names), chosen)


def _usual(root: Path) -> bool:
    """Check for the layouts of `find_pairs`."""
    return any(
        (folder / "dataset.json").is_file() or ((folder / "images").is_dir() and (folder / "labels").is_dir())
        for folder in (root, root / "train")
    )


def _reference(root: Path) -> str | None:
    """The reference with the most sequences in a folder of the Cell Tracking Challenge; silver if both have as many."""
    counts = {name: len(list(root.glob(f"[0-9][0-9]_{kind}/SEG"))) for name, kind in (("silver", "ST"), ("gold", "GT"))}
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] and any(root.glob("[0-9][0-9]")) else None


def _other_folders(root: Path) -> tuple[str, str] | None:
    """The single folder of images, and the single folder of labels by its name."""
    folders = [
        folder for folder in sorted(root.iterdir()) if folder.is_dir() and any(map(image_suffix, folder.iterdir()))
    ]
    labels = [folder.name for folder in folders if folder.name.lower() in LABEL_FOLDERS]
    images = [folder.name for folder in folders if folder.name not in labels]
    return (images[0], labels[0]) if len(images) == len(labels) == 1 else None
