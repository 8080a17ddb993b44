"""What players of a min-max game pay: per example, from logits.

A discriminator's logit T is positive where it believes in real data (or in the prior, where codes
are judged). Each function is one player's cost, to be minimised by that player alone; no function
flips a sign or stops a gradient for somebody else.

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
        name: `non_saturating` (the generator pays -log D), `saturating` (it pays log(1 - D), the
            minimax form), both in nats with the discriminator's cross-entropy; `least_squares`
            (targets 1 and 0, half the squared distance); `wasserstein` (the logits themselves; the
            critic needs a penalty besides).
    Raises:
        ValueError: another name.
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


def feature_matching(real: jax.Array, made: jax.Array, power: int = 2) -> jax.Array:
    """Distance of the batch means of features: sum |mean real - mean made|^power.

    Args:
        real: `[B, F]` float, features of data. A gradient passes: a generator never enters them,
            but in ALI the encoder does, whose code stands beside the data.
        made: `[B', F]` float, features of what the generator made.
        power: 2 (the paper's), or 1 (openai/improved-gan's scripts).
    Returns:
        scalar: it is a distance of means, not a mean of distances.
    Raises:
        TypeError: not float.
        ValueError: shapes do not match, or another power.
    """
    real, made = _check.floats("feature_matching", real=real, made=made)
    _check.shape("feature_matching", "real", real, ("B", "F"))
    _check.shape("feature_matching", "made", made, ("B'", real.shape[1]), real=real)
    if power not in (1, 2):
        raise ValueError(f"feature_matching: power must be 1 or 2, is {power}")
    apart = jnp.mean(real, axis=0) - jnp.mean(made, axis=0)
    return jnp.sum(jnp.abs(apart)) if power == 1 else jnp.sum(jnp.square(apart))


def squared_gradient_norms(critic: Callable[..., jax.Array], *inputs: jax.Array) -> jax.Array:
    """|grad T|^2 for each example, over all entries of all inputs together.

    Args:
        critic: `*inputs` of one example each as a batch of one -> logit `[1]`. It must judge each
            example by itself (no batch statistics).
        inputs: `[B, ...]` float each.
    Returns:
        `[B]` float, >= 0.
    Raises:
        TypeError: not float.
        ValueError: no input, inputs of different B, or a critic that gives more than a logit.
    """
    return _squared_slopes("squared_gradient_norms", critic, "inputs", inputs)


def _squared_slopes(
    function: str, critic: Callable[..., jax.Array], name: str, inputs: Sequence[jax.Array]
) -> jax.Array:
    if not inputs:
        raise ValueError(f"{function}: {name} must be at least one array")
    inputs = _check.floats(function, **{f"{name}[{i}]": x for i, x in enumerate(inputs)})
    for i, x in enumerate(inputs):
        _check.axes(function, 1, **{f"{name}[{i}]": x})
        first = {f"{name}[0]": inputs[0]}
        _check.shape(function, f"{name}[{i}]", x, (len(inputs[0]), *x.shape[1:]), **first)

    def one(*each):
        logit = critic(*(x[None] for x in each))
        if logit.size != 1:
            raise ValueError(
                f"{function}: the critic must give one logit for each example, gave an array of "
                f"shape {list(logit.shape)} for one"
            )
        return logit.reshape(())

    slopes = jax.vmap(jax.grad(one, argnums=tuple(range(len(inputs)))))(*inputs)
    return sum(jnp.sum(jnp.square(s.reshape(s.shape[0], -1)), axis=-1) for s in slopes)


def mean_squared_gradient_norm(judge: Callable[[jax.Array], jax.Array], at: jax.Array) -> jax.Array:
    """The mean of `squared_gradient_norms` of one input, by one gradient of the whole batch.

    Several times as fast for convolutions, which are slow under `vmap`.

    Args:
        judge: `[B, ...]` -> logits `[B]`, each example by itself.
        at: `[B, ...]` float.
    Returns:
        a scalar, >= 0.
    Raises:
        TypeError: not float.
        ValueError: a judge that gives another number of logits than B.
    """
    (at,) = _check.floats("mean_squared_gradient_norm", at=at)
    _check.axes("mean_squared_gradient_norm", 1, at=at)

    def total(at):
        logits = judge(at)
        _check.shape(
            "mean_squared_gradient_norm",
            "what judge gives",
            logits.reshape(-1),
            at.shape[:1],
            at=at,
        )
        return jnp.sum(logits)

    return jnp.sum(jnp.square(jax.grad(total)(at))) / at.shape[0]


def r1_penalty(critic: Callable[..., jax.Array], *real: jax.Array) -> jax.Array:
    """|grad T|^2 / 2 at real data, `[B]`; the discriminator pays gamma times its mean.

    Args, Raises: as `squared_gradient_norms`.
    """
    return 0.5 * _squared_slopes("r1_penalty", critic, "real", real)


def gradient_penalty(
    critic: Callable[..., jax.Array], real: jax.Array, made: jax.Array, share: jax.Array
) -> jax.Array:
    """(|grad T| - 1)^2 between real and made examples, `[B]`; the critic pays lambda * mean.

    Args:
        critic: as in `squared_gradient_norms`, of one input.
        real, made: `[B, ...]` float.
        share: `[B]` float in [0, 1], how far from `made` towards `real` each point lies.
    Returns:
        `[B]` float, >= 0; NaN where `share` is outside.
    Raises:
        TypeError: not float.
        ValueError: shapes differ.
    """
    function = "gradient_penalty"
    (share,) = _check.floats(function, share=share)
    real, made = _check.same_shape(function, real=real, made=made)
    _check.axes(function, 1, real=real)
    _check.shape(function, "share", share, real.shape[:1], real=real)
    toward = share.reshape(-1, *[1] * (real.ndim - 1))
    squares = _squared_slopes(function, critic, "between", [toward * real + (1 - toward) * made])
    # sqrt has no gradient at zero; a critic that is flat somewhere must not give NaN.
    flat = squares == 0
    length = jnp.where(flat, 0.0, jnp.sqrt(jnp.where(flat, 1.0, squares)))
    return _check.nan_unless((share >= 0) & (share <= 1), jnp.square(length - 1))
