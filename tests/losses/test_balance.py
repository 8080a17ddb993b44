import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jaxae import losses


@pytest.mark.parametrize(
    ("groups", "alpha"),
    [((1, 2), [1, 2, 2]), ((5, 10), [1] * 5 + [2] * 10),
     ((5, 10, 20), [1] * 5 + [2] * 10 + [4] * 20), ((30,), [1] * 30),
     ((4, 4, 4, 8, 16), [1] * 4 + [4] * 4 + [16] * 4 + [32] * 8 + [64] * 16)],
)  # fmt: skip
def test_weights_of_the_published_hierarchies(groups, alpha):
    np.testing.assert_allclose(losses.group_weights(groups), alpha)


KL = np.array([[1.0, -3.0, 0.0], [3.0, 1.0, 0.0]], np.float32)
ALPHA = np.array([1.0, 2.0, 2.0])


def test_balance_by_hand():
    """Means of |kl| are 2, 2, 0; with 0.01 and alpha: 2.01, 1.005, 0.005, which sum to 3.02."""
    kappa = jax.jit(lambda kl: losses.kl_balance(kl, ALPHA))(KL)
    np.testing.assert_allclose(kappa, np.array([2.01, 1.005, 0.005]) / (3.02 / 3), rtol=1e-5)
    np.testing.assert_allclose(np.mean(kappa), 1, rtol=1e-6)


def test_balance_has_no_gradient():
    assert not np.any(jax.grad(lambda kl: losses.kl_balance(kl, ALPHA)[0])(jnp.asarray(KL)))


@pytest.mark.parametrize(
    ("kl", "alpha", "error", "says"),
    [
        (KL, ALPHA[:2], ValueError,
         "kl_balance: alpha must have shape [3] for kl of shape [2, 3], has [2]"),
        (KL[0], ALPHA, ValueError, "kl_balance: kl must have shape [B, L], has [3]"),
        (np.int32(KL), ALPHA, TypeError, "kl_balance: kl must be an array of floats"),
        (KL, np.int32(ALPHA), TypeError, "kl_balance: alpha must be an array of floats"),
    ],
)  # fmt: skip
def test_balance_names_what_does_not_fit(kl, alpha, error, says):
    with pytest.raises(error) as raised:
        losses.kl_balance(kl, alpha)
    assert str(raised.value).startswith(says)


def test_balance_is_of_the_type_of_the_rates():
    assert losses.kl_balance(KL, ALPHA).dtype == np.float32
    with tiny.x64():
        assert losses.kl_balance(KL, np.float64(ALPHA)).dtype == np.float32
        assert losses.kl_balance(np.float64(KL), ALPHA).dtype == np.float64


@pytest.mark.parametrize("groups", [(), (2, 0)])
def test_a_hierarchy_has_groups_at_every_scale(groups):
    with pytest.raises(ValueError, match="group_weights: groups"):
        losses.group_weights(groups)
