"""One image file: what its header says, and its pixels, cropped and coloured as asked.

Files are somebody else's: only plain raster formats are opened, the size is capped before
decoding, and every failure names the file.
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxae.data.source import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 2**26
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
_GREY = ("1", "L", "LA", "La")
_COLOUR = ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")


class Header(NamedTuple):
    """What is known of an image before decoding it."""

    height: int
    width: int
    grey: bool


def read_header(path: Path) -> Header:
    """Size and colour of an image file, without decoding it.

    Raises:
        DataError: not an image, larger than MAX_PIXELS, or of more than 8 bits per channel.
    """
    with _opened(path) as image:
        return Header(image.height, image.width, image.mode in _GREY)


def decode(path: Path, size: int, grey: bool) -> np.ndarray:
    """The pixels `[H,W,C]` uint8 of an image file, as `fitted` makes them.

    Raises:
        DataError: as `read_header`, or the file is corrupt or cut short.
    """
    with _opened(path) as image:
        try:
            return fitted(image, size, grey)
        except Exception as error:  # decoders raise whatever the bytes lead them to
            raise _unreadable(path, error) from error


def fitted(image: "Image", size: int, grey: bool) -> np.ndarray:
    """An image as uint8 `[H,W,1]` (grey) or `[H,W,3]`; transparency is dropped.

    Args:
        size: side of the square cut from the centre, whose full extent is the shorter side (resized
            with an anti-aliasing bicubic filter); 0 keeps the image whole.
    """
    from PIL.Image import Resampling

    if "transparency" in image.info:
        image = image.convert("RGBA")
    image = image.convert("L" if grey else "RGB")
    if size:
        side = min(image.size)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        square = (left, top, left + side, top + side)
        image = image.resize((size, size), Resampling.BICUBIC, box=square)
    pixels = np.asarray(image)
    return pixels[..., None] if grey else pixels


def in_threads(function: Callable, items: Iterable) -> list:
    """`[function(item) for item in items]`, decoding on several threads."""
    return list(_pool().map(function, items))


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="decode")


def _opened(path: Path) -> "Image":
    from PIL import Image

    try:
        image = Image.open(path, formats=_FORMATS)
    except Exception as error:
        raise _unreadable(path, error) from error
    try:
        if image.width * image.height > MAX_PIXELS:
            raise DataError(
                f"{path} has {image.width}x{image.height} pixels, "
                f"more than the {MAX_PIXELS} that are decoded: shrink or remove it"
            )
        if image.mode not in _GREY + _COLOUR:
            raise DataError(f"{path} has pixels of type {image.mode}; convert it to 8 bits")
    except DataError:
        image.close()
        raise
    return image


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} cannot be read as an image ({error}): replace or remove it")
