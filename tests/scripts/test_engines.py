"""Inference over a folder: good images are segmented, failed images are reported at the end."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader
from monai.engines import IterationEvents
from monai.handlers import StatsHandler
from monai.inferers import Inferer
from monai.transforms import AsDiscreted, Compose, EnsureChannelFirstd, LoadImaged
from PIL import Image

from scripts.data.datalist import find_images
from scripts.data.datasets import TolerantDataset
from scripts.engines import FolderErrors, FolderEvaluator
from scripts.io.reader import PlaneReader
from scripts.io.writer import SegmentationStore

LOAD = Compose([LoadImaged("image", reader=PlaneReader()), EnsureChannelFirstd("image")])


class Threshold(Inferer):
    """Two score maps, of dark and of bright pixels. `fail` gives the error to raise."""

    def __init__(self, fail: Callable[[torch.Tensor], Exception | None] = lambda _: None) -> None:
        super().__init__()
        self.fail = fail

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        error = self.fail(inputs)
        if error is not None:
            raise error
        return torch.cat([100 - inputs, inputs - 100], dim=1)


class Saver:
    """A minimal handler: saves at MODEL_COMPLETED, closes at COMPLETED."""

    def __init__(self, store: SegmentationStore) -> None:
        self.store = store

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self.save)
        engine.add_event_handler(Events.COMPLETED, lambda: self.store.close())

    def save(self, engine: Engine) -> None:
        for item in engine.state.output:
            self.store.add("classes", item["image"].meta["filename_or_obj"], item["pred"])


def image(k: int) -> np.ndarray:
    return np.random.default_rng(k).integers(0, 200, (30 + k, 40)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """0.png ... 5.png of different sizes; 2.png cut short, 4.png text."""
    for k in range(6):
        Image.fromarray(image(k)).save(tmp_path / f"{k}.png")
    content = (tmp_path / "2.png").read_bytes()
    (tmp_path / "2.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "4.png").write_text("not an image")
    return tmp_path


def evaluator(path: Path, workers: int = 0, **options: Any) -> FolderEvaluator:
    loader = DataLoader(TolerantDataset(find_images(path), LOAD), batch_size=1, num_workers=workers)
    saver = Saver(SegmentationStore(path / "out", kinds=["classes"]))
    defaults: dict[str, Any] = {"inferer": Threshold(), "val_handlers": [saver]}
    return FolderEvaluator(
        device="cpu",
        val_data_loader=loader,
        network=torch.nn.Identity(),
        postprocessing=Compose([AsDiscreted("pred", argmax=True)]),
        **{**defaults, **options},
    )


def saved(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "out" / "classes").iterdir())


@pytest.mark.parametrize("workers", [0, 2])
def test_good_images_are_segmented_and_bad_ones_named_at_the_end(
    workers: int, folder: Path, caplog: pytest.LogCaptureFixture
):
    engine = evaluator(folder, workers)
    with pytest.raises(FolderErrors, match=r"2 of 6 images failed, the others are done:\n.*2\.png .*\n.*4\.png"):
        engine.run()
    assert saved(folder) == ["0.png", "1.png", "3.png", "5.png"]
    for k in (0, 1, 3, 5):
        with Image.open(folder / "out" / "classes" / f"{k}.png") as found:
            np.testing.assert_array_equal(np.asarray(found), image(k) > 100)
    assert len(engine.failures) == 2
    assert "failed: " not in caplog.text  # the error names all


def test_without_failures_nothing_is_raised(folder: Path):
    (folder / "2.png").unlink()
    (folder / "4.png").unlink()
    engine = evaluator(folder)
    engine.run()
    assert engine.failures == []
    assert len(saved(folder)) == 4


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("out of memory"),
        ValueError("too small"),
        MemoryError("no memory"),
        TypeError("not a number"),
        KeyError("pred"),
        OSError(errno.ENAMETOOLONG, "File name too long"),
        torch.OutOfMemoryError("CUDA out of memory"),
    ],
    ids=repr,
)
def test_an_image_that_the_network_refuses_is_skipped(error: Exception, folder: Path):
    engine = evaluator(folder, inferer=Threshold(lambda x: error if x.shape[2] == 31 else None))
    with pytest.raises(FolderErrors, match=r"3 of 6 images failed(.|\n)*1\.png: "):
        engine.run()
    assert saved(folder) == ["0.png", "3.png", "5.png"]


def test_if_all_images_fail_the_message_names_no_segmented_ones(tmp_path: Path):
    (tmp_path / "a.png").write_text("not an image")
    with pytest.raises(FolderErrors, match=r"1 of 1 images failed:\n.*a\.png"):
        evaluator(tmp_path).run()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EROFS, "Read-only file system"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
    ],
    ids=repr,
)
def test_errors_of_disk_and_gpu_stop_the_run_at_once(error: Exception, folder: Path):
    seen: list[torch.Tensor] = []
    engine = evaluator(folder, inferer=Threshold(lambda x: seen.append(x) or error))
    with pytest.raises(type(error), match=str(error.args[-1])):
        engine.run()
    assert len(seen) == 1


def test_if_all_images_fail_alike_the_reason_is_given_once(tmp_path: Path):
    for k in range(9):
        (tmp_path / f"{k}.png").write_text("not an image")
    with pytest.raises(FolderErrors, match=r"all 9 images failed, for the same reason.*0\.png cannot be read") as error:
        evaluator(tmp_path).run()
    assert "\n" not in str(error.value)


def test_a_run_without_images_does_nothing(folder: Path):
    engine = evaluator(folder)
    engine.data_loader = []
    engine.run()
    assert engine.failures == []


def test_other_handlers_run_after_an_image_has_failed(folder: Path):
    seen: list[tuple[Any, Any]] = []
    engine = evaluator(folder, val_handlers=[StatsHandler(iteration_log=False, output_transform=lambda _: None)])
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: seen.append((engine.state.batch, engine.state.output)))
    with pytest.raises(FolderErrors):
        engine.run()
    assert [output == [] and batch == [] for batch, output in seen] == [False, False, True, False, True, False]


def test_results_are_complete_before_the_error_is_raised(folder: Path):
    """A stack without its last plane is written by `close`, at COMPLETED."""
    for k in range(6):
        (folder / f"{k}.png").unlink()
    planes = np.stack([image(0) + np.uint8(k) for k in range(3)])
    tifffile.imwrite(folder / "s.tif", planes, photometric="minisblack")
    broken = float(planes[2].sum())
    engine = evaluator(folder, inferer=Threshold(lambda x: ValueError("bad plane") if x.sum() == broken else None))
    with pytest.raises(FolderErrors, match=r"1 of 3 images failed(.|\n)*s\.tif#page=2: bad plane"):
        engine.run()
    expected = planes > 100
    expected[2] = 0
    np.testing.assert_array_equal(tifffile.imread(folder / "out" / "classes" / "s.tif"), expected)


def test_a_second_run_counts_its_own_failures(folder: Path):
    engine = evaluator(folder)
    for _ in range(2):
        with pytest.raises(FolderErrors, match="2 of 6 images failed"):
            engine.run()


def test_many_failures_are_cut_in_the_error_and_complete_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    for k in range(8):
        (tmp_path / f"{k}{'.tif' if k % 2 else '.png'}").write_text("not an image")
    with caplog.at_level(logging.ERROR), pytest.raises(FolderErrors, match=r"8 of 8 .*(.|\n)*and 3 more, see the log"):
        evaluator(tmp_path).run()
    assert caplog.text.count("failed: ") == 8


def test_batches_of_several_images_are_refused():
    loader = DataLoader(TolerantDataset([{"image": "a.png"}], LOAD), batch_size=2)
    with pytest.raises(ValueError, match=r"batch_size to 1, got 2"):
        FolderEvaluator(device="cpu", val_data_loader=loader, network=torch.nn.Identity())
