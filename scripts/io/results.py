"""List the result files of every image, find finished images, and protect files of others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from .files import identities, refuse_overwriting
from .names import PathLike, shown, split_address
from .record import RECORD, RunRecord
from .tables import has_columns
from .writer import SegmentationStore

OF_OBJECTS = ("objects.csv", "images.csv")
TABLES = {**{name: ["image"] for name in OF_OBJECTS}, "classes.csv": ["value", "class"]}  # first columns
REMEDY = "set output_dir to another folder"


class ResultFolder:
    """Know the result files of every image of a run, and keep the record of finished images.

    Args:
        store: writes the maps.
        kinds: all kinds of results: the store's, "overlays" and "objects".
        sources: addresses of all images or planes.
        settings: what decides the results, name -> text.
        rank: number of this process.

    Example:
        >>> from scripts.io import SegmentationStore
        >>> folder = ResultFolder(SegmentationStore("out", ["classes"]), ["classes"], ["a.png", "b.tif#page=0"], {})
        >>> [path.as_posix() for path in folder.files("b.tif", ["classes"])]
        ['out/classes/b.tif']
    """

    def __init__(
        self,
        store: SegmentationStore,
        kinds: Sequence[str],
        sources: Sequence[str],
        settings: Mapping[str, str],
        rank: int = 0,
    ) -> None:
        self.path = store.output_dir
        self.record = RunRecord(self.path, settings, rank)
        self._store = store
        self._kinds = list(kinds)
        self.planes: dict[Path, list[str]] = {}  # image file -> addresses of its planes
        for source in sources:
            self.planes.setdefault(split_address(source)[0], []).append(source)
        self._left = Counter({path: len(addresses) for path, addresses in self.planes.items()})
        self._written: dict[Path, list[str]] = {}  # kinds of images that are not yet recorded

    def name(self, path: PathLike) -> str:
        """Name an image or a plane in the tables and in the record."""
        return self._store.names.in_table(path)

    def files(self, path: PathLike, kinds: Iterable[str]) -> list[Path]:
        """List the result files of an image.

        Raises:
            ValueError: two images would have equal results.
        """
        files = [self._store.path_of(kind, path) for kind in self._store.kinds if kind in kinds]
        if "overlays" in kinds:
            addresses = self.planes.get(Path(path), [str(path)])
            files += [self.path / "overlays" / f"{self._store.names.of(address)}.png" for address in addresses]
        return files

    def order(self) -> list[str]:
        """List the names of all images in the tables, in the order of the run."""
        names = []
        for path in self.planes:
            with suppress(ValueError):  # two images would have equal results
                names.append(self.name(path))
        return names

    def finished(self) -> dict[Path, str]:
        """Find the images whose results are complete: file -> name in the tables.

        Raises:
            ValueError: the results are of other settings. The message names the settings.
        """
        if self.record.exists and self.record.differences():
            raise ValueError(
                f"skip_finished: {shown(self.path)} has results of other settings: {self.record.differences()}. "
                f"{REMEDY.capitalize()}, or skip_finished to false to segment all images again"
            )
        tables = [self.path / name for name in OF_OBJECTS]
        if "objects" in self._kinds and not all(table.is_file() and self._is_own(table) for table in tables):
            return {}  # rows of finished images would be lost
        return {path: self.name(path) for path in self.planes if self._is_finished(path)}

    def _is_finished(self, path: Path) -> bool:
        try:
            entry = self.record.finished(self.name(path), path)
            if entry is None or entry["pages"] != self._pages(path) or not set(self._kinds) <= set(entry["asked"]):
                return False
            return all(file.is_file() for file in self.files(path, set(self._kinds) & set(entry["kinds"])))
        except (ValueError, KeyError, TypeError):  # two images with one name, or a foreign record
            return False

    def _pages(self, path: Path) -> list[int | None]:
        """Describe the planes of an image: first, last, number."""
        pages = [split_address(address)[1] for address in self.planes.get(path, [str(path)])]
        return [pages[0], pages[-1], len(pages)]

    def check(self, sources: Iterable[PathLike]) -> None:
        """Refuse to write over files that must stay.

        Args:
            sources: images, labels and other files of the run.

        Raises:
            ValueError: a result would replace a source, or a file that no run of this program has left.
        """
        results = [self.path / name for name in (*TABLES, RECORD)]
        foreign = [path for path in results if path.exists() and not self._is_own(path)]
        own = any(path.exists() for path in (*results, self.path / "metrics.json"))
        for path in self.planes:
            try:
                results += self.files(path, self._kinds)
            except ValueError:  # two images with one name: said when they are written
                continue
        refuse_overwriting(results, identities(sources), REMEDY)
        if not own:
            foreign += [path for path in results if path.exists()]
        if foreign:
            more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
            raise ValueError(
                f"{shown(foreign[0])}{more} would be replaced, and no run of this program has written it in this form; "
                f"{REMEDY}, or move the files away"
            )

    def _is_own(self, path: Path) -> bool:
        """Check whether a table or the record in the folder is of this program."""
        if path.name == RECORD:
            return self.record.exists or path.stat().st_size == 0
        return has_columns(path, TABLES[path.name])

    def begin(self, finished: Mapping[Path, str]) -> None:
        """Start the record of this run. Images that stay finished are kept."""
        self.record.begin({name: self.record.images[name] for name in finished.values()})

    def add(self, source: str, kinds: Iterable[str]) -> None:
        """Note that a plane is written. An image is recorded as finished after its last plane.

        Args:
            source: address of the plane.
            kinds: results that the plane has. Kinds that were not computed are absent.
        """
        path, _ = split_address(source)
        self._left[path] -= 1
        self._written[path] = [kind for kind in self._kinds if kind in kinds]
        self.record_finished()

    def record_finished(self) -> None:
        """Record images with all planes written and all files complete. Call at the end, too."""
        waiting = set(self._store.unfinished)
        for path, kinds in list(self._written.items()):
            if self._left[path] <= 0 and waiting.isdisjoint(self.files(path, kinds)):
                content = {"pages": self._pages(path), "asked": self._kinds, "kinds": kinds}
                self.record.add(self.name(path), path, content)
                del self._written[path]
