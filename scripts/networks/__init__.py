"""Build the network of the paper's Fig. 1, and compute input and output sizes.

`RonnebergerUNet` is the network. `output_size` gives the size of its output. `center_crop` and `reflect_index` crop
features and mirror images at the border.
"""

from .geometry import center_crop, output_size, reflect_index
from .unet import RonnebergerUNet

__all__ = ["RonnebergerUNet", "center_crop", "output_size", "reflect_index"]
