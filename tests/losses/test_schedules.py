import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxae.losses import linear_warmup

STEPS = jnp.array([0, 1, 5, 10, 11, 10**9], jnp.int32)


@pytest.mark.parametrize(
    ("steps", "start", "end", "expected"),
    [
        (10, 0.0, 1.0, [0, 0.1, 0.5, 1, 1, 1]),
        (10, 2.0, -3.0, [2, 1.5, -0.5, -3, -3, -3]),
        (0, 0.0, 0.7, [0.7] * 6),
    ],
)
def test_line_then_level(steps, start, end, expected):
    traced = jax.jit(jax.vmap(lambda step: linear_warmup(step, steps, start, end)))
    np.testing.assert_allclose(traced(STEPS), expected, rtol=1e-6, atol=1e-7)
    for step, value in zip(STEPS.tolist(), expected, strict=True):
        weight = linear_warmup(step, steps, start, end)
        assert weight.dtype == jnp.float32
        assert weight.shape == ()
        np.testing.assert_allclose(weight, value, rtol=1e-6, atol=1e-7)


def test_a_warm_up_goes_from_zero_to_one_by_default():
    assert [linear_warmup(step, 4) for step in (0, 1, 4, 9)] == [0, 0.25, 1, 1]


def test_ends_exactly():
    assert linear_warmup(3, 3, 0.3, 0.1) == jnp.float32(0.1)
    assert linear_warmup(0, 3, 0.3, 0.1) == jnp.float32(0.3)


def test_negative_length_is_refused():
    with pytest.raises(ValueError, match="steps"):
        linear_warmup(0, -1)
