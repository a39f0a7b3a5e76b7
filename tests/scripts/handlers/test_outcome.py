"""A training whose weights find nothing says so at its end."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from scripts.handlers.outcome import nothing_found
from scripts.io.files import write_csv
from scripts.settings import FittedObjects, ModelSettings, Training, write_weights

NAMES = ["background", "cell", "scar"]
FITTED = FittedObjects(measure="instance_f1", before=0, after=0.1, images=2)


def ended(folder: Path, best: float, dice: tuple[float | None, float | None], **facts: object) -> tuple[Path, Path]:
    """Files of a training with the best score, and the Dice of both classes in the epoch of this score."""
    training = Training(key_metric="mean_dice", best=best, epoch=2, **facts)
    names = ModelSettings(class_names=NAMES, out_channels=3, training=training)
    write_weights(torch.nn.Linear(2, 1).state_dict(), folder / "model.pt", names)
    rows = [
        {"epoch": 1, "val_dice_background": 0.8, "val_dice_cell": 0.2, "val_dice_scar": 0.2},
        {"epoch": 2, "val_dice_background": 0.9, "val_dice_cell": dice[0], "val_dice_scar": dice[1]},
        {"epoch": 3, "val_dice_background": None, "val_dice_cell": None, "val_dice_scar": None},
    ]
    write_csv(folder / "history.csv", rows)
    return folder / "history.csv", folder / "model.pt"


@pytest.mark.parametrize(
    "best, dice, facts, named",
    [
        (0.0, (0.3, 0.3), {}, ["mean_dice"]),
        (0.3, (0.0, 0.0), {}, ["cell, scar"]),
        (0.3, (0.0, None), {}, ["cell"]),
        (0.3, (0.0, 0.1), {}, []),
        (0.3, (None, None), {}, []),
        (0.3, (0.0, float("nan")), {}, []),
        (0.0, (0.3, 0.3), {"fitted": FITTED}, []),
    ],
    ids=["score", "all classes", "one class measured", "one found", "unknown", "no such pixel", "found by the fit"],
)
def test_weights_that_find_nothing_are_known_by_their_score_or_by_all_foreground(tmp_path, best, dice, facts, named):
    found = nothing_found(*ended(tmp_path, best, dice, **facts))
    assert bool(found) == bool(named)
    assert all(name in found for name in named)
