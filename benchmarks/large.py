"""Segment a made-up large image block by block: time, peak memory, and equality with the result in memory.

    python -m benchmarks.large --size 20000 --data data --out output/large --weights nuclei_small
    python -m benchmarks.large --size 50000 --data data --out output/large --weights nuclei_small --filled 0.04

The image is real: nuclei of DSB2018-fluo, or a slice of ISBI 2012 for the weights `em`, mirrored side by side. With
`--filled`, only this share of the image has pixels, in a square; the rest is 0, and its blocks are not computed. The
peak is that of all processes, with Python and torch. Equality: a part of `--part` pixels squared is segmented in
memory, with mean and deviation of the whole image; the pixels, and the objects that do not touch the border, are
compared. `--small` also times the command for small images, without overlays.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tifffile
import torch

from benchmarks.tasks import TASKS
from bundle.experiments.provenance import hardware, versions
from bundle.running.run import ROOT
from scripts.data.datalist import find_pairs
from scripts.inferers import OverlapTileInferer
from scripts.io.files import write_json
from scripts.io.names import split_address
from scripts.io.reader import open_image
from scripts.segmenter import Segmenter
from scripts.transforms.activations import probabilities
from scripts.transforms.objects import instances_from_scores

CHUNK = 2048  # of the made-up image
BORDER = 256  # pixels around a compared part


def write_image(path: Path, size: int, pattern: np.ndarray, filled: float = 1.0) -> None:
    """Write a large OME-Zarr image: a pattern, mirrored side by side.

    Args:
        path: folder of the image. An existing one stays.
        size: height and width in pixels.
        pattern: (h, w), uint8.
        filled: share of the pixels that have the pattern, from the upper left. The others are 0.

    Example:
        >>> write_image(Path("image.ome.zarr"), 5000, np.arange(256, dtype=np.uint8)[None].repeat(9, 0), filled=0.25)
        >>> import zarr
        >>> zarr.open_group("image.ome.zarr")["0"].shape
        (5000, 5000)
    """
    if path.exists():
        return
    import zarr

    temporary = path.with_name(f".{path.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    group = zarr.open_group(temporary, mode="w")
    array = group.create_array("0", shape=(size, size), dtype="uint8", chunks=(CHUNK, CHUNK), fill_value=0)
    edge = round(size * filled**0.5)
    for top in range(0, edge, CHUNK):
        for left in range(0, edge, CHUNK):
            rows, columns = (
                mirrored(range(at, min(at + CHUNK, edge)), n) for at, n in zip((top, left), pattern.shape, strict=True)
            )
            array[top : min(top + CHUNK, edge), left : min(left + CHUNK, edge)] = pattern[np.ix_(rows, columns)]
    scale = [{"type": "scale", "scale": [1.0, 1.0]}]
    axes = [{"name": name, "type": "space"} for name in "yx"]
    image: Any = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    temporary.rename(path)


def mirrored(places: Sequence[int], length: int) -> np.ndarray:
    """Get the places in a pattern of a length that is mirrored again and again, without repeating its ends.

    Example:
        >>> mirrored(range(7), 3)
        array([0, 1, 2, 1, 0, 1, 2])
    """
    period = max(2 * length - 2, 1)
    rest = np.asarray(places) % period
    return np.where(rest < length, rest, period - rest)


def run_watched(command: Sequence[str]) -> tuple[float, int]:
    """Run a command. Return its seconds, and the peak memory in bytes of all its processes together.

    Raises:
        RuntimeError: the command failed.

    Example:
        >>> run_watched([sys.executable, "-c", "pass"])[1] > 0
        True
    """
    begun, peak = time.monotonic(), 0
    process = psutil.Popen(command, cwd=ROOT)
    while process.poll() is None:
        try:
            family = [process, *process.children(recursive=True)]
            peak = max(peak, sum(member.memory_info().rss for member in family))
        except psutil.Error:  # ended meanwhile
            pass
        time.sleep(0.05)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with the code {process.returncode}")
    return time.monotonic() - begun, peak


def same_objects(found: np.ndarray, expected: np.ndarray) -> dict[str, int]:
    """Count the objects of two label images that are pixel by pixel the same, without objects at the border.

    Example:
        >>> a, b = np.zeros((5, 9), int), np.zeros((5, 9), int)
        >>> a[2, 2:4], b[2, 2:4], b[2, 6] = 7, 3, 4
        >>> same_objects(a, b)
        {'objects': 2, 'same': 1}
    """
    inner = []
    for labels in (found, expected):
        border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
        inner.append(np.where(np.isin(labels, border), 0, labels))
    pairs, counts = np.unique(np.stack([labels.ravel() for labels in inner]), axis=1, return_counts=True)
    areas = [dict(zip(*np.unique(labels, return_counts=True), strict=True)) for labels in inner]
    same = [a for (a, b), n in zip(pairs.T, counts, strict=True) if a and b and n == areas[0][a] == areas[1][b]]
    return {"objects": int(np.count_nonzero(list(areas[1]))), "same": len(same)}


def compare(result: Path, image: Path, weights: str, part: int) -> dict[str, Any]:
    """Segment a part in the middle of the image in memory, and compare its pixels and objects with the result.

    The part is segmented with a border of 256 pixels, and with mean and standard deviation of the whole image.

    Args:
        result: a segmented image.
        image: of `write_image`.
        weights: name or file, for `z_score`.
        part: height and width in pixels.

    Returns:
        "probability": largest difference in 255ths; "classes": pixels that differ; `same_objects`.
    """
    import zarr

    segmenter = Segmenter(weights)
    source, found = zarr.open_group(image, mode="r")["0"], zarr.open_group(result, mode="r")
    assert isinstance(source, zarr.Array)
    length = source.shape[0]
    part = min(part, length)
    start = (length - part) // 2 // 16 * 16  # on the pooling grid of the whole image
    before, after = min(BORDER, start), min(BORDER, length - start - part)
    wide, inner = slice(start - before, start + part + after), slice(before, before + part)
    offset, scale = moments(source)
    pixels = (np.asarray(source[wide, wide], np.float32) - offset) / scale
    with torch.inference_mode():
        scores = OverlapTileInferer(amp_dtype="auto")(torch.from_numpy(pixels)[None, None], segmenter.network)
        chances = probabilities(scores[0]).numpy()
    settings = segmenter.settings
    labels = instances_from_scores(
        chances[1],
        settings.threshold,
        settings.min_area,
        fill_holes=settings.fill_holes,
        split=settings.split_necks,
        gap=settings.close_gaps,
    )
    there = (slice(start, start + part), slice(start, start + part))
    saved, classes, instances = (
        np.asarray(found[name][at])  # type: ignore[index]
        for name, at in (("0", (1, *there)), ("labels/classes/0", there), ("labels/instances/0", there))
    )
    return {
        "part": part,
        "probability": int(np.abs(np.rint(255 * chances[1][inner, inner]) - saved).max()),
        "classes": int(np.count_nonzero(chances.argmax(axis=0)[inner, inner] != classes)),
        **same_objects(instances, labels[inner, inner]),
    }


def moments(array: Any) -> tuple[float, float]:
    """Get mean and standard deviation of an image of 8 bit, exactly.

    Example:
        >>> moments(np.array([[1, 3]], np.uint8))
        (2.0, 1.0)
    """
    counts = np.zeros(256, np.int64)
    for top in range(0, array.shape[0], CHUNK):
        counts += np.bincount(np.asarray(array[top : top + CHUNK]).ravel(), minlength=256)
    values = np.arange(256)
    mean = float(counts @ values) / counts.sum()
    return float(mean), float(np.sqrt(counts @ (values - mean) ** 2 / counts.sum()))


def pattern_of(data: Path, weights: str) -> np.ndarray:
    """Read the pattern of the image: 9 images of nuclei of 360 x 360, or a slice of membranes of 512 x 512."""
    task = TASKS["em" if weights.startswith("em") else "nuclei"]
    files = [item["image"] for item in find_pairs(str(data / task.folder))]
    planes = (open_image(split_address(file)[0]).plane(split_address(file)[1] or 0) for file in files)
    if weights.startswith("em"):
        return np.asarray(next(planes))
    chosen = list(islice((plane for plane in planes if plane.shape == (360, 360)), 9))
    return np.vstack([np.hstack(chosen[row : row + 3]) for row in (0, 3, 6)])


def main() -> None:
    """Make an image, segment it, and print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, required=True, help="height and width in pixels")
    parser.add_argument("--weights", default="nuclei_small", help="name or file (default: %(default)s)")
    parser.add_argument("--filled", type=float, default=1.0, help="share of the image with pixels")
    parser.add_argument("--part", type=int, default=4096, help="of the comparison, in pixels; 0: none")
    parser.add_argument("--small", action="store_true", help="also time the command for small images, without pyramids")
    parser.add_argument("--scheduler", default=None)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    image = (given.out / f"image-{given.size}-{given.filled:g}.ome.zarr").resolve()
    write_image(image, given.size, pattern_of(given.data, given.weights), given.filled)
    name = f"{given.size}-{given.filled:g}{'' if given.scheduler is None else '-dask'}"
    result = (given.out / f"result-{name}.ome.zarr").resolve()
    command = [sys.executable, "-m", "bundle", "segment", str(image), "--weights", given.weights]
    options = ["--output", str(result), "--overwrite", "true"]
    options += ["--foreground_above", "0"] if given.filled < 1 else []
    options += [] if given.scheduler is None else ["--scheduler", given.scheduler]
    seconds, peak = run_watched([*command, *options])
    facts: dict[str, Any] = {"size": given.size, "filled": given.filled, "weights": given.weights}
    facts |= {"scheduler": given.scheduler, "seconds": seconds, "peak_bytes": peak}
    if given.small:
        import zarr

        tiff = image.with_suffix(".tif")
        array = zarr.open_group(image, mode="r")["0"]
        tifffile.imwrite(tiff, np.asarray(array))
        facts["small_seconds"], facts["small_peak_bytes"] = run_watched(
            [
                *command[:4],
                str(tiff),
                *command[5:],
                "--output",
                str(given.out / f"small-{name}"),
                "--save_overlays",
                "false",
            ]
        )
    if given.part:
        facts |= compare(result, image, given.weights, given.part)
    print(json.dumps(facts, indent=1))
    write_json(given.out / f"large-{name}.json", {**facts, "versions": versions(), "hardware": hardware()})


if __name__ == "__main__":
    main()
