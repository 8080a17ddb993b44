"""The distance of reconstructions from their own images, compared with that from other images."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxae.training.state import State


def reconstruction_ratio(
    reconstruct: Callable, state: State, data: Any, rng: jax.Array, batch_size: int = 250
) -> dict[str, float]:
    """Mean distances |x - G(E(x))| and |x' - G(E(x))|, x' the next test image, and their ratio.

    The ratio is 1 where reconstructions do not depend on their images (jeffdonahue/bigan: README).

    Args:
        reconstruct: state, batch, rng -> reconstructions.
        data: a data set with `test`.
    """
    images, reconstructions = [], []
    for i, (batch, mask) in enumerate(data.test.examples(batch_size)):
        keep = np.asarray(mask)
        images.append(np.asarray(batch["image"])[keep])
        x_hat = reconstruct(state, batch, jax.random.fold_in(rng, i))
        reconstructions.append(np.asarray(x_hat)[keep])
    x, y = (np.concatenate(a).reshape(data.test.size, -1) for a in (images, reconstructions))
    own = float(np.mean(np.linalg.norm(x - y, axis=1)))
    other = float(np.mean(np.linalg.norm(np.roll(x, 1, axis=0) - y, axis=1)))
    return {
        "reconstruction_distance": own,
        "distance_to_another": other,
        "reconstruction_ratio": own / other,
    }
