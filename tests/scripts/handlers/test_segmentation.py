"""Results of segmentation on disk, written by a second thread."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from ignite.engine import Engine
from monai.data import DataLoader, MetaTensor
from monai.engines import IterationEvents, SupervisedEvaluator
from monai.transforms import AsDiscreted, Compose, CopyItemsd, EnsureChannelFirstd, LoadImaged
from PIL import Image

from scripts.data.datasets import TolerantDataset
from scripts.engines import FolderErrors, FolderEvaluator
from scripts.handlers.segmentation import Background, SegmentationSaver, spacing_of
from scripts.io.files import read_csv
from scripts.io.reader import PlaneReader
from scripts.metrics.shapes import ObjectsCSV
from scripts.plot.overlays import overlay_image
from scripts.transforms.objects import InstancesFromScoresd

# MONAI's LoadImage warns about a missing decoder, not used here
pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader:UserWarning")

LOAD = Compose([LoadImaged("image", reader=PlaneReader()), EnsureChannelFirstd("image")])
CLASSES = [CopyItemsd("pred", names="prob"), AsDiscreted("pred", argmax=True)]
PLANE = np.zeros((12, 20), np.uint8)
PLANE[2:5, 3:9] = 200  # 3 x 6
PLANE[8:10, 12:14] = 150  # 2 x 2
IMAGES = 4


class Threshold(torch.nn.Module):
    """Bright pixels are cells: probabilities (B, 2, H, W) of 0.1 and 0.9."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        cell = 0.1 + 0.8 * (x > 100).float()
        return torch.cat([1 - cell, cell], dim=1)


class ThreeClasses(Threshold):
    """Dark, bright and very bright pixels are a class each."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x <= 100, (x > 100) & (x <= 180), x > 180], dim=1).float()


def segment(
    sources: list[Any],
    output_dir: Path,
    network: torch.nn.Module | None = None,
    engine: type[SupervisedEvaluator] = SupervisedEvaluator,
    with_instances: bool = True,
    more: Any = (),
    **options: Any,
) -> None:
    """Segment images in batches of one. `options` go to the saver. `more`: further handlers."""
    engine(
        device="cpu",
        val_data_loader=DataLoader(TolerantDataset([{"image": s} for s in sources], LOAD), batch_size=1),
        network=network or Threshold(),
        postprocessing=Compose([*CLASSES, InstancesFromScoresd("prob")] if with_instances else CLASSES),
        prepare_batch=lambda batch, *_, **__: (batch["image"], None),
        val_handlers=[SegmentationSaver(output_dir, **options), *more],
    ).run()


def files(folder: Path) -> dict[str, bytes]:
    """Content of all files by their path in the folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def png(tmp_path: Path) -> str:
    path = tmp_path / "in" / "cells.png"
    path.parent.mkdir()
    Image.fromarray(PLANE).save(path)
    return str(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """0.png ... 3.png."""
    path = tmp_path / "in"
    path.mkdir()
    for k in range(IMAGES):
        pixels = np.random.default_rng(k).integers(0, 200, (30 + k, 40)).astype(np.uint8)
        Image.fromarray(pixels).save(path / f"{k}.png")
    return path


# Content of the results


def test_the_table_of_classes_has_the_colours_of_the_overlay(tmp_path: Path, png: str) -> None:
    segment([png], tmp_path / "out", ThreeClasses(), class_names=["outside", "small", "large"], class_values=[0, 9, 5])
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
    segment([png], out)
    assert sorted(files(out)) == [
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
    segment([png], tmp_path / "out")
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
    assert not [name for name in first if name.endswith("um")]  # a PNG has no pixel size


def test_every_output_can_be_switched_off(tmp_path: Path, png: str) -> None:
    flags = ("classes", "probabilities", "instances", "overlays", "objects")
    for kept in flags:
        segment([png], tmp_path / kept, **{flag: flag == kept for flag in flags})
        files = [p.relative_to(tmp_path / kept).parts[0] for p in (tmp_path / kept).rglob("*") if p.is_file()]
        assert files == ["objects.csv" if kept == "objects" else kept]


def test_a_stack_gives_stacks_an_overlay_a_plane_and_units(tmp_path: Path) -> None:
    stack = np.stack([PLANE, PLANE[::-1], np.zeros_like(PLANE)])
    path = tmp_path / "volume.tif"
    micron = {"axes": "ZYX", "unit": "um"}
    tifffile.imwrite(path, stack, imagej=True, resolution=(2, 2), metadata=micron)  # 2 pixels per um
    segment([f"{path}#page={k}" for k in range(3)], tmp_path / "out")
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
        segment(sources, tmp_path / "out", network)
    assert sorted(files(tmp_path / "out")) == [
        "classes/cells.png",
        "instances/cells.tif",
        "overlays/cells.png",
        "overlays/volume_0000.png",
        "probabilities/cells.tif",
    ]


def test_without_instances_the_overlay_shows_the_classes(tmp_path: Path, png: str) -> None:
    segment([png], tmp_path / "out", with_instances=False)
    overlay = np.asarray(Image.open(tmp_path / "out" / "overlays" / "cells.png"))
    np.testing.assert_array_equal(overlay, overlay_image(PLANE.astype(np.float32), (PLANE > 100).astype(int)))


def test_an_image_without_a_file_name_is_refused(tmp_path: Path) -> None:
    evaluator = SupervisedEvaluator(
        device="cpu",
        val_data_loader=DataLoader([{"image": torch.zeros(1, 4, 4)}], batch_size=1),
        network=Threshold(),
        prepare_batch=lambda batch, *_, **__: (batch["image"], None),
        val_handlers=[SegmentationSaver(tmp_path)],
    )
    with pytest.raises(ValueError, match=r'"image".*LoadImaged'):
        evaluator.run()


def test_the_size_of_a_pixel_is_known_or_not() -> None:
    image = torch.zeros(1, 2, 2)
    assert spacing_of(image) == (None, None)
    assert spacing_of(MetaTensor(image, meta={"spacing": np.ones(2), "unit": "pixel"})) == (None, None)
    meta = {"spacing": torch.tensor([0.5, 0.25], dtype=torch.float64), "unit": "nm"}
    assert spacing_of(MetaTensor(image, meta=meta)) == ((0.5, 0.25), "nm")


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


# Writing while the next image is computed


@pytest.fixture
def sources(folder: Path) -> list[str]:
    return [str(path) for path in sorted(folder.iterdir())]


def test_files_are_the_same_as_without_a_second_thread(
    sources: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment(sources, tmp_path / "beside", engine=FolderEvaluator)
    monkeypatch.setattr("scripts.handlers.segmentation.BESIDE_BYTES", 0)
    segment(sources, tmp_path / "at once", engine=FolderEvaluator)
    beside = files(tmp_path / "beside")
    assert len(beside) == 4 * IMAGES + 1
    assert beside == files(tmp_path / "at once")


@pytest.mark.parametrize("beside_bytes", [2**28, 0], ids=["beside", "at once"])
@pytest.mark.parametrize("twin", ["1.bmp", "3.bmp"], ids=["in the middle", "the last"])
def test_an_error_is_reported_for_its_image_and_the_others_are_saved(
    twin: str, beside_bytes: int, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The results of two images with the same name would overwrite each other."""
    monkeypatch.setattr("scripts.handlers.segmentation.BESIDE_BYTES", beside_bytes)
    second = twin.replace("bmp", "png")  # "1.bmp" comes first
    with Image.open(folder / second) as image:
        image.save(folder / twin)
    with pytest.raises(FolderErrors, match=rf"1 of 5 images failed, the others(.|\n)*{second}: .*would both be named"):
        segment(sorted(map(str, folder.iterdir())), tmp_path / "out", engine=FolderEvaluator)
    for kind in ("classes", "overlays"):
        assert sorted(path.name for path in (tmp_path / "out" / kind).iterdir()) == [f"{k}.png" for k in range(IMAGES)]


def folder_in_the_way(out: Path) -> None:
    (out / "classes" / "1.png").mkdir(parents=True)


def file_in_the_way(out: Path) -> None:
    out.mkdir()
    (out / "probabilities").write_text("not a folder")


@pytest.mark.parametrize(
    "hinder, message, complete",
    [(folder_in_the_way, "1.png", ["0"]), (file_in_the_way, "cannot write into the folder", [])],
)
def test_a_file_that_cannot_be_written_stops_the_run_and_leaves_nothing_unfinished(
    hinder: Any, message: str, complete: list[str], folder: Path, tmp_path: Path
) -> None:
    for k in range(IMAGES, 10):
        shutil.copy(folder / "0.png", folder / f"{k}.png")
    out = tmp_path / "out"
    hinder(out)
    with pytest.raises(OSError, match=message):
        segment(sorted(map(str, folder.iterdir())), out, engine=FolderEvaluator)
    left = {path.relative_to(out) for path in out.rglob("*") if path.is_file()}
    assert not [path for path in left if path.name.startswith(".tmp")]
    assert {path.stem for path in left if path.parent.name == "overlays"} == set(complete)
    assert Path("objects.csv") not in left


def test_ctrl_c_leaves_the_images_before_complete_and_nothing_unfinished(sources: list[str], tmp_path: Path) -> None:
    class Stop:
        def attach(self, engine: Engine) -> None:
            engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self.stop)

        def stop(self, engine: Engine) -> None:
            if engine.state.iteration == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment(sources, tmp_path / "out", engine=FolderEvaluator, more=[Stop()])
    expected = {f"{kind}/{k}.{end}" for kind, end in (("classes", "png"), ("overlays", "png")) for k in (0, 1)}
    expected |= {f"{kind}/{k}.tif" for kind in ("probabilities", "instances") for k in (0, 1)}
    assert files(tmp_path / "out").keys() == expected


# The second thread


def fail() -> None:
    raise ValueError("broken")


def test_a_job_runs_in_a_second_thread_and_the_next_waits_for_it() -> None:
    background, go, done = Background(), threading.Event(), []
    background.do(lambda: done.append(go.wait(60)))
    assert done == []  # the main thread goes on
    go.set()
    background.do(lambda: done.append(threading.current_thread() is not threading.main_thread()))
    background.wait()
    assert done == [True, True]


def test_an_error_is_raised_once_at_the_next_wait() -> None:
    background, done = Background(), []
    background.do(fail)
    with pytest.raises(ValueError, match="broken"):
        background.do(done.append, 1)
    assert done == []
    background.do(done.append, 2)
    background.wait()
    assert done == [2]
    background.do(fail)
    with pytest.raises(ValueError, match="broken"):
        background.wait()
    background.wait()


def test_closing_lets_the_current_job_finish() -> None:
    background, go, done = Background(), threading.Event(), []
    background.do(lambda: done.append(go.wait(60)))
    threading.Timer(0.05, go.set).start()
    background.close()
    assert done == [True]
