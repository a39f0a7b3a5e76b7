"""Infer by overlap tiles, choose precision and memory, and run exported networks.

| name                                         | what it does                                                         |
|----------------------------------------------|----------------------------------------------------------------------|
| `OverlapTileInferer`                         | segments images of any size, tile by tile                            |
| `MixedPrecisionInferer`                      | runs a forward pass in mixed precision                               |
| `ExportedNetwork`                            | runs an exported file in place of the network                        |
| `plan_tiles`, `TilePlan`, `Tile`, `TileRule` | lay tiles over an image                                              |
| `TileJob`, `TileBatch`, `TileMemoryError`    | tiles of a forward pass; error when memory is too small for one tile |
| `Orientation`, `turn`, `Region`              | flips and rotations of an image; a rectangle of it                   |
| `computes_in_bfloat16`, `can_compile`        | tell what a device supports                                          |
| `trains_in_channels_last`                    | tells the memory layout for fast training on a device                |
| `autocast`, `at_least_single`                | choose the precision                                                 |
| `training_layout`                            | chooses the memory layout for training                               |
| `KeepFreedMemory`, `keep_freed_memory`       | keep freed memory for the next step or tile                          |
"""

from ..lazy import lazy

_NAMES = {
    "exported": ["ExportedNetwork"],
    "memory": ["KeepFreedMemory", "keep_freed_memory"],
    "orientations": ["Orientation", "Region", "turn"],
    "overlap_tile": ["MixedPrecisionInferer", "OverlapTileInferer"],
    "precision": [
        "at_least_single",
        "autocast",
        "can_compile",
        "computes_in_bfloat16",
        "training_layout",
        "trains_in_channels_last",
    ],
    "smaller_passes": ["TileMemoryError"],
    "tiling": ["Tile", "TileBatch", "TileJob", "TilePlan", "TileRule", "plan_tiles"],
}
__all__ = [name for names in _NAMES.values() for name in names]
__getattr__, __dir__ = lazy(__name__, _NAMES)
