"""The paper's three experiments as data: configurations, budget, protocol, what is published, what is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Evaluation:
    """One way to measure the same weights.

    Attributes:
        overrides: keys of the configuration and their values.
        configs: overlays after `evaluate.yaml`.
    """

    overrides: Mapping[str, Any] = field(default_factory=dict)
    configs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Published:
    """One measure of the table, with what others state for it.

    Attributes:
        measure: its name.
        where: path of our value in the metrics of an evaluation, keys and positions.
        paper: the 2015 paper's value on the challenge's hidden test data; None: not stated.
        board: the best on the challenge's board as of its publication (EM: SFCNN) or later (cells), hidden test data
            too; None: not known.
        digits: after the point.
    """

    measure: str
    where: tuple[str | int, ...]
    paper: float | None = None
    board: float | None = None
    digits: int = 4


@dataclass(frozen=True)
class Experiment:
    """One of the paper's experiments.

    Attributes:
        title: what is segmented in what.
        configs: overlays over `train.yaml`, in order.
        data: how the set is called by `python -m bundle fetch`.
        dataset_dir: where the configuration looks for it, below the working directory.
        max_epochs: the budget, the same for all ablations.
        val_interval: epochs between two validations.
        protocol: which part trains and which is measured, in words.
        evaluations: by name, all of the same weights.
        published: the measures of the table.
        quick: overrides for a run of minutes with `QUICK_FEATURES`, which shows that everything works, nothing more.
    """

    title: str
    configs: tuple[str, ...]
    data: str
    dataset_dir: str
    max_epochs: int
    val_interval: int
    protocol: str
    evaluations: Mapping[str, Evaluation]
    published: tuple[Published, ...]
    quick: Mapping[str, Any]


ABLATIONS = {  # name: overlays over the experiment's own; the same budget, the same evaluations
    "no_weight_map": ("variant_no_weight_map.yaml",),
    "no_elastic": ("variant_no_elastic.yaml",),
    "padded": ("variant_padded.yaml",),
}

LEVELS, PAPER_FEATURES, QUICK_FEATURES = 5, 64, 16  # Fig. 1: the network's levels, and the channels of its first


def network_of(features: int) -> dict[str, list[int]]:
    """Overrides for a network of another width, each level with twice the channels of the one above, as in Fig. 1."""
    return {"network_def#features": [features << level for level in range(LEVELS)]}


NO_PICTURES = {"save_panels": False}
STRIDES = {
    "tiles of 572, stride 384": Evaluation({"validate#inferer#tile_size": 572, **NO_PICTURES}),
    "tiles of 572, stride 388": Evaluation(NO_PICTURES, configs=("variant_authors_stride.yaml",)),
}
VIEWS = "mean of 8 views"
CELL_EVALUATIONS = {
    "silver": Evaluation({"save_results": True}),
    "gold": Evaluation({"validation_frames#reference": "gold"}),
    f"silver, {VIEWS}": Evaluation({"orientations": 8, **NO_PICTURES}),
    **STRIDES,
}


def _cells(seg_paper: float, seg_board: float) -> tuple[Published, ...]:
    return (
        Published("SEG", ("objects", "seg"), seg_paper, seg_board),
        Published("DET", ("objects", "det")),
        Published("F1 at IoU 0.5", ("objects", "instances", 0, "f1")),
        Published("mean IoU of the classes", ("classes", "pooled", "mean_iou")),
    )


EXPERIMENTS = {
    "em": Experiment(
        title="EM membranes, ISBI 2012",
        configs=("data_isbi2012.yaml", "variant_adam.yaml"),
        data="isbi2012",
        dataset_dir="data/isbi2012",
        max_epochs=120,
        val_interval=5,
        protocol="25 labelled slices; a block of 5 neighbouring slices is held out and measured, the other 20 train",
        evaluations={
            "one view": Evaluation({"save_results": True}),
            VIEWS: Evaluation({"orientations": 8, **NO_PICTURES}),
            **STRIDES,
        },
        published=(
            Published("V_Rand after thinning", ("em", "v_rand", "score"), board=0.98680),
            Published("V_Info after thinning", ("em", "v_info", "score"), board=0.99144),
            Published("warping error", ("em", "warping_error", "error"), paper=0.000353, digits=6),
            Published("Rand error", ("em", "rand_error", "error"), paper=0.0382),
            Published("pixel error", ("em", "pixel_error", "error"), paper=0.0611),
        ),
        quick={"max_epochs": 6, "val_interval": 3},
    ),
    "u373": Experiment(
        title="U373 cells in phase contrast, PhC-C2DH-U373",
        configs=("data_phc_u373.yaml", "variant_adam.yaml"),
        data="phc_u373",
        dataset_dir="data/PhC-C2DH-U373",
        max_epochs=16,
        val_interval=4,
        protocol="sequence 02: frames 0-75 train on the silver reference, frames 84-114 are measured",
        evaluations=CELL_EVALUATIONS,
        published=_cells(0.9203, 0.931),
        quick={"max_epochs": 1, "val_interval": 1},
    ),
    "hela": Experiment(
        title="HeLa cells in DIC, DIC-C2DH-HeLa",
        configs=("data_dic_hela.yaml", "variant_adam.yaml"),
        data="dic_hela",
        dataset_dir="data/DIC-C2DH-HeLa",
        max_epochs=22,
        val_interval=4,
        protocol="sequence 01: frames 0-55 train on the silver reference, frames 62-83 are measured",
        evaluations=CELL_EVALUATIONS,
        published=_cells(0.7756, 0.887),
        quick={"max_epochs": 2, "val_interval": 2},
    ),
}
