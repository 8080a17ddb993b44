"""Batches as a pure function of (seed, step).

A `Split` is one part of a data set. The order of an epoch is a permutation keyed by (seed, epoch).
The noise of an image (binarisation, dequantisation) is keyed by the step's key and the position of
the image, so it depends neither on the rest of the batch nor on how the batch is split over
devices. Images that fit into memory are indexed on the device (`arrays`, `rows`); larger sets are
gathered on the host (`gather`). Both end in `preprocess` and give the same bits.
"""

import copy
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxae.data.source import DataError, Images, random_indices, random_permutation

# Keys of noise that is the same in every run, for the training split (True) and others.
_BINARISED = {True: 11, False: 12}
_EVALUATED = {True: 21, False: 22}
_SUPERVISED = 2**31 - 1  # folded into the key; larger than any position


class Pipeline(NamedTuple):
    """Preprocessing of the rows of a split; hashable, so that equal pipelines compile once."""

    levels: int
    binarise: str
    dequantise: bool
    standardise: bool
    mean: float  # of the pixels before standardising
    std: float
    is_train: bool


class Split:
    """One part of a data set: raw rows, and the preprocessing that makes batches of them.

    Attributes:
        size: number of images N.
        labels: int32 `[N]`, or None.
        labelled: bool `[N]`, the labels that training may use, or None if there are no labels. All
            False in test and validation splits.
        labels_batch: number of labelled examples in addition to each batch; 0: none.
        resident: True if `arrays` holds the images; False if they are streamed by `gather`.
    """

    def __init__(
        self,
        images: Images,
        labels: np.ndarray | None,
        labelled: np.ndarray | None,
        pipeline: Pipeline,
        resident_mib: int,
        labels_batch: int = 0,
    ) -> None:
        self.size = images.shape[0]
        self.labels = read_only(labels)
        self.labelled = read_only(labelled)
        self.resident = isinstance(images, np.ndarray) and images.nbytes <= resident_mib * 2**20
        self._images = read_only(images)
        self._pipeline = pipeline
        self.labels_batch = labels_batch
        self._permutation = functools.lru_cache(maxsize=16)(self._shuffled)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self._images.shape[1:]))
        place = "in memory" if self.resident else "streamed"
        known = "no labels" if self.labels is None else f"{int(self.labelled.sum())} labelled"
        return f"<Split of {self.size} images {shape}, {place}, {self.levels} levels, {known}>"

    @property
    def levels(self) -> int:
        """Number of values of a raw pixel, before preprocessing; 0: continuous."""
        return self._pipeline.levels

    @property
    def pipeline(self) -> Pipeline:
        """What is done to the raw images: another `Split` of it treats other images alike."""
        return self._pipeline

    @property
    def unbinarised(self) -> "Split":
        """The same images in grey levels, without binarisation."""
        other = copy.copy(self)
        other._pipeline = self._pipeline._replace(binarise="none")
        return other

    @property
    def binarised(self) -> "Split":
        """The same images binarised once, as with binarise="fixed"."""
        other = copy.copy(self)
        other._pipeline = self._pipeline._replace(binarise="fixed", dequantise=False)
        return other

    def batch_indices(self, seed: int, step: int, batch_size: int) -> Any:
        """Positions `[B]` int32 of the images of a step: a pure function, on the host.

        An epoch is `size // batch_size` steps, in its own random order. The remainder is dropped,
        so no batch holds an image twice. With `Options.labels_batch` a pair: these positions, and
        `[labels_batch]` positions of labelled images, sampled with replacement.

        Raises:
            DataError: batch_size exceeds the number of images, or is not positive.
        """
        if not 0 < batch_size <= self.size:
            raise DataError(f"batch_size must be in 1..{self.size} (the images), is {batch_size}")
        epoch, part = divmod(step, self.size // batch_size)
        start = part * batch_size
        positions = self._permutation(seed, epoch)[start : start + batch_size]
        if not self.labels_batch:
            return positions
        draws = random_indices(self.labels_batch, int(self.labelled.sum()), seed, step)
        return positions, np.flatnonzero(self.labelled)[draws].astype(np.int32)

    def _shuffled(self, seed: int, epoch: int) -> np.ndarray:
        permutation = random_permutation(self.size, seed, epoch).astype(np.int32)
        permutation.flags.writeable = False  # the cache returns views
        return permutation

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The whole split: raw `image` `[N,H,W,C]`, and, if there are labels, `label`, `labelled`.

        Raises:
            DataError: the split is streamed.
        """
        if not self.resident:
            raise DataError("a streamed split has no arrays; use gather(indices)")
        return {"image": self._images} | self._label_columns()

    def rows(self, arrays: dict[str, Any], indices: Any) -> dict[str, Any]:
        """The rows of `arrays` at `indices` `[B]`, and their `position`; numpy, jax or traced.

        For a pair of indices (see `batch_indices`) the rows of the second are in `supervised`.
        """
        if isinstance(indices, tuple):
            main, few = indices
            return self.rows(arrays, main) | {"supervised": self.rows(arrays, few)}
        return {name: column[indices] for name, column in arrays.items()} | {"position": indices}

    def gather(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """As `rows(arrays, indices)`, but read on the host: for streamed splits."""
        if isinstance(indices, tuple):
            main, few = indices
            return self.gather(main) | {"supervised": self.gather(few)}
        indices = np.asarray(indices, np.int32)
        return {"image": self._images[indices]} | self.rows(self._label_columns(), indices)

    def _label_columns(self) -> dict[str, np.ndarray]:
        if self.labels is None:
            return {}
        return {"label": self.labels, "labelled": self.labelled}

    def preprocess(self, rows: dict[str, Any], rng: jax.Array) -> dict[str, jax.Array]:
        """Turns raw rows into a batch: scaled, then binarised, dequantised or standardised.

        Args:
            rows: from `rows` or `gather`.
            rng: a typed key; each image folds in its position.
        Returns:
            `image` float32 `[B,H,W,C]`; `index` int32 `[B]`, the position for training images and
            -1 for others; if there are labels, `label` int32 `[B]` and `labelled` bool `[B]`; with
            `Options.labels_batch` a second such batch as `supervised`.
        """
        return _preprocess(self._pipeline, rows, rng)

    def batch(self, seed: int, step: int, batch_size: int) -> dict[str, jax.Array]:
        """The training batch of a step: a pure function of its arguments."""
        rng = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), step), 0)
        rows = self.gather(self.batch_indices(seed, step, batch_size))
        return _compiled_preprocess(self._pipeline, rows, rng)

    def examples(self, batch_size: int) -> Iterator[tuple[dict[str, jax.Array], np.ndarray]]:
        """The whole split in order, as pairs of a batch and a mask, bool `[batch_size]`.

        The last batch is padded to the same size (mask False). The noise is fixed and does not
        depend on the batch size.
        """
        if batch_size < 1:
            raise DataError(f"batch_size must be positive, is {batch_size}")
        for start in range(0, self.size, batch_size):
            positions = np.arange(start, start + batch_size)
            mask = positions < self.size
            rows = self.gather(np.where(mask, positions, 0))
            rng = jax.random.key(_EVALUATED[self._pipeline.is_train])
            yield _compiled_preprocess(self._pipeline, rows, rng), mask


def read_only(array: Any) -> Any:
    """A read-only view of an array, since pure functions close over it; other objects unchanged."""
    if not isinstance(array, np.ndarray):
        return array
    view = array.view()
    view.flags.writeable = False
    return view


def _preprocess(pipeline: Pipeline, rows: dict[str, Any], rng: jax.Array) -> dict[str, Any]:
    if "supervised" in rows:
        few = _preprocess(pipeline, rows["supervised"], jax.random.fold_in(rng, _SUPERVISED))
        main = {name: column for name, column in rows.items() if name != "supervised"}
        return _preprocess(pipeline, main, rng) | {"supervised": few}
    position = jnp.asarray(rows["position"], jnp.int32)
    raw = jnp.asarray(rows["image"])
    if pipeline.binarise == "fixed":
        rng = jax.random.key(_BINARISED[pipeline.is_train])
    if pipeline.dequantise:
        image = raw.astype(jnp.float32) + _offsets(rng, position, raw.shape[1:])
        image = image * np.float32(1 / pipeline.levels)
    else:
        image = scale_pixels(raw, pipeline.levels)
    if pipeline.binarise != "none":
        image = (_uniform(rng, position, raw.shape[1:]) < image).astype(jnp.float32)
    if pipeline.standardise:
        image = (image - pipeline.mean) * np.float32(1 / pipeline.std)
    index = position if pipeline.is_train else jnp.full_like(position, -1)
    labels = {name: jnp.asarray(rows[name]) for name in ("label", "labelled") if name in rows}
    return {"image": image, "index": index} | labels


_compiled_preprocess = jax.jit(_preprocess, static_argnums=0)


def scale_pixels(raw: jax.Array, levels: int) -> jax.Array:
    """Raw pixels as float32 in [0, 1]: `v / (levels - 1)`, or unchanged if levels is 0."""
    if not levels:
        return raw.astype(jnp.float32)
    # A product, because compilers may or may not turn a quotient into one, which changes bits.
    return raw.astype(jnp.float32) * np.float32(1 / max(levels - 1, 1))


def _uniform(rng: jax.Array, position: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """`[B, *shape]` uniform in [0, 1), each example from its own key."""
    return jax.vmap(lambda p: jax.random.uniform(jax.random.fold_in(rng, p), shape))(position)


def _offsets(rng: jax.Array, position: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """`[B, *shape]` in (0, 1): 2^15 values with mean 1/2, which float32 adds to 255 exactly."""
    draw = lambda p: jax.random.bits(jax.random.fold_in(rng, p), shape, jnp.uint16)
    return ((jax.vmap(draw)(position) >> 1).astype(jnp.float32) + 0.5) * np.float32(2**-15)
