"""What it costs to describe an image given a decoder's outputs, in nats per example.

Images sum over their last three axes, H, W and C, by default; `event_ndim=1` gives one number
per vector or per pixel. Constants of the densities are kept, so that the numbers are likelihoods.
"""

import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

LOG_SCALE_BOUNDS = (-7.0, 7.0)
"""Where `logistic_mixture_*` clip their log-scales; beyond, a log-scale gets no gradient."""


def bernoulli_nll(logits: jax.Array, targets: jax.Array, event_ndim: int = 3) -> jax.Array:
    """-log Bernoulli(targets; sigmoid(logits)).

    A likelihood for targets in {0, 1} only. On grey levels in [0, 1] it is the usual
    cross-entropy, which has a floor above zero and compares with no likelihood.

    Args:
        logits: `[...]` float.
        targets: `[...]` float in [0, 1], of the same shape.
        event_ndim: number of last axes summed.
    Returns:
        nats, without the last `event_ndim` axes; >= 0.
    Raises:
        AssertionError: shapes differ (no silent broadcasting), not float, or too few axes.
    """
    _check(event_ndim, logits, targets)
    return _sum_event(optax.sigmoid_binary_cross_entropy(logits, targets), event_ndim)


def gaussian_nll(
    x: jax.Array, mean: jax.Array, log_scale: float | jax.Array, event_ndim: int = 3
) -> jax.Array:
    """-log N(x; mean, exp(log_scale)^2), the constant kept.

    Unbounded below where `log_scale` is learned and a pixel is constant: bound it before.

    Args:
        x, mean: `[...]` float, of one shape.
        log_scale: logarithm of the standard deviation, a scalar or the shape of `x`.
        event_ndim: number of last axes summed.
    Returns:
        nats, without the last `event_ndim` axes.
    Raises:
        AssertionError: shapes differ (no silent broadcasting), not float, or too few axes.
    """
    _check(event_ndim, x, mean)
    chex.assert_type(log_scale, float)
    if jnp.ndim(log_scale):
        chex.assert_equal_shape([x, log_scale])
    squares = 0.5 * jnp.square((x - mean) * jnp.exp(-log_scale))
    return _sum_event(squares + log_scale + 0.5 * math.log(2 * math.pi), event_ndim)


def half_squared_error(x: jax.Array, mean: jax.Array, event_ndim: int = 3) -> jax.Array:
    """|x - mean|^2 / 2: `gaussian_nll` at unit scale, its constant dropped.

    Args:
        x, mean: `[...]` float, of one shape.
        event_ndim: number of last axes summed.
    Returns:
        squared units of `x`, without the last `event_ndim` axes; >= 0.
    Raises:
        AssertionError: shapes differ (no silent broadcasting), not float, or too few axes.
    """
    _check(event_ndim, x, mean)
    return _sum_event(0.5 * jnp.square(x - mean), event_ndim)


def categorical_nll(logits: jax.Array, x: jax.Array, event_ndim: int = 3) -> jax.Array:
    """-log softmax(logits) at the level of x, each value of x by itself.

    Args:
        logits: `[..., L]` float, one for each level.
        x: `[...]` float in {0, 1/(L-1), ..., 1}; read as the nearest of these, so there is no
            gradient with respect to it.
        event_ndim: number of last axes of x summed.
    Returns:
        nats, without the last `event_ndim` axes of x; >= 0.
    Raises:
        AssertionError: leading axes differ (no silent broadcasting), not float, fewer than two
            levels, or too few axes.
    Source: the pixel distribution of van den Oord et al. 2016, arXiv:1601.06759.
    """
    chex.assert_shape(logits, (*jnp.shape(x), None))
    chex.assert_type([logits, x], float)
    levels = logits.shape[-1]
    chex.assert_scalar_in(levels, 2, math.inf)
    chex.assert_scalar_in(event_ndim, 0, jnp.ndim(x))
    index = jnp.round(x * (levels - 1)).astype(jnp.int32)
    nll = optax.softmax_cross_entropy_with_integer_labels(logits, index)
    return _sum_event(nll, event_ndim)


def logistic_mixture_width(channels: int, mixtures: int) -> int:
    """Outputs per pixel that the logistic mixture needs: K (1 + 2C + C(C-1)/2)."""
    return mixtures * (1 + 2 * channels + channels * (channels - 1) // 2)


def logistic_mixture_nll(
    params: jax.Array, x: jax.Array, levels: int, event_ndim: int = 3
) -> jax.Array:
    """-log of the mass that a mixture of logistics puts on the bins of `x`.

    Every value of the grid owns the interval nearer to it than to its neighbours, the lowest and
    the highest one all that lies beyond, so the masses of a pixel sum to 1 for any parameters. A
    component is a product over channels; the centre of each channel moves linearly with the values
    of those before it. With u and l the ends of a bin in units of the scale,

        sigmoid(u) - sigmoid(l) = sigmoid(u) sigmoid(-l) (1 - exp(l - u)),

    whose logarithm needs no approximation in the tails.

    Args:
        params: `[..., H, W, K (1 + 2C + C(C-1)/2)]` float: K logits, then C blocks of K centres (in
            [-1, 1] terms), C of log-scales (clipped to `LOG_SCALE_BOUNDS`), C(C-1)/2 of couplings
            (through tanh) in the order (1,0), (2,0), (2,1), ...
        x: `[..., H, W, C]` float in {0, 1/(levels-1), ..., 1}; read as the nearest of these, so
            there is no gradient with respect to it.
        levels: number of values on the grid, at least 2.
        event_ndim: number of last axes summed, among them the channels.
    Returns:
        nats, without the last `event_ndim` axes; >= 0 up to rounding.
    Raises:
        AssertionError: leading axes differ, a last axis that does not divide, not float, or
            too few axes.
    Source: Salimans et al. 2017, arXiv:1701.05517, section 2; the edges as derived here.
    """
    chex.assert_scalar_in(event_ndim, 1, jnp.ndim(x))
    chex.assert_scalar_in(levels, 2, math.inf)
    chex.assert_equal_shape_prefix([params, x], jnp.ndim(x) - 1)
    chex.assert_equal_rank([params, x])
    chex.assert_type([params, x], float)
    mixture = _split(params, x.shape[-1])
    index = jnp.round(x * (levels - 1))[..., None]
    values = (2 * index - (levels - 1)) / (levels - 1)
    centres = jnp.stack(
        [_centre(mixture, c, values[..., :c, :]) for c in range(x.shape[-1])], axis=-2
    )
    # One bin's upper end and the next one's lower end are the same number, to the last bit.
    upper = ((2 * index + 2 - levels) / (levels - 1) - centres) * jnp.exp(-mixture.log_scales)
    lower = ((2 * index - levels) / (levels - 1) - centres) * jnp.exp(-mixture.log_scales)
    width = 2 / (levels - 1) * jnp.exp(-mixture.log_scales)
    log_mass = (
        jnp.where(index < levels - 1, jax.nn.log_sigmoid(upper), 0.0)
        + jnp.where(index > 0, jax.nn.log_sigmoid(-lower), 0.0)
        + jnp.where((index > 0) & (index < levels - 1), jnp.log(-jnp.expm1(-width)), 0.0)
    )
    per_component = jax.nn.log_softmax(mixture.logits) + jnp.sum(log_mass, axis=-2)
    return _sum_event(-jax.nn.logsumexp(per_component, axis=-1), event_ndim - 1)


def logistic_mixture_mean(params: jax.Array, channels: int) -> jax.Array:
    """The components' centres, each kept within the data's range, averaged by their weights.

    Args:
        params: `[..., K (1 + 2C + C(C-1)/2)]` float, as `logistic_mixture_nll` has them.
        channels: C.
    Returns:
        `[..., C]` in [0, 1], not on the grid.
    Raises:
        AssertionError: a last axis that does not divide, or not float.
    """
    chex.assert_type(params, float)
    mixture = _split(params, channels)
    values = mixture.centres[..., :0, :]
    for c in range(channels):
        centre = jnp.clip(_centre(mixture, c, values), -1.0, 1.0)
        values = jnp.concatenate([values, centre[..., None, :]], axis=-2)
    weights = jax.nn.softmax(mixture.logits)[..., None, :]
    return 0.5 * (jnp.sum(weights * values, axis=-1) + 1.0)


def logistic_mixture_sample(
    params: jax.Array, rng: jax.Array, channels: int, levels: int
) -> jax.Array:
    """An exact sample of the distribution that `logistic_mixture_nll` charges for.

    Args:
        params: `[..., K (1 + 2C + C(C-1)/2)]` float, as `logistic_mixture_nll` has them.
        rng: key.
        channels: C, drawn one after the other.
        levels: number of values on the grid, at least 2.
    Returns:
        `[..., C]` in {0, 1/(levels-1), ..., 1}.
    Raises:
        AssertionError: a last axis that does not divide, or not float.
    """
    chex.assert_type(params, float)
    chex.assert_scalar_in(levels, 2, math.inf)
    mixture = _split(params, channels)
    choice_rng, noise_rng = jax.random.split(rng)
    choice = jax.random.categorical(choice_rng, mixture.logits)[..., None, None]
    picked = Mixture(
        mixture.logits,
        *(jnp.take_along_axis(part, choice, axis=-1) for part in mixture[1:]),
    )
    noise = jax.random.logistic(noise_rng, picked.centres.shape, params.dtype)
    noise = noise * jnp.exp(picked.log_scales)
    index = picked.centres[..., :0, :]
    for c in range(channels):
        value = _centre(picked, c, 2 * index / (levels - 1) - 1) + noise[..., c, :]
        nearest = jnp.round((value + 1) * ((levels - 1) / 2))
        nearest = jnp.clip(nearest, 0, levels - 1)[..., None, :]
        index = jnp.concatenate([index, nearest], axis=-2)
    return index[..., 0] / (levels - 1)


class Mixture(NamedTuple):
    """The parts of a logistic mixture's parameters."""

    logits: jax.Array  # [..., K]
    centres: jax.Array  # [..., C, K]
    log_scales: jax.Array  # [..., C, K], within bounds
    couplings: jax.Array  # [..., C(C-1)/2, K], in (-1, 1)


def _split(params: jax.Array, channels: int) -> Mixture:
    per_component = logistic_mixture_width(channels, 1)
    chex.assert_is_divisible(params.shape[-1], per_component)
    blocks = params.reshape(*params.shape[:-1], per_component, -1)
    return Mixture(
        logits=blocks[..., 0, :],
        centres=blocks[..., 1 : 1 + channels, :],
        log_scales=jnp.clip(blocks[..., 1 + channels : 1 + 2 * channels, :], *LOG_SCALE_BOUNDS),
        couplings=jnp.tanh(blocks[..., 1 + 2 * channels :, :]),
    )


def _centre(mixture: Mixture, channel: int, earlier: jax.Array) -> jax.Array:
    """Centre of one channel, `[..., K]`, given the `[..., channel, K or 1]` values before it."""
    first = channel * (channel - 1) // 2
    couplings = mixture.couplings[..., first : first + channel, :]
    return mixture.centres[..., channel, :] + jnp.sum(couplings * earlier, axis=-2)


def _check(event_ndim: int, *arrays: jax.Array) -> None:
    chex.assert_equal_shape(arrays)
    chex.assert_type(arrays, float)
    chex.assert_scalar_in(event_ndim, 0, jnp.ndim(arrays[0]))


def _sum_event(values: jax.Array, event_ndim: int) -> jax.Array:
    return jnp.sum(values, axis=tuple(range(-event_ndim, 0)))
