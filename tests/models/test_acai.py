"""ACAI against the paper: networks, the critic's arithmetic, the methods it is compared with.

That each player moves by the gradient of its own loss is in `test_players`, which takes the losses
of `acai` and `acai aae` from `oracles`; here are the other methods' losses, written once more.
"""

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from scipy.signal import correlate2d
from scipy.stats import norm

from jaxae.models import acai
from jaxae.models.acai.networks import Critic, Decoder, Encoder
from jaxae.nets.conv import upsample_nearest
from jaxae.training import Spec

DATA = tiny.images()
BATCH = DATA.train.batch(0, 0, 6)
X = 2 * np.float64(BATCH["image"]) - 1
ROUNDING = 1e-9  # of what is computed in float64, where it leaves some 1e-15 of a sum's terms
TINY = {"depth": 2, "channels": 2, "codes": 5, "slots": 3, "slot_width": 2, "hidden": 4,
        "scales": 1, "prior_widths": (4,)}  # fmt: skip


def key(seed=7):
    return jax.random.key(seed)


def made(method, **fields):
    return acai.make(acai.Config(method=method, **TINY | fields), DATA.spec)


def bare(method, **fields):
    """The linen modules, by name, as `run(p, name, x)`."""
    modules = acai.model.build_networks(
        acai.Config(method=method, **TINY | fields), DATA.spec
    ).networks
    return lambda p, name, x: modules[name].apply({"params": p[name]}, x)


@tiny.x64()
def one_step(method, params=None, **fields):
    """State before and after a step of plain descent at rate 1, metrics, and what was drawn.

    All in float64.
    """
    draws = []

    def noted(true):
        def draw(*args, **kwargs):
            draws.append(true(*args, **kwargs))
            return draws[-1]

        return draw

    @jax.jit
    def step(state):
        with (
            mock.patch.object(jax.random, "normal", noted(jax.random.normal)),
            mock.patch.object(jax.random, "uniform", noted(jax.random.uniform)),
        ):
            return *model.step(state, tiny.in_float64(BATCH), key()), draws

    with mock.patch.object(acai.model, "adam", side_effect=lambda *_: optax.sgd(1.0)):
        model = made(method, **fields)
    state = tiny.in_float64(jax.jit(model.init)(key(3)))
    state = state if params is None else state.replace(params=params)
    return state, *step(state)


def after_descent(loss, params):
    """The loss, and the parameters after a step down its slope at rate 1."""
    value, slope = jax.jit(jax.value_and_grad(loss))(params)
    return float(value), jax.tree.map(lambda p, g: p - g, params, slope)


# -- networks --------------------------------------------------------------------------------------

COUNTS = [  # scales, depth, channels, colours; parameters of encoder, decoder, critic as published
    ((4, 16, 16, 1), (627_472, 313_985)),
    ((3, 16, 2, 1), (150_146, 75_265)),
    ((3, 16, 16, 1), (166_288, 83_329)),
    ((3, 64, 16, 3), (2_434_704, 1_219_203)),
    ((3, 64, 2, 3), (2_370_178, 1_186_947)),
    ((3, 64, 64, 3), (2_655_936, 1_329_795)),
]


@pytest.mark.parametrize(("size", "wanted"), COUNTS)
def test_networks_have_the_published_number_of_parameters(size, wanted):
    scales, depth, channels, colours = size
    spec = Spec((32, 32, colours), 8, 0, 256, np.zeros((32, 32, colours)))
    model = acai.make(acai.Config(scales=scales, depth=depth, channels=channels), spec)
    params = jax.eval_shape(model.init, key()).params
    count = lambda name: sum(leaf.size for leaf in jax.tree.leaves(params[name]))
    assert (count("enc"), count("dec"), count("critic")) == (*wanted, wanted[0])


def test_shapes_of_codes_and_pictures():
    for scales, width in ((4, 2), (3, 4), (1, 16)):
        x, h = jnp.zeros((2, 32, 32, 3)), jnp.zeros((2, width, width, 5))
        shape = lambda module, x: (
            jax.eval_shape(lambda key, x: module.init_with_output(key, x)[0], key(), x).shape
        )
        assert shape(Encoder(scales, 2, 5), x) == h.shape
        assert shape(Decoder(scales, 2, 3), h) == x.shape
        assert shape(Critic(scales, 2, 5), x) == (2,)


def test_kernels_start_with_the_published_variance():
    params = jax.jit(Encoder(1, 64, 64).init)(key(), jnp.zeros((1, 4, 4, 3)))["params"]
    for name, fan_in in (("Conv_1", 9 * 64), ("Conv_3", 9 * 64)):
        kernel = np.asarray(params[name]["kernel"])
        wanted = 1 / ((1 + 0.2**2) * fan_in)
        assert kernel.var() == pytest.approx(wanted, rel=5 * np.sqrt(2 / kernel.size))
        # Not truncated: a normal of 36,864 draws reaches past three deviations.
        beyond = np.mean(np.abs(kernel) > 2.5 * np.sqrt(wanted))
        assert beyond == pytest.approx(2 * norm.sf(2.5), abs=5 * np.sqrt(0.0124 / kernel.size))
        assert not np.asarray(params[name]["bias"]).any()


def test_an_encoder_by_hand():
    """One scale, one channel, centre taps only: leaky, leaky, average, leaky, linear."""
    encoder = Encoder(1, 1, 1)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 2, 2, 1)), jnp.float32)
    params = encoder.init(key(), x)["params"]
    taps = {"Conv_0": 2.0, "Conv_1": -1.5, "Conv_2": 0.5, "Conv_3": 3.0, "Conv_4": -4.0}
    for name, tap in taps.items():
        kernel = np.zeros_like(params[name]["kernel"])
        kernel[kernel.shape[0] // 2, kernel.shape[1] // 2, 0] = tap
        params[name]["kernel"] = jnp.asarray(kernel)
    leaky = lambda v: np.where(v > 0, v, 0.2 * v)
    mean = leaky(0.5 * leaky(-1.5 * 2.0 * np.asarray(x))).mean()
    found = encoder.apply({"params": params}, x)
    np.testing.assert_allclose(found.reshape(()), -4.0 * leaky(3.0 * mean), rtol=1e-5)


def random_params(module, x):
    rng = np.random.default_rng(1)
    draw = lambda v: jnp.asarray(rng.normal(size=v.shape), jnp.float32)
    return jax.tree.map(draw, module.init(key(), x)["params"])


def convolved(params, number, x):
    """`[H,W,C]` by scipy, with zeros around it."""
    layer = jax.tree.map(lambda v: np.asarray(v, np.float64), params[f"Conv_{number}"])
    kernel = layer["kernel"]
    planes = [sum(correlate2d(x[..., i], kernel[:, :, i, o], "same")
                  for i in range(kernel.shape[2])) for o in range(kernel.shape[3])]  # fmt: skip
    return np.stack(planes, -1) + layer["bias"]


def test_a_decoder_doubles_after_its_convolutions():
    decoder = Decoder(2, 1, 1)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 2, 2, 2)), jnp.float32)
    params, h = random_params(decoder, x), np.asarray(x[0], np.float64)
    leaky = lambda v: np.where(v > 0, v, 0.2 * v)
    for first, width in ((0, 2), (2, 1)):
        for number in (first, first + 1):
            h = leaky(convolved(params, number, h))
            assert h.shape[-1] == width
        h = h.repeat(2, axis=0).repeat(2, axis=1)
    wanted = convolved(params, 5, leaky(convolved(params, 4, h)))
    assert wanted.shape == (8, 8, 1)
    found = decoder.apply({"params": params}, x)[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


def test_a_critics_judgement_is_the_mean_of_its_map():
    critic = Critic(1, 1, 2)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 4, 1)), jnp.float32)
    params = random_params(critic, x)
    found = critic.apply({"params": params}, x)
    assert found.shape == (2,)
    leaky = lambda v: np.where(v > 0, v, 0.2 * v)
    for image, judgement in zip(np.asarray(x, np.float64), found, strict=True):
        h = convolved(params["Encoder_0"], 0, image)
        for number in (1, 2):
            h = leaky(convolved(params["Encoder_0"], number, h))
        h = h.reshape(2, 2, 2, 2, 1).mean((1, 3))
        h = convolved(params["Encoder_0"], 4, leaky(convolved(params["Encoder_0"], 3, h)))
        assert h.shape == (2, 2, 2)
        np.testing.assert_allclose(judgement, h.mean(), rtol=1e-4)


def test_doubling_repeats_pixels():
    x = np.arange(12, dtype=np.float32).reshape(1, 2, 3, 2)
    wanted = x.repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_array_equal(upsample_nearest(jnp.asarray(x)), wanted)


# -- frames ----------------------------------------------------------------------------------------


def test_images_stand_in_the_middle_of_a_black_frame():
    config = acai.Config(scales=3, side=10)
    frame = acai.model._frame(config, Spec((9, 8, 1), 8, 0, 17, np.zeros((9, 8, 1))))
    image = jnp.asarray(np.random.default_rng(0).uniform(size=(2, 9, 8, 1)), jnp.float32)
    framed = np.asarray(frame.pad(image))
    assert framed.shape == (2, 16, 16, 1)
    np.testing.assert_allclose(framed[:, 3:12, 4:12], 2 * np.asarray(image) - 1, atol=1e-6)
    assert (framed.sum() - framed[:, 3:12, 4:12].sum()) == -(2 * 256 - 2 * 72)
    np.testing.assert_allclose(frame.crop(frame.pad(image)), 2 * np.asarray(image) - 1, atol=1e-6)


def test_loss_is_half_the_squared_error_on_the_unit_interval():
    model = made("acai", side=12)
    state = jax.jit(model.init)(key())
    found = jax.jit(model.evaluate)(state, BATCH, key())
    back = jax.jit(model.decode)(state, jax.jit(model.encode)(state, BATCH["image"], key()), key())
    square = np.square(np.asarray(back) - np.asarray(BATCH["image"]))
    np.testing.assert_allclose(found["loss"], square.sum((1, 2, 3)) / 2, rtol=1e-5)
    np.testing.assert_allclose(found["mse"], 4 * square.mean((1, 2, 3)), rtol=1e-5)


# -- the two players -------------------------------------------------------------------------------


def test_shares_are_uniform_up_to_a_half():
    alpha = np.asarray(acai.model.sample_interpolation(key(), 10**6), np.float64)
    assert 0 <= alpha.min() < alpha.max() <= 0.5
    # Var(alpha) = 1/48, Var(alpha^2) = 1/80 - 1/144.
    assert alpha.mean() == pytest.approx(1 / 4, abs=5 * np.sqrt(1 / 48 / 1e6))
    assert np.square(alpha).mean() == pytest.approx(1 / 12, abs=5 * np.sqrt(1 / 180 / 1e6))


def autoencoder_of(critic):
    """Networks of which only the critic is more than the identity."""
    enc = lambda p, x: x.reshape(x.shape[0], -1)
    dec = lambda p, z: z.reshape(z.shape[0], 2, 1, 1)
    return acai.model.Autoencoder(enc, dec, lambda p, name, x: critic(p, x), lambda back, x: {}, 2)


def losses_of(critic, x, alpha, p=None, **fields):
    method = acai.model.make_acai(acai.Config(**fields), autoencoder_of(critic))
    player_losses = method.player_losses(x, alpha, None)
    return {name: float(loss(p, {})[0]) for name, loss in player_losses.items()}


@tiny.x64()  # a mean of a million numbers
def test_a_constant_critic_pays_what_algebra_says():
    alpha = acai.model.sample_interpolation(key(), 10**6)
    x = jnp.zeros((10**6, 2, 1, 1))
    for c in (0.0, 0.125, 0.4):
        found = losses_of(lambda p, x, c=c: jnp.full(x.shape[0], c), x, alpha)
        # Var((c - alpha)^2) is at most 1/16 for these c.
        assert found["critic"] == pytest.approx(1 / 12 - c / 2 + 2 * c * c, abs=5 * 0.25e-3)
        assert found["autoencoder"] == pytest.approx(0.5 * c * c, rel=ROUNDING)


def test_mixtures_and_the_blended_second_term_by_hand():
    """Two images of two pixels; the critic sums pixels; the decoder halves what it is given."""
    x = jnp.asarray([[1.0, 3.0], [5.0, -2.0]]).reshape(2, 2, 1, 1)
    alpha = jnp.asarray([0.25, 0.5])
    autoencoder = autoencoder_of(lambda p, x: jnp.sum(x, axis=(1, 2, 3)))
    autoencoder = autoencoder._replace(decode=lambda p, z: 0.5 * z.reshape(-1, 2, 1, 1))
    for gamma in (0.0, 0.2, 1.0):
        method = acai.model.make_acai(acai.Config(gamma=gamma, weight=0.3), autoencoder)
        player_losses = method.player_losses(x, alpha, None)
        sums = np.array([4.0, 3.0])
        mixed = 0.5 * np.array([0.25 * 4 + 0.75 * 3, 0.5 * 3 + 0.5 * 4])
        unmixed = gamma * sums + (1 - gamma) * 0.5 * sums
        critic = np.mean((mixed - [0.25, 0.5]) ** 2) + np.mean(unmixed**2)
        error = 0.25 * np.mean([1, 9, 25, 4])
        assert float(player_losses["critic"](None, {})[0]) == pytest.approx(critic, rel=1e-6)
        assert float(player_losses["autoencoder"](None, {})[0]) == pytest.approx(
            error + 0.3 * np.mean(mixed**2), rel=1e-6
        )


def test_without_weight_the_autoencoder_moves_as_the_baseline():
    before, ours, _, _ = one_step("acai", weight=0.0)
    params = {name: before.params[name] for name in ("enc", "dec")}
    _, theirs, _, _ = one_step("baseline", params)
    ours = {name: ours.params[name] for name in params}
    tiny.assert_close(ours, theirs.params, ROUNDING, ROUNDING)


def test_both_players_move_from_where_the_step_began_or_in_turn():
    together, in_turn = (one_step("acai", simultaneous=s)[1].params for s in (True, False))
    tiny.assert_same_bits({n: together[n] for n in ("enc", "dec")},
                          {n: in_turn[n] for n in ("enc", "dec")})  # fmt: skip
    one, two = (jax.tree.leaves(params["critic"]) for params in (together, in_turn))
    assert any(np.any(a != b) for a, b in zip(one, two, strict=True))


def test_an_odd_batch_does_not_pair():
    model = made("acai")
    with pytest.raises(ValueError, match="a batch of 5: method=acai interpolates pairs of images"):
        model.step(jax.jit(model.init)(key()), jax.tree.map(lambda x: x[:5], BATCH), key())


# -- what it is compared with ----------------------------------------------------------------------


@pytest.mark.parametrize("method", ["dropout", "denoising"])
@tiny.x64()
def test_spoiled_codes_and_images(method):
    state, after, metrics, draws = one_step(method, keep=0.7, noise=0.6)
    run, (drawn,) = bare(method), draws

    def loss(p):
        if method == "denoising":
            h = run(p, "enc", X + 0.6 * drawn)
        else:
            h = run(p, "enc", X)
            kept = (drawn < 0.7).reshape(h.shape)
            h = jnp.where(kept, h, 0) / 0.7
        return jnp.mean((run(p, "dec", h) - X) ** 2)

    value, wanted = after_descent(loss, state.params)
    tiny.assert_close(after.params, wanted, ROUNDING, ROUNDING)
    assert metrics["autoencoder"] == pytest.approx(value, rel=ROUNDING)
    clean = jax.jit(made(method).evaluate)(state, tiny.in_float64(BATCH), key())["mse"]
    back = run(state.params, "dec", run(state.params, "enc", X))
    np.testing.assert_allclose(clean, np.mean((back - X) ** 2, (1, 2, 3)), rtol=ROUNDING)


@tiny.x64()
def test_vae_pays_rate_and_distortion():
    state, after, metrics, (eps,) = one_step("vae", kl_weight=0.7)
    run = bare("vae")

    def terms(p):
        h = run(p, "enc", X)
        out = run(p, "posterior", h.reshape(len(X), -1))
        mean, log_var = out[:, : out.shape[1] // 2], out[:, out.shape[1] // 2 :]
        z = mean + jnp.sqrt(jnp.exp(log_var)) * eps
        chance = jax.nn.sigmoid(run(p, "dec", z.reshape(h.shape)))
        ink = (X + 1) / 2
        likelihood = jnp.sum(ink * jnp.log(chance) + (1 - ink) * jnp.log(1 - chance)) / len(X)
        rate = jnp.sum(jnp.exp(log_var) + mean**2 - 1 - log_var) / 2 / len(X)
        return -likelihood, rate

    loss = lambda p: terms(p)[0] + 0.7 * terms(p)[1]
    distortion, rate = jax.jit(terms)(state.params)
    assert metrics["distortion"] == pytest.approx(float(distortion), rel=ROUNDING)
    assert metrics["rate"] == pytest.approx(float(rate), rel=ROUNDING)
    wanted = after_descent(loss, state.params)[1]
    tiny.assert_close(after.params, wanted, ROUNDING, ROUNDING)


@tiny.x64()
def test_vae_mixes_draws_and_its_classifier_reads_what_comes_before():
    config = acai.Config(method="vae", **TINY)
    model, read = acai.make(config, DATA.spec), acai.model.features(config, DATA.spec)
    state, image = tiny.in_float64((jax.jit(model.init)(key()), BATCH["image"]))
    run = bare("vae")
    h = run(state.params, "enc", X).reshape(len(X), -1)
    out = np.asarray(run(state.params, "posterior", h))
    one, two = (np.asarray(jax.jit(model.encode)(state, image, jax.random.key(k))) for k in (1, 2))
    assert np.all(one != two)
    drawn = (one - out[:, : h.shape[1]]) / np.exp(out[:, h.shape[1] :] / 2)
    assert np.abs(drawn).max() < 5
    assert drawn.std() == pytest.approx(1, abs=5 / np.sqrt(2 * drawn.size))
    np.testing.assert_allclose(read(state, image, key()), h, ROUNDING, ROUNDING)


@tiny.x64()
def test_vqvae_by_gradient_and_moving_average():
    decay = 0.9
    state, after, metrics, draws = one_step("vqvae", codebook_decay=decay, commitment=4.0)
    assert not draws
    run, table = bare("vqvae"), np.asarray(state.extra["stats"]["codebook"]["table"])[0]
    assert np.abs(table).max() <= np.sqrt(3 / 5)

    def vectors(p):
        h = run(p, "enc", X)
        return h, run(p, "slots", h.reshape(len(X), -1)).reshape(len(X), 3, 2)

    h, c = (np.asarray(v) for v in vectors(state.params))
    nearest = np.square(c[:, :, None] - table).sum(-1).argmin(-1)  # [B, 3]
    rows = table[nearest]
    shift = rows - c  # a constant: the slope of a row in what chose it is taken to be one

    def loss(p):
        _, c = vectors(p)
        merged = run(p, "bottleneck", (c + shift).reshape(len(X), -1))
        back = run(p, "dec", merged.reshape(h.shape))
        return jnp.mean((back - X) ** 2) + 4.0 * jnp.mean((c - rows) ** 2)

    value, wanted = after_descent(loss, state.params)
    tiny.assert_close(after.params, wanted, ROUNDING, ROUNDING)
    assert metrics["autoencoder"] == pytest.approx(value, rel=ROUNDING)

    count, total = np.ones(5), table.copy()
    count, total = decay * count, decay * total
    for row, vector in zip(nearest.reshape(-1), c.reshape(-1, 2), strict=True):
        count[row] += 1 - decay
        total[row] += (1 - decay) * vector
    smooth = (count + 1e-5) / (count.sum() + 5e-5) * count.sum()
    found = after.extra["stats"]["codebook"]
    np.testing.assert_allclose(found["count"][0], count, rtol=ROUNDING)
    np.testing.assert_allclose(found["table"][0], total / smooth[:, None], ROUNDING, ROUNDING)


@tiny.x64()
def test_vqvae_mixes_before_it_quantises_and_its_classifier_reads_behind():
    config = acai.Config(method="vqvae", **TINY)
    model, read = acai.make(config, DATA.spec), acai.model.features(config, DATA.spec)
    state, image = tiny.in_float64((jax.jit(model.init)(key()), BATCH["image"]))
    run = bare("vqvae")
    h = run(state.params, "enc", X)
    code = jax.jit(model.encode)(state, image, key())
    np.testing.assert_allclose(code, h.reshape(len(X), -1), ROUNDING, ROUNDING)
    told = read(state, image, key())
    back = run(state.params, "dec", told.reshape(h.shape))
    found = jax.jit(model.decode)(state, h.reshape(len(X), -1), key())
    np.testing.assert_allclose(found, (back + 1) / 2, ROUNDING, ROUNDING)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"gamma": 1.5}, "gamma"),
        ({"depth": 0}, "depth"),
        ({"weight": -1.0}, "weight"),
        ({"gain": 0.0}, "gain"),
        ({"keep": 0.0}, "keep"),
        ({"codes": 0}, "codes"),
        ({"codebook_decay": 1.0}, "codebook_decay"),
        ({"commitment": -1.0}, "commitment"),
    ],
)
def test_a_field_out_of_range_is_named(fields, named):
    with pytest.raises(ValueError, match=f"{named}="):
        acai.Config(**fields)
