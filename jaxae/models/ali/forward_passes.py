"""The forward passes of ALI's networks for the options of a `Config`, and the regressor's loss."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxae import nets
from jaxae.nets.mlp import output_activation
from jaxae.training.state import Spec


class DiscriminatorOutput(NamedTuple):
    """The discriminator's output for a batch."""

    logits: jax.Array  # [B], T
    class_logits: jax.Array  # [B, K], one for each class (semisupervised); else [B, 1]
    features: jax.Array  # [B, F], its last hidden layer


class ForwardPasses:
    """Functions that encode, generate and discriminate as the options of a `Config` say.

    `apply(p, stats, name, *inputs) -> output, stats` calls a network, in training with the batch
    statistics of its inputs, in evaluation with their moving averages. `e` is the embedding of the
    labels as a tuple: `(e,)` with e `[B, E]` for task=conditional, else `()`.
    """

    def __init__(self, config: Any, spec: Spec, network: nets.Bundle):
        self.config, self.spec, self.network = config, spec, network
        self.noise_size = config.noise if config.posterior == "universal" else config.latent

    def embed_labels(self, p: Any, labels: jax.Array | None) -> tuple[jax.Array, ...]:
        """The embedding `e` of labels `[B]`."""
        if self.config.task != "conditional":
            return ()
        return (self.network(p, {}, "embed", jax.nn.one_hot(labels, self.spec.classes)),)

    def encode(self, apply: Callable, p: Any, stats: Any, x, noise, e=()):
        """z^ [B,Z], the encoder's last layer [B, Z or 2Z], and the statistics."""
        x = x.reshape(x.shape[0], -1)
        if self.config.posterior == "universal":
            x = jnp.concatenate([x, noise], axis=-1)
        out, stats = apply(p, stats, "enc", x, *e)
        if self.config.posterior == "gaussian":
            mean, log_deviation = jnp.split(out, 2, axis=-1)
            return mean + jnp.exp(log_deviation) * noise, out, stats
        code = 2 * jax.nn.sigmoid(out) - 1 if self.config.prior == "uniform" else out
        return code, out, stats

    def generate(self, apply: Callable, p: Any, stats: Any, z, e=()):
        """G(z) [B,H,W,C] and the statistics."""
        out, stats = apply(p, stats, "gen", jnp.concatenate([z, *e], axis=-1))
        return output_activation(self.config.output)(out).reshape(-1, *self.spec.image_shape), stats

    def discriminate(self, apply: Callable, p: Any, stats: Any, x, z=None, e=(), name="critic"):
        """The discriminator's output for pairs (x, z), or for images alone (z is None)."""
        x = x.reshape(x.shape[0], -1)
        inputs = (x,) if z is None else (x, jnp.concatenate([z, *e], axis=-1))
        (class_logits, features), stats = apply(p, stats, name, *inputs)
        semisupervised = self.config.task == "semisupervised"
        logits = jax.nn.logsumexp(class_logits, axis=-1) if semisupervised else class_logits[..., 0]
        return DiscriminatorOutput(logits, class_logits, features), stats

    def discriminate_both(self, apply, p, stats, x, code, fake, z, e=(), name="critic"):
        """The outputs for the encoder's pairs (x, code) and the generator's pairs (fake, z).

        `code` and `z` are None where the discriminator has images alone as input.
        """
        if self.config.together:
            x, e = jnp.concatenate([x, fake]), tuple(jnp.concatenate([v, v]) for v in e)
            code = None if z is None else jnp.concatenate([code, z])
            both, stats = self.discriminate(apply, p, stats, x, code, e, name)
            n = fake.shape[0]
            real, generated = (v[:n] for v in both), (v[n:] for v in both)
            return DiscriminatorOutput(*real), DiscriminatorOutput(*generated), stats
        real, stats = self.discriminate(apply, p, stats, x, code, e, name)
        generated, stats = self.discriminate(apply, p, stats, fake, z, e, name)
        return real, generated, stats


def latent_regression_loss(
    prior: str, logits: jax.Array, code: jax.Array, z: jax.Array
) -> jax.Array:
    """The loss of a latent regressor, which predicts z from G(z).

    Args:
        prior: `uniform`: cross-entropy of (z + 1) / 2 in nats, divided by Z (BiGAN's code; log 2
            for a constant prediction, 1/2 at best); `gaussian`: squared error, summed over Z (ALI).
        logits: `[B, Z]` logits of the predicted code (uniform).
        code: `[B, Z]` the predicted code (gaussian).
        z: `[B, Z]` the true code.
    Returns:
        `[B]`.
    """
    if prior == "uniform":
        return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, (z + 1) / 2), axis=-1)
    return jnp.sum(jnp.square(z - code), axis=-1)
