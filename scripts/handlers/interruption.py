"""End a run after Ctrl-C or SIGTERM. A training ends its current step and saves its state first.

SIGTERM comes from `docker stop`, from clusters at the end of the time (SLURM) and from `kill`.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from monai.engines import Evaluator, Trainer

from ..ranks import has_lost

SIGNALS = (signal.SIGINT, signal.SIGTERM)
AGREED_EVERY = 20  # iterations between two agreements of processes on GPUs. Each agreement waits for the GPU
NOTICE = b"\nstopping: the current step ends, then the state is saved. The same signal again stops at once\n"


class Interrupted(KeyboardInterrupt, SystemExit):
    """A signal ended the run. Code for Ctrl-C catches it; else Python ends with exit code 130 or 143, without a trace.

    Args:
        number: of the signal.

    Example:
        >>> import signal
        >>> str(Interrupted(signal.SIGTERM)), Interrupted(signal.SIGTERM).code
        ('interrupted by SIGTERM', 143)
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.code = 128 + number
        self.signal = signal.Signals(number)

    def __str__(self) -> str:
        return f"interrupted by {self.signal.name}"


def end_on_signals() -> None:
    """Raise `Interrupted` at Ctrl-C and at SIGTERM, so that runs close their files. Outside the main thread: no effect.

    Example, in a configuration::

        signals: {_target_: scripts.handlers.end_on_signals}
        initialize: ["@signals"]
    """
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, for example
                signal.signal(number, _end)


def _end(number: int, _: FrameType | None) -> None:
    raise Interrupted(number)


def at_error(engine: Engine, function: Callable[..., Any], *args: Any) -> None:
    """Call `function(engine, error, *args)` when a run ends by an error. The error is raised afterwards.

    ignite raises an error only if no handler waits for the error. Else raising is up to the handlers.

    Example:
        >>> from ignite.engine import Engine
        >>> engine = Engine(lambda *_: 1 / 0)
        >>> at_error(engine, lambda engine, error: print(error))
        >>> engine.run([0])
        Traceback (most recent call last):
        ZeroDivisionError: division by zero
    """
    if engine.has_event_handler(_raise, Events.EXCEPTION_RAISED):
        engine.remove_event_handler(_raise, Events.EXCEPTION_RAISED)
    engine.add_event_handler(Events.EXCEPTION_RAISED, function, *args)
    engine.add_event_handler(Events.EXCEPTION_RAISED, _raise)


def _raise(_: Engine, error: BaseException) -> None:
    raise error


class Interruption:
    """Stop a training between two steps after Ctrl-C or SIGTERM, so that a resumed training equals one never stopped.

    A validation stops at once and is made up for when the training is resumed. A second signal stops everything at
    once, without saving. Several processes stop after the same step: all read the signals of all every step, on GPUs
    every 20 steps, and complete a validation. After the loss of a process, the others stop at once. Place after
    `TrainingState`, which saves the state meanwhile.

    Args:
        evaluator: the validating engine. None: no validation.
    """

    def __init__(self, evaluator: Evaluator | None = None) -> None:
        self.evaluator = evaluator
        self.asked = 0  # number of the signal
        self._before: dict[int, Any] = {}  # signal -> its action before the training

    def attach(self, trainer: Trainer) -> None:
        """Follow a trainer and its validations."""
        trainer.add_event_handler(Events.STARTED, self._wait_for_signals)
        trainer.add_event_handler(Events.GET_BATCH_STARTED, self._stop)
        trainer.add_event_handler(Events.INTERRUPT, self._end)
        trainer.add_event_handler(Events.COMPLETED, self._completed)
        at_error(trainer, self._restore)
        if self.evaluator is not None:
            self.evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._stop_validation)

    def _wait_for_signals(self, _: Engine) -> None:
        self.asked = 0
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._ask)

    def _ask(self, number: int, _: FrameType | None) -> None:
        if self.asked or has_lost():
            raise Interrupted(number)
        self.asked = number
        if idist.get_rank() == 0:
            os.write(2, NOTICE)  # print is not allowed to interrupt itself

    def _stop(self, trainer: Engine) -> None:
        """Stop between two steps."""
        if idist.get_world_size() > 1:
            if idist.backend() != "gloo" and trainer.state.iteration % AGREED_EVERY:
                return
            told: Any = idist.all_reduce(self.asked, "MAX")
            self.asked = int(told)
        if self.asked:
            trainer.interrupt()

    def _stop_validation(self, evaluator: Engine) -> None:
        if self.asked and idist.get_world_size() == 1:
            evaluator.terminate(skip_completed=True)

    def _end(self, _: Engine) -> None:
        raise Interrupted(self.asked or signal.SIGINT)

    def _completed(self, trainer: Engine) -> None:
        self._restore()
        if self.asked and getattr(trainer.state, "validation_due", False):
            raise Interrupted(self.asked)

    def _restore(self, *_: Any) -> None:
        while self._before:
            number, before = self._before.popitem()
            signal.signal(number, signal.SIG_DFL if before is None else before)  # None: set by a program in C
