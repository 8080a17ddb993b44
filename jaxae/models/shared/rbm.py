"""Restricted Boltzmann machines (RBM) trained by one step of contrastive divergence (CD-1).

Hinton & Salakhutdinov 2006, Science 313; the MATLAB release (rbm.m, rbmhidlinear.m). Hidden units
are binary, or linear with unit Gaussian noise (the code layer). Visible units are binary, given by
their probabilities, or the word counts of a document (Salakhutdinov & Hinton 2009, "constrained
Poisson", recalled and not re-read).

v [B,V] visible; h [B,H] hidden; E(v,h) = -b_v.v - b_h.h - v'Wh where both are binary.

    dW = <v h>_data - <v h>_reconstruction - decay W
    velocity <- momentum velocity + rate dW        W <- W + velocity

CD-1 is an update rule, not the gradient of a loss: it uses this velocity and no optax optimiser.
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxae.models.shared.layerwise import PhaseStep, run_phase
from jaxae.models.shared.mirrored import Mirrored
from jaxae.training.state import State

FIRST_MOMENTUM, MOMENTUM = 0.5, 0.9  # in the first steps, and after them (MATLAB release)


class Rbm(NamedTuple):
    """The parameters of one RBM, or an update of them."""

    kernel: jax.Array  # [V, H]
    visible: jax.Array  # [V]
    hidden: jax.Array  # [H]


def contrastive_divergence(
    rbm: Rbm,
    v0: jax.Array,
    rng: jax.Array,
    visible: str = "binary",
    hidden: str = "binary",
) -> tuple[Rbm, jax.Array]:
    """The CD-1 statistics <v h>_data - <v h>_reconstruction, averaged over the batch.

    The hidden units that reconstruct are sampled; all other units are probabilities, as in rbm.m.

    Args:
        rbm: the RBM.
        v0: `[B, V]`, probabilities (binary) or counts.
        rng: key.
        visible: `binary`, or `counts`: v_i ~ Poisson(N softmax(b_v + Wh)_i) with N the number of
            words in v0, given by its mean.
        hidden: `binary`, or `gaussian` (linear units with unit noise).
    Returns:
        the direction of ascent for each parameter, and `[B, H]` the means of the hidden units on
        the data, which are the data of the next RBM.
    """

    def hidden_means(v):
        a = v @ rbm.kernel + rbm.hidden[None]
        return a if hidden == "gaussian" else jax.nn.sigmoid(a)

    h0_mean = hidden_means(v0)
    if hidden == "gaussian":
        h0 = h0_mean + jax.random.normal(rng, h0_mean.shape)
    else:
        h0 = (jax.random.uniform(rng, h0_mean.shape) < h0_mean).astype(h0_mean.dtype)
    v1_inputs = h0 @ rbm.kernel.T + rbm.visible[None]
    if visible == "counts":
        v1 = jnp.sum(v0, axis=1, keepdims=True) * jax.nn.softmax(v1_inputs)
    else:
        v1 = jax.nn.sigmoid(v1_inputs)
    h1_mean = hidden_means(v1)
    kernel_ascent = (v0.T @ h0_mean - v1.T @ h1_mean) / v0.shape[0]
    ascent = Rbm(kernel_ascent, jnp.mean(v0 - v1, axis=0), jnp.mean(h0_mean - h1_mean, axis=0))
    return ascent, h0_mean


def momentum_step(
    rbm: Rbm, velocity: Rbm, ascent: Rbm, rate: float, momentum: jax.Array, decay: float
) -> tuple[Rbm, Rbm]:
    """One update with momentum; weight `decay` applies to the kernel only.

    Returns:
        the new RBM and its new velocity.
    """
    ascent = ascent._replace(kernel=ascent.kernel - decay * rbm.kernel)
    velocity = jax.tree.map(lambda v, a: momentum * v + rate * a, velocity, ascent)
    return jax.tree.map(jnp.add, rbm, velocity), velocity


class Pretraining(NamedTuple):
    """Greedy layer-wise pretraining: each layer is an RBM for `steps` steps, then fine-tuning."""

    network: Mirrored
    steps: int  # of each layer
    rates: tuple[float, ...]  # by layer
    slow_steps: int  # of each layer, with momentum 0.5
    decay: float
    visible: str = "binary"  # visible units of the lowest layer
    code: str = "gaussian"  # hidden units of the highest layer

    def init(self) -> dict[str, Rbm]:
        """Zero velocities, by layer."""
        sizes = self.network.sizes
        return {
            f"layer_{k}": Rbm(jnp.zeros(sizes[k : k + 2]), jnp.zeros(low), jnp.zeros(high))
            for k, (low, high) in enumerate(itertools.pairwise(sizes))
        }

    def rbm_step(self, k: int, measure: Callable, x: jax.Array, axis_name: str | None) -> PhaseStep:
        """The training step of the RBM at layer k; the decoder gets its kernel transposed.

        So encoder and decoder are unrolled at every step: (W, b_h) upwards, (W', b_v) downwards.

        Args:
            k: layer.
            measure: params, hidden `[B, s_k]`, k -> metrics of the network decoded from layer k.
            x: `[B, D]`.
            axis_name: the mapped axis, or None.
        """
        name, network = f"layer_{k}", self.network
        visible = self.visible if k == 0 else "binary"
        hidden = self.code if k == network.depth - 1 else "binary"

        def step(state, rng):
            params, velocities = state.params, state.extra["velocity"]
            enc, dec = params["enc"][name], params["dec"][name]
            rbm = Rbm(enc["kernel"], dec["bias"], enc["bias"])
            v0 = network.encode(params, x, last=k)
            ascent, h = contrastive_divergence(rbm, v0, rng, visible, hidden)
            if axis_name is not None:
                ascent = jax.lax.pmean(ascent, axis_name)
            slow = state.step % self.steps < self.slow_steps
            momentum = jnp.where(slow, FIRST_MOMENTUM, MOMENTUM)
            rbm, velocity = momentum_step(
                rbm, velocities[name], ascent, self.rates[k], momentum, self.decay
            )
            dec = {"bias": rbm.visible} | ({} if network.tied else {"kernel": rbm.kernel.T})
            layers = {"enc": {"kernel": rbm.kernel, "bias": rbm.hidden}, "dec": dec}
            metrics = measure(params, h, k + 1)
            params = {net: params[net] | {name: layers[net]} for net in layers}
            extra = state.extra | {"velocity": velocities | {name: velocity}}
            return state.replace(params=params, extra=extra), metrics

        return step

    def step(
        self, fine_tune: PhaseStep, measure: Callable, state: State, x: jax.Array, rng: jax.Array,
        axis_name: str | None,
    ) -> tuple[State, Any]:  # fmt: skip
        """The step of the phase of `state.step`: of the RBM at a layer, or `fine_tune`.

        `measure`, `x` and `axis_name` are those of `rbm_step`.
        """
        phase = jnp.minimum(state.step // self.steps, self.network.depth)
        rbm_steps = [self.rbm_step(k, measure, x, axis_name) for k in range(self.network.depth)]
        return run_phase(phase, [*rbm_steps, fine_tune], state, rng)
