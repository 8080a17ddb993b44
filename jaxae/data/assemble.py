"""A data set ready for training, from arrays or from what a source hands over."""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxae.data.source import (
    DataError,
    Images,
    Options,
    Raw,
    blocks,
    bytes_each,
    hold_out,
    permuted,
    refuse_resizing,
    refuse_without_memory,
    with_validation,
)
from jaxae.data.split import Pipeline, Split, frozen
from jaxae.training.state import Spec

# Key of the choice of labelled examples, the same in every run and apart from training orders: by
# the bits that order an epoch they would be that epoch's first.
_LABELLED = 1, 2**61


class Data(NamedTuple):
    """A data set ready for training: its splits, what a model may know of them, and the options.

    Training sees `train` alone. What is chosen on the way, such as the best checkpoint, is chosen
    by `validation`, and what is reported is measured on `test`, which chooses nothing. Where a set
    has no validation images nothing is chosen, unless `Options.validation` takes some out of the
    training images: not by default, since with fewer of them training is another.

    Classes are the labels that occur in training, numbered 0..K-1 in rising order. A class without
    test images is one of them; a test label that no training image has is refused.
    """

    name: str
    train: Split
    test: Split
    spec: Spec
    options: Options
    class_names: tuple[str, ...] = ()  # of the classes: folders' names, or the labels' values
    validation: Split | None = None

    @property
    def watched(self) -> Split:
        """What is looked at while training: validation images, test images where there are none."""
        return self.test if self.validation is None else self.validation

    @property
    def unbinarised(self) -> "Data":
        """The same images in grey levels, where training sees bits drawn from them."""
        return self._replace(
            train=self.train.unbinarised,
            test=self.test.unbinarised,
            validation=None if self.validation is None else self.validation.unbinarised,
            options=dataclasses.replace(self.options, binarise="none"),
        )

    @property
    def binarised(self) -> "Data":
        """The same images as bits drawn from their levels, once (`Options.binarise`: fixed)."""
        return self._replace(
            train=self.train.binarised,
            test=self.test.binarised,
            validation=None if self.validation is None else self.validation.binarised,
            spec=self.spec._replace(levels=2),
            options=dataclasses.replace(self.options, binarise="fixed", dequantise=False),
        )

    @property
    def digest(self) -> str:
        """Changes with the number of images, any label, or the mean of the training images."""
        splits = [self.train, self.test]
        splits += [] if self.validation is None else [self.validation]
        found = hashlib.sha256(" ".join(str(split.size) for split in splits).encode())
        for split in splits:
            found.update(b"" if split.labels is None else split.labels.astype("<i4").tobytes())
        found.update(self.spec.mean.astype("<f4").tobytes())
        return found.hexdigest()


def from_arrays(
    train_images: np.ndarray,
    train_labels: Sequence[int] | np.ndarray | None = None,
    test_images: np.ndarray | None = None,
    test_labels: Sequence[int] | np.ndarray | None = None,
    options: Options = Options(),  # noqa: B008 - frozen
    name: str = "arrays",
    levels: int | None = None,
    validation_images: np.ndarray | None = None,
    validation_labels: Sequence[int] | np.ndarray | None = None,
    channels: int | None = None,
    peak: float | None = None,
) -> Data:
    """A data set from arrays in memory.

    Images are copied, which takes their size in memory once, so that what becomes of the arrays
    afterwards changes nothing. An `np.memmap` opened for reading is not: it stays in its file.

    Args:
        train_images: `[N,H,W]` or `[N,H,W,C]`; bool, uint8, float in [0, 1], or with `levels` or
            `peak` any integers. Channels come last.
        train_labels: `[N]` integers that are not negative, or None; see `Data` for what becomes of
            them.
        test_images: as the training images; None: a tenth of the training images, chosen by a
            fixed seed, is held out.
        test_labels: as the training labels.
        levels: the number L <= 256 of values a pixel takes. Integers: values 0..L-1, for uint8 by
            default 256. bool: 2. Float: by default continuous; otherwise the multiples of 1/(L-1).
        validation_images: as the training images; None: there are none (see `Data`).
        validation_labels: as the training labels.
        channels: the number C of channels; to be told where it is more than 4, and where the shape
            could be read as channels first just as well.
        peak: the number that is white, such as 65535 of 16-bit integers, or 255 of floats in
            [0, 255]: pixels are then continuous, v / peak.
    Raises:
        DataError: shapes, types, values or lengths do not fit.
    """
    refuse_resizing(name, options)
    train, found = _checked_images(train_images, "train_images", levels, channels, peak)
    labels = _checked_labels(train_labels, "train_labels", len(train))
    if test_images is None:
        if test_labels is not None:
            raise DataError("test_labels were given without test_images")
        kept, held_out = hold_out(len(train), labels)
        parts = (None, None) if labels is None else (labels[kept], labels[held_out])
        raw = Raw(train[kept], parts[0], train[held_out], parts[1], found)
    else:
        test, found_test = _checked_images(test_images, "test_images", levels, channels, peak)
        _check_alike(found, found_test, "test_images")
        train, test = _owned(train, train_images), _owned(test, test_images)
        raw = Raw(
            train, labels, test, _checked_labels(test_labels, "test_labels", len(test)), found
        )
    if validation_images is not None:
        validation, found_there = _checked_images(
            validation_images, "validation_images", levels, channels, peak
        )
        _check_alike(found, found_there, "validation_images")
        validation = _owned(validation, validation_images)
        known = _checked_labels(validation_labels, "validation_labels", len(validation))
        raw = raw._replace(validation=validation, validation_labels=known)
    elif validation_labels is not None:
        raise DataError("validation_labels were given without validation_images")
    return assemble(name, raw, options)


def assemble(name: str, raw: Raw, options: Options) -> Data:
    """Splits and Spec from what a source handed over."""
    if options.validation:
        raw = with_validation(name, raw, options.validation)
    train, test = _held(raw.train, options), _held(raw.test, options)
    others = [("test", test, raw.test_labels)]
    if raw.validation is not None:
        validation = _held(raw.validation, options)
        others.append(("validation", validation, raw.validation_labels))
    for which, images, labels in [("training", train, raw.train_labels), *others]:
        if 0 in images.shape:
            raise DataError(f"{name}: there are no {which} images (shape {tuple(images.shape)})")
        if train.shape[1:] != images.shape[1:]:
            raise DataError(
                f"{name}: training images are {train.shape[1:]}, {which} images {images.shape[1:]}"
            )
        if (raw.train_labels is None) != (labels is None):
            raise DataError(f"{name}: only one of the training and {which} images have labels")
    if options.dequantise and not raw.levels:
        raise DataError(f"{name}: dequantise needs discrete pixels; these are continuous already")
    names = _class_names(name, raw)
    mean_image, mean, std = _moments(train, raw.levels, options)
    if options.standardise:
        if std == 0:
            raise DataError(f"{name}: standardise needs images that are not all one colour")
        mean_image = (mean_image - mean) / std
    steps = options.binarise, options.dequantise, options.standardise
    moments = (mean, std) if options.standardise else (0.0, 1.0)
    pipeline = Pipeline(raw.levels, *steps, *moments, is_train=True)
    held_out = pipeline._replace(is_train=False)
    labels, seen = _numbered(name, "training", raw, raw.train_labels), None
    if labels is not None:
        seen = _balanced(name, labels, names, options.labels, options.label_draw)
    elif options.labels or options.labels_batch:
        field = "labels" if options.labels else "labels_batch"
        asked = getattr(options, field)
        raise DataError(f"{name}: {field}={asked} was asked for, but there are no labels")
    spec = Spec(
        image_shape=tuple(train.shape[1:]),
        size=train.shape[0],
        classes=len(names),
        levels=_seen_levels(raw.levels, options),
        mean=frozen(mean_image.astype(np.float32)),
    )
    splits = {}
    for which, images, known in others:
        known = _numbered(name, which, raw, known)
        unseen = None if known is None else np.zeros(len(known), bool)
        splits[which] = Split(images, known, unseen, held_out, options.resident_mib)
    return Data(
        name,
        Split(train, labels, seen, pipeline, options.resident_mib, options.labels_batch),
        splits["test"],
        spec,
        options,
        names,
        splits.get("validation"),
    )


def _checked_images(
    images: Any, field: str, levels: int | None, channels: int | None, peak: float | None
) -> tuple[np.ndarray, int]:
    """Images as `[N,H,W,C]` uint8 or float32, and their levels (0: continuous)."""
    images = _array(images, field)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4:
        raise DataError(f"{field} must be [N,H,W] or [N,H,W,C], has shape {images.shape}")
    _check_channels(images.shape, field, channels)
    if levels is not None and levels != 0 and not 2 <= levels <= 256:
        raise DataError(f"levels must be in 2..256, or 0 for continuous pixels, is {levels}")
    if peak is not None:
        return _divided(images, field, levels, peak), 0
    if images.dtype == bool:
        if levels not in (None, 2):
            raise DataError(f"{field} are bool and take 2 levels, not levels={levels}")
        return images.astype(np.uint8), 2
    if np.issubdtype(images.dtype, np.integer):
        if images.dtype == np.uint8:
            levels = 256 if levels is None else levels
        if not levels:
            raise DataError(
                f"{field} are {images.dtype}: say levels=L for pixels 0..L-1, where L is at most "
                "256, or peak=, the number that is white, for continuous pixels"
            )
        if images.size and not (images.min() >= 0 and images.max() < levels):
            raise DataError(
                f"{field} hold {images.min()} and {images.max()}; {levels} levels are "
                f"0..{levels - 1}"
            )
        return images.astype(np.uint8, copy=False), levels
    if not np.issubdtype(images.dtype, np.floating):
        raise DataError(f"{field} must be bool, integers or float; they are {images.dtype}")
    # Written so that NaN fails too.
    if images.size and not (images.min() >= 0 and images.max() <= 1):
        raise DataError(
            f"{field} are float and must lie in [0,1] without NaN; of other pixels from 0 on say "
            "with peak= which is white"
        )
    if not levels:
        return images.astype(np.float32), 0
    steps = np.rint(images * (levels - 1))
    if np.abs(images * (levels - 1) - steps).max(initial=0) > 1e-3:
        raise DataError(f"{field} are not multiples of 1/{levels - 1}, as levels={levels} says")
    return steps.astype(np.uint8), levels


def _check_alike(levels: int, others: int, field: str) -> None:
    if levels != others:
        raise DataError(
            f"train_images and {field} must both be uint8 or both be float: they have {levels} and "
            f"{others} levels (0: continuous)"
        )


def _array(given: Any, field: str) -> np.ndarray:
    try:
        return np.asarray(given)
    except ValueError as error:
        raise DataError(f"{field} cannot be one array: its entries differ in shape") from error


def _check_channels(shape: tuple[int, ...], field: str, channels: int | None) -> None:
    """Refuses channels that come first, and more of them than an image has, unless told."""
    _, first, middle, last = shape
    if last == channels:
        return
    transpose = "channels come last, take images.transpose(0, 2, 3, 1)"
    if channels is not None:
        hint = f": {transpose}" if first == channels else ""
        raise DataError(f"{field} of shape {shape} do not have channels={channels} last{hint}")
    if 0 < first <= 4 < last:
        raise DataError(f"{field} of shape {shape} have their channels first: {transpose}")
    if last > 4:
        raise DataError(
            f"{field} of shape {shape} have {last} channels, which come last; if that is meant, "
            f"say channels={last}"
        )
    if first in (1, 3) and first < last and middle == last:
        raise DataError(
            f"{field} of shape {shape} have {last} channels or {first}: if {last}, say "
            f"channels={last}; if {first}, {transpose}"
        )


def _divided(images: np.ndarray, field: str, levels: int | None, peak: float) -> np.ndarray:
    """Pixels 0..peak as float32 in [0, 1]."""
    if levels:
        raise DataError(f"levels={levels} and peak={peak} contradict each other: choose one")
    if not (0 < peak < np.inf):
        raise DataError(f"peak must be a positive number, is {peak}")
    if not np.issubdtype(images.dtype, np.integer) and not np.issubdtype(images.dtype, np.floating):
        raise DataError(f"{field} must be integers or float for peak=; they are {images.dtype}")
    if images.size and not (images.min() >= 0 and images.max() <= peak):
        raise DataError(f"{field} hold {images.min()} and {images.max()}, not 0..{peak} (peak)")
    divided = np.empty(images.shape, np.float32)
    return np.divide(images, peak, out=divided, casting="same_kind")


def _owned(images: np.ndarray, given: Any) -> np.ndarray:
    """The images in memory that nobody else has, or in a file that nobody writes through them."""
    if isinstance(given, np.memmap) and not given.flags.writeable:
        return images
    return images.copy() if images is given or images.base is not None else images


def _checked_labels(labels: Any, field: str, size: int) -> np.ndarray | None:
    if labels is None:
        return None
    labels = _array(labels, field)
    if labels.size and labels.dtype.kind == "u" and labels.max() > np.iinfo(np.int64).max:
        raise DataError(f"{field} hold {labels.max()}, which is too large for a label")
    if labels.shape != (size,) or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"{field} must be {size} integers, one per image; "
            f"they are {labels.dtype} of shape {labels.shape}"
        )
    labels = labels.astype(np.int64)
    if size and labels.min() < 0:
        raise DataError(f"{field} must not be negative, the smallest is {labels.min()}")
    return labels


def _held(images: Images, options: Options) -> Images:
    """In memory as an array where it fits, else as it is."""
    refuse_without_memory(images, options)
    wanted = images.shape[0] * bytes_each(images)
    if isinstance(images, np.ndarray) or wanted > options.resident_mib * 2**20:
        return images
    array = np.empty(images.shape, images.dtype)
    for positions in blocks(images):
        array[positions] = images[positions]
    return array


def _moments(images: Images, levels: int, options: Options) -> tuple[np.ndarray, float, float]:
    """Mean image `[H,W,C]`, pixel mean and deviation, in the range before standardising.

    Reads every image once, which also finds an unreadable one before training starts.
    """
    count = images.shape[0]
    exact = np.int64 if levels else np.float64
    total, squares = np.zeros(images.shape[1:], exact), 0.0
    for positions in blocks(images):
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


def _class_names(name: str, raw: Raw) -> tuple[str, ...]:
    """Names of the classes 0..K-1: of the labels that occur in training, in rising order."""
    if raw.train_labels is None:
        return ()
    named = str if raw.class_names is None else raw.class_names.__getitem__
    return tuple(named(label) for label in np.unique(raw.train_labels).tolist())


def _numbered(name: str, which: str, raw: Raw, labels: np.ndarray | None) -> np.ndarray | None:
    """Labels of a split as numbers of classes, int32."""
    if labels is None:
        return None
    if labels.min() < 0:
        raise DataError(
            f"{name}: the {which} labels must not be negative, the smallest is {labels.min()}"
        )
    known = np.unique(raw.train_labels)
    unknown = np.setdiff1d(labels, known)
    if unknown.size:
        first = raw.class_names[unknown[0]] if raw.class_names else unknown[0]
        raise DataError(
            f"{name}: there are no training images of class {first}, but {which} images "
            f"({unknown.size} such classes in all): add some, or leave these out"
        )
    return np.searchsorted(known, labels).astype(np.int32)


def _seen_levels(levels: int, options: Options) -> int:
    if options.binarise != "none":
        return 2
    return 0 if options.dequantise or options.standardise else levels


def _balanced(
    name: str, labels: np.ndarray, names: Sequence[str], wanted: int, draw: int
) -> np.ndarray:
    """bool `[N]`: `wanted` labelled examples, every class alike.

    Where `wanted` is not a multiple of the classes, the first classes get one more. A larger
    choice of the same draw contains every smaller one. 0: all.
    """
    if not wanted:
        return np.ones(len(labels), bool)
    classes = len(names)
    if wanted < classes:
        raise DataError(
            f"{name}: labels={wanted} leaves some of the {classes} classes without an example"
        )
    if wanted > len(labels):
        raise DataError(f"{name}: labels={wanted} asks for more labels than the {len(labels)}")
    seen = np.zeros(len(labels), bool)
    seed, stream = _LABELLED
    order = permuted(len(labels), seed, stream + draw)
    for which in range(classes):
        share = wanted // classes + (which < wanted % classes)
        members = order[labels[order] == which]
        if share > len(members):
            raise DataError(
                f"{name}: labels={wanted} asks for {share} examples of class {names[which]}, "
                f"which has {len(members)}"
            )
        seen[members[:share]] = True
    return seen
