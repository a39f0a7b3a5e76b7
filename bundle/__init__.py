"""Tools around the bundle: `python -m bundle COMMAND`. They are not part of the published zip file.

| package or module | commands                                          |
|-------------------|---------------------------------------------------|
| `datasets`        | `fetch`, `sample`: download and make data sets    |
| `running`         | `train`, `evaluate`, `segment`, `report`, `run`   |
| `experiments`     | `reproduce`, `report`: the paper's experiments    |
| `publishing`      | `verify`, `pack`, `export`: prepare a publication |
| `labelling`       | `label`: serve the bundle with MONAI Label        |
| `bench`           | `bench`: measure speeds                           |
"""
