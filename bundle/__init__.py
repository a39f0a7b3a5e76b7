"""Tooling around the bundle: `python -m bundle COMMAND`. Never shipped inside the bundle archive."""
