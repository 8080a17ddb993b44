"""ALI's parts between its networks and its losses, and two numbers that its papers report."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxae import nets
from jaxae.nets.mlp import output_activation
from jaxae.training.state import Spec


class Judged(NamedTuple):
    """What the discriminator says of a batch."""

    logit: jax.Array  # [B]
    scores: jax.Array  # [B, K], one for each class (semisupervised); else [B, 1]
    hidden: jax.Array  # [B, F], its last hidden layer


class Parts:
    """The networks joined as a `Config` of `ali` says.

    Each method that takes `run` calls networks by it: `run(p, stats, name, *inputs) -> output,
    stats`, with a batch's own statistics or with those that were learnt. `e` is a label's embedding
    as the inputs that it adds: a tuple of one or none.
    """

    def __init__(self, config: Any, spec: Spec, network: nets.Bundle):
        self.config, self.spec, self.network = config, spec, network
        self.noise_size = config.noise if config.posterior == "universal" else config.latent

    def embedded(self, p: Any, label: jax.Array | None) -> tuple[jax.Array, ...]:
        """A label's embedding [B,E], where the task is conditional."""
        if self.config.task != "conditional":
            return ()
        return (self.network(p, {}, "embed", jax.nn.one_hot(label, self.spec.classes)),)

    def encoded(self, run: Callable, p: Any, stats: Any, x, noise, e=()):
        """z^ [B,Z], the encoder's last layer [B,Z or 2Z], and the statistics."""
        x = x.reshape(x.shape[0], -1)
        if self.config.posterior == "universal":
            x = jnp.concatenate([x, noise], axis=-1)
        raw, stats = run(p, stats, "enc", x, *e)
        if self.config.posterior == "gaussian":
            mean, log_deviation = jnp.split(raw, 2, axis=-1)
            return mean + jnp.exp(log_deviation) * noise, raw, stats
        code = 2 * jax.nn.sigmoid(raw) - 1 if self.config.prior == "uniform" else raw
        return code, raw, stats

    def generated(self, run: Callable, p: Any, stats: Any, z, e=()):
        """G(z) [B,H,W,C] and the statistics."""
        out, stats = run(p, stats, "gen", jnp.concatenate([z, *e], axis=-1))
        return output_activation(self.config.output)(out).reshape(-1, *self.spec.image_shape), stats

    def judged(self, run: Callable, p: Any, stats: Any, x, z=None, e=(), name="critic"):
        """What the discriminator says of pairs, or where z is None of images."""
        x = x.reshape(x.shape[0], -1)
        pair = (x,) if z is None else (x, jnp.concatenate([z, *e], axis=-1))
        (scores, hidden), stats = run(p, stats, name, *pair)
        many = self.config.task == "semisupervised"
        logit = jax.nn.logsumexp(scores, axis=-1) if many else scores[..., 0]
        return Judged(logit, scores, hidden), stats

    def both_judged(self, run, p, stats, x, code, fake, z, e=(), name="critic"):
        """The same of the encoder's pairs and of the generator's; codes are None for images."""
        if self.config.together:
            x, e = jnp.concatenate([x, fake]), tuple(jnp.concatenate([v, v]) for v in e)
            code = None if z is None else jnp.concatenate([code, z])
            both, stats = self.judged(run, p, stats, x, code, e, name)
            n = fake.shape[0]
            return Judged(*(v[:n] for v in both)), Judged(*(v[n:] for v in both)), stats
        on_q, stats = self.judged(run, p, stats, x, code, e, name)
        on_p, stats = self.judged(run, p, stats, fake, z, e, name)
        return on_q, on_p, stats


def regression_error(prior: str, raw: jax.Array, code: jax.Array, z: jax.Array) -> jax.Array:
    """What a latent regressor pays for taking G(z) for the image of another code.

    Args:
        prior: `uniform`: cross-entropy of (z + 1) / 2 in nats, divided by Z (BiGAN's code; log 2
            where nothing is known, 1/2 at best); `gaussian`: squared error, summed over Z (ALI).
        raw: `[B, Z]` logits of the code (uniform).
        code: `[B, Z]` the code that was found (gaussian).
        z: `[B, Z]` the code that was.
    Returns:
        `[B]`.
    """
    if prior == "uniform":
        return jnp.mean(optax.sigmoid_binary_cross_entropy(raw, (z + 1) / 2), axis=-1)
    return jnp.sum(jnp.square(z - code), axis=-1)
