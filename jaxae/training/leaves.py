"""Arrays of a checkpoint: checks before a save, shapes and dtypes, targets of a restore."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def check_array(path, leaf: Any) -> jax.Array | np.ndarray:
    """`leaf` as an array that Orbax can save and JAX can restore unchanged.

    Raises:
        TypeError: not an array, or a dtype that JAX cannot restore.
    """
    name = jax.tree_util.keystr(path)
    if isinstance(leaf, np.generic):
        leaf = np.asarray(leaf)
    if not isinstance(leaf, jax.Array | np.ndarray):
        raise TypeError(f"{name}: leaves of a checkpoint must be arrays, is {type(leaf).__name__}")
    if isinstance(leaf, np.ndarray) and jax.dtypes.canonicalize_dtype(leaf.dtype) != leaf.dtype:
        raise TypeError(f"{name}: JAX cannot restore {leaf.dtype} (jax_enable_x64 is off)")
    return leaf


def restore_target(leaf: Any) -> jax.ShapeDtypeStruct | jax.Array:
    """The target for Orbax: the leaf's shape, dtype and sharding (or the default device)."""
    sharding = getattr(leaf, "sharding", None) or jnp.zeros(()).sharding
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        # Orbax 0.11 restores a typed key only into a typed key.
        return jax.device_put(jax.lax.full(leaf.shape, 0, leaf.dtype), sharding)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def signature(tree: Any) -> dict[str, str]:
    """Dtype and shape of every leaf (the type of a leaf that is not an array), by path."""
    return {
        jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}"
        if hasattr(leaf, "dtype")
        else type(leaf).__name__
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def differences(saved: dict[str, str], expected: dict[str, str]) -> str:
    """One line per leaf that differs, at most ten."""
    lines = [
        f"  {name}: {saved.get(name, 'missing')} in the checkpoint, "
        f"{expected.get(name, 'missing')} expected"
        for name in saved | expected
        if saved.get(name) != expected.get(name)
    ]
    more = [f"  and {len(lines) - 10} more"] if len(lines) > 10 else []
    return "\n".join(lines[:10] + more)
