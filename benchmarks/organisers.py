"""Compare SEG and DET with the package of the challenge's organisers, on the predictions of an experiment.

    python -m bundle reproduce hela
    python -m benchmarks.organisers results/hela --data data/DIC-C2DH-HeLa [--evaluation silver]

The package is `py-ctcmetrics`, a development dependency. It reads files in the challenge's layout, written here.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile

Frames = Sequence[np.ndarray]


def organisers(
    folder: Path, results: Frames, references: Sequence[np.ndarray | None], markers: Frames
) -> dict[str, float]:
    """Measure SEG and DET with `ctc_metrics`. Every object becomes a track of one frame, with a unique number.

    Args:
        folder: empty folder for the files.
        results: label images, one per frame.
        references: their reference label images. None: a frame without masks.
        markers: their label images of markers.

    Returns:
        "SEG" and "DET".

    Raises:
        ValueError: more than 65535 objects.
    """
    from ctc_metrics import evaluate_sequence  # a development dependency, not for importing this module

    tracks: dict[str, list[str]] = {"GT/TRA/man_track": [], "RES/res_track": []}
    first = {"RES/mask": 1, "GT/TRA/man_track": 1, "GT/SEG/man_seg": 1}  # next free numbers
    for t, (result, reference, marker) in enumerate(zip(results, references, markers, strict=True)):
        for name, labels in (("RES/mask", result), ("GT/TRA/man_track", marker), ("GT/SEG/man_seg", reference)):
            if labels is None:
                continue
            ids = np.unique(labels[labels > 0])
            unique = np.append(0, first[name] + np.arange(len(ids)))
            first[name] += len(ids)
            if first[name] > 2**16:
                raise ValueError(
                    f"{first[name] - 1} objects in all frames, the challenge's files hold 65535. Give fewer frames"
                )
            path = folder / f"01_{name}{t:03d}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, unique[np.searchsorted(np.append(0, ids), labels)].astype(np.uint16))
            file = name.replace("RES/mask", "RES/res_track")
            if file in tracks:
                tracks[file] += [f"{number} {t} {t} 0\n" for number in unique[1:]]
    for file, lines in tracks.items():
        (folder / f"01_{file}.txt").write_text("".join(lines))
    found: dict[str, float] = evaluate_sequence(
        str(folder / "01_RES"), str(folder / "01_GT"), ["SEG", "DET"], threads=1
    )
    return found


def main() -> None:
    """Print SEG and DET of both programs."""
    parser = argparse.ArgumentParser(description="SEG and DET: the organisers' package beside ours.")
    parser.add_argument("results", type=Path, help="folder of one experiment, made by python -m bundle reproduce")
    parser.add_argument("--data", type=Path, required=True, help="the data set, which holds 01, 01_GT, ...")
    parser.add_argument("--evaluation", default="silver", help="name of the evaluation, run with --save_results true")
    arguments = parser.parse_args()
    evaluation = arguments.results / "evaluation" / arguments.evaluation
    ours = json.loads((evaluation / "object_metrics.json").read_text())
    rule = json.loads((evaluation / "split.json").read_text())["rule"]["validation"]
    sequence, kind = rule["sequences"], {"silver": "ST", "gold": "GT"}[rule["reference"]]
    if not isinstance(sequence, str):
        raise SystemExit(f"found the sequences {sequence}. Evaluate one: --validation_frames#sequences 01")
    found = sorted((evaluation / "instances").glob("t*.tif"))
    if not found:
        raise SystemExit(f"no label images in {evaluation / 'instances'}. Evaluate with --save_results true")
    frames = [path.stem[1:] for path in found]
    results, references, markers = (
        [tifffile.imread(path) for path in paths]
        for paths in (
            found,
            [arguments.data / f"{sequence}_{kind}" / "SEG" / f"man_seg{frame}.tif" for frame in frames],
            [arguments.data / f"{sequence}_GT" / "TRA" / f"man_track{frame}.tif" for frame in frames],
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        theirs = organisers(Path(folder), results, references, markers)
    print(
        f"{len(frames)} frames, {ours['reference_objects']} reference objects\n        organisers        ours   differ"
    )
    for name in ("SEG", "DET"):
        value = ours[name.lower()]
        print(f"{name}  {theirs[name]:14.10f}{value:14.10f}{abs(theirs[name] - value):9.0e}")


if __name__ == "__main__":
    main()
