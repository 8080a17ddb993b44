"""How near a reconstruction is to its own image, and to another."""

from typing import Any

import jax
import numpy as np

from jaxae.training.state import State


def reconstruction_ratio(
    back: Any, state: State, data: Any, rng: jax.Array, batch_size: int = 250
) -> dict[str, float]:
    """Mean distances |x - G(E(x))| and |x' - G(E(x))|, x' the next test image, and their quotient.

    The quotient is 1 where a reconstruction knows nothing of its image (jeffdonahue/bigan: README).

    Args:
        back: state, batch, rng -> reconstructions.
        data: a data set with `test`.
    """
    images, returned = [], []
    for i, (batch, mask) in enumerate(data.test.examples(batch_size)):
        keep = np.asarray(mask)
        images.append(np.asarray(batch["image"])[keep])
        returned.append(np.asarray(back(state, batch, jax.random.fold_in(rng, i)))[keep])
    x, y = (np.concatenate(a).reshape(data.test.size, -1) for a in (images, returned))
    own = float(np.mean(np.linalg.norm(x - y, axis=1)))
    other = float(np.mean(np.linalg.norm(np.roll(x, 1, axis=0) - y, axis=1)))
    return {
        "reconstruction_distance": own,
        "distance_to_another": other,
        "reconstruction_ratio": own / other,
    }
