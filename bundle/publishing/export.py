"""`python -m bundle export`: write the trained network for other programs, and compare file and network."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite, isnan
from pathlib import Path
from typing import Any, NamedTuple

import torch

from bundle.experiments.trained import load_trained
from bundle.publishing.agreement import Agreement, task_agreement
from bundle.publishing.exporters import FORMATS, Exportable, ExportFormat, check_installed, tile_sizes
from bundle.publishing.quantizing import calibration_addresses, calibration_tiles, int8_format
from bundle.running.errors import RunError, UsageError
from scripts.inferers.exported import ExportedNetwork
from scripts.inferers.overlap_tile import OverlapTileInferer
from scripts.io.files import replacing


def export(
    format: str,
    ckpt_path: str | None = None,
    config_file: str | list[str] = "configs/inference.yaml",
    output: str | None = None,
    image: str | None = None,
    calibration: str | None = None,
    accept: bool = False,
    **override: Any,
) -> None:
    """Write the trained network as ONNX, TorchScript, pt2 or TensorRT.

    The file accepts any batch, and all image sizes of the network: 16k + 60 pixels a side for the paper's network (188,
    204, ...), 572 for TensorRT. The file is read back and compared with the network, on an image and on tiles of
    several sizes. If the difference exceeds the tolerance, no file is kept, unless --accept is given.

    Segment with the file: python -m bundle segment PATH --backend FILE

    Args:
        format: onnx, torchscript, pt2 or tensorrt.
        ckpt_path: weights. Default: the configuration's, models/model.pt.
        config_file: configuration for inference, or a list with overlays: "['a.yaml','b.yaml']".
        output: file to write, with the format's suffix (.onnx, .ts, .pt2). Default: beside the weights.
        image: image to compare on. Default: a synthetic section, or the last image of --calibration.
        calibration: folder or file with images similar to the images to segment; ten images are enough. The ONNX
            file is then in int8, a quarter of the size and faster on a CPU. The difference from the network is printed:
            pixels with another class, and the key metric of the task with the network's segmentation as reference.
        accept: keep a file that differs more than the tolerance.
        override: keys of the configuration and their new values, e.g. --intensity percentile. Network and
            classes are those of model.json beside the weights.
    """
    if format not in FORMATS:
        raise UsageError(f"unknown format '{format}'; there are {', '.join(FORMATS)}")
    if calibration is not None and format != "onnx":
        raise UsageError(f"--calibration makes int8 files of onnx, not of {format}")
    folders = sorted({"output_dir", "dataset_dir"} & override.keys())  # of inference alone; without effect here
    if folders:
        raise UsageError(f"export takes no --{folders[0]}; name the file to write with --output, an image with --image")
    check_installed(format)
    kind = FORMATS[format]
    if output is not None and Path(str(output)).suffix != kind.suffix:
        raise UsageError(f"--output {output}: a file of {format} has the suffix {kind.suffix}")
    trained = load_trained(config_file, ckpt_path, override)
    shown = trained.image(image)
    name = f"{trained.weights.stem}_tensorrt" if format == "tensorrt" else trained.weights.stem
    if calibration is not None:
        addresses = calibration_addresses(str(calibration))
        if image is None:  # compare on the last image, which calibrates only if no other image exists
            shown = trained.prepared(addresses[-1])
            addresses = addresses[:-1] or addresses
        kind = int8_format(calibration_tiles(trained, addresses))
        name += "_int8"
    path = Path(str(output)) if output is not None else trained.weights.with_name(name + kind.suffix)
    _refuse_sources(path, trained.weights, image, calibration)
    write_checked(trained.network, trained.info, kind, path, shown, accept)
    print(f"{path}: written, {path.stat().st_size / 1e6:.1f} MB")


def _refuse_sources(path: Path, *sources: str | Path | None) -> None:
    """Raise UsageError if a file to write is one of the files that are read."""
    for source in filter(None, sources):
        if path.resolve() == Path(str(source)).resolve():
            raise UsageError(f"--output {path} is the file that is read ({source}); give another name")


def write_checked(
    network: Exportable,
    info: Mapping[str, Any],
    kind: ExportFormat,
    path: Path,
    image: torch.Tensor,
    accept: bool = False,
) -> None:
    """Write a file, read the file back and compare with the network. The file is kept only within the tolerance.

    Args:
        network: in eval mode, on the CPU.
        info: description for the file, as in `bundle.experiments.trained.Trained`.
        kind, path: the file format, and the file to write.
        image: image (1, C, H, W) to compare on, scaled as the network's input.
        accept: keep the file in spite of the difference.

    Raises:
        RunError: a difference in scores, classes or the task's metric exceeds the tolerance. Names the input.
    """
    described = dict(info) | ({} if kind.tile_size is None else {"tile_size": kind.tile_size})
    with replacing(path) as temporary:
        kind.write(network, temporary, described)
        device = "cpu" if kind.tile_size is None else "cuda"
        exported = ExportedNetwork(temporary, device)
        task = None if kind.changed is None else task_agreement(info)
        differences = compare(network.to(device), exported, image.to(device), kind, task)
        for name, found in differences.items():
            print(f"{path.name}, {name}: {found.told(kind)}")
        wrong = [name for name, found in differences.items() if not found.allowed_by(kind)]
        if wrong and not accept:
            raise RunError(
                f"{path} was not written: it differs too much from the network for {' and '.join(wrong)}. Compare "
                "on an image of your own (--image), calibrate with more images, or keep the file with --accept"
            )
        if wrong:
            print(f"{path.name}: kept in spite of the difference for {' and '.join(wrong)}, as --accept asks")


class Difference(NamedTuple):
    """Difference between two outputs for the same input."""

    scores: float  # largest difference of a score
    largest: float  # largest absolute score of the original
    error: float = 0.0  # root mean square of the difference, as a share of the original's
    classes: float | None = None  # share of pixels with another class; None for tiles, which may give 4 x 4 pixels
    metric: tuple[str, float] | None = None  # name and value of the task's metric; None for tiles

    def allowed_by(self, kind: ExportFormat) -> bool:
        """Whether the difference is within a format's tolerances. NaN scores are not, a NaN metric is (no object)."""
        if kind.changed is None or not isfinite(self.scores):
            return self.scores <= kind.tolerance * self.largest
        if self.classes is None:
            return self.error <= kind.tolerance
        same_task = self.metric is None or isnan(self.metric[1]) or self.metric[1] >= kind.agreement
        return self.classes <= kind.changed and same_task

    def told(self, kind: ExportFormat) -> str:
        """Describe the difference and the tolerances in words."""
        told = f"largest difference from eager float32 {self.scores:.1e}"
        if kind.changed is None:
            return f"{told}, allowed {kind.tolerance * self.largest:.1e}"
        if self.classes is None:
            return f"{told}; root mean square {self.error:.1%} of the scores', allowed {kind.tolerance:.0%}"
        told += f"; another class in {self.classes:.2%} of the pixels, allowed {kind.changed:.2%}"
        if self.metric is not None and not isnan(self.metric[1]):
            told += (
                f"; {self.metric[0]} {self.metric[1]:.3f} against the network's segmentation, at least {kind.agreement}"
            )
        return told


@torch.inference_mode()
def compare(
    network: torch.nn.Module,
    exported: ExportedNetwork,
    image: torch.Tensor,
    kind: ExportFormat,
    task: tuple[str, Agreement] | None = None,
) -> dict[str, Difference]:
    """Compare a network with an exported file, on an image (tile by tile) and on tiles of several sizes.

    Args:
        network: the original, float32, in eval mode.
        exported: the file, read back.
        image: (1, C, H, W).
        kind: file format, with the tile size.
        task: name of the task's metric, and its function, see `task_agreement`. None: scores and classes only.

    Returns:
        Name of the input -> difference.

    Raises:
        RunError: the outputs have different shapes.

    Example:
        >>> from scripts.networks.unet import RonnebergerUNet
        >>> network = RonnebergerUNet(features=(1, 1)).eval()
        >>> compare(network, network, torch.rand(1, 1, 20, 30), FORMATS["pt2"])["image of 20 x 30"].scores
        0.0
    """
    inferer = OverlapTileInferer(tile_size=kind.tile_size, amp_dtype=None)
    whole = f"image of {image.shape[2]} x {image.shape[3]}"
    answers = {whole: (inferer(image, network), inferer(image, exported))}
    for batch, rows, columns in _shapes(network, kind):
        tiles = _tiles(image, batch, rows, columns)
        answers[f"batch of {batch}, {rows} x {columns}"] = (network(tiles), exported(tiles))
    compared = {}
    for name, (expected, got) in answers.items():
        if got.shape != expected.shape:
            raise RunError(f"{name}: the export gives {tuple(got.shape)}, the network {tuple(expected.shape)}")
        error = float((got - expected).norm() / expected.norm().clamp_min(1e-12))
        difference = Difference(float((got - expected).abs().max()), float(expected.abs().max()), error)
        if name == whole:
            changed = float((_classes(got) != _classes(expected)).float().mean())
            metric = None if task is None else (task[0], task[1](got, expected))
            difference = difference._replace(classes=changed, metric=metric)
        compared[name] = difference
    return compared


def _classes(scores: torch.Tensor) -> torch.Tensor:
    """Return the class of every pixel: the argmax of K scores, or whether a single score is above 0."""
    return scores[:, 0] > 0 if scores.shape[1] == 1 else scores.argmax(dim=1)


def _shapes(network: Any, kind: ExportFormat) -> list[tuple[int, int, int]]:
    """List (batch, rows, columns) to try: the smallest size, and larger sizes, square and oblong."""
    if kind.tile_size is not None:
        return [(1, kind.tile_size, kind.tile_size), (3, kind.tile_size, kind.tile_size)]
    least, step = tile_sizes(network)
    return [(1, least, least), (2, least, least + 3 * step), (3, least + 2 * step, least + step)]


def _tiles(image: torch.Tensor, batch: int, rows: int, columns: int) -> torch.Tensor:
    """Cut tiles with different content from an image. A small image is repeated."""
    down, across = -(-(rows + batch) // image.shape[2]), -(-(columns + batch) // image.shape[3])
    wide = image.repeat(1, 1, down, across)
    return torch.cat([wide[:, :, i : i + rows, i : i + columns] for i in range(batch)])
