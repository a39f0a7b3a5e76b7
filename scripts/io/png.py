"""PNG, BMP and JPEG through Pillow."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .files import replacing
from .image_file import ImageFile, ImageHeader, ResultFile, require

Image.MAX_IMAGE_PIXELS = None  # Pillow refuses more than 179 megapixels as an attack; large sections have more

_WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
_CONVERTED = ("CMYK", "YCbCr", "LAB", "HSV")


class PillowFile(ImageFile):
    """Read PNG, BMP or JPEG in the stored pixel order. EXIF orientation is ignored.

    Palette images give their indices, since label images mean the indices. Alpha is dropped. imagecodecs decodes
    16-bit colour PNG, since Pillow reduces 16 bit to 8 bit. Print resolutions (pHYs, JFIF) are not a pixel size.
    dtype: uint8, uint16, int32 or float32. 1-bit images give 0 and 1.

    Example:
        >>> from PIL import Image
        >>> Image.fromarray(np.eye(3, dtype=np.uint8)).save("eye.png")
        >>> PillowFile("eye.png").plane(0)[0]
        array([1, 0, 0], dtype=uint8)
    """

    def _read_header(self) -> ImageHeader:
        with Image.open(self.path) as image:
            mode = "RGB" if image.mode in _CONVERTED else image.mode
            deep_grey_alpha = image.mode == "RGBA" and "LA" in str(image.tile)  # how Pillow opens 16-bit grey + alpha
            channels = 1 if deep_grey_alpha else len(Image.new(mode, (1, 1)).getbands()) - (mode in _WITH_ALPHA)
            return ImageHeader(planes=1, height=image.height, width=image.width, channels=channels)

    def _read_plane(self, index: int) -> np.ndarray:
        with Image.open(self.path) as image:
            if image.format == "PNG" and image.mode in ("RGB", "RGBA") and "16" in str(image.tile):
                imagecodecs = require("imagecodecs", "16-bit colour PNG files", self.path)
                array = np.asarray(imagecodecs.png_decode(self.path.read_bytes()))
                array = array[..., : 1 if array.shape[2] == 2 else 3]
            else:
                array = np.asarray(image.convert("RGB") if image.mode in _CONVERTED else image)
                array = array[..., :-1] if image.mode in _WITH_ALPHA else array
        return array


class PngResult(ResultFile):
    """Write a class map as 8-bit greyscale PNG."""

    def _save(self) -> None:
        with replacing(self.path) as temporary:
            Image.fromarray(self._volume()[0]).save(temporary)
