"""Seamless overlap-tile inference (Fig. 2 of arXiv 1505.04597), and mixed precision where MONAI's trainer has none.

MONAI's `SlidingWindowInferer` takes 388 / 572 for a zoom and returns 348 x 348 for a 512 x 512 image; stepping by the
output size, as its `SlidingWindowHoVerNetInferer` and the authors do, shifts the pooling grid from tile to tile. Here
tiles equal one pass over the whole mirror-extended image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer, SimpleInferer
from tqdm import tqdm

from scripts.checks import check_choice
from scripts.inferers.memory import bytes_per_pixel, free_memory
from scripts.inferers.orientations import ORIENTATIONS, add_tile, as_vote, scores_of_votes
from scripts.inferers.precision import amp_dtype_of, at_least_single, autocast, check_amp_dtype, trains_in_channels_last
from scripts.inferers.smaller_passes import give_back_cached, halved, ran_out_of_memory, smaller_passes
from scripts.inferers.tile_jobs import TileBatch, cut_tiles, plan_batches, usable_scores
from scripts.inferers.tiling import PADDINGS, TileRule, smallest_tile


class OverlapTileInferer(Inferer):
    """Segment images of any size, tile by tile, without seams.

    The image is mirrored at its edges (without repeating the edge pixel), and every tile answers for pixels whose whole
    context it has seen. Tiles step by multiples of 2^depth, so that the result is the one of a single pass over the
    whole mirrored image, up to rounding. Memory: input, output and one batch of tiles; no padded copy is made.

    Args:
        depth: poolings of the network. None: its own attribute `depth`, else 4.
        padding: "valid" (the paper: output smaller than the tile), "same" (zero-padded) or "retain_dim" (unpadded,
            interpolated back; mechanically served, never seamless). None: what the network's attributes `padding` and
            `retain_dim` say, else "valid".
        margin: for padded networks, pixels at each side of a tile that are read as context and cut off; a multiple of
            2^depth. None: 112 at depth 4, beyond the reach of the zeros that the network pads with; its result is then
            free of their effects at the image's edges, too. 0 and an image of one tile: the network on the image alone
            (mirrored up to the next multiple of 2^depth), as it was trained.
        tile_size: length of a tile as the network gets it, 572 in the paper, or (height, width). None: the size with
            the least work within `memory_limit`; one tile of 700 for a 512 x 512 image. Fix it for a network that was
            exported with a fixed size.
        memory_limit: bytes that one forward pass may take by the model of `scripts.inferers.memory`, or "auto", half of
            what is free on the device; bounds the tile chosen and the tiles per batch. The default serves an image of
            1024 x 1024 with one tile of the paper's network.
        sw_batch_size: tiles per forward pass. None: as many as `memory_limit` allows; on a CPU 1, whose caches hold
            the features of one tile rather than those of several.
        orientations: 1; 4, averaged over flips (the authors' release); 8, with 90-degree rotations as well. (The paper
            averages 7 rotations and does not say which.)
        average: "scores" (as in the release), or "probabilities": softmax (sigmoid for one channel) before averaging.
            Their logarithm (logit) is returned, so that a softmax (sigmoid) after the inferer gives their mean.
        authors_stride: step by the output size, 388, as the paper does: not seamless.
        sw_device: where the network runs; None: the device of the inputs.
        device: where the output is stitched and returned; None: the device of the inputs, or the CPU, see `cpu_thresh`.
        cpu_thresh: height * width above which the output is stitched and left on the CPU; None: never. 2^26 pixels, the
            default, are 0.5 GiB for two classes.
        amp_dtype: "bfloat16" or "float16" to run the network under `torch.autocast`, on CPU or GPU; "auto": bfloat16
            where the device has instructions for it; "float32" or None: as it is.
        channels_last: lay tiles out as channels-last, which suits convolutions best where the weights are as well
            (`network.to(memory_format=torch.channels_last)`).
        progress: show a bar that counts tiles.

    Raises:
        ValueError: an argument out of its range; in a call, inputs of wrong rank, tiles that do not fit (names the
            nearest that do), `memory_limit` too small (names the least), a network output of unexpected size.
        TypeError: a network that returns something other than a tensor.
        TileMemoryError: no memory for one tile of `tile_size` (names smaller ones) or for the smallest tile. In other
            cases this image and the next ones are computed in passes of half the size.
    """

    def __init__(
        self,
        depth: int | None = None,
        padding: str | None = None,
        margin: int | None = None,
        tile_size: int | Sequence[int] | None = None,
        memory_limit: int | str = 3 * 2**30,
        sw_batch_size: int | None = None,
        orientations: int = 1,
        average: str = "scores",
        authors_stride: bool = False,
        sw_device: torch.device | str | None = None,
        device: torch.device | str | None = None,
        cpu_thresh: int | None = 2**26,
        amp_dtype: str | None = None,
        channels_last: bool = True,
        progress: bool = False,
    ) -> None:
        super().__init__()
        check_choice("orientations", orientations, tuple(ORIENTATIONS))
        check_choice("average", average, ("scores", "probabilities"))
        if isinstance(memory_limit, str):
            check_choice("memory_limit", memory_limit, ("auto", "a number of bytes"))
        if sw_batch_size is not None and sw_batch_size < 1:
            raise ValueError(f"sw_batch_size must be at least 1 tile, got {sw_batch_size}")
        if isinstance(tile_size, Sequence) and len(tile_size) != 2:
            raise ValueError(f"tile_size must be one length or (height, width), got {tuple(tile_size)}")
        if padding is not None:
            check_choice("padding", padding, PADDINGS)
        self.depth = depth
        self.padding = padding
        self.margin = margin
        self.tile_size = tile_size
        self.memory_limit = memory_limit
        self.sw_batch_size = sw_batch_size
        self.orientations = orientations
        self.average = average
        self.authors_stride = authors_stride
        self.sw_device = sw_device
        self.device = device
        self.cpu_thresh = cpu_thresh
        self.amp_dtype = check_amp_dtype(amp_dtype)
        self.channels_last = channels_last
        self.progress = progress
        self._halvings = 0  # of what a pass may take, since passes ran out of memory

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Run the network over whole images.

        Args:
            inputs: (B, C, H, W), floating point, H and W at least 1; may lie on another device than the network if
                `sw_device` says so.
            network: any callable from tiles (N, C, height, width) to scores (N, K, ...): a module, also compiled,
                exported or in `DataParallel`. It runs in the caller's gradient mode.
            args, kwargs: passed on to `network`.

        Returns:
            (B, K, H, W), float32 (float64 if the network gives that); a MetaTensor with the meta data of the inputs if
            these are one.
        """
        if inputs.ndim != 4 or inputs.numel() == 0:
            raise ValueError(
                f"OverlapTileInferer expects images (B, C, H, W) of at least one pixel, got {tuple(inputs.shape)}; "
                "channels come first, and `EnsureChannelFirstd` adds a missing axis"
            )
        images = _plain(inputs)
        sw_device = torch.device(self.sw_device or images.device)
        amp_dtype = amp_dtype_of(self.amp_dtype, sw_device)
        rule = self._rule(network)
        pixel_bytes = bytes_per_pixel(network, amp_dtype or images.dtype)
        at_once = self.sw_batch_size or (1 if sw_device.type == "cpu" else None)

        def plan(halvings: int) -> list[TileBatch]:
            limit = free_memory(sw_device) // 2 if isinstance(self.memory_limit, str) else int(self.memory_limit)
            least = prod(smallest_tile(images.shape[2:], rule, self.authors_stride)) * pixel_bytes
            limit, count = halved(limit, at_once, halvings, least)
            sizes = (images.shape, rule, self.tile_size)
            return plan_batches(*sizes, limit, pixel_bytes, count, self.orientations, self.authors_stride)

        def forward(tiles: torch.Tensor) -> torch.Tensor:
            with autocast(sw_device, amp_dtype):
                return network(tiles, *args, **kwargs)

        output, failed = self._stitch(images, forward, plan(self._halvings), rule, sw_device)
        while failed is not None:
            give_back_cached(sw_device)
            batches, self._halvings = smaller_passes(plan, failed, self._halvings, rule, self.tile_size is not None)
            output, failed = self._stitch(images, forward, batches, rule, sw_device)
        assert output is not None  # an image has a pixel, so there was a tile
        return _like(inputs, scores_of_votes(output, self.orientations, self.average))

    def _stitch(
        self,
        images: torch.Tensor,
        forward: Callable[[torch.Tensor], torch.Tensor],
        batches: list[TileBatch],
        rule: TileRule,
        sw_device: torch.device,
    ) -> tuple[torch.Tensor | None, TileBatch | None]:
        """The sum of all tiles, or the batch that ran out of memory; what was held till then is free on return."""
        output: torch.Tensor | None = None
        with tqdm(total=sum(len(batch.jobs) for batch in batches), unit="tile", disable=not self.progress) as bar:
            for batch in batches:
                try:
                    tiles = cut_tiles(images, batch, rule.margin, self.channels_last).to(sw_device)
                    scores = usable_scores(forward(tiles), tiles, rule)
                    scores = as_vote(scores, self.orientations, self.average)
                    output = self._new_output(images, scores) if output is None else output
                    scores = scores.to(output.device)
                except RuntimeError as error:
                    if not ran_out_of_memory(error):
                        raise
                    return None, batch
                for job, part in zip(batch.jobs, scores, strict=True):
                    (top, bottom), (left, right) = job.tile
                    part = part[:, : bottom - top, : right - left]
                    add_tile(output[job.image], part, job.orientation, job.tile.rows, job.tile.columns)
                bar.update(len(batch.jobs))
        return output, None

    def _rule(self, network: Callable) -> TileRule:
        """What the arguments say, else the network's attributes, else the paper."""
        network = getattr(network, "module", network)  # DataParallel hides the attributes
        padding = self.padding
        if padding is None:
            padding = "same" if getattr(network, "padding", None) == "same" else "valid"
            if padding == "valid" and getattr(network, "retain_dim", False):
                padding = "retain_dim"
        depth = getattr(network, "depth", 4) if self.depth is None else self.depth
        return TileRule(depth, padding, self.margin)

    def _new_output(self, images: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """An empty sum (B, K, H, W), on the CPU for images above `cpu_thresh`."""
        size = images.shape[2:]
        large = self.cpu_thresh is not None and prod(size) > self.cpu_thresh
        device = self.device or ("cpu" if large else images.device)
        return torch.zeros(len(images), scores.shape[1], *size, dtype=scores.dtype, device=device)


class MixedPrecisionInferer(SimpleInferer):
    """One forward pass under `torch.autocast` of the inputs' own device type, CPU included.

    For MONAI's `SupervisedTrainer`, whose `amp=True` takes effect on CUDA alone. bfloat16 needs no more than that;
    gradients in float16 can underflow without a scaler.

    Args:
        amp_dtype: "auto", "bfloat16", "float16", or "float32" for no autocast; see `OverlapTileInferer`.
        channels_last: lay inputs out as channels-last; None: where training in it is fast, see
            `scripts.inferers.precision`.
    """

    def __init__(self, amp_dtype: str | None = "bfloat16", channels_last: bool | None = None) -> None:
        super().__init__()
        self.amp_dtype = check_amp_dtype(amp_dtype)
        self.channels_last = channels_last

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Scores (B, K, ...) of at least single precision, so that the loss is not computed in half."""
        images = _plain(inputs)
        last = trains_in_channels_last(images.device) if self.channels_last is None else self.channels_last
        if last and images.ndim == 4:
            images = images.to(memory_format=torch.channels_last)
        with autocast(images.device, amp_dtype_of(self.amp_dtype, images.device)):
            scores = network(images, *args, **kwargs)
        return _like(inputs, at_least_single(scores))


def _plain(inputs: torch.Tensor) -> torch.Tensor:
    """Without meta data, which would slow every operation of the network."""
    return inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs


def _like(inputs: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """A MetaTensor with the meta data of the inputs if these are one, as MONAI's inferers return it."""
    if isinstance(inputs, MetaTensor):
        return MetaTensor(output).copy_meta_from(inputs, copy_attr=False)
    return output
