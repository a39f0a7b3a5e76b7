"""Segment images larger than memory, block by block, with the pixels and objects of a small image.

| name                             | what it does                                                     |
|----------------------------------|------------------------------------------------------------------|
| `BlockGrid`, `Block`             | divide the planes of an image into blocks                        |
| `open_source`, `LargeImage`      | open an image of any format, to read regions of its planes       |
| `plane_statistics`, `GreyValues` | find the scale of a plane's grey values, normalise blocks        |
| `BlockStatistics`                | statistics of a block, to merge                                  |
| `OmeZarrOutput`                  | writes results as OME-Zarr, block by block                       |
| `block_objects`, `BlockObjects`  | find the objects of a block; labels and file                     |
| `BlockSeam`                      | the objects of a block at its seams, for `join`                  |
| `join`, `Joined`                 | join and number the objects of all blocks; numbers and file      |
| `JoinedLabels`                   | reads the joined numbers in a window of a plane                  |
| `final_labels`, `closing_halo`   | closes gaps; pixels around a block needed for that               |
| `measure_block`, `BlockMeasures` | measure the objects and parts of objects in a block; file        |
| `write_plane`                    | adds the objects of a plane to objects.csv                       |
| `LargeSegmentation`              | segments a large image into OME-Zarr                             |
| `check_output`                   | refuses to replace results and foreign files; loads no torch     |
| `OnDask`                         | runs blocks on the workers of dask.distributed                   |
"""

from ..lazy import lazy

_NAMES = {
    "grey_values": ["BlockStatistics", "GreyValues", "plane_statistics"],
    "grid": ["Block", "BlockGrid"],
    "joining": ["Joined", "JoinedLabels", "join"],
    "measuring": ["BlockMeasures", "measure_block", "write_plane"],
    "objects": ["BlockObjects", "BlockSeam", "block_objects", "closing_halo", "final_labels"],
    "ome_zarr": ["OmeZarrOutput"],
    "outputs": ["check_output"],
    "schedulers": ["OnDask"],
    "segmentation": ["LargeSegmentation"],
    "source": ["LargeImage", "open_source"],
}
__all__ = [name for names in _NAMES.values() for name in names]
__getattr__, __dir__ = lazy(__name__, _NAMES)
