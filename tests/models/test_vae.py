import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from jaxae.data import from_arrays
from jaxae.models import vae
from jaxae.training.state import Spec

SHAPE, SIZE = (2, 2, 1), 4
SPEC = Spec(SHAPE, size=16, classes=0, levels=2, mean=np.full(SHAPE, 0.3, np.float32))
LINEAR = vae.Config(latent=2, widths=())


@pytest.fixture
def recorded(monkeypatch):
    """Makes models whose optimiser moves nothing and keeps the gradient as its state."""
    keep = optax.GradientTransformation(
        lambda p: jax.tree.map(jnp.zeros_like, p),
        lambda g, s, p: (jax.tree.map(jnp.zeros_like, g), g),
    )
    monkeypatch.setattr(vae, "_optimiser", lambda config: keep)
    return lambda config: vae.make(config, SPEC)


def images(n, seed=0):
    x = np.random.default_rng(seed).integers(0, 2, (n, *SHAPE)).astype(np.float32)
    return {"image": jnp.asarray(x), "index": jnp.arange(n)}


def spread_out(state):
    """The state with larger parameters, so that no term of a loss is negligible."""
    return state.replace(params=jax.tree.map(lambda p: 2 * p + 0.1, state.params))


def by_hand(params, x, noise):
    """KL [B,Z] and distortion [B] of a linear Bernoulli VAE, in float64."""
    dense = lambda net, h: h @ np.float64(net["kernel"]) + np.float64(net["bias"])
    x, noise = np.float64(x).reshape(len(x), -1), np.float64(noise)
    mean, raw = np.split(dense(params["enc"]["Dense_0"], x), 2, axis=1)
    log_var = 10 * np.tanh(raw / 10)
    logits = dense(params["dec"]["Dense_0"], mean + np.exp(log_var / 2) * noise)
    kl = 0.5 * (mean**2 + np.exp(log_var) - 1 - log_var)
    return kl, np.sum(np.logaddexp(0, logits) - x * logits, axis=1)


# -- objectives -------------------------------------------------------------------------------

OBJECTIVES = {  # fields of Config -> the loss, from KL [B,Z], D [B]; all at step 1
    "plain": ({}, lambda kl, d: d.mean() + kl.sum(1).mean()),
    "beta": ({"beta": 3.0}, lambda kl, d: d.mean() + 3 * kl.sum(1).mean()),
    "no rate": ({"beta": 0.0}, lambda kl, d: d.mean()),
    "warm-up": (
        {"beta": 2.0, "warmup_steps": 4},
        lambda kl, d: d.mean() + 2 * 0.25 * kl.sum(1).mean(),
    ),
    "free bits": (
        {"free_bits": 2.0},
        lambda kl, d: d.mean() + np.maximum(kl.mean(0), 2.0).sum(),
    ),
    "free bits per example": (
        {"free_bits": 2.0, "free_bits_per_example": True},
        lambda kl, d: d.mean() + np.maximum(kl, 2.0).sum(1).mean(),
    ),
    "capacity": (
        {"capacity": 30.0, "capacity_steps": 10, "capacity_gamma": 7.0},
        lambda kl, d: d.mean() + 7 * abs(kl.sum(1).mean() - 3.0),
    ),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objective_against_numpy(recorded, name):
    fields, expected = OBJECTIVES[name]
    model, batch, key = recorded(dataclasses.replace(LINEAR, **fields)), images(5), jax.random.key
    state = spread_out(model.init(key(1))).replace(step=jnp.int32(1))
    _, metrics = jax.jit(model.step)(state, batch, key(2))
    kl, distortion = by_hand(state.params, batch["image"], jax.random.normal(key(2), (5, 2)))
    # The floors must cut some groups and leave others, or the test is blind.
    assert kl.min() < 2.0 < kl.max()
    assert kl.mean(0).min() < 2.0 < kl.mean(0).max()
    np.testing.assert_allclose(metrics["loss"], expected(kl, distortion), rtol=1e-5)
    np.testing.assert_allclose(metrics["rate"], kl.sum(1).mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["distortion"], distortion.mean(), rtol=1e-5)


@pytest.mark.parametrize("per_example", [False, True])
def test_under_the_floor_the_rate_has_no_gradient(recorded, per_example):
    floor = {"free_bits": 1e3, "free_bits_per_example": per_example}
    gradients = []
    for fields in (floor, {"beta": 0.0}):
        model = recorded(dataclasses.replace(LINEAR, **fields))
        state, _ = jax.jit(model.step)(
            spread_out(model.init(jax.random.key(1))), images(5), jax.random.key(2)
        )
        gradients.append(state.opt["autoencoder"])
    jax.tree.map(np.testing.assert_array_equal, *gradients)


def test_evaluate_against_numpy_and_rate_plus_distortion_is_the_loss():
    model, batch = vae.make(LINEAR, SPEC), images(5)
    state = spread_out(model.init(jax.random.key(1)))
    found = model.evaluate(state, batch, jax.random.key(2))
    noise = jax.random.normal(jax.random.key(2), (5, 2))
    kl, distortion = by_hand(state.params, batch["image"], noise)
    np.testing.assert_allclose(found["rate"], kl.sum(1), rtol=1e-5)
    np.testing.assert_allclose(found["distortion"], distortion, rtol=1e-5)
    np.testing.assert_array_equal(found["loss"], found["rate"] + found["distortion"])


# -- importance-weighted training -------------------------------------------------------------


def test_iwae_gradient_is_the_weighted_sum_of_gradients(recorded):
    k, batch = 3, images(5)
    model = recorded(dataclasses.replace(LINEAR, iwae_k=k))
    state = spread_out(model.init(jax.random.key(1)))
    moved, metrics = jax.jit(model.step)(state, batch, jax.random.key(2))

    def weigh(p):
        one = lambda key: model.log_weight(state.replace(params=p), batch["image"], key)
        return jax.vmap(one)(jax.random.split(jax.random.key(2), k))

    log_w = np.float64(weigh(state.params))  # [k, 5]
    share = np.exp(log_w - logsumexp(log_w, axis=0))
    assert share.std() > 0.05
    of_each = jax.jit(jax.jacrev(weigh))(state.params)  # leaves [k, 5, ...]
    expected = jax.tree.map(lambda g: -np.tensordot(share, g, 2) / 5, of_each)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(close, moved.opt["autoencoder"], expected)
    bound = (logsumexp(log_w, axis=0) - np.log(k)).mean()
    np.testing.assert_allclose(metrics["loss"], -bound, rtol=1e-5)
    np.testing.assert_allclose(metrics["elbo"], log_w.mean(), rtol=1e-5)


@pytest.mark.parametrize(("gradient", "k"), [("dreg", 3), ("stl", 1)])
def test_reparameterised_estimators(recorded, gradient, k):
    """The decoder's gradient is the standard one; the encoder's agrees in expectation only."""
    many, batch = 20_000, images(2)
    gradients = []
    for name in (gradient, "standard"):
        model = recorded(dataclasses.replace(LINEAR, iwae_k=k, iwae_gradient=name))
        state = spread_out(model.init(jax.random.key(1)))
        one = lambda key: model.step(state, batch, key)[0].opt["autoencoder"]
        keys = jax.random.split(jax.random.key(2), many)
        if (name, k) == ("standard", 1):  # the plain bound draws its one sample with the key itself
            keys = jax.vmap(lambda key: jax.random.split(key, 1)[0])(keys)
        gradients.append(jax.jit(jax.vmap(one))(keys))
    close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5)
    jax.tree.map(close, gradients[0]["dec"], gradients[1]["dec"])
    ours, standard = (
        np.concatenate([np.float64(g).reshape(many, -1) for g in jax.tree.leaves(each["enc"])], 1)
        for each in gradients
    )
    difference = ours - standard
    error = difference.std(0, ddof=1) / np.sqrt(many)
    assert difference.std() > 0.01  # different estimators
    assert np.abs(standard.mean(0)).max() > 20 * error.max()  # of something to be seen
    assert (np.abs(difference.mean(0)) < 5 * error + 1e-6).all()


# -- the linear VAE is probabilistic PCA ------------------------------------------------------


def test_linear_vae_is_probabilistic_pca():
    """Bound, own marginal and the closed form agree; the IWAE bound climbs to the marginal."""
    d, generator = 2, np.random.default_rng(0)
    loadings = generator.normal(size=(d, 6)) * [[0.12], [0.08]]
    x = 0.5 + generator.normal(size=(400, d)) @ loadings + 0.04 * generator.normal(size=(400, 6))
    data = from_arrays(
        np.clip(x, 0, 1).reshape(-1, 2, 3, 1), test_images=x[:9].reshape(-1, 2, 3, 1)
    )
    x = data.train.arrays["image"]
    config = vae.Config(
        latent=d, widths=(), likelihood="gaussian_learned", learning_rate=2e-2, decay_steps=3000
    )
    model = vae.make(config, data.spec)
    batch = {"image": jnp.asarray(x), "index": jnp.arange(400)}

    @jax.jit
    def trained(of_init, of_steps):
        step = lambda state, key: (model.step(state, batch, key)[0], None)
        # Far too large a decoder only shrinks slowly: its code is as good, but for the rate.
        start = model.init(of_init)
        small = 0.1 * start.params["dec"]["Dense_0"]["kernel"]
        dec = {"Dense_0": start.params["dec"]["Dense_0"] | {"kernel": small}}
        start = start.replace(params=start.params | {"dec": dec})
        return jax.lax.scan(step, start, jax.random.split(of_steps, 3000))[0]

    state = trained(jax.random.key(0), jax.random.key(5))
    p = jax.tree.map(np.float64, state.params)
    flat = np.float64(x).reshape(400, -1)

    def log_p(mean, covariance):
        return multivariate_normal(mean, covariance).logpdf(flat)

    variances, axes = np.linalg.eigh(np.cov(flat.T, bias=True))
    noise = variances[:-d].mean()
    covariance = (axes[:, -d:] * (variances[-d:] - noise)) @ axes[:, -d:].T + noise * np.eye(6)
    best = log_p(flat.mean(0), covariance).mean()
    kernel, bias = p["dec"]["Dense_0"]["kernel"], p["dec"]["Dense_0"]["bias"]
    own = log_p(bias, kernel.T @ kernel + np.exp(2 * p["scale"]["log_scale"]) * np.eye(6))

    k = 256
    weigh = jax.jit(jax.vmap(lambda key: model.log_weight(state, batch["image"], key)))
    log_w = np.float64(weigh(jax.random.split(jax.random.key(1), k)))  # [k, 400]
    bounds, errors = [], []
    for samples in (1, 4, 16, 256):
        grouped = log_w.reshape(-1, samples, 400)
        each = (logsumexp(grouped, axis=1) - np.log(samples)).mean(0)
        bounds.append(each.mean())
        errors.append((each - own).std(ddof=1) / np.sqrt(400))
    assert own.mean() <= best + 1e-3
    assert abs(bounds[0] - best) < 0.02
    assert all(low <= high for low, high in itertools.pairwise(bounds))
    assert bounds[0] < own.mean() + 5 * errors[0]
    assert abs(bounds[-1] - own.mean()) < 5 * errors[-1] + 1e-3
    np.testing.assert_allclose(np.exp(2 * p["scale"]["log_scale"]), noise, rtol=0.02)


def test_mean_log_weight_is_the_elbo():
    model, batch, many = vae.make(LINEAR, SPEC), images(4), 4000
    state = spread_out(model.init(jax.random.key(1)))

    @jax.jit
    def measure(rng, other):
        weigh = lambda key: model.log_weight(state, batch["image"], key)
        cost = lambda key: model.evaluate(state, batch, key)["loss"]
        keys = jax.random.split(rng, many), jax.random.split(other, many)
        return jax.vmap(weigh)(keys[0]), jax.vmap(cost)(keys[1])

    log_w, loss = measure(jax.random.key(2), jax.random.key(3))
    difference = np.float64(log_w).mean(0) + np.float64(loss).mean(0)
    error = np.sqrt((np.var(log_w, 0) + np.var(loss, 0)) / many)
    assert (np.abs(difference) < 5 * error).all()


# -- what else the file promises --------------------------------------------------------------


@pytest.mark.parametrize("network", ["mlp", "conv"])
@pytest.mark.parametrize(
    "likelihood", ["bernoulli", "gaussian", "gaussian_learned", "logistic_mixture"]
)
def test_every_likelihood_trains_with_every_network(network, likelihood):
    shape = (8, 8, 1)
    spec = Spec(shape, size=4, classes=0, levels=3, mean=np.full(shape, 0.5, np.float32))
    config = vae.Config(
        latent=2, network=network, widths=(8,), conv_width=2, conv_blocks=1, likelihood=likelihood
    )
    model = vae.make(config, spec)
    x = np.random.default_rng(0).integers(0, 3, (4, *shape)).astype(np.float32) / 2
    batch = {"image": jnp.asarray(x), "index": jnp.arange(4)}

    @jax.jit
    def run(rng):
        of_init, of_steps, *keys = jax.random.split(rng, 7)
        start = model.init(of_init)
        step = lambda state, key: model.step(state, batch, key)
        state, metrics = jax.lax.scan(step, start, jax.random.split(of_steps, 5))
        z = model.encode(state, batch["image"], keys[0])
        images = (
            model.decode(state, z, keys[1]),
            model.sample(state, keys[2], 4),
            model.daydream(state, batch["image"], keys[3]),
        )
        return start, state, metrics, z, images, model.log_weight(state, batch["image"], keys[4])

    start, state, metrics, z, images, log_weight = run(jax.random.key(0))
    assert z.shape == (4, 2)
    assert log_weight.shape == (4,)
    assert all(image.shape == x.shape for image in images)
    for leaf in jax.tree.leaves((state.params, metrics, z, images, log_weight)):
        assert np.isfinite(leaf).all()
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), start.params, state.params)
    assert all(any(jax.tree.leaves(net)) for net in moved.values())


@pytest.mark.parametrize(
    ("fields", "floor"), [({}, 0.05), ({"optimiser": "iwae-2015", "decay_steps": 10}, 0.001)]
)
def test_a_decoder_begins_at_the_mean_image_and_not_too_sure_of_it(fields, floor):
    mean = np.array([0.0, 0.2, 0.7, 1.0], np.float32).reshape(SHAPE)
    model = vae.make(dataclasses.replace(LINEAR, **fields), SPEC._replace(mean=mean))
    start = model.init(jax.random.key(0))
    found = model.decode(start, jnp.zeros((1, 2)), jax.random.key(1))
    np.testing.assert_allclose(found[0], np.clip(mean, floor, 1 - floor), rtol=1e-5)


def test_samples_are_decoded_draws_of_the_prior():
    model = vae.make(LINEAR, SPEC)
    state, key = model.init(jax.random.key(0)), jax.random.key(1)
    again = jax.random.clone(key)
    expected = model.decode(state, model.prior(again, 3), jax.random.key(2))
    np.testing.assert_array_equal(model.sample(state, key, 3), expected)


def test_stages_of_the_iwae_optimiser():
    """Stage i of 0..7 lasts 3^i steps at 10^(-i/7) of the first rate."""
    tx = vae._optimiser(vae.Config(optimiser="iwae-2015", decay_steps=3280, learning_rate=1e-3))
    grad = {"w": jnp.ones(())}

    @jax.jit
    def rates():
        def step(opt, _):
            update, opt = tx.update(grad, opt)
            return opt, -update["w"]

        return jax.lax.scan(step, tx.init(grad), None, length=3280)[1]

    expected = np.concatenate([np.full(3**i, 1e-3 * 10 ** (-i / 7)) for i in range(8)])
    # A constant gradient of 1 makes Adam's step the rate, but for its eps of 1e-4.
    np.testing.assert_allclose(rates() * (1 + 1e-4), expected, rtol=1e-3)


def test_a_short_run_of_the_iwae_optimiser_loses_no_stage():
    """Of 40 steps stages end at 0.01, 0.05, 0.2, 0.5, 1.5, 4.4 and 13.3: the first four at once."""
    tx = vae._optimiser(vae.Config(optimiser="iwae-2015", decay_steps=40, learning_rate=1e-3))
    opt, rates = tx.init(jnp.zeros(())), []
    for _ in range(40):
        update, opt = jax.jit(tx.update)(jnp.ones(()), opt)
        rates.append(-float(update) * (1 + 1e-4))
    stage = np.concatenate([np.full(n, i) for i, n in ((4, 1), (5, 3), (6, 9), (7, 27))])
    np.testing.assert_allclose(rates, 1e-3 * 10 ** (-stage / 7), rtol=1e-3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"latent": 0}, "latent=0 must be at least 1"),
        ({"iwae_k": 0}, "iwae_k=0 must be at least 1"),
        ({"mixtures": 0}, "mixtures=0 must be at least 1"),
        ({"scale": 0.0}, "scale=0.0 must be more than 0"),
        ({"iwae_k": 5, "beta": 4.0}, "choose one"),
        ({"iwae_gradient": "stl", "free_bits": 0.1}, "choose one"),
        ({"iwae_k": 5, "warmup_steps": 10}, "choose one"),
        ({"iwae_k": 5, "capacity": 10.0}, "choose one"),
        ({"iwae_k": 5, "iwae_gradient": "stl"}, "iwae_gradient=dreg"),
        ({"capacity": 5.0, "beta": 4.0}, "leave beta"),
        ({"capacity": 5.0, "free_bits": 0.5}, "leave beta"),
        ({"capacity": 5.0, "warmup_steps": 5}, "leave beta"),
        ({"optimiser": "iwae-2015"}, "decay_steps"),
    ],
)
def test_contradictions_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        vae.Config(**fields)


@pytest.mark.parametrize(
    ("fields", "levels", "message"),
    [
        ({"activation": "step"}, 2, "activation"),
        ({"likelihood": "logistic_mixture"}, 0, "levels=0"),
    ],
)
def test_what_the_data_cannot_take_is_refused(fields, levels, message):
    with pytest.raises(ValueError, match=message):
        vae.make(vae.Config(**fields), SPEC._replace(levels=levels)).init(jax.random.key(0))
