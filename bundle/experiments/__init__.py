"""Reproduce the paper's experiments, vary them, report.

`reproduce` and `report` are the commands.

| module        | content                                                |
|---------------|--------------------------------------------------------|
| `experiments` | the three experiments: data, epochs, published figures |
| `variants`    | ablations, folds, seeds and widths of an experiment    |
| `provenance`  | versions, hardware and checksums of a result           |
| `trained`     | load a trained network                                 |
"""
