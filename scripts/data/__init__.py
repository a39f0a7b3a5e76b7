"""Find images and labels, split them into training and validation, load them, find unannotated pixels.

| name                                       | what it does                                                      |
|--------------------------------------------|-------------------------------------------------------------------|
| `find_images`, `find_pairs`                | list images, or images with their labels                          |
| `natural_order`                            | sorts t2 before t10                                               |
| `check_pairs`                              | compares the headers of images and labels                         |
| `check_labels`                             | checks labels and pairs before a training, describes the labels   |
| `split_datalist`, `save_split`             | split items into training and validation; save the split          |
| `split_cell_tracking`                      | splits a data set of the Cell Tracking Challenge                  |
| `TolerantDataset`                          | data set that reports damaged files instead of stopping           |
| `ReadAheadLoader`, `processes_for`         | data loader that prepares the next batch; number of its processes |
| `ThreadCacheDataset`                       | caches images by threads that end with the first error            |
| `find_images_once`                         | lists images in one of several processes, for all                 |
| `ShareSampler`, `share_images`             | give each of several processes a share of the images              |
| `pixel_size_of`, `describe_training`       | read the pixel size of images; describe the images of a training  |
| `TileSampler`, `TileDataset`, `TileLoader` | draw the tiles of a training, equal for any number of processes   |
| `Drawn`                                    | index of a tile in a `TileDataset`: image, seed                   |
| `annotated_pixels`                         | finds the annotated pixels                                        |
| `mark_border`, `mark_unannotated`          | mark background as not annotated                                  |
| `source_of`, `file_of`, `describe_failure` | name the file of an item, for messages                            |
| `content_of_files`, `seed_everything`      | checksums of an item's files; seeds of the global random numbers  |
"""

from .annotation import annotated_pixels, mark_border, mark_unannotated
from .cell_tracking import split_cell_tracking
from .datalist import find_images, find_pairs, natural_order
from .datasets import ReadAheadLoader, ThreadCacheDataset, TolerantDataset, processes_for
from .items import content_of_files, describe_failure, file_of, source_of
from .label_check import check_labels
from .pairs import check_pairs
from .pixel_size import describe_training, pixel_size_of
from .sharing import ShareSampler, find_images_once, share_images
from .splits import save_split, split_datalist
from .tiles import Drawn, TileDataset, TileLoader, TileSampler, seed_everything

__all__ = [
    "Drawn",
    "ReadAheadLoader",
    "ShareSampler",
    "ThreadCacheDataset",
    "TileDataset",
    "TileLoader",
    "TileSampler",
    "TolerantDataset",
    "annotated_pixels",
    "check_labels",
    "check_pairs",
    "content_of_files",
    "describe_failure",
    "describe_training",
    "file_of",
    "find_images",
    "find_images_once",
    "find_pairs",
    "mark_border",
    "mark_unannotated",
    "natural_order",
    "pixel_size_of",
    "processes_for",
    "save_split",
    "seed_everything",
    "share_images",
    "source_of",
    "split_cell_tracking",
    "split_datalist",
]
