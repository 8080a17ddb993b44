"""GAN losses against closed forms: optimal discriminators of known Gaussians, values by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import integrate, stats

from jaxae import losses
from jaxae.losses.adversarial import GAN_LOSSES

LOG2 = np.log(2)


def discriminator_loss(name, real, fake):
    gan = losses.gan_loss(name)
    return gan.real_loss(real).mean() + gan.fake_loss(fake).mean()


# By hand, at logits 0, 1 and -2.
SOFTPLUS = np.log1p(np.exp(np.array([0.0, 1.0, -2.0])))
BY_HAND = {
    "non_saturating": (SOFTPLUS - [0, 1, -2], SOFTPLUS, SOFTPLUS - [0, 1, -2]),
    "saturating": (SOFTPLUS - [0, 1, -2], SOFTPLUS, -SOFTPLUS),
    "least_squares": ([0.5, 0, 4.5], [0, 0.5, 2], [0.5, 0, 4.5]),
    "wasserstein": ([0, -1, 2], [0, 1, -2], [0, -1, 2]),
}


@pytest.mark.parametrize("via", [lambda f: f, jax.jit, jax.vmap], ids=["plain", "jit", "vmap"])
@pytest.mark.parametrize("name", GAN_LOSSES)
def test_losses_by_hand(name, via):
    for loss, wanted in zip(losses.gan_loss(name), BY_HAND[name], strict=True):
        found = via(loss)(jnp.float32([0, 1, -2]))
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", GAN_LOSSES)
def test_losses_and_gradients_are_finite_at_any_logit(name):
    for loss in losses.gan_loss(name):
        value, gradient = jax.vmap(jax.value_and_grad(loss))(jnp.float32([-1e4, 1e4]))
        assert np.isfinite(value).all()
        assert np.isfinite(gradient).all()


def test_the_non_saturating_gradient_is_d_minus_one():
    logits = jnp.float32([-3, 0, 2])
    found = jax.vmap(jax.grad(losses.gan_loss("non_saturating").generator_loss))(logits)
    np.testing.assert_allclose(found, -1 / (1 + np.exp(np.float64(logits))), rtol=1e-6)


def test_the_saturating_generator_loss_is_minus_the_fake_loss():
    gan, logits = losses.gan_loss("saturating"), jnp.float32([-3, 0, 2])
    np.testing.assert_allclose(gan.generator_loss(logits), -gan.fake_loss(logits), rtol=1e-7)


@pytest.mark.parametrize(("name", "word"), [("hinge", "non_saturating"), ("", "wasserstein")])
def test_an_unknown_gan_loss_is_refused(name, word):
    with pytest.raises(ValueError, match=word):
        losses.gan_loss(name)


def test_integer_logits_are_refused():
    with pytest.raises(TypeError, match="gan_loss 'saturating': logits"):
        losses.gan_loss("saturating").real_loss(jnp.int32([1]))


# -- the loss of an optimal discriminator of p = N(0,1) and q --------------------------------------

GAUSSIANS = {  # mean and deviation of q: Jensen-Shannon divergence in nats
    (0.0, 1.0): 0.0,
    (0.5, 1.0): 0.0303,
    (1.0, 1.0): 0.1114,
    (2.0, 1.0): 0.3368,
    (4.0, 1.0): 0.6327,
    (0.0, 2.0): 0.0927,
    (0.0, 0.5): 0.0927,
}


def divergence(q) -> float:
    """JSD(N(0,1) || q) by scipy's quadrature."""
    p = stats.norm(0, 1)

    def density(x):
        a, b = p.pdf(x), q.pdf(x)
        m = (a + b) / 2
        return sum(0.5 * c * np.log(c / m) for c in (a, b) if c > 0)

    return integrate.quad(density, -20, 24, points=[0, q.mean()], limit=200)[0]


def weights(mean: float, deviation: float):
    """A grid with its probabilities under p and under q."""
    x = np.linspace(-12, 16, 4001)
    return x, *(stats.norm(m, s).pdf(x) * (x[1] - x[0]) for m, s in ((0, 1), (mean, deviation)))


@pytest.mark.parametrize("gaussian", GAUSSIANS)
def test_the_optimal_discriminator_loss_is_two_log_two_less_twice_the_divergence(gaussian):
    q, gan = stats.norm(*gaussian), losses.gan_loss("non_saturating")
    wanted = 2 * LOG2 - 2 * divergence(q)
    np.testing.assert_allclose((2 * LOG2 - wanted) / 2, GAUSSIANS[gaussian], atol=1e-4)
    x, p_x, q_x = weights(*gaussian)
    optimal = jnp.float32(stats.norm(0, 1).logpdf(x) - q.logpdf(x))
    found = np.sum(p_x * gan.real_loss(optimal)) + np.sum(q_x * gan.fake_loss(optimal))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("gaussian", [(1.0, 1.0), (0.0, 2.0)])
def test_a_quadratic_discriminator_learns_the_optimal_loss(gaussian):
    gan = losses.gan_loss("non_saturating")
    x, p_x, q_x = (jnp.float32(v) for v in weights(*gaussian))

    def loss(w):
        logit = w[0] + w[1] * x + w[2] * jnp.square(x)
        return jnp.sum(p_x * gan.real_loss(logit)) + jnp.sum(q_x * gan.fake_loss(logit))

    tx = optax.adam(0.05)

    def step(carry, _):
        w, opt = carry
        value, gradient = jax.value_and_grad(loss)(w)
        updates, opt = tx.update(gradient, opt)
        return (optax.apply_updates(w, updates), opt), value

    _, values = jax.jit(lambda w: jax.lax.scan(step, (w, tx.init(w)), length=600))(jnp.zeros(3))
    np.testing.assert_allclose(values[0], 2 * LOG2, rtol=1e-5)
    np.testing.assert_allclose(values[-1], 2 * LOG2 - 2 * GAUSSIANS[gaussian], atol=2e-3)


def test_the_optimal_least_squares_loss_is_half_the_harmonic_mass():
    _, p_x, q_x = weights(1.0, 1.0)
    gan, share = losses.gan_loss("least_squares"), jnp.float32(p_x / (p_x + q_x))
    found = np.sum(p_x * gan.real_loss(share)) + np.sum(q_x * gan.fake_loss(share))
    np.testing.assert_allclose(found, 0.5 * np.sum(p_x * q_x / (p_x + q_x)), rtol=1e-5)


def test_the_wasserstein_loss_is_the_difference_of_means():
    found = discriminator_loss("wasserstein", jnp.float32([1, 2, 6]), jnp.float32([4, 0]))
    np.testing.assert_allclose(found, 2.0 - 3.0, rtol=1e-6)


# -- feature matching and penalties ----------------------------------------------------------------


@pytest.mark.parametrize(("power", "wanted"), [(1, 3.0), (2, 5.0)])
def test_feature_matching_by_hand(power, wanted):
    real = jnp.float32([[0, 1], [2, 3]])  # means 1, 2
    fake = jnp.float32([[2, 0], [2, 0], [2, 0]])  # means 2, 0
    np.testing.assert_allclose(losses.feature_matching(real, fake, power), wanted, rtol=1e-6)


def test_feature_matching_refuses_other_shapes_and_powers():
    with pytest.raises(ValueError, match="fake_features"):
        losses.feature_matching(jnp.zeros((2, 3)), jnp.zeros((2, 4)))
    with pytest.raises(ValueError, match="real_features"):
        losses.feature_matching(jnp.zeros(2), jnp.zeros(2))
    with pytest.raises(ValueError, match="power"):
        losses.feature_matching(jnp.zeros((2, 3)), jnp.zeros((2, 3)), 3)


MATRIX = np.float32([[2, 1], [1, -3]])
POINTS = np.float32([[1, 0], [0, 0], [-1, 2]])


def quadratic(x):
    return 0.5 * jnp.einsum("bi,ij,bj->b", x, MATRIX, x)


def test_r1_of_a_quadratic_critic():
    wanted = 0.5 * np.sum((POINTS @ MATRIX) ** 2, axis=1)
    for via in (lambda f: f, jax.jit):
        found = via(functools.partial(losses.r1_penalty, quadratic))(POINTS)
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_gradient_norms_count_every_input():
    critic = lambda x, z: 2 * x.sum((1, 2, 3)) - 3 * z.sum(1)
    found = losses.squared_gradient_norms(critic, jnp.ones((4, 2, 2, 1)), jnp.ones((4, 5)))
    np.testing.assert_allclose(found, [4 * 4 + 5 * 9] * 4, rtol=1e-6)


def test_one_gradient_of_the_batch_gives_the_mean_of_all_norms():
    critic = lambda x: jnp.sin(x).prod(1)
    found = losses.mean_squared_gradient_norm(critic, POINTS)
    np.testing.assert_allclose(
        found, losses.squared_gradient_norms(critic, POINTS).mean(), rtol=1e-6
    )


def test_the_gradient_penalty_of_a_linear_critic():
    critic = lambda x: x @ jnp.float32([3, 4])
    found = losses.gradient_penalty(critic, POINTS, 2 * POINTS, jnp.float32([0, 0.5, 1]))
    np.testing.assert_allclose(found, [16.0] * 3, rtol=1e-6)


def test_the_gradient_penalty_is_taken_between_the_pairs():
    real, fake, alpha = POINTS, -POINTS, np.float32([0.25, 0.5, 1.0])
    between = alpha[:, None] * real + (1 - alpha[:, None]) * fake
    wanted = (np.linalg.norm(between @ MATRIX, axis=1) - 1) ** 2
    found = losses.gradient_penalty(quadratic, real, fake, jnp.asarray(alpha))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_a_flat_critic_has_a_penalty_of_one_and_a_finite_gradient():
    def penalty(w):
        return losses.gradient_penalty(lambda x: x @ w, POINTS, POINTS, jnp.ones(3)).mean()

    value, gradient = jax.value_and_grad(penalty)(jnp.zeros(2))
    np.testing.assert_allclose(value, 1.0)
    assert np.isfinite(gradient).all()


def test_a_critic_whose_gradient_is_nan_is_not_taken_for_flat():
    found = losses.gradient_penalty(
        lambda x: x.sum(1) * jnp.nan, POINTS, POINTS, jnp.ones(3, np.float32)
    )
    np.testing.assert_array_equal(found, [np.nan] * 3)


@pytest.mark.parametrize("name", GAN_LOSSES)
def test_logits_in_half_precision_or_in_lists(name):
    logits = [0.125, 1.0, -2.0]
    for loss in losses.gan_loss(name):
        half = loss(jnp.bfloat16(logits))
        assert half.dtype == jnp.float32
        np.testing.assert_array_equal(half, loss(logits))
        assert np.isnan(loss(jnp.float32([np.nan])))
