"""Images in memory are segmented; wrong images, settings and weights are refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from bundle.publishing.exporters import FORMATS
from scripts.handlers.checkpoints import save_weights
from scripts.networks.unet import RonnebergerUNet
from scripts.segmenter import Segmenter
from scripts.settings import ModelSettings, Training

GREY = np.random.default_rng(0).integers(0, 255, (61, 83), np.uint8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    path: Path = tmp_path_factory.mktemp("weights") / "model.pt"
    settings = ModelSettings(class_names=["background", "cell"], intensity="percentile")
    save_weights(RonnebergerUNet(features=(2, 4, 8)), path, settings)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64])
def test_an_image_of_any_dtype_gives_maps_of_its_size(dtype, weights):
    result = Segmenter(weights, device="cpu", amp_dtype="float32")(GREY.astype(dtype))
    assert result.classes.shape == result.instances.shape == GREY.shape
    assert result.probabilities.shape == (2, *GREY.shape)
    np.testing.assert_array_equal(result.classes, result.probabilities.argmax(axis=0))
    assert len(result.objects["label"]) == result.instances.max()
    expected = Segmenter(weights, device="cpu", amp_dtype="float32")(GREY)
    np.testing.assert_array_equal(result.probabilities, expected.probabilities)


def test_several_views_have_a_deviation_and_every_result_an_entropy(weights):
    single, views = (Segmenter(weights, device="cpu", amp_dtype="float32", orientations=n)(GREY) for n in (1, 4))
    assert single.deviation is None
    assert views.deviation.shape == views.entropy.shape == single.entropy.shape == GREY.shape
    assert 0 < views.deviation.max() <= 0.5
    certain = single.probabilities.max(axis=0)
    assert (np.diff(single.entropy.ravel()[np.argsort(certain.ravel())]) <= 1e-6).all()  # falls with certainty


def test_a_single_sigmoid_output_gives_the_probabilities_of_both_classes(tmp_path):
    save_weights(RonnebergerUNet(out_channels=1, features=(2, 4, 8)), tmp_path / "model.pt")
    result = Segmenter(tmp_path / "model.pt", device="cpu", amp_dtype="float32")(GREY)
    assert result.probabilities.shape == (2, *GREY.shape)
    np.testing.assert_allclose(result.probabilities.sum(axis=0), 1, atol=1e-6)
    np.testing.assert_array_equal(result.classes, result.probabilities[1] > 0.5)


def test_channels_are_the_last_axis(tmp_path):
    save_weights(RonnebergerUNet(in_channels=3, features=(2, 4, 8)), tmp_path / "model.pt")
    segmenter = Segmenter(tmp_path / "model.pt", device="cpu")
    assert segmenter(np.stack([GREY] * 3, axis=-1)).classes.shape == GREY.shape
    with pytest.raises(ValueError, match=r"\(H, W, 3\).*\(61, 83\)"):
        segmenter(GREY)


@pytest.mark.parametrize(
    "image", [np.zeros((9, 9, 3)), np.zeros(5), np.array([["a"]]), np.zeros((0, 3)), np.zeros((4, 4), complex), "a.png"]
)
def test_what_is_no_image_of_the_network_is_refused_with_its_shape(image, weights):
    with pytest.raises(ValueError, match=r"expected \(H, W\)"):
        Segmenter(weights)(image)


def test_pixels_that_are_no_numbers_are_refused(weights):
    with pytest.raises(ValueError, match="2 pixels are NaN"):
        Segmenter(weights)(np.array([[np.nan, 1.0], [np.inf, 2.0]]))


def test_a_pixel_size_adds_columns_in_its_unit(weights):
    objects = Segmenter(weights, threshold=0.0)(GREY, pixel_size=0.5).objects
    np.testing.assert_allclose(objects["area_um2"], objects["area_px"] / 4)


@pytest.mark.parametrize("name", ["a#1", "$x", "@x", "%x"])
def test_a_folder_of_weights_may_have_any_name(name, weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(weights.parent, name)
    assert Segmenter(f"{name}/model.pt", device="cpu").settings.intensity == "percentile"


def test_an_exported_network_gives_the_same_with_the_settings_inside(weights, tmp_path):
    network = RonnebergerUNet(features=(2, 4, 8)).eval()
    save_weights(network, tmp_path / "model.pt")
    info = {"depth": 2, "padding": "valid", "class_names": ["background", "cell"], "threshold": 0.3}
    FORMATS["torchscript"].write(network, tmp_path / "model.ts", info)
    exported = Segmenter(tmp_path / "model.ts", device="cpu")
    assert exported.settings.threshold == 0.3
    eager = Segmenter(tmp_path / "model.pt", device="cpu", amp_dtype="float32")
    np.testing.assert_allclose(exported(GREY).probabilities, eager(GREY).probabilities, atol=1e-6)


def test_weights_without_settings_take_the_network_as_an_argument(weights, tmp_path):
    bare = Path(shutil.copy(weights, tmp_path / "bare.pt"))
    given = {"class_names": ["background", "cell"], "intensity": "percentile"}
    result = Segmenter(bare, network_def={"features": [2, 4, 8]}, **given)(GREY)
    np.testing.assert_array_equal(result.classes, Segmenter(weights)(GREY).classes)


@pytest.mark.parametrize(
    "given, error, parts",
    [
        ({"treshold": 0.3}, TypeError, ["treshold", "threshold"]),
        ({"threshold": 3}, ValueError, ["threshold", "3"]),
        ({"class_names": ["x", "y", "z"]}, ValueError, ["class_names", "'cell'", "model.json"]),
        ({"network_def": {"concat": "up_first"}}, ValueError, ["concat", "up_first", "skip_first", "model.json"]),
    ],
)
def test_wrong_settings_are_refused_with_their_names(given, error, parts, weights):
    with pytest.raises(error) as raised:
        Segmenter(weights, **given)
    assert all(part in str(raised.value) for part in parts)


def test_an_unknown_name_is_refused_with_the_names_of_published_weights():
    with pytest.raises(ValueError, match=r"'nuclie'.*\bem\b"):
        Segmenter("nuclie")


def test_published_weights_are_found_by_name():
    assert Segmenter("em", device="cpu").settings.class_names == ["membrane", "cell"]


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pt"):
        Segmenter(tmp_path / "nowhere.pt")


@pytest.mark.parametrize("name", ["run #3", "$run", "%run", "@run", "a::b", "größer"])
def test_folders_may_have_any_name(name, weights, tmp_path, monkeypatch):
    folder = tmp_path / name
    shutil.copytree(weights.parent, folder)
    monkeypatch.chdir(tmp_path)
    assert Segmenter(Path(name) / "model.pt", device="cpu").settings.intensity == "percentile"


@pytest.mark.parametrize("pixel_size", [0, -1.0, float("nan"), "auto"])
def test_a_pixel_size_that_is_no_length_is_refused_with_its_value(pixel_size, weights):
    with pytest.raises(ValueError, match=f"pixel_size.*{pixel_size}"):
        Segmenter(weights, device="cpu")(GREY, pixel_size=pixel_size)


def test_an_image_without_a_pixel_size_is_refused_where_it_is_needed(tmp_path):
    known = Training(pixel_size=0.5)
    save_weights(RonnebergerUNet(features=(2, 4, 8)), tmp_path / "model.pt", training=known)
    with pytest.raises(ValueError, match="pixel_size auto"):
        Segmenter(tmp_path / "model.pt", device="cpu", pixel_size="auto")(GREY)


def test_settings_that_an_exported_network_lacks_are_warned_about(weights, tmp_path, caplog):
    """Files of earlier versions name classes and grey values, but no settings for objects."""
    exported = tmp_path / "model.ts"
    known = {
        "in_channels": 1,
        "class_names": ["background", "cell"],
        "intensity": "percentile",
        "flatten": 0,
        "depth": 2,
    }
    FORMATS["torchscript"].write(RonnebergerUNet(features=(2, 4, 8)).eval(), exported, known)
    assert Segmenter(exported, device="cpu").settings.intensity == "percentile"
    assert all(text in caplog.text for text in ("model.ts", "min_area 0", "threshold 0.5"))


def test_scores_that_overflow_are_an_error_and_no_empty_segmentation(tmp_path):
    network = RonnebergerUNet(features=(2, 4, 8))
    for parameter in network.parameters():
        parameter.data *= 1e30
    save_weights(network, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"scores.*NaN or infinite"):
        Segmenter(tmp_path / "model.pt", device="cpu")(GREY)


def test_an_image_of_one_grey_value_has_no_object(weights, caplog):
    result = Segmenter(weights, device="cpu", threshold=0.01)(np.full((40, 50), 7))
    assert result.instances.max() == 0
    assert len(result.objects["label"]) == 0
    assert "single grey value" in caplog.text
