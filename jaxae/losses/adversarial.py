"""Losses of adversarial training, per example, from the logits of a discriminator or critic.

A logit T is positive where the discriminator takes its input for real data (or for a sample of the
prior, if it discriminates codes). Each function is the loss of one player, who minimises it; none
flips a sign or stops a gradient.

Source: Goodfellow et al. 2014, arXiv:1406.2661 (logistic forms); Mao et al. 2017, arXiv:1611.04076
(least squares); Arjovsky, Chintala & Bottou 2017, arXiv:1701.07875 (Wasserstein); Salimans et al.
2016, arXiv:1606.03498 (feature matching); Mescheder, Geiger & Nowozin 2018, arXiv:1801.04406 (R1);
Gulrajani et al. 2017, arXiv:1704.00028 (gradient penalty).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxae.losses import _check

GAN_LOSSES = ("non_saturating", "saturating", "least_squares", "wasserstein")
_Loss = Callable[[jax.Array], jax.Array]


class GanLoss(NamedTuple):
    """Three losses of a logit `[...]` float -> `[...]`."""

    real_loss: _Loss
    """the discriminator's loss on the logits of real examples"""
    fake_loss: _Loss
    """the discriminator's loss on the logits of fakes"""
    generator_loss: _Loss
    """the generator's loss on the logits of its fakes"""


def gan_loss(name: str) -> GanLoss:
    """The losses of a GAN by name.

    Args:
        name: `non_saturating` (generator loss -log D) or `saturating` (generator loss log(1 - D),
            the minimax form), both in nats with the discriminator's cross-entropy;
            `least_squares` (targets 1 and 0, half the squared distance); `wasserstein` (the logits
            themselves; the critic needs a penalty in addition).
    Raises:
        ValueError: unknown name.
    """
    softplus = jax.nn.softplus
    losses = {
        "non_saturating": (lambda t: softplus(-t), softplus, lambda t: softplus(-t)),
        "saturating": (lambda t: softplus(-t), softplus, lambda t: -softplus(t)),
        "least_squares": (
            lambda t: 0.5 * jnp.square(t - 1),
            lambda t: 0.5 * jnp.square(t),
            lambda t: 0.5 * jnp.square(t - 1),
        ),
        "wasserstein": (jnp.negative, lambda t: t, jnp.negative),
    }
    if name not in losses:
        raise ValueError(f"gan_loss: name {name!r} is unknown; choose from {', '.join(GAN_LOSSES)}")
    return GanLoss(*(_checked(f"gan_loss {name!r}", loss) for loss in losses[name]))


def _checked(function: str, loss: _Loss) -> _Loss:
    def checked(logits: jax.Array) -> jax.Array:
        return loss(*_check.floats(function, logits=logits))

    return checked


def feature_matching(
    real_features: jax.Array, fake_features: jax.Array, power: int = 2
) -> jax.Array:
    """Distance of the batch means of features: sum |mean real - mean fake|^power.

    Args:
        real_features: `[B, F]` float, discriminator features of real data. The gradient is not
            stopped: in ALI they depend on the encoder, through the code paired with the data.
        fake_features: `[B', F]` float, discriminator features of generated data.
        power: 2 (the paper's) or 1 (openai/improved-gan's scripts).
    Returns:
        scalar: a distance of means, not a mean of distances.
    Raises:
        TypeError: not float.
        ValueError: shapes do not match, or another power.
    """
    real_features, fake_features = _check.floats(
        "feature_matching", real_features=real_features, fake_features=fake_features
    )
    _check.shape("feature_matching", "real_features", real_features, ("B", "F"))
    _check.shape(
        "feature_matching",
        "fake_features",
        fake_features,
        ("B'", real_features.shape[1]),
        real_features=real_features,
    )
    if power not in (1, 2):
        raise ValueError(f"feature_matching: power must be 1 or 2, is {power}")
    difference = jnp.mean(real_features, axis=0) - jnp.mean(fake_features, axis=0)
    return jnp.sum(jnp.abs(difference) if power == 1 else jnp.square(difference))


def squared_gradient_norms(critic: Callable[..., jax.Array], *inputs: jax.Array) -> jax.Array:
    """|grad T|^2 for each example, over all entries of all inputs together.

    Args:
        critic: function of inputs `[1, ...]` of one example -> logit `[1]`; a logit may depend on
            its own example only (no batch statistics).
        inputs: `[B, ...]` float each.
    Returns:
        `[B]` float, >= 0.
    Raises:
        TypeError: not float.
        ValueError: no input, inputs of different B, or more than one logit for an example.
    """
    return _squared_norms("squared_gradient_norms", critic, "inputs", inputs)


def _squared_norms(
    function: str, critic: Callable[..., jax.Array], name: str, inputs: Sequence[jax.Array]
) -> jax.Array:
    if not inputs:
        raise ValueError(f"{function}: {name} must be at least one array")
    inputs = _check.floats(function, **{f"{name}[{i}]": x for i, x in enumerate(inputs)})
    for i, x in enumerate(inputs):
        _check.axes(function, 1, **{f"{name}[{i}]": x})
        first = {f"{name}[0]": inputs[0]}
        _check.shape(function, f"{name}[{i}]", x, (len(inputs[0]), *x.shape[1:]), **first)

    def example_logit(*example):
        logit = critic(*(x[None] for x in example))
        if logit.size != 1:
            raise ValueError(
                f"{function}: critic must return one logit per example, returned shape "
                f"{list(logit.shape)} for one example"
            )
        return logit.reshape(())

    gradients = jax.vmap(jax.grad(example_logit, argnums=tuple(range(len(inputs)))))(*inputs)
    return sum(jnp.sum(jnp.square(g.reshape(g.shape[0], -1)), axis=-1) for g in gradients)


def mean_squared_gradient_norm(
    critic: Callable[[jax.Array], jax.Array], inputs: jax.Array
) -> jax.Array:
    """The batch mean of `squared_gradient_norms` for one input, by one gradient of the whole batch.

    Several times faster for convolutions, which are slow under `vmap`.

    Args:
        critic: inputs `[B, ...]` -> logits `[B]`; a logit may depend on its own example only.
        inputs: `[B, ...]` float.
    Returns:
        scalar, >= 0.
    Raises:
        TypeError: not float.
        ValueError: the number of logits is not B.
    """
    function = "mean_squared_gradient_norm"
    (inputs,) = _check.floats(function, inputs=inputs)
    _check.axes(function, 1, inputs=inputs)

    def total(inputs):
        logits = critic(inputs)
        size = inputs.shape[:1]
        _check.shape(function, "the critic's logits", logits.reshape(-1), size, inputs=inputs)
        return jnp.sum(logits)

    return jnp.sum(jnp.square(jax.grad(total)(inputs))) / inputs.shape[0]


def r1_penalty(critic: Callable[..., jax.Array], *real: jax.Array) -> jax.Array:
    """|grad T|^2 / 2 at real data, `[B]`; gamma times its mean joins the discriminator's loss.

    Args, Raises: as `squared_gradient_norms`.
    """
    return 0.5 * _squared_norms("r1_penalty", critic, "real", real)


def gradient_penalty(
    critic: Callable[..., jax.Array], real: jax.Array, fake: jax.Array, alpha: jax.Array
) -> jax.Array:
    """(|grad T| - 1)^2 at `alpha * real + (1 - alpha) * fake`, per example.

    Lambda times its mean joins the critic's loss.

    Args:
        critic: as in `squared_gradient_norms`, of one input.
        real, fake: `[B, ...]` float.
        alpha: `[B]` float in [0, 1], weight of `real`, one uniform random number per example.
    Returns:
        `[B]` float, >= 0; NaN where `alpha` is outside [0, 1].
    Raises:
        TypeError: not float.
        ValueError: shapes differ.
    """
    function = "gradient_penalty"
    (alpha,) = _check.floats(function, alpha=alpha)
    real, fake = _check.same_shape(function, real=real, fake=fake)
    _check.axes(function, 1, real=real)
    _check.shape(function, "alpha", alpha, real.shape[:1], real=real)
    weight = alpha.reshape(-1, *[1] * (real.ndim - 1))
    squares = _squared_norms(function, critic, "inputs", [weight * real + (1 - weight) * fake])
    # sqrt has no finite gradient at 0; a critic that is constant somewhere must not give NaN.
    flat = squares == 0
    norms = jnp.where(flat, 0.0, jnp.sqrt(jnp.where(flat, 1.0, squares)))
    return _check.nan_unless((alpha >= 0) & (alpha <= 1), jnp.square(norms - 1))
