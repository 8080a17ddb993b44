"""What it costs to describe the words of a document, as counts, given a decoder's outputs.

The likelihoods of Salakhutdinov & Hinton 2009 (IJAR 50), recalled and not re-read: one softmax over
the vocabulary, whose probabilities are the rates of independent Poissons that share the document's
length. Given the length that is a multinomial; the two differ by what no parameter moves.
"""

import chex
import jax
import jax.numpy as jnp


def constrained_poisson_nll(logits: jax.Array, counts: jax.Array) -> jax.Array:
    """-log of the product over words of Poisson(v_i; N p_i), p = softmax(logits), N = sum v.

    Args:
        logits: `[..., V]` float.
        counts: `[..., V]` float, whole numbers from 0.
    Returns:
        `[...]` nats per document, the constants kept; >= 0. A document without words costs 0.
    Raises:
        AssertionError: shapes differ (no silent broadcasting) or not float.
    """
    words = _check(logits, counts)
    length = jnp.where(words > 0, words, 1.0)
    of_length = words - words * jnp.log(length)
    return words_nll(logits, counts) + of_length + _log_factorials(counts)


def multinomial_nll(logits: jax.Array, counts: jax.Array) -> jax.Array:
    """-log Multinomial(v; N, p), p = softmax(logits), N = sum v.

    Args, Raises: as `constrained_poisson_nll`.
    Returns:
        `[...]` nats per document, the constants kept; >= 0.
    """
    words = _check(logits, counts)
    return words_nll(logits, counts) + _log_factorials(counts) - jax.lax.lgamma(words + 1)


def words_nll(logits: jax.Array, counts: jax.Array) -> jax.Array:
    """-sum_i v_i log p_i, p = softmax(logits): the words one by one, in their order.

    What the other two share: all that depends on the parameters.

    Args, Raises: as `constrained_poisson_nll`.
    Returns:
        `[...]` nats per document; >= 0. Divided by the number of words, the logarithm of the
        perplexity.
    """
    _check(logits, counts)
    return -jnp.sum(counts * jax.nn.log_softmax(logits), axis=-1)


def _log_factorials(counts: jax.Array) -> jax.Array:
    return jnp.sum(jax.lax.lgamma(counts + 1), axis=-1)


def _check(logits: jax.Array, counts: jax.Array) -> jax.Array:
    chex.assert_equal_shape([logits, counts])
    chex.assert_type([logits, counts], float)
    return jnp.sum(counts, axis=-1)
