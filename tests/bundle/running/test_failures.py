"""The message after a failed workflow: the cause under MONAI's wrappers, out of memory, worker processes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser
from torch._utils import ExceptionWrapper

from bundle.running.failures import explain
from scripts.engines import FolderErrors
from scripts.failures import explain_failures


def raised_from(error: Exception, cause: Exception) -> Exception:
    """Raise `error` from `cause` and return `error`."""
    try:
        try:
            raise cause
        except type(cause) as first:
            raise error from first
    except type(error) as second:
        return second


def test_a_message_raised_from_another_error_is_not_replaced_by_it() -> None:
    error = raised_from(ValueError("no images in dataset_dir; set it to a folder with images/"), FileNotFoundError("x"))
    wrapped = raised_from(RuntimeError("Failed to instantiate component 'scripts.data.find_pairs'"), error)
    assert explain(wrapped) == "no images in dataset_dir; set it to a folder with images/"


def failure_of(config: dict[str, Any], cause: BaseException) -> BaseException:
    """Run a configuration whose key `run` raises `cause`. Returns MONAI's error around it."""

    def fail() -> None:
        raise cause

    with pytest.raises((type(cause), RuntimeError)) as raised:
        ConfigParser({**config, "fail": fail, "part": "$@fail()"}).get_parsed_content("part")
    return raised.value


@pytest.mark.parametrize(
    "text, config, told",
    [
        (
            "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.10 GiB",
            {"batch_size": 16, "input_size": 572},
            ["2.50 GiB", "batch_size (16)", "input_size (572)"],
        ),
        ("", {}, ["GPU", "memory_limit"]),
    ],
)
def test_a_gpu_without_memory_left_is_one_message_with_the_settings_to_lower(
    text: str, config: dict[str, Any], told: list[str]
) -> None:
    message = explain(failure_of(config, torch.OutOfMemoryError(text)))
    assert all(part in message for part in ["in 'part'", *told])


@pytest.mark.parametrize(
    "error, told",
    [
        (
            RuntimeError("unable to open shared memory object </torch_7_9> in read-write mode"),
            ["/dev/shm", "num_workers to 0"],
        ),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. "), ["/dev/shm", "num_workers to 0"]),
        (RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"), ["memory", "num_workers"]),
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out/history.csv"),
            ["disk is full", "out/history.csv", "output_dir"],
        ),
        (
            RuntimeError("[enforce fail at inline_container.cc:664] PytorchStreamWriter failed writing"),
            ["disk", "model_dir"],
        ),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes."),
            ["out of memory", "input_size (572)"],
        ),
        (MemoryError("Unable to allocate 80. GiB for an array"), ["80. GiB", "input_size (572)"]),
        (AssertionError("Torch not compiled with CUDA enabled"), ["CUDA", "device to cpu"]),
        (RuntimeError("No CUDA GPUs are available"), ["GPU", "device to cpu"]),
        (RuntimeError("Expected one of cpu, cuda, ipu device type at start of device string: gpu"), ["gpu", "cuda:0"]),
        (RuntimeError("Invalid device string: 'cuda:x'"), ["cuda:x", "cuda:0"]),
        (ModuleNotFoundError("No module named 'skimage.io'", name="skimage.io"), ["pip install scikit-image"]),
    ],
)
def test_texts_of_libraries_come_with_a_remedy(error: Exception, told: list[str]) -> None:
    message = explain(failure_of({"input_size": 572}, error))
    assert all(part in message for part in ["in 'part'", *told])


def test_a_message_of_this_project_stays_as_it_is():
    error = FolderErrors("2 of 3 images failed:\n  a.png: No space left on device")
    assert str(error) in explain(error)


def test_a_misspelt_reference_names_the_nearest_key():
    with pytest.raises(ValueError, match="imput_size") as raised:
        ConfigParser({"input_size": 572, "run": "$@imput_size"}).get_parsed_content("run")
    assert "did you mean '@input_size'?" in explain(raised.value)


def test_a_run_ends_with_one_message_instead_of_the_trace(monkeypatch, capsys):
    for module in (sys, threading):
        monkeypatch.setattr(module, "excepthook", module.excepthook)
    monkeypatch.delenv("MONAI_DEBUG", raising=False)
    explain_failures()
    error = failure_of({}, ValueError("no images in \x1b[2Jdata"))
    sys.excepthook(type(error), error, error.__traceback__)
    first, second = capsys.readouterr().err.splitlines()
    assert first == "error: in 'part': no images in \\x1b[2Jdata"
    assert "MONAI_DEBUG=1" in second


def test_an_error_of_a_thread_is_one_message(monkeypatch, capsys):
    for module in (sys, threading):
        monkeypatch.setattr(module, "excepthook", module.excepthook)
    monkeypatch.delenv("MONAI_DEBUG", raising=False)
    explain_failures()

    def write():
        raise OSError(errno.ENOSPC, "No space left on device", "events")

    thread = threading.Thread(target=write)
    thread.start()
    thread.join()
    first, _ = capsys.readouterr().err.splitlines()
    assert first.startswith("error: ")
    assert "output_dir" in first


def test_the_trace_is_shown_on_request(monkeypatch):
    before = sys.excepthook
    monkeypatch.setenv("MONAI_DEBUG", "1")
    explain_failures()
    assert sys.excepthook is before


def test_the_cause_is_found_in_the_text_of_a_worker_process() -> None:
    try:
        raise raised_from(RuntimeError("applying transform <LoadImaged>"), ValueError("label of 03.png is 512 x 500"))
    except RuntimeError:
        worker = ExceptionWrapper(where="in DataLoader worker process 0")
    with pytest.raises(RuntimeError, match="Original Traceback") as raised:
        worker.reraise()
    assert explain(raised.value) == "label of 03.png is 512 x 500"


@pytest.mark.slow
def test_monai_s_own_command_ends_with_the_message(bundle_root, tmp_path):
    words = ["run", "--config_file", "configs/inference.yaml", "--dataset_dir", str(tmp_path / "nowhere")]
    done = subprocess.run(
        [sys.executable, "-m", "monai.bundle", *words], cwd=bundle_root, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr + done.stdout
    *_, message, hint = done.stderr.splitlines()
    assert message.startswith("error: in 'datalist': ")
    assert "nowhere" in message
    assert "MONAI_DEBUG" in hint
