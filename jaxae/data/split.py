"""Batches as a pure function of (seed, step).

A `Split` is one part of a data set. The order of an epoch is a permutation keyed by (seed, epoch),
and the noise of an image (binarisation, dequantisation) is keyed by the step's key and the image's
own position, so it depends neither on the other images of the batch nor on how the batch is spread
over devices. Images that fit are indexed on the device (`arrays`, `rows`); larger sets are gathered
on the host (`gather`). Both ways end in `finish` and give the same bits.
"""

import copy
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxae.data.source import DataError, Images, drawn, permuted

# Keys of the noise that is the same in every run, by whether it is the training split's.
_BINARISED = {True: 11, False: 12}
_EVALUATED = {True: 21, False: 22}
_SUPERVISED = 2**31 - 1  # folded in where no position can be


class Pipeline(NamedTuple):
    """What is done to the rows of a split: hashable, so that equal pipelines compile once."""

    levels: int
    binarise: str
    dequantise: bool
    standardise: bool
    mean: float  # of the pixels before standardising
    std: float
    is_train: bool


class Split:
    """One part of a data set: raw rows, and the pipeline that turns them into batches.

    Attributes:
        size: number of images N.
        labels: int32 `[N]`, or None.
        labelled: bool `[N]`, the labels that training may see, or None where there are no labels.
            All False where nothing trains on them: in test and validation splits.
        labels_batch: labelled examples that stand beside each batch; 0: none.
        resident: True where `arrays` holds the images; False where they are streamed by `gather`.
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
        self.labels = frozen(labels)
        self.labelled = frozen(labelled)
        self.resident = isinstance(images, np.ndarray) and images.nbytes <= resident_mib * 2**20
        self._images = frozen(images)
        self._pipeline = pipeline
        self.labels_batch = labels_batch
        self._permutation = functools.lru_cache(maxsize=16)(self._shuffled)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self._images.shape[1:]))
        held = "in memory" if self.resident else "streamed"
        known = "no labels" if self.labels is None else f"{int(self.labelled.sum())} labelled"
        return f"<Split of {self.size} images {shape}, {held}, {self.levels} levels, {known}>"

    @property
    def levels(self) -> int:
        """Values a raw pixel can take, before anything is done to it; 0: continuous."""
        return self._pipeline.levels

    @property
    def pipeline(self) -> Pipeline:
        """What is done to the raw images: another `Split` of it treats other images alike."""
        return self._pipeline

    @property
    def unbinarised(self) -> "Split":
        """The same images with their grey levels in place of bits drawn from them."""
        other = copy.copy(self)
        other._pipeline = self._pipeline._replace(binarise="none")
        return other

    @property
    def binarised(self) -> "Split":
        """The same images as bits, drawn from their levels once, as binarise="fixed" draws them."""
        other = copy.copy(self)
        other._pipeline = self._pipeline._replace(binarise="fixed", dequantise=False)
        return other

    def order(self, seed: int, step: int, batch_size: int) -> Any:
        """Positions `[B]` int32 of the images of a step. Pure in its arguments; runs on the host.

        An epoch is `size // batch_size` steps in an order of its own. Its remainder is dropped, so
        no batch holds an image twice. With `Options.labels_batch` a pair: these positions, and
        `[labels_batch]` of labelled images, drawn with replacement.

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
        draws = drawn(self.labels_batch, int(self.labelled.sum()), seed, step)
        return positions, np.flatnonzero(self.labelled)[draws].astype(np.int32)

    def _shuffled(self, seed: int, epoch: int) -> np.ndarray:
        permutation = permuted(self.size, seed, epoch).astype(np.int32)
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
        """The rows of `arrays` at `indices` `[B]`, and their `position`; numpy, jax or traced.

        Where `order` gives a pair, the second one's rows stand under `supervised`.
        """
        if isinstance(indices, tuple):
            main, few = indices
            return self.rows(arrays, main) | {"supervised": self.rows(arrays, few)}
        return {name: column[indices] for name, column in arrays.items()} | {"position": indices}

    def gather(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """What `rows(arrays, indices)` gives, read on the host: for streamed splits."""
        if isinstance(indices, tuple):
            main, few = indices
            return self.gather(main) | {"supervised": self.gather(few)}
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
            -1 for others; where there are labels `label` int32 `[B]` and `labelled` bool `[B]`;
            with `Options.labels_batch` a second such batch under `supervised`.
        """
        return _finished(self._pipeline, rows, rng)

    def batch(self, seed: int, step: int, batch_size: int) -> dict[str, jax.Array]:
        """The batch that training sees at a step: a pure function of its arguments."""
        rng = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), step), 0)
        rows = self.gather(self.order(seed, step, batch_size))
        return _compiled_finish(self._pipeline, rows, rng)

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
            rng = jax.random.key(_EVALUATED[self._pipeline.is_train])
            yield _compiled_finish(self._pipeline, rows, rng), mask


def frozen(array: Any) -> Any:
    """A view that cannot be written to, as pure functions close over it; not arrays as they are."""
    if not isinstance(array, np.ndarray):
        return array
    view = array.view()
    view.flags.writeable = False
    return view


def _finished(pipeline: Pipeline, rows: dict[str, Any], rng: jax.Array) -> dict[str, Any]:
    if "supervised" in rows:
        few = _finished(pipeline, rows["supervised"], jax.random.fold_in(rng, _SUPERVISED))
        main = {name: column for name, column in rows.items() if name != "supervised"}
        return _finished(pipeline, main, rng) | {"supervised": few}
    position = jnp.asarray(rows["position"], jnp.int32)
    raw = jnp.asarray(rows["image"])
    if pipeline.binarise == "fixed":
        rng = jax.random.key(_BINARISED[pipeline.is_train])
    if pipeline.dequantise:
        image = raw.astype(jnp.float32) + _offsets(rng, position, raw.shape[1:])
        image = image * np.float32(1 / pipeline.levels)
    else:
        image = scaled(raw, pipeline.levels)
    if pipeline.binarise != "none":
        image = (_uniform(rng, position, raw.shape[1:]) < image).astype(jnp.float32)
    if pipeline.standardise:
        image = (image - pipeline.mean) * np.float32(1 / pipeline.std)
    index = position if pipeline.is_train else jnp.full_like(position, -1)
    labels = {name: jnp.asarray(rows[name]) for name in ("label", "labelled") if name in rows}
    return {"image": image, "index": index} | labels


_compiled_finish = jax.jit(_finished, static_argnums=0)


def scaled(raw: jax.Array, levels: int) -> jax.Array:
    """Raw pixels to float32 in [0, 1]: `v / (levels - 1)`, or as they are where levels is 0."""
    if not levels:
        return raw.astype(jnp.float32)
    # A product, as compilers may turn the quotient into one, and bits must not depend on that.
    return raw.astype(jnp.float32) * np.float32(1 / max(levels - 1, 1))


def _uniform(rng: jax.Array, position: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """`[B, *shape]` in [0, 1), each example from its own key."""
    return jax.vmap(lambda p: jax.random.uniform(jax.random.fold_in(rng, p), shape))(position)


def _offsets(rng: jax.Array, position: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """`[B, *shape]` in (0, 1): 2^15 values with mean 1/2, which float32 can add to 255 exactly."""
    draw = lambda p: jax.random.bits(jax.random.fold_in(rng, p), shape, jnp.uint16)
    return ((jax.vmap(draw)(position) >> 1).astype(jnp.float32) + 0.5) * np.float32(2**-15)
