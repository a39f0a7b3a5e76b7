"""Reproduce the paper's experiments, vary them, report."""
