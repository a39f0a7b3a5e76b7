"""What segmenting leaves on disk, and the same from two processes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from ignite.engine import Engine
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.transforms import AsDiscreted, Compose, CopyItemsd, EnsureChannelFirstd, LoadImaged
from PIL import Image

from scripts.handlers.history import HistoryCSV, read_history
from scripts.handlers.reports import MetricsReport
from scripts.handlers.segmentation import SegmentationSaver, spacing_of
from scripts.io.files import read_csv
from scripts.io.reader import PlaneReader
from scripts.metrics.shapes import ObjectsCSV
from scripts.plot.overlays import overlay_image
from scripts.transforms.objects import InstancesFromScoresd

# MONAI's LoadImage tries a decoder that is not used here, and says that it is not installed
pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader:UserWarning")


class Threshold(torch.nn.Module):
    """Bright pixels are cells: probabilities (B, 2, H, W) of 0.1 and 0.9."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        cell = 0.1 + 0.8 * (x > 100).float()
        return torch.cat([1 - cell, cell], dim=1)


LOAD = Compose([LoadImaged("image", reader=PlaneReader()), EnsureChannelFirstd("image")])
PLANE = np.zeros((12, 20), np.uint8)
PLANE[2:5, 3:9] = 200  # 3 x 6
PLANE[8:10, 12:14] = 150  # 2 x 2


def _segment(sources: list[str], output_dir: Path, network: torch.nn.Module | None = None, **options: Any) -> None:
    post = Compose([CopyItemsd("pred", names="prob"), AsDiscreted("pred", argmax=True), InstancesFromScoresd("prob")])
    SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset([{"image": s} for s in sources], LOAD), batch_size=1),
        network=network or Threshold(),
        postprocessing=post,
        prepare_batch=_image_alone,
        val_handlers=[SegmentationSaver(output_dir, **options)],
    ).run()


def _image_alone(batch: dict[str, Any], *_: Any, **__: Any) -> tuple[torch.Tensor, None]:
    return batch["image"], None


@pytest.fixture
def png(tmp_path: Path) -> str:
    path = tmp_path / "in" / "cells.png"
    path.parent.mkdir()
    Image.fromarray(PLANE).save(path)
    return str(path)


class ThreeClasses(Threshold):
    """Dark, bright and very bright pixels are a class each."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x <= 100, (x > 100) & (x <= 180), x > 180], dim=1).float()


def test_several_classes_have_a_colour_each_which_the_table_of_classes_names(tmp_path: Path, png: str) -> None:
    _segment([png], tmp_path / "out", ThreeClasses(), class_names=["outside", "small", "large"], class_values=[0, 9, 5])
    classes = (PLANE > 100).astype(int) + (PLANE > 180)  # 150: 1, 200: 2
    expected = overlay_image(PLANE[None].astype(np.float32), classes)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "overlays" / "cells.png")), expected)
    rows = read_csv(tmp_path / "out" / "classes.csv")
    assert [(row["value"], row["class"]) for row in rows] == [("0", "outside"), ("9", "small"), ("5", "large")]
    for row, (y, x) in zip(rows[1:], ((8, 12), (2, 3)), strict=True):
        edge = "#" + "".join(f"{value:02X}" for value in expected[y, x])
        assert row["overlay_colour"] == edge


def test_everything_is_saved_with_the_right_content(tmp_path: Path, png: str) -> None:
    out = tmp_path / "out"
    _segment([png], out)
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()) == [
        "classes/cells.png",
        "instances/cells.tif",
        "objects.csv",
        "overlays/cells.png",
        "probabilities/cells.tif",
    ]
    instances = tifffile.imread(out / "instances/cells.tif")
    expected = (PLANE == 200) * 1 + (PLANE == 150) * 2
    np.testing.assert_array_equal(instances, expected)
    np.testing.assert_array_equal(np.asarray(Image.open(out / "classes/cells.png")), PLANE > 100)
    np.testing.assert_allclose(tifffile.imread(out / "probabilities/cells.tif")[1], 0.1 + 0.8 * (PLANE > 100))
    overlay = np.asarray(Image.open(out / "overlays/cells.png"))
    np.testing.assert_array_equal(overlay, overlay_image(PLANE.astype(np.float32), expected))


def test_the_table_of_objects(tmp_path: Path, png: str) -> None:
    _segment([png], tmp_path / "out")
    rows = read_csv(tmp_path / "out" / "objects.csv")
    assert [row["image"] for row in rows] == ["cells.png", "cells.png"]
    first, second = rows
    assert {k: float(first[k]) for k in ("label", "area_px", "centroid_y_px", "centroid_x_px", "mean_intensity")} == {
        "label": 1,
        "area_px": 18,
        "centroid_y_px": 3,
        "centroid_x_px": 5.5,
        "mean_intensity": 200,
    }
    assert [second[k] for k in ("bbox_top", "bbox_left", "bbox_bottom", "bbox_right")] == ["8", "12", "10", "14"]
    assert not [name for name in first if name.endswith("um")]  # a PNG does not know the size of a pixel


def test_every_output_can_be_switched_off(tmp_path: Path, png: str) -> None:
    flags = ("classes", "probabilities", "instances", "overlays", "objects")
    for kept in flags:
        _segment([png], tmp_path / kept, **{flag: flag == kept for flag in flags})
        files = [p.relative_to(tmp_path / kept).parts[0] for p in (tmp_path / kept).rglob("*") if p.is_file()]
        assert files == ["objects.csv" if kept == "objects" else kept]


def test_a_stack_gives_stacks_an_overlay_a_plane_and_units(tmp_path: Path) -> None:
    stack = np.stack([PLANE, PLANE[::-1], np.zeros_like(PLANE)])
    path = tmp_path / "volume.tif"
    micron = {"axes": "ZYX", "unit": "um"}
    tifffile.imwrite(path, stack, imagej=True, resolution=(2, 2), metadata=micron)  # 2 pixels per um
    _segment([f"{path}#page={k}" for k in range(3)], tmp_path / "out")
    classes = tifffile.imread(tmp_path / "out" / "classes" / "volume.tif")
    np.testing.assert_array_equal(classes, stack > 100)
    overlays = sorted(p.name for p in (tmp_path / "out" / "overlays").iterdir())
    assert overlays == ["volume_0000.png", "volume_0001.png", "volume_0002.png"]
    rows = read_csv(tmp_path / "out" / "objects.csv")
    assert [row["image"] for row in rows] == ["volume.tif#page=0"] * 2 + ["volume.tif#page=1"] * 2
    assert float(rows[0]["area_um2"]) == 18 / 4
    assert float(rows[0]["centroid_x_um"]) == 5.5 / 2


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=repr)
def test_a_run_that_stops_leaves_no_unfinished_files(error: BaseException, tmp_path: Path, png: str) -> None:
    tifffile.imwrite(tmp_path / "volume.tif", np.stack([PLANE, PLANE]), photometric="minisblack")
    network = Threshold()
    sources = [png, f"{tmp_path}/volume.tif#page=0", f"{tmp_path}/volume.tif#page=1"]

    calls: list[int] = []

    def stop_at_the_last(*_: Any) -> None:
        calls.append(len(calls))
        if len(calls) == len(sources):
            raise error

    network.register_forward_hook(stop_at_the_last)
    with pytest.raises(type(error)):
        _segment(sources, tmp_path / "out", network)
    left = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert left == [
        "classes/cells.png",
        "instances/cells.tif",
        "overlays/cells.png",
        "overlays/volume_0000.png",
        "probabilities/cells.tif",
    ]


def test_without_instances_the_overlay_shows_the_classes(tmp_path: Path, png: str) -> None:
    saver = SegmentationSaver(tmp_path / "out", instances=False)
    image = MetaTensor(torch.from_numpy(PLANE)[None].float(), meta={"filename_or_obj": png})
    classes = torch.from_numpy(PLANE > 100)[None].long()
    saver.save({"image": image, "pred": classes})
    overlay = np.asarray(Image.open(tmp_path / "out" / "overlays" / "cells.png"))
    np.testing.assert_array_equal(overlay, overlay_image(PLANE.astype(np.float32), classes[0].numpy()))


def test_an_image_of_unknown_origin_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='"image" has no metadata that name its file'):
        SegmentationSaver(tmp_path).save({"image": torch.zeros(1, 4, 4), "pred": torch.zeros(1, 4, 4)})


def test_the_table_appears_complete_with_the_columns_of_all_images(tmp_path: Path) -> None:
    table = ObjectsCSV(tmp_path / "out" / "objects.csv")
    table.add("a", {"label": np.array([1, 2]), "area_px": np.array([3.0, 1 / 3])})
    table.add("none", {"label": np.array([], int), "area_px": np.array([])})
    table.add("b", {"label": np.array([1]), "area_px": np.array([5.0]), "area_um2": np.array([1.25])})
    assert [p.name for p in (tmp_path / "out").iterdir() if not p.name.startswith(".")] == []
    table.close()
    assert (tmp_path / "out" / "objects.csv").read_text().splitlines() == [
        "image,label,area_px,area_um2",
        "a,1,3.0,",
        "a,2,0.333333,",
        "b,1,5.0,1.25",
    ]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["objects.csv"]


def test_the_size_of_a_pixel_is_known_or_not() -> None:
    image = torch.zeros(1, 2, 2)
    assert spacing_of(image) == (None, None)
    assert spacing_of(MetaTensor(image, meta={"spacing": np.ones(2), "unit": "pixel"})) == (None, None)
    meta = {"spacing": torch.tensor([0.5, 0.25], dtype=torch.float64), "unit": "nm"}
    assert spacing_of(MetaTensor(image, meta=meta)) == ((0.5, 0.25), "nm")


# ---------------------------------------------------------------- two processes


def _work(rank: int, folder: Path) -> None:
    """Rank 0 sees images 0 and 2, rank 1 images 1 and, as samplers fill up, 0 again; only rank 0 finds objects."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    evaluator = Engine(lambda _, item: [item])
    MetricsReport(folder, ["membrane", "cell"]).attach(evaluator)
    evaluator.run([_item(index) for index in ((0, 2), (1, 0))[rank]])

    table = ObjectsCSV(folder / "objects.csv")
    if rank == 0:
        table.add("0.png", {"label": np.array([1])})
    table.close()

    trainer = Engine(lambda _, value: [{"loss": torch.tensor(value)}])
    trainer.optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)  # type: ignore[attr-defined]
    HistoryCSV(folder).attach(trainer)
    trainer.run([1.0 + rank, 3.0 + rank], max_epochs=2)
    dist.destroy_process_group()


def _item(index: int) -> dict[str, Any]:
    image = MetaTensor(torch.zeros(1, 1, 4), meta={"filename_or_obj": f"{index}.png"})
    pred = torch.zeros(1, 1, 4)
    pred[0, 0, :index] = 1
    return {"image": image, "pred": pred, "label": torch.zeros(1, 1, 4)}


@pytest.mark.slow
def test_two_processes_write_one_report_of_all_images(tmp_path: Path) -> None:
    mp.spawn(_work, args=(tmp_path,), nprocs=2)
    rows = read_csv(tmp_path / "metrics_per_image.csv")
    assert [(row["image"], float(row["pixel_error"])) for row in rows] == [
        ("0.png", 0),
        ("1.png", 0.25),
        ("2.png", 0.5),
    ]
    summary = json.loads((tmp_path / "metrics.json").read_text())
    assert summary["images"] == 3
    assert summary["mean"]["pixel_error"] == pytest.approx(0.25)
    assert (tmp_path / "objects.csv").read_text() == "image,label\n0.png,1\n"
    history = read_history(tmp_path / "history.csv")
    assert [(row["epoch"], row["loss"]) for row in history] == [(1, 2.5), (2, 2.5)]  # the mean of 1, 3, 2, 4
    assert not [p.name for p in tmp_path.iterdir() if p.name.startswith(".")]
