"""Run a workflow strictly, with clear messages.

`run` is the command for any configuration. `workflows` has the short commands `train`, `evaluate` and `segment`.
`overrides` checks the keys of the command line. `failures` explains errors. `package` finds the components of
configurations in the installed package.
"""
