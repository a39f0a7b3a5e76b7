"""What `python -m bundle fetch` has to know of a data set."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Checked:
    """Data that were found and passed every check, ready to be written.

    Attributes:
        write: puts them into an empty folder, in the layout that the workflows read.
        content: what there is, in words.
        verified: what was compared with the checksum list, in words.
        notes: further lines that the user should see, such as what could not be compared.
    """

    write: Callable[[Path], None]
    content: str
    verified: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataSet:
    """One entry of the table of `bundle.datasets.fetch`.

    Attributes:
        name: how the command line calls it.
        mirrors: public addresses, tried in this order; as `bundle.datasets.download.bring` takes them.
        files: the publisher's own files, which an address that ends in "/" has to offer.
        by_hand: what to get where it cannot be downloaded; a sentence that goes on with a command.
        folder: where it goes unless told otherwise, where its configuration looks for it.
        parts: names of all entries that may be made there.
        layout: folders that must be there before a folder is looked at as an earlier copy.
        check: (folder that holds the data at some depth, source for messages) -> data; RunError if anything is wrong.
        terms: conditions of use and what to cite.
        config: the configuration to train with.
        dataset_dir: folder below `folder` that this configuration takes as `dataset_dir`; "" for itself.
    """

    name: str
    mirrors: tuple[str, ...]
    files: tuple[str, ...]
    by_hand: str
    folder: str
    parts: Collection[str]
    layout: Collection[str]
    check: Callable[[Path, str], Checked]
    terms: str
    config: str
    dataset_dir: str = ""
