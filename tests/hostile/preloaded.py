"""Start commands as `python -m MODULE ...` does, in copies of a process that has imported the libraries already.

A new Python needs some seconds for torch and MONAI, a copy none. The modules of the program itself are imported in the
copy. Reads a job a line from standard input, as JSON, and writes the process ID and the outcome into the job's folder.

    python preloaded.py CHECKOUT
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import runpy
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

LIBRARIES = (
    "fire",
    "ignite.handlers",
    "matplotlib.pyplot",
    "monai.bundle",
    "monai.data",
    "monai.engines",
    "monai.handlers",
    "monai.inferers",
    "monai.transforms",
    "nibabel",
    "numba",
    "PIL.Image",
    "rich.console",
    "scipy.ndimage",
    "skimage.measure",
    "skimage.segmentation",
    "tifffile",
    "torch.utils.tensorboard",
)


def main(checkout: str) -> None:
    """Serve jobs until standard input ends. In a copy: run a job's module and return."""
    os.chdir(checkout)
    sys.path[0] = checkout  # as `python -m` does
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in LIBRARIES:
            importlib.import_module(name)
    _find_components()
    for line in sys.stdin:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        job = json.loads(line)
        if os.fork() == 0:
            _supervise(job)  # returns in the copy alone
            return


def _find_components() -> None:
    """Let MONAI import what it looks through for the names of configurations."""
    from monai.bundle.config_item import ComponentLocator

    ComponentLocator().get_component_module_name("LoadImaged")


def _supervise(job: dict[str, Any]) -> None:
    """Fork once more, wait for the copy and note its exit code and its memory."""
    os.setsid()
    folder = Path(job["folder"])
    _write(folder / "session", str(os.getpid()))
    pid = os.fork()
    if pid == 0:
        _become(job, folder)
        return
    _write(folder / "pid", str(pid))
    _, status, usage = os.wait4(pid, 0)
    outcome = {"code": os.waitstatus_to_exitcode(status), "peak": usage.ru_maxrss * 1024}
    _write(folder / "outcome", json.dumps(outcome))
    os._exit(0)


def _write(path: Path, text: str) -> None:
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").replace(path)


def _become(job: dict[str, Any], folder: Path) -> None:
    """Take over the job's streams, limits, environment and arguments."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if job["memory"]:
        resource.setrlimit(resource.RLIMIT_AS, (job["memory"], job["memory"]))
    os.environ.update(job["environment"])
    sys.argv = list(job["words"])
    sys.stdin = open(0)  # noqa: SIM115  # the stream of jobs belongs to the server


if __name__ == "__main__":
    main(sys.argv[1])
    if sys.argv[0] != __file__:  # a copy
        module = sys.argv[0]
        del sys.modules["__main__"]  # nothing of this file is left to the program
        runpy.run_module(module, run_name="__main__", alter_sys=True)
