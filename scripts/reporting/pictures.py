"""Turn arrays into small pictures inside a page: data addresses of WebP and PNG, one layer above another.

Label layers are PNG with a palette and a transparent background. Images and maps are WebP. Large images are reduced
until all layers of a picture fit into a number of bytes.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from PIL import Image
from skimage.segmentation import find_boundaries

from ..io.names import shown as shown_name
from ..plot.overlays import PALETTE, displayable

SIDES = (1024, 768, 640, 512, 400, 320, 240, 160)  # longest side in pixels, tried in this order
THUMB = 120  # pixels
QUALITY = 82  # of WebP, 0 to 100
INSIDE, EDGE = 115, 255  # opacity of a region and of the outline, 0 to 255

Draw = Callable[[int], bytes]  # longest side in pixels -> content of an image file


@dataclass(frozen=True)
class Layer:
    """A layer of a picture.

    Args:
        name: a word or two: "truth".
        draw: draws the layer for a longest side in pixels.
        legend: pairs of meaning and colour.
        note: a sentence about the layer, shown below the picture.
        opacity: in per cent, at first.
    """

    name: str
    draw: Draw
    legend: Sequence[tuple[str, str]] = ()
    note: str = ""
    opacity: int = 100


@dataclass(frozen=True)
class Picture:
    """A picture for the viewer of a page.

    Args:
        title: name of the image.
        size: (rows, columns) of the image in pixels.
        shown: (rows, columns) of the picture.
        base: data address of the image.
        thumb: data address of a small image.
        layers: name, address, legend, note and opacity of each layer.
        facts: lines of text beside the picture.
        size_bytes: of all addresses together.
    """

    title: str
    size: tuple[int, int]
    shown: tuple[int, int]
    base: str
    thumb: str
    layers: Sequence[Mapping[str, object]] = ()
    facts: Sequence[str] = ()
    size_bytes: int = field(default=0, compare=False)


def picture(
    title: str, image: np.ndarray, layers: Sequence[Layer], most_bytes: int, facts: Sequence[str] = ()
) -> Picture:
    """Draw an image and its layers, as large as `most_bytes` allow.

    Args:
        title: name of the image.
        image: (H, W) or (C, H, W), any range; uint8 (H, W, 3) is taken as it is.
        layers: from the functions below, of arrays of the size of the image.
        most_bytes: for all data addresses. The smallest size is used even if it is larger.
        facts: lines of text beside the picture.

    Example:
        >>> cells = np.zeros((40, 60), int)
        >>> drawn = picture("a.png", cells, [label_layer("truth", cells)], most_bytes=50_000)
        >>> drawn.shown, drawn.layers[0]["name"], drawn.base[:23]
        ((40, 60), 'truth', 'data:image/webp;base64,')
    """
    is_rgb = image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8
    shown = image if is_rgb else np.round(displayable(image) * 255).astype(np.uint8)
    height, width = shown.shape[:2]
    longest = max(height, width)
    sides = sorted({min(side, longest) for side in SIDES}, reverse=True)
    side = sides[0]
    while True:
        base = _webp(_reduced(shown, side))
        drawn = [layer.draw(side) for layer in layers]
        total = sum(4 * -(-len(content) // 3) for content in (base, *drawn))
        smaller = [other for other in sides if other < side]
        if total <= most_bytes or not smaller:
            break
        wanted = side * math.sqrt(most_bytes / total)  # bytes grow about as pixels do
        side = next((other for other in smaller if other <= wanted), smaller[-1])
    thumb = _webp(_reduced(shown, min(THUMB, longest)))
    described: list[Mapping[str, object]] = [
        {
            "name": layer.name,
            "src": _address(content),
            "legend": [{"name": name, "colour": colour} for name, colour in layer.legend],
            "note": layer.note,
            "opacity": layer.opacity,
        }
        for layer, content in zip(layers, drawn, strict=True)
    ]
    size = _size(height, width, side)
    addresses = _address(base), _address(thumb)
    return Picture(
        shown_name(title), (height, width), size, *addresses, described, tuple(facts), total + len(addresses[1])
    )


def label_layer(
    name: str,
    labels: np.ndarray,
    legend: Sequence[tuple[str, str]] = (),
    colours: Mapping[int, str] | None = None,
    outline: bool = True,
    note: str = "",
    inside: int = INSIDE,
) -> Layer:
    """Make a layer of classes, objects or errors. Value 0 is transparent.

    Args:
        name: of the layer.
        labels: integer (H, W). Negative values are transparent.
        legend: pairs of meaning and colour.
        colours: value -> colour. None: the project's palette, repeated.
        outline: draw opaque outlines inside the regions.
        note: a sentence about the layer.
        inside: opacity of the regions, 0 to 255.

    Example:
        >>> label_layer("truth", np.array([[0, 1]])).draw(2)[1:4]
        b'PNG'
    """

    def draw(side: int) -> bytes:
        return label_png(_nearest(labels, side), colours, outline, inside)

    return Layer(name, draw, legend, note)


def map_layer(
    name: str,
    values: np.ndarray,
    colour_map: str = "cividis",
    limits: tuple[float, float] = (0.0, 1.0),
    legend: Sequence[tuple[str, str]] = (),
    note: str = "",
) -> Layer:
    """Make a layer of numbers, such as probabilities.

    Args:
        name: of the layer.
        values: real (H, W).
        colour_map: of matplotlib.
        limits: values of the first and last colour.
        legend: pairs of meaning and colour. (): the limits and the middle.
        note: a sentence about the layer.

    Example:
        >>> [meaning for meaning, _ in map_layer("weights", np.ones((2, 2)), limits=(0, 10)).legend]
        ['0', '5', '10']
    """
    low, high = limits
    colours = colormaps[colour_map]

    def draw(side: int) -> bytes:
        level = np.clip((_mean(values.astype(np.float32), side) - low) / max(high - low, 1e-12), 0, 1)
        return _webp(np.round(colours(level)[..., :3] * 255).astype(np.uint8))

    def hexadecimal(level: float) -> str:
        return "#" + "".join(f"{round(channel * 255):02x}" for channel in colours(level)[:3])

    scale = [(f"{low + level * (high - low):.3g}", hexadecimal(level)) for level in (0.0, 0.5, 1.0)]
    return Layer(name, draw, legend or scale, note, opacity=75)


def label_png(
    labels: np.ndarray, colours: Mapping[int, str] | None = None, outline: bool = True, inside: int = INSIDE
) -> bytes:
    """Write labels as a PNG file with a palette. Background is transparent.

    Args:
        labels, colours, outline, inside: as in `label_layer`.

    Example:
        >>> from io import BytesIO
        >>> Image.open(BytesIO(label_png(np.array([[0, 1]])))).convert("RGBA").getpixel((0, 0))[3]
        0
    """
    if colours is None:
        index = np.where(labels > 0, (labels - 1) % len(PALETTE) + 1, 0).astype(np.uint8)
        table = list(PALETTE)
    else:
        index = np.zeros(labels.shape, np.uint8)
        for number, value in enumerate(colours, 1):
            index[labels == value] = number
        table = list(colours.values())
    if outline:
        edges = find_boundaries(labels, connectivity=1, mode="inner") & (index > 0)
        index[edges] += len(table)
    image = Image.fromarray(index)
    image.putpalette([round(channel * 255) for colour in ("#000000", *table, *table) for channel in to_rgb(colour)])
    opacity = bytes([0, *[inside] * len(table), *[EDGE] * len(table)])
    file = io.BytesIO()
    image.save(file, "PNG", transparency=opacity, optimize=True)
    return file.getvalue()


def line_layer(
    name: str, draw_lines: Callable[[np.ndarray, float], None], size: tuple[int, int], **more: object
) -> Layer:
    """Make a layer of lines on a transparent ground.

    Args:
        name: of the layer.
        draw_lines: writes values 1, 2, ... into an integer array (h, w); its second argument is the scale of the
            picture: pixels of the picture for a pixel of the image.
        size: (H, W) of the image.
        more: `legend`, `note`, and `colours` (value -> colour).

    Example:
        >>> def diagonal(canvas, scale):
        ...     np.fill_diagonal(canvas, 1)
        >>> line_layer("lines", diagonal, (8, 8), colours={1: "#ff0000"}).draw(8)[1:4]
        b'PNG'
    """
    colours: Mapping[int, str] = more.pop("colours")  # type: ignore[assignment]

    def draw(side: int) -> bytes:
        canvas = np.zeros(_size(*size, side), np.int32)
        draw_lines(canvas, max(canvas.shape) / max(size))
        return label_png(canvas, colours, outline=False, inside=EDGE)

    return Layer(name, draw, **more)  # type: ignore[arg-type]


def _size(height: int, width: int, side: int) -> tuple[int, int]:
    scale = min(1.0, side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _reduced(image: np.ndarray, side: int) -> np.ndarray:
    """Reduce an image uint8 (H, W, 3) by averaging."""
    height, width = _size(image.shape[0], image.shape[1], side)
    if (height, width) == image.shape[:2]:
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))


def _mean(values: np.ndarray, side: int) -> np.ndarray:
    height, width = _size(values.shape[0], values.shape[1], side)
    if (height, width) == values.shape:
        return values
    return np.asarray(Image.fromarray(values).resize((width, height), Image.Resampling.BOX))


def _nearest(labels: np.ndarray, side: int) -> np.ndarray:
    height, width = _size(labels.shape[0], labels.shape[1], side)
    rows = ((np.arange(height) + 0.5) * labels.shape[0] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * labels.shape[1] / width).astype(int)
    return labels[rows[:, None], columns]


def _webp(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(file, "WEBP", quality=QUALITY, method=4)
    return file.getvalue()


def _address(content: bytes) -> str:
    kind = "png" if content[1:4] == b"PNG" else "webp"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
