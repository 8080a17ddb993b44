"""A data set ready for training, from the images and labels of a source."""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxae.data.source import (
    DataError,
    Images,
    Options,
    Raw,
    blocks,
    check_memory,
    image_bytes,
    random_permutation,
    split_validation,
)
from jaxae.data.split import Pipeline, Split, read_only
from jaxae.training.state import Spec

# Key of the choice of labelled examples: the same in every run, and different from the keys of
# training orders, with which they would be the first examples of an epoch.
_LABELLED = 1, 2**61


class Data(NamedTuple):
    """A data set ready for training: its splits, its `Spec` (what a model may know) and options.

    Training uses `train` only. Choices during training, such as the best checkpoint, are made on
    `validation`; results are measured on `test`, which no choice depends on. If a set has no
    validation images no such choice is made, unless `Options.validation` takes some of the training
    images (not by default, since fewer training images change the result).

    Classes are the labels that occur in training, numbered 0..K-1 in increasing order, including
    those without test images; a test label that no training image has is an error.
    """

    name: str
    train: Split
    test: Split
    spec: Spec
    options: Options
    class_names: tuple[str, ...] = ()  # names of the class folders, or the labels as text
    validation: Split | None = None

    @property
    def eval_split(self) -> Split:
        """The split evaluated during training: validation, or test if there is none."""
        return self.test if self.validation is None else self.validation

    @property
    def unbinarised(self) -> "Data":
        """The same images in grey levels, without binarisation."""
        return self._replace(
            train=self.train.unbinarised,
            test=self.test.unbinarised,
            validation=None if self.validation is None else self.validation.unbinarised,
            options=dataclasses.replace(self.options, binarise="none"),
        )

    @property
    def binarised(self) -> "Data":
        """The same images binarised once (`Options.binarise`: fixed)."""
        return self._replace(
            train=self.train.binarised,
            test=self.test.binarised,
            validation=None if self.validation is None else self.validation.binarised,
            spec=self.spec._replace(levels=2),
            options=dataclasses.replace(self.options, binarise="fixed", dequantise=False),
        )

    @property
    def digest(self) -> str:
        """A hash of the numbers of images, all labels and the mean of the training images."""
        splits = [self.train, self.test]
        splits += [] if self.validation is None else [self.validation]
        digest = hashlib.sha256(" ".join(str(split.size) for split in splits).encode())
        for split in splits:
            digest.update(b"" if split.labels is None else split.labels.astype("<i4").tobytes())
        digest.update(self.spec.mean.astype("<f4").tobytes())
        return digest.hexdigest()


def assemble(name: str, raw: Raw, options: Options) -> Data:
    """Splits and `Spec` from the images and labels of a source."""
    if options.validation:
        raw = split_validation(name, raw, options.validation)
    train, test = _load(raw.train, options), _load(raw.test, options)
    others = [("test", test, raw.test_labels)]
    if raw.validation is not None:
        validation = _load(raw.validation, options)
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
    labels, labelled = _class_indices(name, "training", raw, raw.train_labels), None
    if labels is not None:
        labelled = _choose_labelled(name, labels, names, options.labels, options.label_draw)
    elif options.labels or options.labels_batch:
        field = "labels" if options.labels else "labels_batch"
        value = getattr(options, field)
        raise DataError(f"{name}: {field}={value} needs labels, but there are none")
    spec = Spec(
        image_shape=tuple(train.shape[1:]),
        size=train.shape[0],
        classes=len(names),
        levels=_batch_levels(raw.levels, options),
        mean=read_only(mean_image.astype(np.float32)),
    )
    splits = {}
    for which, images, known in others:
        known = _class_indices(name, which, raw, known)
        none_labelled = None if known is None else np.zeros(len(known), bool)
        splits[which] = Split(images, known, none_labelled, held_out, options.resident_mib)
    return Data(
        name,
        Split(train, labels, labelled, pipeline, options.resident_mib, options.labels_batch),
        splits["test"],
        spec,
        options,
        names,
        splits.get("validation"),
    )


def _load(images: Images, options: Options) -> Images:
    """The images as an array if they are at most `resident_mib`, else unchanged."""
    check_memory(images, options)
    size = images.shape[0] * image_bytes(images)
    if isinstance(images, np.ndarray) or size > options.resident_mib * 2**20:
        return images
    array = np.empty(images.shape, images.dtype)
    for positions in blocks(images):
        array[positions] = images[positions]
    return array


def _moments(images: Images, levels: int, options: Options) -> tuple[np.ndarray, float, float]:
    """Mean image `[H,W,C]`, pixel mean and standard deviation, before standardisation.

    Reads every image once, so an unreadable one is found before training starts.
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
    """Names of the classes 0..K-1: of the labels that occur in training, in increasing order."""
    if raw.train_labels is None:
        return ()
    to_name = str if raw.class_names is None else raw.class_names.__getitem__
    return tuple(to_name(label) for label in np.unique(raw.train_labels).tolist())


def _class_indices(name: str, which: str, raw: Raw, labels: np.ndarray | None) -> np.ndarray | None:
    """Labels of a split as class numbers, int32."""
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


def _batch_levels(levels: int, options: Options) -> int:
    if options.binarise != "none":
        return 2
    return 0 if options.dequantise or options.standardise else levels


def _choose_labelled(
    name: str, labels: np.ndarray, names: Sequence[str], wanted: int, draw: int
) -> np.ndarray:
    """bool `[N]`: `wanted` labelled examples, the same number per class; 0: all.

    If `wanted` is not a multiple of the classes, the first classes get one more. A larger choice
    with the same `draw` contains every smaller one.
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
    labelled = np.zeros(len(labels), bool)
    seed, stream = _LABELLED
    order = random_permutation(len(labels), seed, stream + draw)
    for which in range(classes):
        share = wanted // classes + (which < wanted % classes)
        members = order[labels[order] == which]
        if share > len(members):
            raise DataError(
                f"{name}: labels={wanted} asks for {share} examples of class {names[which]}, "
                f"which has {len(members)}"
            )
        labelled[members[:share]] = True
    return labelled
