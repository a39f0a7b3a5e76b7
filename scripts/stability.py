"""Keep a training without normalisation layers on its feet: clip gradients, and stop where the loss is lost."""

from __future__ import annotations

import math

import torch
from ignite.engine import Engine, Events
from monai.engines import IterationEvents, Trainer
from torch import nn

from scripts.progress import loss_of


class ClipGradients:
    """Scale the gradient of every step down to a norm of at most `max_norm`.

    Ours: the paper says nothing of it. Momentum 0.99 adds up a hundred steps, so that one tile with an exceptional
    gradient can undo a training.

    Args:
        network: whose gradients are clipped.
        max_norm: largest Euclidean norm of all gradients together; 0: leave them as they are.

    Raises:
        ValueError: a negative `max_norm`.
    """

    def __init__(self, network: nn.Module, max_norm: float) -> None:
        if max_norm < 0:
            raise ValueError(f"max_norm must be positive, or 0 for no clipping, got {max_norm}")
        self.network = network
        self.max_norm = max_norm

    def attach(self, trainer: Trainer) -> None:
        """Clip between the backward pass and the step of the optimiser."""
        if self.max_norm > 0:
            trainer.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, _: Engine) -> None:
        """Clip the gradients as they are now."""
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.max_norm)


class StopOnDivergence:
    """End a training whose loss is no longer a number, instead of wasting hours on it.

    A loss on a GPU is read every 20 iterations and at the end of an epoch, because reading it waits for the GPU. A loss
    that is NaN stays NaN, so that nothing is missed.

    Raises:
        RuntimeError: with the iteration, the learning rate, and what to do.
    """

    def attach(self, trainer: Trainer) -> None:
        """Look at the loss after every iteration."""
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._judge)  # before anything is saved

    def __call__(self, trainer: Engine) -> None:
        """Look at the loss of the iteration just done."""
        on_gpu = getattr(loss_of(trainer.state.output), "is_cuda", False)
        if not on_gpu or trainer.state.iteration % 20 == 0:
            self._judge(trainer)

    def _judge(self, trainer: Engine) -> None:
        loss = loss_of(trainer.state.output)
        loss = float("nan") if loss is None else float(loss)
        if not math.isfinite(loss):
            rate = trainer.optimizer.param_groups[0]["lr"]  # type: ignore[attr-defined]  # of MONAI's trainers
            raise RuntimeError(
                f"the loss is {loss} in iteration {trainer.state.iteration} at a learning rate of {rate:.3g}: lower "
                "learning_rate or max_gradient_norm, or raise warmup_iterations; the best weights so far are kept"
            )
