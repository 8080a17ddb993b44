"""One picture: as a viewer shows it on a white page, and what is said of the rest of its file."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from jaxae.data import DataError
from jaxae.data.pictures import Header, decode, read_header

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (2, 3), np.uint8)
COLOUR = RNG.integers(0, 256, (2, 3, 3), np.uint8)
ALPHA = np.uint8([[0, 255, 128], [1, 254, 77]])
DEEP = np.array([[0, 255, 256], [40_000, 65_279, 65_535]], np.uint16)
UPPER = [[0, 0, 1], [156, 254, 255]]  # by hand: the quotients by 256
NO_PROFILE = "carry a colour profile other than sRGB, which is not applied"
DEPTH = "have more than 8 bits per channel and are reduced to 8"
FRAMES = "have several frames or pages, of which only the first is read"

# Where row 0 and column 0 of what is stored lie in what is shown (EXIF 2.3, tag 0x0112).
SHOWN = {
    1: lambda a: a,  # top, left
    2: lambda a: a[:, ::-1],  # top, right
    3: lambda a: a[::-1, ::-1],  # bottom, right
    4: lambda a: a[::-1],  # bottom, left
    5: lambda a: a.T,  # left, top
    6: lambda a: a[::-1].T,  # right, top
    7: lambda a: a[::-1, ::-1].T,  # right, bottom
    8: lambda a: a[:, ::-1].T,  # left, bottom
}


def read(path, grey=True):
    """The pixels of a file, without the axis of one grey channel, and what its header says."""
    pixels, header = decode(path, 0, grey), read_header(path)
    assert pixels.shape[:2] == (header.height, header.width)
    return (pixels[..., 0] if grey else pixels), header


# --- orientation ---


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", SHOWN)
def test_orientation_is_obeyed(tmp_path, orientation, suffix):
    path, exif = tmp_path / f"a.{suffix}", Image.Exif()
    exif[274] = orientation
    words = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(GREY).convert("RGB").save(path, exif=exif, **words)
    np.testing.assert_array_equal(read(path)[0], SHOWN[orientation](GREY))


def test_orientation_of_a_jpeg(tmp_path):
    path, exif = tmp_path / "a.jpg", Image.Exif()
    exif[274] = 6
    halves = np.zeros((16, 32), np.uint8)
    halves[:, 16:] = 255
    Image.fromarray(halves).save(path, exif=exif)
    pixels, header = read(path)
    assert header == Header(32, 16, grey=True)
    np.testing.assert_allclose(pixels, SHOWN[6](halves), atol=2)


def chunk(kind, content):
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def test_orientation_that_a_png_states_behind_its_pixels(tmp_path):
    path, exif = tmp_path / "a.png", Image.Exif()
    exif[274] = 8
    Image.fromarray(GREY).save(path)
    whole, end = path.read_bytes(), chunk(b"IEND", b"")
    assert whole.endswith(end)
    said = chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    path.write_bytes(whole.removesuffix(end) + said + end)
    np.testing.assert_array_equal(read(path)[0], SHOWN[8](GREY))


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_a_picture_of_damaged_exif_is_upright_and_said(tmp_path, suffix):
    path, words = tmp_path / f"a.{suffix}", {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(GREY).convert("RGB").save(path, exif=b"Exif\0\0garbage", **words)
    pixels, header = read(path)
    np.testing.assert_array_equal(pixels, GREY)
    assert header.notes == ("have damaged EXIF and are not rotated",)


# --- transparency ---


def on_white(colour, alpha):
    share = alpha / 255.0
    return share[..., None] * colour + (1 - share[..., None]) * 255.0


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_transparency_is_composited_on_white(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    words = {"lossless": True, "exact": True} if suffix == "webp" else {}
    Image.fromarray(np.dstack([COLOUR, ALPHA])).save(path, **words)
    pixels, header = read(path, grey=False)
    np.testing.assert_allclose(pixels, on_white(COLOUR, ALPHA), atol=1)
    np.testing.assert_array_equal(pixels[0, :2], [[255] * 3, COLOUR[0, 1]])
    assert header == Header(2, 3, grey=False)


def test_grey_with_transparency_stays_grey(tmp_path):
    Image.fromarray(np.dstack([GREY, ALPHA])).save(tmp_path / "a.png")
    pixels, header = read(tmp_path / "a.png")
    np.testing.assert_allclose(pixels, on_white(GREY[..., None], ALPHA)[..., 0], atol=1)
    assert header.grey


def test_premultiplied_pixels_are_composited_once(tmp_path):
    """TIFF with associated alpha (ExtraSamples 1): half of 200 is stored as 100."""
    stored = np.uint8([[[100, 0, 100, 128]]])
    Image.fromarray(stored).save(tmp_path / "a.tif")
    entry = struct.pack("<HHI", 338, 3, 1)
    content = (tmp_path / "a.tif").read_bytes()
    assert content.count(entry + b"\2") == 1
    (tmp_path / "a.tif").write_bytes(content.replace(entry + b"\2", entry + b"\1"))
    want = stored[..., :3] + (255 - 128.0)
    np.testing.assert_allclose(read(tmp_path / "a.tif", grey=False)[0], want, atol=2)


@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_a_transparent_entry_of_a_palette_is_white(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    image.save(path, transparency=0)
    np.testing.assert_array_equal(read(path, grey=False)[0], [[[255] * 3, [40, 50, 60]]])


@pytest.mark.parametrize(("mode", "value"), [("L", 7), ("RGB", (7, 8, 9))])
def test_a_transparent_colour_is_white(tmp_path, mode, value):
    image = Image.new(mode, (2, 1), value)
    image.putpixel((1, 0), 30 if mode == "L" else (7, 8, 10))
    image.save(tmp_path / "a.png", transparency=value)
    pixels, _ = read(tmp_path / "a.png", grey=mode == "L")
    np.testing.assert_array_equal(pixels[0, 0], [255] * 3 if mode == "RGB" else 255)
    np.testing.assert_array_equal(pixels[0, 1], [7, 8, 10] if mode == "RGB" else 30)


# --- depth ---


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_of_sixteen_bits_the_upper_eight_are_kept(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    if suffix == "pgm":
        path.write_bytes(b"P5 3 2 65535\n" + DEEP.astype(">u2").tobytes())
    else:
        Image.fromarray(DEEP).save(path)
    pixels, header = read(path)
    np.testing.assert_array_equal(pixels, UPPER)
    assert header == Header(2, 3, True, (DEPTH,))
    np.testing.assert_array_equal(read(path, grey=False)[0], np.stack([np.uint8(UPPER)] * 3, -1))


def png(kind, pixels, *more):
    """A PNG of 16 bits per channel, written by hand: Pillow writes none in colour."""
    height, width = pixels.shape[:2]
    rows = pixels.astype(">u2").reshape(height, -1)
    content = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    parts = (b"IHDR", header), *more, (b"IDAT", content), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def test_sixteen_bits_of_colour_are_reduced_alike_and_said(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png(2, np.stack([DEEP, DEEP, DEEP[::-1]], -1)))
    pixels, header = read(path, grey=False)
    np.testing.assert_array_equal(pixels, np.stack([UPPER, UPPER, UPPER[::-1]], -1))
    assert header == Header(2, 3, False, (DEPTH,))


def test_the_transparent_value_of_sixteen_bits_is_white(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png(0, DEEP, (b"tRNS", struct.pack(">H", 40_000))))
    np.testing.assert_array_equal(read(path)[0], [[0, 0, 1], [255, 254, 255]])


@pytest.mark.parametrize(
    ("image", "words", "mode"),
    [
        (np.full((2, 2), 1.5, np.float32), {}, "F"),
        (np.full((2, 2), 70_000, np.int32), {}, "I"),
        (DEEP, {"tiffinfo": {262: 0}}, "I;16"),  # white is zero
        (DEEP, {"tiffinfo": {339: 2}}, "I"),  # signed
    ],
)
def test_pixels_whose_range_is_not_certain_are_refused(tmp_path, image, words, mode):
    path = tmp_path / "a.tif"
    Image.fromarray(image).save(path, **words)
    for function in (read_header, lambda path: decode(path, 0, True)):
        with pytest.raises(DataError, match=rf"a\.tif has pixels of type {mode}, whose range is"):
            function(path)


# --- what is said ---


def profile(name):
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes()


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
def test_a_colour_profile_is_said_unless_it_is_the_usual_one(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    for name, notes in (("sRGB", ()), ("XYZ", (NO_PROFILE,))):
        Image.fromarray(COLOUR).save(path, icc_profile=profile(name))
        assert read_header(path).notes == notes


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_frames_after_the_first_are_said_and_the_first_is_read(tmp_path, suffix):
    path, words = tmp_path / f"a.{suffix}", {"lossless": True} if suffix == "webp" else {}
    frames = [Image.new("L", (3, 2), value) for value in (10, 200)]
    frames[0].save(path, save_all=True, append_images=frames[1:], **words)
    pixels, header = read(path)
    assert header.notes == (FRAMES,)
    assert (pixels == 10).all()
    frames[0].save(path, **words)
    assert read_header(path).notes == ()


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "webp", "tif", "ppm"])
def test_of_plain_files_nothing_is_said(tmp_path, suffix):
    Image.fromarray(COLOUR).save(tmp_path / f"a.{suffix}")
    assert read_header(tmp_path / f"a.{suffix}") == Header(2, 3, grey=False)
