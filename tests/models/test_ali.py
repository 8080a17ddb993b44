"""ALI, BiGAN and their baselines: what the papers and the arithmetic say of them.

That each player follows exactly the gradient of its own loss is in `test_players.py`.
"""

import itertools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from scipy import integrate
from scipy.stats import multivariate_normal

from jaxae import losses
from jaxae.models import ali
from jaxae.models.shared.discriminators import discriminator_advantage
from jaxae.training import Spec
from jaxae.training.parallel import Engine, Mode

DATA = tiny.images(labels_batch=8)
BATCH = DATA.train.batch(1, 0, tiny.BATCH)
key = lambda: jax.random.key(5)  # a fresh one each time: none may be used twice
SMALL = {"latent": 3, "widths": (8, 8), "deviation": 0.3}


def made(**fields):
    """A model whose players descend plainly."""
    with mock.patch.object(ali.model, "adam", side_effect=lambda *_, **__: optax.sgd(0.1)):
        return ali.make(ali.Config(**SMALL | fields), DATA.spec)


def stepped(model, state, batch=BATCH):
    return model.step(state, batch, key())


def same(one, other) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(
        jax.tree.leaves(one), jax.tree.leaves(other), strict=True))  # fmt: skip


# -- the game --------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["bigan", "plane"])
@tiny.x64()
def test_a_discriminator_that_starts_at_zero_costs_two_log_two(network):
    for halved, cost in ((False, 2 * np.log(2)), (True, np.log(2))):
        model = made(network=network, zero_start=True, halved=halved)
        metrics = stepped(model, *tiny.in_float64((model.init(key()), BATCH)))[1]
        for name in ("critic", "generator", "loss"):
            np.testing.assert_allclose(metrics[name], cost, rtol=1e-12)


@tiny.x64()
def test_the_costs_as_functions_of_the_logits():
    on_q, on_p = jax.random.normal(key(), (2, 50)) * 3
    for name in ("non_saturating", "saturating"):
        gan = losses.gan_loss(name)
        critic = lambda q, p, gan=gan: jnp.mean(gan.real_loss(q)) + jnp.mean(gan.fake_loss(p))
        both = lambda q, p, gan=gan: (
            jnp.mean(gan.generator_loss(-q)) + jnp.mean(gan.generator_loss(p))
        )
        # Who swaps the pairs and turns the logit round plays the same game.
        for cost in (critic, both):
            np.testing.assert_allclose(cost(-on_p, -on_q), cost(on_q, on_p), rtol=1e-12)
        apart = both(on_q, on_p) - critic(on_q, on_p)
        if name == "saturating":
            np.testing.assert_allclose(both(on_q, on_p), -critic(on_q, on_p), rtol=1e-12)
        else:  # softplus(t) - softplus(-t) = t
            np.testing.assert_allclose(apart, jnp.mean(on_q) - jnp.mean(on_p), rtol=0, atol=1e-12)


@tiny.x64()
def test_saturating_players_have_opposite_costs():
    model = made(game="saturating")
    metrics = stepped(model, *tiny.in_float64((model.init(key()), BATCH)))[1]
    np.testing.assert_allclose(metrics["generator"], -metrics["critic"], rtol=1e-12)


def test_the_generator_learns_from_its_own_pairs_and_the_encoder_from_its_own():
    """Without batch statistics in the discriminator. Codes are drawn uniformly, noise normally."""
    model = made(network="plane", posterior="universal")
    state = model.init(key())
    true = stepped(model, state)[0].params
    other_images = BATCH | {"image": 1 - BATCH["image"]}
    seen = stepped(model, state, other_images)[0].params
    assert same(seen["gen"], true["gen"])
    assert not same(seen["enc"], true["enc"])
    with mock.patch.object(jax.random, "uniform", lambda rng, shape, **_: jnp.full(shape, 0.3)):
        drawn = stepped(model, state)[0].params
    assert same(drawn["enc"], true["enc"])
    assert not same(drawn["gen"], true["gen"])
    # With one normalisation over both kinds of pairs that is no longer so.
    model = made(together=True, posterior="universal")
    state = model.init(key())
    one, other = (stepped(model, state, batch)[0].params for batch in (BATCH, other_images))
    assert not same(one["gen"], other["gen"])


def test_players_do_not_see_each_others_optimisers():
    model = ali.make(ali.Config(**SMALL), DATA.spec)
    state = stepped(model, model.init(key()))[0]
    after = stepped(model, state)[0]
    nothing = jax.tree.map(jnp.zeros_like, state.opt["critic"])
    forgot = state.replace(opt=state.opt | {"critic": nothing})
    assert same([stepped(model, forgot)[0].params[n] for n in ("enc", "gen")],
                [after.params[n] for n in ("enc", "gen")])  # fmt: skip
    assert not same(stepped(model, forgot)[0].params["critic"], after.params["critic"])


@tiny.x64()
def test_feature_matching_compares_means_of_the_last_hidden_layer():
    model = made(network="plane", feature_matching=True)
    state, batch = tiny.in_float64((model.init(key()), BATCH))
    bundle = ali.model.build_networks(ali.Config(**SMALL, network="plane"), DATA.spec)
    # Drawn as the step draws it: from the first of its keys.
    z = jax.random.uniform(jax.random.split(key(), 4)[0], (tiny.BATCH, 3), minval=-1.0, maxval=1.0)
    run = lambda name, *inputs: bundle.train(state.params, state.extra["stats"], name, *inputs)[0]
    flat = batch["image"].reshape(tiny.BATCH, -1)
    real = run("critic", flat, jnp.tanh(run("enc", flat) / 2))[1]
    fake = run("critic", jax.nn.sigmoid(run("gen", z)), z)[1]
    wanted = np.abs(np.mean(real, axis=0) - np.mean(fake, axis=0)).sum()
    found = stepped(model, state, batch)[1]["generator"]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


# -- the oracle of two Gaussians -------------------------------------------------------------------
#
# x ~ N(0,1), z^ = a x + s e against z ~ N(0,1), x~ = b z + t e.


def covariances(a, s2, b, t2):
    return np.array([[1, a], [a, a * a + s2]]), np.array([[b * b + t2, b], [b, 1]])


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_matching_joints_leave_the_discriminator_at_chance_whatever_the_coupling(rho):
    q, p = covariances(rho, 1 - rho**2, rho, 1 - rho**2)
    v = np.random.default_rng(0).normal(size=(100, 2))
    logit = multivariate_normal([0, 0], q).logpdf(v) - multivariate_normal([0, 0], p).logpdf(v)
    np.testing.assert_allclose(logit, 0, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("rho", "jsd", "value"), [(0.9, 0.214553, -0.957188),
                                                   (0.5, 0.036921, -1.312453)])  # fmt: skip
def test_a_trained_discriminator_reaches_the_divergence(rho, jsd, value):
    """Couplings of 0.9 and 0.5 against independence; the optimal logit is a quadratic."""
    q, p = covariances(rho, 1 - rho**2, 0.0, 1.0)
    normal_q, normal_p = multivariate_normal([0, 0], q), multivariate_normal([0, 0], p)

    def density(x, z):
        f, g = normal_q.pdf([x, z]), normal_p.pdf([x, z])
        m = (f + g) / 2
        return 0.5 * (f * np.log(f / m) + g * np.log(g / m)) if min(f, g) > 1e-300 else 0.0

    found = integrate.dblquad(density, -6, 6, -6, 6, epsabs=1e-6)[0]
    assert found == pytest.approx(jsd, abs=1e-5)
    assert 2 * found - np.log(4) == pytest.approx(value, abs=2e-5)

    rng, gan = np.random.default_rng(1), losses.gan_loss("non_saturating")
    draw = lambda covariance: jnp.float32(rng.multivariate_normal([0, 0], covariance, 200_000).T)
    features = lambda x, z: jnp.stack([jnp.ones(len(x)), x**2, x * z, z**2], axis=1)
    on_q, on_p = (features(*draw(covariance)) for covariance in (q, p))
    cost = lambda w: jnp.mean(gan.real_loss(on_q @ w)) + jnp.mean(gan.fake_loss(on_p @ w))
    newton = jax.jit(lambda w: w - jnp.linalg.solve(jax.hessian(cost)(w), jax.grad(cost)(w)))
    w = jnp.zeros(4)
    for _ in range(12):
        w = newton(w)
    assert -float(cost(w)) == pytest.approx(value, abs=0.01)
    ratio = np.log(np.linalg.det(p) / np.linalg.det(q)) / 2
    inverse = (np.linalg.inv(p) - np.linalg.inv(q)) / 2
    best = [ratio, inverse[0, 0], 2 * inverse[0, 1], inverse[1, 1]]
    np.testing.assert_allclose(w, best, atol=0.05 * np.abs(best).max())


# -- the methods beside it -------------------------------------------------------------------------


def test_the_error_of_a_latent_regressor_lies_between_one_half_and_log_two():
    blind, z = jnp.zeros((4, 3)), jax.random.uniform(key(), (4, 3), minval=-0.99, maxval=0.99)
    np.testing.assert_allclose(
        ali.model.latent_regression_loss("uniform", blind, blind, z), np.log(2), rtol=1e-6
    )
    entropy = lambda t: -t * np.log(t) - (1 - t) * np.log(1 - t)
    assert integrate.quad(entropy, 0, 1)[0] == pytest.approx(0.5)
    share = np.float32((z + 1) / 2)
    perfect = ali.model.latent_regression_loss("uniform", jnp.log(share / (1 - share)), z, z)
    np.testing.assert_allclose(perfect, entropy(share).mean(1), rtol=1e-5)
    np.testing.assert_allclose(
        ali.model.latent_regression_loss("gaussian", blind, blind + 2, blind), 3 * 4, rtol=1e-6
    )


def test_a_latent_regressor_sees_no_data_and_leaves_the_gan_alone():
    model, alone = made(method="regressor"), made(method="gan")
    state, before = model.init(key()), alone.init(key())
    names = ("gen", "critic")
    before = before.replace(
        params={name: state.params[name] for name in names},
        extra={"stats": {k: v for k, v in state.extra["stats"].items() if k in names}},
    )
    after, metrics = stepped(model, state)
    other, _ = stepped(model, state, BATCH | {"image": 1 - BATCH["image"]})
    assert same(other.params["enc"], after.params["enc"])
    assert same(other.extra["stats"]["enc"], after.extra["stats"]["enc"])
    assert not same(other.params["critic"], after.params["critic"])
    tiny.assert_same_bits({n: after.params[n] for n in names}, stepped(alone, before)[0].params)
    assert metrics["regressor"] > 0.5
    blind = made(method="regressor", deviation=1e-3)
    first = stepped(blind, blind.init(key()))[1]["regressor"]
    np.testing.assert_allclose(first, np.log(2), atol=1e-3)


@tiny.x64()
def test_a_joint_regressor_adds_its_share_to_the_generators_gradient():
    def after(method, **fields):
        model = made(method=method, **fields)
        return stepped(model, *tiny.in_float64((model.init(key()), BATCH)))[0].params

    alone, quarter = after("regressor"), after("joint_regressor")
    whole = after("joint_regressor", regression_weight=1.0)
    share = jax.tree.map(lambda a, b: a - b, quarter["gen"], alone["gen"])
    full = jax.tree.map(lambda a, b: a - b, whole["gen"], alone["gen"])
    tiny.assert_close(share, jax.tree.map(lambda x: x / 4, full), rtol=1e-9, atol=1e-12)
    assert max(np.abs(x).max() for x in jax.tree.leaves(full)) > 1e-5
    tiny.assert_same_bits(quarter["enc"], alone["enc"])


@pytest.mark.parametrize(
    ("method", "later"),
    [("post_hoc_regressor", {"enc"}), ("post_hoc_ali", {"enc", "pair_critic"})],
)
def test_an_encoder_after_the_fact_meets_a_frozen_gan(method, later):
    model = made(method=method, gan_steps=2)
    step, states = jax.jit(model.step), [model.init(key())]
    for i in range(5):
        states.append(step(states[-1], DATA.train.batch(0, i, 16), jax.random.key(i))[0])
    moved = lambda one, other: {n for n in one.params if not same(one.params[n], other.params[n])}
    assert [moved(*pair) for pair in itertools.pairwise(states)] == (
        [{"gen", "critic"}] * 2 + [later] * 3
    )
    frozen, last = states[2], states[-1]
    for name in ("gen", "critic"):
        tiny.assert_same_bits(last.params[name], frozen.params[name])
        tiny.assert_same_bits(last.extra["stats"][name], frozen.extra["stats"][name])
        assert same(frozen.opt["generator"], last.opt["generator"])
    assert not same(last.extra["stats"]["enc"], frozen.extra["stats"]["enc"])


def test_freezing_is_the_same_for_seeds_at_once_and_for_devices():
    model = made(method="post_hoc_regressor", gan_steps=2)
    plan = tiny.plan(seed=4, seeds=2)

    def run(mode):
        engine = Engine(model, DATA.train, plan, mode)
        return engine.part(engine.run(engine.init(), 0, 4)[0])

    in_turn = run(Mode("mesh", 1, "calls", "sequence"))
    tiny.assert_close(run(Mode("mesh", 1, "scan", "vmap")), in_turn)
    for state in run(Mode("pmap", 2, "calls", "sequence")):
        assert state.step == 4
        for leaf in jax.tree.leaves(state):
            copies = {np.asarray(shard.data).tobytes() for shard in leaf.addressable_shards}
            assert len(copies) == 1


# -- labels ----------------------------------------------------------------------------------------


def test_a_frozen_embedding_keeps_its_start():
    for frozen in (True, False):
        model = made(task="conditional", freeze_embedding=frozen)
        state = model.init(key())
        after = stepped(model, state)[0]
        assert same(after.params["embed"], state.params["embed"]) == frozen


def test_a_condition_reaches_all_three_networks():
    model = made(task="conditional")
    state = model.init(key())
    other = BATCH | {"label": (BATCH["label"] + 1) % 3}
    one, two = stepped(model, state)[0], stepped(model, state, other)[0]
    assert all(not same(one.params[name], two.params[name]) for name in one.params)
    code = model.prior(key(), 5)
    label = jax.nn.one_hot((jnp.argmax(code[:, 3:], -1) + 1) % 3, 3)
    np.testing.assert_array_equal(np.sort(code[:, 3:], -1), [[0, 0, 1]] * 5)
    changed = jnp.concatenate([code[:, :3], label], axis=-1)
    images = [model.decode(state, c, key()) for c in (code, changed)]
    assert np.abs(images[0] - images[1]).max(axis=(1, 2, 3)).min() > 1e-4


def test_labels_are_learnt_beside_the_game():
    model = ali.make(
        ali.Config(**SMALL | {"widths": (32, 32)}, task="semisupervised", learning_rate=2e-3,
                   critic_rate=2e-3), DATA.spec,
    )  # fmt: skip
    step, state = jax.jit(model.step), model.init(key())
    for i in range(60):
        state, metrics = step(state, DATA.train.batch(0, i, 16), jax.random.key(i))
    test = next(DATA.test.examples(11))[0]
    found = np.argmax(model.predict(state, test["image"], key()), axis=-1)
    np.testing.assert_array_equal(found, test["label"])
    assert metrics["supervised"] < np.log(3) / 2


def test_what_a_discriminator_beats_chance_by():
    """Nothing where it is undecided; log 2 - log 4/3 each, where it is right with 3 to 1."""
    three = jnp.log(3.0)
    found = discriminator_advantage(jnp.stack([0 * three, three]), jnp.stack([0 * three, -three]))
    np.testing.assert_allclose(found, [0, 2 * np.log(3 / 2)], rtol=1e-5, atol=1e-6)


# -- settings --------------------------------------------------------------------------------------


def test_the_published_networks_have_their_parameters():
    """Counts from the layers that the papers and their code name, by hand."""

    def counts(shape, **fields):
        spec = Spec(shape, 100, 0, 0, np.full(shape, 0.5, np.float32))
        model = ali.make(ali.Config(**fields), spec)
        params = jax.eval_shape(model.init, key()).params
        size = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))
        return {name: size(tree) for name, tree in params.items()}

    mnist = counts((28, 28, 1), latent=50, widths=(1024, 1024))
    assert mnist == {"enc": 1_902_592, "gen": 1_953_792, "critic": 1_903_616}
    plane = counts((1, 2, 1), latent=2, network="plane", prior="gaussian", posterior="universal",
                   widths=(400, 400), gen_widths=(400,) * 4, critic_widths=(200,) * 3)  # fmt: skip
    assert plane == {"enc": 164_002, "gen": 484_802, "critic": 407_201}


def test_bigans_descent_is_adam_with_decay_inside_and_a_falling_rate():
    tx = ali.model._optimiser(ali.Config(optimiser="bigan", decay_steps=4, learning_rate=0.1), 0.1)
    w, m, v = np.float64(2.0), 0.0, 0.0
    ours, opt = jnp.float32(2.0), tx.init(jnp.float32(2.0))
    for t in range(1, 6):
        gradient = 0.3 * t
        updates, opt = tx.update(jnp.float32(gradient), opt, ours)
        ours = optax.apply_updates(ours, updates)
        g = gradient + 2.5e-5 * w
        m, v = 0.5 * m + 0.5 * g, 0.999 * v + 0.001 * g * g
        rate = 0.1 * {1: 1, 2: 1, 3: 1, 4: 0.1, 5: 0.01}[t]
        w -= rate * (m / (1 - 0.5**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        np.testing.assert_allclose(ours, w, rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"latent": 0}, "latent=0"),
        ({"widths": ()}, "widths must name"),
        ({"widths": (8,)}, "at least two"),
        ({"prior": "uniform", "posterior": "gaussian"}, "take prior=gaussian"),
        ({"method": "regressor", "task": "conditional"}, "task=conditional needs method=ali"),
        ({"method": "gan", "feature_matching": True}, "feature_matching=True needs method=ali"),
        ({"feature_matching": True, "game": "saturating"}, "leave game alone"),
        ({"freeze_embedding": True}, "needs task=conditional"),
        ({"method": "post_hoc_ali"}, "at least 1"),
        ({"gan_steps": 5}, "never freezes"),
        ({"optimiser": "bigan"}, "needs decay_steps"),
    ],
)
def test_contradictions_are_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        ali.Config(**fields)


def test_missing_labels_are_named():
    unlabelled = DATA.spec._replace(classes=0)
    with pytest.raises(ValueError, match="task=conditional needs labels"):
        ali.make(ali.Config(**SMALL, task="conditional"), unlabelled)
    model = made(task="semisupervised")
    few = {name: value for name, value in BATCH.items() if name != "supervised"}
    with pytest.raises(ValueError, match="set labels_batch"):
        stepped(model, model.init(key()), few)


def test_the_ratio_compares_an_image_with_its_own_reconstruction():
    x = np.float64(next(DATA.test.examples(11))[0]["image"])
    perfect = ali.model.reconstruction_ratio(lambda s, b, r: b["image"], None, DATA, key(), 4)
    apart = np.linalg.norm((np.roll(x, 1, 0) - x).reshape(11, -1), axis=1).mean()
    assert perfect["reconstruction_ratio"] == 0
    np.testing.assert_allclose(perfect["distance_to_another"], apart, rtol=1e-6)
    blind = ali.model.reconstruction_ratio(lambda s, b, r: 0 * b["image"], None, DATA, key(), 4)
    np.testing.assert_allclose(blind["reconstruction_ratio"], 1, rtol=1e-6)
