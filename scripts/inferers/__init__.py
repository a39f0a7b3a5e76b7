"""Infer by overlap tiles, choose precision and memory, and run exported networks.

| name                                         | what it does                                                         |
|----------------------------------------------|----------------------------------------------------------------------|
| `OverlapTileInferer`                         | segments images of any size, tile by tile                            |
| `MixedPrecisionInferer`                      | runs a forward pass in mixed precision                               |
| `ExportedNetwork`                            | runs an exported file in place of the network                        |
| `plan_tiles`, `TilePlan`, `Tile`, `TileRule` | lay tiles over an image                                              |
| `TileJob`, `TileBatch`, `TileMemoryError`    | tiles of a forward pass; error when memory is too small for one tile |
| `Orientation`, `turn`                        | flips and rotations of an image                                      |
| `computes_in_bfloat16`, `can_compile`        | tell what a device supports                                          |
| `trains_in_channels_last`                    | tells the memory layout for fast training on a device                |
| `autocast`, `at_least_single`                | choose the precision                                                 |
| `training_layout`                            | chooses the memory layout for training                               |
| `KeepFreedMemory`, `keep_freed_memory`       | keep freed memory for the next step or tile                          |
"""

from .exported import ExportedNetwork
from .memory import KeepFreedMemory, keep_freed_memory
from .orientations import Orientation, turn
from .overlap_tile import MixedPrecisionInferer, OverlapTileInferer
from .precision import (
    at_least_single,
    autocast,
    can_compile,
    computes_in_bfloat16,
    training_layout,
    trains_in_channels_last,
)
from .smaller_passes import TileMemoryError
from .tiling import Tile, TileBatch, TileJob, TilePlan, TileRule, plan_tiles

__all__ = [
    "ExportedNetwork",
    "KeepFreedMemory",
    "MixedPrecisionInferer",
    "Orientation",
    "OverlapTileInferer",
    "Tile",
    "TileBatch",
    "TileJob",
    "TileMemoryError",
    "TilePlan",
    "TileRule",
    "at_least_single",
    "autocast",
    "can_compile",
    "computes_in_bfloat16",
    "keep_freed_memory",
    "plan_tiles",
    "training_layout",
    "trains_in_channels_last",
    "turn",
]
