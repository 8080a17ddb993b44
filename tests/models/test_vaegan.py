"""VAE/GAN: who gets which gradient (beside `test_players`), the values of its terms, the gate, the
networks' sizes. Oracles: values by hand, the VAE, the GAN, linearity, the official code's counts.
"""

from unittest import mock

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from jaxae import losses
from jaxae.models import vae, vaegan
from jaxae.models.vaegan.adversarial_losses import adversarial_losses, select_updates
from jaxae.models.vaegan.networks import ConvLayers, DenseLayers
from jaxae.training.state import Spec

RATE = 1.0  # of plain descent: what moves is the gradient, with few bits lost
# Gradients are compared in float64, where rounding leaves some 1e-15 of the terms of a sum.
ROUNDING = 1e-9
SPEC = Spec((4, 4, 1), size=16, classes=3, levels=17, mean=np.full((4, 4, 1), 0.3, np.float32))
PLAIN = dict.fromkeys(("encoder_norm", "generator_norm", "discriminator_norm"), "none")
SMALL = PLAIN | {"latent": 2, "widths": (5,)}
RNG = np.random.default_rng(0)
BATCH = {
    "image": jnp.asarray(RNG.uniform(size=(6, 4, 4, 1)), jnp.float32),
    "index": jnp.arange(6),
    "label": jnp.arange(6) % 3,
    "labelled": jnp.ones(6, bool),
}


def make(spec=SPEC, **fields):
    return vaegan.make(vaegan.Config(**SMALL | fields), spec)


def sgd(*_, **__):
    return optax.sgd(RATE)


@tiny.x64()
def updates(start=None, spec=SPEC, **fields):
    """What each network's parameters move by in one step of plain descent, and the metrics.

    `start` replaces the parameters of the networks that it holds. All in float64.
    """
    with mock.patch.object(vaegan.model, "adam", sgd):
        model = make(spec, **fields)
    state = model.init(jax.random.key(0))
    state = tiny.in_float64(
        state.replace(params={name: (start or {}).get(name, p) for name, p in state.params.items()})
    )
    after, metrics = model.step(state, tiny.in_float64(BATCH), jax.random.key(1))
    moved = jax.tree.map(lambda a, b: (b - a) / RATE, state.params, after.params)
    return jax.tree.map(np.asarray, (moved, metrics))


def start():
    return make().init(jax.random.key(5)).params


def zeros(tree):
    return jax.tree.map(jnp.zeros_like, tree)


def close(found, wanted):
    assert {leaf.dtype for leaf in jax.tree.leaves((found, wanted))} == {np.dtype(np.float64)}
    chex.assert_trees_all_close(found, wanted, rtol=ROUNDING, atol=ROUNDING)


# -- who gets which gradient -------------------------------------------------------------------


def test_the_encoder_never_sees_the_game_and_the_discriminator_never_the_likelihood():
    plain, _ = updates(start())
    weak = lambda name, floor: losses.GanLoss(
        *(lambda t, f=f: 1000 * f(t) for f in losses.gan_loss(name))
    )
    with mock.patch.object(vaegan.model, "adversarial_losses", weak):
        loud, _ = updates(start())
    tiny.assert_same_bits(loud["enc"], plain["enc"])
    close(loud["dis"], jax.tree.map(lambda g: 1000 * g, plain["dis"]))
    for fields in ({"gamma": 1.0}, {"scale": 0.03}, {"layer": 0}):
        other, _ = updates(start(), **fields)
        tiny.assert_same_bits(other["dis"], plain["dis"])
        assert tiny.leaves(other["dec"]).keys() == tiny.leaves(plain["dec"]).keys()
        with pytest.raises(AssertionError):
            close(other["dec"], plain["dec"])


def test_the_likelihood_reaches_the_encoder_through_the_discriminator():
    params = start()
    through, _ = updates(params)
    # Whatever its image, a discriminator without weights sees the same features.
    without, _ = updates(params | {"dis": zeros(params["dis"])})
    with pytest.raises(AssertionError):
        close(through["enc"], without["enc"])
    alone, metrics = updates(params, scale=1e6)
    assert metrics["feature_nll"] < 1e-9
    close(without["enc"], alone["enc"])  # only the rate is left


@pytest.mark.parametrize("fields", [{"variant": "vae"}, {"layer": 0, "gamma": 1.0}])
@tiny.x64()
def test_with_pixel_errors_it_is_a_vae_of_unit_variance(fields):
    noise = jnp.asarray(RNG.normal(size=(6, 2)))
    config = vae.Config(latent=2, widths=(5,), likelihood="gaussian", scale=1.0)
    with mock.patch.object(vae, "adam", sgd):
        model = vae.make(config, SPEC)
    before = tiny.in_float64(model.init(jax.random.key(0)))
    with mock.patch.object(jax.random, "normal", return_value=noise):
        after, metrics = model.step(before, tiny.in_float64(BATCH), jax.random.key(1))
        found, seen = updates(before.params, output="linear", **fields)
    wanted = jax.tree.map(lambda a, b: (b - a) / RATE, before.params, after.params)
    close({name: found[name] for name in wanted}, wanted)
    np.testing.assert_allclose(seen["rate"], metrics["rate"], rtol=ROUNDING)
    constant = 16 * 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(seen["feature_nll"] + constant, metrics["distortion"], rtol=ROUNDING)


def test_gamma_blends_the_likelihood_and_the_game():
    params = start()
    of = {gamma: updates(params, gamma=gamma)[0]["dec"] for gamma in (0.0, 0.3, 1.0)}
    blend = lambda a, b: 0.3 * a + 0.7 * b
    close(of[0.3], jax.tree.map(blend, of[1.0], of[0.0]))
    plain, _ = updates(params, gamma=0.3, beside_gamma="one")
    close(plain["dec"], jax.tree.map(lambda a, b: 0.3 * a + b, of[1.0], of[0.0]))
    alone, _ = updates(params, variant="gan")
    tuned, _ = updates(params, gamma=0.0, fakes="prior")
    close(tuned["dec"], alone["dec"])
    close(tuned["dis"], alone["dis"])
    features, _ = updates(params, variant="vae_dis_l")
    close(features["dec"], of[1.0])  # the likelihood and nothing else
    close(features["enc"], updates(params)[0]["enc"])


def test_each_kind_of_fake_weighs_the_same():
    params = start()
    of = {fakes: updates(params, gamma=0.0, fakes=fakes)
          for fakes in ("prior", "reconstructions", "both")}  # fmt: skip
    dec, dis = ({kind: found[0][name] for kind, found in of.items()} for name in ("dec", "dis"))
    total = lambda a, b: a + b
    close(dec["both"], jax.tree.map(total, dec["prior"], dec["reconstructions"]))
    mean = lambda a, b: 0.5 * (a + b)
    close(dis["both"], jax.tree.map(mean, dis["prior"], dis["reconstructions"]))


# -- values ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mean", "variance", "nats"),
    [(1, 1, 0.5), (0, 1, 0.0), (0, 4, 1.5 - np.log(2)), (1, 4, 2 - np.log(2))],
)
@tiny.x64()
def test_the_rate_by_hand(mean, variance, nats):
    model = make(widths=())
    state = tiny.in_float64(model.init(jax.random.key(0)))
    raw = 10 * np.arctanh(np.log(variance) / 10)
    enc = zeros(state.params["enc"])
    enc["Dense_0"]["bias"] = jnp.float64([mean, mean, raw, raw])
    state = state.replace(params=state.params | {"enc": enc})
    found = model.evaluate(state, tiny.in_float64(BATCH), jax.random.key(1))["rate"]
    np.testing.assert_allclose(found, 2 * nats, rtol=0, atol=ROUNDING)


LOG_TWO = np.log(2)


def test_costs_of_a_discriminator_that_knows_nothing():
    params = start()
    blank = params | {"dis": zeros(params["dis"])}
    _, both = updates(blank, gamma=0.0)
    _, prior = updates(blank, gamma=0.0, fakes="prior", real_weight=0.33)
    _, away = updates(blank, gamma=0.0, game="non_saturating")
    np.testing.assert_allclose(prior["decoder"] - prior["real_loss"], -2 * LOG_TWO, rtol=ROUNDING)
    np.testing.assert_allclose(both["decoder"] - both["real_loss"], -3 * LOG_TWO, rtol=ROUNDING)
    for found in (both, prior):
        np.testing.assert_allclose(found["discriminator"], LOG_TWO, rtol=ROUNDING)
    np.testing.assert_allclose(away["decoder"], 2 * LOG_TWO, rtol=ROUNDING)
    _, floored = updates(blank, log_floor=1e-3, gate=True)
    for name, value in {"real_loss": -np.log(0.501), "fake_loss": -np.log(0.501),
                        "discriminator_updated": 1, "decoder_updated": 1}.items():  # fmt: skip
        np.testing.assert_allclose(floored[name], value, rtol=ROUNDING, err_msg=name)


def test_a_perfect_reconstruction_has_no_feature_nll():
    model = make(widths=(5, 4))
    state = model.init(jax.random.key(0))
    dec = zeros(state.params["dec"])
    dec["Dense_2"]["bias"] = jnp.linspace(-2, 2, 16)
    image = jnp.broadcast_to(
        jax.nn.sigmoid(jnp.linspace(-2, 2, 16)).reshape(1, 4, 4, 1), (3, 4, 4, 1)
    )
    state = state.replace(params=state.params | {"dec": dec})
    found = model.evaluate(state, {"image": image}, jax.random.key(1))
    assert np.all(found["feature_nll"] == 0)
    assert np.all(found["loss"] < 1e-12)
    other = model.evaluate(state, {"image": 1 - image}, jax.random.key(1))
    squares = 0.5 * np.sum(np.square(1 - 2 * np.float64(image[0])))
    np.testing.assert_allclose(other["loss"], squares, rtol=1e-5)
    kernel = np.float64(state.params["dis"]["Dense_1"]["kernel"])
    first = state.params["dis"]["Dense_0"]
    hidden = [
        np.maximum(np.float64(x).reshape(-1) @ np.float64(first["kernel"]) + first["bias"], 0)
        for x in (image[0], 1 - image[0])
    ]
    by_hand = 0.5 * np.sum(((hidden[0] - hidden[1]) @ kernel) ** 2)
    np.testing.assert_allclose(other["feature_nll"], by_hand, rtol=1e-4)


@pytest.mark.parametrize("name", ["saturating", "non_saturating"])
def test_the_floor_is_added_inside_the_logarithms(name):
    t = jnp.float32([-3.0, 0.0, 2.0])
    d = 1 / (1 + np.exp(-np.float64(t)))
    found = adversarial_losses(name, 1e-3)
    np.testing.assert_allclose(found.real_loss(t), -np.log(d + 1e-3), rtol=1e-5)
    np.testing.assert_allclose(found.fake_loss(t), -np.log(1 - d + 1e-3), rtol=1e-5)
    wanted = np.log(1 - d + 1e-3) if name == "saturating" else -np.log(d + 1e-3)
    np.testing.assert_allclose(found.generator_loss(t), wanted, rtol=1e-5)
    exact, tiny_floor = adversarial_losses(name, 0.0), adversarial_losses(name, 1e-9)
    for loss, floored in zip(exact, tiny_floor, strict=True):
        np.testing.assert_allclose(loss(t), floored(t), rtol=1e-5)


# -- the gate ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("costs", "moves"),
    [
        ((0.2, 0.7), (False, True)),
        ((0.7, 0.2), (False, True)),
        ((0.7, 1.2), (True, False)),
        ((1.2, 0.7), (True, False)),
        ((0.2, 1.2), (True, True)),
        ((0.7, 0.7), (True, True)),
        ((0.2, 0.2), (False, True)),
        ((1.2, 1.2), (True, False)),
    ],
)
def test_who_may_move(costs, moves):
    assert tuple(bool(x) for x in select_updates(*jnp.float32(costs))) == moves


@pytest.mark.parametrize(
    ("fields", "still"),
    [
        ({"gate": True, "gate_equilibrium": 10.0}, {"discriminator": "dis"}),
        ({"gate": True, "gate_equilibrium": 0.0}, {"decoder": "dec"}),
        ({"gate": True, "gate_margin": -1e3}, {}),  # both ahead: both move
        ({"gate": True, "gate_equilibrium": 10.0, "variant": "gan"}, {"discriminator": "dis"}),
        ({"gate": True, "gate_equilibrium": 0.0, "variant": "vae_dis_l"}, {"generator": "gen"}),
        ({"gan_steps": 1, "variant": "vae_dis_l"}, {"encoder": "enc", "decoder": "dec"}),
    ],
)
def test_a_player_that_is_skipped_keeps_every_bit(fields, still):
    model = make(**fields)
    before = model.init(jax.random.key(0))
    after, _ = model.step(before, BATCH, jax.random.key(1))
    for player in before.opt:
        if player in still:
            tiny.assert_same_bits(after.opt[player], before.opt[player])
        else:
            with pytest.raises(AssertionError):
                tiny.assert_same_bits(after.opt[player], before.opt[player])
    for name in before.params:
        if name in still.values():
            tiny.assert_same_bits(after.params[name], before.params[name])
        else:
            with pytest.raises(AssertionError):
                tiny.assert_same_bits(after.params[name], before.params[name])


def test_after_its_steps_the_gan_stands_still():
    model = make(gan_steps=1, variant="vae_dis_l")
    before = model.init(jax.random.key(0)).replace(step=jnp.int32(1))
    after, _ = model.step(before, BATCH, jax.random.key(1))
    for player, name in (("generator", "gen"), ("discriminator", "dis")):
        tiny.assert_same_bits(after.opt[player], before.opt[player])
        tiny.assert_same_bits(after.params[name], before.params[name])
    assert np.any(after.params["enc"]["Dense_0"]["bias"] != before.params["enc"]["Dense_0"]["bias"])


# -- networks, labels, optimiser, configuration ------------------------------------------------


def shapes_of(side, channels=3, **fields):
    config = vaegan.Config(network="conv", latent=128, **fields)
    spec = Spec(
        (side, side, channels), 16, 0, 256, np.full((side, side, channels), 0.5, np.float32)
    )
    model = vaegan.make(config, spec)
    return (
        model,
        jax.eval_shape(model.init, jax.random.key(0)),
        vaegan.model.build_networks(config, spec),
    )


def test_sizes_of_the_published_networks():
    _, state, networks = shapes_of(64)
    count = lambda name: sum(np.prod(x.shape) for x in jax.tree.leaves(state.params[name]))
    assert (count("enc"), count("dec"), count("dis")) == (18_071_360, 4_693_155, 10_953_857)
    look = lambda p, s: networks(p, s, "dis", jnp.zeros((1, 64, 64, 3)))
    logit, shown = jax.eval_shape(look, state.params, state.extra["stats"])
    assert logit.shape == (1, 1)
    assert shown[-1].shape == (1, 8, 8, 256)  # 16,384 features


@pytest.mark.parametrize(
    ("side", "fields"),
    [
        (32, {"dec_channels": (192, 128, 32), "dis_channels": (32, 128, 192, 256)}),
        (28, {}),
        (37, {}),
        (8, {}),
        (10, {"enc_channels": (8,), "dec_channels": (4,), "dis_channels": (4, 8)}),
    ],
)
def test_convolutions_for_any_size(side, fields):
    model, state, _ = shapes_of(side, channels=1, **fields)
    found = jax.eval_shape(lambda s: model.sample(s, jax.random.key(0), 2), state)
    assert found.shape == (2, side, side, 1)


def test_hidden_layers_are_seen_before_normalisation_and_labels_enter_at_the_top():
    x, y = BATCH["image"], jnp.eye(3)[BATCH["label"]]
    for network in (DenseLayers((5, 4), 2, norm="batch"),
                    ConvLayers((3, 4), 5, 2, norm="batch", full_size=True)):  # fmt: skip
        variables = network.init(jax.random.key(0), x, y)
        run = lambda y, v=variables, n=network: n.apply(
            v, x, y, train=True, mutable=["batch_stats"]
        )
        (out, shown), _ = run(y)
        (other, others), _ = run(y[::-1])
        assert not np.allclose(out, other)
        tiny.assert_same_bits(shown[0], others[0])
        params = variables["params"]
        if isinstance(network, DenseLayers):
            np.testing.assert_allclose(
                shown[0], x.reshape(6, -1) @ params["Dense_0"]["kernel"], rtol=1e-4, atol=1e-5
            )
            assert params["Dense_1"]["kernel"].shape == (5 + 3, 4)
        else:
            tiny.assert_same_bits(shown[1], others[1])
            assert params["Dense_0"]["kernel"].shape == (2 * 2 * 4 + 3, 5)
            assert set(params["Conv_0"]) == {"kernel", "bias"}
            assert set(params["Conv_1"]) == {"kernel"}
            assert np.any(np.abs(np.mean(shown[1], axis=(0, 1, 2))) > 1e-3)


def test_labels_that_training_may_not_see_are_not_seen():
    model = make(conditional=True)
    state = model.init(jax.random.key(0))
    hidden = BATCH | {"labelled": jnp.arange(6) < 3}
    other = {"label": jnp.array([0, 1, 2, 1, 2, 0])}  # the last three are not BATCH's
    step = jax.jit(model.step)
    after = lambda batch: step(state, batch, jax.random.key(1))
    tiny.assert_same_bits(after(hidden), after(hidden | other))
    for seen in (hidden, BATCH | other):
        with pytest.raises(AssertionError):
            tiny.assert_same_bits(after(BATCH), after(seen))


def test_an_evaluation_is_told_the_labels_that_training_may_not_see():
    model = make(conditional=True)
    state = model.init(jax.random.key(0))
    found = lambda batch: model.evaluate(state, batch, jax.random.key(1))
    tiny.assert_same_bits(found(BATCH | {"labelled": jnp.zeros(6, bool)}), found(BATCH))
    others = found(BATCH | {"label": (BATCH["label"] + 1) % 3})
    assert np.all(others["loss"] != found(BATCH)["loss"])


def test_a_conditional_code_holds_a_label():
    model = make(conditional=True)
    state = model.init(jax.random.key(0))
    z = model.prior(jax.random.key(2), 300)
    assert z.shape == (300, 2 + 3)
    assert set(np.unique(z[:, 2:])) == {0, 1}
    assert np.all(np.sum(z[:, 2:], axis=1) == 1)
    assert model.encode is None
    assert model.decode(state, z, jax.random.key(3)).shape == (300, 4, 4, 1)


def test_rmsprop_falls_as_the_official_code_does():
    config = vaegan.Config(optimiser="rmsprop", decay_steps=10)
    tx, params = (
        vaegan.model._optimiser(config, 1e-2),
        {"bias": jnp.zeros(1), "kernel": jnp.ones((1, 1))},
    )
    gradient = {"bias": jnp.full(1, 2.0), "kernel": jnp.full((1, 1), 2.0)}
    state, square = tx.init(params), 0.0
    for step in range(12):
        found, state = tx.update(gradient, state, params)
        square = 0.9 * square + 0.1 * 4.0
        rate = 1e-2 - min(step / 10, 1) ** 0.75 * (1e-2 - 1e-5 / 64)
        np.testing.assert_allclose(found["bias"], -rate * 2 / np.sqrt(square), rtol=1e-4)
    found, _ = tx.update(zeros(gradient), tx.init(params), params)
    assert found["kernel"] < 0 == found["bias"]  # weights decay, biases do not


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"latent": 0}, "latent"),
        ({"scale": 0.0}, "scale"),
        ({"gamma": 1.5}, "gamma"),
        ({"real_weight": 1.0}, "real_weight"),
        ({"layer": 3}, "layer"),
        ({"variant": "vae", "layer": 1}, "vae_dis_l"),
        ({"gate": True, "simultaneous": False}, "gate"),
        ({"gan_steps": 5}, "gan_steps"),
        ({"enc_channels": (8,)}, "enc_channels"),
    ],
)
def test_contradictions_are_refused(fields, word):
    with pytest.raises(ValueError, match=word):
        vaegan.Config(**fields)


def test_data_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="conditional needs labels"):
        make(SPEC._replace(classes=0), conditional=True)
    with pytest.raises(ValueError, match="cannot be halved 3 times"):
        make(network="conv")
