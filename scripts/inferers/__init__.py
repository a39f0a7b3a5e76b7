"""Infer by overlap tiles, choose precision and memory, and run exported networks."""

from scripts.inferers.exported import ExportedNetwork
from scripts.inferers.memory import KeepFreedMemory, keep_freed_memory
from scripts.inferers.orientations import Orientation, turn
from scripts.inferers.overlap_tile import MixedPrecisionInferer, OverlapTileInferer
from scripts.inferers.precision import (
    at_least_single,
    autocast,
    can_compile,
    computes_in_bfloat16,
    training_layout,
    trains_in_channels_last,
)
from scripts.inferers.smaller_passes import TileMemoryError
from scripts.inferers.tiling import Tile, TileBatch, TileJob, TilePlan, TileRule, plan_tiles

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
