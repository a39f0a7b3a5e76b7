"""The widget Segment gives the results of the library, acts on settings at once, and says what goes wrong."""

from __future__ import annotations

import shlex

import numpy as np
import pandas as pd
import pytest
import torch
from napari.layers import Image
from napari.layers._source import layer_source

from bundle.viewer.layers import is_large
from bundle.viewer.sample import nuclei
from bundle.viewer.scoring import objects_table
from bundle.viewer.segment import SegmentWidget
from bundle.viewer.weights import BROWSE
from scripts import RonnebergerUNet, Segmenter
from scripts.settings import ModelSettings, write_weights

IMAGES = nuclei()[0][0][:, :96, :128]


@pytest.fixture
def widget(viewer, until):
    widget = SegmentWidget(viewer)
    widget.weights.choose("nuclei_small")
    yield widget
    widget.cancel()
    until(lambda: widget._worker is None)


def segmented(widget, until):
    widget.segment()
    until(lambda: widget._worker is None)
    until(lambda: "objects" in widget.status.text() and "measuring" not in widget.status.text())


def objects(viewer):
    return next(layer for layer in viewer.layers if layer.name.endswith(" objects"))


def test_objects_and_table_are_those_of_the_library(viewer, widget, until):
    viewer.add_image(IMAGES[0], name="cells")
    segmented(widget, until)
    expected = Segmenter("nuclei_small")(IMAGES[0])
    assert np.array_equal(viewer.layers["cells objects"].data, expected.instances)
    assert np.array_equal(viewer.layers["cells probability"].data, expected.probabilities[1])
    table = viewer.layers["cells objects"].features
    assert table["index"].tolist() == expected.objects["label"].tolist()
    assert np.allclose(table["mean_intensity"], expected.objects["mean_intensity"])


def test_every_plane_of_a_stack_is_segmented_and_no_number_is_used_twice(viewer, widget, until):
    stack = IMAGES[:4].reshape(2, 2, *IMAGES.shape[1:])
    viewer.add_image(stack)
    segmented(widget, until)
    found, segmenter = objects(viewer).data, Segmenter("nuclei_small")
    for place in np.ndindex(2, 2):
        assert np.array_equal(found[place] > 0, segmenter(stack[place]).instances > 0)
    numbers = [set(np.unique(plane)) - {0} for plane in found.reshape(4, *IMAGES.shape[1:])]
    assert sum(map(len, numbers)) == len(set.union(*numbers)) == len(objects(viewer).features) > 20
    assert objects(viewer).features["plane"].unique().tolist() == [0, 1, 2, 3]


def test_changed_settings_act_on_the_scores_that_are_there(viewer, widget, until):
    viewer.add_image(IMAGES[0])
    segmented(widget, until)
    scores = widget._results[widget.image.currentData()].probability.data
    scores[:] = np.where(scores > 0.3, scores, 0)  # of no network
    widget.fields["threshold"].setValue(0.9)
    widget.fields["min_area"].setValue(60)
    expected = Segmenter("nuclei_small", threshold=0.9, min_area=60)(IMAGES[0]).instances
    until(lambda: np.array_equal(objects(viewer).data, expected))
    until(lambda: len(objects(viewer).features) == expected.max())
    widget.reset_button.click()
    assert widget.fields["min_area"].value() == 21


def test_cancelling_keeps_the_finished_planes_and_the_widget_goes_on(viewer, widget, until):
    viewer.add_image(IMAGES)
    widget.progressed.connect(lambda share, _text: share > 0.4 and widget.cancel())
    widget.segment()
    until(lambda: widget._worker is None)
    assert "cancelled" in widget.status.text() or "objects" in widget.status.text()
    filled = [plane.any() for plane in objects(viewer).data]
    assert 0 < sum(filled) < len(IMAGES)
    widget.progressed.disconnect()
    widget.progressed.connect(widget._tell)
    segmented(widget, until)
    assert all(plane.any() for plane in objects(viewer).data)


def test_scores_of_two_weights_are_never_mixed_in_a_stack(viewer, widget, until):
    viewer.add_image(IMAGES[:3], name="cells")
    segmented(widget, until)
    found = objects(viewer).data.copy()
    widget.weights.choose("em_small")
    assert np.array_equal(objects(viewer).data, found)
    widget.progressed.connect(lambda share, _text: share > 0.4 and widget.cancel())
    segmented(widget, until)
    until(lambda: "cancelled" in widget.status.text())
    assert [plane.any() for plane in viewer.layers["cells probability"].data].count(True) < 3


def test_painted_objects_are_kept_when_settings_change(viewer, widget, until):
    viewer.add_image(IMAGES[0], name="cells")
    segmented(widget, until)
    painted = objects(viewer)
    painted.paint((5, 5), 99)
    mine = painted.data.copy()
    widget.fields["threshold"].setValue(0.9)
    until(lambda: len(viewer.layers) == 4 and len(viewer.layers[-1].features))
    assert np.array_equal(painted.data, mine)
    assert viewer.layers[-1].data.max() == len(viewer.layers[-1].features)


def test_the_image_in_work_is_measured_also_if_another_is_chosen(viewer, widget, until):
    first, second = viewer.add_image(IMAGES[:2], name="first"), viewer.add_image(IMAGES[2], name="second")
    widget.image.setCurrentIndex(widget.image.findData(first))
    widget.segment()
    widget.image.setCurrentIndex(widget.image.findData(second))
    widget.fields["threshold"].setValue(0.99)
    until(lambda: widget._worker is None)
    until(lambda: len(viewer.layers["first objects"].features))
    found = viewer.layers["first objects"]
    assert len(found.features) == len(np.unique(found.data)) - 1
    assert np.array_equal(found.data[0] > 0, Segmenter("nuclei_small")(IMAGES[0]).instances > 0)


def test_a_plane_that_cannot_be_segmented_ends_that_plane_only(viewer, widget, until):
    stack = IMAGES[:3].astype(float)
    stack[1, 0, 0] = np.nan
    viewer.add_image(stack, contrast_limits=(0, 255))
    segmented(widget, until)
    assert "plane 1" in widget.status.text()
    assert "NaN" in widget.status.text()
    assert objects(viewer).features["plane"].unique().tolist() == [0, 2]


def test_results_removed_during_the_work_end_it_with_a_message(viewer, widget, until):
    viewer.add_image(IMAGES[:3], name="cells")
    widget.segment()
    until(lambda: "cells objects" in viewer.layers)
    viewer.layers.remove("cells objects")
    until(lambda: widget._worker is None)
    until(lambda: "cells" in widget.status.text() and "removed" in widget.status.text())


def test_a_table_that_cannot_be_written_is_a_message(viewer, widget, until, tmp_path):
    viewer.add_image(IMAGES[0])
    segmented(widget, until)
    (tmp_path / "file").touch()
    widget.save_table(tmp_path / "file" / "objects.csv")
    assert str(tmp_path / "file" / "objects.csv") in widget.status.text()


def test_the_pixel_size_of_a_layer_is_used_in_the_table_and_results_lie_on_the_image(viewer, widget, until):
    viewer.add_image(IMAGES[0], scale=(500, 500), translate=(30, 20), units=("nm", "nm"))
    assert widget.pixel_size.value() == 0.5
    segmented(widget, until)
    table = objects(viewer).features
    assert np.allclose(table["area_um2"], table["area_px"] * 0.25)
    assert objects(viewer).extent.world.tolist() == viewer.layers[0].extent.world.tolist()


def test_rescaling_to_the_training_equals_the_library(viewer, widget, until):
    viewer.add_image(IMAGES[0], scale=(0.006, 0.006), units=("um", "um"), name="cells")
    widget.weights.choose("em_small")  # trained on pixels of 0.004 um
    widget.rescale.setChecked(True)
    segmented(widget, until)
    expected = Segmenter("em_small", pixel_size=0.006)(IMAGES[0])
    assert np.array_equal(viewer.layers["cells objects"].data, expected.instances)
    scores = viewer.layers["cells probability"]
    assert scores.data.shape == (144, 192)
    assert np.allclose(scores.extent.world, viewer.layers["cells"].extent.world, atol=0.003)


def test_a_setting_that_does_not_fit_the_image_is_a_message(viewer, widget, until):
    viewer.add_image(IMAGES[0])
    segmented(widget, until)
    widget.fields["field_border"].setValue(60)  # of 96 rows
    until(lambda: "field_border" in widget.status.text())
    widget.fields["field_border"].setValue(0)
    until(lambda: "objects" in widget.status.text())


def test_rescaling_without_a_pixel_size_is_refused(viewer, widget, until):
    viewer.add_image(IMAGES[0])
    widget.weights.choose("em_small")
    widget.rescale.setChecked(True)
    widget.segment()
    until(lambda: widget._worker is None)
    assert "pixel size" in widget.status.text()
    assert len(viewer.layers) == 1


@pytest.mark.parametrize(
    "pixels, rgb, key",
    [(np.zeros((40, 50, 3), np.uint8), True, "Split RGB"), (np.full((40, 50), np.nan, np.float32), False, "NaN")],
)
def test_an_unsuitable_layer_is_refused_with_the_remedy(viewer, widget, until, pixels, rgb, key):
    viewer.add_image(pixels, rgb=rgb, contrast_limits=(0, 1))
    widget.segment()
    until(lambda: widget._worker is None)
    assert key in widget.status.text()
    assert len(viewer.layers) == 1
    assert widget.run_button.isEnabled()


def test_without_an_image_the_widget_says_so(widget):
    widget.segment()
    assert "no image" in widget.status.text()


def test_damaged_weights_are_a_message(viewer, widget, until, tmp_path):
    (tmp_path / "model.pt").write_bytes(b"no weights")
    viewer.add_image(IMAGES[0])
    widget.weights.addItem("damaged", str(tmp_path / "model.pt"))
    widget.weights.choose(str(tmp_path / "model.pt"))
    widget.segment()
    until(lambda: widget._worker is None)
    assert "model.pt" in widget.status.text()


def test_results_are_no_images_to_segment_and_vanish_with_their_image(viewer, widget, until):
    viewer.add_image(IMAGES[0], name="cells")
    segmented(widget, until)
    assert [widget.image.itemText(at) for at in range(widget.image.count())] == ["cells"]
    viewer.layers.remove("cells")
    assert not widget._results
    assert "no image" not in widget.status.text()


def test_large_images_are_segmented_from_their_file_cancelled_and_continued(viewer, widget, until, tmp_path):
    import tifffile

    tifffile.imwrite(tmp_path / "section.tif", IMAGES[0])
    with layer_source(path=str(tmp_path / "section.tif")):
        layer = Image([IMAGES[0], IMAGES[0, ::2, ::2]], multiscale=True, name="section")
    viewer.add_layer(layer)
    output = tmp_path / "section_segmented.ome.zarr"
    assert widget.output.text() == str(output)
    widget.progressed.connect(lambda share, _text: share > 0 and widget.cancel())
    widget.segment()
    until(lambda: widget._worker is None)
    assert not output.exists()
    assert "goes on" in widget.status.text()
    widget.progressed.disconnect()
    widget.segment()
    until(lambda: widget._worker is None)
    shown = viewer.layers["section_segmented objects"]
    assert np.array_equal(np.asarray(shown.data) > 0, Segmenter("nuclei_small")(IMAGES[0]).instances > 0)
    widget.segment()
    until(lambda: widget._worker is None)
    assert "exists" in widget.status.text()


def test_a_large_layer_without_a_file_is_refused(viewer, widget):
    viewer.add_image([IMAGES[0], IMAGES[0, ::2, ::2]], multiscale=True, name="section")
    widget.segment()
    assert "section" in widget.status.text()
    assert "file" in widget.status.text()


def test_the_command_holds_the_settings_of_the_form(viewer, widget):
    widget.fields["threshold"].setValue(0.35)
    words = shlex.split(widget.command)
    assert words[:3] == ["original-unet", "segment", "my/images"]
    given = dict(zip(words[3::2], words[4::2], strict=True))
    assert given["--weights"] == "nuclei_small"
    assert float(given["--threshold"]) == 0.35


def test_the_saved_table_is_the_table_of_the_layer(viewer, widget, until, tmp_path):
    viewer.add_image(IMAGES[:2])
    segmented(widget, until)
    widget.save_table(tmp_path / "objects.csv")
    assert pd.read_csv(tmp_path / "objects.csv").shape == objects(viewer).features.shape


def test_a_stack_without_objects_has_an_empty_table():
    assert len(objects_table(np.zeros((2, 5, 6), int), lambda _number: np.zeros((5, 6)), None)) == 0


def test_the_list_of_weights_offers_published_weights_and_files(widget):
    names = [widget.weights.itemData(at) for at in range(widget.weights.count())]
    assert {"em", "em_small", "nuclei", "nuclei_small", BROWSE} <= set(names)


def test_colour_images_and_several_classes(viewer, widget, until, tmp_path):
    torch.manual_seed(0)
    network = RonnebergerUNet(in_channels=3, out_channels=3, features=(4, 8))
    names = ModelSettings(in_channels=3, out_channels=3, class_names=["background", "cell", "debris"])
    write_weights(network.state_dict(), tmp_path / "model.pt", names.of(network, names.training))
    widget.weights.addItem("mine", str(tmp_path / "model.pt"))
    widget.weights.choose(str(tmp_path / "model.pt"))
    pixels = np.stack([IMAGES[0], IMAGES[1], IMAGES[2]], axis=-1)
    viewer.add_image(pixels, rgb=True, name="slide")
    segmented(widget, until)
    expected = Segmenter(tmp_path / "model.pt")(pixels)
    assert len(np.unique(expected.classes)) > 1
    assert np.array_equal(viewer.layers["slide classes"].data, expected.classes)
    assert np.array_equal(viewer.layers["slide objects"].data, expected.instances)
    assert "mean_intensity_2" in objects(viewer).features


@pytest.mark.parametrize("shape, large", [((8192, 8192), False), ((8193, 8192), True), ((3, 64, 64), False)])
def test_planes_above_8192_squared_go_block_by_block(shape, large):
    assert is_large(Image(np.broadcast_to(np.uint8(1), shape), contrast_limits=(0, 1))) == large
