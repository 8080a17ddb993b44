"""What can be said of an IAE's reconstructions, which shall be other draws and not copies.

Where the game ends, x and its reconstruction x^ are independent draws from q(x|z), and so are two
reconstructions with different noise:

    rho   = E|x - x^|^2 / E_z tr Var q(x|z)      2; 1 for an autoencoder of squared error
    delta = E|x^ - x^'|^2 / E_z tr Var q(x|z)    2; 0 where the noise is ignored

Derived from the definitions.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxae.training.state import State


def information(y: np.ndarray) -> float:
    """I(x; y) in nats, H(mean y) - mean H(y), of class probabilities `[N, K]` given each x."""
    y = np.asarray(y, np.float64)
    entropy = lambda p: -np.sum(p * np.log(np.where(p > 0, p, 1.0)), axis=-1)
    return float(entropy(y.mean(0)) - entropy(y).mean())


def variance_within(x: np.ndarray, groups: np.ndarray) -> float:
    """Mean over examples of tr Var(x | group), with each group's own mean.

    Args:
        x: `[N, D]`.
        groups: `[N]` integers.
    """
    x = np.asarray(x, np.float64)
    apart = [x[groups == k] - x[groups == k].mean(0) for k in np.unique(groups)]
    return float(sum(np.sum(np.square(part)) for part in apart) / len(x))


def reconstruction_measures(
    code: Callable, decode: Callable, state: State, data: Any, rng: jax.Array,
    categorical: bool, batch_size: int = 250,
) -> dict[str, float | None]:  # fmt: skip
    """rho, delta and what they consist of, on the test set.

    The variance is that within the clusters of a categorical code, each example in its most
    probable one; for a continuous code, whose own is not known, that within the classes of the
    labels, or that of all images where there are none.

    Args:
        code: state, batch, rng -> `[B, Z]`.
        decode: state, code, rng -> images.
        data: a data set with `test`.
    Returns:
        `squared_error` E|x - x^|^2 and `squared_change` E|x^ - x^'|^2, both summed over pixels;
        `change_over_error`, their quotient: 1 where the game ends, 0 where noise is ignored, for
        any code; `variance`, `rho`, `delta`; `information` in nats (categorical codes). A quotient
        is None where it is by zero.
    """

    @jax.jit
    def look(state, batch, rng):
        of_code, *of_image = jax.random.split(rng, 3)
        z = code(state, batch, of_code)
        return z, *(decode(state, z, key) for key in of_image)

    codes, images, first, second = [], [], [], []
    for i, (batch, mask) in enumerate(data.test.examples(batch_size)):
        keep = np.asarray(mask)
        found = look(state, batch, jax.random.fold_in(rng, i))
        for kept, value in zip(
            (codes, images, first, second), (found[0], batch["image"], *found[1:]), strict=True
        ):
            kept.append(np.asarray(value)[keep].reshape(keep.sum(), -1))
    z, x, first, second = (np.concatenate(a) for a in (codes, images, first, second))
    if categorical:
        groups = z.argmax(1)
    else:
        groups = np.zeros(len(x), int) if data.test.labels is None else data.test.labels
    error = float(np.mean(np.sum(np.square(x - first), axis=1)))
    change = float(np.mean(np.sum(np.square(second - first), axis=1)))
    variance = variance_within(x, groups)
    by = lambda a, b: a / b if b else None
    measures = {
        "squared_error": error,
        "squared_change": change,
        "change_over_error": by(change, error),
        "variance": variance,
        "rho": by(error, variance),
        "delta": by(change, variance),
    }
    return measures | ({"information": information(z)} if categorical else {})
