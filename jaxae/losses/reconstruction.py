"""Negative log-likelihood of an image given a decoder's outputs, in nats per example.

By default the last three axes (H, W, C) are summed; `event_ndim=1` gives one number per vector or
per pixel. Constants of the densities are kept, so that the numbers are likelihoods.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxae.losses import _check
from jaxae.losses._numerics import divide_by_scale, multiply

LOG_SCALE_BOUNDS = (-7.0, 7.0)
"""Range to which `logistic_mixture_*` clip log-scales; outside it they get no gradient."""


def bernoulli_nll(logits: jax.Array, targets: jax.Array, event_ndim: int = 3) -> jax.Array:
    """-log Bernoulli(targets; sigmoid(logits)).

    A likelihood only for targets in {0, 1}. For grey levels in [0, 1] it is the usual
    cross-entropy, whose minimum is above zero; it is not comparable with likelihoods.

    Args:
        logits: `[...]` float.
        targets: `[...]` float in [0, 1], of the same shape.
        event_ndim: number of last axes summed.
    Returns:
        nats, without the last `event_ndim` axes; >= 0; NaN for other targets.
    Raises:
        TypeError: not float.
        ValueError: shapes differ (no silent broadcasting), or too few axes.
    """
    function = "bernoulli_nll"
    logits, targets = _check.same_shape(function, logits=logits, targets=targets)
    _check_event(function, event_ndim, targets)
    nll = multiply(targets, jax.nn.softplus(-logits)) + multiply(
        1 - targets, jax.nn.softplus(logits)
    )
    return _sum_event(_check.nan_unless((targets >= 0) & (targets <= 1), nll), event_ndim)


def gaussian_nll(
    x: jax.Array, mean: jax.Array, log_scale: float | jax.Array, event_ndim: int = 3
) -> jax.Array:
    """-log N(x; mean, exp(log_scale)^2), with the constant.

    Unbounded below if `log_scale` is learned and a pixel is constant: bound `log_scale` first.

    Args:
        x, mean: `[...]` float, of one shape.
        log_scale: logarithm of the standard deviation, a scalar or the shape of `x`.
        event_ndim: number of last axes summed.
    Returns:
        nats, without the last `event_ndim` axes.
    Raises:
        TypeError: not float.
        ValueError: shapes differ (no silent broadcasting), or too few axes.
    """
    function = "gaussian_nll"
    x, mean = _check.same_shape(function, x=x, mean=mean)
    (log_scale,) = _check.floats(function, log_scale=log_scale)
    if log_scale.ndim:
        _check.shape(function, "log_scale", log_scale, x.shape, x=x)
    _check_event(function, event_ndim, x)
    squares = 0.5 * jnp.square(divide_by_scale(x - mean, log_scale))
    return _sum_event(squares + log_scale + 0.5 * math.log(2 * math.pi), event_ndim)


def half_squared_error(x: jax.Array, mean: jax.Array, event_ndim: int = 3) -> jax.Array:
    """|x - mean|^2 / 2: `gaussian_nll` at unit scale, without its constant.

    Args:
        x, mean: `[...]` float, of one shape.
        event_ndim: number of last axes summed.
    Returns:
        squared units of `x`, without the last `event_ndim` axes; >= 0.
    Raises:
        TypeError: not float.
        ValueError: shapes differ (no silent broadcasting), or too few axes.
    """
    x, mean = _check.same_shape("half_squared_error", x=x, mean=mean)
    _check_event("half_squared_error", event_ndim, x)
    return _sum_event(0.5 * jnp.square(x - mean), event_ndim)


def categorical_nll(logits: jax.Array, x: jax.Array, event_ndim: int = 3) -> jax.Array:
    """-log softmax(logits) at the level of x, independently for each value of x.

    Args:
        logits: `[..., L]` float, one per level.
        x: `[...]` float in {0, 1/(L-1), ..., 1}; other values in [0, 1] are rounded to the
            nearest of these, so no gradient flows to x.
        event_ndim: number of last axes of x summed.
    Returns:
        nats, without the last `event_ndim` axes of x; >= 0; NaN for x outside [0, 1].
    Raises:
        TypeError: not float.
        ValueError: leading axes differ (no silent broadcasting), fewer than two levels, or too few
            axes.
    Source: the pixel distribution of van den Oord et al. 2016, arXiv:1601.06759.
    """
    function = "categorical_nll"
    logits, x = _check.floats(function, logits=logits, x=x)
    _check.shape(function, "logits", logits, (*x.shape, "L"), x=x)
    _check_event(function, event_ndim, x)
    levels = _check.integer(function, "the last axis of logits", logits.shape[-1], 2)
    index, valid = _level(x, levels)
    nll = optax.softmax_cross_entropy_with_integer_labels(logits, index.astype(jnp.int32))
    return _sum_event(_check.nan_unless(valid, nll), event_ndim)


def logistic_mixture_width(channels: int, mixtures: int) -> int:
    """Number of outputs per pixel of a logistic mixture: K (1 + 2C + C(C-1)/2)."""
    return mixtures * (1 + 2 * channels + channels * (channels - 1) // 2)


def logistic_mixture_nll(
    params: jax.Array, x: jax.Array, levels: int, event_ndim: int = 3
) -> jax.Array:
    """-log of the mass that a mixture of logistics puts on the bins of `x`.

    The bin of a grid value is the interval nearer to it than to its neighbours; the first and the
    last bin extend to -inf and +inf, so the masses of a pixel sum to 1 for any parameters. A
    component is a product over channels; the centre of each channel is linear in the values of the
    channels before it. With u and l the ends of a bin in units of the scale,

        sigmoid(u) - sigmoid(l) = sigmoid(u) sigmoid(-l) (1 - exp(l - u)),

    whose logarithm needs no approximation in the tails.

    Args:
        params: `[..., H, W, K (1 + 2C + C(C-1)/2)]` float: K logits, then C blocks of K centres (in
            [-1, 1] terms), C of log-scales (clipped to `LOG_SCALE_BOUNDS`), C(C-1)/2 of couplings
            (through tanh) in the order (1,0), (2,0), (2,1), ...
        x: `[..., H, W, C]` float in {0, 1/(levels-1), ..., 1}; other values in [0, 1] are rounded
            to the nearest of these, so no gradient flows to x.
        levels: number of values on the grid, at least 2.
        event_ndim: number of last axes summed, including the channels (at least 1).
    Returns:
        nats, without the last `event_ndim` axes; >= 0 up to rounding; NaN for x outside [0, 1].
    Raises:
        TypeError: not float.
        ValueError: leading axes differ, a last axis that does not divide, fewer than two levels,
            or too few axes.
    Source: Salimans et al. 2017, arXiv:1701.05517, section 2; the edge bins as derived here.
    """
    function = "logistic_mixture_nll"
    params, x = _check.floats(function, params=params, x=x)
    levels = _check.integer(function, "levels", levels, 2)
    _check_event(function, event_ndim, x, minimum=1)
    width = "K (1 + 2C + C(C-1)/2)"
    _check.shape(function, "params", params, (*x.shape[:-1], width), x=x)
    mixture = _split(function, params, x.shape[-1])
    index, valid = (part[..., None] for part in _level(x, levels))
    values = (2 * index - (levels - 1)) / (levels - 1)
    centres = jnp.stack(
        [_centre(mixture, c, values[..., :c, :]) for c in range(x.shape[-1])], axis=-2
    )
    # The upper end of a bin and the lower end of the next are bitwise equal.
    upper = ((2 * index + 2 - levels) / (levels - 1) - centres) * jnp.exp(-mixture.log_scales)
    lower = ((2 * index - levels) / (levels - 1) - centres) * jnp.exp(-mixture.log_scales)
    width = 2 / (levels - 1) * jnp.exp(-mixture.log_scales)
    log_mass = (
        jnp.where(index < levels - 1, jax.nn.log_sigmoid(upper), 0.0)
        + jnp.where(index > 0, jax.nn.log_sigmoid(-lower), 0.0)
        + jnp.where((index > 0) & (index < levels - 1), jnp.log(-jnp.expm1(-width)), 0.0)
    )
    log_mass = _check.nan_unless(valid, log_mass)
    per_component = jax.nn.log_softmax(mixture.logits) + jnp.sum(log_mass, axis=-2)
    return _sum_event(-jax.nn.logsumexp(per_component, axis=-1), event_ndim - 1)


def logistic_mixture_mean(params: jax.Array, channels: int) -> jax.Array:
    """The mean of the components' centres, each clipped to the data's range, by their weights.

    Args:
        params: `[..., K (1 + 2C + C(C-1)/2)]` float, as `logistic_mixture_nll` has them.
        channels: C.
    Returns:
        `[..., C]` in [0, 1], not on the grid.
    Raises:
        TypeError: not float.
        ValueError: a last axis that does not divide.
    """
    (params,) = _check.floats("logistic_mixture_mean", params=params)
    mixture = _split("logistic_mixture_mean", params, channels)
    values = mixture.centres[..., :0, :]
    for c in range(channels):
        centre = jnp.clip(_centre(mixture, c, values), -1.0, 1.0)
        values = jnp.concatenate([values, centre[..., None, :]], axis=-2)
    weights = jax.nn.softmax(mixture.logits)[..., None, :]
    return 0.5 * (jnp.sum(weights * values, axis=-1) + 1.0)


def logistic_mixture_sample(
    params: jax.Array, rng: jax.Array, channels: int, levels: int
) -> jax.Array:
    """An exact sample of the distribution of `logistic_mixture_nll`.

    Args:
        params: `[..., K (1 + 2C + C(C-1)/2)]` float, as `logistic_mixture_nll` has them.
        rng: key.
        channels: C, sampled one after the other.
        levels: number of values on the grid, at least 2.
    Returns:
        `[..., C]` in {0, 1/(levels-1), ..., 1}.
    Raises:
        TypeError: not float.
        ValueError: a last axis that does not divide, or fewer than two levels.
    """
    (params,) = _check.floats("logistic_mixture_sample", params=params)
    levels = _check.integer("logistic_mixture_sample", "levels", levels, 2)
    mixture = _split("logistic_mixture_sample", params, channels)
    choice_rng, noise_rng = jax.random.split(rng)
    choice = jax.random.categorical(choice_rng, mixture.logits)[..., None, None]
    component = Mixture(
        mixture.logits,
        *(jnp.take_along_axis(part, choice, axis=-1) for part in mixture[1:]),
    )
    noise = jax.random.logistic(noise_rng, component.centres.shape, params.dtype)
    noise = noise * jnp.exp(component.log_scales)
    index = component.centres[..., :0, :]
    for c in range(channels):
        value = _centre(component, c, 2 * index / (levels - 1) - 1) + noise[..., c, :]
        nearest = jnp.round((value + 1) * ((levels - 1) / 2))
        nearest = jnp.clip(nearest, 0, levels - 1)[..., None, :]
        index = jnp.concatenate([index, nearest], axis=-2)
    return index[..., 0] / (levels - 1)


class Mixture(NamedTuple):
    """The parameters of a logistic mixture, by part."""

    logits: jax.Array  # [..., K]
    centres: jax.Array  # [..., C, K]
    log_scales: jax.Array  # [..., C, K], clipped
    couplings: jax.Array  # [..., C(C-1)/2, K], in (-1, 1)


def _split(function: str, params: jax.Array, channels: int) -> Mixture:
    _check.axes(function, 1, params=params)
    channels = _check.integer(function, "the number of channels", channels, 1)
    per_component = logistic_mixture_width(channels, 1)
    if params.shape[-1] % per_component or not params.shape[-1]:
        raise ValueError(
            f"{function}: params must have a multiple of {per_component} numbers in the last axis "
            f"for {channels} channels, has shape {list(params.shape)}"
        )
    blocks = params.reshape(*params.shape[:-1], per_component, -1)
    return Mixture(
        logits=blocks[..., 0, :],
        centres=blocks[..., 1 : 1 + channels, :],
        log_scales=jnp.clip(blocks[..., 1 + channels : 1 + 2 * channels, :], *LOG_SCALE_BOUNDS),
        couplings=jnp.tanh(blocks[..., 1 + 2 * channels :, :]),
    )


def _centre(mixture: Mixture, channel: int, earlier: jax.Array) -> jax.Array:
    """Centre of one channel `[..., K]`, given `[..., channel, K or 1]`, the channels before it."""
    first = channel * (channel - 1) // 2
    couplings = mixture.couplings[..., first : first + channel, :]
    return mixture.centres[..., channel, :] + jnp.sum(couplings * earlier, axis=-2)


def _level(x: jax.Array, levels: int) -> tuple[jax.Array, jax.Array]:
    """The level of each value, 0 to levels - 1, and whether the value is valid (in [0, 1])."""
    valid = (x >= 0) & (x <= 1)
    return jnp.round(jnp.where(valid, x, 0.0) * (levels - 1)), valid


def _check_event(function: str, event_ndim: int, x: jax.Array, minimum: int = 0) -> None:
    _check.integer(function, f"event_ndim for x of {x.ndim} axes", event_ndim, minimum, x.ndim)


def _sum_event(values: jax.Array, event_ndim: int) -> jax.Array:
    return jnp.sum(values, axis=tuple(range(-event_ndim, 0)))
