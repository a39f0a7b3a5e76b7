"""What is written, in which format, whole or not at all. Where pixels go is tested in test_orientation.py."""

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

import scripts.io.tiff
from scripts.io.writer import SegmentationStore

H, W = 5, 7


def image(path: Path, planes: int = 1, **options: object) -> Path:
    shape = (H, W) if planes == 1 else (planes, H, W)
    tifffile.imwrite(path, np.zeros(shape, np.uint8), **{"photometric": "minisblack", **options})
    return path


def labels(value: int = 1) -> np.ndarray:
    array = np.zeros((H, W), int)
    array[1, 2] = value
    return array


def everything_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "name, classes, others",
    [("a.png", "a.png", "a.tif"), ("a.jpg", "a.png", "a.tif"), ("a.bmp", "a.png", "a.tif"), ("a.tif", "a.tif", "a.tif"),
     ("a.TIFF", "a.tif", "a.tif"), ("a.ome.tif", "a.tif", "a.tif"), ("a.nii", "a.nii", "a.nii"),
     ("a.nii.gz", "a.nii.gz", "a.nii.gz"), ("a.mha", "a.mha", "a.mha"), ("a.mhd", "a.mha", "a.mha"),
     ("a.nrrd", "a.nrrd", "a.nrrd"), ("a.nhdr", "a.nrrd", "a.nrrd"), ("a.dcm", "a.mha", "a.mha")],
)  # fmt: skip
def test_format_of_the_result_follows_the_image(name: str, classes: str, others: str):
    store = SegmentationStore("out")
    assert store.path_of("classes", f"in/{name}") == Path("out/classes") / classes
    assert store.path_of("instances", f"in/{name}#page=3") == Path("out/instances") / others
    assert store.path_of("probabilities", f"in/{name}") == Path("out/probabilities") / others


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


NOISE = np.random.default_rng(0).random((4, 3, H, W), dtype=np.float32)


@pytest.mark.parametrize("scores", [NOISE, NOISE.round()], ids=["uncertain", "certain"])
def test_probabilities_are_compressed_float_channels_for_imagej(scores: np.ndarray, tmp_path: Path):
    source = image(tmp_path / "a.tif", 4, imagej=True, resolution=(0.25, 0.2),
                   metadata={"axes": "ZYX", "unit": "nm", "spacing": 50.0})  # fmt: skip
    with SegmentationStore(tmp_path / "out", kinds=["probabilities"]) as store:
        for k, plane in enumerate(scores):
            path = store.add("probabilities", f"{source}#page={k}", torch.tensor(plane))
    with tifffile.TiffFile(path) as tif:
        assert (tif.series[0].axes, tif.series[0].kind) == ("ZCYX", "imagej")
        np.testing.assert_array_equal(tif.series[0].asarray(), scores)
        assert {page.compression for page in tif.pages} == {tifffile.COMPRESSION.ADOBE_DEFLATE}
        assert tif.imagej_metadata is not None
        assert (tif.imagej_metadata["unit"], tif.imagej_metadata["spacing"]) == ("nm", 50.0)
        assert tif.pages[0].get_resolution() == pytest.approx((0.25, 0.2))
    with Image.open(path) as other:
        other.seek(5)  # slice 1, channel 2
        np.testing.assert_array_equal(np.asarray(other), scores[1, 2])


def test_probabilities_are_stored_as_they_are_where_compressing_would_take_little_off(tmp_path: Path):
    generator = np.random.default_rng(0)
    half = generator.random((1, 128, 128), dtype=np.float32)
    planes = {"noise": half, "half": np.where(half > 0.5, half, 0), "certain": half.round()}
    sizes = {}
    for name, plane in planes.items():
        Image.fromarray(np.zeros((128, 128), np.uint8)).save(tmp_path / f"{name}.png")
        with SegmentationStore(tmp_path / "out", kinds=["probabilities"]) as store:
            path = store.add("probabilities", tmp_path / f"{name}.png", plane)
        np.testing.assert_array_equal(tifffile.imread(path), plane[0])
        sizes[name] = path.stat().st_size / plane.nbytes
    assert 1 < sizes["noise"] < 1.02
    assert sizes["half"] < 0.8
    assert sizes["certain"] < 0.1


def test_no_size_is_claimed_where_none_is_known(tmp_path: Path):
    with SegmentationStore(tmp_path / "out", kinds=["classes"]) as store:
        path = store.add("classes", image(tmp_path / "a.tif"), labels())
    with tifffile.TiffFile(path) as tif:
        assert "unit" not in (tif.imagej_metadata or {})
        assert tif.pages[0].get_resolution() == (1, 1)


@pytest.mark.parametrize("last, dtype", [(65535, np.uint16), (65536, np.uint32)])
@pytest.mark.parametrize("name", ["a.tif", "a.nii.gz", "a.mha"])
def test_instances_take_32_bits_where_16_do_not_hold_them(name: str, last: int, dtype: type, tmp_path: Path):
    volume = np.zeros((3, H, W), np.uint8)
    if name == "a.tif":
        image(tmp_path / name, 3)
    elif name == "a.mha":
        itk.imwrite(itk.image_from_array(volume), str(tmp_path / name))
    else:
        nibabel.save(nibabel.Nifti1Image(volume.T.copy(), np.eye(4)), tmp_path / name)
    with SegmentationStore(tmp_path / "out") as store:
        for k, value in enumerate([3, last, 4]):  # the second plane is the one that does not fit
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


def test_large_results_become_bigtiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for limit, big in ((2**32, False), (10, True)):
        monkeypatch.setattr(scripts.io.tiff, "_BIGTIFF_BYTES", limit)
        with SegmentationStore(tmp_path / "out") as store:
            path = store.add("classes", image(tmp_path / "a.tif"), labels())
        with tifffile.TiffFile(path) as tif:
            assert tif.is_bigtiff is big
        np.testing.assert_array_equal(tifffile.imread(path), labels())


# ---------------------------------------------------------------- stacks that lack planes
@pytest.mark.parametrize("present", [[0, 2, 3], [1, 3], [0, 1], [3]])
@pytest.mark.parametrize("name", ["a.tif", "a.nii"])
def test_a_stack_that_lacks_planes_has_zeros_there_and_says_so(
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
    assert store.incomplete == {path: missing}
    assert f"no result for the planes {missing}" in caplog.text
    found = tifffile.imread(path) if name == "a.tif" else np.asarray(nibabel.load(path).dataobj).T
    np.testing.assert_array_equal(found[:, 1, 2], [k + 1 if k in present else 0 for k in range(4)])


def test_a_stack_is_not_there_until_its_last_plane_has_come(tmp_path: Path):
    source = image(tmp_path / "a.tif", 2)
    store = SegmentationStore(tmp_path / "out", kinds=["classes"])
    path = store.add("classes", f"{source}#page=0", labels())
    assert path is not None
    assert not path.exists()
    store.add("classes", f"{source}#page=1", labels())
    assert path.exists()
    store.close()
    assert everything_in(tmp_path / "out") == ["classes/a.tif"]


def test_an_older_result_stays_until_the_new_one_is_whole(tmp_path: Path):
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


def test_a_run_that_is_broken_off_leaves_what_was_there_before(tmp_path: Path):
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
        with pytest.raises(ValueError, match="unknown kind of result 'scores'"):
            store.add("scores", source, labels())
        store.add("classes", f"{source}#page=1", labels())
        with pytest.raises(ValueError, match=r"plane 0 of .*a\.tif comes after plane 1 of 3; .* do not shuffle"):
            store.add("classes", f"{source}#page=0", labels())
        (tmp_path / "b").mkdir()
        namesake = image(tmp_path / "b" / "a.tif")
        assert store.path_of("classes", namesake).name == "b_a.tif"
        with pytest.raises(ValueError, match=r"a\.png would both be named a: rename one"):
            store.path_of("classes", image(tmp_path / "a.png"))
    assert everything_in(tmp_path / "out") == ["classes/a.tif"]
    with pytest.raises(ValueError, match="kinds must be a list of classes, probabilities, instances; got 'classes'"):
        SegmentationStore(tmp_path, kinds="classes")
    with pytest.raises(ValueError, match=r"class_values must lie in 0 \.\.\. 255"):
        SegmentationStore(tmp_path, class_values=(0, 256))
