"""`python -m bundle sample`: compute a small data set for trials, without a download."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
from PIL import Image

from bundle.datasets.folders import whole_folder
from bundle.datasets.synthetic_em import SMALLEST_SIDE, synthetic_section
from bundle.running.errors import check_whole
from bundle.running.terminal import tracked


def sample(folder: str, size: int = 512, train: int = 8, test: int = 4, seed: int = 0, overwrite: bool = False) -> None:
    """Make a synthetic electron microscopy data set; no download.

    Makes FOLDER/train/images, FOLDER/train/labels, FOLDER/test/images and FOLDER/test/labels. An image and its label
    have the same name. Images are 8-bit grey PNG, labels 16-bit PNG instance labels: 0 = membrane, 1, 2, ... = cells.
    The same arguments give the same data. The data are for trials and tests, not for publications.

    Examples:
        python -m bundle sample data/sample
        python -m bundle sample data/small --size 128 --train 2 --test 1

    Args:
        folder: where to write; made if absent.
        size: side of each square image in pixels, 64 or more.
        train: number of training images, 1 or more.
        test: number of test images.
        seed: random seed; another seed gives other images.
        overwrite: replace an earlier data set in FOLDER.
    """
    check_whole("size", size, SMALLEST_SIDE)
    check_whole("train", train)
    check_whole("test", test, least=0)
    check_whole("seed", seed, least=0)
    target = Path(str(folder))  # fire reads a bare 2024 as a number
    with whole_folder(target, overwrite, ("train", "test")) as new:
        for k in tracked(range(train + test), f"drawing {size} x {size} sections"):
            part, number = ("train", k) if k < train else ("test", k - train)
            image, labels = synthetic_section(np.random.default_rng([seed, k]), (size, size))
            for kind, pixels in (("images", image), ("labels", labels)):
                path = new / part / kind / f"{number:02d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    print(f"{target}: {train} images to train with, {test} to test with, {size} x {size} pixels, with instance labels")
    data = subprocess.list2cmdline([str(target / "train")])
    print(f"next: python -m bundle train {data} --overlay variant_adam,demo")  # as `make demo`
