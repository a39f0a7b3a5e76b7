"""Transform images and labels: weight map, elastic deformation, intensity, objects from scores.

Names that end in d are for dictionaries, as in MONAI.

| name                                          | what it does                                                  |
|-----------------------------------------------|---------------------------------------------------------------|
| `MatchPixelSized`, `RestoreSized`             | rescale images to the training's pixel size; results back     |
| `NormalizeImaged`                             | scales the grey values                                        |
| `InstanceLabelsd`                             | makes a class map and an instance map from a label image      |
| `WeightMapd`                                  | adds the weight map of the paper's Eq. 2                      |
| `Rand2DElasticTiled`                          | draws a training tile and deforms it as in the paper          |
| `Rand2DElasticCoarse`, `Rand2DElasticCoarsed` | deform whole images as in the paper                           |
| `Rand2DElasticSimard`, `Rand2DElasticSimardd` | deform whole images by blurred noise (Simard 2003)            |
| `Rand2DElasticField`, `Rand2DElasticFieldd`   | deform whole images by any displacement field                 |
| `CoarseField`, `SimardField`, `Field`         | displacement fields for these transforms, and their interface |
| `RandNoised`                                  | adds Gaussian noise                                           |
| `ProbabilitiesFromScoresd`, `LikeliestClassd` | convert network scores to probabilities or to a class map     |
| `EmptyIfConstantd`                            | gives background to images with a single grey value           |
| `InstancesFromScoresd`                        | finds the objects                                             |
| `Entropyd`, `UnpackDeviationd`                | uncertainty of each pixel                                     |

The functions do the same for arrays: `normalize_image`, `instances_from_mask`, `weight_map`, `extract_tile`,
`DrawnTile`, `sample_displacements`, `sample_simard_displacements`, `dense_displacements`, `affine_matrix`,
`apply_displacements`, `entropy`.
"""

from ..lazy import lazy

_NAMES = {
    "activations": ["EmptyIfConstantd", "LikeliestClassd", "ProbabilitiesFromScoresd"],
    "displacements": [
        "CoarseField",
        "Field",
        "SimardField",
        "dense_displacements",
        "sample_displacements",
        "sample_simard_displacements",
    ],
    "elastic": [
        "Rand2DElasticCoarse",
        "Rand2DElasticCoarsed",
        "Rand2DElasticField",
        "Rand2DElasticFieldd",
        "Rand2DElasticSimard",
        "Rand2DElasticSimardd",
        "Rand2DElasticTiled",
    ],
    "instance_labels": ["InstanceLabelsd", "instances_from_mask"],
    "intensity": ["NormalizeImaged", "RandNoised", "normalize_image"],
    "objects": ["InstancesFromScoresd"],
    "pixel_size": ["MatchPixelSized", "RestoreSized"],
    "resampling": ["DrawnTile", "affine_matrix", "apply_displacements", "extract_tile"],
    "uncertainty": ["Entropyd", "UnpackDeviationd", "entropy"],
    "weight_maps": ["WeightMapd", "weight_map"],
}
__all__ = [name for names in _NAMES.values() for name in names]
__getattr__, __dir__ = lazy(__name__, _NAMES)
