"""The widget Train writes what is annotated, trains in a process of its own, and shows what is learned."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import tifffile
from napari.layers import Image, Labels

from bundle.running.configuration import ROOT
from bundle.viewer.form import LEARNING
from bundle.viewer.layers import LayerPlanes, plane_in_view
from bundle.viewer.sample import nuclei
from bundle.viewer.segment import SegmentWidget
from bundle.viewer.train import TrainWidget, end_trainings
from bundle.viewer.training_set import write_training_set
from bundle.viewer.weights import TRAINED

IMAGES, LABELS = (data for data, _, _ in nuclei())


@pytest.fixture
def widget(viewer, until, tmp_path):
    viewer.add_image(IMAGES, name="nuclei")
    viewer.add_labels(LABELS, name="nuclei labels")
    widget = TrainWidget(viewer)
    widget.output.setText(str(tmp_path / "results"))
    widget.minutes.setValue(0.1)
    yield widget
    widget.close()
    until(lambda: not widget._predicting)


def test_planes_without_labels_are_left_out_and_pixel_sizes_kept(tmp_path):
    labels = LABELS.copy()
    labels[[1, 4]] = 0
    image = Image(IMAGES, scale=(1, 500, 500), units=("pixel", "nm", "nm"))
    written = write_training_set([(image, Labels(labels))], tmp_path / "set")
    assert (written.images, written.empty) == (4, 2)
    files = sorted((tmp_path / "set" / "labels").iterdir())
    assert np.array_equal(tifffile.imread(files[1]), labels[2])
    image_file = tmp_path / "set" / "images" / files[1].name
    assert np.array_equal(tifffile.imread(image_file), IMAGES[2])
    assert 'PhysicalSizeX="0.5"' in tifffile.tiffcomment(image_file)


def test_a_single_plane_is_cut_into_quarters(tmp_path):
    written = write_training_set([(Image(IMAGES[0]), Labels(LABELS[0]))], tmp_path / "set")
    assert written.images == 4
    quarters = [tifffile.imread(file) for file in sorted((tmp_path / "set" / "images").iterdir())]
    assert np.array_equal(np.block([quarters[:2], quarters[2:]]), IMAGES[0])


@pytest.mark.parametrize(
    "labels, key",
    [
        (np.zeros((256, 256), int), "no labels"),
        (np.ones((250, 256), int), "(250, 256)"),
        (np.where(np.eye(256) > 0, -1, LABELS[0]), "-1"),
        (np.pad(np.ones((9, 9), int), ((0, 247), (0, 247))), "single quarter"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(tmp_path, labels, key):
    with pytest.raises(ValueError, match=key.replace("(", r"\(").replace(")", r"\)")):
        write_training_set([(Image(IMAGES[0]), Labels(labels, name="mine"))], tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_a_folder_with_other_files_is_not_replaced(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="set"):
        write_training_set([(Image(IMAGES), Labels(LABELS))], tmp_path / "set")
    assert (tmp_path / "set" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.float16, bool, ">u2"])
def test_images_of_any_real_type_are_written(tmp_path, dtype):
    image = IMAGES[:2].astype(dtype)
    write_training_set([(Image(image), Labels(LABELS[:2]))], tmp_path / "set")
    assert np.array_equal(tifffile.imread(tmp_path / "set" / "images" / "000.ome.tif"), image[0])


def test_images_of_a_running_training_are_not_replaced(widget, tmp_path):
    widget.results.mkdir()
    other = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from scripts.io import FolderLock; "
    running = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"{other}FolderLock({str(widget.results)!r}).acquire(); print('on', flush=True); input()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert running.stdout.readline() == b"on\n"
    widget.train()
    running.communicate(b"\n")
    assert str(running.pid) in widget.status.text()
    assert widget._process is None
    assert not (widget.results / "annotated").exists()


def test_without_a_folder_for_the_results_nothing_starts(widget):
    widget.output.setText(" ")
    widget.train()
    assert "Results in" in widget.status.text()
    assert widget._process is None


def test_the_shown_plane_is_inside_the_layer():
    assert plane_in_view(LayerPlanes(np.zeros((3, 4, 5))), (9, 0, 0)) == 2
    assert plane_in_view(LayerPlanes(np.zeros((3, 2, 4, 5)), channels=-3), (1, 0, 0, 0)) == 1
    assert plane_in_view(LayerPlanes(np.zeros((4, 5))), (9, 0, 0)) == 0


def test_closed_layers_leave_the_pairs(viewer, widget):
    widget.add_pair()
    widget.add_pair()
    assert widget.list.count() == 1
    viewer.layers.remove("nuclei labels")
    assert not widget.pairs
    widget.train()
    assert "labels" in widget.status.text()
    assert widget.train_button.isEnabled()


def test_going_on_without_a_training_is_refused(widget):
    widget.resume()
    assert "training_state.pt" in widget.status.text()


def test_what_the_training_refuses_is_shown(widget, until, tmp_path):
    (tmp_path / "empty").mkdir()
    widget.folder.setText(str(tmp_path / "empty"))
    widget.train()
    until(lambda: widget._process is None)
    assert str(tmp_path / "empty") in widget.status.text()


@pytest.mark.slow
def test_a_training_shows_its_curve_and_its_weights_are_ready_to_segment(viewer, widget, until, tmp_path):
    segment = SegmentWidget(viewer)
    widget.train()
    assert not widget.train_button.isEnabled()
    until(lambda: widget._process is None, 300)
    weights = tmp_path / "results" / "model.pt"
    assert weights.is_file()
    assert (tmp_path / "results" / "model.json").is_file()
    assert segment.weights.chosen == TRAINED.paths[0] == str(weights)
    until(lambda: LEARNING in viewer.layers)
    shown = viewer.layers[LEARNING].data
    assert shown.shape == (1, 256, 256)
    assert shown.std() > 0.1
    assert [axes.get_ylabel() for axes in widget.figure.axes] == ["loss", "instance_f1"]


@pytest.mark.slow
@pytest.mark.parametrize("end", [TrainWidget.stop, lambda _widget: end_trainings()], ids=["stop", "viewer closes"])
def test_a_stopped_training_goes_on(widget, until, tmp_path, end):
    widget.minutes.setValue(20)
    widget.train()
    until(lambda: "left" in widget.status.text(), 300)
    end(widget)
    until(lambda: widget._process is None, 100)
    assert "stopped" in widget.status.text()
    assert (tmp_path / "results" / "training_state.pt").is_file()
    widget.minutes.setValue(0.1)  # they are over
    widget.resume()
    until(lambda: widget._process is None, 100)
    assert "done" in widget.status.text()
