"""Locks of folders, with real processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from scripts.io.files import remove_leftovers
from scripts.io.locks import FolderInUseError, FolderLock

ROOT = Path(__file__).resolve().parents[3]
HOLDING = "import sys, time; from scripts.io.locks import FolderLock; FolderLock(sys.argv[1]).acquire(); {then}"

CONTAINER = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"]


def process(folder: Path, then: str) -> subprocess.Popen[str]:
    """Start a process that locks a folder and goes on with `then`. Return after its first line of output."""
    command = [sys.executable, "-c", HOLDING.format(then=then), str(folder)]
    started = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    with started.stdout as lines:
        assert lines.readline() == "locked\n"
    return started


def write_lock(folder: Path, **content: object) -> Path:
    path = folder / ".lock"
    path.write_text(json.dumps(content))
    return path


def ended_process() -> int:
    ended = subprocess.Popen(["true"])
    ended.wait()
    return ended.pid


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path):
    first = process(tmp_path, "print('locked', flush=True); time.sleep(600)")
    with pytest.raises(
        FolderInUseError, match=rf"{tmp_path}.*process {first.pid}.*{socket.gethostname()}.*since.*model_dir"
    ):
        FolderLock(tmp_path, key="model_dir").acquire()
    first.send_signal(signal.SIGKILL)
    first.wait()
    with FolderLock(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("end", ["", "raise ValueError"])
def test_a_process_frees_its_folders_at_its_end(end, tmp_path):
    process(tmp_path, f"print('locked', flush=True); sys.stderr = open('/dev/null', 'w'); {end}").wait()
    assert list(tmp_path.iterdir()) == []


def test_locks_of_one_process_share_a_folder_until_the_last_is_released(tmp_path):
    first, second = FolderLock(tmp_path).acquire(), FolderLock(tmp_path / ".").acquire()
    first.release()
    first.release()
    assert (tmp_path / ".lock").is_file()
    second.release()
    assert not (tmp_path / ".lock").exists()


@pytest.mark.parametrize(
    "content",
    [
        {"pid": ended_process(), "host": socket.gethostname()},
        {"pid": os.getppid(), "start": 1, "host": socket.gethostname()},  # the number was used again
        {"pid": -1, "host": socket.gethostname()},
        {},
        [1],
    ],
)
def test_a_lock_of_no_living_process_is_taken_over(content, tmp_path):
    (tmp_path / ".lock").write_text(json.dumps(content))
    with FolderLock(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The content of the lock of a living process."""
    first = process(tmp_path, "print('locked', flush=True); time.sleep(600)")
    yield json.loads((tmp_path / ".lock").read_text())
    first.kill()
    first.wait()


def test_a_change_of_the_clock_does_not_end_a_lock(running, tmp_path, monkeypatch):
    began = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: began(self) + 3600)
    with pytest.raises(FolderInUseError, match=f"process {running['pid']}"):
        FolderLock(tmp_path).acquire()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="boots and containers are told apart on Linux")
def test_a_lock_from_before_a_reboot_is_taken_over(running, tmp_path):
    write_lock(tmp_path, **(running | {"boot": "another"}))
    with FolderLock(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()


def test_a_process_in_another_container_of_the_computer_keeps_lock_and_temporary_files(tmp_path):
    try:
        subprocess.run([*CONTAINER, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this system allows no PID namespaces")
    then = "from scripts.io.files import temporary_path; temporary_path(Path(sys.argv[1], 'a.png')).touch(); "
    then += "print('locked', flush=True); time.sleep(600)"
    program = f"from pathlib import Path; {HOLDING.format(then=then)}"
    command = [*CONTAINER, sys.executable, "-c", program, str(tmp_path)]
    other = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        holder = json.loads((tmp_path / ".lock").read_text())
        (temporary,) = tmp_path.glob(".tmp-*")
        with pytest.raises(FolderInUseError, match=rf"process {holder['pid']} .*delete {tmp_path / '.lock'}"):
            FolderLock(tmp_path).acquire()
        assert remove_leftovers(tmp_path) == []
        assert temporary.exists()
    finally:
        other.kill()
        other.communicate()


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"\xff{"])
def test_a_damaged_lock_is_taken_over(content, tmp_path):
    (tmp_path / ".lock").write_bytes(content)
    with FolderLock(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()


def test_a_lock_of_another_computer_is_refused_with_the_file_to_delete(tmp_path):
    path = write_lock(tmp_path, pid=7, host="elsewhere", started="today", command="train\x1b[2J")
    with pytest.raises(FolderInUseError, match=rf"process 7.*elsewhere.*delete {path}") as refused:
        FolderLock(tmp_path).acquire()
    assert "\x1b" not in str(refused.value)
    assert json.loads(path.read_text())["pid"] == 7


@pytest.mark.parametrize(("job", "restart", "free"), [("7", 1, True), ("7", 0, False), ("8", 1, False)])
def test_a_requeued_slurm_job_takes_over_the_lock_of_its_earlier_start_on_another_computer(
    job, restart, free, tmp_path, monkeypatch
):
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "big")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with FolderLock(tmp_path):
        holder = json.loads((tmp_path / ".lock").read_text())
    write_lock(tmp_path, **(holder | {"host": "elsewhere", "machine": "another"}))
    monkeypatch.setenv("SLURM_JOB_ID", job)
    monkeypatch.setenv("SLURM_RESTART_COUNT", str(restart))
    if free:
        FolderLock(tmp_path).acquire().release()
    else:
        with pytest.raises(FolderInUseError, match=rf"elsewhere.*delete {tmp_path / '.lock'}"):
            FolderLock(tmp_path).acquire()


def test_without_hard_links_one_of_two_processes_gets_the_folder(tmp_path, monkeypatch):
    """As on FAT and some network file systems. Another process locks between the look and the writing."""

    def no_links(_, target):
        Path(target).write_text(json.dumps({"pid": 7, "host": "elsewhere"}))
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(FolderInUseError, match=r"process 7.*elsewhere"):
        FolderLock(tmp_path).acquire()
    assert json.loads((tmp_path / ".lock").read_text())["pid"] == 7


def test_a_lock_of_another_process_is_never_deleted(tmp_path):
    lock = FolderLock(tmp_path).acquire()
    path = write_lock(tmp_path, pid=7, host="elsewhere")
    lock.release()
    assert path.is_file()
