"""The schedule of greedy layer-wise training: one compiled step, whose phase selects the layer."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxae.training.state import State

PhaseStep = Callable[[State, jax.Array], tuple[State, Any]]  # state, rng -> state, metrics


def run_phase(
    phase: jax.Array, phase_steps: Sequence[PhaseStep], state: State, rng: jax.Array
) -> tuple[State, Any]:
    """`phase_steps[phase](state, rng)`, for a `phase` that is known only at run time.

    Each phase is a `while_loop` of at most one iteration, not a branch of a `switch`: the loop
    updates the state in place, where a `switch` copies it, and under `vmap` a phase that no seed is
    in is skipped.

    Args:
        phase: int32 scalar; may be traced.
        phase_steps: state, rng -> state, metrics; the results of all have one structure.
        rng: key; phase k uses a key folded with k.
    """
    shapes = jax.eval_shape(phase_steps[-1], state, rng)[1]
    result = state, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    for k, phase_step in enumerate(phase_steps):

        def body(carry, phase_step=phase_step):
            _, key, (state, _) = carry
            key, step_key = jax.random.split(key)
            return jnp.array(False), key, phase_step(state, step_key)

        carry = phase == k, jax.random.fold_in(rng, k), result
        result = jax.lax.while_loop(lambda carry: carry[0], body, carry)[2]
    return result
