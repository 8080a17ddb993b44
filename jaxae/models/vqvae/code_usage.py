"""How a data set uses the codes: codebook usage, rates under three priors, bits per dimension."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxae import losses
from jaxae.training.state import State

BATCH = 200
MIN_CODES_USED = 1 / 3  # share of a codebook's rows; if training images use fewer, advice is given


def measure_code_usage(
    encode_codes: Callable[[State, jax.Array], jax.Array],
    evaluate: Callable[[State, dict, jax.Array], dict[str, jax.Array]],
    state: State,
    data: Any,
    rng: jax.Array,
    *,
    codes: int,
    uniform: float,
    dims: int | None,
) -> dict[str, float]:
    """Code usage of a data set, and rates of its test images.

    Args:
        encode_codes: state, x `[B,H,W,C]` -> k `[B,h,w,G]`.
        evaluate: state, batch, rng -> `rate` and `distortion`, `[B]` nats.
        state: of the model.
        data: a data set with `train` and `test`.
        rng: key.
        codes: rows K of a codebook.
        uniform: rate under a uniform prior, nats per image.
        dims: sub-pixels of an image, or None where the distortion is the -log of a density, which
            has no meaning in bits.
    Returns:
        `codes_used_train`, `codes_used_test`: share of rows that at least one image of the set
        uses; `perplexity_train`: exp(entropy) of the training set's codes, mean over codebooks;
        nats per test image: `rate_uniform`, `rate_unigram` (by each codebook's frequencies on the
        training set, with 1 added to each count), `rate_prior`; and with `dims` the bits per
        dimension of distortion plus each of these rates, `bits_per_dim_...`.
    """
    encode_codes, evaluate = jax.jit(encode_codes), jax.jit(evaluate)
    train_counts, _ = _count_codes(encode_codes, state, data.train, codes)
    test_counts, images = _count_codes(encode_codes, state, data.test, codes)
    numbers: dict[str, list[np.ndarray]] = {"rate": [], "distortion": []}
    for batch, mask in data.test.examples(BATCH):
        evaluated = evaluate(state, batch, rng)
        for name, values in numbers.items():
            values.append(np.float64(evaluated[name])[mask])
    distortion = float(np.concatenate(numbers["distortion"]).mean())

    unigram = (train_counts + 1) / (train_counts + 1).sum(axis=1, keepdims=True)
    totals = train_counts.sum(1)
    log_share = np.log(np.maximum(train_counts, 1) / totals[:, None])
    entropy = -np.sum(train_counts * log_share, axis=1) / totals
    rates = {
        "uniform": uniform,
        "unigram": float(-np.sum(test_counts * np.log(unigram)) / images),
        "prior": float(np.concatenate(numbers["rate"]).mean()),
    }
    result = {
        "codes_used_train": float(np.mean(train_counts > 0)),
        "codes_used_test": float(np.mean(test_counts > 0)),
        "perplexity_train": float(np.mean(np.exp(entropy))),
        **{f"rate_{name}": rate for name, rate in rates.items()},
    }
    if dims is not None:
        for name, rate in rates.items():
            result[f"bits_per_dim_{name}"] = float(losses.bits_per_dim(distortion + rate, dims))
    return result


def advise(
    measures: dict[str, float], codes: int, restart: float, default_restart: float
) -> list[str]:
    """Advice where few codes are used, see `Model.advise`.

    Args:
        measures: of `measure_code_usage`, with `codes_used_train`.
        codes: rows K of a codebook.
        restart: the model's.
        default_restart: the default of `restart`, suggested where the model's is lower.
    """
    used = measures["codes_used_train"]
    if used >= MIN_CODES_USED:
        return []
    remedy = f"take --codes {max(2, round(used * codes))}, or train for more --steps"
    if restart < default_restart:
        remedy = f"take --restart {default_restart}, which restarts unused codes (it is {restart})"
    return [f"the training images use {used:.0%} of the {codes} codes: {remedy}"]


def _count_codes(
    encode_codes: Callable, state: State, split: Any, codes: int
) -> tuple[np.ndarray, int]:
    """How often a split uses each row, `[G, K]`, and its number of images."""
    counts, images = 0, 0
    for batch, mask in split.examples(BATCH):
        k = np.asarray(encode_codes(state, batch["image"]))[mask]
        groups = np.moveaxis(k, -1, 0).reshape(k.shape[-1], -1)
        counts = counts + np.stack([np.bincount(row, minlength=codes) for row in groups])
        images += len(k)
    return counts, images
