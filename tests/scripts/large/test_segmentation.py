"""A large image has the pixels, objects and tables of the same image in memory. Killed work goes on."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile
import torch
import zarr

from scripts.handlers.checkpoints import save_weights
from scripts.large.joining import join
from scripts.large.journal import Journal
from scripts.networks.unet import RonnebergerUNet
from scripts.segmenter import Segmenter
from scripts.settings import ModelSettings

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = {"amp_dtype": "float32", "device": "cpu"}


def nuclei(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Draw round bright nuclei, some touching, on a dark noisy background, uint8."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width), 12.0)
    y, x = np.mgrid[:height, :width]
    for _ in range(height * width // 900):
        cy, cx, radius = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(5, 11)
        image = np.maximum(image, rng.uniform(60, 200) * (((y - cy) ** 2 + (x - cx) ** 2) < radius**2))
    return np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return nuclei(215, 250)


@pytest.fixture(scope="module")
def section(tmp_path_factory, image) -> Path:
    path: Path = tmp_path_factory.mktemp("section") / "section.tif"
    tifffile.imwrite(path, image, tile=(64, 64), resolution=(2e4, 2e4), resolutionunit="CENTIMETER")
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Write weights without training, whose scores still follow the brightness: about half of an image is objects."""
    path: Path = tmp_path_factory.mktemp("weights") / "model.pt"
    torch.manual_seed(4)
    network = RonnebergerUNet(features=(4, 6, 8)).eval()
    image = torch.from_numpy(nuclei(228, 228)).float()[None, None]
    with torch.no_grad():
        chances = network((image - image.mean()) / image.std()).softmax(dim=1)[0, 1]
    objects = {"min_area": 9, "fill_holes": 12, "split_necks": 2.0, "close_gaps": 2}
    save_weights(network, path, ModelSettings(threshold=float(chances.quantile(0.6)), **objects))
    return path


@pytest.fixture(scope="module")
def segmenter(weights) -> Segmenter:
    return Segmenter(weights, **SETTINGS)


def arrays(output: Path) -> dict[str, np.ndarray]:
    group = zarr.open_group(output, mode="r")
    return {name: np.asarray(group[f"{name}/0"]) for name in ("labels/classes", "labels/instances")} | {
        "probabilities": np.asarray(group["0"])
    }


def same_partition(found: np.ndarray, expected: np.ndarray) -> bool:
    """Whether two label images have the same objects, whatever their numbers."""
    pairs = np.unique(np.stack([found.ravel(), expected.ravel()]), axis=1)
    return len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1] and [0, 0] in pairs.T.tolist()


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("orientations", [1, 8])
@pytest.mark.parametrize("intensity", ["z_score", "percentile"])
def test_pixels_and_objects_equal_those_in_memory(orientations, intensity, image, section, weights, tmp_path):
    segmenter = Segmenter(weights, orientations=orientations, intensity=intensity, **SETTINGS)
    expected = segmenter(image)
    out = segmenter.segment_large(section, tmp_path / "out.ome.zarr", block_size=96, probability_dtype="float32")
    found = arrays(out)
    np.testing.assert_allclose(found["probabilities"], expected.probabilities, atol=2e-5)
    np.testing.assert_array_equal(found["labels/classes"], expected.classes)
    assert expected.instances.max() > 20
    assert same_partition(found["labels/instances"], expected.instances)


def test_tables_equal_those_in_memory(image, section, segmenter, tmp_path):
    out = segmenter.segment_large(section, tmp_path / "out.ome.zarr", block_size=96)
    table = rows(tmp_path / "out.objects.csv")
    expected = segmenter(image, pixel_size=0.5).objects
    assert {row["image"] for row in table} == {"section.tif"}
    assert [int(row["label"]) for row in table] == list(range(1, len(table) + 1))
    order = np.lexsort((expected["centroid_x_px"], expected["centroid_y_px"]))
    table.sort(key=lambda row: (float(row["centroid_y_px"]), float(row["centroid_x_px"])))
    for name in set(expected) - {"label"}:
        np.testing.assert_allclose([float(row[name]) for row in table], expected[name][order], rtol=1e-5, err_msg=name)
    (summary,) = rows(tmp_path / "out.images.csv")
    assert (summary["objects"], summary["height_px"], summary["width_px"]) == (str(len(table)), "215", "250")
    labels = arrays(out)["labels/instances"]
    for row in table[::20]:
        assert np.count_nonzero(labels == int(row["label"])) == float(row["area_px"])


def test_rounded_probabilities_are_off_by_half_a_step(image, section, segmenter, tmp_path):
    exact = segmenter(image).probabilities
    out = segmenter.segment_large(section, tmp_path / "out.ome.zarr", block_size=128, probability_dtype="uint8")
    np.testing.assert_allclose(arrays(out)["probabilities"] / 255, exact, atol=0.5 / 255 + 2e-5)


def test_planes_of_a_stack_are_segmented_alone(segmenter, tmp_path):
    stack = np.stack([nuclei(100, 130, seed) for seed in (1, 2, 3)])
    tifffile.imwrite(tmp_path / "stack.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    out = segmenter.segment_large(tmp_path / "stack.tif", tmp_path / "stack.ome.zarr", block_size=64)
    found = arrays(out)["labels/instances"]
    assert found.shape == stack.shape
    for plane, labels in zip(stack, found, strict=True):
        assert same_partition(labels, segmenter(plane).instances)
        assert set(np.unique(labels)) == set(range(labels.max() + 1))
    names = dict.fromkeys(row["image"] for row in rows(tmp_path / "stack.objects.csv"))
    assert list(names) == ["stack.tif#page=0", "stack.tif#page=1", "stack.tif#page=2"]


def test_without_probabilities_and_objects_the_classes_are_the_image(image, section, segmenter, tmp_path):
    out = segmenter.segment_large(
        section, tmp_path / "out.ome.zarr", block_size=128, probabilities=False, instances=False, objects=False
    )
    group = zarr.open_group(out, mode="r")
    np.testing.assert_array_equal(np.asarray(group["0"]), segmenter(image).classes)
    assert "labels" not in group
    assert not list(tmp_path.glob("*.csv"))


def test_empty_blocks_are_background_and_not_computed(segmenter, tmp_path, caplog):
    image = np.full((256, 256), 10, np.uint8)
    image[:64, :64] = nuclei(64, 64)
    tifffile.imwrite(tmp_path / "image.tif", image)
    caplog.set_level("INFO")
    out = segmenter.segment_large(tmp_path / "image.tif", tmp_path / "out.ome.zarr", block_size=64, foreground_above=30)
    assert "15 empty" in caplog.text
    found = arrays(out)
    assert found["labels/instances"][:64, :64].any()
    assert not found["labels/classes"][64:].any()
    assert (found["probabilities"][0, 64:] == 255).all()


def test_an_image_of_a_single_grey_value_has_no_objects(segmenter, tmp_path):
    tifffile.imwrite(tmp_path / "image.tif", np.full((100, 100), 7, np.uint8))
    out = segmenter.segment_large(tmp_path / "image.tif", tmp_path / "out.ome.zarr", block_size=64)
    assert not arrays(out)["labels/classes"].any()


def test_given_grey_values_replace_the_measured_ones(image, section, segmenter, tmp_path):
    measured = segmenter.segment_large(section, tmp_path / "a.ome.zarr", block_size=128)
    values = [[float(image.mean()), float(image.std())]]
    given = segmenter.segment_large(section, tmp_path / "b.ome.zarr", block_size=128, grey_values=values)
    other = segmenter.segment_large(section, tmp_path / "c.ome.zarr", block_size=128, grey_values=[[100.0, 3.0]])
    a, b, c = (arrays(out)["labels/classes"] for out in (measured, given, other))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


class Stopping:
    """A device of the test: end the run after some blocks, as a kill does."""

    def __init__(self, monkeypatch, after: int) -> None:
        add, self.left = Journal.add, after

        def stop(journal: Journal, numbers: list[int]) -> None:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            add(journal, numbers)

        monkeypatch.setattr(Journal, "add", stop)


@pytest.mark.parametrize("after", [0, 5, 9, 12, 20, 24])
def test_interrupted_work_goes_on_and_gives_the_same_files(after, section, segmenter, tmp_path, monkeypatch):
    whole = segmenter.segment_large(section, tmp_path / "whole.ome.zarr", block_size=96)
    with monkeypatch.context() as patch:
        Stopping(patch, after)
        with pytest.raises(KeyboardInterrupt):
            segmenter.segment_large(section, tmp_path / "out.ome.zarr", block_size=96)
    assert not (tmp_path / "out.ome.zarr").exists()
    again = segmenter.segment_large(section, tmp_path / "out.ome.zarr", block_size=96)
    for name, values in arrays(whole).items():
        np.testing.assert_array_equal(arrays(again)[name], values, err_msg=name)
    assert (tmp_path / "out.objects.csv").read_text() == (tmp_path / "whole.objects.csv").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{name}.{kind}" for name in ("out", "whole") for kind in ("images.csv", "objects.csv", "ome.zarr")
    ]


def test_unfinished_work_of_other_settings_is_refused(section, segmenter, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        Stopping(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            segmenter.segment_large(section, tmp_path / "out.ome.zarr", block_size=96)
    with pytest.raises(ValueError, match=r"block_size: 96, now 128.*overwrite"):
        segmenter.segment_large(section, tmp_path / "out.ome.zarr", block_size=128)
    segmenter.segment_large(section, tmp_path / "out.ome.zarr", block_size=128, overwrite=True)


def test_a_result_is_replaced_only_on_demand_and_other_folders_never(section, segmenter, tmp_path):
    out = tmp_path / "out.ome.zarr"
    segmenter.segment_large(section, out, block_size=128)
    with pytest.raises(FileExistsError, match=r"out\.ome\.zarr.*overwrite"):
        segmenter.segment_large(section, out, block_size=128)
    segmenter.segment_large(section, out, block_size=160, overwrite=True)
    assert zarr.open_group(out, mode="r").attrs["original_unet"]["settings"]["block_size"] == 160
    assert not list(tmp_path.glob("*.part"))
    foreign = tmp_path / "mine.zarr"
    zarr.create_array(foreign, shape=(4, 4), dtype="uint8")
    with pytest.raises(FileExistsError, match=r"mine\.zarr"):
        segmenter.segment_large(section, foreign, overwrite=True)
    assert zarr.open_array(foreign, mode="r").shape == (4, 4)


def test_a_second_image_into_the_same_output_is_segmented_alone(section, segmenter, tmp_path):
    out, other = tmp_path / "out.ome.zarr", nuclei(230, 260, seed=7)
    tifffile.imwrite(tmp_path / "other.tif", other)
    segmenter.segment_large(section, out, block_size=96)
    segmenter.segment_large(tmp_path / "other.tif", out, block_size=96, overwrite=True)
    assert same_partition(arrays(out)["labels/instances"], segmenter(other).instances)


def test_work_whose_result_was_published_and_deleted_is_begun_anew(section, segmenter, tmp_path, monkeypatch):
    out = tmp_path / "out.ome.zarr"
    with monkeypatch.context() as patch:  # killed before the work is deleted
        patch.setattr("scripts.large.segmentation.clear", lambda work: None)
        segmenter.segment_large(section, out, block_size=96)
    expected = arrays(out)
    for path in (out, *tmp_path.glob("*.csv")):
        path.rename(path.with_name(f"moved.{path.name}"))
    segmenter.segment_large(section, out, block_size=96)
    for name, values in arrays(out).items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)


@pytest.mark.parametrize("renames", [0, 1, 2, 3])
def test_a_killed_replacement_loses_no_result(renames, section, segmenter, tmp_path, monkeypatch):
    out = tmp_path / "out.ome.zarr"
    segmenter.segment_large(section, out, block_size=96)
    left, replace = [renames], os.replace

    def counted(source, to):
        if Path(to).parent == tmp_path or Path(to).name == "replaced":
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
        replace(source, to)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", counted)
        with pytest.raises(KeyboardInterrupt):
            segmenter.segment_large(section, out, block_size=128, overwrite=True)
    with monkeypatch.context() as patch:  # killed again, early
        Stopping(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            segmenter.segment_large(section, out, block_size=128, overwrite=True)
    assert arrays(out)["labels/instances"].any()


def test_tables_of_the_replaced_result_go_with_it(section, segmenter, tmp_path):
    out = tmp_path / "out.ome.zarr"
    segmenter.segment_large(section, out, block_size=128)
    segmenter.segment_large(section, out, block_size=128, objects=False, overwrite=True)
    assert not list(tmp_path.glob("*.csv"))


@pytest.mark.parametrize(
    "taken", ["out.objects.csv", "out.images.csv", "out.ome.zarr.part", "out.ome.zarr.part/mine.txt"]
)
def test_files_of_others_stay(taken, section, segmenter, tmp_path):
    (tmp_path / taken).parent.mkdir(exist_ok=True)
    (tmp_path / taken).write_text("mine")
    with pytest.raises(FileExistsError, match=re.escape(taken.split("/")[0])):
        segmenter.segment_large(section, tmp_path / "out.ome.zarr", block_size=96)
    assert (tmp_path / taken).read_text() == "mine"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_broken_link_in_the_place_of_the_result_is_refused_at_once(overwrite, section, segmenter, tmp_path):
    (tmp_path / "out.ome.zarr").symlink_to(tmp_path / "absent")
    with pytest.raises(FileExistsError, match=r"out\.ome\.zarr"):
        segmenter.segment_large(section, tmp_path / "out.ome.zarr", block_size=96, overwrite=overwrite)


@pytest.mark.parametrize(
    "source, output", [("a/labels/classes/0", "a"), ("a/labels/classes/0", "a/labels/classes/0/b")]
)
def test_image_and_result_do_not_lie_within_each_other(source, output, section, segmenter, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    segmenter.segment_large(section, tmp_path / "a.ome.zarr", block_size=256, objects=False)
    source, output = (one.replace("a", "a.ome.zarr", 1) for one in (source, output))
    with pytest.raises(ValueError, match="within each other"):
        segmenter.segment_large(
            tmp_path / source, (tmp_path / "link" / output).with_suffix(".zarr"), block_size=256, overwrite=True
        )
    assert (tmp_path / "a.ome.zarr" / "labels" / "classes" / "0" / "zarr.json").exists()


def test_an_image_that_changes_during_the_work_is_refused(image, segmenter, tmp_path, monkeypatch):
    section, out = tmp_path / "section.tif", tmp_path / "out.ome.zarr"
    tifffile.imwrite(section, image)
    with monkeypatch.context() as patch:
        Stopping(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            segmenter.segment_large(section, out, block_size=96)
    changed = image.copy()
    changed[200, 200] ^= 1
    tifffile.imwrite(section, changed)
    os.utime(section, (1e9, 1e9))
    with pytest.raises(ValueError, match=r"section\.tif.*grey values.*overwrite"):
        segmenter.segment_large(section, out, block_size=96)
    tifffile.imwrite(section, image)
    with monkeypatch.context() as patch:
        patch.setattr(
            "scripts.large.segmentation.join", lambda *given: (os.utime(section, (2e9, 2e9)), join(*given))[1]
        )
        with pytest.raises(ValueError, match=r"section\.tif has changed"):
            segmenter.segment_large(section, out, block_size=96)
    assert not out.exists()
    segmenter.segment_large(section, out, block_size=96)  # the same pixels


def test_two_runs_into_one_output_are_refused(section, segmenter, tmp_path):
    code = f"from scripts.io.locks import FolderLock; import time; FolderLock({str(tmp_path / 'out.ome.zarr.part')!r})"
    holder = subprocess.Popen(
        [sys.executable, "-c", f"{code}.acquire(); print('held', flush=True); time.sleep(60)"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(RuntimeError, match=str(holder.pid)):
            segmenter.segment_large(section, tmp_path / "out.ome.zarr", block_size=128)
    finally:
        holder.kill()
        holder.communicate()


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"block_size": 100}, "block_size is 100"),
        ({"output": "out.tif"}, "out.tif"),
        ({"output": "x" * 245 + ".zarr"}, "250 characters"),
        ({"object_halo": 0}, "object_halo is 0"),
        ({"scheduler": "tcp//x"}, "tcp//x"),
        ({"grey_values": [[1.0, 0.0]]}, "grey_values"),
        ({"grey_values": [[1.0, 2.0], [1.0, 2.0]]}, "grey_values"),
    ],
)
def test_wrong_arguments_are_refused(changes, words, section, segmenter, tmp_path):
    given = {"output": "out.ome.zarr", "block_size": 128, **changes}
    with pytest.raises(ValueError, match=words):
        segmenter.segment_large(section, tmp_path / given.pop("output"), **given)
    assert not list(tmp_path.iterdir())


def test_an_image_with_other_channels_is_refused(segmenter, tmp_path):
    tifffile.imwrite(tmp_path / "rgb.tif", np.zeros((64, 64, 3), np.uint8), photometric="rgb")
    with pytest.raises(ValueError, match=r"rgb\.tif has 3 channels"):
        segmenter.segment_large(tmp_path / "rgb.tif", tmp_path / "out.ome.zarr")


def test_an_image_of_too_many_blocks_is_refused_at_once(segmenter, tmp_path):
    zarr.create_array(tmp_path / "huge.zarr", shape=(10**6, 10**6), chunks=(2048, 2048), dtype="uint8")
    with pytest.raises(ValueError, match=r"huge\.zarr.*block_size 64"):
        segmenter.segment_large(tmp_path / "huge.zarr", tmp_path / "out.ome.zarr", block_size=64)


def test_a_damaged_tile_is_named_and_the_work_is_kept(section, segmenter, tmp_path):
    damaged = tmp_path / "damaged.tif"
    tifffile.imwrite(damaged, nuclei(256, 256), tile=(64, 64), compression="zlib")
    with tifffile.TiffFile(damaged) as tif:
        place = tif.pages[0].dataoffsets[-1]
    content = bytearray(damaged.read_bytes())
    good = bytes(content)
    content[place : place + 40] = b"\xff" * 40
    damaged.write_bytes(bytes(content))
    options = {"block_size": 64, "grey_values": [[30.0, 30.0]]}
    with pytest.raises(ValueError, match=r"damaged\.tif.*rows \d+ to \d+"):
        segmenter.segment_large(damaged, tmp_path / "out.ome.zarr", **options)
    damaged.write_bytes(good)
    finished = Journal(tmp_path / "out.ome.zarr.part" / "network.txt").finished()
    assert finished
    segmenter.segment_large(damaged, tmp_path / "out.ome.zarr", **options)


@pytest.mark.slow
def test_published_weights_give_the_objects_of_the_image_in_memory(tmp_path):
    image = nuclei(330, 401)
    tifffile.imwrite(tmp_path / "image.tif", image)
    segmenter = Segmenter("nuclei_small", **SETTINGS)
    expected = segmenter(image)
    found = arrays(segmenter.segment_large(tmp_path / "image.tif", tmp_path / "out.ome.zarr", block_size=192))
    np.testing.assert_array_equal(found["labels/classes"], expected.classes)
    assert expected.instances.max() > 50
    assert same_partition(found["labels/instances"], expected.instances)


@pytest.mark.slow
def test_work_goes_on_after_kill_9(section, weights, tmp_path):
    out = tmp_path / "out.ome.zarr"
    code = (
        "from scripts.segmenter import Segmenter; import torch; torch.set_num_threads(1);"
        f"Segmenter({str(weights)!r}, device='cpu', amp_dtype='float32').segment_large({str(section)!r}, {str(out)!r},"
        " block_size=32)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    journal = Journal(tmp_path / "out.ome.zarr.part" / "network.txt")
    until = time.monotonic() + 120
    while len(journal.finished()) < 5 and time.monotonic() < until:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 5 <= len(journal.finished()) < 56
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    whole = Segmenter(weights, **SETTINGS).segment_large(section, tmp_path / "whole.ome.zarr", block_size=32)
    for name, values in arrays(whole).items():
        np.testing.assert_array_equal(arrays(out)[name], values, err_msg=name)


def kill_a_worker(journal: Journal, blocks: int) -> int:
    """Wait until some blocks are finished, then kill one of the two worker processes. Return its number."""
    until = time.monotonic() + 120
    while len(journal.finished()) < blocks and time.monotonic() < until:
        time.sleep(0.01)
    children = psutil.Process().children(recursive=True)
    worker = next(child for child in children if "spawn_main" in " ".join(child.cmdline()))
    worker.kill()
    return worker.pid


@pytest.mark.slow
def test_two_workers_give_the_same_files_though_one_is_killed(section, segmenter, tmp_path):
    pytest.importorskip("distributed", reason="dask.distributed is not installed: pip install '.[large]'")
    whole = segmenter.segment_large(section, tmp_path / "whole.ome.zarr", block_size=32)
    journal = Journal(tmp_path / "out.ome.zarr.part" / "network.txt")
    with ThreadPoolExecutor() as thread:
        killed = thread.submit(kill_a_worker, journal, 3)
        out = segmenter.segment_large(section, tmp_path / "out.ome.zarr", block_size=32, scheduler="local:2")
        assert killed.result() > 0
    for name, values in arrays(whole).items():
        np.testing.assert_array_equal(arrays(out)[name], values, err_msg=name)
    assert (tmp_path / "out.objects.csv").read_text() == (tmp_path / "whole.objects.csv").read_text()


@pytest.mark.slow
def test_4096_pixels_squared_equal_those_in_memory(weights, tmp_path):
    tile = nuclei(512, 512)
    image = np.block([[tile, tile[:, ::-1]], [tile[::-1], tile[::-1, ::-1]]])
    image = np.tile(image, (4, 4))
    tifffile.imwrite(tmp_path / "image.tif", image, tile=(256, 256))
    segmenter = Segmenter(weights, **SETTINGS)
    expected = segmenter(image)
    found = arrays(segmenter.segment_large(tmp_path / "image.tif", tmp_path / "out.ome.zarr", block_size=1024))
    np.testing.assert_allclose(found["probabilities"] / 255, expected.probabilities, atol=0.5 / 255 + 2e-5)
    unequal = found["labels/classes"] != expected.classes
    assert unequal.mean() < 1e-6  # equal chances to rounding
    assert expected.instances.max() > 1000
    assert same_partition(found["labels/instances"], expected.instances)
