import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats
import tiny

from jaxae.models import vqvae
from jaxae.models.vqvae.networks import CodePrior
from jaxae.nets import codebook
from jaxae.training.parallel import Engine, Mode
from jaxae.training.state import Spec

SHAPE, D, K, G = (4, 4, 1), 3, 5, 2
SPEC = Spec(SHAPE, size=16, classes=0, levels=2, mean=np.full(SHAPE, 0.3, np.float32))
TINY = vqvae.Config(
    codes=K, groups=G, code_width=D, halvings=1, conv_width=4, conv_blocks=1, restart=0.0,
    prior_width=4, prior_layers=2,
)  # fmt: skip
DATA = tiny.images()
ROUNDING = 1e-9  # of what is computed in float64, where it leaves some 1e-15 of a sum's terms


def batch_of(n=3, seed=0, shape=SHAPE):
    x = np.random.default_rng(seed).integers(0, 2, (n, *shape)).astype(np.float32)
    return {"image": jnp.asarray(x), "index": jnp.arange(n)}


@pytest.fixture
def recorded(monkeypatch):
    """Makes models whose optimisers move nothing and keep the gradient as their state."""
    keep = optax.GradientTransformation(
        lambda p: jax.tree.map(jnp.zeros_like, p),
        lambda g, s, p: (jax.tree.map(jnp.zeros_like, g), g),
    )
    monkeypatch.setattr(vqvae.model, "adam", lambda *_: keep)
    return lambda config: vqvae.make(config, SPEC)


def networks(config, p):
    """Encoder and decoder as functions of their parameters, built by hand from the same parts."""
    of_convolutions = (config.halvings, config.conv_width, config.conv_blocks, config.block_width)
    encoder = vqvae.model.Encoder(*of_convolutions, config.groups, config.code_width)
    decoder = vqvae.model.Decoder(SHAPE[:2], *of_convolutions, 1)
    return (
        lambda enc, x: encoder.apply({"params": enc}, x),
        lambda dec, z: decoder.apply({"params": dec}, z),
    )


# -- who gets which gradient ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "distances", "divisor"), [("gradient", "sum", 1), ("ema", "mean", D)]
)
@tiny.x64()
def test_gradients_are_isolated(recorded, kind, distances, divisor):
    """Encoder: the decoder's gradient at z_q plus commitment. Codebook: its own term's only."""
    config = dataclasses.replace(TINY, codebook=kind, distances=distances, commitment=0.7)
    model, batch = recorded(config), tiny.in_float64(batch_of())
    state = tiny.in_float64(jax.jit(model.init)(jax.random.key(0)).replace(step=jnp.int32(1)))
    if kind == "gradient":  # away from zero, so that its part in the rows is seen
        table = 0.3 * jnp.ones_like(state.params["codebook"]["table"])
        state = state.replace(params=state.params | {"codebook": {"table": table}})
    after, metrics = jax.jit(model.step)(state, batch, jax.random.key(1))
    found, p, x = after.opt["autoencoder"], state.params, batch["image"]
    assert set(found) == {"enc", "dec"} | ({"codebook"} if kind == "gradient" else set())

    enc, dec = networks(config, p)
    e = np.asarray(state.extra["table"]) + (0.3 if kind == "gradient" else 0.0)
    z_e, back = jax.vjp(lambda enc_p: enc(enc_p, x), p["enc"])
    distances_to = np.square(np.asarray(z_e)[..., None, :] - e).sum(-1)
    k = distances_to.argmin(-1)
    z_q = np.stack([e[g][k[..., g]] for g in range(G)], axis=-2)

    def reconstruction(dec_p, z):
        logits = dec(dec_p, z)
        return jnp.mean(jnp.sum(jnp.logaddexp(0, logits) - x * logits, axis=(1, 2, 3))) / 16

    of_dec, of_z_q = jax.grad(reconstruction, (0, 1))(p["dec"], jnp.asarray(z_q))
    n = k.size
    committed = 0.7 * 2 / (n * divisor) * (np.asarray(z_e) - z_q)
    (of_enc,) = back(of_z_q + committed)

    def close(ours, wanted):  # to a part of the largest
        assert ours.dtype == np.float64
        scale = np.abs(wanted).max()
        np.testing.assert_allclose(ours / scale, wanted / scale, rtol=0, atol=ROUNDING)

    jax.tree.map(close, found["dec"], of_dec)
    jax.tree.map(close, found["enc"], of_enc)
    assert np.abs(of_z_q).max() > 20 * ROUNDING
    if kind == "gradient":
        expected = np.zeros_like(e)
        for place in np.ndindex(k.shape):
            g, row = place[-1], k[place]
            expected[g, row] += 2 / (n * divisor) * (e[g, row] - np.asarray(z_e)[place])
        close(found["codebook"]["table"], expected)
    gaps = np.square(np.asarray(z_e) - z_q).sum(-1).mean() / divisor
    distortion = 16 * reconstruction(p["dec"], jnp.asarray(z_q))
    np.testing.assert_allclose(metrics["commitment"], gaps, rtol=ROUNDING)
    np.testing.assert_allclose(metrics["distortion"], distortion, rtol=ROUNDING)
    weight = 0.7 + (kind == "gradient")
    total = distortion / 16 + weight * gaps
    np.testing.assert_allclose(metrics["autoencoder"], total, rtol=ROUNDING)
    np.testing.assert_array_equal(metrics["loss"], metrics["distortion"] + metrics["prior"])


# -- what no gradient moves -------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gradient", "ema"])
def test_codebooks_begin_and_begin_anew_as_vectors_of_a_batch(recorded, kind):
    config = dataclasses.replace(TINY, codebook=kind, decay=0.9, restart=0.5)
    model, batch = recorded(config), batch_of()
    state, step = jax.jit(model.init)(jax.random.key(0)), jax.jit(model.step)
    vectors = np.asarray(jax.jit(model.encode)(state, batch["image"], jax.random.key(0)))
    vectors = vectors.reshape(-1, G, D)

    def samples(key):
        priority = np.asarray(jax.random.uniform(key, (3, 2, 2))).reshape(-1)
        return vectors[np.argsort(-priority)[:K]].transpose(1, 0, 2)

    def chosen(rows):
        k = np.square(vectors[:, :, None] - rows[None]).sum(-1).argmin(-1)  # [V, G]
        return k, np.stack([np.bincount(k[:, g], minlength=K) for g in range(G)])

    # The first step: rows and counts of one, then their moving averages.
    state, metrics = step(state, batch, jax.random.key(1))
    start = samples(jax.random.key(1))
    k, n = chosen(start)
    count = 0.9 + 0.1 * n
    np.testing.assert_allclose(state.extra["count"], count, rtol=1e-5)
    np.testing.assert_allclose(metrics["codes_used"], np.mean(n > 0), rtol=1e-6)
    rows = start
    if kind == "ema":
        sums = np.stack([[vectors[k[:, g] == j, g].sum(0) for j in range(K)] for g in range(G)])
        rows = (0.9 * start + 0.1 * sums) / count[..., None]
    np.testing.assert_allclose(state.extra["table"], rows, rtol=1e-4, atol=1e-5)
    assert metrics["restarted"] == 0

    # A later one, in which row 2 is far away, and has been for long.
    far, count[:, 2] = rows.copy(), 0.55
    far[:, 2] = 1e3
    extra = state.extra | {"table": jnp.asarray(far), "count": jnp.asarray(count, jnp.float32)}
    offset = 0.0
    if kind == "gradient":
        offset = np.float32(0.1) * np.ones_like(far)
        state = state.replace(params=state.params | {"codebook": {"table": jnp.asarray(offset)}})
    else:
        extra["total"] = jnp.asarray(far * count[..., None], jnp.float32)
    state, metrics = step(state.replace(extra=extra), batch, jax.random.key(2))
    count = 0.9 * count + 0.1 * chosen(far + offset)[1]
    dead = count < 0.5
    assert dead[:, 2].all()
    assert metrics["restarted"] == dead.sum()
    np.testing.assert_allclose(state.extra["count"], np.where(dead, 1.0, count), rtol=1e-5)
    fresh = samples(jax.random.key(2))
    np.testing.assert_allclose((state.extra["table"] + offset)[dead], fresh[dead], 1e-4, 1e-5)
    if kind == "ema":
        np.testing.assert_array_equal(state.extra["total"][dead], state.extra["table"][dead])


def test_two_stages_on_two_devices():
    """Before `stage_one` the prior rests, after it everything else does."""
    model = tiny.make("vqvae gradient", DATA, stage_one=2, restart=0.5)
    engine = Engine(model, DATA.train, tiny.plan(), Mode("pmap", 2, "calls", "sequence"))
    states, metrics, seen = engine.init(), [], []
    for step in range(5):
        seen.append(jax.tree.map(np.array, engine.part(states)[0]))
        states, on_the_way = engine.run(states, step, 1)
        metrics.append(engine.fetch(on_the_way))
    same = lambda one, two: all(map(np.array_equal, jax.tree.leaves(one), jax.tree.leaves(two)))
    moved = [
        {name for name in one.params if not same(one.params[name], two.params[name])}
        for one, two in itertools.pairwise(seen)
    ]
    assert moved == [{"enc", "dec", "codebook"}] * 2 + [{"prior"}] * 2
    assert not same(seen[2].extra, seen[1].extra)
    tiny.assert_same_bits(seen[4].extra, seen[2].extra)
    tiny.assert_same_bits(seen[4].opt["autoencoder"], seen[2].opt["autoencoder"])
    uniform = 4 * 2 * math.log(tiny.VARIANTS["vqvae"][1]["codes"])
    np.testing.assert_allclose([m["prior"][0, 0] for m in metrics[:2]], uniform, rtol=1e-6)
    assert abs(metrics[2]["prior"][0, 0] - uniform) > 1e-3
    assert metrics[2].keys() == metrics[0].keys()


# -- the prior over codes ---------------------------------------------------------------------


def random_prior(groups, codes, layers=2):
    net = CodePrior(codes, groups, 6, layers, first_kernel=3)
    k = jnp.zeros((1, 2, 2, groups), jnp.int32)
    shapes = jax.eval_shape(net.init, jax.random.key(0), k)["params"]
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda s: jnp.float32(0.4 * rng.normal(size=s.shape)), shapes)
    for layer in ("layer_1", "head"):  # every ReLU open, so that what passes is seen
        part = params["pixels"][layer].get("mix", params["pixels"][layer])
        part["bias"] = part["bias"] + 4
    if groups > 1:
        params["pixels"]["out"]["bias"] = params["pixels"]["out"]["bias"] + 4
    return net, {"params": params}


@pytest.mark.parametrize(("size", "groups", "codes"), [((2, 2), 1, 4), ((1, 3), 2, 3)])
def test_probabilities_of_all_maps_of_codes_sum_to_one(size, groups, codes):
    net, variables = random_prior(groups, codes)
    places = math.prod(size) * groups
    every = np.array(list(itertools.product(range(codes), repeat=places)), np.int32)
    k = jnp.asarray(every.reshape(-1, *size, groups))
    logits = np.float64(jax.jit(net.apply)(variables, k))
    log_p = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    log_p = np.take_along_axis(log_p, np.asarray(k)[..., None], -1).sum((1, 2, 3, 4))
    np.testing.assert_allclose(np.exp(log_p).sum(), 1.0, rtol=1e-5)
    assert log_p.std() > 0.1


@pytest.mark.parametrize("groups", [1, 2])
def test_a_code_depends_on_the_codes_before_it_and_on_no_other(groups):
    net, variables = random_prior(groups, 4)
    vectors = jax.random.normal(jax.random.key(1), (3, 3, groups, 6))
    of_vectors = lambda v: net.apply(variables, v[None], method="of_embedded")[0]
    full = np.abs(jax.jit(jax.jacrev(of_vectors))(vectors))
    count = 9 * groups
    seen = full.reshape(count, 4, count, 6).sum((1, 3)) != 0
    assert not np.triu(seen).any()
    # A kernel of 3 with two layers sees all neighbours before: left, above, and both diagonals.
    for place in range(1, count):
        assert seen[place, place - 1] or place % (3 * groups) < groups
    if groups == 2:
        assert all(seen[2 * i + 1, 2 * i] for i in range(9))
    centre = 4 * groups
    assert all(seen[centre, other * groups] for other in range(4))


def test_cached_samples_are_the_naive_ones():
    groups, size, n = 2, (2, 3), 4
    net, variables = random_prior(groups, 5)
    key = jax.random.key(3)
    found = np.asarray(jax.jit(lambda v, key: net.sample(v, n, size, key))(variables, key))
    assert found.dtype == np.int32
    logits_of = jax.jit(net.apply)
    naive = np.zeros((n, *size, groups), np.int32)
    for place, g in itertools.product(range(6), range(groups)):
        row, column = divmod(place, 3)
        logits = logits_of(variables, jnp.asarray(naive))[:, row, column, g]
        one = jax.random.fold_in(jax.random.fold_in(jax.random.clone(key), place), g)
        naive[:, row, column, g] = jax.random.categorical(one, logits)
    np.testing.assert_array_equal(found, naive)
    assert len(np.unique(found)) > 2


def test_the_prior_learns_what_can_be_learnt():
    """log K nats per code of independent uniform codes, none of a pattern that it can follow."""
    net, codes, steps = CodePrior(4, 1, 6, 2, first_kernel=3), 4, 150
    tx = optax.adam(optax.cosine_decay_schedule(3e-2, steps))

    def loss(params, k):
        logits = net.apply({"params": params}, k)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, k))

    @jax.jit
    def fit(rng, batches, test):
        params = net.init(rng, test)["params"]

        def step(carry, k):
            params, opt = carry
            updates, opt = tx.update(jax.grad(loss)(params, k), opt)
            return (optax.apply_updates(params, updates), opt), None

        return loss(jax.lax.scan(step, (params, tx.init(params)), batches)[0][0], test)

    draw = lambda seed, *shape: jax.random.randint(
        jax.random.key(seed), (*shape, 3, 3, 1), 0, codes
    )
    found = fit(jax.random.key(0), draw(1, steps, 64), draw(2, 2000))
    assert abs(found - math.log(codes)) < 0.01
    raster = lambda *shape: jnp.broadcast_to(jnp.arange(9).reshape(3, 3, 1) % 4, (*shape, 3, 3, 1))
    assert abs(fit(jax.random.key(0), raster(steps, 64), raster(2000))) < 0.01


# -- what an image costs ----------------------------------------------------------------------


def test_rates_and_bits_of_models_that_know_nothing():
    """A silent decoder over 256 levels costs 8 bits; uniform codes cost N log2 K."""
    config = dataclasses.replace(TINY, likelihood="categorical", halvings=2, conv_width=4)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (14, 8, 8, 1)).astype(np.uint8)
    data = tiny.from_arrays(images[:8], test_images=images[8:])
    model = vqvae.make(config, data.spec)
    state = jax.jit(model.init)(jax.random.key(0))
    silent = lambda tree: jax.tree.map(jnp.zeros_like, tree)
    params = state.params | {"dec": silent(state.params["dec"])}
    params["prior"] = silent(params["prior"])
    state = state.replace(params=params)
    rate = 4 * G * math.log(K)
    off = tiny.rounding(64 + 4 * G + 4)  # 64 pixels and 4 G codes, whose logarithms are rounded too
    found = model.assess(state, data, jax.random.key(1))
    for name in ("uniform", "prior"):
        np.testing.assert_allclose(found[f"rate_{name}"], rate, rtol=off)
        bits = 8 + rate / math.log(2) / 64
        np.testing.assert_allclose(found[f"bits_per_dim_{name}"], bits, rtol=off)
    batch = {"image": jnp.float32(images[8:] / 255)}
    each = jax.jit(model.evaluate)(state, batch, jax.random.key(2))
    np.testing.assert_allclose(each["rate_uniform"], rate, rtol=1e-6)
    np.testing.assert_allclose(each["loss"], rate + 64 * math.log(256), rtol=off)
    weight = jax.jit(model.log_weight)(state, batch["image"], jax.random.key(3))
    np.testing.assert_allclose(weight, -rate - 64 * math.log(256), rtol=off)

    # Unigram and usage by numpy, from what encode says.
    k = {}
    for split, x in (("train", images[:8]), ("test", images[8:])):
        z = model.encode(state, jnp.float32(x / 255), jax.random.key(4)).reshape(-1, G, D)
        e = np.asarray(state.extra["table"])
        k[split] = np.square(np.asarray(z)[:, :, None] - e[None]).sum(-1).argmin(-1)
    n = np.stack([np.bincount(k["train"][:, g], minlength=K) for g in range(G)])
    share = (n + 1) / (n + 1).sum(1, keepdims=True)
    unigram = -np.log([share[g, k["test"][:, g]] for g in range(G)]).sum() / 6
    np.testing.assert_allclose(found["rate_unigram"], unigram, rtol=1e-6)
    np.testing.assert_allclose(found["codes_used_train"], np.mean(n > 0))
    used = [len(np.unique(k["test"][:, g])) / K for g in range(G)]
    np.testing.assert_allclose(found["codes_used_test"], np.mean(used))
    p = n / n.sum(1, keepdims=True)
    entropy = -np.sum(p * np.log(np.maximum(p, 1e-30)), axis=1)
    np.testing.assert_allclose(found["perplexity_train"], np.exp(entropy).mean())


def test_bits_of_a_density_are_not_reported():
    model = vqvae.make(dataclasses.replace(TINY, likelihood="gaussian"), DATA.spec)
    found = model.assess(jax.jit(model.init)(jax.random.key(0)), DATA, jax.random.key(1))
    assert not [name for name in found if name.startswith("bits")]


def test_codes_are_mixed_before_they_are_quantised():
    """decode takes what encode gives, quantises it, and so is constant within a cell."""
    model = vqvae.make(TINY, SPEC)
    state = jax.jit(model.init)(jax.random.key(0))
    x, decode = batch_of(2)["image"], jax.jit(model.decode)
    z = model.encode(state, x, jax.random.key(1))
    e = np.asarray(state.extra["table"])
    mixed = np.asarray(0.3 * z[:1] + 0.7 * z[1:])
    parts = mixed.reshape(-1, G, D)
    k = np.square(parts[:, :, None] - e[None]).sum(-1).argmin(-1)
    rows = np.stack([e[g][k[:, g]] for g in range(G)], axis=1).reshape(1, -1)
    found = decode(state, jnp.asarray(mixed), jax.random.key(2))
    np.testing.assert_array_equal(found, decode(state, jnp.asarray(rows), jax.random.key(2)))
    half = 0.5 * (mixed + rows)  # still nearest to the same rows
    np.testing.assert_array_equal(found, decode(state, jnp.asarray(half), jax.random.key(2)))


def test_samples_are_decoded_codes_of_the_prior():
    model = vqvae.make(TINY, SPEC)
    state = jax.jit(model.init)(jax.random.key(0))
    prior = CodePrior(K, G, TINY.prior_width, TINY.prior_layers)
    of_codes, _ = jax.random.split(jax.random.key(1))
    k = prior.sample({"params": state.params["prior"]}, 3, (2, 2), of_codes)
    z_q = codebook.gather_rows(state.extra["table"], k).reshape(3, -1)
    samples = jax.jit(model.sample, static_argnums=2)(state, jax.random.key(1), 3)
    expected = jax.jit(model.decode)(state, z_q, jax.random.key(2))
    np.testing.assert_allclose(samples, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("likelihood", ["gaussian", "logistic_mixture", "categorical"])
def test_other_likelihoods_and_sizes_fit_together(likelihood):
    shape = (7, 9, 2)
    spec = Spec(shape, size=4, classes=0, levels=3, mean=np.full(shape, 0.5, np.float32))
    config = dataclasses.replace(TINY, likelihood=likelihood, halvings=2, extra_conv=True,
                                 block_width=2, prior_head=3)  # fmt: skip
    model, x = vqvae.make(config, spec), jnp.zeros((4, *shape))

    def run(init, step, encode, decode, sample):
        state, metrics = model.step(model.init(init), {"image": x}, step)
        z = model.encode(state, x, encode)
        return metrics["loss"], z, model.decode(state, z, decode), model.sample(state, sample, 4)

    loss, z, back, samples = jax.eval_shape(run, *jax.random.split(jax.random.key(0), 5))
    assert (loss.shape, z.shape) == ((), (4, 2 * 3 * G * D))
    assert back.shape == samples.shape == x.shape


# -- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        *(({name: 0}, f"{name}=0 must be at least 1")
          for name in ("groups", "code_width", "halvings", "mixtures", "prior_layers",
                       "prior_width")),
        ({"conv_width": 1}, "conv_width=1 must be at least 2"),
        ({"codes": 1}, "codes=1 must be at least 2"),
        ({"decay": 1.0}, "decay=1.0 must be at least 0 and less than 1"),
        ({"restart": 2.0}, "restart=2.0 must be at least 0 and at most 1"),
        ({"stage_one": -1}, "stage_one=-1 must be at least 0"),
        ({"commitment": -0.1}, "commitment=-0.1 must be at least 0"),
        ({"decoder_first": -1}, "decoder_first=-1 must be at least 0"),
    ],
)  # fmt: skip
def test_contradictions_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        vqvae.Config(**fields)


def test_images_that_cannot_be_halved_so_often_are_refused():
    with pytest.raises(ValueError, match="halvings=3 is too much for images of 4x4"):
        vqvae.make(dataclasses.replace(TINY, halvings=3), SPEC)


def test_a_softmax_over_continuous_pixels_is_refused():
    with pytest.raises(ValueError, match=r"categorical.*levels=0"):
        vqvae.make(dataclasses.replace(TINY, likelihood="categorical"), SPEC._replace(levels=0))


# -- a decoder that sees the pixels before ------------------------------------------------------


@pytest.mark.parametrize("decoder", ["made", "pixelcnn"])
def test_an_autoregressive_decoder_is_a_distribution_of_images_and_draws_from_it(decoder):
    """Over all images of four bits, for a code that is the same for all; and at another code."""
    shape, draws = (2, 2, 1), 20_000
    spec = SPEC._replace(image_shape=shape, mean=np.full(shape, 0.3, np.float32))
    config = dataclasses.replace(TINY, decoder=decoder, widths=(8,), pixelcnn_map=2)
    model = vqvae.make(config, spec)
    state = model.init(jax.random.key(0))
    blind = jax.tree.map(jnp.zeros_like, state.params["enc"])
    rng = np.random.default_rng(1)  # neither independent pixels nor a code that is not heard
    wide = jax.tree.map(lambda w: jnp.float32(0.6 * rng.normal(size=w.shape)), state.params["dec"])
    state = state.replace(params=state.params | {"enc": blind, "dec": wide})
    every = np.array(list(itertools.product((0.0, 1.0), repeat=4)), np.float32)
    images, evaluate = {"image": jnp.asarray(every).reshape(-1, *shape)}, jax.jit(model.evaluate)
    chance = np.exp(-np.asarray(evaluate(state, images, None)["distortion"], np.float64))
    np.testing.assert_allclose(chance.sum(), 1, rtol=1e-5)
    by_pixels = every.T @ chance  # of independent pixels that would be all there is to know
    alone = np.prod(np.where(every, by_pixels, 1 - by_pixels), axis=1)
    assert np.abs(alone - chance).max() > 0.01
    code = jnp.zeros((draws, config.groups * config.code_width))
    samples = np.asarray(jax.jit(model.decode)(state, code, jax.random.key(1))).reshape(draws, 4)
    counts = np.bincount((samples @ [8, 4, 2, 1]).astype(int), minlength=16)
    assert scipy.stats.chisquare(counts, draws * chance / chance.sum()).pvalue > 1e-3
    moved = state.replace(extra=state.extra | {"table": state.extra["table"] + 2.0})
    other = np.exp(-np.asarray(evaluate(moved, images, None)["distortion"], np.float64))
    np.testing.assert_allclose(other.sum(), 1, rtol=1e-5)
    assert np.abs(other - chance).max() > 0.01


@pytest.mark.parametrize("decoder", ["made", "pixelcnn"])
def test_codes_that_join_leave_the_distortion_as_it_was(recorded, decoder):
    model = recorded(dataclasses.replace(TINY, decoder=decoder, decoder_first=3))
    state, step = model.init(jax.random.key(1)), jax.jit(model.step)
    seen = [step(state.replace(step=jnp.int32(at)), batch_of(8), jax.random.key(2))[1]
            for at in (2, 3)]  # fmt: skip
    assert seen[0]["distortion"] == seen[1]["distortion"]
    assert seen[0]["autoencoder"] < seen[1]["autoencoder"]  # the codes' own terms have joined


@pytest.mark.parametrize("kind", ["gradient", "ema"])
def test_the_decoder_alone_at_first(recorded, kind):
    config = dataclasses.replace(TINY, codebook=kind, decoder="made", decoder_first=3)
    model, batch = recorded(config), batch_of(8)
    state, step = model.init(jax.random.key(1)), jax.jit(model.step)
    for at, joined in ((2, False), (4, True)):
        after, metrics = step(state.replace(step=jnp.int32(at)), batch, jax.random.key(2))
        found = after.opt["autoencoder"]
        moved = {name: any(map(np.any, jax.tree.leaves(g))) for name, g in found.items()}
        learned = {"codebook": joined} if kind == "gradient" else {}
        assert moved == {"enc": joined, "dec": True} | learned
        bare = float(metrics["distortion"]) / math.prod(SHAPE)
        assert (float(metrics["autoencoder"]) == pytest.approx(bare, rel=1e-6)) is not joined
    # Before, the decoder knows nothing of the image but the pixels before.
    moved = state.replace(extra=state.extra | {"table": state.extra["table"] + 1.0})
    costs = [float(step(s.replace(step=jnp.int32(2)), batch, jax.random.key(2))[1]["distortion"])
             for s in (state, moved)]  # fmt: skip
    assert costs[0] == costs[1]


@tiny.x64()
def test_what_joins_begins_anew():
    """At the step of joining: Adam's moments, and codebooks at vectors of the batch."""
    states, batch, params = {}, tiny.in_float64(batch_of(8)), None
    for first in (3, 0):
        config = dataclasses.replace(TINY, decoder="made", decoder_first=first)
        model = vqvae.make(config, SPEC)
        state = tiny.in_float64(model.init(jax.random.key(1)))
        params = params or state.params  # the decoder begins in two ways
        state = state.replace(params=params)
        if first:
            worn = jax.tree.map(lambda x: x + 5, (state.opt["autoencoder"], state.extra))
            opt = state.opt | {"autoencoder": worn[0]}
            state = state.replace(step=jnp.int32(3), opt=opt, extra=worn[1])
        states[first] = jax.jit(model.step)(state, batch, jax.random.key(2))[0]
    parts = lambda state: (state.params, state.opt, state.extra)
    tiny.assert_close(parts(states[3]), parts(states[0]), ROUNDING, ROUNDING)


def test_a_decoder_that_learns_alone_for_all_of_stage_one_is_refused():
    with pytest.raises(ValueError, match="stage_one=3 must be more than decoder_first=3"):
        dataclasses.replace(TINY, stage_one=3, decoder_first=3)
