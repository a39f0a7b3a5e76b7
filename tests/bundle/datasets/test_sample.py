"""`python -m bundle sample`: files, the same data every time, figures as in real slices."""

from __future__ import annotations

import hashlib
import math
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage as ndi

from bundle.__main__ import main
from bundle.datasets.sample import sample
from bundle.datasets.synthetic_cells import membrane_distance, smooth_noise
from bundle.datasets.synthetic_em import synthetic_section
from bundle.running.errors import UsageError


def digest(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


@pytest.fixture(scope="module")
def sections() -> list[tuple[np.ndarray, np.ndarray]]:
    """Three of the default images."""
    return [synthetic_section(np.random.default_rng([0, k]), (512, 512)) for k in range(3)]


def test_same_seed_same_bytes_and_another_seed_another_picture() -> None:
    first, again, other = (synthetic_section(np.random.default_rng([seed, 0]), (128, 160)) for seed in (5, 5, 6))
    assert digest(*first) == digest(*again)
    assert digest(first[0]) != digest(other[0])
    assert digest(first[1]) != digest(other[1])


def test_images_are_8_bit_and_labels_16_bit_of_the_same_shape() -> None:
    image, labels = synthetic_section(np.random.default_rng(0), (96, 131))
    assert (image.dtype, labels.dtype) == (np.uint8, np.uint16)
    assert image.shape == labels.shape == (96, 131)


def test_as_many_cells_and_as_much_membrane_as_a_real_slice(sections: list[tuple[np.ndarray, np.ndarray]]) -> None:
    for _, labels in sections:  # ISBI 2012: 88-137 cells, 18-26 % membrane
        assert 80 <= labels.max() <= 140
        assert 0.15 <= (labels == 0).mean() <= 0.30


def test_cells_are_of_very_different_sizes(sections: list[tuple[np.ndarray, np.ndarray]]) -> None:
    for _, labels in sections:
        sizes = np.bincount(labels.ravel())[1:]
        assert np.percentile(sizes, 95) > 5 * np.median(sizes)
        assert sizes.max() < labels.size // 8


def test_grey_values_are_spread_like_those_of_a_real_slice(sections: list[tuple[np.ndarray, np.ndarray]]) -> None:
    for image, labels in sections:  # ISBI 2012: mean 114-143, deviation 40-47, membrane about 55 darker than cells
        assert 100 < image.mean() < 160
        assert 33 < image.std() < 55
        assert 40 < image[labels > 0].mean() - image[labels == 0].mean() < 80


def test_grey_value_alone_does_not_tell_membrane_from_cell(sections: list[tuple[np.ndarray, np.ndarray]]) -> None:
    for image, labels in sections:  # organelles and texture are as dark as membrane; a threshold must not suffice
        best = max(((image > t) == (labels > 0)).mean() for t in range(0, 255, 5))
        assert best < 0.93


def test_labels_are_numbered_without_gaps_and_each_is_one_piece(sections: list[tuple[np.ndarray, np.ndarray]]) -> None:
    _, labels = sections[0]
    assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))
    for number in range(1, int(labels.max()) + 1):
        _, pieces = ndi.label(labels == number)
        assert pieces == 1


def test_cells_never_touch_without_membrane_between(sections: list[tuple[np.ndarray, np.ndarray]]) -> None:
    for _, labels in sections:
        for a, b in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
            assert not np.any((a != b) & (a > 0) & (b > 0))


def test_membrane_distance_counts_from_the_line_between_cells() -> None:
    own = np.zeros((40, 40), dtype=np.int32)
    own[:, 20:] = 1
    row = membrane_distance(own)[20]
    assert np.allclose(row, row[::-1], atol=1e-4)
    assert row[19] < 1.0
    assert row[30] == pytest.approx(10.5, abs=0.2)


def test_membrane_distance_of_one_cell_alone_is_far() -> None:
    assert membrane_distance(np.zeros((20, 30), dtype=np.int32)).min() == 30


@pytest.mark.parametrize("sigma", [0.8, 3.0, 12.0, 40.0])
def test_smooth_noise_has_unit_variance_and_the_length_asked_for(sigma: float) -> None:
    field = np.stack([smooth_noise(np.random.default_rng(k), (400, 300), sigma) for k in range(8)])
    assert field.shape == (8, 400, 300)
    assert field.std() == pytest.approx(1.0, abs=0.25)
    lag = math.ceil(sigma)  # Gaussian-smoothed white noise: correlation exp(-lag² / (4 sigma²))
    share = (field[:, lag:] * field[:, :-lag]).mean() / (field**2).mean()
    assert share == pytest.approx(math.exp(-((lag / sigma) ** 2) / 4), abs=0.12)


def test_writes_the_folder_layout_and_names_a_next_command_that_exists(
    tmp_path: Path, bundle_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "my new" / "data"
    assert main(["sample", str(target), "--size", "96", "--train", "2", "--test", "1"]) == 0
    files = sorted(path.relative_to(target).as_posix() for path in target.rglob("*.png"))
    parts = [
        "test/images/00",
        "test/labels/00",
        "train/images/00",
        "train/images/01",
        "train/labels/00",
        "train/labels/01",
    ]
    assert files == [f"{part}.png" for part in parts]
    image, labels = (np.array(Image.open(target / "train" / kind / "01.png")) for kind in ("images", "labels"))
    expected = synthetic_section(np.random.default_rng([0, 1]), (96, 96))
    assert np.array_equal(image, expected[0])
    assert np.array_equal(labels, expected[1])
    assert labels.dtype == np.uint16
    shown = capsys.readouterr().out
    words = shlex.split(shown[shown.index("next: ") + len("next: ") :])
    assert words[:4] == ["python", "-m", "bundle", "train"]
    assert Path(words[4]) == target / "train"
    assert words[5] == "--overlay"
    assert all((bundle_root / "configs" / f"{name}.yaml").is_file() for name in words[6].split(","))


def test_the_next_command_is_that_of_the_demo(
    tmp_path: Path, bundle_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sample", "demo/data", "--size", "64", "--train", "1", "--test", "0"]) == 0
    told = capsys.readouterr().out.partition("next: python -m bundle ")[2].strip()
    recipe = (bundle_root / "Makefile").read_text(encoding="utf-8").partition("\ndemo:")[2].partition("\n\n")[0]
    assert f"$(BUNDLE) {told}" in recipe.replace("\t", "").splitlines()


def test_a_folder_in_use_is_refused_until_overwrite_is_said(tmp_path: Path) -> None:
    sample(str(tmp_path), size=64, train=1, test=0)
    with pytest.raises(UsageError, match=r"holds data already .*--overwrite"):
        sample(str(tmp_path), size=64, train=2, test=0)
    sample(str(tmp_path), size=64, train=2, test=1, overwrite=True)
    assert len(list((tmp_path / "train" / "images").iterdir())) == 2
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["test", "train"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_with_other_things_is_never_touched(overwrite: bool, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious", encoding="utf-8")
    with pytest.raises(UsageError, match=r"holds other things \(thesis.txt\)"):
        sample(str(tmp_path), size=64, train=1, test=0, overwrite=overwrite)
    assert (tmp_path / "thesis.txt").read_text(encoding="utf-8") == "precious"


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match="is a file, expected a folder"):
        sample(str(tmp_path / "data"))


@pytest.mark.parametrize(
    "arguments, name",
    [
        ({"size": 32}, "--size"),
        ({"size": 100.5}, "--size"),
        ({"train": 0}, "--train"),
        ({"test": -1}, "--test"),
        ({"seed": "x"}, "--seed"),
    ],
)
def test_values_that_make_no_picture_are_refused(arguments: dict[str, int], name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"^{name} is .* expected a whole number of at least"):
        sample(str(tmp_path / "data"), **arguments)
    assert not (tmp_path / "data").exists()


def test_nothing_is_left_when_drawing_fails(tmp_path: Path) -> None:
    with pytest.raises(MemoryError):
        sample(str(tmp_path / "data"), size=10**9, train=1, test=0)
    assert list(tmp_path.iterdir()) == []


def test_files_of_the_user_are_moved_aside_and_never_deleted(tmp_path, capsys):
    sample(str(tmp_path / "data"), size=64, train=2, test=1)
    own = tmp_path / "data" / "train" / "images" / "mine.png"
    own.write_text("my image")
    sample(str(tmp_path / "data"), size=64, train=2, test=1, overwrite=True)
    assert (tmp_path / "data.1" / "train" / "images" / "mine.png").read_text() == "my image"
    assert not own.exists()
    assert "data.1" in capsys.readouterr().out
    sample(str(tmp_path / "data"), size=64, train=2, test=1, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "data.1"]
