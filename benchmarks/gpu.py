"""Measure a GPU: its rate of matrix products, tiles/s in training and inference, seconds of whole images.

Baseline: NVIDIA's published figures of UNet_Medical, 572 -> 388 on one A100
(https://github.com/NVIDIA/DeepLearningExamples, TensorFlow2 Segmentation UNet_Medical, "Performance"). Limit: products
of large matrices with as many operations, in the same precision on this GPU.

Without a GPU only `quick` gives rows. The most important rows come first, since `Setup.seconds` leaves out the last
rows. A row that fails (no memory, no compiler for `torch.compile`) has the reason, and the next row runs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from statistics import median

import torch

from benchmarks.gpu_timing import Trial, isolated, matrix_size, peak_gib, reset_peak, rounds, warm_up
from benchmarks.gpu_work import Choice, forward_pass, tile_operations, training_step
from benchmarks.inference import image, networks, operations_on, tiles_seen
from benchmarks.measure import Goal, MatrixProducts, Row, Setup, Times, seconds
from scripts.inferers.overlap_tile import OverlapTileInferer

TRAINING, INFERENCE = "training step", "forward pass"
A100 = {  # tiles/s of NVIDIA's UNet_Medical, by work, batch and precision
    TRAINING: {(1, "TF32"): 29.6, (8, "TF32"): 46.3, (1, "bfloat16"): 62.5, (8, "bfloat16"): 119.0},
    INFERENCE: {(1, "bfloat16"): 283.0, (16, "bfloat16"): 424.0},
}
DATA_SHEET = {  # TFLOP/s without sparsity, from NVIDIA's data sheets
    "H100": {"float32": 67.0, "TF32": 494.5, "float16": 989.5, "bfloat16": 989.5},
    "H200": {"float32": 67.0, "TF32": 494.5, "float16": 989.5, "bfloat16": 989.5},
    "A100": {"float32": 19.5, "TF32": 156.0, "float16": 312.0, "bfloat16": 312.0},
}
SHARE = {TRAINING: 0.50, INFERENCE: 0.60}  # goal in bfloat16: share of the rate of matrix products


def rows(setup: Setup) -> Iterator[Row]:
    """Measure every trial. Trials that would end after `setup.seconds` are named and left out."""
    start = time.monotonic()
    on_gpu = setup.device.type == "cuda"
    if not on_gpu and not setup.quick:
        return
    with torch.cuda.device(setup.device) if on_gpu else nullcontext():
        for trial in trials(setup):
            spent = time.monotonic() - start
            if setup.seconds is not None and spent + trial.cost > setup.seconds:
                yield Row(trial.what, Times(f"left out: {spent:.0f} of {setup.seconds:g} s were spent", []))
            else:
                yield isolated(trial)


def trials(setup: Setup) -> Iterator[Trial]:
    """List the rows to measure, the most important first.

    The order: main figures, whole images, ways to be faster, compilers, wider precisions.
    """
    gpu = setup.device.type == "cuda"
    large = (2, 2) if setup.quick else (8, 16)
    main = [replace(Choice(), batch=batch) for batch in dict.fromkeys((1, *large))]
    many, one = Choice(batch=large[0]), Choice(batch=1)
    for precision in ("float32", "TF32", "float16", "bfloat16"):
        yield _products_trial(setup, precision)
    for work in (INFERENCE, TRAINING):
        yield from (_tiles_trial(setup, work, choice) for choice in main)
    sizes = (128, 400) if setup.quick else (512, 2048, 8192)
    yield from (_image_trial(setup, size, 3 * 2**30) for size in sizes)
    yield _image_trial(setup, sizes[-1], 3 * 2**30, on_cpu=True)
    yield from (_image_trial(setup, size, "auto") for size in sizes[:-1])
    if gpu:
        yield from (_tiles_trial(setup, work, replace(c, graph=True)) for work in SHARE for c in (one, many))
    for choice in (many, one):
        yield _tiles_trial(setup, INFERENCE, replace(choice, half_weights=True))
        if gpu:
            yield _tiles_trial(setup, INFERENCE, replace(choice, half_weights=True, graph=True))
            yield _tiles_trial(setup, INFERENCE, replace(choice, fused=True))
    for work in (INFERENCE, TRAINING):
        yield _tiles_trial(setup, work, replace(many, channels_last=False))
        yield _tiles_trial(setup, work, replace(many, search=True), 8)
    yield _tiles_trial(setup, TRAINING, replace(many, deterministic=True))
    yield _tiles_trial(setup, TRAINING, replace(many, optimizer="AdamW"))
    if gpu:
        yield _tiles_trial(setup, INFERENCE, replace(many, compiled="default"), 40)
        yield _tiles_trial(setup, TRAINING, replace(many, compiled="default"), 50)
    for precision in ("TF32", "float32"):
        for work in (INFERENCE, TRAINING):
            yield from (_tiles_trial(setup, work, replace(choice, precision=precision), 4) for choice in main)
    if gpu:
        yield _tiles_trial(setup, INFERENCE, replace(one, compiled="reduce-overhead"), 30)
        yield _tiles_trial(setup, INFERENCE, replace(one, compiled="default"), 30)
        yield _tiles_trial(setup, TRAINING, replace(one, compiled="default"), 40)
        for batch in dict.fromkeys(large[1:]):
            yield _tiles_trial(setup, INFERENCE, replace(many, batch=batch, compiled="default"), 30)
            yield _tiles_trial(setup, TRAINING, replace(many, batch=batch, compiled="default"), 40)
        yield _tiles_trial(setup, INFERENCE, replace(many, compiled="default", half_weights=True), 30)
    # last: a tensor of more than 2^31 values may make the GPU unusable for this process
    yield _image_trial(setup, sizes[-1], "auto")


def _products_trial(setup: Setup, precision: str) -> Trial:
    size = matrix_size(setup)
    what = f"matrix product, {size} x {size}, {precision}"
    choice = Choice(precision=precision)
    dtype = getattr(torch, precision, torch.float32)

    def measure() -> Row:
        products = MatrixProducts(dtype, setup.device, size)
        times = rounds(setup, {"products": products})["products"]
        name = torch.cuda.get_device_name(setup.device) if setup.device.type == "cuda" else ""
        sheet = next((rates[precision] for gpu, rates in DATA_SHEET.items() if gpu in name), None)
        rate = products.operations / median(times) / 1e12
        return Row(
            what,
            Times("torch.mm", times),
            limit=None if sheet is None else Times("data sheet", [products.operations / sheet / 1e12] * len(times)),
            note=f"{rate:.4g} TFLOP/s",
            figures={"tflops": rate},
        )

    return Trial(what, 2, choice, measure)


def _tiles_trial(setup: Setup, work: str, choice: Choice, cost: float = 3) -> Trial:
    size = 188 if setup.quick else 572
    what = f"{work}, tiles of {size}, batch {choice.batch}, {choice.precision}, {choice.name}"

    def measure() -> Row:
        at_first = time.perf_counter()
        make = training_step if work == TRAINING else forward_pass
        before = reset_peak(setup)
        run = make(setup, choice, size)
        first = seconds(run)
        built = time.perf_counter() - at_first
        warm_up(setup, run)
        peak = peak_gib(setup, before)
        products = MatrixProducts(choice.matrix_dtype, setup.device, matrix_size(setup))
        times = rounds(setup, {"ours": run, "products": products})
        ours = [second / choice.batch for second in times["ours"]]
        published = A100[work].get((choice.batch, choice.precision))
        goals = (() if published is None else (Goal("times", 1.0),)) + (
            (Goal("share", SHARE[work]),) if choice.precision == "bfloat16" else ()
        )
        rate = 1 / median(ours)
        notes = [f"{rate:.4g} tiles/s", *([f"{peak:.3g} GiB"] if peak else [])]
        notes += [f"ready after {built:.3g} s"] if choice.compiled or choice.search or choice.graph else []
        return Row(
            what,
            Times("a tile", ours),
            None
            if published is None
            else Times("NVIDIA's UNet_Medical on an A100, as published", [1 / published] * len(ours)),
            products.limit(times["products"], tile_operations(setup, size, work == TRAINING)),
            goals,
            "; ".join(notes),
            {"tiles_per_second": rate, "peak_gib": peak, "seconds_until_ready": built, "first_seconds": first},
        )

    return Trial(what, cost, choice, measure)


def _image_trial(setup: Setup, size: int, memory_limit: int | str, on_cpu: bool = False) -> Trial:
    limit_name = memory_limit if isinstance(memory_limit, str) else f"{memory_limit / 2**30:g} GiB"
    where = ", stitched on the CPU" if on_cpu else ""
    what = f"image of {size} x {size}, bfloat16, memory_limit {limit_name}{where}"

    @torch.no_grad()
    def measure() -> Row:
        net, x = networks(setup)[0], image(size, setup.device)
        inferer = OverlapTileInferer(
            amp_dtype="bfloat16", memory_limit=memory_limit, cpu_thresh=size**2 - 1 if on_cpu else None
        )
        before = reset_peak(setup)
        with tiles_seen(net) as shapes:
            inferer(x, net)
        peak, shapes = peak_gib(setup, before), list(shapes)
        notes = [f"{len(shapes)} passes, the first of {shapes[0][0]} x {shapes[0][2]} x {shapes[0][3]}"]
        if memory_limit == "auto":  # a library may silently fail on very large tensors
            expected = OverlapTileInferer(amp_dtype="bfloat16", cpu_thresh=None)(x, net)
            difference = float((inferer(x, net) - expected).norm() / expected.norm())
            notes.append(f"differs from 3 GiB by {difference:.2g} of the norm")
            del expected
        products = MatrixProducts(torch.bfloat16, setup.device, matrix_size(setup))
        times = rounds(setup, {"ours": partial(inferer, x, net), "products": products})
        pixels = max(shape[0] * shape[2] * shape[3] for shape in shapes)
        notes += [f"{peak:.3g} GiB, {peak * 2**30 / pixels:.0f} bytes for a pixel of the largest pass"] if peak else []
        return Row(
            what,
            Times("OverlapTileInferer", times["ours"]),
            limit=products.limit(times["products"], operations_on(shapes, setup.features)),
            note="; ".join([f"{size**2 / 1e6 / median(times['ours']):.3g} megapixels/s", *notes]),
            figures={"peak_gib": peak, "passes": len(shapes), "pixels_of_largest_pass": pixels},
        )

    return Trial(what, 2 + 8 * (size / 8192) ** 2, Choice(), measure)
