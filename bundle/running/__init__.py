"""Run a workflow strictly, with clear messages.

`run` is the command. `overrides` checks the keys of the command line. `failures` explains errors.
"""
