"""From raw images to the batches a model sees.

A `Split` is one half of a data set. Its batches are a pure function of (seed, step): the order of
an epoch is a permutation keyed by (seed, epoch), and the noise of an image (binarisation,
dequantisation) is keyed by the step's key and the image's own position, so it depends neither on
the other images of the batch nor on how the batch is spread over devices. Images that fit are
indexed on the device (`arrays`, `rows`); larger sets are gathered on the host (`gather`). Both ways
end in `finish` and give the same bits.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxae.training.state import Spec

# Keys of everything that must not change from run to run, so that numbers can be compared.
_LABELLED, _HELD_OUT = 1, 2
_BINARISED = {True: 11, False: 12}  # by Split.is_train
_EVALUATED = {True: 21, False: 22}
_BLOCK_BYTES = 2**24  # of images in memory at once when a whole set is read


class DataError(ValueError):
    """Data that is missing, unreadable or unfit for what was asked; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Options:
    """How raw images become what a model sees. The default is pixels scaled to [0, 1]."""

    binarise: Literal["none", "dynamic", "fixed"] = "none"
    """Draw each pixel as 0 or 1 with its value as probability: anew at every visit (dynamic), or
    once and for all (fixed)."""
    dequantise: bool = False
    """Spread each of L levels evenly over its share of [0, 1): (v + u) / L with u in (0, 1)."""
    standardise: bool = False
    """Subtract the training pixels' mean and divide by their standard deviation (two scalars)."""
    labels: int = 0
    """Labelled training examples a semi-supervised method may see, class-balanced; 0: all."""
    image_size: int = 0
    """folder: and tfds: only. Resize the shorter side to this and crop the centre; 0: as they are,
    which must then be all of one size."""
    colour: Literal["auto", "grey", "rgb"] = "auto"
    """folder: and tfds: only. Convert to one or three channels; auto: grey if every image is."""
    resident_mib: int = 2048
    """Images larger than this in total, in MiB, are streamed from the host batch by batch."""

    def __post_init__(self) -> None:
        if self.binarise not in ("none", "dynamic", "fixed"):
            raise DataError(f"binarise is none, dynamic or fixed, not {self.binarise!r}")
        if self.colour not in ("auto", "grey", "rgb"):
            raise DataError(f"colour is auto, grey or rgb, not {self.colour!r}")
        for other in ("dequantise", "standardise"):
            if self.binarise != "none" and getattr(self, other):
                raise DataError(
                    f"binarise={self.binarise!r} and {other} contradict each other: choose one"
                )
        for field in ("labels", "image_size", "resident_mib"):
            if getattr(self, field) < 0:
                raise DataError(f"{field} must not be negative, is {getattr(self, field)}")


class Images(Protocol):
    """A raw image array `[N, H, W, C]`, or something read piece by piece that looks like one."""

    shape: tuple[int, ...]
    dtype: Any

    def __getitem__(self, indices: np.ndarray) -> np.ndarray: ...


class Raw(NamedTuple):
    """What a source hands over: unscaled images, labels, and the number of values a pixel takes."""

    train: Images
    train_labels: np.ndarray | None
    test: Images
    test_labels: np.ndarray | None
    levels: int  # L: uint8 values 0..L-1; 0: float32 in [0, 1]


class _Pipeline(NamedTuple):
    """What `Split.finish` needs besides the rows."""

    levels: int
    options: Options
    mean: float  # of the pixels before standardising
    std: float


class Split:
    """One half of a data set: raw rows, and the pipeline that turns them into batches.

    Attributes:
        size: number of images N.
        labels: int32 `[N]`, or None.
        labelled: bool `[N]`, the labels that training may see, or None where there are no labels.
            All False in a test split.
        resident: True where `arrays` holds the images; False where they are streamed by `gather`.
    """

    def __init__(
        self,
        images: Images,
        labels: np.ndarray | None,
        labelled: np.ndarray | None,
        pipeline: _Pipeline,
        is_train: bool,
    ) -> None:
        self.size = images.shape[0]
        self.labels = labels
        self.labelled = labelled
        self.is_train = is_train
        limit = pipeline.options.resident_mib * 2**20
        self.resident = isinstance(images, np.ndarray) and images.nbytes <= limit
        self._images = images
        self._pipeline = pipeline
        self._permutation = functools.lru_cache(maxsize=16)(self._shuffled)
        self._compiled_finish = jax.jit(self.finish)

    def order(self, seed: int, step: int, batch_size: int) -> np.ndarray:
        """Positions `[B]` int32 of the images of a step. Pure in its arguments; runs on the host.

        An epoch is `size // batch_size` steps in an order of its own. Its remainder is dropped, so
        no batch holds an image twice.

        Raises:
            DataError: batch_size exceeds the number of images, or is not positive.
        """
        if not 0 < batch_size <= self.size:
            raise DataError(f"batch_size must be in 1..{self.size} (the images), is {batch_size}")
        epoch, part = divmod(step, self.size // batch_size)
        start = part * batch_size
        return self._permutation(seed, epoch)[start : start + batch_size]

    def _shuffled(self, seed: int, epoch: int) -> np.ndarray:
        permutation = _permuted(self.size, seed, epoch).astype(np.int32)
        permutation.flags.writeable = False  # the cache hands out views
        return permutation

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The whole split: `image` `[N,H,W,C]` raw, and where there are labels `label`, `labelled`.

        Raises:
            DataError: the split is streamed.
        """
        if not self.resident:
            raise DataError("a streamed split has no arrays; use gather(indices)")
        return {"image": self._images} | self._label_columns()

    def rows(self, arrays: dict[str, Any], indices: Any) -> dict[str, Any]:
        """The rows of `arrays` at `indices` `[B]`, with their `position`; numpy or jax, traced too."""
        return {name: column[indices] for name, column in arrays.items()} | {"position": indices}

    def gather(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """What `rows(arrays, indices)` gives, read on the host: for streamed splits."""
        indices = np.asarray(indices, np.int32)
        return {"image": self._images[indices]} | self.rows(self._label_columns(), indices)

    def _label_columns(self) -> dict[str, np.ndarray]:
        if self.labels is None:
            return {}
        return {"label": self.labels, "labelled": self.labelled}

    def finish(self, rows: dict[str, Any], rng: jax.Array) -> dict[str, jax.Array]:
        """Raw rows to a batch: scaled, then binarised, dequantised or standardised as asked.

        Args:
            rows: from `rows` or `gather`.
            rng: a typed key; each image folds in its position.
        Returns:
            `image` float32 `[B,H,W,C]`; `index` int32 `[B]`, the position for training images and
            -1 for others; where there are labels `label` int32 `[B]` and `labelled` bool `[B]`.
        """
        levels, options, mean, std = self._pipeline
        position = jnp.asarray(rows["position"], jnp.int32)
        raw = jnp.asarray(rows["image"])
        if options.binarise == "fixed":
            rng = jax.random.key(_BINARISED[self.is_train])
        if options.dequantise:
            image = raw.astype(jnp.float32) + _offsets(rng, position, raw.shape[1:])
            image = image * np.float32(1 / levels)
        else:
            image = scaled(raw, levels)
        if options.binarise != "none":
            image = (_uniform(rng, position, raw.shape[1:]) < image).astype(jnp.float32)
        if options.standardise:
            image = (image - mean) * np.float32(1 / std)
        index = position if self.is_train else jnp.full_like(position, -1)
        batch = {name: jnp.asarray(rows[name]) for name in ("label", "labelled") if name in rows}
        return {"image": image, "index": index} | batch

    def batch(self, seed: int, step: int, batch_size: int) -> dict[str, jax.Array]:
        """The batch that training sees at a step: a pure function of its arguments."""
        rng = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), step), 0)
        return self._compiled_finish(self.gather(self.order(seed, step, batch_size)), rng)

    def examples(self, batch_size: int) -> Iterator[tuple[dict[str, jax.Array], np.ndarray]]:
        """The whole split in its own order, as pairs of a batch and a mask bool `[batch_size]`.

        The last batch is padded (mask False) to the same size. The noise is fixed, so that two
        evaluations agree whatever their batch size.
        """
        if batch_size < 1:
            raise DataError(f"batch_size must be positive, is {batch_size}")
        for start in range(0, self.size, batch_size):
            positions = np.arange(start, start + batch_size)
            mask = positions < self.size
            rows = self.gather(np.where(mask, positions, 0))
            yield self._compiled_finish(rows, jax.random.key(_EVALUATED[self.is_train])), mask


class Data(NamedTuple):
    """A data set ready for training: two splits, what a model may know of them, and the options."""

    name: str
    train: Split
    test: Split
    spec: Spec
    options: Options


def from_arrays(
    train_images: np.ndarray,
    train_labels: Sequence[int] | np.ndarray | None = None,
    test_images: np.ndarray | None = None,
    test_labels: Sequence[int] | np.ndarray | None = None,
    options: Options = Options(),
    name: str = "arrays",
    levels: int | None = None,
) -> Data:
    """A data set from arrays in memory.

    Args:
        train_images: `[N,H,W]` or `[N,H,W,C]`, uint8, or float in [0, 1].
        train_labels: `[N]` integers from 0, or None.
        test_images: as the training images; None: a tenth of the training images, chosen by a
            fixed seed, is held out.
        test_labels: as the training labels.
        levels: the number L of values a pixel takes. uint8: values 0..L-1, by default 256. Float:
            by default continuous; otherwise the multiples of 1/(L-1).
    Raises:
        DataError: shapes, types, values or lengths do not fit.
    """
    refuse_resizing(name, options)
    train, found = _checked_images(train_images, "train_images", levels)
    labels = _checked_labels(train_labels, "train_labels", len(train))
    if test_images is None:
        if test_labels is not None:
            raise DataError("test_labels were given without test_images")
        kept, held_out = hold_out(len(train))
        parts = (None, None) if labels is None else (labels[kept], labels[held_out])
        raw = Raw(train[kept], parts[0], train[held_out], parts[1], found)
    else:
        test, found_test = _checked_images(test_images, "test_images", levels)
        if found_test != found:
            raise DataError("train_images and test_images must both be uint8 or both be float")
        raw = Raw(
            train, labels, test, _checked_labels(test_labels, "test_labels", len(test)), found
        )
    return assemble(name, raw, options)


def assemble(name: str, raw: Raw, options: Options) -> Data:
    """Splits and Spec from what a source handed over."""
    train, test = _held(raw.train, options), _held(raw.test, options)
    for images, which in ((train, "training"), (test, "test")):
        if 0 in images.shape:
            raise DataError(f"{name}: there are no {which} images (shape {tuple(images.shape)})")
    if train.shape[1:] != test.shape[1:]:
        raise DataError(
            f"{name}: training images are {train.shape[1:]}, test images {test.shape[1:]}"
        )
    if (raw.train_labels is None) != (raw.test_labels is None):
        raise DataError(f"{name}: only one of the training and test images have labels")
    if options.dequantise and not raw.levels:
        raise DataError(f"{name}: dequantise needs discrete pixels; these are continuous already")
    classes = _number_of_classes(raw)
    mean_image, mean, std = _moments(train, raw.levels, options)
    if options.standardise:
        if std == 0:
            raise DataError(f"{name}: standardise needs images that are not all one colour")
        mean_image = (mean_image - mean) / std
    pipeline = _Pipeline(raw.levels, options, mean, std)
    labels, test_labels, seen, unseen = raw.train_labels, raw.test_labels, None, None
    if labels is not None:
        seen = _balanced(name, labels, classes, options.labels)
        unseen = np.zeros(len(test_labels), bool)
    elif options.labels:
        raise DataError(f"{name}: labels={options.labels} was asked for, but there are no labels")
    spec = Spec(
        image_shape=tuple(train.shape[1:]),
        size=train.shape[0],
        classes=classes,
        levels=_seen_levels(raw.levels, options),
        mean=mean_image.astype(np.float32),
    )
    return Data(
        name,
        Split(train, labels, seen, pipeline, is_train=True),
        Split(test, test_labels, unseen, pipeline, is_train=False),
        spec,
        options,
    )


def scaled(raw: jax.Array, levels: int) -> jax.Array:
    """Raw pixels to float32 in [0, 1]: `v / (levels - 1)`, or as they are where levels is 0."""
    if not levels:
        return raw.astype(jnp.float32)
    # A product, as compilers may turn the quotient into one, and bits must not depend on that.
    return raw.astype(jnp.float32) * np.float32(1 / max(levels - 1, 1))


def hold_out(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions kept for training and a tenth held out for testing, both ascending.

    Raises:
        DataError: fewer than two images.
    """
    if size < 2:
        raise DataError(f"{size} image cannot be split into training and test images")
    order = _permuted(size, _HELD_OUT, 0)
    tenth = max(1, size // 10)
    return np.sort(order[tenth:]), np.sort(order[:tenth])


def refuse_resizing(name: str, options: Options) -> None:
    """Raises DataError where `image_size` or `colour` is set for a source that ignores it."""
    for field, default in (("image_size", 0), ("colour", "auto")):
        if getattr(options, field) != default:
            raise DataError(f"{name}: {field} works with folder: and tfds: data only")


def random_bits(size: int, *key: int) -> np.ndarray:
    """uint64 `[size]`, a pure function of two integers, the same in every version of numpy."""
    words = np.array([int(word) % 2**64 for word in key], np.uint64)
    return np.random.Philox(key=words).random_raw(size)


def _permuted(size: int, *key: int) -> np.ndarray:
    return np.argsort(random_bits(size, *key), kind="stable")


def _uniform(rng: jax.Array, position: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """`[B, *shape]` in [0, 1), each example from its own key."""
    return jax.vmap(lambda p: jax.random.uniform(jax.random.fold_in(rng, p), shape))(position)


def _offsets(rng: jax.Array, position: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """`[B, *shape]` in (0, 1): 2^15 values with mean 1/2, which float32 can add to 255 exactly."""
    draw = lambda p: jax.random.bits(jax.random.fold_in(rng, p), shape, jnp.uint16)
    return ((jax.vmap(draw)(position) >> 1).astype(jnp.float32) + 0.5) * np.float32(2**-15)


def _checked_images(images: Any, field: str, levels: int | None) -> tuple[np.ndarray, int]:
    """Images as `[N,H,W,C]` uint8 or float32, and their levels (0: continuous)."""
    images = np.asarray(images)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4:
        raise DataError(f"{field} must be [N,H,W] or [N,H,W,C], has shape {images.shape}")
    if levels is not None and levels != 0 and not 2 <= levels <= 256:
        raise DataError(f"levels must be in 2..256, or 0 for continuous pixels, is {levels}")
    if images.dtype == np.uint8:
        levels = 256 if levels is None else levels
        if not levels:
            raise DataError(f"{field} are uint8, so levels cannot be 0")
        if images.size and images.max() >= levels:
            raise DataError(f"{field} hold {images.max()}; {levels} levels are 0..{levels - 1}")
        return images, levels
    if not np.issubdtype(images.dtype, np.floating):
        raise DataError(f"{field} must be uint8, or float in [0,1]; they are {images.dtype}")
    # Written so that NaN fails too.
    if images.size and not (images.min() >= 0 and images.max() <= 1):
        raise DataError(f"{field} are float and must lie in [0,1] without NaN")
    if not levels:
        return images.astype(np.float32), 0
    steps = np.rint(images * (levels - 1))
    if np.abs(images * (levels - 1) - steps).max(initial=0) > 1e-3:
        raise DataError(f"{field} are not multiples of 1/{levels - 1}, as levels={levels} says")
    return steps.astype(np.uint8), levels


def _checked_labels(labels: Any, field: str, size: int) -> np.ndarray | None:
    if labels is None:
        return None
    labels = np.asarray(labels)
    if labels.shape != (size,) or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"{field} must be {size} integers, one per image; "
            f"they are {labels.dtype} of shape {labels.shape}"
        )
    if size and labels.min() < 0:
        raise DataError(f"{field} must count from 0, the smallest is {labels.min()}")
    return labels.astype(np.int32)


def _held(images: Images, options: Options) -> Images:
    """In memory as an array where it fits, else as it is."""
    wanted = images.shape[0] * _bytes_each(images)
    if isinstance(images, np.ndarray) or wanted > options.resident_mib * 2**20:
        return images
    array = np.empty(images.shape, images.dtype)
    for positions in _blocks(images):
        array[positions] = images[positions]
    return array


def _bytes_each(images: Images) -> int:
    return math.prod(images.shape[1:]) * np.dtype(images.dtype).itemsize


def _blocks(images: Images) -> Iterator[np.ndarray]:
    """Consecutive positions that cover all images, a bounded number of bytes at a time."""
    count = images.shape[0]
    step = max(1, _BLOCK_BYTES // _bytes_each(images))
    for start in range(0, count, step):
        yield np.arange(start, min(start + step, count))


def _moments(images: Images, levels: int, options: Options) -> tuple[np.ndarray, float, float]:
    """Mean image `[H,W,C]`, pixel mean and deviation, in the range before standardising.

    Reads every image once, which also finds an unreadable one before training starts.
    """
    count = images.shape[0]
    exact = np.int64 if levels else np.float64
    total, squares = np.zeros(images.shape[1:], exact), 0.0
    for positions in _blocks(images):
        block = images[positions]
        total += block.sum(axis=0, dtype=exact)
        if options.standardise:
            squares += float(np.square(block, dtype=np.float64).sum())
    mean_image = total / count
    variance = max(squares / (count * mean_image.size) - mean_image.mean() ** 2, 0.0)
    if options.dequantise:  # u adds 1/2 to the mean and 1/12 to the variance
        mean_image, variance, peak = mean_image + 0.5, variance + 1 / 12, levels
    else:
        peak = max(levels - 1, 1)
    mean_image = mean_image / peak
    return mean_image, float(mean_image.mean()), float(np.sqrt(variance)) / peak


def _number_of_classes(raw: Raw) -> int:
    if raw.train_labels is None:
        return 0
    return int(max(raw.train_labels.max(), raw.test_labels.max())) + 1


def _seen_levels(levels: int, options: Options) -> int:
    if options.binarise != "none":
        return 2
    return 0 if options.dequantise or options.standardise else levels


def _balanced(name: str, labels: np.ndarray, classes: int, wanted: int) -> np.ndarray:
    """bool `[N]`: `wanted` labelled examples, every class alike.

    Where `wanted` is not a multiple of the classes, the first classes get one more. A larger
    choice contains every smaller one. 0: all.
    """
    if not wanted:
        return np.ones(len(labels), bool)
    if wanted < classes:
        raise DataError(
            f"{name}: labels={wanted} leaves some of the {classes} classes without an example"
        )
    if wanted > len(labels):
        raise DataError(f"{name}: labels={wanted} asks for more labels than the {len(labels)}")
    seen = np.zeros(len(labels), bool)
    order = _permuted(len(labels), _LABELLED, 0)
    for which in range(classes):
        share = wanted // classes + (which < wanted % classes)
        members = order[labels[order] == which]
        if share > len(members):
            raise DataError(
                f"{name}: labels={wanted} asks for {share} examples of class {which}, "
                f"which has {len(members)}"
            )
        seen[members[:share]] = True
    return seen
