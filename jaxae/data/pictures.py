"""Reading of one image file: its header, and its pixels, cropped and converted to grey or RGB.

Images are rotated as EXIF says, and transparency is composited on white. `Header.notes` lists what
is not read. Files are untrusted: only plain raster formats are opened, the number of pixels is
limited before decoding, and every error names the file.
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
    """Properties of an image that are known without decoding it."""

    height: int  # after rotation as EXIF says
    width: int
    grey: bool
    notes: tuple[str, ...] = ()  # what is not read; each completes a sentence "N files ..."


def read_header(path: Path) -> Header:
    """Size after rotation as EXIF says, colour, and what is not read; without decoding pixels.

    Raises:
        DataError: not an image, more than MAX_PIXELS pixels, or pixels of unknown range.
    """
    with _opened(path) as image:
        grey = image.mode in _GREY + _DEEP_GREY
        try:
            width, height = image.size
            if image.format == "TIFF":  # newer versions of Pillow rotate the size themselves
                width, height = image.tag_v2[_WIDTH], image.tag_v2[_LENGTH]
            notes = _unread_notes(image)
            orientation = _orientation(path, image)
        except Exception as error:  # as in `decode`
            raise _unreadable(path, error) from error
    if not orientation:
        notes += ("have damaged EXIF and are not rotated",)
    if orientation in (5, 6, 7, 8):  # rotated by 90 degrees
        width, height = height, width
    return Header(height, width, grey, notes)


def decode(path: Path, size: int, grey: bool) -> np.ndarray:
    """The pixels `[H,W,C]` uint8 of an image file, as `convert_image` returns them.

    Raises:
        DataError: as `read_header`, or the file is corrupt or truncated.
    """
    from PIL import ImageOps

    with _opened(path) as image:
        try:
            if _orientation(path, image):
                ImageOps.exif_transpose(image, in_place=True)
            return convert_image(image, size, grey)
        except Exception as error:  # a corrupt file can raise anything in a decoder
            raise _unreadable(path, error) from error


def convert_image(image: "Image", size: int, grey: bool) -> np.ndarray:
    """An image as uint8 `[H,W,1]` (grey) or `[H,W,3]`.

    Transparent pixels are composited on white. 16-bit pixels (range 0..65535) are reduced to their
    upper 8 bits.

    Args:
        size: side of the result: the central square is cropped and resized (bicubic, with
            anti-aliasing); 0 keeps the image's size.
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


def map_in_threads(function: Callable, items: Iterable) -> list:
    """`[function(item) for item in items]`, on several threads."""
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
                f"more than the maximum of {MAX_PIXELS}: shrink or remove it"
            )
        if image.mode not in _GREY + _COLOUR and not _is_sixteen_bits(image):
            raise DataError(
                f"{path} has pixels of type {image.mode}, whose range is not known: convert it to "
                "a PNG of 8 or 16 bits"
            )
    except DataError:
        image.close()
        raise
    return image


def _is_sixteen_bits(image: "Image") -> bool:
    """16-bit grey with 0 black and 65535 white: always in PNG and PGM, perhaps in TIFF."""
    if image.mode not in _DEEP_GREY:
        return False
    if image.format != "TIFF":
        return image.format in ("PNG", "PPM")
    sample_type = image.tag_v2.get(_BITS), image.tag_v2.get(_SAMPLE_FORMAT, (1,))
    return sample_type == ((16,), (1,)) and image.tag_v2.get(_PHOTOMETRIC) == 1


def _orientation(path: Path, image: "Image") -> int:
    """The orientation by EXIF, 1..8 (1: upright); 0 if the EXIF is damaged.

    May decode a PNG, in which EXIF may follow the pixels.
    """
    from PIL.Image import Image

    if image.format == "PNG" and _has_metadata_after_pixels(path):
        image.load()
    try:  # not `image.getexif()`, which decodes every PNG without EXIF to search for it
        return Image.getexif(image).get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF can raise anything
        return 0


def _has_metadata_after_pixels(path: Path) -> bool:
    """Whether a PNG has text or EXIF after its pixels."""
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


def _unread_notes(image: "Image") -> tuple[str, ...]:
    notes = []
    if _is_deep(image):
        notes.append("have more than 8 bits per channel and are reduced to 8")
    if image.mode == "CMYK":
        notes.append("are CMYK and are converted to RGB without a colour profile")
    profile = image.info.get("icc_profile") or b"sRGB"
    if not any("sRGB".encode(code) in profile for code in ("ascii", "utf-16-be")):
        notes.append("carry a colour profile other than sRGB, which is not applied")
    if getattr(image, "is_animated", False):
        notes.append("have several frames or pages, of which only the first is read")
    return tuple(notes)


def _is_deep(image: "Image") -> bool:
    """Whether the file itself, before Pillow converts it, has more than 8 bits per channel."""
    if image.format == "TIFF":
        return max(image.tag_v2.get(_BITS, (1,))) > 8
    if image.format not in ("PNG", "PPM"):
        return False
    mode = image.tile[0][3]  # a raw mode such as RGB;16B, in PPM also (mode, largest value)
    return mode[-1] > 255 if isinstance(mode, tuple) else ";16" in mode


def _eight_bits(image: "Image") -> "Image":
    """16-bit grey as L. PNG can define one value as transparent."""
    from PIL import Image

    pixels = np.asarray(image)
    grey = (pixels >> 8).astype(np.uint8)
    if "transparency" in image.info:
        grey[pixels == image.info["transparency"]] = 255
    return Image.fromarray(grey)


def _on_white(image: "Image") -> "Image":
    from PIL import Image

    if image.mode == "La":  # Pillow cannot convert it directly
        image = image.convert("LA")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} cannot be read as an image ({error}): replace or remove it")
