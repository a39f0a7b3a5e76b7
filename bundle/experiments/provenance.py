"""Describe the origin of a result: program versions, hardware, commit."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bundle.running.run import ROOT
from scripts import machine
from scripts.machine import hardware


def versions() -> dict[str, str]:
    """Find the versions of Python and the installed packages, and the commit of the checkout if there is a checkout.

    Example:
        >>> list(versions())[:3]
        ['python', 'torch', 'monai']
    """
    commit = commit_of(ROOT)
    return machine.versions() | ({"commit": commit} if commit else {})


def commit_of(folder: Path) -> str:
    """Find the commit of a checkout, with "+ changes" if tracked files differ; "" if the folder is no checkout.

    Example:
        >>> Path("unpacked").mkdir()
        >>> commit_of(Path("unpacked"))
        ''
    """

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != folder.resolve():
            return ""  # an unpacked bundle inside another repository
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + (" + changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


MACHINE = {"versions": versions, "hardware": hardware}  # keys of a result, and the functions for their values
