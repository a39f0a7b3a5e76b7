"""Run the program of the installed package as a module, where the program's folder is not on the search path."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec

if __name__ == "__main__":
    if find_spec(f"{__package__}.running") is None:  # a checkout or an unpacked bundle, with configs beside this folder
        sys.exit("error: not installed; start workflows with python -m monai.bundle run, see docs/README.md")
    import_module(f"{__package__}.running.program").installed(f"python -m {__package__}")
