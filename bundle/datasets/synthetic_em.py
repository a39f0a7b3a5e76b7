"""Draw synthetic sections of neuropil, as in a transmission electron microscope, with instance labels.

The model is serial-section TEM of an insect nerve cord, 4 nm per pixel, sections of 50 nm (ISBI 2012 data,
Arganda-Carreras et al. 2015, doi 10.3389/fnana.2015.00142). The sections are hard to segment for the same reasons:
membranes seen edge-on are thin and dark, slanted membranes broad and grey. Mitochondria, vesicles and dense patches
are as dark as membranes.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage as ndi
from scipy.special import expit
from skimage.measure import label
from skimage.segmentation import relabel_sequential

from bundle.datasets.synthetic_cells import Float, Int, draw_cells, membrane_distance, smooth_noise
from bundle.datasets.synthetic_organelles import add_dots, add_mitochondria, add_vesicles

SMALLEST_SIDE = 64  # px: an image of a few cells
DEPTHS = np.linspace(-1.0, 1.0, 5)  # levels inside the section, 1 = upper face; their absorption adds up
SMALLEST_INSTANCE = 24  # px²: smaller pieces of interior become membrane


def synthetic_section(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Draw an image and its labels.

    Args:
        rng: source of randomness; the same state gives the same section.
        shape: (H, W) in pixels, each at least `SMALLEST_SIDE`.

    Returns:
        uint8 (H, W) grey values, membranes dark; uint16 (H, W) instance labels, 0 = membrane, cells numbered 1, 2, ...

    Example:
        >>> image, labels = synthetic_section(np.random.default_rng(0), (96, 128))
        >>> image.shape, image.dtype, labels.dtype, int(labels.max())
        ((96, 128), dtype('uint8'), dtype('uint16'), 10)
    """
    own, other = draw_cells(rng, shape)
    distance = membrane_distance(own)
    pair = _pair_table(rng, int(max(own.max(), other.max())) + 1)
    half_width = 1.75 * pair[own, other] * (1.0 + 0.18 * smooth_noise(rng, shape, 15.0))  # px
    half_width = np.clip(ndi.gaussian_filter(half_width, 1.5), 1.0, 3.2)
    patches = _dense_patches(rng, own, distance)
    labels = _instances(own, (distance > half_width + 1.1) & (patches < 0.5))
    brightness = _cytoplasm(rng, own, labels)
    add_vesicles(rng, brightness, own, distance)
    add_mitochondria(rng, brightness, own, distance)
    membrane = _absorption(rng, distance, half_width)
    strength = 92.0 * ndi.gaussian_filter(_pair_table(rng, len(pair), 0.13)[own, other], 2.0)
    strength *= 1.0 + 0.12 * smooth_noise(rng, shape, 9.0)
    ragged = patches * (1.0 + 0.35 * smooth_noise(rng, shape, 3.0) + 0.2 * smooth_noise(rng, shape, 1.5))
    brightness -= np.minimum(strength * membrane + 75.0 * np.clip(ragged, 0.0, 1.3), 122.0)
    return _expose(rng, brightness), labels.astype(np.uint16)


def _pair_table(rng: np.random.Generator, cells: int, spread: float = 0.22) -> Float:
    """Draw a factor about 1 for every pair of neighbouring cells; float32 (cells, cells), symmetric."""
    table = np.exp(spread * rng.standard_normal((cells, cells)))
    return np.triu(table).astype(np.float32) + np.triu(table, 1).T.astype(np.float32)


def _instances(own: Int, inside: np.ndarray) -> Int:
    """Number the connected pieces of every cell's interior from 1; int32 (H, W), 0 = membrane."""
    labels = label(np.where(inside, own + 1, 0), connectivity=1)
    small = np.bincount(labels.ravel()) < SMALLEST_INSTANCE
    return relabel_sequential(np.where(small[labels], 0, labels))[0]


def _dense_patches(rng: np.random.Generator, own: Int, distance: Float) -> Float:
    """Draw dark fuzzy material at a few membranes (synapses, tangential cuts); float32 (H, W), 0 to 1."""
    spots = np.zeros(own.shape, dtype=np.float32)
    y, x = np.nonzero(distance < 1.0)
    count = rng.poisson(own.size / 30000.0)
    if len(y) and count:
        grid_y, grid_x = np.mgrid[: own.shape[0], : own.shape[1]].astype(np.float32)
        for k in rng.integers(0, len(y), size=count):
            along, across, angle = rng.uniform(9.0, 26.0), rng.uniform(5.0, 12.0), rng.uniform(0.0, np.pi)
            u = np.cos(angle) * (grid_x - x[k]) + np.sin(angle) * (grid_y - y[k])
            v = np.cos(angle) * (grid_y - y[k]) - np.sin(angle) * (grid_x - x[k])
            np.maximum(spots, rng.uniform(0.6, 1.0) * np.exp(-((u / along) ** 2 + (v / across) ** 2)), out=spots)
    return spots


def _cytoplasm(rng: np.random.Generator, own: Int, labels: Int) -> Float:
    """Draw the grey level of the interior: a tone per cell, clotted texture and grains; float32 (H, W)."""
    cells = int(own.max()) + 1
    sizes = np.bincount(own.ravel(), minlength=cells).astype(np.float32)
    tone = 147.0 + 4.0 * np.clip(np.log(sizes + 1.0) - 7.0, -2.0, 2.0) + 6.0 * rng.standard_normal(cells)
    tone[rng.random(cells) < 0.08] -= 24.0  # glia and dark processes
    brightness: Float = ndi.gaussian_filter(tone.astype(np.float32)[own], 1.0)
    shape = own.shape
    grain = sum(share * smooth_noise(rng, shape, sigma) for share, sigma in ((0.85, 0.8), (0.5, 1.6), (0.4, 4.0)))
    coarse = np.clip(1.0 + 0.1 * rng.standard_normal(cells), 0.75, 1.25).astype(np.float32)
    brightness += 25.0 * ndi.gaussian_filter(coarse[own], 1.0) * (grain - 0.10 * grain**2)
    add_dots(rng, brightness, labels > 0)
    return brightness


def _absorption(rng: np.random.Generator, distance: Float, half_width: Float) -> Float:
    """Sum the membrane darkness over the thickness of the section; float32 (H, W), 0 to 1.

    The membranes of the middle level are shifted along a smooth drift to every depth. Membranes along the drift stay
    sharp. Membranes across the drift become broad and grey, as after a slanted cut.
    """
    shape = distance.shape
    profile = expit((half_width - distance) / 0.5)
    angle = np.pi * smooth_noise(rng, shape, 70.0)
    drift = 0.9 + 1.9 * np.maximum(smooth_noise(rng, shape, 45.0), 0.0) ** 2.2  # px from the middle level to a face
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    total = np.zeros(shape, dtype=np.float32)
    for depth in DEPTHS:
        at = [y + depth * drift * np.sin(angle), x + depth * drift * np.cos(angle)]
        total += ndi.map_coordinates(profile, at, order=1, mode="nearest")
    return total / np.float32(len(DEPTHS))


def _expose(rng: np.random.Generator, brightness: Float) -> np.ndarray:
    """Add uneven illumination, the microscope's blur and shot noise, then digitise; uint8 (H, W)."""
    shape = brightness.shape
    y, x = np.mgrid[-1.0 : 1.0 : shape[0] * 1j, -1.0 : 1.0 : shape[1] * 1j]
    slope = rng.normal(0.0, 4.0, size=2)
    light = rng.normal(-4.0, 6.0) + slope[0] * y + slope[1] * x + 5.0 * smooth_noise(rng, shape, max(shape) / 5.0)
    picture = ndi.gaussian_filter(brightness + light, rng.uniform(0.5, 0.75))
    counts = rng.poisson(np.clip(picture, 4.0, None) * 1.1) / 1.1  # of electrons: about 170 in the cytoplasm
    picture = ndi.gaussian_filter(counts, 0.45) + rng.normal(0.0, 2.0, size=shape)  # 0.45: the film scanner's blur
    return np.clip(np.rint((picture - 122.0) * rng.uniform(1.0, 1.12) + 122.0), 0, 255).astype(np.uint8)
