"""Build the network of the paper's Fig. 1, and compute input and output sizes."""

from scripts.networks.geometry import center_crop, output_size, reflect_index
from scripts.networks.unet import RonnebergerUNet

__all__ = ["RonnebergerUNet", "center_crop", "output_size", "reflect_index"]
