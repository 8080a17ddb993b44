"""Negative log-likelihood of a document's word counts given a decoder's outputs.

The likelihoods of Salakhutdinov & Hinton 2009 (IJAR 50), from memory, not checked against the
paper: a softmax over the vocabulary gives the rates of independent Poissons, which sum to the
document's length. Given the length this is a multinomial; the two differ by a term without
parameters.

With m = N p the expected counts, Stirling's remainder r(n) = ln n! - n ln n + n, and sum m = sum v,

    -log of the product of Poisson(v_i; m_i) = sum of v_i (exp(t_i) - 1 - t_i) + r(v_i),

t_i = ln m_i - ln v_i (m_i alone where v_i = 0), and the multinomial's is less by r(N). No term is
negative, so nothing cancels for long documents, whose ln N! exceeds the precision of float32.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxae.losses import _check
from jaxae.losses._numerics import expm1_minus_x, multiply


def constrained_poisson_nll(logits: jax.Array, counts: jax.Array) -> jax.Array:
    """-log of the product over words of Poisson(v_i; N p_i), p = softmax(logits), N = sum v.

    Args:
        logits: `[..., V]` float.
        counts: `[..., V]` float, whole numbers >= 0; no gradient flows to them.
    Returns:
        `[...]` nats per document, with constants; >= 0; 0 for a document without words; NaN for
        other counts.
    Raises:
        TypeError: not float.
        ValueError: shapes differ (no silent broadcasting).
    """
    return _poisson("constrained_poisson_nll", logits, counts)[0]


def multinomial_nll(logits: jax.Array, counts: jax.Array) -> jax.Array:
    """-log Multinomial(v; N, p), p = softmax(logits), N = sum v.

    Args, Raises: as `constrained_poisson_nll`.
    Returns:
        `[...]` nats per document, with constants; >= 0; NaN for other counts.
    """
    poisson, length = _poisson("multinomial_nll", logits, counts)
    return poisson - _remainder(length)


def words_nll(logits: jax.Array, counts: jax.Array) -> jax.Array:
    """-sum_i v_i log p_i, p = softmax(logits): the cross-entropy of the words in a given order.

    It is the part of the other two that depends on the parameters.

    Args:
        logits: `[..., V]` float; -inf for a word that cannot occur.
        counts: `[..., V]` float, at least 0 and finite, not necessarily whole.
    Returns:
        `[...]` nats per document; >= 0; NaN for other counts. Divided by the number of words it is
        the logarithm of the perplexity.
    Raises: as `constrained_poisson_nll`.
    """
    logits, counts = _documents("words_nll", logits, counts)
    valid = jnp.all((counts >= 0) & jnp.isfinite(counts), axis=-1)
    nll = jnp.sum(multiply(counts, -jax.nn.log_softmax(logits)), axis=-1)
    return _check.nan_unless(valid, nll)


_TABLE = np.array([0.0] + [math.lgamma(n + 1) - n * math.log(n) + n for n in range(1, 16)])


def _remainder(n: jax.Array) -> jax.Array:
    """r(n) of whole n >= 0: from a table below 16, by Stirling's series above."""
    few = n < len(_TABLE)
    many = jnp.where(few, float(len(_TABLE)), n)
    series = 0.5 * jnp.log(2 * math.pi * many)
    for k, coefficient in enumerate((1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188)):
        series = series + coefficient / many ** (2 * k + 1)
    index = jnp.where(few, n, 0).astype(jnp.int32)
    return jnp.where(few, jnp.asarray(_TABLE, n.dtype)[index], series)


def _poisson(function: str, logits: jax.Array, counts: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`constrained_poisson_nll`, and the documents' lengths."""
    logits, counts = _documents(function, logits, counts)
    counts = jax.lax.stop_gradient(counts)
    whole = (counts >= 0) & jnp.isfinite(counts) & (counts == jnp.round(counts))
    counts = jnp.where(whole, counts, 0.0)
    length = jnp.sum(counts, axis=-1, keepdims=True)
    log_p = jax.nn.log_softmax(logits)
    occurs = counts > 0
    log_v = jnp.log(jnp.where(occurs, counts, 1.0))
    log_m = log_p + jnp.log(jnp.maximum(length, 1.0))
    gap = jnp.where(occurs, log_m - log_v, 0.0)
    each = jnp.where(occurs, counts * expm1_minus_x(gap), length * jnp.exp(log_p))
    nll = jnp.sum(each + _remainder(counts), axis=-1)
    return _check.nan_unless(jnp.all(whole, axis=-1), nll), length[..., 0]


def _documents(function: str, logits: jax.Array, counts: jax.Array) -> list[jax.Array]:
    documents = _check.same_shape(function, logits=logits, counts=counts)
    _check.axes(function, 1, logits=documents[0])
    return documents
