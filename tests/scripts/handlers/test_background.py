"""One job beside the main thread: in order, complete, and no error lost."""

from __future__ import annotations

import threading

import pytest

from scripts.handlers.segmentation import Background


def fail() -> None:
    raise ValueError("broken")


def test_a_job_runs_beside_the_main_thread_and_the_next_waits_for_it() -> None:
    background, go, done = Background(), threading.Event(), []
    background.do(lambda: done.append(go.wait(60)))
    assert done == []  # the main thread goes on
    go.set()
    background.do(lambda: done.append(threading.current_thread() is not threading.main_thread()))
    background.wait()
    assert done == [True, True]


def test_an_error_is_raised_once_by_whoever_waits_first() -> None:
    background, done = Background(), []
    background.do(fail)
    with pytest.raises(ValueError, match="broken"):
        background.do(done.append, 1)
    assert done == []
    background.do(done.append, 2)
    background.wait()
    assert done == [2]
    background.do(fail)
    with pytest.raises(ValueError, match="broken"):
        background.wait()
    background.wait()


def test_closing_lets_the_job_at_work_end() -> None:
    background, go, done = Background(), threading.Event(), []
    background.do(lambda: done.append(go.wait(60)))
    threading.Timer(0.05, go.set).start()
    background.close()
    assert done == [True]
