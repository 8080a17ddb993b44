"""NVAE's cells and towers once more in numpy, in float64, as the card (section 3) states them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from jaxae.models import nvae
from jaxae.models.nvae.cells import (
    DecoderCell,
    Depthwise,
    EncoderCell,
    FlowCell,
    SkipDown,
    SqueezeExcite,
)
from jaxae.models.nvae.networks import Hierarchy, Layout, Normal
from jaxae.training.state import Spec


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def lively(module, *inputs, **how):
    """Variables that no start at zero or one hides."""
    found = jax.eval_shape(lambda: module.init(jax.random.key(0), *inputs, **how))
    rng = np.random.default_rng(5)
    draw = lambda s: jnp.asarray(0.5 * rng.normal(size=s.shape), jnp.float32)
    params = jax.tree.map(draw, found["params"])
    stats = jax.tree.map(lambda s: 0.5 + jnp.abs(draw(s)), found.get("batch_stats", {}))
    return {"params": params, "batch_stats": stats}


def in_numpy(variables):
    to = functools.partial(jax.tree.map, np.float64)
    return to(variables["params"]), to(variables["batch_stats"])


# -- the layers ------------------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def swish(x):
    return x * sigmoid(x)


def elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def shifted(x, rows, columns):
    """What stands so many rows below and columns right of each place; zero beyond the edge."""
    reach = 4
    wide = np.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    height, width = x.shape[1:3]
    top, left = reach + rows, reach + columns
    return wide[:, top : top + height, left : left + width]


def conv(p, x, stride=1, mask=1.0):
    w = p["kernel"] * mask
    if "log_gain" in p:
        w = np.exp(p["log_gain"]) * w / (np.sqrt(np.square(w).sum((0, 1, 2))) + 1e-5)
    k, _, _, out = w.shape
    y = np.zeros((*x.shape[:3], out))
    for i, j in np.ndindex(k, k):
        y += shifted(x, i - k // 2, j - k // 2) @ w[i, j]
    return y[:, ::stride, ::stride] + p.get("bias", 0.0)


def depthwise(p, x, causal=False):
    w = p["kernel"][:, :, 0].copy()
    if causal:
        w[2, 3:], w[3:] = 0, 0
    if "log_gain" in p:
        w *= np.exp(p["log_gain"]) / (np.sqrt(np.square(w).sum((0, 1))) + 1e-5)
    return sum(shifted(x, i - 2, j - 2) * w[i, j] for i, j in np.ndindex(5, 5)) + p.get("bias", 0.0)


def normalised(p, s, x, number):
    name = f"BatchNorm_{number}"
    scaled = (x - s[name]["mean"]) / np.sqrt(s[name]["var"] + 1e-5)
    return scaled * p[name]["scale"] + p[name]["bias"]


def gated(p, x):
    first, second = p["SqueezeExcite_0"]["Dense_0"], p["SqueezeExcite_0"]["Dense_1"]
    h = np.maximum(x.sum((1, 2)) / x[0, :, :, 0].size @ first["kernel"] + first["bias"], 0)
    return x * sigmoid(h @ second["kernel"] + second["bias"])[:, None, None]


def doubled(x):
    """Linear between the old places, which are the corners and what lies evenly between them."""
    for axis in (1, 2):
        old = np.arange(x.shape[axis])
        new = np.linspace(0, old[-1], 2 * len(old))
        x = np.apply_along_axis(lambda v, new=new, old=old: np.interp(new, old, v), axis, x)
    return x


def skip_down(p, x):
    """Four convolutions of the pixels at the even and odd rows and columns."""
    x = swish(x)
    phases = (x[:, ::2, ::2], x[:, 1::2, 1::2], x[:, ::2, 1::2], x[:, 1::2, ::2])
    return np.concatenate([conv(p[f"Conv_{i}"], phase) for i, phase in enumerate(phases)], axis=-1)


def encoder_cell(p, s, x, down=False):
    h = conv(p["Conv_0"], swish(normalised(p, s, x, 0)), stride=2 if down else 1)
    h = conv(p["Conv_1"], swish(normalised(p, s, h, 1)))
    return (skip_down(p["SkipDown_0"], x) if down else x) + 0.1 * gated(p, h)


def decoder_cell(p, s, x, up=False):
    h = x.repeat(2, axis=1).repeat(2, axis=2) if up else x
    h = conv(p["Conv_0"], normalised(p, s, h, 0))
    h = depthwise(p["Depthwise_0"], swish(normalised(p, s, h, 1)))
    h = normalised(p, s, conv(p["Conv_1"], swish(normalised(p, s, h, 2))), 3)
    return (conv(p["Conv_2"], doubled(x)) if up else x) + 0.1 * gated(p, h)


def flow_cell(p, z, mirrored):
    """Six features for the shift of each channel, from what comes before it."""
    if mirrored:
        return flow_cell(p, z[:, ::-1, ::-1, ::-1], False)[:, ::-1, ::-1, ::-1]
    channels = z.shape[-1]
    before, upto = np.ones((3, 3, channels, 6 * channels)), np.zeros((channels * 6, channels))
    for i, j, source, feature in np.ndindex(before.shape):
        serves = feature // 6
        if (i, j) > (1, 1) or ((i, j) == (1, 1) and source >= serves):
            before[i, j, source, feature] = 0
        upto[feature, serves:] = 1
    h = elu(conv(p["Conv_0"], z, mask=before))
    h = elu(depthwise(p["Depthwise_0"], h, causal=True))
    return z - conv(p["Conv_1"], h, mask=upto)


# -- the towers ------------------------------------------------------------------------------------


def bottom_up(p, s, x, lay):
    """Features for each group, coarse to fine."""
    h, found = conv(p["stem"], 2 * x - 1), []
    for i in range(lay.blocks * lay.block_cells):
        name = f"blocks_{i}"
        h = encoder_cell(p[name], s[name], h, down=(i + 1) % lay.block_cells == 0)
    used = 0
    for down, count in enumerate(reversed(lay.groups)):
        if down:
            h = encoder_cell(p[f"downs_{down - 1}"], s[f"downs_{down - 1}"], h, down=True)
        for _ in range(count):
            for name in [f"tower_{used + i}" for i in range(lay.cells)]:
                h = encoder_cell(p[name], s[name], h)
            used += lay.cells
            found.append(h)
    found[-1] = elu(conv(p["top"], elu(h)))
    return found[::-1]


def bounded(raw_mean, raw_log):
    return 5 * np.tanh(raw_mean / 5), np.exp(5 * np.tanh(raw_log / 5)) + 0.01


def top_down(params, stats, x, noise, lay, residual, flows):
    """Outputs, and for each group z_0, z and the means and deviations of posterior and prior."""
    p, s = params["dec"], stats["dec"]
    features = bottom_up(params["enc"], stats["enc"], x, lay)
    h, groups = np.stack([p["start"]] * len(x)), []
    starts = np.cumsum(lay.groups)[:-1]  # the first groups of the finer scales
    for group, eps in enumerate(noise):
        raw = np.zeros((*eps.shape[:3], 2 * lay.latent))
        features_and_h = features[group]
        if group:
            for name in [f"cells_{group - 1}_{i}" for i in range(lay.cells)]:
                h = decoder_cell(p[name], s[name], h)
            raw = conv(p[f"priors_{group - 1}"], elu(h))
            features_and_h = features_and_h + conv(params["enc"][f"joins_{group - 1}"], h)
        features_and_h = conv(params["enc"][f"heads_{group}"], features_and_h) + (
            raw if residual else 0
        )
        prior, posterior = (bounded(*np.split(each, 2, axis=-1)) for each in (raw, features_and_h))
        z = z_0 = posterior[0] + posterior[1] * eps
        for i in range(2 * flows):
            z = flow_cell(p[f"flow_cells_{group}_{i}"], z, mirrored=i % 2 == 1)
        groups.append((z_0, z, posterior, prior))
        h = conv(p[f"absorbers_{group}"], np.concatenate([h, z], axis=-1))
        if group + 1 in starts:
            up = f"ups_{list(starts).index(group + 1)}"
            h = decoder_cell(p[up], s[up], h, up=True)
    for i in range(lay.blocks * lay.block_cells):
        name = f"blocks_{i}"
        h = decoder_cell(p[name], s[name], h, up=i % lay.block_cells == 0)
    return conv(p["out"], elu(h)), groups


NORMALISED = {"kernel", "log_gain", "bias"}


def kept_by(variables):
    """The parameters of each layer of a cell, but for batch norms and gates."""
    plain = ("BatchNorm", "SqueezeExcite", "SkipDown")
    return {n: set(p) for n, p in variables["params"].items() if not n.startswith(plain)}


# -- the tests -------------------------------------------------------------------------------------


def test_each_phase_of_the_pixels_has_a_quarter_of_the_channels_of_a_halved_skip():
    """An image that is zero but for one phase is read by that phase's convolution alone."""
    x = normal(1, 6, 4, 5)  # of five channels come ten: 2, 2, 2 and the four that are left
    variables = lively(SkipDown(), x)
    for i in range(4):
        variables["params"][f"Conv_{i}"]["bias"] *= 0
    ends = np.cumsum([0, 2, 2, 2, 4])
    for part, (row, column) in enumerate([(0, 0), (1, 1), (0, 1), (1, 0)]):
        alone = jnp.zeros_like(x).at[:, row::2, column::2].set(x[:, row::2, column::2])
        y = SkipDown().apply(variables, alone)
        assert y.shape == (1, 3, 2, 10)
        own = y[..., ends[part] : ends[part + 1]]
        p, _ = in_numpy(variables)
        pixels = swish(np.float64(x[:, row::2, column::2]))
        np.testing.assert_allclose(own, conv(p[f"Conv_{part}"], pixels), rtol=1e-4, atol=1e-6)
        assert np.count_nonzero(y) == np.count_nonzero(own) == own.size


@pytest.mark.parametrize("down", [False, True])
def test_an_encoder_cell(down):
    x, cell = normal(2, 4, 6, 4), EncoderCell(0.95, down)
    variables = lively(cell, x, False, None)
    assert kept_by(variables) == {"Conv_0": NORMALISED, "Conv_1": NORMALISED}
    result = jax.jit(lambda v, x: cell.apply(v, x, False, None))(variables, x)
    wanted = encoder_cell(*in_numpy(variables), np.float64(x), down)
    np.testing.assert_allclose(result, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("up", [False, True])
def test_a_decoder_cell(up):
    x, cell = normal(2, 2, 3, 4), DecoderCell(3, 0.95, up)
    variables = lively(cell, x, False, None)
    bare = {name: {"kernel"} for name in ("Conv_0", "Depthwise_0", "Conv_1")}
    assert kept_by(variables) == bare | ({"Conv_2": NORMALISED} if up else {})
    result = jax.jit(lambda v, x: cell.apply(v, x, False, None))(variables, x)
    wanted = decoder_cell(*in_numpy(variables), np.float64(x), up)
    np.testing.assert_allclose(result, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [EncoderCell, DecoderCell])
def test_in_training_a_cell_sees_its_batch_and_moves_its_averages_by_a_twentieth(kind):
    x = normal(3, 2, 4, 4)
    cell = kind(0.95) if kind is EncoderCell else kind(3, 0.95)
    variables = lively(cell, x, False, None)
    first = variables["batch_stats"]["BatchNorm_0"]
    y, left = jax.jit(lambda v, x: cell.apply(v, x, True, None, mutable=["batch_stats"]))(
        variables, x
    )
    pixels = np.float64(x).reshape(-1, 4)
    after = left["batch_stats"]["BatchNorm_0"]
    for name, batch in (("mean", pixels.mean(0)), ("var", pixels.var(0))):
        wanted = 0.95 * np.float64(first[name]) + 0.05 * batch
        np.testing.assert_allclose(after[name], wanted, rtol=1e-4, atol=1e-6)
    # With a cell whose averages are the batch's, evaluation is what training was.
    once = kind(0.0) if kind is EncoderCell else kind(3, 0.0)
    own = once.apply(variables, x, True, None, mutable=["batch_stats"])[1]
    again = cell.apply(variables | own, x, False, None)
    np.testing.assert_allclose(y, again, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_flow_cell(mirrored):
    z, cell = normal(2, 3, 4, 3), FlowCell(mirrored)
    variables = lively(cell, z)
    assert kept_by(variables) == dict.fromkeys(("Conv_0", "Depthwise_0", "Conv_1"), NORMALISED)
    result = jax.jit(cell.apply)(variables, z)
    wanted = flow_cell(in_numpy(variables)[0], np.float64(z), mirrored)
    np.testing.assert_allclose(result, wanted, rtol=1e-4, atol=1e-5)


def test_a_flow_begins_with_shifts_of_a_tenth():
    """The lengths of kernels at the start: one, and a tenth where a flow's shift is computed."""
    z = normal(1, 3, 3, 2)
    started = FlowCell().init(jax.random.key(0), z)["params"]
    gains = {name: np.exp(part["log_gain"]) for name, part in started.items()}
    np.testing.assert_allclose(gains["Conv_0"], 1, rtol=1e-6)
    np.testing.assert_allclose(gains["Depthwise_0"], 1, rtol=1e-6)
    np.testing.assert_allclose(gains["Conv_1"], 0.1, rtol=1e-6)


@pytest.mark.parametrize("form", ["lax", "matrix"])
def test_a_depthwise_convolution_with_all_its_options(form):
    x = normal(2, 4, 7, 3)
    for causal in (False, True):
        layer = Depthwise(form, causal, bias=causal, normalised=causal)
        variables = lively(layer, x)
        wanted = depthwise(in_numpy(variables)[0], np.float64(x), causal)
        np.testing.assert_allclose(layer.apply(variables, x), wanted, rtol=1e-4, atol=1e-5)


def test_a_gate_has_a_sixteenth_of_the_channels_and_at_least_four():
    for channels, inner in ((8, 4), (64, 4), (96, 6)):
        found = SqueezeExcite().init(jax.random.key(0), jnp.zeros((1, 1, 1, channels)))["params"]
        assert found["Dense_0"]["kernel"].shape == (channels, inner)
        assert found["Dense_1"]["kernel"].shape == (inner, channels)


def test_bounds_and_floor_of_a_groups_normal():
    raw = np.float32([-30.0, -3.0, 0.0, 0.5, 4.0, 30.0])
    found = Normal(jnp.asarray(raw), jnp.asarray(raw))
    mean, deviation = bounded(np.float64(raw), np.float64(raw))
    np.testing.assert_allclose(found.mean, mean, rtol=1e-5)
    np.testing.assert_allclose(found.deviation, deviation, rtol=1e-5)


LAYOUTS = {  # image 6 x 9 within 8 x 12: one row above and below, one column left and two right
    "relative": (nvae.Config(groups=(1, 2), latent=2, width=2, blocks=1, block_cells=2), 0),
    "absolute": (
        nvae.Config(groups=(2, 1), latent=1, width=2, blocks=1, block_cells=1, cells=2,
                    residual=False, flows=1),
        1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", LAYOUTS)
def test_the_whole_network_from_image_to_likelihood(kind, monkeypatch):
    config, flows = LAYOUTS[kind]
    mean = np.linspace(0.1, 0.9, 54, dtype=np.float32).reshape(6, 9, 1)
    spec = Spec((6, 9, 1), size=8, classes=0, levels=2, mean=mean)
    model = nvae.make(config, spec)
    lay = Layout((8, 12, 1), config.groups, config.latent, 2, 1, config.block_cells, config.cells)
    noise = [normal(2, *shape, seed=i) for i, shape in enumerate(lay.code_shapes())]
    variables = lively(
        Hierarchy(lay, 1, config.residual, flows), jnp.zeros((2, *lay.image)), noise,
        method="infer",
    )  # fmt: skip
    state = jax.eval_shape(model.init, jax.random.key(0))
    assert jax.tree.structure(state.params) == jax.tree.structure(variables["params"])
    state = state.replace(params=variables["params"], extra={"stats": variables["batch_stats"]})
    x = jnp.asarray(np.random.default_rng(9).integers(0, 2, (2, 6, 9, 1)), jnp.float32)
    draws = iter(noise * 2)
    monkeypatch.setattr(jax.random, "normal", lambda rng, shape: next(draws))
    monkeypatch.setattr(jax.random, "bernoulli", lambda rng, p: p)

    @jax.jit
    def both(params, extra, x):
        now = state.replace(params=params, extra=extra)
        other = model.log_weight if flows else model.daydream
        one, two = jax.random.split(jax.random.key(0))
        return model.evaluate(now, {"image": x}, one), other(now, x, two)

    found, other = both(state.params, state.extra, x)
    assert next(draws, None) is None
    padded = np.zeros((2, 8, 12, 1))
    padded[:, 1:7, 1:10] = x
    args = in_numpy(variables)
    out, groups = top_down(*args, padded, [np.float64(n) for n in noise], lay,
                           config.residual, flows)  # fmt: skip
    out, pixels = out[:, 1:7, 1:10], np.float64(x)
    distortion = (np.logaddexp(0, out) - pixels * out).sum((1, 2, 3))
    rates, gain = [], 0.0
    for z_0, z, (m, d), (m_p, d_p) in groups:
        sampled = (norm(m, d).logpdf(z_0) - norm(m_p, d_p).logpdf(z)).sum((1, 2, 3))
        exact = np.log(d_p / d) + (d**2 + (m - m_p) ** 2) / (2 * d_p**2) - 0.5
        rates.append(sampled if flows else exact.sum((1, 2, 3)))
        gain -= sampled
    close = functools.partial(np.testing.assert_allclose, rtol=2e-4)
    close(found["distortion"], distortion)
    for number, rate in enumerate(rates):
        close(found[f"rate_{number:02d}"], rate, atol=1e-4)
    close(found["rate"], sum(rates), atol=1e-4)
    close(found["loss"], sum(rates) + distortion, atol=1e-4)
    close(other, gain - distortion if flows else sigmoid(out), atol=1e-4)
