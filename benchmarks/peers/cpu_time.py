"""Time limit of our trainings by the clock of the other programs."""

from __future__ import annotations

import time

from scripts.handlers.time_limit import TimeLimit


class CpuTimeLimit(TimeLimit):
    """End a training after minutes of computing in this process. Data loaders must have no processes of their own.

    Example:
        >>> CpuTimeLimit(max_minutes=10, lr_scheduler=None).seconds_left
        600.0
    """

    clock = staticmethod(time.process_time)
