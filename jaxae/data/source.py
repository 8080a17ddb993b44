"""What a source of images hands over, and the options of what becomes of it."""

import dataclasses
import math
import os
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Protocol

import numpy as np

from jaxae.fields import CountOrZero, Range, Side, check_fields

# Seeds of the choices that must not change from run to run, so that numbers can be compared.
_HELD_OUT = 2
_VALIDATION = 2, 2**61  # apart from training orders too
_BLOCK_BYTES = 2**24  # of images in memory at once when a whole set is read


class DataError(ValueError):
    """Data that is missing, unreadable or unfit for what was asked; the message says what to do."""


class DataWarning(UserWarning):
    """Data is read, but not all of it, or not as one may have meant."""


@dataclasses.dataclass(frozen=True)
class Options:
    """How raw images become what a model sees. The default is pixels scaled to [0, 1]."""

    binarise: Literal["none", "dynamic", "fixed"] = "none"
    """Draw pixels as 0 or 1, by their values: at every visit (dynamic) or once (fixed)."""
    dequantise: bool = False
    """Spread each of L levels evenly over its share of [0, 1): (v + u) / L with u in (0, 1)."""
    standardise: bool = False
    """Subtract the training pixels' mean and divide by their standard deviation (two scalars)."""
    labels: CountOrZero = 0
    """Labelled training examples a semi-supervised method may see, class-balanced; 0: all."""
    label_draw: CountOrZero = 0
    """Which of the balanced choices of `labels` examples: 0, 1, 2, ..."""
    labels_batch: Annotated[int, Range(0, 2**20)] = 0
    """Labelled examples drawn beside each batch, for models that learn from few labels; 0: none."""
    validation: CountOrZero = 0
    """Training images held out, the same in every run, for the looks on the way, so that a best
    checkpoint can be told without the test images; 0: none but those that the set itself has."""
    image_size: Side = 0
    """folder: and tfds: only. Side of the resized and centre-cropped images; 0: as they are."""
    colour: Literal["auto", "grey", "rgb"] = "auto"
    """folder: and tfds: only. Convert to one or three channels; auto: grey if every image is."""
    resident_mib: CountOrZero = 2048
    """Images larger than this in total, in MiB, are streamed from the host batch by batch."""

    def __post_init__(self) -> None:
        check_fields(self, DataError)
        for other in ("dequantise", "standardise"):
            if self.binarise != "none" and getattr(self, other):
                raise DataError(
                    f"binarise={self.binarise!r} and {other} contradict each other: choose one"
                )


class Images(Protocol):
    """A raw image array `[N, H, W, C]`, or something read piece by piece that looks like one."""

    shape: tuple[int, ...]
    dtype: Any

    def __getitem__(self, indices: np.ndarray) -> np.ndarray: ...


class Raw(NamedTuple):
    """What a source hands over: unscaled images, labels, and the number of values a pixel takes.

    Labels are integers that are not negative; which ones is the source's affair. Validation images
    are a set's own, beside test images.
    """

    train: Images
    train_labels: np.ndarray | None
    test: Images
    test_labels: np.ndarray | None
    levels: int  # L: uint8 values 0..L-1; 0: float32 in [0, 1]
    class_names: Sequence[str] | None = None  # by label; None: its digits are its name
    validation: Images | None = None
    validation_labels: np.ndarray | None = None


def refuse_resizing(name: str, options: Options) -> None:
    """Raises DataError where `image_size` or `colour` is set for a source that ignores it."""
    for field, default in (("image_size", 0), ("colour", "auto")):
        if getattr(options, field) != default:
            raise DataError(f"{name}: {field} works with folder: and tfds: data only")


def hold_out(size: int, labels: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Positions kept for training and a tenth held out for testing, both ascending.

    Raises:
        DataError: fewer than two images, or too many that are the only ones of their class.
    """
    if size < 2:
        raise DataError(f"{size} image cannot be split into training and test images")
    return parted(permuted(size, _HELD_OUT, 0), max(1, size // 10), labels)


def with_validation(name: str, raw: Raw, count: int) -> Raw:
    """`count` training images as validation images; chosen by their number alone.

    Raises:
        DataError: there are validation images already, or fewer training images can be spared.
    """
    if raw.validation is not None:
        raise DataError(
            f"{name}: validation={count}, but the set has {raw.validation.shape[0]} validation "
            "images of its own; leave validation at 0"
        )
    size, labels = raw.train.shape[0], raw.train_labels
    try:
        kept, held_out = parted(permuted(size, *_VALIDATION), count, labels)
    except DataError as error:
        raise DataError(f"{name}: validation={count}: {error}") from error
    of = lambda part: None if labels is None else labels[part]
    return raw._replace(
        train=chosen(raw.train, kept), train_labels=of(kept),
        validation=chosen(raw.train, held_out), validation_labels=of(held_out),
    )  # fmt: skip


def parted(
    order: np.ndarray, count: int, labels: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Positions that are kept, and `count` that are held out, both ascending.

    Held out are the first of an order, but for images that would leave their class without one that
    is kept: of each class the last one stays (without labels, of all).

    Args:
        order: a permutation of 0..N-1.
        labels: `[N]`, or None.
    Raises:
        DataError: fewer than `count` images can be spared.
    """
    sorts = np.zeros(len(order), int) if labels is None else np.asarray(labels)[order]
    _, last = np.unique(sorts[::-1], return_index=True)
    spared = np.delete(order, len(order) - 1 - last)
    if len(spared) < count:
        stays = "one has" if labels is None else f"one of each of the {len(last)} classes has"
        raise DataError(
            f"{count} of {len(order)} images cannot be held out: {stays} to stay for training"
        )
    held_out = np.sort(spared[:count])
    return np.setdiff1d(order, held_out), held_out


class Chosen:
    """Some images of others that are read piece by piece; looks like an array itself."""

    def __init__(self, images: Images, positions: np.ndarray) -> None:
        self.shape = (len(positions), *images.shape[1:])
        self.dtype = images.dtype
        self._images = images
        self._positions = positions

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        return self._images[self._positions[indices]]


def chosen(images: Images, positions: np.ndarray) -> Images:
    """The images at some positions, in that order: an array of an array, else `Chosen`."""
    if isinstance(images, np.ndarray):
        return images[positions]
    return Chosen(images, positions)


def permuted(size: int, *key: int) -> np.ndarray:
    """A permutation of 0..size-1, a pure function of two integers."""
    return np.argsort(random_bits(size, *key), kind="stable")


def drawn(count: int, size: int, *key: int) -> np.ndarray:
    """`count` numbers of 0..size-1 with replacement, a pure function of two integers."""
    first, second = key
    return (random_bits(count, first, 2**63 + second) % np.uint64(size)).astype(np.int64)


def random_bits(size: int, *key: int) -> np.ndarray:
    """uint64 `[size]`, a pure function of two integers, the same in every version of numpy."""
    words = np.array([int(word) % 2**64 for word in key], np.uint64)
    return np.random.Philox(key=words).random_raw(size)


def content_bits(count: int, seed: int, stream: int) -> np.ndarray:
    """Random bits of generated data, apart from those of training orders.

    A data set made from the bits that also order it would be seen sorted.
    """
    return random_bits(count, seed, 2**62 + stream)


def content_shares(count: int, seed: int, stream: int) -> np.ndarray:
    """`[count]` float64, uniform in (0, 1), of `content_bits`."""
    return ((content_bits(count, seed, stream) >> np.uint64(11)) + 0.5) / 2**53


def blocks(images: Images) -> Iterator[np.ndarray]:
    """Consecutive positions that cover all images, a bounded number of bytes at a time."""
    count = images.shape[0]
    step = max(1, _BLOCK_BYTES // bytes_each(images))
    for start in range(0, count, step):
        yield np.arange(start, min(start + step, count))


def bytes_each(images: Images) -> int:
    """Size of one image in memory."""
    return math.prod(images.shape[1:]) * np.dtype(images.dtype).itemsize


def refuse_without_memory(images: Images, options: Options) -> None:
    """Raises DataError where reading a set once needs more memory than the machine has.

    Needed are the images themselves where they are to be resident, and beside one block of them
    its sums and the mean image, some 32 bytes a value.
    """
    values = math.prod(images.shape[1:])
    every = images.shape[0] * bytes_each(images)
    held = 0 if isinstance(images, np.ndarray) or every > options.resident_mib * 2**20 else every
    needed, there = held + max(_BLOCK_BYTES, bytes_each(images)) + 32 * values, memory_bytes()
    if needed > there:
        remedy = f"lower resident_mib={options.resident_mib}"
        if held <= 32 * values:
            remedy = f"choose a smaller image_size than {max(images.shape[1:3])}"
        raise DataError(
            f"{images.shape[0]} images of {tuple(images.shape[1:])} need "
            f"{needed / 2**30:,.1f} GiB of memory, of which there are {there / 2**30:,.1f}: "
            f"{remedy}"
        )


def memory_bytes() -> float:
    """The machine's memory; infinite where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # no POSIX
        return math.inf
