"""Work done beside the main thread, so that writing one image's results takes no time from computing the next."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class Background:
    """One thread that does one job at a time, in the order in which they are given.

    No job waits in a queue: giving the next one waits for the one before, so that at most the data of one job are kept
    and its error is known before the next begins. An error is kept for `wait`, never lost.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="background")
        self._job: Future[None] | None = None

    def wait(self) -> None:
        """Wait for the job at work, if there is one, and raise what it raised."""
        job, self._job = self._job, None
        if job is not None:
            job.result()

    def do(self, job: Callable[..., None], *args: Any) -> None:
        """Wait for the job before, and begin this one; raises what the one before raised, and does not begin then."""
        self.wait()
        self._job = self._thread.submit(job, *args)

    def close(self) -> None:
        """Let the job at work end, and the thread; an error of that job that nobody waited for is dropped."""
        self._thread.shutdown(wait=True)
        self._job = None
