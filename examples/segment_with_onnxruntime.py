"""Segment a grey image of any size: onnxruntime and numpy alone (and Pillow, to read and write the files).

python -m bundle export onnx
python examples/segment_with_onnxruntime.py models/model.onnx image.png classes.png
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image


def segment(image, model, tile=572):
    """Scores (K, H, W) of a grey image (H, W): tiles step by a multiple of 16, with mirrored context (Fig. 2)."""
    session = onnxruntime.InferenceSession(model)
    info = json.loads(session.get_modelmeta().custom_metadata_map["original_unet.json"])
    assert (info["padding"], info["intensity"], info["flatten"]) == ("valid", "z_score", 0), "made another way"
    image = (image - image.mean()) / (image.std() or 1)
    margin, phase = info["margin"], 2 ** info["depth"]
    step = (tile - 2 * margin) // phase * phase  # 388 -> 384: the poolings of all tiles then meet the same pixels
    height, width = image.shape
    rows, columns = range(0, height, step), range(0, width, step)
    after = [len(starts) * step + tile - step - margin - size for starts, size in ((rows, height), (columns, width))]
    context = np.pad(image.astype(np.float32), [(margin, after[0]), (margin, after[1])], mode="reflect")
    scores = np.empty((len(info["class_names"]), height, width), np.float32)
    for y in rows:
        for x in columns:
            (answer,) = session.run(None, {"image": context[None, None, y : y + tile, x : x + tile]})
            part = scores[:, y : y + step, x : x + step]
            part[:] = answer[0, :, : part.shape[1], : part.shape[2]]
    return scores


if __name__ == "__main__":
    model, source, target = sys.argv[1:]
    grey = np.asarray(Image.open(source).convert("F"), np.float64)
    Image.fromarray(segment(grey, model).argmax(axis=0).astype(np.uint8)).save(target)
