"""One image file: what its header says, and its pixels, cropped and coloured as asked.

Pixels are what a viewer shows on a white page: turned as EXIF says, transparency composited on
white. What of a file is not read, its header notes. Files are somebody else's: only plain raster
formats are opened, the size is capped before decoding, and every failure names the file.
"""

import os
import struct
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
_DEEP_GREY = ("I", "I;16", "I;16B", "I;16L")
_COLOUR = ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")
_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
# Tags of EXIF and TIFF.
_WIDTH, _LENGTH, _BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLE_FORMAT = 256, 257, 258, 262, 274, 339


class Header(NamedTuple):
    """What is known of an image before decoding it."""

    height: int  # as a viewer shows it
    width: int
    grey: bool
    notes: tuple[str, ...] = ()  # what is not read, as ends of the sentence "so many files ..."


def read_header(path: Path) -> Header:
    """Size, turned as EXIF says, colour, and what will not be read; without decoding pixels.

    Raises:
        DataError: not an image, larger than MAX_PIXELS, or of pixels whose range is not certain.
    """
    with _opened(path) as image:
        grey = image.mode in _GREY + _DEEP_GREY
        try:
            width, height = image.size
            if image.format == "TIFF":  # newer Pillows turn the size themselves
                width, height = image.tag_v2[_WIDTH], image.tag_v2[_LENGTH]
            notes = _unread(image)
            orientation = _orientation(path, image)
        except Exception as error:  # as in `decode`
            raise _unreadable(path, error) from error
    if not orientation:
        notes += ("have damaged EXIF and are taken to be upright",)
    if orientation in (5, 6, 7, 8):  # it lies on a side
        width, height = height, width
    return Header(height, width, grey, notes)


def decode(path: Path, size: int, grey: bool) -> np.ndarray:
    """The pixels `[H,W,C]` uint8 of an image file, as `fitted` makes them.

    Raises:
        DataError: as `read_header`, or the file is corrupt or cut short.
    """
    from PIL import ImageOps

    with _opened(path) as image:
        try:
            if _orientation(path, image):
                ImageOps.exif_transpose(image, in_place=True)
            return fitted(image, size, grey)
        except Exception as error:  # decoders raise whatever the bytes lead them to
            raise _unreadable(path, error) from error


def fitted(image: "Image", size: int, grey: bool) -> np.ndarray:
    """An image as uint8 `[H,W,1]` (grey) or `[H,W,3]`.

    Transparent pixels show white, half transparent ones are mixed with it. Of 16-bit pixels, whose
    range is 0..65535, the upper eight bits are kept.

    Args:
        size: side of the square cut from the centre, whose full extent is the shorter side (resized
            with an anti-aliasing bicubic filter); 0 keeps the image whole.
    """
    from PIL.Image import Resampling

    if image.mode in _DEEP_GREY:
        image = _eight_bits(image)
    elif image.mode in _ALPHA or "transparency" in image.info:
        image = _on_white(image)
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
        if image.mode not in _GREY + _COLOUR and not _is_sixteen_bits(image):
            raise DataError(
                f"{path} has pixels of type {image.mode} whose range is not certain: convert it to "
                "a PNG of 8 or 16 bits"
            )
    except DataError:
        image.close()
        raise
    return image


def _is_sixteen_bits(image: "Image") -> bool:
    """Grey of 16 bits where 0 is black and 65535 white: what PNG and PGM say, TIFF may say."""
    if image.mode not in _DEEP_GREY:
        return False
    if image.format != "TIFF":
        return image.format in ("PNG", "PPM")
    said = image.tag_v2.get(_BITS), image.tag_v2.get(_SAMPLE_FORMAT, (1,))
    return said == ((16,), (1,)) and image.tag_v2.get(_PHOTOMETRIC) == 1


def _orientation(path: Path, image: "Image") -> int:
    """How EXIF says that a picture lies, 1..8, 1 being upright; 0 where its EXIF is damaged.

    May decode a PNG, in which EXIF may stand behind the pixels.
    """
    from PIL.Image import Image

    if image.format == "PNG" and _says_more_after_pixels(path):
        image.load()
    try:  # not `image.getexif()`, which decodes every PNG without EXIF in search of it
        return Image.getexif(image).get(_ORIENTATION, 1)
    except Exception:  # as many kinds as there are damages
        return 0


def _says_more_after_pixels(path: Path) -> bool:
    """Whether a PNG has text or EXIF behind its pixels."""
    pixels = False
    with open(path, "rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if pixels and kind in (b"eXIf", b"iTXt", b"tEXt", b"zTXt"):
                return True
            pixels = pixels or kind == b"IDAT"
            file.seek(length + 4, os.SEEK_CUR)
    return False


def _unread(image: "Image") -> tuple[str, ...]:
    notes = []
    if _is_deep(image):
        notes.append("have more than 8 bits per channel and are reduced to 8")
    if image.mode == "CMYK":
        notes.append("are CMYK and become RGB without a colour profile")
    profile = image.info.get("icc_profile") or b"sRGB"
    if not any("sRGB".encode(code) in profile for code in ("ascii", "utf-16-be")):
        notes.append("carry a colour profile other than sRGB, which is not applied")
    if getattr(image, "is_animated", False):
        notes.append("hold more than one frame or page, of which the first is read")
    return tuple(notes)


def _is_deep(image: "Image") -> bool:
    """Whether the file, not what Pillow makes of it, has more than 8 bits per channel."""
    if image.format == "TIFF":
        return max(image.tag_v2.get(_BITS, (1,))) > 8
    if image.format not in ("PNG", "PPM"):
        return False
    said = image.tile[0][3]  # a raw mode such as RGB;16B, in PPM also (mode, largest value)
    return said[-1] > 255 if isinstance(said, tuple) else ";16" in said


def _eight_bits(image: "Image") -> "Image":
    """Grey of 16 bits as L. PNG can name one value that is transparent."""
    from PIL import Image

    pixels = np.asarray(image)
    grey = (pixels >> 8).astype(np.uint8)
    if "transparency" in image.info:
        grey[pixels == image.info["transparency"]] = 255
    return Image.fromarray(grey)


def _on_white(image: "Image") -> "Image":
    from PIL import Image

    if image.mode == "La":  # Pillow knows no direct way
        image = image.convert("LA")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} cannot be read as an image ({error}): replace or remove it")
