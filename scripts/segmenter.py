"""Segment arrays with trained weights, exactly as `configs/inference.yaml` segments files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.utils import convert_to_tensor

from .components import renamed
from .data.items import spacing_of
from .data.pixel_size import check_pixel_size
from .failures import cause_of
from .handlers.checkpoints import load_weights
from .inferers.exported import LOADERS
from .io.arrays import as_array
from .large import LargeSegmentation
from .metrics.shapes import object_table
from .published import FOLDER, find_weights
from .settings import CHOICES, FIXED, ModelSettings
from .transforms.uncertainty import entropy

ROOT = next(folder for folder in Path(__file__).resolve().parents[:2] if (folder / "configs").is_dir())
WEIGHTS = FOLDER / "model.pt"
INFERENCE = ("orientations", "tile_size", "memory_limit", "amp_dtype", "tile_progress", "onnx_engine", "pixel_size")
SETTINGS = (*FIXED, *CHOICES, *INFERENCE)  # keys of configs/inference.yaml that concern a single image


@dataclass(frozen=True)
class Segmentation:
    """Hold the results of an image with H rows, W columns and K classes.

    Args:
        classes: class of each pixel, uint8 (H, W).
        probabilities: float32 (K, H, W), also for a network with a single sigmoid output (K = 2).
        instances: ID of the object at each pixel, int32 (H, W). 0 is background.
        objects: table of the objects: column name -> array with a value for each object, as in `objects.csv`.
        deviation: standard deviation over the orientations of the probability of class 1, float32 (H, W). None: a
            single orientation.
    """

    classes: np.ndarray
    probabilities: np.ndarray
    instances: np.ndarray
    objects: dict[str, np.ndarray]
    deviation: np.ndarray | None = None

    @property
    def entropy(self) -> np.ndarray:
        """Entropy of the probabilities at each pixel, float32 (H, W): 0 for a certain class, 1 for equal chances."""
        return as_array(entropy(self.probabilities))[0]


class Segmenter:
    """Segment images of any size. Network, grey values and objects follow the weights' `model.json`.

    Args:
        weights: a file of weights (`.pt`), the name of published weights (`"em"`), or an exported network (`.onnx`,
            `.ts`, `.pt2`). None: the default weights of this package, for membranes in electron micrographs.
        device: "cpu", "cuda", ... None: a GPU if there is one.
        network_def: arguments of `RonnebergerUNet`, for weights without `model.json`.
        settings: other keys of `configs/inference.yaml` and their values, such as `orientations=8` or `min_area=20`.

    Attributes:
        settings: the settings of the weights, with the given ones.

    Raises:
        FileNotFoundError: no file of weights.
        TypeError: a setting that `configs/inference.yaml` does not have.
        ValueError: an unknown name; the weights do not fit, or a setting contradicts the weights.

    Example:
        >>> from original_unet import Segmenter
        >>> segmenter = Segmenter(min_area=20)
        >>> image = np.random.default_rng(0).normal(size=(60, 80))
        >>> result = segmenter(image)
        >>> result.classes.shape, result.probabilities.shape
        ((60, 80), (2, 60, 80))
    """

    def __init__(
        self,
        weights: str | Path | None = None,
        device: str | torch.device | None = None,
        network_def: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        config: dict[str, Any] = renamed(ConfigParser.load_config_file(ROOT / "configs" / "inference.yaml"))
        for name in settings:
            if name not in SETTINGS:
                raise TypeError(f"Segmenter has no setting {name!r}. Expected one of {', '.join(SETTINGS)}")
        config["network_def"] |= network_def or {}
        config["inferer"]["deviation"] = True
        path = WEIGHTS if weights is None else Path(find_weights(weights) if isinstance(weights, str) else weights)
        # no text: MONAI would replace # and evaluate $ in the names of folders
        changes = {"backend" if path.suffix.lower() in LOADERS else "ckpt_path": path, **settings}
        if device is not None:
            changes["device"] = torch.device(device)
        self._file = path
        parser = ConfigParser({**config, **changes})
        try:
            self.settings: ModelSettings = parser.get_parsed_content("settings")
            self.device = torch.device(parser.get_parsed_content("device"))
            self.network: torch.nn.Module = parser.get_parsed_content("network").eval()
            self._prepare = parser.get_parsed_content("prepare")
            self._infer = parser.get_parsed_content("inferer")
            self._finish = parser.get_parsed_content("postprocessing")
        except RuntimeError as error:  # MONAI's, around the error of a component
            raise cause_of(error) from None
        if "ckpt_path" in changes:
            load_weights(self.network, path)

    @torch.inference_mode()
    def __call__(
        self,
        image: np.ndarray,
        pixel_size: float | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> Segmentation:
        """Segment an image.

        Args:
            image: (H, W), or (H, W, C) with the channels of the network; any real dtype.
            pixel_size: height and width of a pixel in micrometres, for the table of objects. None: unknown.
            progress: called after each pass of the network, with the number of finished tiles and of all tiles. Its
                exceptions end the call.

        Raises:
            ValueError: a shape, number of channels or dtype that the network does not take; NaN or infinite pixels; a
                pixel size that is no positive number, or too far from that of the training; NaN or infinite scores.
        """
        try:
            item = self._prepare({"image": self._tensor(image, pixel_size)})
            with self._telling(progress):
                found = self._infer(item["image"][None].to(self.device), self.network)
            item["pred"] = {key: found[key][0] for key in found} if isinstance(found, dict) else found[0]
            item = self._finish(item)
        except RuntimeError as error:  # MONAI's, around the error of a transform
            raise cause_of(error) from None
        instances = as_array(item["instances"])[0]
        source = as_array(item["source"])
        channels = source[0] if len(source) == 1 else source
        return Segmentation(
            classes=as_array(item["pred"])[0].astype(np.uint8),
            probabilities=as_array(item["prob"]).astype(np.float32),
            instances=instances,
            objects=object_table(instances, channels, *spacing_of(item["source"])),
            deviation=as_array(item["deviation"])[0] if "deviation" in item else None,
        )

    def segment_large(self, path: str | Path, output: str | Path, **options: Any) -> Path:
        """Segment an image file of any size, also larger than memory, into OME-Zarr. Killed, the same call goes on.

        A batch of tiles takes up to the `memory_limit` of this segmenter, 3 GiB by default. The command takes 1 GiB.

        Args:
            path: an image file, or the folder of an OME-Zarr image.
            output: the result; the name ends in `.ome.zarr`.
            options: of `scripts.large.LargeSegmentation`, from `tiff_axes` on: `block_size`, `scheduler`, ...

        Returns:
            the output.

        Raises:
            TypeError: an unknown option.
            ValueError: as `LargeSegmentation`.
            FileExistsError: the output exists, and `overwrite` is False.

        Example:
            >>> import tifffile
            >>> from original_unet import Segmenter
            >>> tifffile.imwrite("section.tif", np.random.default_rng(0).normal(size=(96, 80)).astype(np.float32))
            >>> Segmenter(min_area=20).segment_large("section.tif", "section.ome.zarr", block_size=64).name
            'section.ome.zarr'
        """
        parts = (self.network, self.settings, self._infer)
        return LargeSegmentation(path, output, *parts, file=self._file, device=str(self.device), **options).run()

    @contextmanager
    def _telling(self, progress: Callable[[int, int], object] | None) -> Iterator[None]:
        """Report the tiles of a call to a function."""
        usual = self._infer.progress
        self._infer.progress = usual if progress is None else progress
        try:
            yield
        finally:
            self._infer.progress = usual

    def _tensor(self, image: np.ndarray, pixel_size: float | None) -> MetaTensor:
        """Convert an image to (C, H, W), with the metadata of a file."""
        array = np.asarray(image)
        expected = self.settings.in_channels
        if array.ndim == 2:
            array = array[..., None]
        if array.ndim != 3 or array.shape[2] != expected or array.dtype.kind not in "biuf" or not array.size:
            shape = "(H, W)" if expected == 1 else f"(H, W, {expected})"
            raise ValueError(f"image: expected {shape} of real numbers, got {array.dtype} {np.shape(image)}")
        array = np.moveaxis(array, 2, 0)
        if not np.isfinite(array).all():
            raise ValueError(f"image: {np.count_nonzero(~np.isfinite(array))} pixels are NaN or infinite. Replace them")
        if pixel_size is not None:
            check_pixel_size("pixel_size", pixel_size)
        spacing = 1.0 if pixel_size is None else float(pixel_size)
        meta = {"spacing": np.array([spacing, spacing]), "unit": "pixel" if pixel_size is None else "um"}
        dtype = {"b": np.dtype(np.uint8), "f": np.result_type(array, np.float32)}.get(array.dtype.kind, array.dtype)
        dtype = np.dtype(np.float64) if dtype.itemsize > 8 else dtype.newbyteorder("=")
        values = convert_to_tensor(array.astype(dtype))
        return MetaTensor(values, affine=torch.diag(torch.tensor([spacing, spacing, 1, 1])), meta=meta)
