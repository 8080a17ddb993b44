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
)
from jaxae.data.split import Pipeline, Split
from jaxae.training.state import Spec

# Key of the choice of labelled examples, the same in every run and apart from training orders: by
# the bits that order an epoch they would be that epoch's first.
_LABELLED = 1, 2**61


class Data(NamedTuple):
    """A data set ready for training: two splits, what a model may know of them, and the options."""

    name: str
    train: Split
    test: Split
    spec: Spec
    options: Options

    @property
    def unbinarised(self) -> "Data":
        """The same images in grey levels, where training sees bits drawn from them."""
        return self._replace(
            train=self.train.unbinarised,
            test=self.test.unbinarised,
            options=dataclasses.replace(self.options, binarise="none"),
        )

    @property
    def binarised(self) -> "Data":
        """The same images as bits drawn from their levels, once (`Options.binarise`: fixed)."""
        return self._replace(
            train=self.train.binarised,
            test=self.test.binarised,
            spec=self.spec._replace(levels=2),
            options=dataclasses.replace(self.options, binarise="fixed", dequantise=False),
        )

    @property
    def digest(self) -> str:
        """Changes with the number of images, any label, or the mean of the training images."""
        found = hashlib.sha256(f"{self.train.size} {self.test.size}".encode())
        for labels in (self.train.labels, self.test.labels):
            found.update(b"" if labels is None else labels.astype("<i4").tobytes())
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
    for labels, which in ((raw.train_labels, "training"), (raw.test_labels, "test")):
        if labels is not None and labels.min() < 0:
            raise DataError(
                f"{name}: the {which} labels must count from 0, the smallest is {labels.min()}"
            )
    if options.dequantise and not raw.levels:
        raise DataError(f"{name}: dequantise needs discrete pixels; these are continuous already")
    classes = _number_of_classes(raw)
    mean_image, mean, std = _moments(train, raw.levels, options)
    if options.standardise:
        if std == 0:
            raise DataError(f"{name}: standardise needs images that are not all one colour")
        mean_image = (mean_image - mean) / std
    steps = options.binarise, options.dequantise, options.standardise
    moments = (mean, std) if options.standardise else (0.0, 1.0)
    pipeline = Pipeline(raw.levels, *steps, *moments, is_train=True)
    held_out = pipeline._replace(is_train=False)
    labels, test_labels, seen, unseen = raw.train_labels, raw.test_labels, None, None
    if labels is not None:
        seen = _balanced(name, labels, classes, options.labels, options.label_draw)
        unseen = np.zeros(len(test_labels), bool)
    elif options.labels or options.labels_batch:
        field = "labels" if options.labels else "labels_batch"
        asked = getattr(options, field)
        raise DataError(f"{name}: {field}={asked} was asked for, but there are no labels")
    spec = Spec(
        image_shape=tuple(train.shape[1:]),
        size=train.shape[0],
        classes=classes,
        levels=_seen_levels(raw.levels, options),
        mean=mean_image.astype(np.float32),
    )
    return Data(
        name,
        Split(train, labels, seen, pipeline, options.resident_mib, options.labels_batch),
        Split(test, test_labels, unseen, held_out, options.resident_mib),
        spec,
        options,
    )


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


def _number_of_classes(raw: Raw) -> int:
    if raw.train_labels is None:
        return 0
    return int(max(raw.train_labels.max(), raw.test_labels.max())) + 1


def _seen_levels(levels: int, options: Options) -> int:
    if options.binarise != "none":
        return 2
    return 0 if options.dequantise or options.standardise else levels


def _balanced(name: str, labels: np.ndarray, classes: int, wanted: int, draw: int) -> np.ndarray:
    """bool `[N]`: `wanted` labelled examples, every class alike.

    Where `wanted` is not a multiple of the classes, the first classes get one more. A larger
    choice of the same draw contains every smaller one. 0: all.
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
    seed, stream = _LABELLED
    order = permuted(len(labels), seed, stream + draw)
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
