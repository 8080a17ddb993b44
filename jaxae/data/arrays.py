"""A data set from arrays in memory: checks of types, shapes and values."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxae.data.assemble import Data, assemble
from jaxae.data.source import DataError, Options, Raw, check_no_resizing, split_test


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

    Images are copied, so that later changes of the arrays have no effect; this takes their size in
    memory once. An `np.memmap` opened for reading is not copied.

    Args:
        train_images: `[N,H,W]` or `[N,H,W,C]`, channels last; bool, uint8, float in [0, 1], or any
            integers with `levels` or `peak`.
        train_labels: `[N]` non-negative integers, or None; see `Data` for the classes.
        test_images: as the training images; None: a tenth of the training images, chosen with a
            fixed seed, is held out.
        test_labels: as the training labels.
        levels: number L <= 256 of values of a pixel. Integers: values 0..L-1, by default 256 for
            uint8. bool: 2. Float: continuous by default, otherwise multiples of 1/(L-1).
        validation_images: as the training images; None: none (see `Data`).
        validation_labels: as the training labels.
        channels: number C of channels; needed if it is more than 4, or if the shape could also be
            read as channels first.
        peak: value of white, such as 65535 for 16-bit integers or 255 for floats in [0, 255];
            pixels are then continuous, v / peak.
    Raises:
        DataError: shapes, types, values or lengths do not fit.
    """
    check_no_resizing(name, options)
    train, train_levels = _check_images(train_images, "train_images", levels, channels, peak)
    labels = _check_labels(train_labels, "train_labels", len(train))
    if test_images is None:
        if test_labels is not None:
            raise DataError("test_labels need test_images")
        kept, held_out = split_test(len(train), labels)
        parts = (None, None) if labels is None else (labels[kept], labels[held_out])
        raw = Raw(train[kept], parts[0], train[held_out], parts[1], train_levels)
    else:
        test, test_levels = _check_images(test_images, "test_images", levels, channels, peak)
        _check_same_levels(train_levels, test_levels, "test_images")
        train, test = _copy(train, train_images), _copy(test, test_images)
        raw = Raw(
            train, labels, test, _check_labels(test_labels, "test_labels", len(test)), train_levels
        )
    if validation_images is not None:
        validation, validation_levels = _check_images(
            validation_images, "validation_images", levels, channels, peak
        )
        _check_same_levels(train_levels, validation_levels, "validation_images")
        validation = _copy(validation, validation_images)
        known = _check_labels(validation_labels, "validation_labels", len(validation))
        raw = raw._replace(validation=validation, validation_labels=known)
    elif validation_labels is not None:
        raise DataError("validation_labels need validation_images")
    return assemble(name, raw, options)


def _check_images(
    images: Any, field: str, levels: int | None, channels: int | None, peak: float | None
) -> tuple[np.ndarray, int]:
    """Images as `[N,H,W,C]` uint8 or float32, and their levels (0: continuous)."""
    images = _to_array(images, field)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4:
        raise DataError(f"{field} must be [N,H,W] or [N,H,W,C], has shape {images.shape}")
    _check_channels(images.shape, field, channels)
    if levels is not None and levels != 0 and not 2 <= levels <= 256:
        raise DataError(f"levels must be in 2..256, or 0 for continuous pixels, is {levels}")
    if peak is not None:
        return _divide(images, field, levels, peak), 0
    if images.dtype == bool:
        if levels not in (None, 2):
            raise DataError(f"{field} are bool and take 2 levels, not levels={levels}")
        return images.astype(np.uint8), 2
    if np.issubdtype(images.dtype, np.integer):
        if images.dtype == np.uint8:
            levels = 256 if levels is None else levels
        if not levels:
            raise DataError(
                f"{field} are {images.dtype}: give levels=L for pixels 0..L-1, where L is at most "
                "256, or peak=, the value of white, for continuous pixels"
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
            f"{field} are float and must be in [0,1], without NaN; for another range from 0 give "
            "peak=, the value of white"
        )
    if not levels:
        return images.astype(np.float32), 0
    steps = np.rint(images * (levels - 1))
    if np.abs(images * (levels - 1) - steps).max(initial=0) > 1e-3:
        raise DataError(f"{field} are not multiples of 1/{levels - 1}, as levels={levels} says")
    return steps.astype(np.uint8), levels


def _check_same_levels(levels: int, others: int, field: str) -> None:
    if levels != others:
        raise DataError(
            f"train_images and {field} must both be uint8 or both be float: they have {levels} and "
            f"{others} levels (0: continuous)"
        )


def _to_array(values: Any, field: str) -> np.ndarray:
    try:
        return np.asarray(values)
    except ValueError as error:
        raise DataError(f"{field} cannot be one array: its entries differ in shape") from error


def _check_channels(shape: tuple[int, ...], field: str, channels: int | None) -> None:
    """Raises DataError for channels that come first, and for more than 4 without `channels`."""
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
            f"{field} of shape {shape} have {last} channels, which come last; if this is right, "
            f"give channels={last}"
        )
    if first in (1, 3) and first < last and middle == last:
        raise DataError(
            f"{field} of shape {shape} have {last} channels or {first}: if {last}, give "
            f"channels={last}; if {first}, {transpose}"
        )


def _divide(images: np.ndarray, field: str, levels: int | None, peak: float) -> np.ndarray:
    """Pixels 0..peak as float32 in [0, 1]."""
    if levels:
        raise DataError(f"levels={levels} and peak={peak} exclude each other: give one")
    if not (0 < peak < np.inf):
        raise DataError(f"peak must be a positive number, is {peak}")
    if not np.issubdtype(images.dtype, np.integer) and not np.issubdtype(images.dtype, np.floating):
        raise DataError(f"{field} must be integers or float for peak=; they are {images.dtype}")
    if images.size and not (images.min() >= 0 and images.max() <= peak):
        raise DataError(f"{field} hold {images.min()} and {images.max()}, not 0..{peak} (peak)")
    divided = np.empty(images.shape, np.float32)
    return np.divide(images, peak, out=divided, casting="same_kind")


def _copy(images: np.ndarray, original: Any) -> np.ndarray:
    """A copy of the images if they share memory with `original`; none for a read-only file."""
    if isinstance(original, np.memmap) and not original.flags.writeable:
        return images
    return images.copy() if images is original or images.base is not None else images


def _check_labels(labels: Any, field: str, size: int) -> np.ndarray | None:
    if labels is None:
        return None
    labels = _to_array(labels, field)
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
