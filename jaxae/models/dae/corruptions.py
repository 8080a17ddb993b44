"""What a denoising autoencoder has to undo: noise on vectors, and holes in images.

Vincent, Larochelle, Bengio & Manzagol 2008 (ICML) and Vincent et al. 2010 (JMLR 11) for the noise;
masks for inpainting in the shapes that its literature uses. Fresh at every call: the key decides.
"""

import math

import jax
import jax.numpy as jnp

NOISES = ("none", "masking", "masking_exact", "salt_and_pepper", "gaussian")
HOLES = ("block", "centre", "half", "pixels", "strokes")
_STROKES = 3  # random walks in one image


def noise(
    kind: str, rng: jax.Array, x: jax.Array, level: float, low: float = 0.0, high: float = 1.0
) -> tuple[jax.Array, jax.Array]:
    """Corrupts vectors.

    Args:
        kind: `masking`: each component is 0 with probability `level`; `masking_exact`: exactly
            round(level D) of them are; `salt_and_pepper`: with probability `level` a component is
            `low` or `high`, by a fair coin; `gaussian`: plus N(0, level^2), not clipped; `none`.
        rng: key.
        x: `[B, D]`.
        level: see there.
        low, high: the ends of the components' range, for `salt_and_pepper`.
    Returns:
        the corrupted vectors, and bool `[B, D]`: which components were chosen (where the value was
        0 already masking leaves it as it was).
    """
    of_choice, of_value = jax.random.split(rng)
    if kind == "none":
        return x, jnp.zeros(x.shape, bool)
    if kind == "gaussian":
        return x + level * jax.random.normal(of_value, x.shape), jnp.ones(x.shape, bool)
    u = jax.random.uniform(of_choice, x.shape)
    if kind == "masking_exact":
        rank = jnp.argsort(jnp.argsort(u, axis=1), axis=1)
        chosen = rank < round(level * x.shape[1])
    else:
        chosen = u < level
    value = jnp.zeros_like(x)
    if kind == "salt_and_pepper":
        value = jnp.where(jax.random.uniform(of_value, x.shape) < 0.5, low, high)
    return jnp.where(chosen, value, x), chosen


def known(
    kind: str, rng: jax.Array, count: int, height: int, width: int, level: float
) -> jax.Array:
    """Masks for inpainting.

    Args:
        kind: `block`: a rectangle anywhere inside is missing, `centre`: in the middle, each with
            sides round(level H) and round(level W); `half`: the left, right, upper or lower half,
            by chance (`level` is not read); `pixels`: each with probability `level`; `strokes`:
            three random walks over the image, round(level min(H, W) / 2) wide in all, at least 1.
        rng: key.
        count: B.
    Returns:
        float32 `[B, H, W, 1]`: 1 where a pixel is known, 0 where it is missing.
    """
    rows, columns = jnp.arange(height)[None, :, None], jnp.arange(width)[None, None, :]
    if kind == "pixels":
        missing = jax.random.uniform(rng, (count, height, width)) < level
    elif kind in ("block", "centre"):
        tall, wide = round(level * height), round(level * width)
        free = jnp.array([height - tall, width - wide])
        corner = jnp.broadcast_to(free // 2, (count, 2))
        if kind == "block":
            share = jax.random.uniform(rng, (count, 2))
            corner = jnp.minimum(jnp.int32(share * (free + 1)[None]), free[None])
        top, left = corner[:, :1, None], corner[:, 1:, None]
        inside = (rows >= top) & (rows < top + tall)
        missing = inside & (columns >= left) & (columns < left + wide)
    elif kind == "half":
        side = jnp.int32(4 * jax.random.uniform(rng, (count, 1, 1)))
        missing = jnp.where(
            side < 2,
            (columns < width // 2) == (side == 0),
            (rows < height // 2) == (side == 2),
        )
    else:
        of_start, of_turns = jax.random.split(rng)
        walks, steps = (count, _STROKES), max(height, width)
        start = jax.random.uniform(of_start, (*walks, 1, 3))
        place = start[..., :2] * jnp.array([height, width], jnp.float32)[None, None, None]
        turns = jnp.cumsum(jax.random.normal(of_turns, (*walks, steps)), axis=2)
        angle = 2 * math.pi * start[..., 2] + 0.4 * turns
        moves = jnp.cumsum(jnp.stack([jnp.sin(angle), jnp.cos(angle)], -1), axis=2)
        path = jnp.concatenate([place, place + moves], axis=2)
        path = path.reshape(count, -1, 2)
        reach = max(round(level * min(height, width) / 2), 1) / 2

        def covered(path):
            near = lambda at, pixels: jnp.abs(at[:, None] - pixels[None] - 0.5) <= reach
            on_row, on_column = near(path[:, 0], rows[0, :, 0]), near(path[:, 1], columns[0, 0])
            return jnp.any(on_row[:, :, None] & on_column[:, None, :], axis=0)

        missing = jax.vmap(covered)(path)
    return 1.0 - jnp.broadcast_to(missing, (count, height, width))[..., None].astype(jnp.float32)
