"""Results of any format: kinds, dtypes, missing planes, unfinished files, errors."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import itk
import nibabel
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from scripts.io.writer import SegmentationStore
from tests.scripts.io.made import H, W, image, labels


def everything_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_kinds_that_are_not_wanted_are_not_written(tmp_path: Path):
    source = image(tmp_path / "a.tif")
    with SegmentationStore(tmp_path / "out", kinds=["classes"]) as store:
        assert store.add("instances", source, labels()) is None
        assert store.add("classes", source, labels()) == tmp_path / "out" / "classes" / "a.tif"
    assert everything_in(tmp_path / "out") == ["classes/a.tif"]


def test_classes_can_be_written_as_grey_values(tmp_path: Path):
    Image.fromarray(labels().astype(np.uint8)).save(tmp_path / "a.png")
    with SegmentationStore(tmp_path, kinds=["classes"], class_values=(0, 255)) as store:
        path = store.add("classes", tmp_path / "a.png", labels()[None])
        with pytest.raises(ValueError, match=r"classes of .*a\.png go up to 2; expected at most 1"):
            store.add("classes", tmp_path / "a.png", labels(2))
    with Image.open(path) as found:
        assert np.asarray(found)[1, 2] == 255


@pytest.mark.parametrize(
    "tensor", [torch.tensor(labels()), torch.tensor(labels(), dtype=torch.bfloat16)[None]], ids=str
)
def test_tensors_are_taken_as_they_come_out_of_a_network(tensor: torch.Tensor, tmp_path: Path):
    source = image(tmp_path / "a.tif")
    with SegmentationStore(tmp_path / "out", kinds=["classes"]) as store:
        np.testing.assert_array_equal(tifffile.imread(store.add("classes", source, tensor)), labels())


@pytest.mark.parametrize("last, dtype", [(65535, np.uint16), (65536, np.uint32)])
@pytest.mark.parametrize("name", ["a.tif", "a.nii.gz", "a.mha"])
def test_more_than_65535_instances_are_written_in_32_bits(name: str, last: int, dtype: type, tmp_path: Path):
    volume = np.zeros((3, H, W), np.uint8)
    if name == "a.tif":
        image(tmp_path / name, 3)
    elif name == "a.mha":
        itk.imwrite(itk.image_from_array(volume), str(tmp_path / name))
    else:
        nibabel.save(nibabel.Nifti1Image(volume.T.copy(), np.eye(4)), tmp_path / name)
    with SegmentationStore(tmp_path / "out") as store:
        for k, value in enumerate([3, last, 4]):  # only the second plane needs 32 bits
            path = store.add("instances", f"{tmp_path / name}#page={k}", labels(value))
    if name == "a.tif":
        found = tifffile.imread(path)
    elif name == "a.mha":
        found = itk.array_from_image(itk.imread(str(path)))
    else:
        found = np.asarray(nibabel.load(path).dataobj).T
    assert found.dtype == dtype
    np.testing.assert_array_equal(found[:, 1, 2], [3, last, 4])
    assert everything_in(tmp_path / "out") == [f"instances/{name}"]


# ---------------------------------------------------------------- stacks with missing planes
@pytest.mark.parametrize("present", [[0, 2, 3], [1, 3], [0, 1], [3]])
@pytest.mark.parametrize("name", ["a.tif", "a.nii"])
def test_missing_planes_are_zero_and_named_in_a_warning(
    name: str, present: list[int], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    if name == "a.tif":
        image(tmp_path / name, 4)
    else:
        nibabel.save(nibabel.Nifti1Image(np.zeros((W, H, 4), np.uint8), np.eye(4)), tmp_path / name)
    missing = sorted({0, 1, 2, 3} - set(present))
    with caplog.at_level(logging.WARNING), SegmentationStore(tmp_path / "out", kinds=["classes"]) as store:
        for k in present:
            path = store.add("classes", f"{tmp_path / name}#page={k}", labels(k + 1))
    assert f"no result for the planes {missing}" in caplog.text
    found = tifffile.imread(path) if name == "a.tif" else np.asarray(nibabel.load(path).dataobj).T
    np.testing.assert_array_equal(found[:, 1, 2], [k + 1 if k in present else 0 for k in range(4)])


def test_a_stack_appears_after_its_last_plane(tmp_path: Path):
    source = image(tmp_path / "a.tif", 2)
    store = SegmentationStore(tmp_path / "out", kinds=["classes"])
    path = store.add("classes", f"{source}#page=0", labels())
    assert path is not None
    assert not path.exists()
    store.add("classes", f"{source}#page=1", labels())
    assert path.exists()
    store.close()
    assert everything_in(tmp_path / "out") == ["classes/a.tif"]


def test_an_older_result_stays_until_the_new_file_is_complete(tmp_path: Path):
    source = image(tmp_path / "a.tif", 2)
    (tmp_path / "out" / "classes").mkdir(parents=True)
    path = tmp_path / "out" / "classes" / "a.tif"
    path.write_bytes(b"older")
    with SegmentationStore(tmp_path / "out", kinds=["classes"]) as store:
        store.add("classes", f"{source}#page=0", labels())
        assert path.read_bytes() == b"older"
    assert tifffile.imread(path).shape == (2, H, W)


def test_stacks_may_take_turns(tmp_path: Path):
    sources = [image(tmp_path / f"{name}.tif", 2) for name in "ab"]
    with SegmentationStore(tmp_path / "out", kinds=["classes"]) as store:
        for k in range(2):
            for number, source in enumerate(sources):
                store.add("classes", f"{source}#page={k}", labels(10 * number + k + 1))
    for number, source in enumerate(sources):
        found = tifffile.imread(tmp_path / "out" / "classes" / source.name)
        np.testing.assert_array_equal(found[:, 1, 2], [10 * number + 1, 10 * number + 2])


def test_an_interrupted_run_leaves_complete_and_older_results(tmp_path: Path):
    whole, half = image(tmp_path / "a.tif", 2), image(tmp_path / "b.tif", 2)
    nibabel.save(nibabel.Nifti1Image(np.zeros((W, H, 2), np.uint8), np.eye(4)), tmp_path / "c.nii")
    (tmp_path / "out" / "classes").mkdir(parents=True)
    (tmp_path / "out" / "classes" / "b.tif").write_bytes(b"older")
    addresses = [f"{whole}#page=0", f"{whole}#page=1", f"{half}#page=0", f"{tmp_path}/c.nii#page=0"]
    with contextlib.suppress(KeyboardInterrupt), SegmentationStore(tmp_path / "out", kinds=["classes"]) as store:
        for address in addresses:
            store.add("classes", address, labels())
        raise KeyboardInterrupt
    assert everything_in(tmp_path / "out") == ["classes/a.tif", "classes/b.tif"]
    assert (tmp_path / "out" / "classes" / "b.tif").read_bytes() == b"older"


# ---------------------------------------------------------------- errors
def test_a_folder_that_cannot_be_written_is_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = image(tmp_path / "a.tif")
    (tmp_path / "file").write_text("no folder")
    message = r"cannot write into the folder .*classes \(.+\); set output_dir"
    with pytest.raises(OSError, match=message), SegmentationStore(tmp_path / "file", kinds=["classes"]) as store:
        store.add("classes", source, labels())
    monkeypatch.setattr("os.access", lambda *_: False)  # the superuser may write everywhere
    with pytest.raises(OSError, match=message), SegmentationStore(tmp_path / "out", kinds=["classes"]) as store:
        store.add("classes", source, labels())


def test_errors_name_the_image_and_what_was_expected(tmp_path: Path):
    source = image(tmp_path / "a.tif", 3)
    with SegmentationStore(tmp_path / "out") as store:
        with pytest.raises(ValueError, match=r"a\.tif has the size \(7, 5\); expected the image's \(5, 7\)"):
            store.add("classes", f"{source}#page=0", labels().T)
        with pytest.raises(ValueError, match=r"instances of .*a\.tif#page=0 must not be negative, got -1"):
            store.add("instances", f"{source}#page=0", labels(-1))
        with pytest.raises(ValueError, match=r"classes of .* go up to 256; expected at most 255"):
            store.add("classes", f"{source}#page=0", labels(256))
        with pytest.raises(ValueError, match=r"probabilities of .* must be \(C, H, W\), got the shape \(5, 7\)"):
            store.add("probabilities", f"{source}#page=0", labels())
        with pytest.raises(
            ValueError, match=r"classes of .* must be \(H, W\) or \(1, H, W\), got the shape \(2, 5, 7\)"
        ):
            store.add("classes", f"{source}#page=0", np.zeros((2, H, W)))
        with pytest.raises(ValueError, match=r"kind must be one of .classes., .*got .scores."):
            store.add("scores", source, labels())
        store.add("classes", f"{source}#page=1", labels())
        with pytest.raises(ValueError, match=r"plane 0 of .*a\.tif comes after plane 1 of 3; .* do not shuffle"):
            store.add("classes", f"{source}#page=0", labels())
        (tmp_path / "b").mkdir()
        namesake = image(tmp_path / "b" / "a.tif")
        assert store.path_of("classes", namesake).name == "b_a.tif"
        with pytest.raises(ValueError, match=r"a\.png would both be named a; rename one"):
            store.path_of("classes", image(tmp_path / "a.png"))
    assert everything_in(tmp_path / "out") == ["classes/a.tif"]
    with pytest.raises(ValueError, match=r"kinds must be a list of classes, .*; got 'classes'"):
        SegmentationStore(tmp_path, kinds="classes")
    with pytest.raises(ValueError, match=r"class_values must lie in 0 \.\.\. 255"):
        SegmentationStore(tmp_path, class_values=(0, 256))


def test_the_store_never_replaces_an_image(tmp_path: Path) -> None:
    image = tmp_path / "classes" / "a.png"
    image.parent.mkdir()
    Image.fromarray(np.zeros((5, 7), np.uint8)).save(image)
    before = image.read_bytes()
    with pytest.raises(ValueError, match=r"a\.png would replace its source.*output_dir"):
        SegmentationStore(tmp_path).add("classes", image, np.ones((5, 7), int))
    other = tmp_path / "in" / "a.png"
    other.parent.mkdir()
    Image.fromarray(np.zeros((5, 7), np.uint8)).save(other)
    with pytest.raises(ValueError, match=r"would replace its source"):  # of another image of the run
        SegmentationStore(tmp_path, sources=[other, image]).add("classes", other, np.ones((5, 7), int))
    assert image.read_bytes() == before
