"""Segment images larger than memory, block by block, with the pixels and objects of a small image.

| name                 | what it does                                        |
|----------------------|-----------------------------------------------------|
| `BlockGrid`, `Block` | divide the planes of an image into blocks           |
"""

from ..lazy import lazy

_NAMES = {
    "grid": ["Block", "BlockGrid"],
}
__all__ = [name for names in _NAMES.values() for name in names]
__getattr__, __dir__ = lazy(__name__, _NAMES)
