"""MONAI's `BasicUNet` with the recipe of MONAI's tutorials.

Padded, instance normalisation, features 32 to 256, loss Dice + cross-entropy, Adam with 1e-3. A batch has 4 crops of
96 x 96 of each of 2 images, half of them centred on cells, with right-angle rotations. `SlidingWindowInferer` with
windows of 96. The weights with the best Dice on the images of the curve are kept. Instances are connected components.

Source: github.com/Project-MONAI/tutorials, 2d_segmentation/torch/unet_training_dict.py.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from monai.data import CacheDataset, DataLoader, list_data_collate
from monai.inferers import SlidingWindowInferer
from monai.losses import DiceCELoss
from monai.networks.nets import BasicUNet
from monai.transforms import Compose, RandCropByPosNegLabeld, RandRotate90d
from monai.utils import set_determinism

from benchmarks.peers.job import Clock, components, read_job

CROP = 96


def main() -> None:
    """Train and predict the job of the command line."""
    job = read_job()
    set_determinism(job.seed)
    torch.set_num_threads(1)
    clock = Clock(job)
    crops = Compose(
        [
            RandCropByPosNegLabeld(
                ["image", "label"], label_key="label", spatial_size=[CROP, CROP], pos=1, neg=1, num_samples=4
            ),
            RandRotate90d(["image", "label"], prob=0.5, spatial_axes=(0, 1)),
        ]
    )
    items = [
        {"image": torch.from_numpy(scaled(image))[None], "label": torch.from_numpy(labels > 0)[None].float()}
        for image, labels in job.pairs(job.training)
    ]
    chosen = job.pairs([pair for pair in job.chosen if pair[0] in job.curve])
    loader = DataLoader(
        CacheDataset(items, crops, progress=False), batch_size=2, shuffle=True, collate_fn=list_data_collate
    )
    network = BasicUNet(spatial_dims=2, in_channels=1, out_channels=1, features=(32, 32, 64, 128, 256, 32))
    loss = DiceCELoss(sigmoid=True)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    inferer = SlidingWindowInferer(CROP, sw_batch_size=4)

    def probability(image: np.ndarray) -> np.ndarray:
        network.eval()
        with torch.no_grad():
            scores = torch.as_tensor(inferer(torch.from_numpy(scaled(image))[None, None], network))
        network.train()
        return scores.sigmoid()[0, 0].numpy()

    def predict(image: np.ndarray) -> np.ndarray:
        found = probability(image)
        return found if job.task == "em" else components(found)

    best, kept = -1.0, copy.deepcopy(network.state_dict())
    clock.start()
    while not clock.over:
        for batch in loader:
            optimizer.zero_grad()
            loss(network(batch["image"]), batch["label"]).backward()
            optimizer.step()
            if clock.step(predict):
                with clock.stop():
                    dice = float(np.mean([_dice(probability(image) > 0.5, labels > 0) for image, labels in chosen]))
                if dice > best:
                    best, kept = dice, copy.deepcopy(network.state_dict())
            if clock.over:
                break
    network.load_state_dict(kept)
    clock.finish(predict, ["monai", "torch", "numpy"], best_dice=best)


def scaled(image: np.ndarray) -> np.ndarray:
    """Scale to 0 .. 1, as `ScaleIntensity`; float32."""
    low, high = float(image.min()), float(image.max())
    return ((image - low) / max(high - low, 1e-6)).astype(np.float32)


def _dice(found: np.ndarray, truth: np.ndarray) -> float:
    return 2 * float((found & truth).sum()) / max(1.0, float(found.sum() + truth.sum()))


if __name__ == "__main__":
    main()
