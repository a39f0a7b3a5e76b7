"""Transform images and labels: weight map, elastic deformation, intensity, objects from scores."""

from scripts.transforms.activations import LikeliestClassd, ProbabilitiesFromScoresd
from scripts.transforms.displacements import (
    CoarseField,
    Field,
    SimardField,
    dense_displacements,
    sample_displacements,
    sample_simard_displacements,
)
from scripts.transforms.elastic import (
    Rand2DElasticCoarse,
    Rand2DElasticCoarsed,
    Rand2DElasticField,
    Rand2DElasticFieldd,
    Rand2DElasticSimard,
    Rand2DElasticSimardd,
    Rand2DElasticTiled,
)
from scripts.transforms.instance_labels import InstanceLabelsd, instances_from_mask
from scripts.transforms.intensity import NormalizeImaged, RandNoised, normalize_image
from scripts.transforms.objects import InstancesFromScoresd
from scripts.transforms.resampling import DrawnTile, affine_matrix, apply_displacements, extract_tile
from scripts.transforms.weight_maps import WeightMapd, weight_map

__all__ = [
    "CoarseField",
    "DrawnTile",
    "Field",
    "InstanceLabelsd",
    "InstancesFromScoresd",
    "LikeliestClassd",
    "NormalizeImaged",
    "ProbabilitiesFromScoresd",
    "Rand2DElasticCoarse",
    "Rand2DElasticCoarsed",
    "Rand2DElasticField",
    "Rand2DElasticFieldd",
    "Rand2DElasticSimard",
    "Rand2DElasticSimardd",
    "Rand2DElasticTiled",
    "RandNoised",
    "SimardField",
    "WeightMapd",
    "affine_matrix",
    "apply_displacements",
    "dense_displacements",
    "extract_tile",
    "instances_from_mask",
    "normalize_image",
    "sample_displacements",
    "sample_simard_displacements",
    "weight_map",
]
