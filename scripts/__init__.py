"""The paper's U-Net system, as a library and as the components of a MONAI bundle.

| name                                        | what it is                                                          |
|---------------------------------------------|---------------------------------------------------------------------|
| `Segmenter`                                 | segments images in memory with trained weights                      |
| `RonnebergerUNet`                           | the network of the paper                                            |
| `OverlapTileInferer`                        | runs any network on images of any size, without seams               |
| `WeightedCrossEntropyLoss`                  | the loss of the paper's Eq. 1                                       |
| `weight_map`                                | the weight map of Eq. 2                                             |

Installed, the package has the name `original_unet`. Beside the configurations of a bundle, the name is `scripts`.

Example:
    >>> from original_unet import RonnebergerUNet, Segmenter
    >>> result = Segmenter()(np.eye(60, 80))
    >>> result.classes.shape, result.instances.dtype
    ((60, 80), dtype('int32'))
    >>> sum(parameter.numel() for parameter in RonnebergerUNet().parameters())
    31030658

The packages hold everything that a configuration of the bundle may name.

| package      | content                                                       |
|--------------|---------------------------------------------------------------|
| `data`       | find, split and load images and labels                        |
| `handlers`   | reports, figures, saved weights and other handlers of engines |
| `inferers`   | inference by overlap tiles, precision, exported networks      |
| `io`         | read and write images and tables                              |
| `metrics`    | scores of the ISBI 2012 and Cell Tracking challenges          |
| `networks`   | the U-Net of the paper                                        |
| `planning`   | settings chosen from images and labels; problems of data      |
| `plot`       | figures and overlays                                          |
| `serving`    | answers to MONAI Label                                        |
| `transforms` | weight map, elastic deformation, intensity, objects           |

| module       | content                                                    |
|--------------|------------------------------------------------------------|
| `failures`   | a failed workflow in one message                           |
| `engines`    | evaluator that continues after a failed image              |
| `losses`     | the weighted loss of the paper                             |
| `model_json` | types and defaults of the settings in `model.json`         |
| `options`    | table of all public settings, with types and ranges        |
| `published`  | names of the weights in `models`                           |
| `settings`   | settings of a training, in `model.json` beside the weights |

`scripts` is part of the published bundle and imports nothing else of the project's repository. `checks`, `compiled`,
`components` and `lazy` are helpers.
"""

from .lazy import lazy

_NAMES = {
    "inferers.overlap_tile": ["OverlapTileInferer"],
    "losses": ["WeightedCrossEntropyLoss"],
    "networks.unet": ["RonnebergerUNet"],
    "segmenter": ["Segmenter"],
    "transforms.weight_maps": ["weight_map"],
}
__all__ = ["OverlapTileInferer", "RonnebergerUNet", "Segmenter", "WeightedCrossEntropyLoss", "weight_map"]
__getattr__, __dir__ = lazy(__name__, _NAMES)
