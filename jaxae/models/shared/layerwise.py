"""Steps whose turn it is: what lets one compiled step train one layer after the other."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxae.training.state import State

Turn = Callable[[State, jax.Array], tuple[State, Any]]  # state, rng -> state, metrics


def take_turns(
    phase: jax.Array, turns: Sequence[Turn], state: State, rng: jax.Array
) -> tuple[State, Any]:
    """`turns[phase](state, rng)`.

    Each is a loop of at most one turn and not a branch of a `switch`: it works in place where a
    `switch` copies all that it passes on, and under `vmap` it is skipped where no seed needs it.

    Args:
        phase: int32 scalar; may be traced.
        turns: state, rng -> state, metrics; all of one structure.
        rng: key; turn k draws from a key folded with k.
    """
    shapes = jax.eval_shape(turns[-1], state, rng)[1]
    carry = state, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    for k, turn in enumerate(turns):

        def body(todo, turn=turn):
            _, key, (state, _) = todo
            key, of_turn = jax.random.split(key)
            return jnp.array(False), key, turn(state, of_turn)

        todo = phase == k, jax.random.fold_in(rng, k), carry
        carry = jax.lax.while_loop(lambda todo: todo[0], body, todo)[2]
    return carry
