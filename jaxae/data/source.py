"""The interface of a source of images, the preprocessing options, and random choices."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Protocol

import numpy as np

from jaxae.fields import CountOrZero, Range, Side, check_fields
from jaxae.memory import host_memory

# Seeds of choices that are the same in every run, so that results can be compared.
_HELD_OUT = 2
_VALIDATION = 2, 2**61  # different from the keys of training orders too
_BLOCK_BYTES = 2**24  # bytes of images in memory at once when a whole set is read


class DataError(ValueError):
    """Data that is missing, unreadable or does not fit the options; the message says what to do."""


class DataWarning(UserWarning):
    """Data was read, but only in part, or perhaps not as intended."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Preprocessing of raw images. The default is pixels scaled to [0, 1]."""

    binarise: Literal["none", "dynamic", "fixed"] = "none"
    """Sample pixels as 0 or 1 with their value as probability: in every batch (dynamic) or once
    (fixed)."""
    dequantise: bool = False
    """Add uniform noise to each of L levels: (v + u) / L with u in (0, 1)."""
    standardise: bool = False
    """Subtract the training pixels' mean and divide by their standard deviation (two scalars)."""
    labels: CountOrZero = 0
    """Labelled training examples for semi-supervised training, class-balanced; 0: all."""
    label_draw: CountOrZero = 0
    """Seed of the random choice of the `labels` labelled examples: 0, 1, 2, ..."""
    labels_batch: Annotated[int, Range(0, 2**20)] = 0
    """Labelled examples sampled in addition to each batch, for semi-supervised models; 0: none."""
    validation: CountOrZero = 0
    """Training images held out for evaluation during training, the same in every run, so that the
    best checkpoint is chosen without test images; 0: only those of the set itself."""
    image_size: Side = 0
    """folder: and tfds: only. Side of the resized and centre-cropped images; 0: unchanged."""
    colour: Literal["auto", "grey", "rgb"] = "auto"
    """folder: and tfds: only. Convert to one or three channels; auto: grey if every image is."""
    resident_mib: CountOrZero = 2048
    """Sets of images larger than this, in MiB, are streamed from the host batch by batch."""

    def __post_init__(self) -> None:
        check_fields(self, DataError)
        for other in ("dequantise", "standardise"):
            if self.binarise != "none" and getattr(self, other):
                raise DataError(
                    f"binarise={self.binarise!r} and {other} exclude each other: choose one"
                )


class Images(Protocol):
    """A raw image array `[N, H, W, C]`, or an object with the same interface."""

    shape: tuple[int, ...]
    dtype: Any

    def __getitem__(self, indices: np.ndarray) -> np.ndarray: ...


class Raw(NamedTuple):
    """The result of a source: unscaled images, labels, and the number of values of a pixel.

    Labels are any non-negative integers. `validation`: only if the set itself has such images.
    """

    train: Images
    train_labels: np.ndarray | None
    test: Images
    test_labels: np.ndarray | None
    levels: int  # L: uint8 values 0..L-1; 0: float32 in [0, 1]
    class_names: Sequence[str] | None = None  # by label; None: the label as text
    validation: Images | None = None
    validation_labels: np.ndarray | None = None


def check_no_resizing(name: str, options: Options) -> None:
    """Raises DataError if `image_size` or `colour` is set for a source that ignores it."""
    for field, default in (("image_size", 0), ("colour", "auto")):
        if getattr(options, field) != default:
            raise DataError(f"{name}: {field} works with folder: and tfds: data only")


def split_test(size: int, labels: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Positions for training, and a tenth for testing, both ascending.

    Raises:
        DataError: fewer than two images, or too many classes with one image only.
    """
    if size < 2:
        raise DataError(f"{size} image cannot be split into training and test images")
    return split_holdout(random_permutation(size, _HELD_OUT, 0), max(1, size // 10), labels)


def split_validation(name: str, raw: Raw, count: int) -> Raw:
    """Takes `count` of the training images as validation images.

    The choice depends only on the number of images and their labels.

    Raises:
        DataError: there are validation images already, or fewer images can be held out.
    """
    if raw.validation is not None:
        raise DataError(
            f"{name}: validation={count}, but the set has {raw.validation.shape[0]} validation "
            "images of its own; leave validation at 0"
        )
    size, labels = raw.train.shape[0], raw.train_labels
    try:
        train, held_out = split_holdout(random_permutation(size, *_VALIDATION), count, labels)
    except DataError as error:
        raise DataError(f"{name}: validation={count}: {error}") from error
    labels_of = lambda part: None if labels is None else labels[part]
    return raw._replace(
        train=take(raw.train, train), train_labels=labels_of(train),
        validation=take(raw.train, held_out), validation_labels=labels_of(held_out),
    )  # fmt: skip


def split_holdout(
    order: np.ndarray, count: int, labels: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Positions for training, and `count` held-out positions, both ascending.

    The first positions of `order` are held out, except the last image of each class (without
    labels: the last image), so that every class has one for training.

    Args:
        order: a permutation of 0..N-1.
        labels: `[N]`, or None.
    Raises:
        DataError: fewer than `count` images can be held out.
    """
    classes = np.zeros(len(order), int) if labels is None else np.asarray(labels)[order]
    _, last = np.unique(classes[::-1], return_index=True)
    available = np.delete(order, len(order) - 1 - last)
    if len(available) < count:
        required = "one has" if labels is None else f"one of each of the {len(last)} classes has"
        raise DataError(
            f"{count} of {len(order)} images cannot be held out: {required} to stay for training"
        )
    held_out = np.sort(available[:count])
    return np.setdiff1d(order, held_out), held_out


class Subset:
    """A selection of `Images` that are not an array; implements `Images` too."""

    def __init__(self, images: Images, positions: np.ndarray) -> None:
        self.shape = (len(positions), *images.shape[1:])
        self.dtype = images.dtype
        self._images = images
        self._positions = positions

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        return self._images[self._positions[indices]]


def take(images: Images, positions: np.ndarray) -> Images:
    """The images at `positions`, in that order: an array for an array, else a `Subset`."""
    if isinstance(images, np.ndarray):
        return images[positions]
    return Subset(images, positions)


def random_permutation(size: int, *key: int) -> np.ndarray:
    """A permutation of 0..size-1, a pure function of two integers."""
    return np.argsort(random_bits(size, *key), kind="stable")


def random_indices(count: int, size: int, *key: int) -> np.ndarray:
    """`count` random numbers of 0..size-1 with replacement, a pure function of two integers."""
    first, second = key
    return (random_bits(count, first, 2**63 + second) % np.uint64(size)).astype(np.int64)


def random_bits(size: int, *key: int) -> np.ndarray:
    """uint64 `[size]`, a pure function of two integers, the same in every version of numpy."""
    words = np.array([int(word) % 2**64 for word in key], np.uint64)
    return np.random.Philox(key=words).random_raw(size)


def synthetic_bits(count: int, seed: int, stream: int) -> np.ndarray:
    """Random bits `[count]` for generated data, independent of those of training orders.

    If data and order were generated from the same bits, batches would be sorted.
    """
    return random_bits(count, seed, 2**62 + stream)


def synthetic_uniforms(count: int, seed: int, stream: int) -> np.ndarray:
    """`[count]` float64, uniform in (0, 1), from `synthetic_bits`."""
    return ((synthetic_bits(count, seed, stream) >> np.uint64(11)) + 0.5) / 2**53


def blocks(images: Images) -> Iterator[np.ndarray]:
    """Consecutive positions that cover all images, in blocks of a bounded number of bytes."""
    count = images.shape[0]
    step = max(1, _BLOCK_BYTES // image_bytes(images))
    for start in range(0, count, step):
        yield np.arange(start, min(start + step, count))


def image_bytes(images: Images) -> int:
    """Size of one image in memory."""
    return math.prod(images.shape[1:]) * np.dtype(images.dtype).itemsize


def check_memory(images: Images, options: Options) -> None:
    """Raises DataError if reading a set once needs more memory than the machine has.

    The estimate includes the images if they are to be resident, one block of them, and its sums
    and the mean image, about 32 bytes per value.
    """
    values = math.prod(images.shape[1:])
    total = images.shape[0] * image_bytes(images)
    loaded = 0 if isinstance(images, np.ndarray) or total > options.resident_mib * 2**20 else total
    needed, memory = loaded + max(_BLOCK_BYTES, image_bytes(images)) + 32 * values, host_memory()
    if memory is not None and needed > memory:
        remedy = f"lower resident_mib={options.resident_mib}"
        if loaded <= 32 * values:
            remedy = f"choose a smaller image_size than {max(images.shape[1:3])}"
        raise DataError(
            f"{images.shape[0]} images of {tuple(images.shape[1:])} need "
            f"{needed / 2**30:,.1f} GiB of memory, there are {memory / 2**30:,.1f} GiB: {remedy}"
        )
