"""StarDist, from scratch, as in its own notebooks of 2D training.

32 rays, grid of 2 x 2, patches of 256 x 256, 4 a step, Adam with 3e-4, percentile normalisation, flips, right-angle
rotations and intensity changes. The weights with the lowest validation loss are kept. The thresholds are optimised on
the chosen images.

Source: github.com/stardist/stardist, examples/2D/2_training.ipynb and 3_prediction.ipynb.
"""

from __future__ import annotations

import os

os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}

import numpy as np
import tensorflow as tf
from csbdeep.utils import normalize
from stardist.models import Config2D, StarDist2D

from benchmarks.peers.job import Clock, read_job


def main() -> None:
    """Train and predict the job of the command line."""
    job = read_job()
    tf.keras.utils.set_random_seed(job.seed)
    clock = Clock(job)
    images, labels = zip(*((_normalised(image), cells) for image, cells in job.pairs(job.training)), strict=True)
    chosen, truth = zip(*((_normalised(image), cells) for image, cells in job.pairs(job.chosen)), strict=True)
    config = Config2D(n_rays=32, grid=(2, 2), n_channel_in=1, train_tensorboard=False)
    config.train_epochs = 10_000  # of 100 steps; the clock ends the training
    model = StarDist2D(config, name="stardist", basedir=job.out)

    def predict(image: np.ndarray) -> np.ndarray:
        return model.predict_instances(_normalised(image))[0]

    class TimeLimit(tf.keras.callbacks.Callback):
        """Ends the training when the time is over."""

        def on_train_begin(self, logs: object = None) -> None:
            clock.start()

        def on_train_batch_end(self, batch: int, logs: object = None) -> None:
            clock.step(predict)
            if clock.over:
                self.model.stop_training = True

    model.prepare_for_training()
    model.callbacks.append(TimeLimit())
    model.train(list(images), list(labels), (list(chosen), list(truth)), augmenter=augmented, seed=job.seed)
    seconds = clock.spent
    with clock.stop():
        model.optimize_thresholds(list(chosen), list(truth))
    thresholds = {name: float(value) for name, value in model.thresholds._asdict().items()}
    packages = ["stardist", "csbdeep", "tensorflow-cpu", "numpy"]
    clock.finish(predict, packages, thresholds=thresholds, training_seconds=round(seconds, 1))


def augmented(image: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flip, rotate by right angles, scale and shift the intensity, add noise: as in the notebook."""
    turns, flip = np.random.randint(4), np.random.randint(2)  # noqa: NPY002
    planes = [np.rot90(plane, turns) for plane in (image, labels)]
    if flip:
        planes = [plane[::-1] for plane in planes]
    scaled = planes[0] * np.random.uniform(0.6, 2) + np.random.uniform(-0.2, 0.2)  # noqa: NPY002
    noise = 0.02 * np.random.uniform(0, 1) * np.random.normal(0, 1, scaled.shape)  # noqa: NPY002
    return scaled + noise, planes[1]


def _normalised(image: np.ndarray) -> np.ndarray:
    return np.asarray(normalize(image, 1, 99.8, axis=(0, 1)))


if __name__ == "__main__":
    main()
