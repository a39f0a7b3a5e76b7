"""Segment images larger than memory, block by block, with the pixels and objects of a small image.

| name                             | what it does                                                     |
|----------------------------------|------------------------------------------------------------------|
| `BlockGrid`, `Block`             | divide the planes of an image into blocks                        |
| `open_source`, `LargeImage`      | open an image of any format, to read regions of its planes       |
| `block_objects`, `BlockObjects`  | find the objects of a block; labels and file                     |
| `BlockSeam`                      | the objects of a block at its seams, for `join`                  |
| `join`, `Joined`                 | join and number the objects of all blocks; numbers and file      |
| `JoinedLabels`                   | reads the joined numbers in a window of a plane                  |
| `final_labels`, `closing_halo`   | closes gaps; pixels around a block needed for that               |
"""

from ..lazy import lazy

_NAMES = {
    "grid": ["Block", "BlockGrid"],
    "joining": ["Joined", "JoinedLabels", "join"],
    "objects": ["BlockObjects", "BlockSeam", "block_objects", "closing_halo", "final_labels"],
    "source": ["LargeImage", "open_source"],
}
__all__ = [name for names in _NAMES.values() for name in names]
__getattr__, __dir__ = lazy(__name__, _NAMES)
