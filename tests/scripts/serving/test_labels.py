"""MONAI Label gets a label image, columns first. Runs without MONAI Label do not change."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from scripts.serving.labels import ServedLabeld

HEIGHT, WIDTH = 4, 6
REQUEST = {"model": "original_unet_segmentation", "image_path": "a.png"}


def item(classes: int = 2, **more: object) -> dict:
    """A segmented image of 4 x 6 pixels in the postprocessing: object 1 in the first row, object 2 in the last."""
    instances = np.zeros((1, HEIGHT, WIDTH), np.int32)
    instances[0, 0, 1:4], instances[0, 3, 4:] = 1, 2
    pred = torch.zeros(1, HEIGHT, WIDTH)
    pred[0, 0, :4], pred[0, 2, 5] = 1, classes - 1
    image = MetaTensor(torch.zeros(1, HEIGHT, WIDTH), meta={"spatial_shape": np.array([HEIGHT, WIDTH])})
    prob = torch.full((classes, HEIGHT, WIDTH), 1 / classes)
    return {"image": image, "pred": pred, "prob": prob, "instances": torch.from_numpy(instances), **more}


def test_a_run_of_the_bundle_s_own_passes_untouched():
    before = item()
    after = ServedLabeld()(before)
    assert after.keys() == before.keys()
    assert all(after[key] is before[key] for key in before)


def test_a_request_gets_the_label_columns_first_as_bytes():
    after = ServedLabeld()(item(**REQUEST))
    assert after["pred"].shape == (WIDTH, HEIGHT)
    assert after["pred"].dtype == np.uint8
    assert sorted(zip(*np.nonzero(after["pred"]), strict=True)) == [(1, 0), (2, 0), (3, 0), (4, 3), (5, 3)]  # (x, y)


def test_the_image_says_the_label_s_size_so_that_it_is_not_stretched():
    before = item(**REQUEST)
    after = ServedLabeld()(before)
    assert tuple(after["image"].meta["spatial_shape"]) == after["image"].shape[1:] == (WIDTH, HEIGHT)
    assert tuple(before["image"].meta["spatial_shape"]) == (HEIGHT, WIDTH)


def test_with_two_classes_the_classes_are_those_of_the_objects():
    """An object removed by min_area is background."""
    before = item(**REQUEST)
    before["instances"][before["instances"] == 1] = 0
    after = ServedLabeld()(before)
    assert sorted(zip(*np.nonzero(after["pred"]), strict=True)) == [(4, 3), (5, 3)]


def test_with_several_classes_they_are_the_likeliest():
    after = ServedLabeld()(item(classes=3, **REQUEST))
    assert after["pred"][5, 2] == 2
    assert np.count_nonzero(after["pred"] == 1) == 4


def test_objects_keep_their_numbers_on_request():
    after = ServedLabeld(instances=True)(item(**REQUEST))
    assert np.unique(after["pred"]).tolist() == [0, 1, 2]
    assert after["result"] == {"objects": 2}


@pytest.mark.parametrize("number, kind", [(255, np.uint8), (256, np.uint16), (65535, np.uint16)])
def test_many_objects_are_numbered_in_sixteen_bits(number, kind):
    before = item(**REQUEST, result_dtype="uint8")
    before["instances"][0, 3, 4] = number
    after = ServedLabeld(instances=True)(before)
    assert (after["pred"].dtype, after["pred"].max()) == (kind, number)
    assert after["result_dtype"] == ("uint8" if number < 256 else None)


def test_more_objects_than_that_are_refused_with_the_file():
    before = item(**REQUEST)
    before["instances"][0, 3, 4] = 65536
    before["image"].meta["filename_or_obj"] = "many.png"
    with pytest.raises(ValueError, match=r"many\.png: 65536 objects.*min_area"):
        ServedLabeld(instances=True)(before)


@pytest.mark.parametrize(
    "request_, number, extension",
    [
        ({"image_path": "a.jpg"}, 2, ".png"),
        ({"image_path": "a.JPEG"}, 2, ".png"),
        ({"image_path": "a.png", "result_extension": ".jpg"}, 2, ".png"),
        ({"image_path": "a.jpg", "result_extension": ".nrrd"}, 2, ".nrrd"),
        ({"image_path": "a.bmp"}, 300, ".png"),
        ({"image_path": "a.bmp"}, 2, None),
        ({"image_path": "a.tif"}, 300, None),
    ],
)
def test_no_label_is_written_in_a_format_that_would_damage_it(request_, number, extension):
    before = item(model="m", **request_)
    before["instances"][0, 3, 4] = number
    assert ServedLabeld(instances=True)(before).get("result_extension") == extension


def test_scoring_which_names_no_model_gets_the_probabilities():
    before = item(image_path="a.png")
    after = ServedLabeld()(before)
    assert after["pred"] is before["prob"]
    assert after["image"] is before["image"]
