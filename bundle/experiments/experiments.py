"""The paper's three experiments as data: configurations, epochs, protocol, evaluations, published figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Evaluation:
    """Configure an evaluation of trained weights."""

    overrides: Mapping[str, Any] = field(default_factory=dict)  # keys of the configuration and their values
    configs: tuple[str, ...] = ()  # overlays over `evaluate.yaml`


@dataclass(frozen=True)
class Published:
    """Describe a measure of the table, with published values.

    The board's values for EM are as of the board's publication (SFCNN), for cells later.
    """

    measure: str
    where: tuple[str | int, ...]  # path of our value in the metrics of an evaluation: keys and positions
    paper: float | None = None  # the 2015 paper's value on the challenge's hidden test data. None: not stated
    board: float | None = None  # the best value on the challenge's board, on the same data. None: unknown
    digits: int = 4  # number of decimals


@dataclass(frozen=True)
class Experiment:
    """Describe an experiment of the paper."""

    title: str  # objects and data in words
    configs: tuple[str, ...]  # overlays over `train.yaml`, in order
    data: str  # name of the data set for `python -m bundle fetch`
    max_epochs: int  # the same for all ablations
    val_interval: int  # epochs between two validations
    protocol: str  # training and measured data in words
    evaluations: Mapping[str, Evaluation]  # by name, all of the same weights
    published: tuple[Published, ...]  # the measures of the table
    quick: Mapping[str, Any]  # overrides for a run of minutes with `QUICK_FEATURES`. Its figures mean nothing


ABLATIONS = {  # name: overlays over the experiment's own; same epochs, same evaluations
    "no_weight_map": ("variant_no_weight_map.yaml",),
    "no_elastic": ("variant_no_elastic.yaml",),
    "padded": ("variant_padded.yaml",),
}

LEVELS, PAPER_FEATURES, QUICK_FEATURES = 5, 64, 16  # Fig. 1: levels, and channels of the first


def network_of(features: int) -> dict[str, list[int]]:
    """Write the overrides for a network of another width. Channels double at each lower level, as in Fig. 1.

    Example:
        >>> network_of(16)
        {'network_def#features': [16, 32, 64, 128, 256]}
    """
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
        max_epochs=22,
        val_interval=4,
        protocol="sequence 01: frames 0-55 train on the silver reference, frames 62-83 are measured",
        evaluations=CELL_EVALUATIONS,
        published=_cells(0.7756, 0.887),
        quick={"max_epochs": 2, "val_interval": 2},
    ),
}
