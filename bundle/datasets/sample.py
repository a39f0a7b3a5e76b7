"""`python -m bundle sample`: data to try everything with, made here and now, with nothing to download."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
from PIL import Image

from bundle.datasets.folders import whole_folder
from bundle.datasets.synthetic_em import SMALLEST_SIDE, synthetic_section
from bundle.errors import UsageError
from bundle.terminal import tracked

PARTS = ("train", "test")


def sample(folder: str, size: int = 512, train: int = 8, test: int = 4, seed: int = 0, overwrite: bool = False) -> None:
    """Make a synthetic electron microscopy data set; no download.

    Makes FOLDER/train/images, FOLDER/train/labels, FOLDER/test/images and FOLDER/test/labels with equal names: 8-bit
    grey PNG images and 16-bit PNG instance labels (0 = membrane, 1, 2, ... = cells). The same arguments give the same
    data. All of it is computed: good to try and to test with, not to publish from.

    Args:
        folder: where to write; made if absent.
        size: side of each square image in pixels, 64 or more.
        train: number of images to train with.
        test: number of images to test with.
        seed: another seed gives other images.
        overwrite: replace an earlier data set in FOLDER.
    """
    limits = {"size": (size, SMALLEST_SIDE), "train": (train, 1), "test": (test, 0), "seed": (seed, 0)}
    for name, (value, least) in limits.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise UsageError(f"--{name} is {value!r}, expected a whole number of at least {least}")
    target = Path(str(folder))  # fire reads a bare 2024 as a number
    with whole_folder(target, overwrite, PARTS) as new:
        for k in tracked(range(train + test), f"drawing {size} x {size} sections"):
            part, number = ("train", k) if k < train else ("test", k - train)
            image, labels = synthetic_section(np.random.default_rng([seed, k]), (size, size))
            for kind, pixels in (("images", image), ("labels", labels)):
                path = new / part / kind / f"{number:02d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    print(f"{target}: {train} images to train with, {test} to test with, {size} x {size} pixels, with instance labels")
    print("next: python -m bundle run training --config_file configs/train.yaml \\")
    print(f"          --dataset_dir {shlex.quote(str(target / 'train'))} --label_kind instances")
