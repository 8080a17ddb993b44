"""Restricted Boltzmann machines trained by one step of contrastive divergence (CD-1).

Hinton & Salakhutdinov 2006, Science 313; the MATLAB release (rbm.m, rbmhidlinear.m). Binary hidden
units, or linear ones with unit Gaussian noise (the code layer); binary visible units given by
their probabilities, or the word counts of a document (Salakhutdinov & Hinton 2009, "constrained
Poisson", recalled and not re-read).

v [B,V] visible; h [B,H] hidden; E(v,h) = -b_v.v - b_h.h - v'Wh where both are binary.
CD-1 is an update rule and not the descent of a loss: it has a velocity of its own and no optimiser.
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxae.models.shared.layerwise import Turn, take_turns
from jaxae.models.shared.mirrored import Mirrored
from jaxae.training.state import State

SLOW, FAST = 0.5, 0.9  # momentum before and after the first steps (MATLAB release)


class Rbm(NamedTuple):
    """One machine's parameters, or what is added to them."""

    kernel: jax.Array  # [V, H]
    visible: jax.Array  # [V]
    hidden: jax.Array  # [H]


def contrast(
    rbm: Rbm,
    v0: jax.Array,
    rng: jax.Array,
    visible: str = "binary",
    hidden: str = "binary",
) -> tuple[Rbm, jax.Array]:
    """The CD-1 statistics <v h>_data - <v h>_one step later, averaged over the batch.

    The hidden units that reconstruct are drawn; all else are probabilities, as in rbm.m.

    Args:
        rbm: the machine.
        v0: `[B, V]`, probabilities (binary) or counts.
        rng: key.
        visible: `binary`, or `counts`: v_i ~ Poisson(N softmax(b_v + Wh)_i) with N the number of
            words in v0, given by its mean.
        hidden: `binary`, or `gaussian` (linear units with unit noise).
    Returns:
        the direction in which each parameter climbs, and h `[B, H]`: the hidden units' means on
        the data, which are the next machine's data.
    """

    def up(v):
        a = v @ rbm.kernel + rbm.hidden[None]
        return a if hidden == "gaussian" else jax.nn.sigmoid(a)

    mean0 = up(v0)
    if hidden == "gaussian":
        drawn = mean0 + jax.random.normal(rng, mean0.shape)
    else:
        drawn = (jax.random.uniform(rng, mean0.shape) < mean0).astype(mean0.dtype)
    back = drawn @ rbm.kernel.T + rbm.visible[None]
    if visible == "counts":
        v1 = jnp.sum(v0, axis=1, keepdims=True) * jax.nn.softmax(back)
    else:
        v1 = jax.nn.sigmoid(back)
    mean1 = up(v1)
    of_kernel = (v0.T @ mean0 - v1.T @ mean1) / v0.shape[0]
    slope = Rbm(of_kernel, jnp.mean(v0 - v1, axis=0), jnp.mean(mean0 - mean1, axis=0))
    return slope, mean0


def climb(
    rbm: Rbm, velocity: Rbm, slope: Rbm, rate: float, momentum: jax.Array, decay: float
) -> tuple[Rbm, Rbm]:
    """One step with momentum; `decay` pulls the kernel, and only it, towards zero.

    Returns:
        the machine, its velocity.
    """
    slope = slope._replace(kernel=slope.kernel - decay * rbm.kernel)
    velocity = jax.tree.map(lambda v, s: momentum * v + rate * s, velocity, slope)
    return jax.tree.map(jnp.add, rbm, velocity), velocity


class Pretraining(NamedTuple):
    """One machine after the other, `steps` each: what a model's step does before it fine-tunes."""

    network: Mirrored
    steps: int
    rates: tuple[float, ...]  # by layer
    slow_steps: int  # of each layer's, with momentum 0.5
    decay: float
    visible: str = "binary"  # units of the lowest layer
    code: str = "gaussian"  # hidden units of the highest

    def init(self) -> dict[str, Rbm]:
        """Zero velocities, by layer."""
        sizes = self.network.sizes
        return {
            f"layer_{k}": Rbm(jnp.zeros(sizes[k : k + 2]), jnp.zeros(low), jnp.zeros(high))
            for k, (low, high) in enumerate(itertools.pairwise(sizes))
        }

    def machine(self, k: int, report: Callable, x: jax.Array, axis_name: str | None) -> Turn:
        """A step of the machine at layer k, whose kernel the decoder gets transposed.

        So the network is unrolled at any moment: (W, b_h) upward, (W', b_v) downward.

        Args:
            report: params, hidden `[B, s_k]`, k -> metrics of the network unrolled from layer k.
            x: `[B, D]`.
        """
        name, network = f"layer_{k}", self.network
        visible = self.visible if k == 0 else "binary"
        hidden = self.code if k == network.depth - 1 else "binary"

        def turn(state, rng):
            params, velocity = state.params, state.extra["velocity"]
            enc, dec = params["enc"][name], params["dec"][name]
            rbm = Rbm(enc["kernel"], dec["bias"], enc["bias"])
            v0 = network.up(params, x, last=k)
            slope, seen = contrast(rbm, v0, rng, visible, hidden)
            if axis_name is not None:
                slope = jax.lax.pmean(slope, axis_name)
            momentum = jnp.where(state.step % self.steps < self.slow_steps, SLOW, FAST)
            rbm, moved = climb(rbm, velocity[name], slope, self.rates[k], momentum, self.decay)
            back = {"bias": rbm.visible} | ({} if network.tied else {"kernel": rbm.kernel.T})
            pair = {"enc": {"kernel": rbm.kernel, "bias": rbm.hidden}, "dec": back}
            metrics = report(params, seen, k + 1)
            params = {net: params[net] | {name: pair[net]} for net in pair}
            extra = state.extra | {"velocity": velocity | {name: moved}}
            return state.replace(params=params, extra=extra), metrics

        return turn

    def step(
        self, tune: Turn, report: Callable, state: State, x: jax.Array, rng: jax.Array,
        axis_name: str | None,
    ) -> tuple[State, Any]:  # fmt: skip
        """What the phase of `state.step` asks for: a machine's turn (see there), or `tune`."""
        phase = jnp.minimum(state.step // self.steps, self.network.depth)
        machines = [self.machine(k, report, x, axis_name) for k in range(self.network.depth)]
        return take_turns(phase, [*machines, tune], state, rng)
