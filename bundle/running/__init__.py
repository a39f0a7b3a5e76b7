"""Run a workflow strictly, with clear messages.

`run` is the command for any configuration. `workflows` has the short commands `train`, `evaluate` and `segment`.
`configuration` reads and merges files. `overrides` checks the keys of the command line. `failures` explains errors.
`package` and `installed` find the components of configurations in the installed package.

MONAI and torch take seconds to import. Modules import both late, in functions: neither help nor the refusal of a wrong
key or a missing folder needs them.
"""
