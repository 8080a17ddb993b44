"""The VQ-VAE's networks, costs and players once more, in numpy or from the bare modules."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxae import nets
from jaxae.models import vqvae
from jaxae.models.vqvae import code_usage
from jaxae.models.vqvae.base import BaseConfig
from jaxae.models.vqvae.networks import CodePrior, Decoder, Encoder
from jaxae.training.state import Spec

SHAPE, D, K, G = (4, 4, 1), 3, 5, 2
SPEC = Spec(SHAPE, size=16, classes=0, levels=2, mean=np.full(SHAPE, 0.3, np.float32))
TINY = vqvae.Config(
    codes=K, groups=G, code_width=D, halvings=1, conv_width=4, conv_blocks=1, restart=0.0,
    prior_width=4, prior_layers=2,
)  # fmt: skip


USUAL = BaseConfig.restart


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def lively(module, *inputs):
    """Parameters that no start at zero hides."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda s: jnp.float32(0.4 * rng.normal(size=s.shape)), shapes)


def relu(x):
    return np.maximum(x, 0)


def conv(p, x, stride=1):
    """Padded so that the sides are divided by the stride, rounding up; evenly, the rest behind."""
    w, out = np.float64(p["kernel"]), [-(-side // stride) for side in x.shape[1:3]]
    k = len(w)
    more = [max((o - 1) * stride + k - side, 0) for o, side in zip(out, x.shape[1:3], strict=True)]
    x = np.pad(x, ((0, 0), *((m // 2, m - m // 2) for m in more), (0, 0)))
    y = np.zeros((len(x), *out, w.shape[-1]))
    for row, column in np.ndindex(*out):
        square = x[:, stride * row :, stride * column :][:, :k, :k]
        y[:, row, column] = np.tensordot(square, w, 3)
    return y + np.float64(p["bias"])


def dense(p, x):
    return x @ np.float64(p["kernel"]) + np.float64(p["bias"])


def residual(p, x):
    return x + dense(p["Dense_0"], relu(conv(p["Conv_0"], relu(x))))


@pytest.mark.parametrize("extra", [False, True])
def test_the_encoder(extra):
    x = normal(2, 7, 10, 2)
    net = Encoder(2, 6, 2, 3, G, D, extra)
    p = lively(net, x)
    assert [p[f"Conv_{i}"]["kernel"].shape for i in (0, 1)] == [(4, 4, 2, 3), (4, 4, 3, 6)]
    assert p["Residual_0"]["Conv_0"]["kernel"].shape == (3, 3, 6, 3)
    h = conv(p["Conv_1"], relu(conv(p["Conv_0"], np.float64(x), 2)), 2)
    h = conv(p["Conv_2"], relu(h)) if extra else h
    h = residual(p["Residual_1"], residual(p["Residual_0"], h))
    wanted = dense(p["Dense_0"], relu(h)).reshape(2, 2, 3, G, D)
    found = jax.jit(net.apply)({"params": p}, x)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    one = Encoder(1, 6, 0, 0, 1, D)  # next to the image and the last
    assert lively(one, x)["Conv_0"]["kernel"].shape == (4, 4, 2, 6)


def test_the_decoder():
    e = normal(2, 2, 3, G, D)
    net = Decoder((7, 10), 2, 6, 2, 3, 4)
    p = lively(net, e)
    h = conv(p["Conv_0"], np.float64(e).reshape(2, 2, 3, G * D))
    h = residual(p["Residual_1"], residual(p["Residual_0"], h))
    for i, (features, rows, columns) in enumerate([(3, 4, 5), (4, 7, 10)]):
        up = nets.Upsample(features).apply({"params": p[f"Upsample_{i}"]}, jnp.float32(relu(h)))
        h = np.float64(up)[:, :rows, :columns]
    found = jax.jit(net.apply)({"params": p}, e)
    np.testing.assert_allclose(found, h, rtol=1e-4, atol=1e-4)


def begun(config):
    """A model, a state with lively networks, and a batch."""
    model = vqvae.make(config, SPEC)
    state = jax.eval_shape(model.init, jax.random.key(0))
    rng = np.random.default_rng(4)
    draw = lambda s: jnp.asarray(0.4 * rng.normal(size=s.shape), s.dtype)
    state = state.replace(step=jnp.int32(1), params=jax.tree.map(draw, state.params),
                          extra=jax.tree.map(draw, state.extra))  # fmt: skip
    x = jnp.asarray(rng.integers(0, 2, (3, *SHAPE)), jnp.float32)
    return model, state, {"image": x, "index": jnp.arange(3)}


def codes(p, table, x):
    """z_e, k and z_q by looking at every row."""
    net = Encoder(TINY.halvings, TINY.conv_width, TINY.conv_blocks, 0, G, D)
    z_e = np.float64(net.apply({"params": p["enc"]}, x))
    table = np.float64(table)
    k = np.square(z_e[..., None, :] - table).sum(-1).argmin(-1)
    return z_e, k, np.stack([table[g][k[..., g]] for g in range(G)], axis=-2)


def prior_rate(p, k):
    logits = CodePrior(K, G, 4, 2).apply({"params": p}, jnp.asarray(k, jnp.int32))
    log_p = jax.nn.log_softmax(logits)
    return -sum(log_p[(slice(None), *at)][np.arange(len(k)), k[(slice(None), *at)]]
                for at in np.ndindex(k.shape[1:]))  # fmt: skip


@pytest.mark.parametrize("distances", ["mean", "sum"])
def test_what_an_image_costs(distances):
    model, state, batch = begun(dataclasses.replace(TINY, distances=distances))
    found = jax.jit(model.evaluate)(state, batch, jax.random.key(1))
    z_e, k, z_q = codes(state.params, state.extra["table"], batch["image"])
    net = Decoder(SHAPE[:2], TINY.halvings, TINY.conv_width, TINY.conv_blocks, 0, 1)
    out = np.float64(net.apply({"params": state.params["dec"]}, jnp.float32(z_q)))
    x = np.float64(batch["image"])
    distortion = (np.logaddexp(0, out) - x * out).sum((1, 2, 3))
    squares = np.square(1 / (1 + np.exp(-out)) - x).sum((1, 2, 3)) / 16
    gaps = np.square(z_e - z_q).sum(-1).mean((1, 2, 3)) / (D if distances == "mean" else 1)
    rate = prior_rate(state.params["prior"], k)
    wanted = {"distortion": distortion, "squared_error": squares, "commitment": gaps}
    wanted |= {"rate": rate, "loss": rate + distortion, "rate_uniform": [4 * G * math.log(K)] * 3}
    assert found.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-4, err_msg=name)
    assert np.ptp(np.float64(rate)) > 0.1


def test_the_prior_learns_the_codes_that_images_have_after_the_step(monkeypatch):
    """Its gradient, by hand, at the codebook that the step leaves behind."""
    keep = optax.GradientTransformation(
        lambda p: jax.tree.map(jnp.zeros_like, p),
        lambda g, s, p: (jax.tree.map(jnp.zeros_like, g), g),
    )
    monkeypatch.setattr(vqvae.model, "adam", lambda *_: keep)
    model, state, batch = begun(TINY)
    opt = {"autoencoder": {n: state.params[n] for n in ("enc", "dec")},
           "prior": {"prior": state.params["prior"]}}  # fmt: skip
    state = state.replace(step=jnp.int32(0), opt=opt)  # the codebook begins
    after, metrics = jax.jit(model.step)(state, batch, jax.random.key(2))
    (_, old, _), (_, k, _) = (
        codes(state.params, s.extra["table"], batch["image"]) for s in (state, after)
    )
    assert (old != k).any()
    mean_rate = lambda p: jnp.mean(prior_rate(p, k))
    rate, grad = jax.value_and_grad(mean_rate)(state.params["prior"])
    np.testing.assert_allclose(metrics["prior"], rate, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        after.opt["prior"]["prior"], grad,
    )  # fmt: skip


@pytest.fixture
def functions_of(monkeypatch):
    """The functions that differ between kinds of data, and the optimisers."""
    monkeypatch.setattr(vqvae.model, "assemble", lambda config, functions, tx: (functions, tx))
    return vqvae.make


@pytest.mark.parametrize(
    ("likelihood", "levels", "is_mass"),
    [("bernoulli", 2, True), ("bernoulli", 17, False), ("gaussian", 17, False),
     ("categorical", 17, True), ("logistic_mixture", 17, True)],
)  # fmt: skip
def test_bits_have_a_meaning_for_probabilities_only(functions_of, likelihood, levels, is_mass):
    spec = SPEC._replace(levels=levels)
    functions, _ = functions_of(dataclasses.replace(TINY, likelihood=likelihood), spec)
    assert functions.is_mass == is_mass
    assert (functions.dims, functions.size, functions.needs_label) == (16, (2, 2), False)


def test_each_player_has_its_own_rate(functions_of, monkeypatch):
    monkeypatch.setattr(vqvae.model, "adam", lambda *about: about)
    config = dataclasses.replace(TINY, learning_rate=0.1, decay_steps=7,
                                 prior_learning_rate=0.2, prior_decay_steps=9)  # fmt: skip
    _, tx = functions_of(config, SPEC)
    assert tx == {"autoencoder": (0.1, 7), "prior": (0.2, 9)}


@pytest.mark.parametrize(("likelihood", "start"), [("bernoulli", math.log(0.3 / 0.7)),
                                                   ("categorical", 0.0)])  # fmt: skip
def test_the_decoder_begins_at_the_mean_image_or_knows_nothing(functions_of, likelihood, start):
    functions, _ = functions_of(dataclasses.replace(TINY, likelihood=likelihood), SPEC)
    bias = jax.jit(functions.init)(jax.random.key(0))["dec"]["Upsample_0"]["bias"]
    np.testing.assert_allclose(bias, start, rtol=1e-5)


# -- advice on unused codes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("used", "restart", "remedy"),
    [(0.25, 0.0, f"take --restart {USUAL}"), (0.25, USUAL, "take --codes 16"),
     (0.334, 0.0, None), (1.0, 0.0, None)],
)  # fmt: skip
def test_unused_codes_give_advice(used, restart, remedy):
    """Under a third of 64 codes; the default of restart where there is less, else fewer codes."""
    config = dataclasses.replace(TINY, codes=64, restart=restart)
    lines = vqvae.make(config, SPEC).advise({"codes_used_train": used, "codes_used_test": 0.1})
    assert len(lines) == (remedy is not None)
    for line in lines:
        assert line.startswith("the training images use 25% of the 64 codes: " + remedy)


def test_a_third_is_enough():
    assert not code_usage.advise({"codes_used_train": 1 / 3}, 6, 0.0, USUAL)
    assert code_usage.advise({"codes_used_train": 0.33}, 6, 0.0, USUAL)
