"""SEG and DET of the challenge organisers' own package beside ours, on the predictions of an experiment.

    python -m bundle reproduce hela
    python -m benchmarks.organisers results/hela --data data/DIC-C2DH-HeLa [--evaluation silver]

Theirs is `py-ctcmetrics` (a development dependency), run on files in the challenge's layout that are made for it.
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
    """SEG and DET by `ctc_metrics`, from files; every object is a track of one frame, so ids are made unique.

    Args:
        folder: where the files are written, empty.
        results: label images, one a frame.
        references: theirs; None: the frame has no mask.
        markers: theirs.
    """
    from ctc_metrics import evaluate_sequence  # a development dependency, not for importing this module

    tracks: dict[str, list[str]] = {"GT/TRA/man_track": [], "RES/res_track": []}
    first = {"RES/mask": 1, "GT/TRA/man_track": 1, "GT/SEG/man_seg": 1}  # the next free number of each
    for t, (result, reference, marker) in enumerate(zip(results, references, markers, strict=True)):
        for name, labels in (("RES/mask", result), ("GT/TRA/man_track", marker), ("GT/SEG/man_seg", reference)):
            if labels is None:
                continue
            ids = np.unique(labels[labels > 0])
            unique = np.append(0, first[name] + np.arange(len(ids)))
            first[name] += len(ids)
            if first[name] > 2**16:
                raise ValueError(
                    f"{first[name] - 1} objects in all frames; the challenge's files hold 65535: give fewer"
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
    """Print both values of both measures."""
    parser = argparse.ArgumentParser(description="SEG and DET: the organisers' package beside ours.")
    parser.add_argument("results", type=Path, help="folder of one experiment, made by python -m bundle reproduce")
    parser.add_argument("--data", type=Path, required=True, help="the data set, which holds 01, 01_GT, ...")
    parser.add_argument("--evaluation", default="silver", help="which one; it kept its results")
    arguments = parser.parse_args()
    evaluation = arguments.results / "evaluation" / arguments.evaluation
    ours = json.loads((evaluation / "object_metrics.json").read_text())
    rule = json.loads((evaluation / "split.json").read_text())["rule"]["validation"]
    sequence, kind = rule["sequences"], {"silver": "ST", "gold": "GT"}[rule["reference"]]
    if not isinstance(sequence, str):
        raise SystemExit(f"measured were the sequences {sequence}; evaluate one: --validation_frames#sequences 01")
    found = sorted((evaluation / "instances").glob("t*.tif"))
    if not found:
        raise SystemExit(f"no label images in {evaluation / 'instances'}: evaluate with --save_results true")
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
