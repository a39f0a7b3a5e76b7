"""The recipe of widely copied re-implementations of the paper.

A zero-padded U-Net with 64 to 1024 features and without normalisation, torch's own initial weights, Adam with 1e-3, one
tile of 256 x 256 a step. Each sample is rotated, mirrored and deformed by Simard's recipe with scipy. Distance maps of
each cell give the weight map. In the ground truth, a line of background separates touching cells. The last weights are
kept. Instances are connected components.
"""

from __future__ import annotations

import numpy as np
import torch
from skimage.segmentation import find_boundaries

from benchmarks.augmentation import scipy_simard, scipy_turned
from benchmarks.peers.job import Clock, components, read_job
from benchmarks.weight_map import copied
from scripts.networks.unet import RonnebergerUNet

TILE = 256
FEATURES = (64, 128, 256, 512, 1024)


def main() -> None:
    """Train and predict the job of the command line."""
    job = read_job()
    torch.manual_seed(job.seed)
    torch.set_num_threads(1)
    random_state = np.random.RandomState(job.seed)
    clock = Clock(job)
    pairs = [(normalised(image), separated(labels)) for image, labels in job.pairs(job.training)]
    features = job.settings.get("features", FEATURES)
    network = RonnebergerUNet(2, 1, 2, features=features, padding="same", dropout=0.0)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            module.reset_parameters()
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)

    def predict(image: np.ndarray) -> np.ndarray:
        height, width = image.shape
        padding = [(0, -height % 16), (0, -width % 16)]
        padded = np.pad(normalised(image), padding, mode="reflect")
        network.eval()
        with torch.no_grad():
            scores = network(torch.from_numpy(padded)[None, None])
        network.train()
        found = scores.softmax(1)[0, 1, :height, :width].numpy()
        return found if job.task == "em" else components(found)

    clock.start()
    while not clock.over:
        image, mask = pairs[random_state.randint(len(pairs))]
        tile, label = sample(image, mask, random_state)
        target, weight = (torch.from_numpy(plane)[None] for plane in (label, copied(label).astype(np.float32)))
        scores = network(torch.from_numpy(tile)[None, None])
        loss = (torch.nn.functional.cross_entropy(scores, target.long(), reduction="none") * weight).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        clock.step(predict)
    clock.finish(predict, ["torch", "scipy", "numpy"], last_loss=float(loss.detach()))


def sample(image: np.ndarray, mask: np.ndarray, random_state: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    """Draw a deformed tile, float32 (TILE, TILE), and its mask, bool (TILE, TILE)."""
    padding = [(0, max(0, TILE - n)) for n in image.shape]
    planes = [np.pad(plane, padding, mode="reflect") for plane in (image, mask.astype(np.uint8))]
    top, left = (int(random_state.randint(n - TILE + 1)) for n in planes[0].shape)
    cut = [plane[top : top + TILE, left : left + TILE] for plane in planes]
    tile, label = scipy_simard(scipy_turned(cut, random_state), random_state)
    return tile.astype(np.float32), label > 0


def separated(labels: np.ndarray) -> np.ndarray:
    """Mark cells without the pixels where they touch other cells, bool (H, W)."""
    return (labels > 0) & ~find_boundaries(labels, connectivity=1, mode="outer", background=0)


def normalised(image: np.ndarray) -> np.ndarray:
    """Scale to mean 0 and variance 1, float32."""
    return ((image - image.mean()) / max(float(image.std()), 1e-6)).astype(np.float32)


if __name__ == "__main__":
    main()
