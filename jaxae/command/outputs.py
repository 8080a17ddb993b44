"""Writes outputs of a trained model to files: samples, codes, decoded images, interpolations."""

import math
import os
import pathlib
import shutil
from collections.abc import Iterable

import jax
import numpy as np

from jaxae import evaluation
from jaxae.command.run import EVALUATION_KEY
from jaxae.command.trained import Trained
from jaxae.data import Options
from jaxae.data.folder import images_below
from jaxae.settings import UsageError
from jaxae.training.divergence import Diverged

SAMPLES = 250  # most samples per batch
MOST = 1_000_000  # largest --n
COLUMNS, STEPS = 8, 8  # columns of reconstructions, steps of an interpolation


def write_samples(trained: Trained, folder: pathlib.Path, n: int = 64) -> int:
    """Writes n samples as numbered PNGs.

    Raises:
        UsageError: the model cannot sample, or n is too small, too large, or the disk has too
            little room (estimated from the number of pixels: a PNG is rarely larger).
    """
    trained.require("sample")
    prepare(trained, folder, n, n)
    trained.batch_size = min(n, SAMPLES)
    batches = trained.sample_batches(n, EVALUATION_KEY, np.float32)
    write_pngs((image for batch in batches for image in batch), folder, n)
    print(f"{n} samples of seed {trained.seed} in {folder}")
    return 0


def write_codes(trained: Trained, file: pathlib.Path) -> int:
    """Writes a .npz file: the codes of every split, labels, and names of classes.

    Raises:
        UsageError: the model cannot encode.
        Diverged: the codes are not finite.
    """
    trained.require("encode")
    arrays, data, key = {}, trained.data, jax.random.key(EVALUATION_KEY)
    for name in ("train", "test", "validation"):
        if (split := getattr(data, name)) is None:
            continue
        try:
            codes, labels = evaluation.encode_split(
                trained.model, trained.state, split, trained.batch_size, key
            )
        except ValueError as error:
            raise Diverged(str(error)) from error
        arrays[name] = codes
        if labels is not None:
            arrays[f"{name}_labels"] = labels
            arrays["class_names"] = np.array(data.class_names)
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "wb") as stream:  # given a file name, numpy would add .npz
        np.savez(stream, **arrays)
    shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
    print(f"{shapes} of seed {trained.seed} in {file}")
    return 0


def write_decoded(
    trained: Trained, codes_from: pathlib.Path, folder: pathlib.Path, n: int = 64
) -> int:
    """Writes the images of the first n codes of a file as numbered PNGs.

    Raises:
        UsageError: the model cannot decode, or the file holds no codes that fit.
    """
    trained.require("decode")
    codes = read_array(codes_from, ("codes", "test"))
    count = min(n, len(codes)) if codes.ndim else 0
    images = trained.decode(codes[:n] if codes.ndim else codes, np.float32)
    prepare(trained, folder, n, count)
    write_pngs(images, folder, count)
    print(f"{count} decoded codes of {len(codes)} in {folder}")
    return 0


def write_reconstructions(
    trained: Trained, images_from: str | None, folder: pathlib.Path, n: int = 64
) -> int:
    """Writes n images and their reconstructions as numbered PNGs, and a page of both.

    Args:
        images_from: see `read_images`.
    Raises:
        UsageError: the model cannot encode or decode, or the images do not fit it.
    """
    trained.require("encode", "decode")
    images = read_images(trained, images_from, n)
    reconstructions = trained.reconstruct(images, np.float32)
    prepare(trained, folder, n, 2 * len(images))
    write_pngs(images, folder, len(images), "-image")
    write_pngs(reconstructions, folder, len(images), "-reconstruction")
    rows = range(0, len(images), COLUMNS)
    empty = np.ones((-len(images) % COLUMNS, *images.shape[1:]), np.float32)
    full = [np.concatenate([part, empty]) for part in (images, reconstructions)]
    evaluation.image_grid(
        np.concatenate([part[row : row + COLUMNS] for row in rows for part in full]),
        COLUMNS,
        folder / "grid.png",
        title="Reconstructions",
        note="pairs of rows: images, and below them what their codes decode to",
        row_labels=["image", "decoded"] * len(rows),
        row_gap_every=2,
    )
    print(f"{len(images)} images and their reconstructions, and a page of both, in {folder}")
    return 0


def write_interpolations(
    trained: Trained, images_from: str | None, file: pathlib.Path, n: int = 8
) -> int:
    """Writes a page of n interpolations, one row per pair of images.

    Args:
        images_from: see `read_images`; the first half is on the left, the second on the right.
    Raises:
        UsageError: the model cannot encode or decode, or the images do not fit it.
    """
    trained.require("encode", "decode")
    _check_number(n)
    images = read_images(trained, images_from, 2 * n)
    pairs = len(images) // 2
    if not pairs:
        raise UsageError(f"an interpolation needs two images, there is {len(images)}")
    left, right = images[:pairs], images[pairs : 2 * pairs]
    interpolations = trained.interpolate(left, right, STEPS, np.float32)
    rows = np.concatenate([left[:, None], interpolations, right[:, None]], axis=1)
    percent = [f"{100 * share:.0f} %" for share in np.linspace(0, 1, STEPS)]
    evaluation.image_grid(
        rows.reshape(-1, *rows.shape[2:]),
        STEPS + 2,
        file,
        title="Interpolations",
        note="decoded mixtures of the codes of two images; per cent: share of the right one",
        column_labels=["image", *percent, "image"],
        column_gaps=(0, STEPS),
    )
    print(f"{pairs} interpolations in {file}")
    return 0


def read_images(trained: Trained, images_from: str | None, n: int) -> np.ndarray:
    """The first n images, float32 in [0, 1].

    Args:
        images_from: `folder:<path>`, images below a folder, cropped and resized to the size of the
            model's images if these are square; an .npz file (its array `images`, or its only one)
            or .npy file; None: the test images.
    Raises:
        UsageError, DataError: the images are missing, broken or do not fit the model.
    """
    _check_number(n)
    if images_from is None:
        split = trained.data.test
        images = split.gather(np.arange(min(n, split.size)))["image"]
    elif images_from.startswith("folder:"):
        height, width, channels = trained.image_shape
        options = Options(
            image_size=height if height == width else 0, colour="grey" if channels == 1 else "rgb"
        )
        files = images_below(images_from.removeprefix("folder:"), options)
        images = files[np.arange(min(n, files.shape[0]))] / np.float32(255)
    else:
        images = read_array(pathlib.Path(images_from), ("images",))[:n]
    return trained.as_floats(images)


def read_array(file: pathlib.Path, names: tuple[str, ...]) -> np.ndarray:
    """The array of an .npy file, or of an .npz file the first of `names`, or its only one.

    Raises:
        UsageError: there is no such file or array.
    """
    try:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            stored = loaded.files
            matches = [name for name in names if name in stored]
            if not matches and len(stored) == 1:
                matches = stored
            if matches:
                return loaded[matches[0]]
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(f"{file} cannot be read as an .npz or .npy file: {error}") from error
    raise UsageError(
        f"{file} holds the arrays {', '.join(stored)}, and none is called {' or '.join(names)}"
    )


def prepare(trained: Trained, folder: pathlib.Path, n: int, count: int) -> None:
    """Creates a folder for `count` images.

    Raises:
        UsageError: n is too small or too large, or the disk has too little room.
    """
    _check_number(n)
    folder.mkdir(parents=True, exist_ok=True)
    block = os.statvfs(folder).f_frsize if hasattr(os, "statvfs") else 4096
    needed = count * -(-math.prod(trained.image_shape) // block) * block
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UsageError(
            f"--n {n}: about {needed / 2**20:,.0f} MiB of pictures, and {folder} has room for "
            f"{free / 2**20:,.0f} MiB: ask for fewer, or choose another --out"
        )


def write_pngs(images: Iterable[np.ndarray], folder: pathlib.Path, n: int, end: str = "") -> None:
    """Writes images `[H,W,C]` in [0, 1] as `<number><end>.png`, with enough digits for n."""
    from PIL import Image

    digits = max(5, len(str(n - 1)))
    for number, image in enumerate(images):
        pixels = np.uint8(np.round(np.clip(image, 0, 1) * 255))
        png = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        png.save(folder / f"{number:0{digits}d}{end}.png")


def _check_number(n: int) -> None:
    if not 1 <= n <= MOST:
        raise UsageError(f"--n {n}: must be at least 1 and at most {MOST:,}")
