"""Results written while the next image is computed: the same files, and every error with the image it belongs to."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import DataLoader
from monai.engines import IterationEvents
from monai.inferers import Inferer
from monai.transforms import Compose, CopyItemsd, EnsureChannelFirstd, LoadImaged
from PIL import Image

from scripts.data.datasets import TolerantDataset
from scripts.engines import FolderErrors, FolderEvaluator, engine_items
from scripts.handlers.segmentation import SegmentationSaver
from scripts.io.reader import PlaneReader
from scripts.transforms.activations import LikeliestClassd, ProbabilitiesFromScoresd
from scripts.transforms.objects import InstancesFromScoresd

LOAD = Compose([LoadImaged("image", reader=PlaneReader()), EnsureChannelFirstd("image")])
POST = Compose(
    [ProbabilitiesFromScoresd(), CopyItemsd("pred", names="prob"), LikeliestClassd(), InstancesFromScoresd("prob")]
)
IMAGES = 4


class Bright(Inferer):
    """Two score maps: where the image is dark, where it is bright."""

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        return torch.cat([100 - inputs, inputs - 100], dim=1) / 50


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """0.png ... 3.png."""
    path = tmp_path / "in"
    path.mkdir()
    for k in range(IMAGES):
        pixels = np.random.default_rng(k).integers(0, 200, (30 + k, 40)).astype(np.uint8)
        Image.fromarray(pixels).save(path / f"{k}.png")
    return path


def segment(folder: Path, output_dir: Path, *more: Any, **options: Any) -> None:
    items = [{"image": str(path)} for path in sorted(folder.iterdir())]
    FolderEvaluator(
        device="cpu",
        val_data_loader=DataLoader(TolerantDataset(items, LOAD), batch_size=1),
        network=torch.nn.Identity(),
        inferer=Bright(),
        postprocessing=POST,
        val_handlers=[SegmentationSaver(output_dir, **options), *more],
    ).run()


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class AtOnce:
    """Save every image where it is computed, in the main thread."""

    def __init__(self, saver: SegmentationSaver) -> None:
        self.saver = saver

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self.save)

    def save(self, engine: Engine) -> None:
        for item in engine_items(engine):
            self.saver.save(item)


def test_the_files_are_those_of_saving_at_once_byte_for_byte(folder: Path, tmp_path: Path) -> None:
    one_by_one = SegmentationSaver(tmp_path / "at_once")
    one_by_one._start(Engine(lambda *_: None))
    segment(folder, tmp_path / "beside", AtOnce(one_by_one))
    one_by_one._finish(Engine(lambda *_: None))
    beside = files(tmp_path / "beside")
    assert len(beside) == 4 * IMAGES + 1
    assert beside == files(tmp_path / "at_once")


@pytest.mark.parametrize("beside_bytes", [2**28, 0], ids=["beside", "at once"])
@pytest.mark.parametrize("twin", ["1.bmp", "3.bmp"], ids=["in the middle", "the last"])
def test_an_error_is_reported_for_its_image_and_the_others_are_saved(
    twin: str, beside_bytes: int, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two images of one name: the results of the second would replace those of the first."""
    monkeypatch.setattr("scripts.handlers.segmentation.BESIDE_BYTES", beside_bytes)
    second = twin.replace("bmp", "png")  # "1.bmp" comes first
    with Image.open(folder / second) as image:
        image.save(folder / twin)
    with pytest.raises(FolderErrors, match=rf"1 of 5 images failed, the others(.|\n)*{second}: .*would both be named"):
        segment(folder, tmp_path / "out")
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
        segment(folder, out)
    left = {path.relative_to(out) for path in out.rglob("*") if path.is_file()}
    assert not [path for path in left if path.name.startswith(".tmp")]
    assert {path.stem for path in left if path.parent.name == "overlays"} == set(complete)
    assert Path("objects.csv") not in left


def test_at_most_one_more_image_is_computed_after_a_file_could_not_be_written(folder: Path, tmp_path: Path) -> None:
    folder_in_the_way(tmp_path / "out")
    seen: list[str] = []

    class Count:
        def attach(self, engine: Engine) -> None:
            engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, lambda: seen.append("image"))

    with pytest.raises(OSError, match=r"1\.png"):
        segment(folder, tmp_path / "out", Count())
    assert len(seen) == 3  # 0, 1 and the one computed while 1 was written


def test_ctrl_c_leaves_the_images_before_complete_and_nothing_unfinished(folder: Path, tmp_path: Path) -> None:
    class Stop:
        def attach(self, engine: Engine) -> None:
            engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self.stop)

        def stop(self, engine: Engine) -> None:
            if engine.state.iteration == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment(folder, tmp_path / "out", Stop())
    expected = {f"{kind}/{k}.{end}" for kind, end in (("classes", "png"), ("overlays", "png")) for k in (0, 1)}
    expected |= {f"{kind}/{k}.tif" for kind in ("probabilities", "instances") for k in (0, 1)}
    assert files(tmp_path / "out").keys() == expected
