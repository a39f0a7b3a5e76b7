"""PNG, BMP and JPEG through Pillow."""

from __future__ import annotations

import math
import os

import numpy as np
from PIL import Image
from PIL import ImageFile as PillowImage

from .declared import DEFLATE, JPEG, check_memory, check_stored
from .files import replacing
from .image_file import ImageFile, ImageHeader, ResultFile, require
from .picture import ORIENTATION, is_transposed, looked_up, shown_palette, turned

# Pillow refuses more than 179 megapixels as an attack, but large sections have more. `declared` compares instead
Image.MAX_IMAGE_PIXELS = None

_WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
_CONVERTED = ("CMYK", "YCbCr", "LAB", "HSV")


class PillowFile(ImageFile):
    """Read PNG, BMP or JPEG as viewers show the picture, turned by the EXIF orientation.

    Palette images become grey if all colours of the palette are grey, else RGB. As a label they give their indices.
    Alpha is dropped. imagecodecs decodes 16-bit colour PNG, since Pillow reduces 16 bit to 8 bit. Print resolutions
    (pHYs, JFIF) are not a pixel size. dtype: uint8, uint16, int32 or float32. 1-bit images give 0 and 1.

    Example:
        >>> from PIL import Image
        >>> Image.fromarray(np.eye(3, dtype=np.uint8)).save("eye.png")
        >>> PillowFile("eye.png").plane(0)[0]
        array([1, 0, 0], dtype=uint8)
    """

    def _read_header(self) -> ImageHeader:
        with Image.open(self.path) as image:
            self._check_stored(image)
            height, width = image.height, image.width
            if is_transposed(_orientation(image)):
                height, width = width, height
            return ImageHeader(planes=1, height=height, width=width, channels=self._channels(image))

    def _channels(self, image: PillowImage.ImageFile) -> int:
        if image.mode == "P":
            return 1 if self.as_label or _palette(image).ndim == 1 else 3
        mode = "RGB" if image.mode in _CONVERTED else image.mode
        deep_grey_alpha = image.mode == "RGBA" and "LA" in str(image.tile)  # how Pillow opens 16-bit grey + alpha
        return 1 if deep_grey_alpha else len(Image.new(mode, (1, 1)).getbands()) - (mode in _WITH_ALPHA)

    def _read_plane(self, index: int) -> np.ndarray:
        with Image.open(self.path) as image:
            check_memory(self.path, (image.width, image.height), image.width * image.height * _bytes_of(image))
            return turned(self._pixels(image), _orientation(image))

    def _pixels(self, image: PillowImage.ImageFile) -> np.ndarray:
        if image.format == "PNG" and image.mode in ("RGB", "RGBA") and "16" in str(image.tile):
            imagecodecs = require("imagecodecs", "16-bit colour PNG files", self.path)
            array = np.asarray(imagecodecs.png_decode(self.path.read_bytes()))
            return array[..., : 1 if array.shape[2] == 2 else 3]
        array = np.asarray(image.convert("RGB") if image.mode in _CONVERTED else image)
        if image.mode == "P" and not self.as_label:
            return looked_up(array, _palette(image))
        return array[..., :-1] if image.mode in _WITH_ALPHA else array

    def _check_stored(self, image: PillowImage.ImageFile) -> None:
        bits = 1 if image.mode in ("1", "L", "P") else 8 * len(image.getbands())  # the least; grey PNG has 1 to 8 bits
        if "BGR;1" in str(image.tile):
            bits = 16  # BMP with 5 or 6 bits for a colour
        if image.format == "JPEG":
            bits = 8
        ratio = {"raw": 1.0, "zip": DEFLATE, "jpeg": JPEG}.get(str(image.tile[0][0]) if image.tile else "", math.inf)
        size = image.width * image.height * bits / 8
        check_stored(self.path, (image.width, image.height), size, self.path.stat().st_size, ratio)


def _palette(image: PillowImage.ImageFile) -> np.ndarray:
    """Grey values or colours of the palette."""
    return shown_palette(np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3))


def _orientation(image: PillowImage.ImageFile) -> int:
    """Orientation of EXIF or XMP, 1 to 8. 1 if unknown or damaged."""
    try:
        if _has_exif_after_pixels(image):
            image.load()
        return int(Image.Image.getexif(image).get(ORIENTATION, 1))  # PNG's own method would read the pixels
    except Exception:  # whatever damaged EXIF data raise: viewers ignore them
        return 1


def _has_exif_after_pixels(image: PillowImage.ImageFile) -> bool:
    """Search PNG for a chunk eXIf after the pixels."""
    if image.format != "PNG" or "exif" in image.info:
        return False
    with open(image.filename, "rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            if head[4:] == b"eXIf":
                return True
            file.seek(int.from_bytes(head[:4], "big") + 4, os.SEEK_CUR)
    return False


def _bytes_of(image: PillowImage.ImageFile) -> int:
    """Bytes of a pixel in memory."""
    return {1: 2 if "16" in image.mode else 4 if image.mode in ("I", "F") else 1, 2: 4}.get(len(image.getbands()), 8)


class PngResult(ResultFile):
    """Write a class map as 8-bit greyscale PNG."""

    def _save(self) -> None:
        with replacing(self.path) as temporary:
            Image.fromarray(self._volume()[0]).save(temporary)
