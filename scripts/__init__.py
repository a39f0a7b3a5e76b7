"""The paper's U-Net system: all classes and functions that a configuration of this bundle may name.

| package      | content                                                       |
|--------------|---------------------------------------------------------------|
| `data`       | find, split and load images and labels                        |
| `handlers`   | reports, figures, saved weights and other handlers of engines |
| `inferers`   | inference by overlap tiles, precision, exported networks      |
| `io`         | read and write images and tables                              |
| `metrics`    | scores of the ISBI 2012 and Cell Tracking challenges          |
| `networks`   | the U-Net of the paper                                        |
| `plot`       | figures and overlays                                          |
| `serving`    | answers to MONAI Label                                        |
| `transforms` | weight map, elastic deformation, intensity, objects           |

| module    | content                                       |
|-----------|-----------------------------------------------|
| `engines` | evaluator that continues after a failed image |
| `losses`  | the weighted loss of the paper                |

`scripts` is part of the published bundle and imports nothing else of the project's repository. `checks`, `compiled`
and `lazy` are helpers.
"""
