"""Segment an image that is larger than memory, block by block, into OME-Zarr.

The steps: grey values of each plane, network, objects of each block, joining, final labels and measures, pyramids. The
work is in `<output>.part` beside the output, which appears when all is done. Killed at any moment, the same call goes
on with the blocks that are missing.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor

from ..handlers.checkpoints import load_weights
from ..handlers.progress import LiveLine
from ..inferers import ExportedNetwork, OverlapTileInferer, keep_freed_memory
from ..io.files import sha256_of, write_json
from ..io.image_file import ImageFileError
from ..io.locks import FolderLock
from ..io.names import plane_address, shown
from ..metrics.shapes import ObjectsCSV
from ..settings import ModelSettings
from ..transforms.pixel_size import MatchPixelSized
from .grey_values import GreyValues, plane_statistics
from .grid import Block, BlockGrid
from .joining import join
from .journal import Journal, begin, check_folder, clear
from .measuring import BlockMeasures, write_plane
from .network_step import NetworkStep
from .object_steps import LabelsStep, ObjectsStep, block_file
from .objects import BlockSeam
from .ome_zarr import OmeZarrOutput
from .outputs import TABLES, check_output, table_beside, work_folder
from .planes import CHUNK, PlaneArray
from .schedulers import Scheduler, scheduler_of
from .source import LargeImage, open_source

logger = logging.getLogger(__name__)

REPLACED = "replaced"  # the earlier result, in the work folder
LINE = 60  # seconds between two lines of a step without a terminal
_LONGEST = 255  # bytes of a file name
_MOST_BLOCKS = 10_000_000  # their numbers are in memory


class LargeSegmentation:
    """Segment one image of any size into an OME-Zarr image (NGFF 0.5), with bounded memory.

    | in `<output>`           | content                                                                    |
    |-------------------------|----------------------------------------------------------------------------|
    | the image itself        | probability of each class; without probabilities the classes               |
    | `labels/classes`        | class of each pixel, uint8                                                 |
    | `labels/instances`      | number of the object at each pixel, uint32, from 1 in each plane           |

    All have pyramids and the pixel size of the image. Beside the output: `<name>.objects.csv` and `<name>.images.csv`,
    as of a small image. The pixels equal those of a small image to rounding. Of the objects, those that reach further
    than `object_halo` beyond a block may be cut at other constrictions, see `block_objects`.

    Args:
        path: image file, or folder of an OME-Zarr image.
        output: folder of the result, which ends in `.zarr`.
        network: without weights, or an exported network.
        file: of the weights or of the exported network, for the record.
        load: load the weights in `file`. False: the network has its weights.
        settings: of the weights.
        inferer: overlap-tile inference.
        device: where to compute.
        tiff_axes: axes of TIFF files with wrong axes.
        pixel_size: must be None: large images are not rescaled.
        block_size: height and width of a block in pixels, a multiple of 16.
        object_halo: pixels around a block in which its objects are found.
        foreground_above: blocks without a grey value above are background and not computed. None: all are computed.
        grey_values: (offset, scale) of each channel. None: measured in each plane.
        probabilities, instances: write these.
        probability_dtype: "uint8" (255 is 1), "float16" or "float32".
        objects: write the tables.
        scheduler: as in `scripts.large.OnDask`. None: this process.
        overwrite: replace a result, and begin unfinished work anew.
        progress: called after each block of a step, with the name of the step and the number of finished blocks and of
            all blocks. Its exceptions end the work, which the same call continues.

    Raises:
        ValueError: an argument out of range, or one that large images do not take; during `run`: the image does not fit
            the weights; unfinished work of other settings; NaN or infinite pixels.
        FileExistsError: the output exists, and `overwrite` is False; or it exists and is none of our results.
        FolderInUseError: another run writes into the output.
    """

    def __init__(
        self,
        path: str | Path,
        output: str | Path,
        network: torch.nn.Module,
        settings: ModelSettings,
        inferer: OverlapTileInferer,
        file: str | Path | None = None,
        load: bool = False,
        device: str = "cpu",
        tiff_axes: str | None = None,
        pixel_size: float | str | None = None,
        block_size: int = 2048,
        object_halo: int = 256,
        foreground_above: float | None = None,
        grey_values: Sequence[Sequence[float]] | None = None,
        probabilities: bool = True,
        probability_dtype: str = "uint8",
        instances: bool = True,
        objects: bool = True,
        scheduler: str | None = None,
        overwrite: bool = False,
        progress: Callable[[str, int, int], object] | None = None,
    ) -> None:
        self.path, self.output = Path(path), Path(output)
        if self.output.suffix != ".zarr":
            raise ValueError(f"output_dir is {self.output}, expected a name that ends in .ome.zarr")
        if pixel_size is not None:
            raise ValueError(
                f"pixel_size is {pixel_size}, but large images are not rescaled. Rescale the image first, or leave out "
                "pixel_size"
            )
        if block_size < 16 or block_size % 16:
            raise ValueError(f"block_size is {block_size}, expected a multiple of 16")
        if object_halo < 1:
            raise ValueError(f"object_halo is {object_halo}, expected 1 or more pixels")
        if max(len(os.fsencode(table_beside(self.output, name).name)) for name in TABLES) > _LONGEST:
            raise ValueError(f"output_dir has a name of {len(self.output.name)} characters, too long for its tables")
        if scheduler is not None and isinstance(network, ExportedNetwork):
            raise ValueError("scheduler needs plain weights (ckpt_path): exported networks do not travel to workers")
        self.network, self.settings, self.inferer = network, settings, inferer
        self.file, self.load = None if file is None else Path(file), load
        self.device, self.tiff_axes = str(device), tiff_axes
        self.block_size, self.object_halo = block_size, object_halo
        self.foreground_above, self.grey_values = foreground_above, grey_values
        self.probability_dtype = probability_dtype if probabilities else None
        self.instances, self.objects = instances or objects, objects
        self.scheduler, self.overwrite, self.progress = scheduler, overwrite, progress

    def run(self) -> Path:
        """Segment the image, or go on with unfinished work. Return the output."""
        begun = time.monotonic()
        image = open_source(self.path, self.tiff_axes)
        self._check(image)
        work = work_folder(self.output)
        with ExitStack() as stack:
            stack.callback(_remove_if_empty, work)  # after the lock is gone
            stack.enter_context(image)
            check_folder(work)
            stack.enter_context(FolderLock(work))
            if self.overwrite and (work / REPLACED).exists() and not self.output.exists():
                os.replace(work / REPLACED, self.output)  # killed before the new result had the name
            check_output(self.path, self.output, self.overwrite)
            stack.enter_context(_kept_memory())
            scheduler = stack.enter_context(scheduler_of(self.scheduler))
            facts, state = self._facts(image), image.state()
            if begin(work, facts, self.output, self.overwrite):
                logger.info("going on with the unfinished %s", shown(work))
            if self.load and self.file is not None:
                load_weights(self.network, self.file)
            self._segment(image, work, scheduler, facts)
            if image.state() != state:
                raise ValueError(
                    f"{shown(self.path)} has changed during the run, and parts of the result are of the old image. "
                    "Begin anew with --overwrite true"
                )
            self._publish(work)
            with suppress(OSError):  # the result is complete
                clear(work)
        logger.info("done in %s", _time(begun))
        return self.output

    def _check(self, image: LargeImage) -> None:
        """Check that the image fits the weights, and warn of other pixel sizes."""
        header = image.header
        values = self.grey_values
        if values is not None and (len(values) != header.channels or any(len(pair) != 2 for pair in values)):
            raise ValueError(
                f"grey_values is {values}, expected [offset, scale] for each of {header.channels} channels"
            )
        if values is not None and any(scale <= 0 for _, scale in values):
            raise ValueError(f"grey_values is {values}, expected scales above 0")
        if header.channels != self.settings.in_channels:
            raise ValueError(
                f"{shown(self.path)} has {header.channels} channels, the weights take {self.settings.in_channels}. "
                "Convert the image, or state its axes with tiff_axes"
            )
        blocks = len(BlockGrid(header.planes, header.height, header.width, self.block_size))
        if blocks > _MOST_BLOCKS:
            raise ValueError(
                f"{shown(self.path)} has {header.planes} planes of {header.height} x {header.width} px, {blocks} "
                f"blocks of block_size {self.block_size}. Expected at most {_MOST_BLOCKS}: raise block_size"
            )
        meta = {"filename_or_obj": str(self.path), "spacing": header.spacing, "unit": header.unit}
        probe = MetaTensor(torch.zeros(1, 1, 1), meta=meta)
        MatchPixelSized(trained=self.settings.training.pixel_size)({"image": probe})

    def _facts(self, image: LargeImage) -> dict[str, Any]:
        """List what decides the result, as JSON. Unfinished work goes on only with the same facts."""
        header = image.header
        objects = ("threshold", "min_area", "fill_holes", "split_necks", "close_gaps", "field_border")
        return {
            "image": str(self.path.absolute()),
            "tiff_axes": self.tiff_axes,
            "size": [header.planes, header.channels, header.height, header.width],
            "weights": None if self.file is None else f"sha256 {sha256_of(self.file)[:16]}",
            **{name: getattr(self.settings, name) for name in ("intensity", "flatten", *objects)},
            "grey_values": self.grey_values,
            "orientations": self.inferer.orientations,
            "amp_dtype": self.inferer.amp_dtype,
            "foreground_above": self.foreground_above,
            "probability_dtype": self.probability_dtype,
            "instances": self.instances,
            "objects": self.objects,
            "block_size": self.block_size,
            "object_halo": self.object_halo,
        }

    def _segment(self, image: LargeImage, work: Path, scheduler: Scheduler, facts: Mapping[str, Any]) -> None:
        """Do all steps that are left."""
        header = image.header
        grid = BlockGrid(header.planes, header.height, header.width, self.block_size)
        steps = _Steps(grid, work, scheduler, self.progress)
        output = self._output(image, grid, work / self.output.name, facts)
        mask = PlaneArray(work / "foreground", grid, "uint8").create()
        values = self._grey_values(image, grid, work)
        network = NetworkStep(
            image,
            grid,
            values,
            self.network,
            self.inferer,
            self.device,
            max(2, self.settings.out_channels),
            self.settings.threshold,
            self.foreground_above,
            output,
            mask,
        )
        steps.run("network", network)
        if self.instances:
            self._find_objects(image, grid, steps, output, mask)
        begun = time.monotonic()
        for kind in output.places:
            for level in range(1, output.levels):
                step = PyramidStep(output, kind, level)
                steps.run(f"pyramid of {kind} {level}", step, len(output.level_grid(level)), quiet=True)
        logger.info("pyramids: %d levels in %s", output.levels, _time(begun))
        output.finish()

    def _output(self, image: LargeImage, grid: BlockGrid, path: Path, facts: Mapping[str, Any]) -> OmeZarrOutput:
        """Make the arrays of the result, or open those of the unfinished work."""
        try:
            return OmeZarrOutput(path)
        except FileNotFoundError:
            pass
        except ImageFileError:
            if any(path.parent.glob("*.txt")):
                raise  # finished blocks are in it
            shutil.rmtree(path)  # the work ended while the arrays were made
        arrays = {"classes": "uint8"} | ({"instances": "uint32"} if self.instances else {})
        arrays |= {} if self.probability_dtype is None else {"probabilities": self.probability_dtype}
        names = self.settings.class_names or [f"class {k}" for k in range(max(2, self.settings.out_channels))]
        chunk = math.gcd(grid.size, CHUNK)
        settings = {**facts, "image": self.path.name}  # results may be published, folders are private
        return OmeZarrOutput.create(path, image.header, image.axes, grid, arrays, names, settings, chunk)

    def _grey_values(self, image: LargeImage, grid: BlockGrid, work: Path) -> tuple[GreyValues, ...]:
        """Measure the grey values of each plane, or read those of the unfinished work.

        Raises:
            ValueError: the image was written again since the work was begun, with other grey values.
        """
        file, state = work / "grey_values.json", image.state()
        noted = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
        before = () if noted is None else tuple(map(GreyValues.from_json, noted["planes"]))
        if noted is not None and noted["image"] == state:
            return before
        measured = []
        for plane in range(grid.planes):
            if self.grey_values is not None:
                offsets, scales = zip(*self.grey_values, strict=True)
                measured.append(GreyValues(offsets, scales, self.settings.flatten))
                continue
            logger.info("measuring the grey values of plane %d of %d", plane + 1, grid.planes)
            measured.append(plane_statistics(image, plane, grid, self.settings.intensity, self.settings.flatten))
            if not any(measured[-1].scales):
                logger.warning("plane %d of %s has a single grey value: no object", plane, shown(self.path))
        if not all(one.equals(other) for one, other in zip(before, measured, strict=bool(before))):
            raise ValueError(
                f"{shown(self.path)} has other grey values than the image of the unfinished {shown(work)}. Restore "
                "that image, or begin anew with --overwrite true"
            )
        if before and self.grey_values is not None:
            logger.warning(
                "%s was written again, and may have other pixels than the finished blocks. If so, begin anew with "
                "--overwrite true",
                shown(self.path),
            )
        write_json(file, {"image": state, "planes": [values.as_json() for values in measured]})
        return tuple(measured)

    def _find_objects(
        self, image: LargeImage, grid: BlockGrid, steps: _Steps, output: OmeZarrOutput, mask: PlaneArray
    ) -> None:
        """Find the objects of all blocks, join them, write labels and tables."""
        settings, work = self.settings, steps.work
        folder, joined = work / "objects", work / "joined.npz"
        options = {
            "min_area": settings.min_area,
            "fill_holes": settings.fill_holes,
            "split": settings.split_necks,
            "field_border": settings.field_border,
        }
        steps.run("objects", ObjectsStep(grid, mask, folder, self.object_halo, options))
        if not joined.exists():
            seams = (BlockSeam.load(block_file(folder, number)) for number in range(len(grid)))
            join(grid, seams, settings.min_area).save(joined)
        measures = work / "measures" if self.objects else None
        steps.run("labels", LabelsStep(image, grid, folder, joined, settings.close_gaps, output, measures))
        if measures is not None:
            self._write_tables(image, grid, measures, work)

    def _write_tables(self, image: LargeImage, grid: BlockGrid, measures: Path, work: Path) -> None:
        """Write the tables of objects and of planes into the work folder."""
        header, names = image.header, self.settings.class_names or ()
        objects, images = (ObjectsCSV(work / name) for name in TABLES)
        found = 0
        for plane in range(grid.planes):
            name = self.path.name if grid.planes == 1 else plane_address(self.path.name, plane)

            def load(block: Block) -> BlockMeasures:
                return BlockMeasures.load(block_file(measures, block.number))

            several = names if len(names) > 2 else ()
            spacing, unit = (None, None) if header.unit == "pixel" else (header.spacing, header.unit)
            row = write_plane(objects, name, grid, plane, load, spacing, unit, several)
            images.add(name, row)
            found += int(row["objects"].sum())
        for table in (objects, images):
            table.close()
        logger.info("%d object%s in %s", found, "" if found == 1 else "s", shown(self.path))

    def _publish(self, work: Path) -> None:
        """Give result and tables their names."""
        for name in TABLES:
            if (work / name).exists():
                os.replace(work / name, self.table(name))
            elif self.output.exists():
                self.table(name).unlink(missing_ok=True)  # of the replaced result
        if self.output.exists():
            os.replace(self.output, work / REPLACED)
        os.replace(work / self.output.name, self.output)

    def table(self, name: str) -> Path:
        """Get the file of a table beside the output: out.objects.csv beside out.ome.zarr."""
        return table_beside(self.output, name)


@dataclass(frozen=True)
class PyramidStep:
    """Compute a block of a level of a pyramid from the level before."""

    output: OmeZarrOutput
    kind: str
    level: int

    def __call__(self, number: int) -> None:
        """Compute a block of the level."""
        self.output.build_pyramid(self.kind, self.level, self.output.level_grid(self.level)[number])


class _Steps:
    """Run steps for all blocks that are not finished, with a journal of each step."""

    def __init__(
        self,
        grid: BlockGrid,
        work: Path,
        scheduler: Scheduler,
        progress: Callable[[str, int, int], object] | None = None,
    ) -> None:
        self.grid, self.work, self.scheduler, self.progress = grid, work, scheduler, progress

    def run(self, name: str, step: Callable[[int], Any], blocks: int | None = None, quiet: bool = False) -> None:
        """Run a step for blocks 0 .. `blocks` - 1. None: all of the grid. `quiet`: only the live line is shown."""
        total = len(self.grid) if blocks is None else blocks
        journal = Journal(self.work / f"{name.replace(' ', '_')}.txt")
        finished = journal.finished()
        left = [number for number in range(total) if number not in finished]
        if not left:
            return
        begun, line, computed = time.monotonic(), LiveLine(name), 0
        told = begun
        line.start()
        try:
            for done, (number, result) in enumerate(self.scheduler.run(step, left), 1):
                journal.add([number])
                computed += result is not False
                if self.progress is not None:
                    self.progress(name, total - len(left) + done, total)
                text = f"{total - len(left) + done} of {total} blocks"
                if line.due:
                    line.show(f"{text}, {_left(begun, done, len(left))} left", (total - len(left) + done) / total)
                elif not line.on and not quiet and time.monotonic() - told > LINE and done < len(left):
                    logger.info("%s: %s, %s left", name, text, _left(begun, done, len(left)))
                    told = time.monotonic()
        finally:
            line.stop()
        empty = f", {len(left) - computed} empty" if computed < len(left) else ""
        if not quiet:
            of = "" if len(left) == total else f" of {total}"
            logger.info("%s: %d%s blocks in %s%s", name, len(left), of, _time(begun), empty)


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


@contextmanager
def _kept_memory() -> Iterator[None]:
    """Reuse the memory of a tile for the next."""
    keep_freed_memory(True)
    try:
        yield
    finally:
        keep_freed_memory(False)


def _time(begun: float) -> str:
    return str(timedelta(seconds=round(time.monotonic() - begun)))


def _left(begun: float, done: int, total: int) -> str:
    return str(timedelta(seconds=round((time.monotonic() - begun) / done * (total - done))))
