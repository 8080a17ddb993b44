"""Means over a whole split, and the likelihood bounds of explicit models.

Source of the bounds: Kingma & Welling 2014, arXiv:1312.6114 (the ELBO); Burda, Grosse &
Salakhutdinov 2016, arXiv:1509.00519 (the k-sample bound, active units).
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxae.evaluation.passes import batches, over_split
from jaxae.losses import bits_per_dim, empty_bound, extend_bound, finish_bound
from jaxae.training.state import Model, State

ACTIVE_VARIANCE = 0.01  # Burda et al. 2016, section 5


def summary(name: str, values: np.ndarray) -> dict[str, float | None]:
    """`{name: mean, name_se: standard error of the mean}` of one number per example.

    Args:
        name: the key.
        values: `[N]`; averaged in float64. The standard error of one value is None.
    """
    values = np.asarray(values, np.float64)
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else None
    return {name: float(values.mean()), f"{name}_se": None if error is None else float(error)}


def mean_over(
    fn: Callable,
    state: State,
    split: Any,
    batch_size: int,
    rng: jax.Array,
    limit: int | None = None,
    per_example: bool = True,
) -> dict[str, float | None]:
    """Means and standard errors over a whole split of the numbers of `fn`.

    Padding is not counted. With `per_example` `fn` is called on each example separately, with a key
    folded from its position in the split, so that the result does not depend on `batch_size`
    (except for rounding).

    Args:
        fn: state, batch, rng -> `{name: [B]}`, such as a model's `evaluate`; jitted or not. Pass
            the same object each time, since compiled code is cached by its identity.
        state: the trained state.
        split: a split of a data set.
        batch_size: affects speed and memory only.
        rng: one key for the whole pass.
        limit: number of examples, evenly spaced; None for all.
        per_example: False calls `fn` on whole batches, with a key folded from the first position:
            faster if `fn` searches a large memory, but the noise depends on `batch_size`.
    Returns:
        `{name: mean, name_se: standard error over examples}`.
    """
    values = over_split(fn, state, split, batch_size, rng, limit, per_example)
    means = [summary(name, value) for name, value in values.items()]
    return {key: number for pair in means for key, number in pair.items()}


@functools.partial(jax.jit, static_argnums=(0, 1))
def _absorb(log_weight, chunk, state, images, positions, rng, first, samples, bound, total):
    """Adds samples first..first+chunk-1 of each image to its bound and to its sum of log w."""
    index = first + jnp.arange(chunk, dtype=jnp.int32)

    def one(image, position):
        key = jax.random.fold_in(rng, position)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, index)
        # The image is the same for all keys, so the encoder runs once per image.
        return jax.vmap(lambda k: log_weight(state, image[None], k)[0])(keys)

    weights = jax.vmap(one, out_axes=1)(images, positions)  # [chunk, B]
    counted = jnp.broadcast_to((index < samples)[:, None], weights.shape)
    bound = extend_bound(bound, jnp.where(counted, weights, -jnp.inf))
    bound = bound._replace(count=jnp.minimum(bound.count, samples))
    return bound, total + jnp.sum(jnp.where(counted, weights, 0.0), axis=0)


def log_likelihoods(
    model: Model,
    state: State,
    split: Any,
    *,
    samples: int,
    batch_size: int,
    rng: jax.Array,
    chunk: int = 20,
    limit: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """What `bounds` averages: the ELBO and the importance-weighted bound of each image, in nats.

    Args:
        model, state, split, samples, batch_size, rng, chunk, limit: as `bounds` takes them.
    Returns:
        `[N]` and `[N]` float64, in the order of the split.
    Raises:
        ValueError: as `bounds`.
    """
    return _per_image(model, state, split, samples, batch_size, rng, chunk, limit)[:2]


def _per_image(model, state, split, samples, batch_size, rng, chunk, limit):
    """Both bounds of each image, and the dimensions of one."""
    if model.log_weight is None:
        raise ValueError("bounds: the model has no log_weight")
    if samples < 1 or chunk < 1:
        raise ValueError(f"bounds: samples and chunk must be at least 1, are {samples} and {chunk}")
    chunk = math.ceil(samples / math.ceil(samples / chunk))  # chunks of equal size
    elbo, iwae = [], []
    for batch, positions, mask in batches(split, batch_size, limit):
        bound, total = empty_bound((len(mask),)), jnp.zeros(len(mask))
        for first in range(0, samples, chunk):
            bound, total = _absorb(
                model.log_weight, chunk, state, batch["image"], positions, rng,
                np.int32(first), np.int32(samples), bound, total,
            )  # fmt: skip
        iwae.append(np.asarray(finish_bound(bound), np.float64)[mask])
        elbo.append(np.asarray(total, np.float64)[mask] / samples)
        dims = math.prod(batch["image"].shape[1:])
    return np.concatenate(elbo), np.concatenate(iwae), dims


def bounds(
    model: Model,
    state: State,
    split: Any,
    *,
    samples: int,
    batch_size: int,
    rng: jax.Array,
    chunk: int = 20,
    limit: int | None = None,
    measured: dict[str, float | None] | None = None,
    offset_bits: float | None = 0.0,
) -> dict[str, Any]:
    """ELBO and importance-weighted bound of log p(x), averaged over a split.

    The logsumexp over samples is per image, before the mean over images. Sample s of the image at
    position i has the key `fold_in(fold_in(rng, i), s)`, so the result does not depend on
    `batch_size` or `chunk`. Memory is that of `batch_size * chunk` decoded images for any
    `samples`. Both bounds use the same samples, so the gap is never negative.

    Args:
        model: one with `log_weight`.
        state: the trained state.
        split: a split of a data set.
        samples: k.
        batch_size: images at a time.
        rng: one key for the whole pass.
        chunk: samples at a time.
        limit: number of images, evenly spaced over the split; None for all.
        measured: the result of `mean_over(model.evaluate, ...)`, if known.
        offset_bits: added to both bits/dim: log2(levels) if `levels` pixel values were
            dequantised into [0, 1), and 0 if p(x|z) is a probability. None if neither (see
            `bits_offset`); then no bits/dim are returned.
    Returns:
        floats: `elbo_nats` (mean log w), `iwae_nats`, `gap_nats` (their difference, due to
        the approximate posterior), each with its standard error over images `..._se`;
        `elbo_bits_per_dim` and `iwae_bits_per_dim`, unless `offset_bits` is None (of the negative
        bounds; lower is better); `rate_nats` and `distortion_nats` of the model's `evaluate`, None
        if it has none; ints `samples` and `images`.
    Raises:
        ValueError: the model has no `log_weight`; `samples` or `chunk` below 1.
    """
    elbo, iwae, dims = _per_image(model, state, split, samples, batch_size, rng, chunk, limit)
    if measured is None:
        measured = mean_over(model.evaluate, state, split, batch_size, rng, limit)
    parts = {
        f"{name}_nats{end}": measured.get(name + end)
        for name in ("rate", "distortion")
        for end in ("", "_se")
    }
    bits = {
        f"{name}_bits_per_dim": float(bits_per_dim(-bound.mean(), dims)) + offset_bits
        for name, bound in (("elbo", elbo), ("iwae", iwae))
        if offset_bits is not None
    }
    return {
        **summary("elbo_nats", elbo),
        **summary("iwae_nats", iwae),
        **summary("gap_nats", iwae - elbo),
        **bits,
        **parts,
        "samples": samples,
        "images": len(elbo),
    }


def active_units(codes: np.ndarray) -> int:
    """Number of active dimensions of the code: variance of the posterior mean above 0.01.

    The threshold is meaningful only for the prior N(0, I), which sets the scale.

    Args:
        codes: `[N, Z]` posterior means, one per image of a set.
    Returns:
        a number in 0..Z. Source: Burda et al. 2016, arXiv:1509.00519.
    """
    return int(np.sum(np.var(np.asarray(codes, np.float64), axis=0) > ACTIVE_VARIANCE))
