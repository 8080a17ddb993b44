import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from scipy.stats import logistic, norm

from jaxae import losses, nets
from jaxae.models import nvae
from jaxae.models.nvae.cells import (
    Conv,
    Depthwise,
    EncoderCell,
    FlowCell,
    double_bilinear,
    init_kernels,
)
from jaxae.models.nvae.networks import Hierarchy, Normal
from jaxae.training.state import Spec

DATA = tiny.images(binarise="dynamic")
SMALL = {"groups": (1, 1), "latent": 2, "width": 4, "blocks": 0, "block_cells": 1}
CONFIG = nvae.Config(**SMALL, readjust=24)


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.fixture(scope="module")
def model():
    return nvae.make(CONFIG, DATA.spec)


@pytest.fixture(scope="module")
def state(model):
    """After three steps, with parameters that no initial zero hides."""
    found = jax.jit(model.init)(jax.random.key(0))
    params = jax.tree.map(lambda p: p + 0.1 * normal(*p.shape), found.params)
    step, found = jax.jit(model.step), found.replace(params=params)
    for i in range(3):
        found, _ = step(found, DATA.train.batch(0, i, tiny.BATCH), jax.random.key(i))
    return found


# -- layers ----------------------------------------------------------------------------------------


def initialised(module, *inputs):
    found = module.init(jax.random.key(0), *inputs)
    return {"params": init_kernels(jax.random.key(1), found["params"])}


def test_a_normalised_convolution_has_the_lengths_of_its_gains():
    x = normal(2, 6, 6, 3)
    variables = initialised(Conv(5), x)
    gains = np.linspace(-1, 1, 5, dtype=np.float32)
    variables["params"]["log_gain"] = jnp.asarray(gains)
    _, used = Conv(5).apply(variables, x, mutable=["weights"])
    (matrix,) = used["weights"]["matrix"]
    np.testing.assert_allclose(np.linalg.norm(matrix, axis=0), np.exp(gains), rtol=1e-4)
    kernel = np.asarray(variables["params"]["kernel"]).reshape(27, 5)
    cosine = np.sum(kernel * matrix, 0) / np.linalg.norm(kernel, axis=0) / np.exp(gains)
    np.testing.assert_allclose(cosine, 1, rtol=1e-4)


def test_a_convolution_of_stride_two_pads_one_on_each_side():
    """torch pads (1, 1) where SAME would pad (0, 1): the first output sees pixels 0 and 1 only."""
    layer = Conv(1, stride=2, normalised=False, bias=False)
    variables = {"params": {"kernel": jnp.ones((3, 3, 1, 1))}}
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    np.testing.assert_allclose(layer.apply(variables, x)[0, 0, 0, 0], 0 + 1 + 4 + 5)


def test_kernels_are_drawn_with_the_deviation_of_their_fan_in():
    zeros = {"a": {"kernel": jnp.zeros((3, 3, 50, 40)), "bias": jnp.zeros(40)},
             "b": {"kernel": jnp.zeros((25, 400))}}  # fmt: skip
    kernels = init_kernels(jax.random.key(0), zeros)
    np.testing.assert_allclose(np.std(kernels["a"]["kernel"]), 1 / np.sqrt(450), rtol=0.03)
    np.testing.assert_allclose(np.std(kernels["b"]["kernel"]), 0.2, rtol=0.03)
    assert not np.any(kernels["a"]["bias"])


@pytest.mark.parametrize("causal", [False, True])
def test_the_forms_of_a_depthwise_convolution_agree(causal):
    x = normal(2, 5, 3, 4)
    variables = initialised(Depthwise(causal=causal), x)

    def value_and_gradient(form):
        layer = Depthwise(form, causal)
        return jax.value_and_grad(lambda v: jnp.sum(jnp.sin(layer.apply(v, x))))(variables)

    tiny.assert_close(value_and_gradient("matrix"), value_and_gradient("lax"))


def test_doubling_keeps_the_corners_and_is_linear_between_them():
    """numpy.interp in both directions at the places linspace(0, n - 1, 2 n)."""
    x = np.asarray(normal(2, 3, 4, 2))
    rows, columns = np.linspace(0, 2, 6), np.linspace(0, 3, 8)
    wide = np.apply_along_axis(lambda v: np.interp(columns, np.arange(4), v), 2, x)
    wanted = np.apply_along_axis(lambda v: np.interp(rows, np.arange(3), v), 1, wide)
    # Of 3 x 4 products each, of two weights and a pixel; all weights are at most one.
    off = tiny.rounding(12 + 4, np.abs(x).max())
    np.testing.assert_allclose(double_bilinear(jnp.asarray(x)), wanted, rtol=0, atol=off)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_flow_cell_is_triangular_with_ones_on_its_diagonal(mirrored):
    z = normal(1, 3, 3, 2)
    cell = FlowCell(mirrored)
    variables = initialised(cell, z)
    jacobian = jax.jacobian(lambda v: cell.apply(variables, v.reshape(z.shape)).ravel())(z.ravel())
    later = np.triu if mirrored else np.tril
    np.testing.assert_array_equal(jacobian, later(jacobian))
    np.testing.assert_allclose(np.diag(jacobian), 1, atol=1e-6)
    assert np.count_nonzero(np.abs(jacobian) > 1e-7) > 18 + 9 * 2 * 4, "it shifts nothing"
    back = jnp.zeros_like(z)  # solves back + shift(back) one entry after the other
    moved = cell.apply(variables, z)
    for _ in range(z.size):
        back = moved + (back - cell.apply(variables, back))
    np.testing.assert_allclose(back, z, atol=1e-4)


# -- distributions ---------------------------------------------------------------------------------


@tiny.x64()
def test_the_residual_form_of_the_rate():
    """KL = (dm^2 / s_p^2 + ds^2 - log ds^2 - 1) / 2 where neither bound nor floor is felt."""
    raw = [tiny.in_float64(0.01 * normal(4, 2, 2, 1, seed=seed)) for seed in range(4)]
    p, by = Normal(*raw[:2]), Normal(*raw[2:])
    q = p.add_residual(by)
    log_var = lambda n: 2 * n.raw_log  # without the floor
    found = losses.kl_diagonal_gaussians_per_dimension(q.mean, log_var(q), p.mean, log_var(p))
    ds2 = np.exp(2 * np.float64(by.raw_log))
    dm2 = np.float64(by.raw_mean) ** 2 / np.exp(2 * np.float64(p.raw_log))
    # The bound takes less than (0.05 / 5)^2 off a mean.
    np.testing.assert_allclose(found, 0.5 * (dm2 + ds2 - np.log(ds2) - 1), rtol=1e-3)


def test_a_posterior_that_says_nothing_costs_nothing():
    p = Normal(30 * normal(3, 2, 2, 1), 30 * normal(3, 2, 2, 1, seed=1))
    still = Normal(jnp.zeros((3, 2, 2, 1)), jnp.zeros((3, 2, 2, 1)))
    q = p.add_residual(still)
    kl = losses.kl_diagonal_gaussians_per_dimension(
        q.mean, 2 * jnp.log(q.deviation), p.mean, 2 * jnp.log(p.deviation)
    )
    np.testing.assert_array_equal(kl, 0)
    np.testing.assert_allclose(still.deviation, 1.01)
    assert np.abs(p.mean).max() <= 5


# -- the model -------------------------------------------------------------------------------------


def test_published_mnist_sizes():
    config = nvae.Config(groups=(5, 10), latent=20, width=32, blocks=2)
    spec = Spec((28, 28, 1), 1, 10, 2, np.zeros((28, 28, 1), np.float32))
    layout = nvae.model._layout(config, spec)
    shapes = layout.code_shapes()
    assert layout.image == (32, 32, 1)
    assert shapes == [(4, 4, 20)] * 5 + [(8, 8, 20)] * 10
    assert sum(np.prod(shape) for shape in shapes) == 14_400
    assert [layout.map_of(s)[2] for s in (0, 1)] == [256, 128]


def pieces(state, x, noise):
    """Outputs and groups, through the networks alone."""
    layout = nvae.model._layout(CONFIG, DATA.spec)
    variables = {"params": state.params, "batch_stats": state.extra["stats"]}
    return jax.jit(lambda x, z: Hierarchy(layout, 1).apply(variables, x, z, method="infer"))(
        x, noise
    )


def noise_for(n):
    shapes = nvae.model._layout(CONFIG, DATA.spec).code_shapes()
    return [normal(n, *shape, seed=i) for i, shape in enumerate(shapes)]


def test_one_samples_weight_is_the_sum_of_its_densities(model, state, monkeypatch):
    """log p(x|z) + log p(z) - log q(z|x) by scipy, from the groups of the same pass."""
    x = DATA.train.batch(0, 0, 5)["image"]
    noise = noise_for(5)
    out, groups = pieces(state, x, noise)
    out, pixels = np.float64(out), np.float64(x)
    total = -np.sum(np.logaddexp(0, out) - pixels * out, axis=(1, 2, 3))
    kl = np.zeros(5)
    for g in groups:
        q, p = (norm(np.float64(n.mean), np.float64(n.deviation)) for n in (g.q, g.p))
        total += np.sum(p.logpdf(np.float64(g.z)) - q.logpdf(np.float64(g.z)), axis=(1, 2, 3))
        ratio = (q.std() / p.std()) ** 2
        away = ((q.mean() - p.mean()) / p.std()) ** 2
        kl += 0.5 * np.sum(ratio + away - 1 - np.log(ratio), axis=(1, 2, 3))
    draws = iter([*noise, *noise])
    monkeypatch.setattr(jax.random, "normal", lambda rng, shape: next(draws))
    result = jax.jit(lambda: model.log_weight(state, x, jax.random.key(0)))()
    np.testing.assert_allclose(result, total, rtol=1e-4)
    found = jax.jit(lambda: model.evaluate(state, {"image": x}, jax.random.key(0)))()
    np.testing.assert_allclose(found["rate"], kl, rtol=1e-4)
    assert len([name for name in found if name.startswith("rate_")]) == 2


def test_with_flows_the_weight_is_the_estimates_difference():
    """log w = -(rates + distortion) for one and the same sample, since both are estimates."""
    model = nvae.make(nvae.Config(**SMALL, flows=1), DATA.spec)
    state = jax.jit(model.init)(jax.random.key(0))
    batch = DATA.train.batch(0, 0, 5)
    result = jax.jit(model.evaluate)(state, batch, jax.random.key(4))
    log_w = jax.jit(model.log_weight)(state, batch["image"], jax.random.key(4))
    np.testing.assert_allclose(log_w, -result["loss"], rtol=1e-4)


def test_an_image_reaches_the_decoder_through_its_codes_only(model, state):
    """Other images with the codes of the first: `decode` has no other input."""
    batch = DATA.train.batch(0, 0, 5)
    out, groups = pieces(state, batch["image"], noise_for(5))
    layout = nvae.model._layout(CONFIG, DATA.spec)
    variables = {"params": state.params, "batch_stats": state.extra["stats"]}
    codes = [g.z for g in groups]
    again, _ = jax.jit(lambda z: Hierarchy(layout, 1).apply(variables, z, method="decode"))(codes)
    np.testing.assert_allclose(again, out, atol=1e-5)
    codes = jax.jit(model.encode)(state, batch["image"], jax.random.key(0))
    still = [jnp.zeros_like(n) for n in noise_for(5)]
    wanted = jax.nn.sigmoid(pieces(state, batch["image"], still)[0])
    found = jax.jit(model.decode)(state, codes, jax.random.key(0))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_images_of_any_size_are_padded_and_cropped():
    """6x10 pixels, which halvings do not divide: eight by twelve inside."""
    spec = Spec((6, 10, 1), 8, 0, 2, np.full((6, 10, 1), 0.5, np.float32))
    config = dataclasses.replace(CONFIG, blocks=1, readjust=4)
    model = nvae.make(config, spec)
    state = jax.eval_shape(model.init, jax.random.key(0))
    assert jax.eval_shape(lambda s: model.sample(s, jax.random.key(1), 3), state).shape == (
        3, 6, 10, 1,
    )  # fmt: skip
    assert nvae.model._layout(config, spec).image == (8, 12, 1)


def test_the_rates_weight_rises_with_each_step():
    """(t - 1e-4 T) / (0.3 T), T = 1000, between 1e-4 and 1; balanced until it is 1."""
    model = nvae.make(nvae.Config(**SMALL, decay_steps=1000, spectral=0.0), DATA.spec)
    start, step = jax.jit(model.init)(jax.random.key(0)), jax.jit(model.step)
    for now, beta in [(0, 1e-4), (150, 0.5 - 1 / 3000), (301, 1.0)]:
        state = start.replace(step=jnp.int32(now))
        _, result = step(state, DATA.train.batch(0, 0, tiny.BATCH), jax.random.key(1))
        np.testing.assert_allclose(result["beta"], beta, rtol=1e-5)
        plain = result["distortion"] + result["beta"] * result["rate"]
        if now > 300:
            np.testing.assert_allclose(result["objective"], plain, rtol=1e-5)
        elif now:
            assert abs(result["objective"] - plain) > 1e-3 * plain


@pytest.fixture(scope="module")
def training(state):
    """What the networks give in training: noise, outputs, groups, matrices; settled vectors."""
    noise, images = noise_for(tiny.BATCH), DATA.train.batch(0, 0, tiny.BATCH)["image"]

    @jax.jit
    def run(state):
        (out, groups), left = Hierarchy(nvae.model._layout(CONFIG, DATA.spec), 1).apply(
            {"params": state.params, "batch_stats": state.extra["stats"]}, images, noise, True,
            method="infer", mutable=["batch_stats", "weights"],
        )  # fmt: skip
        # To where more rounds change nothing.
        _, vectors = nets.spectral_norms(left["weights"], state.extra["vectors"], 1600)
        return out, groups, left["weights"], vectors

    return noise, *run(state)


@pytest.mark.parametrize("spectral_start", [0.0, 1.0])
def test_the_objective_against_numpy(state, training, monkeypatch, spectral_start):
    """Card, 2.3 and 2.4: balanced rates, largest singular values, largest gains; T = 1000, t = 150.

    The finer of two groups has alpha 2^2, the coarser 1.
    """
    config = nvae.Config(**SMALL, decay_steps=1000, spectral=0.1, spectral_start=spectral_start)
    model, batch = nvae.make(config, DATA.spec), DATA.train.batch(0, 0, tiny.BATCH)
    noise, out, groups, weights, vectors = training
    now = state.replace(step=jnp.int32(150), extra=state.extra | {"vectors": vectors})
    draws = iter(noise)
    monkeypatch.setattr(jax.random, "normal", lambda rng, shape: next(draws))
    _, result = jax.jit(model.step)(now, batch, jax.random.key(1))
    monkeypatch.undo()

    out, x, kl = np.float64(out), np.float64(batch["image"]), []
    distortion = np.sum(np.logaddexp(0, out) - x * out, axis=(1, 2, 3)).mean()
    for g in groups:
        of = lambda n: (np.float64(n.mean), np.float64(n.deviation))
        (m, s), (m_p, s_p) = of(g.q), of(g.p)
        each = np.log(s_p / s) + (s**2 + (m - m_p) ** 2) / (2 * s_p**2) - 0.5
        kl.append(each.sum((1, 2, 3)))
    kl = np.stack(kl, axis=1)
    kappa = (np.abs(kl).mean(0) + 0.01) / [1, 4]
    kappa /= kappa.mean()
    assert np.abs(kappa - 1).max() > 0.1
    norms = sum(np.linalg.norm(np.float64(m), 2) for m in jax.tree.leaves(weights))
    gains = sum(np.abs(v).max() for k, v in tiny.leaves(state.params).items() if "scale" in k)
    beta = 0.5 - 1 / 3000
    weight = np.exp(beta * np.log(0.1)) if spectral_start else 0.1
    np.testing.assert_allclose(result["rate"], kl.sum(1).mean(), rtol=1e-4)
    np.testing.assert_allclose(result["distortion"], distortion, rtol=1e-4)
    np.testing.assert_allclose(result["penalty"], norms + gains, rtol=1e-3)
    price = beta * (kappa * kl).sum(1).mean()
    total = distortion + price + weight * (norms + gains)
    np.testing.assert_allclose(result["objective"], total, rtol=1e-4)


def test_a_step_of_adamax_against_numpy():
    """eps 1e-3 inside max(b2 u, |g| + eps), L2 in the gradient, a rate that rises from zero."""
    tx = nvae.model._optimiser(nvae.Config(learning_rate=0.1, rate_warmup=4, decay_steps=8))
    w, m, u = 2.0, 0.0, 0.0
    params = {"w": jnp.float32(w)}
    opt = tx.init(params)
    for t, g in enumerate([5e-4, -1e-4, 2e-3, 5e-4, -0.6, 0.1]):
        updates, opt = tx.update({"w": jnp.float32(g)}, opt, params)
        params = optax.apply_updates(params, updates)
        g += 3e-4 * w
        m, u = 0.9 * m + 0.1 * g, max(0.999 * u, abs(g) + 1e-3)
        fall = 0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * (t - 4) / 4))
        w -= 0.1 * (t / 4 if t < 4 else fall) * m / (1 - 0.9 ** (t + 1)) / u
        np.testing.assert_allclose(params["w"], w, rtol=1e-5)
    assert abs(w - 2) > 0.01


def test_samples_use_the_readjusted_statistics(model, state):
    """`sample` by hand: statistics of its first draws, then images of its second ones."""
    layout = nvae.model._layout(CONFIG, DATA.spec)
    variables = {"params": state.params, "batch_stats": state.extra["stats"]}
    of_z, of_statistics = jax.random.split(jax.random.key(3))
    shapes = layout.code_shapes()

    def noises(rng, n):
        keys = jax.random.split(rng, len(shapes))
        return [jax.random.normal(k, (n, *s)) for k, s in zip(keys, shapes, strict=True)]

    @jax.jit
    def by_hand(of_z, of_statistics):
        _, changed = Hierarchy(layout, 1, momentum=0.0).apply(
            variables, noises(of_statistics, 24), 1.0, True, method="generate",
            mutable=["batch_stats"],
        )  # fmt: skip
        z = noises(of_z, 3)
        draw = lambda known: jax.nn.sigmoid(
            Hierarchy(layout, 1).apply(known, z, 1.0, method="generate")[0]
        )
        return draw(variables | changed), draw(variables)

    renewed, stale = by_hand(of_z, of_statistics)
    found = jax.jit(model.sample, static_argnums=2)(state, jax.random.key(3), 3)
    np.testing.assert_allclose(found, renewed, atol=1e-5)
    assert np.abs(found - stale).max() > 1e-3


def test_an_encoder_cell_by_hand():
    """One pixel, two channels, in evaluation: x + 0.1 gate * conv(swish(norm(conv(...))))."""
    x = normal(1, 1, 1, 2)
    cell = EncoderCell(0.95)
    found = cell.init(jax.random.key(0), x, False, None)
    params = jax.tree.map(lambda p: normal(*p.shape, seed=p.size), found["params"])
    stats = jax.tree.map(lambda p: 1 + jnp.abs(normal(*p.shape, seed=3)), found["batch_stats"])
    result = cell.apply({"params": params, "batch_stats": stats}, x, False, None)
    p, s = (jax.tree.map(np.float64, tree) for tree in (params, stats))
    swish, h = (lambda a: a / (1 + np.exp(-a))), np.float64(x).ravel()
    for i in range(2):
        norm, conv = (f"{name}_{i}" for name in ("BatchNorm", "Conv"))
        n = p[norm]
        h = (h - s[norm]["mean"]) / np.sqrt(s[norm]["var"] + 1e-5) * n["scale"] + n["bias"]
        # Of a single pixel a 3x3 kernel sees the middle; its length is that of the whole kernel.
        v = p[conv]["kernel"]
        w = np.exp(p[conv]["log_gain"]) * v / np.sqrt(np.square(v).sum((0, 1, 2)))
        h = swish(h) @ w[1, 1] + p[conv]["bias"]
    gate = p["SqueezeExcite_0"]
    inner = np.maximum(h @ gate["Dense_0"]["kernel"] + gate["Dense_0"]["bias"], 0)
    open_ = 1 / (1 + np.exp(-(inner @ gate["Dense_1"]["kernel"] + gate["Dense_1"]["bias"])))
    np.testing.assert_allclose(result.ravel(), np.float64(x).ravel() + 0.1 * h * open_, rtol=1e-4)


def test_at_a_temperature_both_draws_are_narrower(model, state, monkeypatch):
    """Those that renew the statistics too: factors 0.5 on all noise are the same."""
    cool = nvae.make(dataclasses.replace(CONFIG, temperature=0.5), DATA.spec)
    found = jax.jit(cool.sample, static_argnums=2)(state, jax.random.key(3), 3)
    draw = jax.random.normal
    monkeypatch.setattr(jax.random, "normal", lambda rng, shape: 0.5 * draw(rng, shape))
    wanted = jax.jit(lambda: model.sample(state, jax.random.key(3), 3))()
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_the_first_step_takes_forty_rounds_of_the_power_method_and_later_ones_four(
    model, state, monkeypatch
):
    found, norms = {}, nets.spectral_norms

    def counted(weights, vectors, rounds):
        jax.debug.callback(lambda n: found.setdefault("rounds", []).append(int(n)), rounds)
        return norms(weights, vectors, 1)

    monkeypatch.setattr(nets, "spectral_norms", counted)
    batch, step = DATA.train.batch(0, 0, tiny.BATCH), jax.jit(lambda *args: model.step(*args))
    for now in (0, 1):
        jax.block_until_ready(step(state.replace(step=jnp.int32(now)), batch, jax.random.key(1)))
    jax.effects_barrier()
    assert found["rounds"] == [40, 4]


def test_adam_may_take_the_place_of_adamax():
    """A first step is the rate, whatever the gradient; there is no decay of weights."""
    tx = nvae.model._optimiser(nvae.Config(optimiser="adam", learning_rate=0.1))
    params = {"w": jnp.float32([2.0, -3.0])}
    updates, _ = tx.update({"w": jnp.float32([1e-2, -5.0])}, tx.init(params), params)
    np.testing.assert_allclose(updates["w"], [-0.1, 0.1], rtol=1e-4)


def test_the_network_begins_at_a_drawn_constant_and_the_mean_image():
    mean = np.full((8, 8, 1), 0.2, np.float32)
    model = nvae.make(CONFIG, DATA.spec._replace(mean=mean))
    begun = jax.jit(model.init)(jax.random.key(0)).params["dec"]
    np.testing.assert_allclose(begun["out"]["bias"], np.log(0.2 / 0.8), rtol=1e-5)
    start = np.asarray(begun["start"]).ravel()
    assert start.min() > 0
    assert 0.5 < start.max() < 1


def test_readjusting_changes_the_decoders_statistics_alone(model, state):
    layout = nvae.model._layout(CONFIG, DATA.spec)
    variables = {"params": state.params, "batch_stats": state.extra["stats"]}
    noise = noise_for(24)
    trained = lambda momentum: jax.jit(lambda: Hierarchy(layout, 1, momentum=momentum).apply(
        variables, noise, 1.0, True, method="generate", mutable=["batch_stats"]
    ))()  # fmt: skip
    _, changed = trained(0.0)
    before, after = state.extra["stats"], changed["batch_stats"]
    tiny.assert_same_bits(after["enc"], before["enc"])
    dec = tiny.leaves(after["dec"])
    assert all(np.any(dec[k] != v) for k, v in tiny.leaves(before["dec"]).items())
    # Normalised by its own statistics, the batch has in evaluation what it had in training.
    (in_training, _), _ = trained(0.95)
    evaluated, _ = jax.jit(lambda: Hierarchy(layout, 1).apply(
        variables | {"batch_stats": after}, noise, 1.0, method="generate"
    ))()  # fmt: skip
    np.testing.assert_allclose(evaluated, in_training, atol=1e-3)


def test_at_temperature_zero_all_samples_are_one(state):
    cold = nvae.make(nvae.Config(**SMALL, temperature=0.0, readjust=0), DATA.spec)
    x = jax.jit(cold.sample, static_argnums=2)(state, jax.random.key(0), 3)
    y = jax.jit(cold.sample, static_argnums=2)(state, jax.random.key(1), 3)
    np.testing.assert_array_equal(x, y)
    np.testing.assert_array_equal(x[0], x[1])


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"groups": ()}, "groups"), ({"warmup": 2.0}, "warmup"), ({"cells": 0}, "cells=0"),
     ({"spectral": 0.0, "spectral_start": 1.0}, "spectral_start"),
     ({"rate_warmup": 10, "decay_steps": 5}, "rate_warmup")],
)  # fmt: skip
def test_contradictions_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        nvae.Config(**fields)


def test_the_likelihood_of_levels_needs_levels():
    with pytest.raises(ValueError, match="logistic_mixture"):
        nvae.make(nvae.Config(likelihood="logistic_mixture"), DATA.spec._replace(levels=0))


@pytest.mark.parametrize(
    ("centre", "log_scale", "official"),  # card, section 6(a)2: two sums of the official code
    [(0, -3, None), (0.9, -2, 1.3296), (0.99, -4, 1.4178), (0.95, -1, None), (-1.2, -2, None),
     (0, -7, None), (0, 0, None)],
)  # fmt: skip
def test_the_likelihood_sums_to_one_at_both_edges(centre, log_scale, official):
    """The official threshold counts the second-highest value as an edge, with all beyond it."""
    x = jnp.arange(256.0).reshape(256, 1, 1, 1) / 255
    out = jnp.broadcast_to(jnp.array([0.0, centre, log_scale]), (256, 1, 1, 3))
    mass = np.exp(-np.float64(losses.logistic_mixture_nll(out, x, 256)))
    np.testing.assert_allclose(mass.sum(), 1, atol=1e-5)
    if official:
        beyond = logistic.sf(2 * 253.5 / 255 - 1, centre, np.exp(log_scale))
        np.testing.assert_allclose(mass.sum() - mass[254] + beyond, official, atol=1e-4)


def test_options_for_pixels_that_are_not_binary():
    data = tiny.images()
    model = nvae.make(nvae.Config(**SMALL, likelihood="logistic_mixture", mixtures=2), data.spec)
    state = jax.jit(model.init)(jax.random.key(0))
    result = jax.jit(model.evaluate)(state, data.train.batch(0, 0, 4), jax.random.key(1))
    assert np.all(np.isfinite(result["loss"]))
