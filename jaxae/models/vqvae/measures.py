"""What a set of images costs in codes: how codebooks are used, three priors, bits per dimension."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxae import losses
from jaxae.training.state import State

BATCH = 200
LEAST_USED = 1 / 3  # of the rows of a codebook, by the training images; fewer call for action


def of_set(
    codes_of: Callable[[State, jax.Array], jax.Array],
    evaluate: Callable[[State, dict, jax.Array], dict[str, jax.Array]],
    state: State,
    data: Any,
    rng: jax.Array,
    *,
    codes: int,
    uniform: float,
    dims: int | None,
) -> dict[str, float]:
    """Numbers of a whole data set.

    Args:
        codes_of: state, x `[B,H,W,C]` -> k `[B,h,w,G]`.
        evaluate: state, a batch, rng -> per example `rate`, `distortion` in nats.
        data: a data set with `train` and `test`.
        codes: rows K of a codebook.
        uniform: nats per image that a uniform prior charges.
        dims: sub-pixels of an image, or None where the distortion is no probability's, so that
            bits have no meaning.
    Returns:
        `codes_used_train`, `codes_used_test`: share of rows that any image of the set chose;
        `perplexity_train`: exp(entropy) of the training set's codes, averaged over codebooks;
        nats per test image: `rate_uniform`, `rate_unigram` (each codebook's frequencies on the
        training set, every count raised by one), `rate_prior`; and with `dims` the bits/dim of
        distortion and each of these rates, `bits_per_dim_...`.
    """
    codes_of, evaluate = jax.jit(codes_of), jax.jit(evaluate)
    train, _ = _counts(codes_of, state, data.train, codes)
    test, images = _counts(codes_of, state, data.test, codes)
    share = (train + 1) / (train + 1).sum(axis=1, keepdims=True)
    seen: dict[str, list[np.ndarray]] = {"rate": [], "distortion": []}
    for batch, mask in data.test.examples(BATCH):
        found = evaluate(state, batch, rng)
        for name, values in seen.items():
            values.append(np.float64(found[name])[mask])
    distortion = float(np.concatenate(seen["distortion"]).mean())
    entropy = -np.sum(train * np.log(np.maximum(train, 1) / train.sum(1, keepdims=True)), axis=1)
    rates = {
        "uniform": uniform,
        "unigram": float(-np.sum(test * np.log(share)) / images),
        "prior": float(np.concatenate(seen["rate"]).mean()),
    }
    result = {
        "codes_used_train": float(np.mean(train > 0)),
        "codes_used_test": float(np.mean(test > 0)),
        "perplexity_train": float(np.mean(np.exp(entropy / train.sum(1)))),
        **{f"rate_{name}": rate for name, rate in rates.items()},
    }
    if dims is not None:
        for name, rate in rates.items():
            result[f"bits_per_dim_{name}"] = float(losses.bits_per_dim(distortion + rate, dims))
    return result


def advice(found: dict[str, float], codes: int, restart: float, usual: float) -> list[str]:
    """What in the numbers of `of_set` calls for action: see `Model.advise`.

    Args:
        found: with `codes_used_train`.
        codes: rows K of a codebook.
        restart: as the model has it.
        usual: the default of `restart`, which is offered where the model has less.
    """
    used = found["codes_used_train"]
    if used >= LEAST_USED:
        return []
    remedy = f"take --codes {max(2, round(used * codes))}, or train for more --steps"
    if restart < usual:
        remedy = f"take --restart {usual}, which lets unused codes begin anew (it is {restart})"
    return [f"the training images use {used:.0%} of the {codes} codes: {remedy}"]


def _counts(codes_of: Callable, state: State, split: Any, codes: int) -> tuple[np.ndarray, int]:
    """How often a split chooses each row, `[G, K]`, and its number of images."""
    total, images = 0, 0
    for batch, mask in split.examples(BATCH):
        k = np.asarray(codes_of(state, batch["image"]))[mask]
        groups = np.moveaxis(k, -1, 0).reshape(k.shape[-1], -1)
        total = total + np.stack([np.bincount(row, minlength=codes) for row in groups])
        images += len(k)
    return total, images
