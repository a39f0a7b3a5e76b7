"""Cellpose 3, from scratch: no pretrained weights.

Trained by `cellpose.train.train_seg`: SGD with 0.1, batches of 8 tiles of 224 x 224, objects scaled to a mean diameter
of 30 pixels. A probe measures the number of steps for the given time. Up to 150 epochs share the steps. Cellpose's own
learning rate rises over 10 epochs and falls over the last 50. The last weights are kept.

Source: cellpose.readthedocs.io, training.
"""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from cellpose import dynamics, models, train

from benchmarks.peers.job import Clock, read_job

EPOCHS, BATCH = 150, 8
PROBES = 2  # steps whose time is measured


class TimeOverError(Exception):
    """Ends the training."""


def main() -> None:
    """Train and predict the job of the command line."""
    job = read_job()
    torch.manual_seed(job.seed)
    torch.set_num_threads(1)
    clock = Clock(job)
    pairs = job.pairs(job.training)
    images = [image for image, _ in pairs]
    flows = dynamics.labels_to_flows([labels for _, labels in pairs], device=torch.device("cpu"))
    settings = {"channels": [0, 0], "SGD": True, "learning_rate": 0.1, "weight_decay": 1e-4, "batch_size": BATCH}
    begun = time.process_time()
    probe = models.CellposeModel(gpu=False, pretrained_model=False, model_type=None)
    count = BATCH * (PROBES + 1)
    asked: list[float] = []
    probe.net.register_forward_pre_hook(lambda *_: asked.append(time.process_time()))
    out = Path(job.out) / "cellpose"
    out.mkdir(exist_ok=True)
    train.train_seg(probe.net, images, flows, n_epochs=1, nimg_per_epoch=count, save_path=out, **settings)
    a_step = min(after - before for before, after in pairwise(asked))  # no time may be left over
    steps = int(60 * job.minutes / a_step)
    epochs = min(EPOCHS, steps)
    probed = time.process_time() - begun

    torch.manual_seed(job.seed)
    # with mkldnn, the first prediction would convert the weights, and the training could not go on
    model = models.CellposeModel(gpu=False, pretrained_model=False, model_type=None, mkldnn=False)

    def predict(image: np.ndarray) -> np.ndarray:
        model.net.eval()
        diameter = float(model.net.diam_labels)  # mean of the training images
        masks = model.eval(image, channels=[0, 0], diameter=diameter)[0]
        model.net.train()
        return masks

    def look(*_: object) -> None:
        if not model.net.training:
            return
        if clock.begun is None:
            clock.start()
            return
        clock.step(predict)
        if clock.over:
            raise TimeOverError

    model.net.register_forward_pre_hook(look)
    try:
        images_an_epoch = BATCH * max(1, steps // epochs)
        train.train_seg(
            model.net, images, flows, n_epochs=epochs, nimg_per_epoch=images_an_epoch, save_path=out, **settings
        )
    except TimeOverError:
        pass
    packages = ["cellpose", "torch", "numpy"]
    clock.finish(predict, packages, epochs=epochs, images_an_epoch=images_an_epoch, probe_seconds=round(probed, 1))


if __name__ == "__main__":
    main()
