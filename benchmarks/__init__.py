"""Benchmarks: times as ratios to a baseline in the same run. Run `python -m bundle bench`."""
