import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import trapezoid
from scipy.special import logsumexp
from scipy.stats import norm

from jaxae import losses
from jaxae.data import from_arrays
from jaxae.models import acn
from jaxae.models.acn import costs as acn_costs
from jaxae.nets.orderings import greedy_path

K, D = 2, 2
CONFIG = acn.Config(
    latent=D, widths=(8,), decoder="mlp", prior_widths=(8,), components=2, neighbours=K, nodes=32
)


def data_of(seed=0):
    """60 noisy copies of 6 patterns to train on, 21 to test on."""
    generator = np.random.default_rng(seed)
    patterns = generator.integers(0, 2, (6, 2, 3, 1))
    images = patterns[generator.integers(0, 6, 81)] ^ (generator.random((81, 2, 3, 1)) < 0.1)
    images = images.astype(np.float32)
    return from_arrays(images[:60], test_images=images[60:], levels=2)


def trained(config, data, steps):
    model = acn.make(config, data.spec)
    images = jnp.asarray(data.train.arrays["image"], jnp.float32)

    @jax.jit
    def run(of_init, of_steps):
        def step(state, key):
            of_rows, of_step = jax.random.split(key)
            rows = jax.random.permutation(of_rows, 60)[:20]
            return model.step(state, {"image": images[rows], "index": rows}, of_step)[0], None

        return jax.lax.scan(step, model.init(of_init), jax.random.split(of_steps, steps))[0]

    return model, run(*jax.random.split(jax.random.key(0)))


@pytest.mark.parametrize("unordered", ["mixture", "network"])
def test_a_second_assessment_compiles_nothing(unordered, compilations):
    data = data_of()
    model, state = trained(dataclasses.replace(CONFIG, unordered=unordered), data, 1)
    found = model.assess(state, data, jax.random.key(3))
    again = lambda: model.assess(state, data, jax.random.key(3))
    assert compilations(again) == 0
    assert again() == found


@pytest.mark.parametrize("images", [1, 2, 3])
def test_sets_of_fewer_images_than_neighbours(images):
    """A is over the others that there are, None where there are none; of one image no error."""
    data = data_of()
    few = from_arrays(
        data.train.arrays["image"], test_images=data.test.arrays["image"][:images], levels=2
    )
    config = dataclasses.replace(CONFIG, neighbours=3, variant="gaussian_neighbour")
    model, state = trained(config, data, 1)
    found = model.assess(state, few, jax.random.key(3))
    alone = {"rate_neighbour", "total_neighbour", "rate_unordered_se", "total_unordered_se",
             "largest_in_degree", "mutual_share"}  # fmt: skip
    assert {name for name, value in found.items() if value is None} == (
        alone if images == 1 else set()
    )
    assert np.isfinite([value for value in found.values() if value is not None]).all()
    if images > 1:
        codes = np.asarray(model.encode(state, few.test.arrays["image"], None), np.float64)
        s = np.exp(float(state.params["prior"]["log_s"]))
        others = [kl(codes[i], codes[j], s) for i in range(images) for j in range(images) if i != j]
        assert found["rate_neighbour"] == pytest.approx(np.mean(others), rel=1e-4)


def kl(code, neighbour, s):
    """KL(N(code, I) || N(neighbour, s^2 I)) in float64."""
    squares = 1 + (np.float64(code) - np.float64(neighbour)) ** 2
    return np.sum(np.log(s) + squares / (2 * s**2) - 0.5, axis=-1)


def test_every_cost_against_numpy():
    """With N(c^, s^2 I) as the prior all five costs can be written again in a few lines."""
    data = data_of()
    config = dataclasses.replace(
        CONFIG, variant="gaussian_neighbour", unordered_items=15, unordered_codes=20
    )
    model, state = trained(config, data, 50)
    found = model.assess(state, data, jax.random.key(3))

    s = np.exp(float(state.params["prior"]["log_s"]))
    images = [next(split.examples(split.size))[0]["image"] for split in (data.train, data.test)]
    memory, codes = (np.asarray(model.encode(state, x, None)) for x in images)
    of_noise, of_codes, _ = jax.random.split(jax.random.key(3), 3)
    noise, chosen = jax.random.normal(of_noise, codes.shape), jax.random.permutation(of_codes, 60)
    z = np.float64(codes) + np.float64(noise)
    distances = np.sum((codes[:, None] - codes[None]) ** 2, axis=2)
    np.fill_diagonal(distances, np.inf)
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :K]
    among = kl(codes[:, None], codes[nearest], s).mean()
    known = np.argsort(np.sum((codes[:, None] - memory[None]) ** 2, axis=2), axis=1)[:, :K]
    in_memory = kl(codes[:, None], memory[known], s).mean()
    log_q = norm.logpdf(z, codes).sum(1)
    among_codes = norm.logpdf(z[:, None], memory[None, np.asarray(chosen)[:20]], s).sum(2)
    log_p = logsumexp(among_codes, axis=1) - np.log(20)
    alone, few = log_q - log_p, np.array([0, 1, 2, 4, 5, 7, 8, 9, 11, 12, 14, 15, 16, 18, 19])

    dec = jax.tree.map(np.float64, state.params["dec"])
    hidden, out = dec["Dense_0"], dec["Dense_1"]
    logits = np.maximum(z @ hidden["kernel"] + hidden["bias"], 0) @ out["kernel"] + out["bias"]
    x = np.float64(images[1]).reshape(21, -1)
    distortion = np.sum(np.logaddexp(0, logits) - x * logits, axis=1)

    # The receiver: an item is decodable once the item it is conditioned on has been decoded.
    order, decoded, spent = greedy_path(jnp.asarray(codes)), {}, 0.0
    for item, before in zip(order, [None, *order[:-1]], strict=True):
        spent += alone[item] if before is None else kl(codes[item], decoded[before], s)
        decoded[item] = codes[item]
    assert len(decoded) == 21

    expected = {
        "rate_neighbour": among,
        "rate_neighbour_train_memory": in_memory,
        "rate_unordered": alone[few].mean(),
        "rate_unordered_se": alone[few].std(ddof=1) / np.sqrt(15),
        "distortion": distortion.mean(),
        "total_unordered": (alone + distortion)[few].mean(),
        "total_unordered_se": (alone + distortion)[few].std(ddof=1) / np.sqrt(15),
        "rate_ordered": spent / 21,
        "order_credit": np.sum(np.log(np.arange(1, 22))) / 21,
        "mutual_share": np.mean(nearest[nearest[:, 0], 0] == np.arange(21)),
        "largest_in_degree": np.bincount(nearest[:, 0]).max(),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert distortion[few].mean() != pytest.approx(distortion.mean(), rel=1e-3)
    for name in ("neighbour", "ordered"):
        total = found[f"rate_{name}"] + found["distortion"]
        assert found[f"total_{name}"] == pytest.approx(total)
    with_credit = found["total_ordered"] + found["order_credit"]
    assert found["total_ordered_with_credit"] == pytest.approx(with_credit)


def test_costs_of_a_trained_acn():
    """A < B, in all three ways to have one prior for all; B's ways agree roughly."""
    data, unordered = data_of(), {}
    model, state = trained(CONFIG, data, 600)
    for way in ("mixture", "gmm", "network"):
        model = acn.make(dataclasses.replace(CONFIG, unordered=way), data.spec)
        found = model.assess(state, data, jax.random.key(3))
        assert all(np.isfinite(value) for value in found.values())
        assert found["rate_neighbour"] < found["rate_unordered"]
        unordered[way] = found["rate_unordered"]
    assert np.ptp(list(unordered.values())) < 1.0
    assert len(set(unordered.values())) == 3


@pytest.mark.parametrize(("n", "nats"), [(360, 4.897), (10_000, 8.211)])
def test_order_credit(n, nats):
    assert losses.order_credit(n) == pytest.approx(nats, abs=5e-4)


def test_path_costs_charge_each_item_given_the_one_before():
    rate = lambda c, z, neighbour: 100 * c[:, 0] + 10 * z[:, 0] + neighbour[:, 0]
    codes, z = np.array([[1.0], [2.0], [3.0]]), np.array([[4.0], [5.0], [6.0]])
    found = acn_costs.path_costs(rate, codes, z, np.array([0, 2, 1]), 7.0)
    assert found.tolist() == [7.0, 300 + 60 + 1, 200 + 50 + 3]


def test_mixture_of_conditionals_against_brute_force():
    """70 codes are no multiple of the block, 300 z are more than one call takes."""
    generator = np.random.default_rng(0)
    codes, z = generator.normal(size=(70, 3)), generator.normal(size=(300, 3))
    shift = np.array([-1.0, 0.5])

    def prior(params, c):
        means = c[..., None] * params + jnp.asarray(shift, jnp.float32)[None, None]
        return jnp.broadcast_to(jnp.array([0.0, 1.0]), means.shape), means, 0.3 * means

    found = acn_costs.mixture_of_conditionals(
        prior, jnp.float32(0.7), jnp.float32(z), jnp.float32(codes)
    )
    means = codes[..., None] * 0.7 + shift  # [70, 3, 2]
    weights = np.exp([0.0, 1.0]) / np.exp([0.0, 1.0]).sum()
    each = norm.pdf(z[:, None, :, None], means[None], np.exp(0.3 * means)[None]) @ weights
    expected = np.log(each.prod(axis=2).mean(axis=1))
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("way", ["gmm", "network"])
def test_fitted_priors_are_densities_and_near_the_true_one(way):
    """Codes from N(1 +- 3, 0.5^2), so z has density N(1 +- 3, 0.5^2 + 1)."""
    rng = np.random.default_rng(0)
    codes = 1 + rng.choice([-3, 3], (400, 1)) + 0.5 * rng.normal(size=(400, 1))
    codes = jnp.asarray(codes, jnp.float32)
    grid = np.linspace(-15, 17, 1601, dtype=np.float32)
    if way == "gmm":
        log_p = acn_costs.fit_gmm_log_prob(grid[:, None], codes, gaussians=5)
    else:
        log_p = acn_costs.fit_network_log_prob(
            jnp.asarray(grid[:, None]), codes, 4, jax.random.key(0)
        )
    density = np.exp(np.float64(log_p))
    true = norm.pdf(grid[:, None], [-2, 4], np.sqrt(1.25)).mean(1)
    assert trapezoid(density, grid) == pytest.approx(1, abs=0.01)
    divergence = trapezoid(true * (np.log(true) - np.float64(log_p)), grid)
    assert -1e-3 < divergence < 0.05


def test_run_batched_fills_up_the_last_batch_and_cuts_it():
    found = acn_costs.run_batched(lambda p, a, b: p * a + b, 2, (np.arange(7), np.ones(7)), 3)
    np.testing.assert_allclose(found, 2 * np.arange(7) + 1)
