"""What the results of an image are called, so that no two images share a name."""

from __future__ import annotations

from pathlib import Path

from scripts.readers import PathLike, image_name, split_address


class ResultNames:
    """Names for results, from the names of images: without folder and ending, a plane with its number.

    Images of one name in different folders (`01/t000.tif` and `02/t000.tif`) are told apart: the first is `t000`, the
    second `02_t000`.

    Example:
        >>> names = ResultNames()
        >>> names.of("01/t000.tif"), names.of("02/t000.tif"), names.of("stack.tif#page=3")
        ('t000', '02_t000', 'stack_0003')
    """

    def __init__(self) -> None:
        self._owners: dict[str, Path] = {}

    def of_file(self, source: PathLike) -> str:
        """The name for the file that an address lies in, the same at every call.

        Raises:
            ValueError: two images of one folder differ in nothing but their ending.
        """
        path, _ = split_address(source)
        name = image_name(path)
        owner = self._owners.setdefault(name, path)
        if owner.parent != path.parent:
            name = f"{path.parent.name}_{name}"
            owner = self._owners.setdefault(name, path)
        if owner != path:
            raise ValueError(f"the results of {owner} and {path} would both be named {name}: rename one of the images")
        return name

    def of(self, source: PathLike) -> str:
        """The name for one plane: of its file, with the number of the plane where the file has several."""
        _, page = split_address(source)
        return self.of_file(source) + ("" if page is None else f"_{page:04d}")
