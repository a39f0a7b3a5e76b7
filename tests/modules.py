"""Run commands of Python modules one after another in one new process. torch and MONAI are imported once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import json, runpy, sys
for module, *words in json.loads(sys.argv[1]):
    sys.argv = [module, *words]
    try:
        runpy.run_module(module, run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
"""


def run_modules(folder: Path, *commands: list[str], **environment: str) -> None:
    """Run `python -m MODULE WORDS` for each command, in a folder and without this repository. Every command succeeds.

    Args:
        folder: current folder of the process.
        commands: a module and the words after the module.
        environment: more environment variables.
    """
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(commands)],
        cwd=folder,
        env={**kept, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
