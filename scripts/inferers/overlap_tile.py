"""Segment images of any size by seamless overlap tiles (Fig. 2 of arXiv 1505.04597), and train in mixed precision.

MONAI's `SlidingWindowInferer` mistakes 388 / 572 for a zoom and returns 348 x 348 for a 512 x 512 image. MONAI's
`SlidingWindowHoVerNetInferer` and the authors step by the output size, and so shift the pooling grid from tile to tile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer, SimpleInferer
from tqdm import tqdm

from ..checks import check_choice
from .memory import bytes_per_pixel, free_memory
from .orientations import ORIENTATIONS, Region, add_tile, cut_tile
from .precision import AMP_CHOICES, amp_dtype_of, at_least_single, autocast, trains_in_channels_last
from .smaller_passes import ran_out_of_memory, smaller_pass
from .tiling import PADDINGS, Tile, TileBatch, TileJob, TileRule, plan_batches, smallest_tile


class OverlapTileInferer(Inferer):
    """Segment images of any size, tile by tile, without seams.

    The image is mirrored at the edges, without repeating the edge pixel. Output pixels count only if the tile covers
    their whole context. Tiles step by multiples of 2^depth. The result equals a single pass over the whole mirrored
    image, up to rounding. Memory holds the input, the output and a single batch of tiles.

    Args:
        depth: poolings of the network. None: its attribute `depth`, else 4.
        padding: "valid" (the paper: output smaller than the tile), "same" (zero-padded) or "retain_dim" (unpadded,
            interpolated back to the size of the tile; runs, but never seamless). None: from the network's attributes
            `padding` and `retain_dim`, else "valid".
        margin: for padded networks, pixels of context at each side of a tile, cut off from the output; a multiple of
            2^depth. None: 112 at depth 4, out of reach of the padding's zeros, also at the image's edges. 0: an image
            in a single tile is mirrored only up to the next multiple of 2^depth, as in training.
        tile_size: length of the network's input tiles, 572 in the paper, or (height, width). None: the size with the
            least work within `memory_limit`, for example a tile of 700 for a 512 x 512 image. Networks exported with a
            fixed size need this size.
        memory_limit: bytes for a forward pass, estimated as in `scripts.inferers.memory`; bounds the chosen tile
            size and the tiles per batch. "auto": half of the free memory of the device. The default is enough for an
            image of 1024 x 1024 in a single tile of the paper's network.
        sw_batch_size: tiles per forward pass. None: as many as `memory_limit` allows; on a CPU 1, because the
            caches hold the features of a single tile only.
        orientations: 1; 4, the mean over flips (the authors' release); 8, with 90-degree rotations as well. (The paper
            averages 7 rotations, without naming them.)
        average: "scores" (as in the release), or "probabilities": the mean of the softmax (sigmoid for one channel).
            Returned is the logarithm (logit) of the mean; a softmax (sigmoid) after the inferer gives the mean.
        deviation: with several orientations, return {"pred": scores, "deviation": (B, 1, H, W)} instead of scores. The
            deviation is the standard deviation over the orientations of the probability of class 1 (of the sigmoid for
            one channel), from running sums in float32: two more values for each pixel, rounded to about 1e-3. False, or
            a single orientation: the scores alone.
        authors_stride: step by the output size, 388, as the paper does: not seamless.
        sw_device: device of the network; None: the device of the inputs.
        device: device of the output; None: the device of the inputs, or the CPU, see `cpu_thresh`.
        cpu_thresh: height * width of the largest image with output on the device of the inputs. Larger outputs are on
            the CPU. None: no limit. The default, 2^26 pixels, is 0.5 GiB for two classes.
        amp_dtype: "bfloat16" or "float16" to run the network under `torch.autocast`, on CPU or GPU; "auto": bfloat16
            on devices with bfloat16 instructions; "float32" or None: no autocast.
        channels_last: lay tiles out as channels-last. Convolutions are fastest if the weights are channels-last, too:
            `network.to(memory_format=torch.channels_last)`.
        progress: show a progress bar of tiles. A function is called instead after each pass, with the numbers of
            finished and of all tiles. Its exceptions end the call.

    Raises:
        ValueError: an argument out of range. In a call: inputs of wrong rank, tiles that do not fit (names the
            nearest sizes), `memory_limit` too small (names the least), a network output of unexpected size.
        TypeError: the network returns no tensor.
        TileMemoryError: no memory for a single tile of `tile_size` (names smaller sizes), or for the smallest tile.
            If larger passes run out of memory, the current and the next images are computed in passes of half the size.

    Example:
        >>> from scripts.networks import RonnebergerUNet
        >>> network = RonnebergerUNet(features=(4, 8, 16)).eval()
        >>> with torch.no_grad():
        ...     OverlapTileInferer()(torch.rand(1, 1, 30, 50), network).shape
        torch.Size([1, 2, 30, 50])
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
        deviation: bool = False,
        authors_stride: bool = False,
        sw_device: torch.device | str | None = None,
        device: torch.device | str | None = None,
        cpu_thresh: int | None = 2**26,
        amp_dtype: str | None = None,
        channels_last: bool = True,
        progress: bool | Callable[[int, int], object] = False,
    ) -> None:
        super().__init__()
        check_choice("orientations", orientations, tuple(ORIENTATIONS))
        check_choice("average", average, ("scores", "probabilities"))
        if isinstance(memory_limit, str) and memory_limit != "auto":
            raise ValueError(f"memory_limit must be a number of bytes or 'auto', got {memory_limit!r}")
        if sw_batch_size is not None and sw_batch_size < 1:
            raise ValueError(f"sw_batch_size must be at least 1 tile, got {sw_batch_size}")
        if isinstance(tile_size, Sequence) and len(tile_size) != 2:
            raise ValueError(f"tile_size must be one length or (height, width), got {tuple(tile_size)}")
        check_choice("padding", padding, (None, *PADDINGS))
        check_choice("amp_dtype", amp_dtype, AMP_CHOICES)
        self.depth = depth
        self.padding = padding
        self.margin = margin
        self.tile_size = tile_size
        self.memory_limit = memory_limit
        self.sw_batch_size = sw_batch_size
        self.orientations = orientations
        self.average = average
        self.deviation = deviation and orientations > 1
        self.authors_stride = authors_stride
        self.sw_device = sw_device
        self.device = device
        self.cpu_thresh = cpu_thresh
        self.amp_dtype = amp_dtype
        self.channels_last = channels_last
        self.progress = progress
        self._most_pixels: int | None = None  # of a pass, after passes ran out of memory

    def __call__(self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        """Run the network over whole images, in the caller's gradient mode.

        Args:
            inputs: (B, C, H, W), floating point; on any device if `sw_device` is set, else on the network's device.
            network: any callable from tiles (N, C, height, width) to scores (N, K, ...): a module, also compiled,
                exported or in `DataParallel`.
            args, kwargs: further arguments of `network`.

        Returns:
            (B, K, H, W), float32 (float64 if the network returns float64), with the metadata of the inputs, if any. A
            dictionary with `deviation`.
        """
        if inputs.ndim != 4 or inputs.numel() == 0:
            raise ValueError(
                f"OverlapTileInferer expects images (B, C, H, W) of at least one pixel, got {tuple(inputs.shape)}. "
                "Channels come first; `EnsureChannelFirstd` adds a missing axis"
            )
        return self._infer(inputs, network, args, kwargs)

    def region(
        self,
        window: torch.Tensor,
        network: Callable[..., torch.Tensor],
        region: Region,
        at: Region,
        image_size: tuple[int, int],
    ) -> Any:
        """Segment a region of an image of which only a window is in memory.

        The result equals this region of the whole image's result, up to rounding. Needs tiles that step by multiples of
        2^depth, so no `authors_stride`.

        Args:
            window: (B, C, h, w), the pixels of the region and `context` pixels around, as far as the image goes.
            network: as in a call.
            region: the pixels wanted.
            at: the pixels of `window`.
            image_size: (H, W) of the whole image.

        Returns:
            As a call, for the region.

        Raises:
            ValueError: as in a call; the window lacks pixels, or `authors_stride`.

        Example:
            >>> from scripts.inferers import OverlapTileInferer, Region
            >>> from scripts.networks import RonnebergerUNet
            >>> network, inferer = RonnebergerUNet(features=(4, 8, 16)).eval(), OverlapTileInferer()
            >>> image = torch.rand(1, 1, 300, 50)
            >>> with torch.no_grad():
            ...     whole = inferer(image, network)
            ...     part = inferer.region(
            ...         image[:, :, :200], network, Region((0, 100), (0, 50)), Region((0, 200), (0, 50)), (300, 50)
            ...     )
            >>> torch.allclose(part, whole[:, :, :100], atol=1e-5)
            True
        """
        if self.authors_stride:
            raise ValueError("authors_stride shifts the pooling grid from tile to tile; regions need it off")
        context = self.context(network)
        for given, span, wanted, length in zip(window.shape[2:], at, region, image_size, strict=True):
            needed = (max(wanted[0] - context, 0), min(wanted[1] + context, length))
            if given != span[1] - span[0] or span[0] > needed[0] or span[1] < needed[1]:
                raise ValueError(
                    f"a window of {given} pixels at {span} does not hold the pixels {needed} of an axis of {length}, "
                    f"which the region {wanted} needs with a context of {context}"
                )
        return self._infer(window, network, (), {}, _Place(region, at, image_size))

    def context(self, network: Callable[..., torch.Tensor]) -> int:
        """Get the pixels around a region that `region` needs: 108 for the paper's network."""
        rule = self.tile_rule(network)
        return rule.margin + rule.step

    def _infer(
        self,
        inputs: torch.Tensor,
        network: Callable[..., torch.Tensor],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        place: _Place | None = None,
    ) -> Any:
        """Run the network over whole images, or over a region."""
        images = _plain(inputs)
        place = place or _Place.whole((images.shape[2], images.shape[3]))
        sw_device = torch.device(self.sw_device or images.device)
        amp_dtype = amp_dtype_of(self.amp_dtype, sw_device)
        rule = self.tile_rule(network)
        smallest = smallest_tile(place.region.shape, rule, self.tile_size, self.authors_stride)
        pixel_bytes = bytes_per_pixel(network, amp_dtype or images.dtype)

        def forward(tiles: torch.Tensor) -> torch.Tensor:
            with autocast(sw_device, amp_dtype):
                return network(tiles, *args, **kwargs)

        while True:
            batches = self._plan(images.shape, place, rule, smallest, pixel_bytes, sw_device)
            output, failed = self._stitch(images, place, forward, batches, rule, sw_device)
            if failed is None:
                break
            if sw_device.type == "cuda":
                torch.cuda.empty_cache()  # freed memory may lie in pieces too small for the next try
            self._most_pixels = smaller_pass(failed, rule, smallest, fixed=self.tile_size is not None)
        assert output is not None  # an image has a pixel, and therefore a tile
        if not self.deviation:
            return _like(inputs, self._scores(output))
        scores, moments = output[:, :-2], output[:, -2:]
        return {"pred": _like(inputs, self._scores(scores)), "deviation": _like(inputs, _deviation(moments))}

    def tile_rule(self, network: Callable) -> TileRule:
        """Read the geometry from the arguments, else from the network's attributes, else from the paper."""
        network = getattr(network, "module", network)  # DataParallel hides the attributes
        padding = self.padding
        if padding is None and getattr(network, "padding", None) == "same":
            padding = "same"
        padding = padding or ("retain_dim" if getattr(network, "retain_dim", False) else "valid")
        depth = getattr(network, "depth", 4) if self.depth is None else self.depth
        return TileRule(depth, padding, self.margin)

    def _plan(
        self,
        shape: torch.Size,
        place: _Place,
        rule: TileRule,
        smallest: tuple[int, int],
        pixel_bytes: int,
        sw_device: torch.device,
    ) -> list[TileBatch]:
        """Plan the forward passes for images (B, C, H, W) within the memory limit."""
        limit = free_memory(sw_device) // 2 if self.memory_limit == "auto" else int(self.memory_limit)
        max_pixels = limit // pixel_bytes
        at_once = self.sw_batch_size or (1 if sw_device.type == "cpu" else None)
        if self._most_pixels is not None:
            max_pixels = max(prod(smallest), min(max_pixels, self._most_pixels))
            at_once = at_once and min(at_once, max_pixels // prod(smallest))
        needed = (at_once or 1) * prod(smallest)
        if self.tile_size is None and needed > max_pixels:
            raise ValueError(
                f"memory_limit={limit} bytes is too small: a pass of {at_once or 1} of the smallest tile, "
                f"{smallest[0]} x {smallest[1]}, takes about {needed * pixel_bytes} bytes. Allow that much, or set "
                "tile_size"
            )
        whole = (*shape[:2], *place.image_size)
        limits = (self.tile_size, max_pixels, at_once)
        return plan_batches(whole, rule, *limits, self.orientations, self.authors_stride, place.region)

    def _stitch(
        self,
        images: torch.Tensor,
        place: _Place,
        forward: Callable[[torch.Tensor], torch.Tensor],
        batches: list[TileBatch],
        rule: TileRule,
        sw_device: torch.device,
    ) -> tuple[torch.Tensor | None, TileBatch | None]:
        """Sum the scores of all tiles. If a batch runs out of memory, free all memory and return the batch instead."""
        size = place.region.shape
        large = self.cpu_thresh is not None and prod(size) > self.cpu_thresh
        device = self.device or ("cpu" if large else images.device)
        output: torch.Tensor | None = None
        told = self.progress if callable(self.progress) else None
        total, finished = sum(len(batch.jobs) for batch in batches), 0
        with tqdm(total=total, unit="tile", disable=not self.progress or told is not None) as bar:
            for batch in batches:
                try:
                    tiles = _cut(images, batch, rule.margin, self.channels_last, place).to(sw_device)
                    scores = self._vote(_usable(forward(tiles), tiles, rule))
                    if output is None:
                        shape = (len(images), scores.shape[1], *size)
                        output = torch.zeros(shape, dtype=scores.dtype, device=device)
                    scores = scores.to(device)
                except RuntimeError as error:
                    if not ran_out_of_memory(error):
                        raise
                    return None, batch
                for job, part in zip(batch.jobs, scores, strict=True):
                    add_tile(output[job.image], part, job.orientation, *place.in_region(job))
                bar.update(len(batch.jobs))
                finished += len(batch.jobs)
                if told is not None:
                    told(finished, total)
        return output, None

    def _vote(self, scores: torch.Tensor) -> torch.Tensor:
        """Get the share of an orientation in the mean, from scores (N, K, H, W). Moments for `deviation` come last."""
        if self.orientations == 1:
            return scores
        votes = scores
        if self.average == "probabilities" or self.deviation:
            chances = scores.sigmoid() if scores.shape[1] == 1 else scores.softmax(dim=1)
            votes = chances if self.average == "probabilities" else scores
            if self.deviation:
                chance = chances[:, :2][:, -1:]  # of class 1
                votes = torch.cat([votes, chance, chance.square()], dim=1)
        return votes / self.orientations

    def _scores(self, mean: torch.Tensor) -> torch.Tensor:
        """Get scores from the sum of the votes of all orientations, in place if possible."""
        if self.orientations == 1 or self.average == "scores":
            return mean
        if mean.shape[1] == 1:
            return mean.logit(eps=torch.finfo(mean.dtype).eps)
        return mean.clamp_min_(torch.finfo(mean.dtype).tiny).log_()


class MixedPrecisionInferer(SimpleInferer):
    """Run a forward pass under `torch.autocast`, on a CPU or a GPU.

    For MONAI's `SupervisedTrainer`: the option `amp=True` there has an effect on CUDA only. bfloat16 needs no gradient
    scaler. In float16, gradients can underflow without a scaler.

    Args:
        amp_dtype: "auto", "bfloat16", "float16", or "float32" for no autocast; see `OverlapTileInferer`.
        channels_last: lay inputs out as channels-last. None: on devices with fast gradients in this layout, see
            `scripts.inferers.trains_in_channels_last`.

    Example:
        >>> inferer = MixedPrecisionInferer("bfloat16")
        >>> inferer(torch.rand(1, 1, 8, 8), torch.nn.Conv2d(1, 2, 3)).dtype
        torch.float32
    """

    def __init__(self, amp_dtype: str | None = "bfloat16", channels_last: bool | None = None) -> None:
        super().__init__()
        check_choice("amp_dtype", amp_dtype, AMP_CHOICES)
        self.amp_dtype = amp_dtype
        self.channels_last = channels_last

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Compute scores (B, K, ...) in float32 or wider, for a loss in full precision."""
        images = _plain(inputs)
        last = trains_in_channels_last(images.device) if self.channels_last is None else self.channels_last
        if last and images.ndim == 4:
            images = images.to(memory_format=torch.channels_last)
        with autocast(images.device, amp_dtype_of(self.amp_dtype, images.device)):
            scores = network(images, *args, **kwargs)
        return _like(inputs, at_least_single(scores))


class _Place(NamedTuple):
    """What is wanted of an image, and what is in memory."""

    region: Region  # wanted
    window: Region  # in memory
    image_size: tuple[int, int]  # (H, W)

    @classmethod
    def whole(cls, size: tuple[int, int]) -> _Place:
        everything = Region((0, size[0]), (0, size[1]))
        return cls(everything, everything, size)

    def in_region(self, job: TileJob) -> Tile:
        """Get the pixels of a tile counted from the region's first pixel, both in the turned image."""
        start = self.region.turned(job.orientation, self.image_size)
        spans = zip(job.tile, start, strict=True)
        return Tile(*((span[0] - first, span[1] - first) for span, (first, _) in spans))


def _cut(images: torch.Tensor, batch: TileBatch, margin: int, channels_last: bool, place: _Place) -> torch.Tensor:
    """Cut tiles (N, C, height, width) with mirrored context out of images (B, C, H, W), on the images' device."""
    tiles = torch.empty(
        (len(batch.jobs), images.shape[1], *batch.tile_size),
        dtype=images.dtype,
        device=images.device,
        # with a single channel both layouts are the same in memory, but convolutions choose by the strides
        memory_format=torch.channels_last if channels_last else torch.contiguous_format,
    )
    for tile, job in zip(tiles, batch.jobs, strict=True):
        start = (job.tile.rows[0] - margin, job.tile.columns[0] - margin)
        image = images[job.image]
        tile.copy_(cut_tile(image, job.orientation, start, batch.tile_size, place.window, place.image_size))
    return tiles


def _usable(scores: object, tiles: torch.Tensor, rule: TileRule) -> torch.Tensor:
    """Check the network's output, and cut out the usable part in float32 or wider."""
    if not isinstance(scores, torch.Tensor):
        raise TypeError(f"OverlapTileInferer expects a network that returns one tensor, got {type(scores).__name__}")
    height, width = tiles.shape[2:]
    expected = (len(tiles), rule.network_output(height), rule.network_output(width))
    if (scores.shape[0], *scores.shape[2:]) != expected:
        raise ValueError(
            f"for tiles {tuple(tiles.shape)} the network returned {tuple(scores.shape)}, but with depth={rule.depth} "
            f"and padding={rule.padding!r} the inferer expects ({expected[0]}, K, {expected[1]}, {expected[2]}). Set "
            "`depth` to the network's number of poolings, and `padding` to 'same' if the output is as large as the tile"
        )
    cut = 0 if rule.padding == "valid" else rule.margin
    return at_least_single(scores[:, :, cut : cut + rule.usable(height), cut : cut + rule.usable(width)])


def _deviation(moments: torch.Tensor) -> torch.Tensor:
    """Get standard deviations (B, 1, H, W) from means and means of squares (B, 2, H, W), in place."""
    mean, square = moments[:, :1], moments[:, 1:]
    return square.sub_(mean.square()).clamp_min_(0).sqrt_()


def _plain(inputs: torch.Tensor) -> torch.Tensor:
    """Remove metadata, to save time in every operation of the network."""
    return inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs


def _like(inputs: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """Copy the metadata of the inputs, if any, as MONAI's inferers do."""
    if isinstance(inputs, MetaTensor):
        return MetaTensor(output).copy_meta_from(inputs, copy_attr=False)
    return output
