"""Measures of an IAE's reconstructions, which are to be new samples of q(x|z) and not copies.

At the optimum, x and its reconstruction x^ are independent samples from q(x|z), and so are two
reconstructions x^ and x^' with different noise. Then

    rho   = E|x - x^|^2 / E_z tr Var q(x|z)      is 2; 1 for an autoencoder with squared error
    delta = E|x^ - x^'|^2 / E_z tr Var q(x|z)    is 2; 0 where the decoder ignores its noise

Derived from the definitions.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxae.training.state import State


def mutual_information(probabilities: np.ndarray) -> float:
    """I(x; y) in nats, H(mean y) - mean H(y), of class probabilities `[N, K]` given each x."""
    y = np.asarray(probabilities, np.float64)
    entropy = lambda p: -np.sum(p * np.log(np.where(p > 0, p, 1.0)), axis=-1)
    return float(entropy(y.mean(0)) - entropy(y).mean())


def within_group_variance(x: np.ndarray, groups: np.ndarray) -> float:
    """The mean over examples of |x - mean of its group|^2, which estimates E tr Var(x | group).

    Args:
        x: `[N, D]`.
        groups: `[N]` integers.
    """
    x = np.asarray(x, np.float64)
    deviations = [x[groups == k] - x[groups == k].mean(0) for k in np.unique(groups)]
    return float(sum(np.sum(np.square(d)) for d in deviations) / len(x))


def reconstruction_measures(
    encode: Callable, decode: Callable, state: State, data: Any, rng: jax.Array,
    categorical: bool, batch_size: int = 250,
) -> dict[str, float | None]:  # fmt: skip
    """rho, delta and the numbers that they are computed from, on the test set.

    The variance is that within groups. For a categorical code the groups are its clusters, each
    example in its most probable one; for a continuous code, whose conditional variance is not
    known, the classes of the labels, or all images as one group where there are no labels.

    Args:
        encode: state, batch, rng -> z `[B, Z]`.
        decode: state, z, rng -> images.
        data: a data set with `test`.
    Returns:
        `squared_error` E|x - x^|^2 and `squared_change` E|x^ - x^'|^2, both summed over pixels;
        `change_over_error`, their ratio: 1 at the optimum, 0 where noise is ignored, for any code;
        `variance`, `rho`, `delta`; `information` in nats (categorical codes). A ratio with
        denominator zero is None.
    """

    @jax.jit
    def reconstruct_twice(state, batch, rng):
        rng_z, *rngs_x = jax.random.split(rng, 3)
        z = encode(state, batch, rng_z)
        return z, *(decode(state, z, key) for key in rngs_x)

    codes, images, first, second = [], [], [], []
    for i, (batch, mask) in enumerate(data.test.examples(batch_size)):
        keep = np.asarray(mask)
        z, x_hat, other_x_hat = reconstruct_twice(state, batch, jax.random.fold_in(rng, i))
        rows = (codes, z), (images, batch["image"]), (first, x_hat), (second, other_x_hat)
        for collected, values in rows:
            collected.append(np.asarray(values)[keep].reshape(keep.sum(), -1))
    z, x, first, second = (np.concatenate(a) for a in (codes, images, first, second))
    if categorical:
        groups = z.argmax(1)
    else:
        groups = np.zeros(len(x), int) if data.test.labels is None else data.test.labels
    error = float(np.mean(np.sum(np.square(x - first), axis=1)))
    change = float(np.mean(np.sum(np.square(second - first), axis=1)))
    variance = within_group_variance(x, groups)
    ratio = lambda a, b: a / b if b else None
    measures = {
        "squared_error": error,
        "squared_change": change,
        "change_over_error": ratio(change, error),
        "variance": variance,
        "rho": ratio(error, variance),
        "delta": ratio(change, variance),
    }
    return measures | ({"information": mutual_information(z)} if categorical else {})
