"""Results of segmentation on disk, written by a second thread."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import subprocess
import sys
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
        "images.csv",
        "instances/cells.tif",
        "objects.csv",
        "overlays/cells.png",
        "probabilities/cells.tif",
        "results.jsonl",
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


def test_the_table_of_images_has_a_row_for_each_in_the_order_of_the_run(tmp_path: Path, png: str) -> None:
    empty = tmp_path / "a_later.png"
    Image.fromarray(np.full((5, 7), 30, np.uint8)).save(empty)
    segment([png, str(empty)], tmp_path / "out")
    rows = read_csv(tmp_path / "out" / "images.csv")
    columns = ["image", "height_px", "width_px", "objects", "median_area_px", "foreground_share"]
    assert list(rows[0]) == columns
    assert [list(row.values()) for row in rows] == [
        ["cells.png", "12", "20", "2", "11.0", "0.0916667"],  # 18 and 4 of 240 pixels
        ["a_later.png", "5", "7", "0", "", "0.0"],
    ]


def test_the_table_of_images_counts_every_class(tmp_path: Path, png: str) -> None:
    segment([png], tmp_path / "out", ThreeClasses(), class_names=["outside", "small", "large"])
    (row,) = read_csv(tmp_path / "out" / "images.csv")
    assert [float(row[name]) for name in ("objects_large", "share_small", "share_large")] == [1, 0.0166667, 0.075]
    assert float(row["foreground_share"]) == pytest.approx(22 / 240, rel=1e-5)
    assert row["objects"] == row["objects_small"]


def test_every_output_can_be_switched_off(tmp_path: Path, png: str) -> None:
    flags = ("classes", "probabilities", "instances", "overlays", "objects")
    for kept in flags:
        segment([png], tmp_path / kept, **{flag: flag == kept for flag in flags})
        files = {p.relative_to(tmp_path / kept).parts[0] for p in (tmp_path / kept).rglob("*") if p.is_file()}
        assert files == {*(("objects.csv", "images.csv") if kept == "objects" else [kept]), "results.jsonl"}


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
        "images.csv",
        "instances/cells.tif",
        "objects.csv",
        "overlays/cells.png",
        "overlays/volume_0000.png",
        "probabilities/cells.tif",
        "results.jsonl",
    ]
    assert {row["image"] for row in read_csv(tmp_path / "out" / "objects.csv")} == {"cells.png", "volume.tif#page=0"}


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


def test_the_table_grows_with_the_columns_of_all_images(tmp_path: Path) -> None:
    table = ObjectsCSV(tmp_path / "out" / "objects.csv")
    table.add("a", {"label": np.array([1, 2]), "area_px": np.array([3.0, 1 / 3])})
    table.add("none", {"label": np.array([], int), "area_px": np.array([])})
    table.add("b", {"label": np.array([1]), "area_px": np.array([5.0]), "area_um2": np.array([1.25])})
    assert [row["image"] for row in read_csv(table.path)] == ["a", "a", "b"]
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
    assert len(beside) == 4 * IMAGES + 3
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


def test_a_file_that_cannot_be_written_costs_its_image_alone(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    segment([str(folder / "0.png")], out, engine=FolderEvaluator)
    (out / "classes" / "1.png").mkdir()
    with pytest.raises(FolderErrors, match=r"1 of 4 images failed, the others(.|\n)*out/classes/1\.png"):
        segment(sorted(map(str, folder.iterdir())), out, engine=FolderEvaluator)
    assert {path.name for path in (out / "overlays").iterdir()} == {"0.png", "2.png", "3.png"}
    assert not list(out.rglob(".tmp*"))


def test_a_folder_that_cannot_be_written_to_stops_the_run(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "probabilities").write_text("not a folder")
    network, calls = Threshold(), []
    network.register_forward_hook(lambda *_: calls.append(1))
    with pytest.raises(OSError, match="cannot write into the folder"):
        segment(sorted(map(str, folder.iterdir())), out, network, engine=FolderEvaluator)
    assert len(calls) <= 2
    assert not list(out.rglob(".*"))


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
    expected |= {"objects.csv", "images.csv", "results.jsonl"}
    assert files(tmp_path / "out").keys() == expected


# The user's files


def segment_again(sources: list[str], output_dir: Path, **options: Any) -> list[str]:
    """Segment with `skip_finished`. Returns the sources that were segmented."""
    saver = SegmentationSaver(output_dir, skip_finished=True, **options)
    items = saver.unfinished([{"image": source} for source in sources])
    FolderEvaluator(
        device="cpu",
        val_data_loader=DataLoader(TolerantDataset(items, LOAD), batch_size=1),
        network=Threshold(),
        postprocessing=Compose([*CLASSES, InstancesFromScoresd("prob")]),
        prepare_batch=lambda batch, *_, **__: (batch["image"], None),
        val_handlers=[saver],
    ).run()
    return [str(item["image"]) for item in items]


@pytest.mark.parametrize("kind", ["classes", "probabilities", "instances", "overlays"])
def test_results_never_replace_the_images(kind: str, tmp_path: Path) -> None:
    (tmp_path / kind).mkdir()
    suffix = ".png" if kind == "overlays" else ".tif"
    path = tmp_path / kind / f"cells{suffix}"
    tifffile.imwrite(path, PLANE) if suffix == ".tif" else Image.fromarray(PLANE).save(path)
    before = files(tmp_path)
    with pytest.raises(ValueError, match=rf"{kind}/cells.*replace its source.*output_dir"):
        segment([str(path)], tmp_path, engine=FolderEvaluator)
    assert files(tmp_path) == before


def test_results_never_replace_the_labels_of_a_data_set(tmp_path: Path) -> None:
    for kind in ("images", "instances"):
        (tmp_path / kind).mkdir()
        tifffile.imwrite(tmp_path / kind / "a.tif", PLANE)
    before = files(tmp_path)
    with pytest.raises(ValueError, match=r"instances/a\.tif would be replaced.*output_dir"):
        segment([str(tmp_path / "images" / "a.tif")], tmp_path, engine=FolderEvaluator)
    assert files(tmp_path) == before


@pytest.mark.parametrize("name", ["objects.csv", "images.csv", "classes.csv", "results.jsonl"])
def test_a_table_of_the_user_is_never_replaced(name: str, tmp_path: Path, png: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("cell,treatment\n1,control\n")
    with pytest.raises(ValueError, match=f"{name} would be replaced"):
        segment([png], out, engine=FolderEvaluator, class_names=["membrane", "cell"])
    assert files(out) == {name: b"cell,treatment\n1,control\n"}


def test_earlier_results_are_replaced(tmp_path: Path, png: str) -> None:
    segment([png], tmp_path / "out")
    expected = files(tmp_path / "out")
    (tmp_path / "out" / "classes" / "cells.png").write_text("edited")
    segment([png], tmp_path / "out")
    assert files(tmp_path / "out") == expected
    (tmp_path / "out" / "results.jsonl").unlink()  # results of version 0.8 and earlier
    segment([png], tmp_path / "out")
    assert files(tmp_path / "out") == expected


def test_a_second_process_in_the_folder_is_refused(tmp_path: Path, png: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        (out / ".lock").write_text(json.dumps({"pid": other.pid, "host": socket.gethostname()}))
        with pytest.raises(RuntimeError, match=rf"in use by process {other.pid}"):
            segment([png], out)
        assert [path.name for path in out.iterdir()] == [".lock"]
        other.kill()
    segment([png], out)
    assert not (out / ".lock").exists()


# Going on after an interruption


class StopAt:
    """Interrupt the run at an image, counted from 1."""

    def __init__(self, image: int) -> None:
        self.image = image

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self.stop)

    def stop(self, engine: Engine) -> None:
        if engine.state.iteration == self.image:
            raise KeyboardInterrupt


@pytest.mark.parametrize("stop", [1, 2, 4])
def test_an_interrupted_run_that_goes_on_gives_the_files_of_an_uninterrupted_one(
    stop: int, sources: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    segment(sources, tmp_path / "whole", engine=FolderEvaluator)
    with pytest.raises(KeyboardInterrupt):
        segment(sources, tmp_path / "out", engine=FolderEvaluator, more=[StopAt(stop)])
    caplog.clear()
    with caplog.at_level(logging.INFO):
        again = segment_again(sources, tmp_path / "out")
    assert again == sources[stop - 1 :]
    assert f"{stop - 1} of {IMAGES} images are finished" in caplog.text
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    assert segment_again(sources, tmp_path / "out") == []
    assert files(tmp_path / "out") == files(tmp_path / "whole")


@pytest.mark.parametrize(
    "stop, said",
    [
        (1, ["no image is finished", "the same command"]),
        (3, [f"2 of {IMAGES} images are finished", "skip_finished true"]),
    ],
)
def test_an_interrupted_run_says_how_to_go_on(
    stop: int, said: list[str], sources: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saver = SegmentationSaver(tmp_path / "out")
    evaluator = FolderEvaluator(
        device="cpu",
        val_data_loader=DataLoader(
            TolerantDataset(saver.unfinished([{"image": s} for s in sources]), LOAD), batch_size=1
        ),
        network=Threshold(),
        postprocessing=Compose([*CLASSES, InstancesFromScoresd("prob")]),
        prepare_batch=lambda batch, *_, **__: (batch["image"], None),
        val_handlers=[saver, StopAt(stop)],
    )
    with pytest.raises(KeyboardInterrupt):
        evaluator.run()
    assert [words for words in said if words not in caplog.text] == []


def test_stacks_are_finished_as_whole_files(tmp_path: Path) -> None:
    for name in ("a.tif", "b.tif"):
        tifffile.imwrite(tmp_path / name, np.stack([PLANE, PLANE[::-1]]), photometric="minisblack")
    sources = [f"{tmp_path}/{name}#page={page}" for name in ("a.tif", "b.tif") for page in (0, 1)]
    segment(sources, tmp_path / "whole", engine=FolderEvaluator)
    with pytest.raises(KeyboardInterrupt):
        segment(sources, tmp_path / "out", engine=FolderEvaluator, more=[StopAt(4)])
    assert segment_again(sources, tmp_path / "out") == sources[2:]
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_what_has_changed_is_segmented_again(sources: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    segment(sources, out, engine=FolderEvaluator, overlays=False)
    (out / "classes" / "1.png").unlink()
    Image.fromarray(PLANE).save(sources[2])
    assert segment_again(sources, out, overlays=False) == sources[1:3]
    assert segment_again(sources, out) == sources  # no overlays yet
    assert segment_again(sources, out) == []


def test_without_the_rows_of_finished_images_all_images_are_segmented_again(sources: list[str], tmp_path: Path) -> None:
    segment(sources, tmp_path / "whole", engine=FolderEvaluator)
    segment(sources, tmp_path / "out", engine=FolderEvaluator)
    table = tmp_path / "out" / "objects.csv"
    table.write_text("\ufeff" + table.read_text())  # as spreadsheets save it
    assert segment_again(sources, tmp_path / "out") == []
    table.unlink()
    assert segment_again(sources, tmp_path / "out") == sources
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    table.write_text(table.read_text().replace(",", ";"))
    with pytest.raises(ValueError, match=r"objects\.csv would be replaced"):
        segment_again(sources, tmp_path / "out")


def test_results_of_other_settings_are_not_mixed(sources: list[str], tmp_path: Path) -> None:
    segment(sources, tmp_path / "out", engine=FolderEvaluator, settings={"min_area": "0", "weights": "sha256 1"})
    before = files(tmp_path / "out")
    with pytest.raises(ValueError, match=r"min_area 0 \(now 40\).*skip_finished"):
        segment_again(sources, tmp_path / "out", settings={"min_area": "40", "weights": "sha256 1"})
    assert files(tmp_path / "out") == before


def test_results_that_an_interrupted_repetition_left_are_not_finished(sources: list[str], tmp_path: Path) -> None:
    """After a run with other settings was stopped, the later images have results of the first settings."""
    out = tmp_path / "out"
    segment(sources, out, engine=FolderEvaluator, settings={"min_area": "0"})
    with pytest.raises(KeyboardInterrupt):
        segment(sources, out, engine=FolderEvaluator, settings={"min_area": "9"}, more=[StopAt(3)])
    assert segment_again(sources, out, settings={"min_area": "9"}) == sources[2:]


def test_a_cut_record_loses_its_last_image(sources: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    segment(sources, out, engine=FolderEvaluator)
    record = (out / "results.jsonl").read_bytes()
    (out / "results.jsonl").write_bytes(record[:-10])
    assert segment_again(sources, out) == sources[-1:]
    (out / "results.jsonl").write_bytes(b"")  # after a power cut
    assert segment_again(sources, out) == sources


def test_names_that_are_formulas_or_no_utf_8_cost_nothing(folder: Path, tmp_path: Path) -> None:
    for name in (b"=1+1.png", b"caf\xe9.png", b"esc\x1b[2J.png", b"line\nbreak.png"):
        shutil.copy(folder / "0.png", os.path.join(os.fsencode(folder), name))
    sources = sorted(map(str, folder.iterdir()))
    segment(sources, tmp_path / "out", engine=FolderEvaluator)
    text = (tmp_path / "out" / "objects.csv").read_text()
    assert {"'=1+1.png", r"caf\xe9.png", r"esc\x1b[2J.png", r"line\nbreak.png"} <= {
        row["image"] for row in read_csv(tmp_path / "out" / "objects.csv")
    }
    assert "\x1b" not in text
    assert segment_again(sources, tmp_path / "out") == []
    assert len(os.listdir(os.fsencode(tmp_path / "out" / "classes"))) == IMAGES + 4


def test_a_result_name_that_is_too_long_costs_its_image_alone(folder: Path, tmp_path: Path) -> None:
    long = folder / ("n" * 251 + ".tif")
    tifffile.imwrite(long, np.stack([PLANE, PLANE]), photometric="minisblack")
    sources = [*sorted(map(str, folder.glob("*.png"))), f"{long}#page=0", f"{long}#page=1"]  # overlays: n..._0000.png
    with pytest.raises(FolderErrors, match=r"2 of 6 images failed, the others(.|\n)*too long"):
        segment(sources, tmp_path / "out", engine=FolderEvaluator)
    assert sorted(path.name for path in (tmp_path / "out" / "overlays").iterdir()) == [f"{k}.png" for k in range(4)]


def test_a_second_run_of_one_evaluator_gives_the_same_names(tmp_path: Path) -> None:
    sources = []
    for folder in ("01", "02"):
        (tmp_path / folder).mkdir()
        Image.fromarray(PLANE).save(tmp_path / folder / "t.png")
        sources.append(str(tmp_path / folder / "t.png"))
    data = [{"image": sources[0]}]
    dataset = TolerantDataset(data, LOAD)
    evaluator = FolderEvaluator(
        device="cpu",
        val_data_loader=DataLoader(dataset, batch_size=1),
        network=Threshold(),
        postprocessing=Compose([*CLASSES, InstancesFromScoresd("prob")]),
        prepare_batch=lambda batch, *_, **__: (batch["image"], None),
        val_handlers=[SegmentationSaver(tmp_path / "out")],
    )
    evaluator.run()
    dataset.data = [{"image": sources[1]}]
    evaluator.run()
    assert [path.name for path in (tmp_path / "out" / "classes").iterdir()] == ["t.png"]


def test_a_full_disk_stops_the_run_and_keeps_the_images_before(small_disk: Path, folder: Path, tmp_path: Path) -> None:
    for k in range(IMAGES, 60):
        shutil.copy(folder / "0.png", folder / f"{k:02d}.png")
    sources = sorted(map(str, folder.iterdir()))
    with pytest.raises(OSError, match=rf"No space left.*{small_disk}.*skip_finished"):
        segment(sources, small_disk, engine=FolderEvaluator)
    assert not list(small_disk.rglob(".*"))
    rows = {row["image"] for row in read_csv(small_disk / "objects.csv")}
    saved = {f"{path.stem}.png" for path in (small_disk / "probabilities").iterdir()}
    assert len(rows) > 5
    assert rows <= saved
    assert len(saved - rows) <= 1
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    again = segment_again(sources, small_disk)
    assert len(again) in (60 - len(rows), 61 - len(rows))
    segment(sources, tmp_path / "whole", engine=FolderEvaluator)
    assert files(small_disk) == files(tmp_path / "whole")


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


def test_files_with_the_channels_of_an_image_are_sources(tmp_path: Path) -> None:
    channels = [tmp_path / "classes" / f"a_000{k}.png" for k in range(2)]
    channels[0].parent.mkdir()
    for path in channels:
        Image.fromarray(PLANE).save(path)
    items = [{"image": [str(path) for path in channels]}]
    assert SegmentationSaver(tmp_path / "out", skip_finished=True).unfinished(items) == items
    before = files(tmp_path)
    with pytest.raises(ValueError, match="would replace its source"):
        segment([items[0]["image"]], tmp_path)
    assert files(tmp_path) == before


class TooSmall(torch.nn.Module):
    """No image fits."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise ValueError("the image is too small")


def test_a_run_whose_images_all_fail_leaves_earlier_results_as_they_are(folder: Path, tmp_path: Path) -> None:
    images, out = sorted(map(str, folder.iterdir())), tmp_path / "out"
    segment(images, out, class_names=["background", "cell"])
    before = files(out)
    assert "objects.csv" in before
    with pytest.raises(FolderErrors, match="all 4 images failed"):
        segment(images, out, TooSmall(), engine=FolderEvaluator, class_names=["background", "cell"])
    assert files(out) == before
