"""What was tried to make a training step and an image faster, each trial beside what is used.

    python -m benchmarks.trials step [--repeats 5]
    python -m benchmarks.trials image [--repeats 5]

Trials take turns in one run; a ratio is the median of the rounds' own ratios to what is used. Prints Markdown.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple
from unittest.mock import patch

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from benchmarks.inference import image, networks, tile_by_tile
from benchmarks.measure import Setup, Way, take_turns, threads
from benchmarks.step import LEARNING_RATE, MOMENTUM, PlainStep, Step, center_slice, network, tile
from scripts.inferers import OverlapTileInferer
from scripts.memory import keep_freed_memory

KEPT = "the same, freed memory kept: as used in a run"


class Trial(NamedTuple):
    """One way to do the work.

    Attributes:
        run: does it.
        before: what to do before each turn, outside of its time.
        tiles: how many of the others' pieces of work it does at once.
    """

    run: Way
    before: Way
    tiles: int = 1


def step_trials(setup: Setup, size: int = 572) -> dict[str, Trial]:
    """Training steps; the first is the one that is used."""
    x, target = tile(size, setup.device)

    def step(amp_dtype: str = "bfloat16", channels_last: bool = True, batch: int = 1) -> Step:
        inputs = (x, target) if batch == 1 else tile(size, setup.device, batch)
        made = Step(network(setup, channels_last), *inputs, amp_dtype)
        made.inferer.channels_last = channels_last
        return made

    def with_optimizer(**options: bool) -> Step:
        made = step()
        weights = made.network.parameters()
        made.optimizer = torch.optim.SGD(weights, lr=LEARNING_RATE, momentum=MOMENTUM, **options)
        return made

    def compiled(mode: str | None) -> Step:
        made = step()
        made.network = torch.compile(made.network, mode=mode)  # type: ignore[assignment]  # as good as one
        return made

    def checkpointed() -> Step:
        made = step()
        for stage in (*made.network.contracting, *made.network.expansive):
            stage.forward = partial(checkpoint, stage.forward, use_reentrant=False)
        return made

    def without_dropout() -> Step:
        made = step()
        for module in made.network.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        return made

    def without_loss() -> Step:
        made = step()
        made.loss = lambda scores, _: scores.mean()  # type: ignore[assignment]
        return made

    bfloat16 = network(setup, channels_last=True).to(torch.bfloat16)
    x_last = x.to(torch.bfloat16, memory_format=torch.channels_last)
    used = step()
    steps: dict[str, Way] = {
        "as used: bfloat16 autocast, channels-last": used,
        "without dropout, to see its price": without_dropout(),
        "mean of the scores as the loss, to see the price of ours": without_loss(),
        "NCHW": step(channels_last=False),
        "float32": step("float32"),
        "float32, NCHW": step("float32", channels_last=False),
        "weights in bfloat16, no autocast": PlainStep(bfloat16, x_last, target.to(torch.bfloat16)),
        "fused optimiser": with_optimizer(fused=True),
        "optimiser weight by weight": with_optimizer(foreach=False),
        "activation checkpointing": checkpointed(),
        "torch.compile": compiled(None),
        "torch.compile, max-autotune": compiled("max-autotune"),
    }
    trials = {name: Trial(run, partial(_keeping, run)) for name, run in steps.items()}
    baseline = "float32, NCHW, eager, slices, memory given back (the baseline)"
    trials[baseline] = Trial(
        PlainStep(network(setup, channels_last=False), x, target), partial(keep_freed_memory, False)
    )
    trials["freed memory given back to the system"] = Trial(used, partial(keep_freed_memory, False))
    slices = sliced(used)
    trials["skips cropped by slices"] = Trial(slices, partial(_keeping, slices))
    for batch in (2, 4):
        several = step(batch=batch)
        trials[f"{batch} tiles a step"] = Trial(several, partial(_keeping, several), batch)
    one_thread = on_threads(1, used)
    trials["one thread"] = Trial(one_thread, partial(_keeping, one_thread))
    return trials


def image_trials(setup: Setup, size: int = 512) -> dict[str, Trial]:
    """One image, by tile size, batch, layout and precision; the first is what is used, but for kept memory."""
    last, plain = networks(setup)
    x = image(size, setup.device)

    def segment(net: nn.Module = last, **options: object) -> Way:
        inferer = OverlapTileInferer(**{"amp_dtype": "bfloat16", **options})  # type: ignore[arg-type]
        return partial(inferer, x, net)

    in_bfloat16 = networks(setup)[0].to(torch.bfloat16)
    ways: dict[str, Way] = {
        "least work, bfloat16 autocast, channels-last": segment(),
        "tiles of 572, four at once": segment(tile_size=572),
        "tiles of 572, one by one": segment(tile_size=572, sw_batch_size=1),
        "tiles of 444, one by one": segment(tile_size=444, sw_batch_size=1),
        "NCHW": segment(plain, channels_last=False),
        "channels-last tiles, NCHW weights": segment(plain),
        "float32": segment(amp_dtype="float32"),
        "float32, NCHW": segment(plain, amp_dtype="float32", channels_last=False),
        "float16 autocast": segment(amp_dtype="float16"),
        "weights in bfloat16, no autocast": partial(OverlapTileInferer(), x.to(torch.bfloat16), in_bfloat16),
        "tiles of 572, one by one, float32, NCHW (the baseline)": partial(tile_by_tile, x, plain),
        KEPT: segment(),
        "one thread": on_threads(1, segment()),
    }
    return {name: Trial(run, partial(keep_freed_memory, name == KEPT)) for name, run in ways.items()}


def _keeping(run: Way) -> None:
    """Into the state of a training under way: memory is kept from a step before."""
    keep_freed_memory(True)
    run()


def sliced(step: Way) -> Way:
    """With skips that are cropped by slices, as most implementations do it."""

    def run() -> None:
        with patch("scripts.networks.center_crop", center_slice):
            step()

    return run


def on_threads(count: int, run: Way) -> Way:
    """With as many threads of torch, others afterwards as before."""

    def limited() -> None:
        with threads(count):
            run()

    return limited


KINDS: Mapping[str, Callable[[Setup], dict[str, Trial]]] = {"step": step_trials, "image": image_trials}


def table(trials: Mapping[str, Trial], repeats: int) -> str:
    """Markdown: seconds a tile (or image), and how many times as fast as what is used."""
    times = take_turns(
        {name: trial.run for name, trial in trials.items()},
        repeats,
        before={name: trial.before for name, trial in trials.items()},
    )
    each = {name: [second / trials[name].tiles for second in seconds] for name, seconds in times.items()}
    used = next(iter(each.values()))
    lines = ["| trial | seconds | times as fast as the first |", "|---|---|---|"]
    for name, seconds in each.items():
        ratios = [one / other for one, other in zip(used, seconds, strict=True)]
        lines.append(
            f"| {name} | {median(seconds):.3g} | {median(ratios):.2f} ({min(ratios):.2f} .. {max(ratios):.2f}) |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run the trials of one kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--quick", action="store_true", help="a small network, to see that all of it runs")
    arguments = parser.parse_args()
    setup = Setup(arguments.repeats, arguments.device, None, Path(), arguments.quick)
    if arguments.kind == "image":
        with torch.inference_mode():
            print(table(image_trials(setup), arguments.repeats))
    else:
        print(table(step_trials(setup), arguments.repeats))


if __name__ == "__main__":
    main()
