"""Bounds against the closed form of a linear-Gaussian model, means against numpy's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from scipy.special import logsumexp

from jaxae.evaluation import active_units, bounds, mean_over, over_split, summary
from jaxae.evaluation.likelihood import _absorb
from jaxae.evaluation.passes import evenly_spaced
from jaxae.losses import empty_bound
from jaxae.training.state import Model


def images_of(split):
    return np.concatenate([np.asarray(b["image"])[mask] for b, mask in split.examples(10)])


def pixel_sums(state, batch, rng):
    flat = batch["image"].reshape(batch["image"].shape[0], -1)
    return {"sum": flat.sum(1), "first": flat[:, 0]}


def noise(state, batch, rng):
    return {"noise": jax.random.normal(rng, batch["image"].shape[:1])}


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("batch_size", [8, 100])
def test_masked_means_are_numpys(linear, batch_size, apart):
    flat = np.float64(images_of(linear.data.test)).reshape(23, -1)
    means = mean_over(
        pixel_sums, None, linear.data.test, batch_size, jax.random.key(0), per_example=apart
    )
    for name, values in {"sum": flat.sum(1), "first": flat[:, 0]}.items():
        np.testing.assert_allclose(means[name], values.mean(), rtol=1e-6)
        np.testing.assert_allclose(means[f"{name}_se"], values.std(ddof=1) / 23**0.5, rtol=1e-5)
        assert type(means[name]) is float


def test_one_value_has_no_error():
    assert summary("x", np.array([3.0])) == {"x": 3.0, "x_se": None}


def test_noise_of_an_example_depends_on_its_position_only(linear):
    key = jax.random.key(3)
    seen = [over_split(noise, None, linear.data.test, b, key)["noise"] for b in (9, 23)]
    by_hand = [jax.random.normal(jax.random.fold_in(key, i), (1,))[0] for i in range(23)]
    for values in seen:
        np.testing.assert_array_equal(values, by_hand)


@pytest.mark.parametrize("batch_size", [5, 23])
def test_a_limited_pass_is_spread_evenly(linear, batch_size):
    wanted = [0, 3, 6, 9, 13, 16, 19]  # i * 23 // 7
    np.testing.assert_array_equal(evenly_spaced(23, 7), wanted)
    seen = over_split(pixel_sums, None, linear.data.test, batch_size, jax.random.key(0), limit=7)
    expected = np.float64(images_of(linear.data.test))[wanted].sum((1, 2, 3))
    np.testing.assert_allclose(seen["sum"], expected, rtol=1e-6)
    key = jax.random.key(0)
    every = over_split(noise, None, linear.data.test, batch_size, key)["noise"]
    some = over_split(noise, None, linear.data.test, batch_size, key, limit=7)["noise"]
    np.testing.assert_array_equal(some, every[wanted])


def test_a_limit_of_none_of_the_examples_is_refused(linear):
    with pytest.raises(ValueError, match=r"limit must be at least 1.*is 0"):
        mean_over(noise, None, linear.data.test, 8, jax.random.key(0), limit=0)


@pytest.mark.parametrize("samples", [1, 7])
def test_exact_posterior_makes_every_bound_the_likelihood(linear, samples):
    found = bounds(linear.model, linear.exact, linear.data.test,
                   samples=samples, batch_size=23, rng=jax.random.key(0), chunk=1,
                   measured={})  # fmt: skip
    exact = linear.log_p(images_of(linear.data.test))
    np.testing.assert_allclose(found["iwae_nats"], exact.mean(), rtol=1e-5)
    np.testing.assert_allclose(found["elbo_nats"], exact.mean(), rtol=1e-5)
    np.testing.assert_allclose(found["iwae_nats_se"], exact.std(ddof=1) / 23**0.5, rtol=1e-4)
    np.testing.assert_allclose(found["gap_nats"], 0, atol=1e-4)
    np.testing.assert_allclose(found["iwae_bits_per_dim"], -exact.mean() / 6 / np.log(2), rtol=1e-5)
    assert (found["samples"], found["images"]) == (samples, 23)


def test_poor_posterior_elbo_below_iwae_below_likelihood_and_rising(linear):
    exact = linear.log_p(images_of(linear.data.test)).mean()
    closed = linear.elbo(linear.poor, images_of(linear.data.test)).mean()

    def over_keys(samples):
        run = lambda rng: bounds(
            linear.model,
            linear.poor,
            linear.data.test,
            samples=samples,
            batch_size=23,
            rng=rng,
            chunk=5,
            measured={},
        )
        found = [run(jax.random.key(seed)) for seed in range(12)]
        read = lambda name: np.array([f[name] for f in found])
        return read("elbo_nats"), read("iwae_nats")

    mean_and_error = lambda values: (values.mean(), values.std(ddof=1) / len(values) ** 0.5)
    iwae = []
    for samples in (1, 5, 50):
        elbos, iwaes = over_keys(samples)
        mean, error = mean_and_error(elbos)
        assert abs(mean - closed) < 5 * error
        iwae.append(mean_and_error(iwaes))
        assert iwae[-1][0] < exact + 5 * iwae[-1][1]
    assert closed < exact - 0.3  # the posterior is poor indeed
    assert iwae[0][0] + 0.1 < iwae[1][0] < iwae[2][0]
    assert exact - iwae[2][0] < 0.05


@tiny.x64()
def test_result_depends_on_neither_chunk_nor_batch(linear):
    poor = tiny.in_float64(linear.poor)
    run = lambda chunk, batch_size: bounds(
        linear.model, poor, linear.data.test, samples=11, batch_size=batch_size,
        rng=jax.random.key(5), chunk=chunk)  # fmt: skip
    one_by_one, padded = run(1, 23), run(4, 7)  # 3 chunks of 4 samples, 4 batches of 7 images
    for name, value in one_by_one.items():
        np.testing.assert_allclose(padded[name], value, rtol=1e-9, atol=1e-9, err_msg=name)


def test_logsumexp_over_samples_comes_before_the_mean_over_images(linear):
    """Log-weights of very unequal sizes, added up again with scipy from the documented keys."""

    def log_weight(state, x, rng):
        return 30 * x[:, 0, 0, 0] * jax.random.normal(rng, x.shape[:1])

    model, rng = Model(None, None, None, log_weight=log_weight), jax.random.key(1)
    found = bounds(model, None, linear.data.test, samples=3, batch_size=10, rng=rng, chunk=2,
                   measured={})  # fmt: skip
    x, fold = images_of(linear.data.test), jax.random.fold_in
    weights = np.array([
        [log_weight(None, x[i : i + 1], fold(fold(rng, i), s))[0] for s in range(3)]
        for i in range(23)
    ])  # fmt: skip
    np.testing.assert_allclose(found["elbo_nats"], weights.mean(), rtol=1e-5)
    per_image = logsumexp(weights, axis=1) - np.log(3)
    np.testing.assert_allclose(found["iwae_nats"], per_image.mean(), rtol=1e-5)
    assert found["rate_nats"] is None


def test_rate_and_distortion_are_what_evaluate_says(linear):
    rng = jax.random.key(2)
    found = bounds(linear.model, linear.poor, linear.data.test, samples=1, batch_size=23, rng=rng)
    means = mean_over(linear.model.evaluate, linear.poor, linear.data.test, 23, rng)
    for end in ("", "_se"):
        assert found[f"rate_nats{end}"] == means[f"rate{end}"]
        assert found[f"distortion_nats{end}"] == means[f"distortion{end}"]


def test_the_encoder_runs_once_for_all_samples():
    """`sin` stands for the encoder: it is applied to B images, not to B x chunk of them."""

    def log_weight(state, x, rng):
        return jnp.sin(x).sum((1, 2, 3)) + jax.random.normal(rng, x.shape[:1])

    images, positions = jnp.ones((3, 2, 2, 1)), jnp.arange(3)
    run = lambda *a: _absorb.__wrapped__(log_weight, 7, *a)
    graph = jax.make_jaxpr(run)(
        None, images, positions, jax.random.key(0), 0, 7, empty_bound((3,)), jnp.zeros(3)
    )
    sizes = [e.outvars[0].aval.size for e in graph.eqns if e.primitive.name == "sin"]
    assert sizes == [12]


def test_what_cannot_be_bounded_is_refused(linear):
    options = {"batch_size": 8, "rng": jax.random.key(0)}
    without = linear.model._replace(log_weight=None)
    with pytest.raises(ValueError, match="no log_weight"):
        bounds(without, linear.exact, linear.data.test, samples=1, **options)
    with pytest.raises(ValueError, match="at least 1"):
        bounds(linear.model, linear.exact, linear.data.test, samples=0, **options)


def test_active_units_by_hand():
    # Variances over the set: 0, 0.0081, 0.25; doubled codes have 0, 0.0324, 1.
    codes = np.array([[1.0, 0.09, 0.0], [1.0, -0.09, 1.0]])
    assert active_units(codes) == 1
    assert active_units(2 * codes) == 2
