"""Codes in the order of the split, with their labels."""

import jax
import numpy as np
import pytest
import tiny

from jaxae.data import from_arrays
from jaxae.evaluation import encode_split, pixels_of


def test_codes_are_the_posterior_means_in_order(linear):
    images = pixels_of(linear.data.test, 5)
    codes, labels = encode_split(linear.model, linear.poor, linear.data.test, 5, jax.random.key(0))
    encoder = linear.poor.params["enc"]
    by_hand = (images - 0.5) @ np.asarray(encoder["weights"]) + np.asarray(encoder["shift"])
    np.testing.assert_allclose(codes, by_hand, atol=1e-5)
    np.testing.assert_array_equal(labels, linear.data.test.labels)


@tiny.x64()
def test_a_limit_takes_codes_and_labels_alike(linear):
    split, key, exact = linear.data.train, jax.random.key(0), tiny.in_float64(linear.exact)
    every, labels = encode_split(linear.model, exact, split, 10, key)
    some, fewer = encode_split(linear.model, exact, split, 10, key, limit=9)
    wanted = np.arange(9) * 37 // 9
    np.testing.assert_allclose(some, every[wanted], rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(fewer, labels[wanted])


def test_data_without_labels_gives_none(linear):
    data = from_arrays(pixels_of(linear.data.train, 10).reshape(-1, 2, 3, 1))
    assert encode_split(linear.model, linear.exact, data.test, 3, jax.random.key(0))[1] is None


def test_what_cannot_be_encoded_is_refused(linear):
    arguments = (linear.exact, linear.data.test, 8, jax.random.key(0))
    with pytest.raises(ValueError, match="no encode"):
        encode_split(linear.model._replace(encode=None), *arguments)
    broken = linear.model._replace(encode=lambda state, x, rng: x.reshape(-1, 6) * np.nan)
    with pytest.raises(ValueError, match="NaN"):
        encode_split(broken, *arguments)
