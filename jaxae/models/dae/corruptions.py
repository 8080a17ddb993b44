"""Corruptions that a denoising autoencoder removes: noise on vectors, and holes in images.

The noise is that of Vincent, Larochelle, Bengio & Manzagol 2008 (ICML) and Vincent et al. 2010
(JMLR 11); the masks have the shapes that are usual in work on inpainting.
"""

import math

import jax
import jax.numpy as jnp

NOISES = ("none", "masking", "masking_exact", "salt_and_pepper", "gaussian")
HOLES = ("block", "centre", "half", "pixels", "strokes")
_STROKES = 3  # random walks in one image


def corrupt(
    kind: str, rng: jax.Array, x: jax.Array, level: float, low: float = 0.0, high: float = 1.0
) -> tuple[jax.Array, jax.Array]:
    """Adds noise to vectors.

    Args:
        kind: `masking`: each component is 0 with probability `level`; `masking_exact`: exactly
            round(level D) of them are; `salt_and_pepper`: with probability `level` a component is
            `low` or `high`, with equal probability; `gaussian`: plus N(0, level^2), not clipped;
            `none`.
        rng: key.
        x: `[B, D]`.
        level: as described for each `kind`.
        low, high: the range of a component, for `salt_and_pepper`.
    Returns:
        the corrupted vectors, and bool `[B, D]`: which components were selected (masking does not
        change a selected component that is already 0).
    """
    selection_key, value_key = jax.random.split(rng)
    if kind == "none":
        return x, jnp.zeros(x.shape, bool)
    if kind == "gaussian":
        return x + level * jax.random.normal(value_key, x.shape), jnp.ones(x.shape, bool)
    u = jax.random.uniform(selection_key, x.shape)
    if kind == "masking_exact":
        rank = jnp.argsort(jnp.argsort(u, axis=1), axis=1)
        selected = rank < round(level * x.shape[1])
    else:
        selected = u < level
    value = jnp.zeros_like(x)
    if kind == "salt_and_pepper":
        value = jnp.where(jax.random.uniform(value_key, x.shape) < 0.5, low, high)
    return jnp.where(selected, value, x), selected


def sample_mask(
    kind: str, rng: jax.Array, count: int, height: int, width: int, level: float
) -> jax.Array:
    """Random masks for inpainting.

    Args:
        kind: `block`: a rectangle anywhere inside is missing, `centre`: in the middle, each with
            sides round(level H) and round(level W); `half`: the left, right, upper or lower half,
            chosen at random (`level` is not used); `pixels`: each pixel is missing with probability
            `level`; `strokes`: three random walks over the image are missing, lines of width
            round(level min(H, W) / 2), at least 1.
        rng: key.
        count: B.
        height, width: H, W.
        level: as described for each `kind`.
    Returns:
        float32 `[B, H, W, 1]`: 1 where a pixel is known, 0 where it is missing.
    """
    rows, columns = jnp.arange(height)[None, :, None], jnp.arange(width)[None, None, :]
    if kind == "pixels":
        missing = jax.random.uniform(rng, (count, height, width)) < level
    elif kind in ("block", "centre"):
        hole_height, hole_width = round(level * height), round(level * width)
        last_corner = jnp.array([height - hole_height, width - hole_width])
        corner = jnp.broadcast_to(last_corner // 2, (count, 2))
        if kind == "block":
            u = jax.random.uniform(rng, (count, 2))
            corner = jnp.minimum(jnp.int32(u * (last_corner + 1)[None]), last_corner[None])
        top, left = corner[:, :1, None], corner[:, 1:, None]
        in_rows = (rows >= top) & (rows < top + hole_height)
        missing = in_rows & (columns >= left) & (columns < left + hole_width)
    elif kind == "half":
        side = jnp.int32(4 * jax.random.uniform(rng, (count, 1, 1)))
        missing = jnp.where(
            side < 2,
            (columns < width // 2) == (side == 0),
            (rows < height // 2) == (side == 2),
        )
    else:
        start_key, angle_key = jax.random.split(rng)
        walks, steps = (count, _STROKES), max(height, width)
        start = jax.random.uniform(start_key, (*walks, 1, 3))  # row, column, direction
        position = start[..., :2] * jnp.array([height, width], jnp.float32)[None, None, None]
        rotation = jnp.cumsum(jax.random.normal(angle_key, (*walks, steps)), axis=2)
        angle = 2 * math.pi * start[..., 2] + 0.4 * rotation
        offset = jnp.cumsum(jnp.stack([jnp.sin(angle), jnp.cos(angle)], -1), axis=2)
        path = jnp.concatenate([position, position + offset], axis=2)
        path = path.reshape(count, -1, 2)
        radius = max(round(level * min(height, width) / 2), 1) / 2

        def draw_path(path):
            """Pixels `[H, W]` whose centre is near a point of the path, row- and column-wise."""
            near = lambda points, pixels: jnp.abs(points[:, None] - pixels[None] - 0.5) <= radius
            in_row, in_column = near(path[:, 0], rows[0, :, 0]), near(path[:, 1], columns[0, 0])
            return jnp.any(in_row[:, :, None] & in_column[:, None, :], axis=0)

        missing = jax.vmap(draw_path)(path)
    return 1.0 - jnp.broadcast_to(missing, (count, height, width))[..., None].astype(jnp.float32)
