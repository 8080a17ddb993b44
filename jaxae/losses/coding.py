"""What an associative code costs: KL from a unit Gaussian around a code to a mixture prior.

The posterior is q(z|x) = N(code, I). The prior is an independent mixture of M Gaussians for every
one of the d dimensions, so the divergence has no closed form but is a sum of d one-dimensional
integrals. Throughout: `code`, `z` `[..., d]`; `logits`, `means`, `log_scales` `[..., d, M]`.
Source: Graves, Menick & van den Oord 2018, arXiv:1804.02476.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxae.losses import _check
from jaxae.losses._numerics import in_scales
from jaxae.losses.divergence import (
    gaussian_log_prob,
    kl_diagonal_gaussians,
    kl_diagonal_gaussians_per_dimension,
)


def mixture_log_prob(
    z: jax.Array, logits: jax.Array, means: jax.Array, log_scales: jax.Array
) -> jax.Array:
    """log p(z) under an independent mixture of Gaussians for every dimension.

    Args:
        z: `[..., d]` float.
        logits, means, log_scales: `[..., d, M]` float; the logits need no normalisation.
    Returns:
        `[...]` nats, summed over d.
    Raises:
        TypeError: not float.
        ValueError: shapes do not belong together (no silent broadcasting).
    """
    z, *mixture = _checked("mixture_log_prob", "z", z, logits, means, log_scales)
    return jnp.sum(_log_density(z, *mixture), axis=-1)


def kl_unit_gaussian_to_mixture(
    code: jax.Array, logits: jax.Array, means: jax.Array, log_scales: jax.Array, nodes: int = 16
) -> jax.Array:
    """KL(N(code, I) || mixture) by Gauss-Hermite quadrature: no noise, also in the gradient.

    Exact for M = 1. Otherwise the error grows as components become narrower than the posterior:
    for M = 3 random ones with log-scales of spread 0.15 around 0, 16 nodes err by 3e-5 nats per
    dimension on average and 32 by 2e-6; with spread 0.5 by 1e-3 and 2e-4; with spread 1 by 2e-2
    and 7e-3, of either sign. Report costs with more nodes than training used.

    Args:
        code: `[..., d]` float.
        logits, means, log_scales: `[..., d, M]` float.
        nodes: quadrature nodes per dimension, at least 2; the memory grows with them.
    Returns:
        `[...]` nats, summed over d.
    Raises:
        TypeError: not float.
        ValueError: shapes do not belong together (no silent broadcasting).
    """
    function = "kl_unit_gaussian_to_mixture"
    nodes = _check.whole(function, "nodes", nodes, 2)
    code, *mixture = _checked(function, "code", code, logits, means, log_scales)
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    points = jnp.asarray(points, code.dtype)
    weights = jnp.asarray(weights / weights.sum(), code.dtype)

    def weighted(point, weight):
        log_q = -0.5 * (jnp.square(point) + math.log(2 * math.pi))
        return weight * (log_q - _log_density(code + point, *mixture))

    return jnp.sum(jax.vmap(weighted)(points, weights), axis=(0, -1))


def kl_unit_gaussian_to_mixture_sampled(
    code: jax.Array, z: jax.Array, logits: jax.Array, means: jax.Array, log_scales: jax.Array
) -> jax.Array:
    """KL(N(code, I) || mixture) from one sample `z` of the posterior: unbiased, noisy.

    Args:
        code, z: `[..., d]` float, `z` = `code` plus standard normal noise.
        logits, means, log_scales: `[..., d, M]` float.
    Returns:
        `[...]` nats, summed over d; negative at times.
    Raises:
        TypeError: not float.
        ValueError: shapes do not belong together (no silent broadcasting).
    """
    function = "kl_unit_gaussian_to_mixture_sampled"
    code, z = _check.same_shape(function, code=code, z=z)
    z, *mixture = _checked(function, "z", z, logits, means, log_scales)
    log_p = jnp.sum(_log_density(z, *mixture), axis=-1)
    return gaussian_log_prob(z, code, jnp.zeros_like(code)) - log_p


def kl_unit_gaussian_to_gaussian(
    code: jax.Array, mean: jax.Array, log_scale: jax.Array
) -> jax.Array:
    """KL(N(code, I) || N(mean, diag exp(log_scale)^2)) in closed form.

    Args:
        code, mean, log_scale: `[..., d]` float, all of one shape.
    Returns:
        `[...]` nats, summed over d; >= 0.
    Raises:
        TypeError: not float.
        ValueError: shapes differ (no silent broadcasting).
    """
    code, mean, log_scale = _check.same_shape(
        "kl_unit_gaussian_to_gaussian", code=code, mean=mean, log_scale=log_scale
    )
    return kl_diagonal_gaussians(code, jnp.zeros_like(code), mean, 2 * log_scale)


def kl_mixture_upper_bound(
    code: jax.Array, logits: jax.Array, means: jax.Array, log_scales: jax.Array
) -> jax.Array:
    """-log sum_m pi_m exp(-KL(q || component m)) per dimension: never below the true KL.

    Tight for M = 1 only, and too loose to report otherwise.

    Args:
        code: `[..., d]` float.
        logits, means, log_scales: `[..., d, M]` float.
    Returns:
        `[...]` nats, summed over d; >= 0.
    Raises:
        TypeError: not float.
        ValueError: shapes do not belong together (no silent broadcasting).
    Source: Jensen's inequality, with the weights of the components that make it tightest.
    """
    code, logits, means, log_scales = _checked(
        "kl_mixture_upper_bound", "code", code, logits, means, log_scales
    )
    repeated = jnp.broadcast_to(code[..., None], means.shape)
    distance = jnp.logaddexp(0.0, 2 * _log_abs(repeated - means))
    repeated, means, log_scales, far = _without_far(repeated, means, log_scales, distance)
    to_component = kl_diagonal_gaussians_per_dimension(
        repeated, jnp.zeros_like(repeated), means, 2 * log_scales
    )
    log_terms = jnp.where(far, -jnp.inf, jax.nn.log_softmax(logits) - to_component)
    return -jnp.sum(jax.nn.logsumexp(log_terms, axis=-1), axis=-1)


def order_credit(n: int) -> float:
    """ln(n!) / n: nats per item that a code of a set saves by choosing the items' order.

    To be added to an ordered cost before it is compared with one that keeps a given order.

    Raises:
        ValueError: no item.
    """
    if n < 1:
        raise ValueError(f"order_credit: n must be at least one item, is {n}")
    return math.lgamma(n + 1) / n


def _log_density(
    z: jax.Array, logits: jax.Array, means: jax.Array, log_scales: jax.Array
) -> jax.Array:
    """`mixture_log_prob` before the sum: `[..., d]` nats."""
    z = jnp.broadcast_to(z[..., None], means.shape)
    z, means, log_scales, far = _without_far(z, means, log_scales, 2 * _log_abs(z - means))
    squares = jnp.square(in_scales(z - means, log_scales))
    log_terms = jax.nn.log_softmax(logits) - log_scales - 0.5 * squares
    log_terms = jnp.where(far, -jnp.inf, log_terms)
    return jax.nn.logsumexp(log_terms, axis=-1) - 0.5 * math.log(2 * math.pi)


def _without_far(
    z: jax.Array, means: jax.Array, log_scales: jax.Array, log_squares: jax.Array
) -> list[jax.Array]:
    """The components as they are, and harmless ones in place of those that are out of reach.

    A component so narrow and so far that its squared distance in scales is no number has no
    density, and no part in the gradient; as it is, it would have a NaN in it.

    Args:
        log_squares: logarithms of the squared distances, in units of z.
    Returns:
        z, means, log-scales, and which were replaced.
    """
    largest = math.log(float(jnp.finfo(log_scales.dtype).max)) - 1
    far = jax.lax.stop_gradient(log_squares - 2 * log_scales) > largest
    return [*(jnp.where(far, 0.0, part) for part in (z, means, log_scales)), far]


def _log_abs(difference: jax.Array) -> jax.Array:
    return jnp.log(jnp.abs(jax.lax.stop_gradient(difference)))


def _checked(
    function: str,
    name: str,
    z: jax.Array,
    logits: jax.Array,
    means: jax.Array,
    log_scales: jax.Array,
) -> list[jax.Array]:
    """z, called `name`, and the mixture as floats whose shapes belong together."""
    (z,) = _check.floats(function, **{name: z})
    mixture = _check.same_shape(function, logits=logits, means=means, log_scales=log_scales)
    _check.axes(function, 1, **{name: z})
    _check.shape(function, "logits", mixture[0], (*z.shape, "M"), **{name: z})
    return [z, *mixture]
