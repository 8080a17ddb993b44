import dataclasses
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from scipy.integrate import trapezoid
from scipy.special import logsumexp
from scipy.stats import chisquare, kstest, norm

from jaxae import losses, nets
from jaxae.models import acn
from jaxae.models.acn import memory as acn_memory
from jaxae.models.acn import networks as acn_networks
from jaxae.training.state import Spec

SHAPE, SIZE, D = (2, 2, 1), 12, 2
SPEC = Spec(SHAPE, size=SIZE, classes=0, levels=2, mean=np.full(SHAPE, 0.3, np.float32))
TINY = acn.Config(
    latent=D, widths=(), decoder="mlp", prior_widths=(3, 3), components=2, neighbours=2
)
# N(c^, I) as the prior of one code: the rate |c - c^|^2 / 2 tells how far the neighbour was.
RULER = dataclasses.replace(TINY, variant="gaussian_neighbour", neighbours=1)


@pytest.fixture
def recorded(monkeypatch):
    """The optimiser moves nothing and keeps the gradient as its state."""
    keep = optax.GradientTransformation(
        lambda p: jax.tree.map(jnp.zeros_like, p),
        lambda g, s, p: (jax.tree.map(jnp.zeros_like, g), g),
    )
    monkeypatch.setattr(acn.model, "adam", lambda *_: keep)


def batch_of(images, index):
    return {"image": jnp.asarray(images, jnp.float32), "index": jnp.asarray(index, jnp.int32)}


def random_batch(n=4, seed=0):
    generator = np.random.default_rng(seed)
    x = generator.integers(0, 2, (n, *SHAPE))
    return batch_of(x, generator.permutation(SIZE)[:n])


def spread_out(state):
    """The state with larger parameters, so that no term of a loss is negligible; half of the scales
    of a prior network are narrower than 1."""
    params = jax.tree.map(lambda p: 2 * p + 0.1, state.params)
    if "Dense_2" in params.get("prior", {}):
        last = params["prior"]["Dense_2"]
        raw = last["bias"].reshape(3, D, -1).at[2, 0].set(-0.3)
        params["prior"] = params["prior"] | {"Dense_2": last | {"bias": raw.reshape(-1)}}
    return state.replace(params=params)


def reading_codes(state):
    """The state whose code is the image's first two pixels."""
    kernel = jnp.zeros((4, D)).at[:D].set(jnp.eye(D))
    return state.replace(
        params=state.params | {"enc": {"Dense_0": {"kernel": kernel, "bias": jnp.zeros(D)}}}
    )


def showing(codes, index):
    """A batch of images whose codes under `reading_codes` are `codes` [B,2]."""
    codes = np.asarray(codes, np.float32)
    return batch_of(np.concatenate([codes, np.zeros_like(codes)], 1).reshape(-1, *SHAPE), index)


def with_memory(state, memory, written=None):
    memory = jnp.asarray(memory, state.extra["memory"].dtype)
    extra = state.extra | {"memory": memory}
    if written is not None:
        extra["written"] = jnp.asarray(written)
    return state.replace(extra=extra)


# -- the objective, written again in numpy ----------------------------------------------------


def dense(net, h):
    return h @ np.float64(net["kernel"]) + np.float64(net["bias"])


def prior_by_hand(p, neighbour):
    """The prior network of TINY: log-weights, means, scales [B,D,M]."""
    first = np.tanh(dense(p["Dense_0"], neighbour))
    second = np.tanh(dense(p["Dense_1"], np.concatenate([first, neighbour], 1)))
    out = dense(p["Dense_2"], np.concatenate([first, second], 1)).reshape(len(neighbour), 3, D, -1)
    log_weights = out[:, 0] - logsumexp(out[:, 0], axis=-1, keepdims=True)
    log_scales = np.where(out[:, 2] < 0, 0.5 * np.tanh(2 * out[:, 2]), 5 * np.tanh(out[:, 2] / 5))
    return log_weights, out[:, 1], np.exp(log_scales)


def log_mixture(z, log_weights, means, scales):
    """z [..., B, D] -> log p of each dimension."""
    each = log_weights - np.log(scales) - 0.5 * ((z[..., None] - means) / scales) ** 2
    return logsumexp(each - 0.5 * np.log(2 * np.pi), axis=-1)


def kl_by_integration(code, mixture):
    """KL(N(code, I) || mixture) of each example, on a fine grid."""
    noise = np.linspace(-9, 9, 4001)[:, None, None]
    log_q = -0.5 * noise**2 - 0.5 * np.log(2 * np.pi)
    difference = log_q - log_mixture(code + noise, *mixture)
    return trapezoid(np.exp(log_q) * difference, noise, axis=0).sum(1)


def test_both_sides_of_the_priors_scales_are_in_the_oracle():
    state = spread_out(acn.make(TINY, SPEC).init(jax.random.key(1)))
    scales = prior_by_hand(state.params["prior"], np.random.default_rng(0).normal(size=(4, D)))[2]
    assert np.exp(-0.5) <= scales.min() < 0.9 < 1.1 < scales.max()


def step_by_hand(config, state, batch, rng):
    """Rate [B], distortion [B] and the memory after the step."""
    of_choice, of_z = jax.random.split(rng)
    p, x = state.params, np.float64(batch["image"]).reshape(len(batch["image"]), -1)
    index = np.asarray(batch["index"])
    code, log_var, memory = dense(p["enc"]["Dense_0"], x), 0.0, None
    if config.variant == "vae":
        code, raw = np.split(code, 2, axis=1)
        log_var = 10 * np.tanh(raw / 10)
    noise = np.float64(jax.random.normal(of_z, code.shape))
    z = code + np.exp(log_var / 2) * noise
    neighbour = np.zeros_like(code)
    if config.variant in ("acn", "gaussian_neighbour"):
        memory = np.array(state.extra["memory"], np.float64)
        memory[index] = code  # first written, then searched
        rank = np.asarray(jax.random.randint(of_choice, (len(index),), 0, config.neighbours))
        for b, own in enumerate(index):
            distances = np.sum((memory - code[b]) ** 2, axis=1)
            distances[own] = np.inf
            neighbour[b] = memory[np.argsort(distances, kind="stable")[rank[b]]]
    if config.variant == "decoder":
        rate, z = np.zeros(len(x)), np.zeros_like(z)
    elif config.variant in ("vae", "vae_unit"):
        rate = 0.5 * np.sum(code**2 + np.exp(log_var) - 1 - log_var, axis=1)
    elif config.variant == "gaussian_neighbour":
        s = np.exp(float(p["prior"]["log_s"]))
        rate = np.sum(np.log(s) + (1 + (code - neighbour) ** 2) / (2 * s**2) - 0.5, axis=1)
    else:
        mixture = prior_by_hand(p["prior"], neighbour)
        rate = kl_by_integration(code, mixture)
        if config.kl == "sample":
            log_q = -0.5 * noise**2 - 0.5 * np.log(2 * np.pi)
            rate = np.sum(log_q - log_mixture(z, *mixture), axis=1)
    logits = dense(p["dec"]["Dense_0"], z)
    return rate, np.sum(np.logaddexp(0, logits) - x * logits, axis=1), memory


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"kl": "sample"},
        {"components": 1},
        *({"variant": name} for name in ("unconditional", "gaussian_neighbour")),
        *({"variant": name} for name in ("vae", "vae_unit", "decoder")),
    ],
    ids=lambda fields: ",".join(map(str, fields.values())) or "acn",
)
def test_objective_against_numpy(recorded, fields):
    config = dataclasses.replace(TINY, nodes=128, **fields)
    model, batch = acn.make(config, SPEC), random_batch()
    state = spread_out(model.init(jax.random.key(1)))
    after, metrics = jax.jit(model.step)(state, batch, jax.random.key(2))
    rate, distortion, memory = step_by_hand(config, state, batch, jax.random.key(2))
    np.testing.assert_allclose(metrics["rate"], rate.mean(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(metrics["distortion"], distortion.mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], (rate + distortion).mean(), rtol=1e-4)
    assert int(after.step) == 1
    if memory is not None:
        np.testing.assert_allclose(after.extra["memory"], memory, rtol=1e-5, atol=1e-6)
        moved = np.mean((memory - np.asarray(state.extra["memory"]))[batch["index"]] ** 2)
        np.testing.assert_allclose(metrics["memory_drift"], moved, rtol=1e-4)
        assert set(np.flatnonzero(after.extra["written"])) == set(batch["index"].tolist())


def test_evaluate_averages_over_the_k_nearest_others():
    model = acn.make(dataclasses.replace(RULER, neighbours=3), SPEC)
    memory = np.random.default_rng(0).normal(size=(SIZE, D))
    state = with_memory(reading_codes(model.init(jax.random.key(0))), memory)
    codes = [[0.1, 0.2], [1.0, 0.0]]
    halves = 0.5 * np.sum((memory[None] - np.array(codes)[:, None]) ** 2, axis=2)
    own = int(np.argmin(halves[0]))  # the first is in the training set, the other is not
    found = jax.jit(model.evaluate)(state, showing(codes, [own, -1]), jax.random.key(1))
    halves[0, own] = np.inf
    np.testing.assert_allclose(found["rate"], np.sort(halves)[:, :3].mean(1), rtol=1e-5)
    np.testing.assert_array_equal(found["loss"], found["rate"] + found["distortion"])


def test_evaluation_integrates_further_than_training():
    """Of narrow components 64 nodes miss some 0.2 per cent, four (as in training here) a tenth."""
    model = acn.make(dataclasses.replace(TINY, nodes=4, neighbours=1), SPEC)
    state, batch = spread_out(model.init(jax.random.key(1))), random_batch()
    narrow = state.params["prior"]["Dense_2"]
    bias = narrow["bias"].reshape(3, D, -1).at[2].set(-3.0).reshape(-1)
    prior = state.params["prior"] | {"Dense_2": narrow | {"bias": bias}}
    state = state.replace(params=state.params | {"prior": prior})
    memory = np.asarray(state.extra["memory"], np.float64)
    x = np.float64(batch["image"]).reshape(4, -1)
    code = dense(state.params["enc"]["Dense_0"], x)
    squares = np.sum((code[:, None] - memory[None]) ** 2, axis=2)
    squares[np.arange(4), np.asarray(batch["index"])] = np.inf
    wanted = kl_by_integration(code, prior_by_hand(prior, memory[squares.argmin(1)]))
    found = jax.jit(model.evaluate)(state, batch, jax.random.key(2))
    np.testing.assert_allclose(found["rate"], wanted, rtol=5e-3)


# -- who moves what ---------------------------------------------------------------------------


@tiny.x64()
def test_gradients_of_the_parts(recorded):
    model, batch = acn.make(TINY, SPEC), tiny.in_float64(random_batch())
    state = tiny.in_float64(spread_out(model.init(jax.random.key(1))))
    step = jax.jit(model.step)
    gradient = lambda s: step(s, batch, jax.random.key(2))[0].opt["autoencoder"]
    bent = lambda name: state.replace(
        params=state.params | {name: jax.tree.map(lambda p: p + 0.3, state.params[name])}
    )
    same = lambda a, b: all(jax.tree.leaves(jax.tree.map(lambda x, y: bool((x == y).all()), a, b)))
    plain, other_decoder, other_prior = map(gradient, (state, bent("dec"), bent("prior")))
    assert same(plain["prior"], other_decoder["prior"])  # the decoder's term leaves it alone
    assert same(plain["dec"], other_prior["dec"])  # and the rate leaves the decoder alone
    assert not same(plain["enc"], other_decoder["enc"])
    assert not same(plain["enc"], other_prior["enc"])

    def total(params, memory):
        moved = with_memory(state.replace(params=params), memory)
        return step(moved, batch, jax.random.key(2))[1]["loss"]

    of_params, of_memory = jax.grad(total, (0, 1))(state.params, state.extra["memory"])
    assert not of_memory.any()
    # The codes just written have no gradient either: nothing is added by way of the memory.
    tiny.assert_close(of_params, plain, rtol=1e-9, atol=1e-12)


def test_the_decoder_alone_at_first(recorded):
    model, batch = acn.make(dataclasses.replace(TINY, decoder_first=3), SPEC), random_batch()
    state, step = spread_out(model.init(jax.random.key(1))), jax.jit(model.step)
    for at, joined in ((2, False), (3, True)):
        after, metrics = step(state.replace(step=jnp.int32(at)), batch, jax.random.key(2))
        assert (float(metrics["loss"]) == float(metrics["distortion"])) is not joined
        moved = {
            k: any(map(np.any, jax.tree.leaves(g))) for k, g in after.opt["autoencoder"].items()
        }
        assert moved == {"enc": joined, "dec": True, "prior": joined}


@pytest.mark.parametrize("decoder", ["made", "pixelcnn"])
def test_a_code_that_joins_leaves_the_distortion_as_it_was(decoder):
    """The decoder trains alone for two steps; the third has z, or not with decoder_first=3."""
    small = {"decoder": decoder, "widths": (4,), "pixelcnn_width": 2, "pixelcnn_layers": 2}
    result, batch = {}, random_batch()
    for alone in (2, 3):
        model = acn.make(dataclasses.replace(TINY, decoder_first=alone, **small), SPEC)
        state, step = jax.jit(model.init)(jax.random.key(1)), jax.jit(model.step)
        for t in range(3):
            before, (state, metrics) = state, step(state, batch, jax.random.key(t))
        result[alone] = metrics
        moved = jax.tree.map(lambda a, b: bool((a != b).any()), before.params, state.params)
    assert result[2]["distortion"] == result[3]["distortion"]
    assert result[2]["loss"] == result[2]["distortion"] + result[2]["rate"]
    assert result[3]["loss"] == result[3]["distortion"]
    assert any(jax.tree.leaves(moved["dec"]))


@tiny.x64()
def test_adam_begins_anew_when_the_code_joins():
    """Averages over steps in which the code had no gradient would make its first moves too long."""
    states, batch = {}, tiny.in_float64(random_batch())
    for first in (3, 0):
        model = acn.make(dataclasses.replace(TINY, decoder_first=first), SPEC)
        state = tiny.in_float64(model.init(jax.random.key(1)).replace(step=jnp.int32(3)))
        worn = jax.tree.map(lambda x: x + 5, state.opt)
        state = state.replace(opt=worn if first else state.opt)
        states[first] = jax.jit(model.step)(state, batch, jax.random.key(2))[0]
    parts = lambda state: (state.params, state.opt)
    tiny.assert_close(parts(states[3]), parts(states[0]), rtol=1e-9, atol=1e-12)


def test_sampled_rate_is_unbiased(recorded):
    batch, many, found = random_batch(), 4000, {}
    for kl in ("sample", "quadrature"):
        config = dataclasses.replace(TINY, kl=kl, neighbours=1, nodes=64)
        model = acn.make(config, SPEC)
        state = spread_out(model.init(jax.random.key(1)))
        one = lambda key: model.step(state, batch, key)[1]["rate"]
        found[kl] = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(2), many))
    assert np.ptp(found["quadrature"]) < 1e-5
    error = np.std(found["sample"]) / np.sqrt(many)
    assert error > 0
    assert abs(np.mean(found["sample"]) - found["quadrature"][0]) < 5 * error


@pytest.mark.parametrize("variant", ["acn", "gaussian_neighbour", "unconditional", "vae"])
def test_what_a_variant_has(variant):
    """What needs a memory, and names that say of a loss that it is given one."""
    model = acn.make(dataclasses.replace(TINY, variant=variant), SPEC)
    remembers = variant in ("acn", "gaussian_neighbour")
    assert (model.assess is not None) == (model.refresh is not None) == remembers
    assert ("loss" in model.result_names) == ("rate" in model.result_names) == remembers
    assert ("memory" in jax.eval_shape(model.init, jax.random.key(0)).extra) == remembers


# -- the memory -------------------------------------------------------------------------------


@pytest.fixture
def ruler(recorded):
    """`measure(state, codes, index)` -> the new state and the mean distance^2 to neighbours."""
    model = acn.make(RULER, SPEC)
    step = jax.jit(model.step)

    def measure(state, codes, index):
        state, metrics = step(state, showing(codes, index), jax.random.key(3))
        return state, 2 * float(metrics["rate"])

    return model, reading_codes(model.init(jax.random.key(0))), measure


def test_the_memory_before_the_first_step():
    extra = acn_memory.empty(jax.random.key(0), 500, 4, unique=True)
    assert kstest(np.reshape(extra["memory"], -1), norm.cdf).pvalue > 1e-4
    assert not extra["written"].any()
    assert not extra["used"].any()


FAR = 100 + 10 * np.arange(2 * SIZE).reshape(SIZE, D)


def test_never_itself_but_a_duplicate_elsewhere(ruler):
    _, state, measure = ruler
    memory = FAR.astype(float)
    memory[7] = [0.0, 2.0]
    _, distance = measure(with_memory(state, memory), [[0.0, 0.0]], [3])
    assert distance == pytest.approx(4.0)  # row 7; the item's own row 3 is at distance 0 by now
    memory[8] = [0.0, 0.0]
    _, distance = measure(with_memory(state, memory), [[0.0, 0.0]], [3])
    assert distance == 0.0


def test_rows_are_written_by_index_before_the_search(ruler):
    _, state, measure = ruler
    after, distance = measure(with_memory(state, FAR), [[0.0, 1.0], [3.0, 1.0]], [9, 2])
    assert distance == pytest.approx(9.0)  # the two have each other; all old rows are far
    expected = FAR.astype(np.float32)
    expected[9], expected[2] = [0.0, 1.0], [3.0, 1.0]
    np.testing.assert_array_equal(after.extra["memory"], expected)
    assert np.flatnonzero(after.extra["written"]).tolist() == [2, 9]


def test_an_image_outside_the_training_set_is_not_written(ruler):
    _, state, measure = ruler
    after, distance = measure(with_memory(state, FAR), [[0.0, 1.0], [3.0, 1.0]], [-1, 4])
    expected = FAR.astype(np.float32)
    expected[4] = [3.0, 1.0]
    np.testing.assert_array_equal(after.extra["memory"], expected)
    assert np.flatnonzero(after.extra["written"]).tolist() == [4]
    # -1 finds row 4 at 9; row 4 may not find itself and takes row 0, (100, 110).
    assert distance == pytest.approx((9 + 97**2 + 109**2) / 2)


def test_refresh_writes_and_drops(ruler):
    model, state, _ = ruler
    batch = showing([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [0, -1, 11])
    after = jax.jit(model.refresh)(with_memory(state, FAR), batch, jax.random.key(0))
    expected = FAR.astype(np.float32)
    expected[0], expected[11] = [1.0, 0.0], [1.0, 1.0]
    np.testing.assert_array_equal(after.extra["memory"], expected)
    jax.tree.map(np.testing.assert_array_equal, after.params, state.params)


@pytest.mark.parametrize(("already", "distance"), [((6, 8), 25.0), ((6,), 25.0), ((), 1.0)])
def test_only_written_rows_where_there_are_enough(recorded, already, distance):
    """Row 1 is nearest but never written, row 6 next. One row is the item's own: K + 1 are
    enough, and with fewer any row will do."""
    model = acn.make(dataclasses.replace(RULER, only_written=True), SPEC)
    memory = FAR.astype(float)
    memory[1], memory[6] = [1.0, 0.0], [5.0, 0.0]
    state = reading_codes(model.init(jax.random.key(0)))
    state = with_memory(state, memory, np.isin(np.arange(SIZE), already))
    _, metrics = jax.jit(model.step)(state, showing([[0.0, 0.0]], [3]), jax.random.key(1))
    assert 2 * float(metrics["rate"]) == pytest.approx(distance)


@pytest.mark.parametrize("only_written", [False, True])
def test_unique_neighbours_against_a_slow_reference(recorded, only_written):
    k, batch, passes = 2, 4, 3
    config = dataclasses.replace(
        RULER, unique_neighbours=True, neighbours=k, only_written=only_written
    )
    model = acn.make(config, SPEC)
    generator, step = np.random.default_rng(0), jax.jit(model.step)
    state = reading_codes(model.init(jax.random.key(0)))
    memory, allowed, without = np.array(state.extra["memory"]), set(range(SIZE)), 0
    written = set()
    for t in range(2 * passes):
        if t % passes == 0:
            order, used = generator.permutation(SIZE), set()
        index = order[t % passes * batch :][:batch]
        codes = generator.normal(size=(batch, D)).astype(np.float32)
        memory[index] = codes
        written |= set(index.tolist())
        allowed = written if only_written else allowed  # always more than k
        rank = jax.random.randint(jax.random.split(jax.random.key(t))[0], (batch,), 0, k)
        distances = []
        for b in np.argsort(index):
            far = np.sum((memory - codes[b]) ** 2, axis=1)
            ranked = [j for j in np.argsort(far, kind="stable") if j != index[b] and j in allowed]
            free = [j for j in ranked if j not in used][:k]
            without += not free
            row = free[int(rank[b]) % len(free)] if free else ranked[0]
            used.add(row)
            distances.append(far[row])
        state, metrics = step(state, showing(codes, index), jax.random.key(t))
        assert set(np.flatnonzero(state.extra["used"])) == used
        assert 2 * float(metrics["rate"]) == pytest.approx(np.mean(distances), rel=1e-5)
        if t % passes == 0 and not only_written:
            assert len(used) == batch  # nobody was taken twice
    assert (without > 0) is only_written  # of four rows the last item may be left with its own


def test_mutations_are_noticed(recorded, monkeypatch):
    """Without the exclusion an item finds itself; with a frozen memory nothing is fresh."""
    search = nets.nearest
    itself_too = lambda queries, rows, k, exclude=None, **options: search(queries, rows, k)
    batch = showing([[0.0, 0.0], [1.0, 0.0]], [3, 5])

    def rate_and_memory():
        model = acn.make(RULER, SPEC)
        state = with_memory(reading_codes(model.init(jax.random.key(0))), FAR)
        after, metrics = jax.jit(model.step)(state, batch, jax.random.key(1))
        return 2 * float(metrics["rate"]), np.array(after.extra["memory"])

    assert rate_and_memory()[0] == pytest.approx(1.0)
    with monkeypatch.context() as change:
        change.setattr(nets, "nearest", itself_too)
        assert rate_and_memory()[0] == 0.0
    nobody = lambda tree, axis_name: (jnp.full_like(tree[0], -1), tree[1])
    monkeypatch.setattr(acn.model, "all_gather", nobody)
    rate, memory = rate_and_memory()
    assert rate > 1e4
    np.testing.assert_array_equal(memory, FAR)


# -- the prior network ------------------------------------------------------------------------


@pytest.fixture
def prior_network():
    network = acn_networks.PriorNetwork(latent=3, components=4, widths=(5, 5, 5))
    return network, network.init(jax.random.key(0), jnp.zeros((1, 3)))["params"]


def test_wiring_of_the_prior_network(prior_network):
    """With every other hidden layer silenced, each still hears the code and reaches the output."""
    network, params = prior_network
    hidden = ["Dense_0", "Dense_1", "Dense_2"]
    code = jnp.array([[0.3, -0.2, 0.5]])
    for name in hidden:
        silent = {k: jax.tree.map(jnp.zeros_like, params[k]) for k in hidden if k != name}
        mixture = lambda c, silent=silent: jnp.concatenate(
            network.apply({"params": params | silent}, c), axis=-1
        )
        slopes = np.abs(jax.jacobian(mixture)(code)[0, :, :, 0])  # [d, 3M, d]
        assert (slopes > 0).all()
    # All of them feed forward too: the first bias reaches the last layer's input.
    bent = jax.tree.map(lambda p: p, params)
    bent["Dense_0"]["bias"] = bent["Dense_0"]["bias"] + 0.5
    layers = lambda p: network.apply(
        {"params": p}, code, capture_intermediates=lambda m, _: isinstance(m, nn.Dense)
    )[1]["intermediates"]
    before, after = layers(params), layers(bent)
    for name in ("Dense_1", "Dense_2"):
        assert (before[name]["__call__"][0] != after[name]["__call__"][0]).any()


def test_the_prior_begins_broad_and_its_scales_are_bounded(prior_network):
    network, params = prior_network
    code = jax.random.normal(jax.random.key(1), (50, 3))
    logits, means, log_scales = network.apply({"params": params}, code)
    assert logits.shape == means.shape == log_scales.shape == (50, 3, 4)
    spread = np.broadcast_to([-1.5, -0.5, 0.5, 1.5], means.shape)
    for part, start in ((logits, 0.0), (means, spread), (log_scales, 0.0)):
        assert np.abs(part - start).max() < 0.5
    wild = jax.tree.map(lambda p: 1e3 * p, params)
    found = network.apply({"params": wild}, code)[2]
    assert (found.min(), found.max()) == (-0.5, 5.0)


# -- the other networks -----------------------------------------------------------------------

MEANS = np.linspace(0.02, 0.9, 64, dtype=np.float32).reshape(8, 8, 1)
WIDE = Spec((8, 8, 1), size=6, classes=0, levels=2, mean=MEANS)
SMALL = dataclasses.replace(
    TINY, widths=(3, 5), latent=4, conv_width=2, conv_blocks=1, pixelcnn_width=2,
    pixelcnn_layers=2, vq_codes=5, vq_width=3,
)  # fmt: skip


def decoder_and_params(config):
    network, z = acn_networks.decoder(config, WIDE, 1), jnp.ones((1, config.latent))
    inputs = (jnp.ones((1, 8, 8, 1)), z) if config.decoder in ("made", "pixelcnn") else (z,)
    return network, inputs, jax.jit(network.init)(jax.random.key(0), *inputs)["params"]


@pytest.mark.parametrize("decoder", ["mlp", "made", "conv", "vq", "pixelcnn"])
def test_a_decoder_begins_at_the_mean_image(decoder):
    """At the mean of its pixels' logits, where all pixels share their last layer."""
    network, inputs, params = decoder_and_params(dataclasses.replace(SMALL, decoder=decoder))
    silent = jax.tree.map(lambda p: p if p.ndim == 1 else 0 * p, params)
    found = np.reshape(network.apply({"params": silent}, *inputs), (8, 8))
    mean = np.maximum(MEANS[..., 0], 0.05 if decoder in ("mlp", "made") else 0)
    logits = np.log(mean) - np.log1p(-mean)
    if decoder not in ("mlp", "made"):
        logits = np.full((8, 8), logits.mean())
    np.testing.assert_allclose(found, logits, rtol=1e-5)


@pytest.mark.parametrize("name", ["mlp", "conv", "made", "vq"])
def test_networks_have_the_activation_asked_for(name):
    result = {}
    for activation in ("relu", "tanh"):
        config = dataclasses.replace(SMALL, decoder=name, activation=activation)
        network, inputs, params = decoder_and_params(config)
        result["dec", activation] = network.apply({"params": params}, *inputs)
        if name in ("mlp", "conv"):
            encoder = acn_networks.encoder(dataclasses.replace(config, encoder=name), 4)
            x = jax.random.normal(jax.random.key(1), (1, 8, 8, 1))
            result["enc", activation] = encoder.init_with_output(jax.random.key(0), x)[0]
    for network in {network for network, _ in result}:
        assert (result[network, "relu"] != result[network, "tanh"]).any()


@pytest.mark.parametrize("decoder", ["made", "pixelcnn"])
def test_an_autoregressive_decoder_is_told_x_and_z(decoder):
    """The distortion, against the network applied by hand to the z that evaluation draws."""
    config = dataclasses.replace(SMALL, decoder=decoder)
    network, _, params = decoder_and_params(config)
    rng = np.random.default_rng(0)
    dec = jax.tree.map(lambda p: jnp.float32(0.5 * rng.normal(size=p.shape)), params)
    model = acn.make(config, WIDE)
    state = model.init(jax.random.key(0))
    state = state.replace(params=state.params | {"dec": dec})
    x = jnp.float32(rng.integers(0, 2, (3, 8, 8, 1)))
    found = jax.jit(model.evaluate)(state, batch_of(x, [0, 1, 2]), jax.random.key(1))
    z = model.encode(state, x, None) + jax.random.normal(jax.random.key(1), (3, 4))
    logits = np.float64(jax.jit(network.apply)({"params": dec}, x, z))
    wanted = np.sum(np.logaddexp(0, logits) - np.float64(x) * logits, axis=(1, 2, 3))
    np.testing.assert_allclose(found["distortion"], wanted, rtol=1e-5)


def test_a_dense_decoder_mirrors_the_encoder():
    _, _, params = decoder_and_params(dataclasses.replace(SMALL, decoder="mlp"))
    assert [params[f"Dense_{i}"]["kernel"].shape for i in range(3)] == [(4, 5), (5, 3), (3, 64)]


@pytest.mark.parametrize("channels", [0, 3])
def test_a_code_may_be_laid_out_as_a_map(channels):
    config = dataclasses.replace(SMALL, decoder="pixelcnn", pixelcnn_map=channels)
    _, _, params = decoder_and_params(config)
    assert params["layer_1"]["horizontal_z"]["kernel"].shape[0] == (channels or 4)


# -- the decoder with a table -----------------------------------------------------------------


@pytest.fixture
def table_decoder():
    """Its map reads z [B,4] as it is, one channel to each of 2x2 positions; rows 0, 1 and 5."""
    network = acn_networks.VQDecoder((5, 6), 2, codes=3, width=1, conv_width=2, blocks=1)
    params = network.init(jax.random.key(0), jnp.zeros((1, 4)))["params"]
    identity = {"kernel": jnp.ones((1, 1)), "bias": jnp.zeros(1)}
    table = jnp.array([[0.0], [1.0], [5.0]])
    return network, params | {"hidden": identity, "to_table": identity, "table": table}


POSITIVE = jnp.array([[0.25, 0.75, 2.0, 7.0]])  # nearest rows 0, 1, 1, 5
GAPS = np.array([0.25, -0.25, 1.0, 2.0])


def test_quantisation_loss_by_hand(table_decoder):
    network, params = table_decoder
    loss = lambda p, z: network.apply({"params": p}, z, method="quantisation_loss")
    np.testing.assert_allclose(loss(params, POSITIVE), [1.25 * np.sum(GAPS**2)], rtol=1e-6)
    of_params, of_z = jax.grad(lambda *a: loss(*a).sum(), (0, 1))(params, POSITIVE)
    # The table moves towards its inputs with weight 1, they towards it with 1/4, and nothing else.
    rows = [-2 * 0.25, -2 * (-0.25 + 1.0), -2 * 2.0]
    np.testing.assert_allclose(of_params["table"][:, 0], rows, rtol=1e-6)
    np.testing.assert_allclose(of_z[0], 0.25 * 2 * GAPS, rtol=1e-6)
    for name in ("from_table", "residual_0", "up", "out"):
        assert not any(map(np.any, jax.tree.leaves(of_params[name])))


@tiny.x64()
def test_the_image_sees_rows_and_sends_its_gradient_past_them(table_decoder):
    network, params = table_decoder[0], tiny.in_float64(table_decoder[1])
    positive = tiny.in_float64(POSITIVE)
    outputs = lambda p, z: network.apply({"params": p}, z)
    rows = jnp.array([[0.0, 1.0, 1.0, 5.0]])
    assert outputs(params, positive).shape == (1, 5, 6, 2)
    np.testing.assert_array_equal(outputs(params, positive), outputs(params, rows))
    likelihood = lambda *a: jnp.sum(jnp.sin(outputs(*a)))
    of_params, of_z = jax.grad(likelihood, (0, 1))(params, positive)
    assert not of_params["table"].any()
    # At z = rows the quantiser is the identity, so this is the gradient that arrives behind it;
    # rows of zero are left out, where the relu of the map has no slope.
    unchanged = jax.grad(likelihood, 1)(params, rows)
    assert unchanged[0, 1:].all()
    np.testing.assert_allclose(of_z[0, 1:], unchanged[0, 1:], rtol=1e-12)


def test_the_penalty_is_in_the_loss_and_nowhere_else(recorded):
    shape = (8, 8, 1)
    spec = Spec(shape, size=6, classes=0, levels=2, mean=np.full(shape, 0.5, np.float32))
    config = dataclasses.replace(
        TINY, decoder="vq", latent=8, vq_codes=5, vq_width=3, conv_width=2, conv_blocks=0
    )
    model, x = acn.make(config, spec), np.random.default_rng(0).integers(0, 2, (2, *shape))
    state = model.init(jax.random.key(0))
    _, result = jax.jit(model.step)(state, batch_of(x, [3, 0]), jax.random.key(1))
    assert result["vq"] > 0
    parts = result["rate"] + result["distortion"] + 0.1 * result["vq"]
    np.testing.assert_allclose(result["loss"], parts, rtol=1e-6)
    found = jax.jit(model.evaluate)(state, batch_of(x, [3, 0]), jax.random.key(1))
    np.testing.assert_array_equal(found["loss"], found["rate"] + found["distortion"])
    decode = jax.jit(model.decode)
    one, other = (decode(state, jnp.ones((2, 8)), jax.random.key(i)) for i in (1, 2))
    assert one.shape == (2, *shape)
    np.testing.assert_array_equal(one, other)  # the mean image, not a draw


# -- samples ----------------------------------------------------------------------------


def test_samples_come_from_rows_of_the_memory():
    model, n = acn.make(RULER, SPEC), 600
    state = spread_out(model.init(jax.random.key(0)))
    narrow = state.params | {"prior": {"log_s": jnp.float32(-30.0)}}  # z is the row itself
    state = state.replace(params=narrow)
    found = jax.jit(model.sample, static_argnums=2)(state, jax.random.key(1), n)
    of_rows = model.decode(state, state.extra["memory"], jax.random.key(2))
    gap = np.abs(np.asarray(found)[:, None] - np.asarray(of_rows)[None]).max((2, 3, 4))
    assert gap.min(1).max() < 1e-5
    rows = gap.argmin(1)
    counts = np.bincount(rows, minlength=SIZE)
    assert np.abs(counts - n / SIZE).max() < 5 * np.sqrt(n / SIZE)
    # Rows are sampled at random: a row does not determine the next.
    steps = np.bincount((rows[1:] - rows[:-1]) % SIZE, minlength=SIZE)
    assert np.abs(steps - n / SIZE).max() < 5 * np.sqrt(n / SIZE)


def showing_codes(state):
    """The state whose mean image has the code as the logits of its first two pixels."""
    kernel = jnp.zeros((D, 4)).at[:, :D].set(jnp.eye(D))
    dec = {"Dense_0": {"kernel": kernel, "bias": jnp.zeros(4)}}
    return state.replace(params=state.params | {"dec": dec})


def codes_in(images):
    """z [n,D] from the mean images of `showing_codes`."""
    pixels = np.float64(images).reshape(len(images), -1)[:, :D]
    return np.log(pixels) - np.log1p(-pixels)


MIXTURE = (
    np.array([[0.0, 1.0], [0.5, -0.5]]),  # logits
    np.array([[-1.0, 1.5], [0.5, 2.0]]),
    np.array([[-0.4, 0.3], [0.5, -0.45]]),  # logarithms of the scales
)


def with_prior(state):
    """The state whose prior is MIXTURE, whatever the neighbour."""
    logits, means, log_scales = MIXTURE
    bound = np.where(log_scales < 0, 0.5, 5.0)
    raw = bound * np.arctanh(log_scales / bound)
    bias = jnp.asarray(np.stack([logits, means, raw]).reshape(-1), jnp.float32)
    last = {"kernel": jnp.zeros_like(state.params["prior"]["Dense_2"]["kernel"]), "bias": bias}
    prior = state.params["prior"] | {"Dense_2": last}
    return state.replace(params=state.params | {"prior": prior})


@pytest.mark.parametrize("variant", ["acn", "unconditional", "gaussian_neighbour"])
def test_samples_have_the_priors_distribution(variant):
    model, n = acn.make(dataclasses.replace(TINY, variant=variant), SPEC), 3000
    state = showing_codes(model.init(jax.random.key(0)))
    logits, means, log_scales = MIXTURE
    if variant == "gaussian_neighbour":
        state = with_memory(state, np.full((SIZE, D), 0.7))
        state = state.replace(params=state.params | {"prior": {"log_s": jnp.float32(-0.6)}})
        logits, means, log_scales = (np.full((D, 1), number) for number in (0.0, 0.7, -0.6))
    else:
        state = with_prior(state)
    z = codes_in(jax.jit(model.sample, static_argnums=2)(state, jax.random.key(1), n))
    for d in range(D):
        share = np.exp(logits[d]) / np.exp(logits[d]).sum()
        below = lambda t, d=d, p=share: norm.cdf(t[:, None], means[d], np.exp(log_scales[d])) @ p
        assert kstest(z[:, d], below).pvalue > 1e-4
    assert abs(np.corrcoef(z.T)[0, 1]) < 5 / np.sqrt(n)


@pytest.mark.parametrize("variant", ["vae", "vae_unit", "decoder"])
def test_samples_of_the_baselines(variant):
    model = acn.make(dataclasses.replace(TINY, variant=variant), SPEC)
    state = showing_codes(model.init(jax.random.key(0)))
    z = codes_in(jax.jit(model.sample, static_argnums=2)(state, jax.random.key(1), 3000))
    if variant == "decoder":
        np.testing.assert_array_equal(z, 0.0)
    else:
        assert kstest(z.reshape(-1), norm.cdf).pvalue > 1e-4


def test_daydreams_by_means_are_of_the_priors_mean():
    model = acn.make(dataclasses.replace(TINY, daydream_mode="mean"), SPEC)
    state = with_prior(showing_codes(model.init(jax.random.key(0))))
    result = model.daydream(state, random_batch()["image"], jax.random.key(1))
    logits, means, _ = MIXTURE
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(codes_in(result), [np.sum(shares * means, axis=1)] * 4, rtol=1e-4)


def test_a_daydream_is_of_the_images_own_code():
    """Not of a neighbour's: the prior is N(c^, s^2 I) with c^ the code of x itself."""
    model = acn.make(dataclasses.replace(RULER, daydream_mode="mean"), SPEC)
    state = with_memory(showing_codes(reading_codes(model.init(jax.random.key(0)))), FAR)
    result = model.daydream(state, showing([[0.3, -0.8]], [2])["image"], jax.random.key(1))
    np.testing.assert_allclose(codes_in(result), [[0.3, -0.8]], rtol=1e-5)


@pytest.mark.parametrize("variant", ["vae", "unconditional"])
def test_daydreams_of_the_baselines(variant):
    """By means an image is decoded from the mean of its posterior, by samples from a draw."""
    n = 3000
    x = jnp.tile(random_batch(1)["image"], (n, 1, 1, 1))
    for mode in ("mean", "sample"):
        model = acn.make(dataclasses.replace(TINY, variant=variant, daydream_mode=mode), SPEC)
        state = showing_codes(spread_out(model.init(jax.random.key(1))))
        raw = dense(state.params["enc"]["Dense_0"], np.float64(x[:1]).reshape(1, -1))[0]
        deviation = np.exp(5 * np.tanh(raw[D:] / 10)) if variant == "vae" else np.ones(D)
        result = jax.jit(model.daydream)(state, x, jax.random.key(2))
        if mode == "mean":
            np.testing.assert_allclose(codes_in(result), np.tile(raw[:D], (n, 1)), rtol=1e-4)
            continue
        bits = np.float64(result).reshape(n, 4)[:, :D]
        z = raw[:D] + deviation * np.linspace(-9, 9, 4001)[:, None]
        density = norm.pdf(z, raw[:D], deviation)
        chance = [trapezoid(density[:, d] / (1 + np.exp(-z[:, d])), z[:, d]) for d in range(D)]
        error = np.sqrt(np.multiply(chance, np.subtract(1, chance)) / n)
        assert (np.abs(bits.mean(0) - chance) < 5 * error).all()


@pytest.mark.parametrize("decoder", ["mlp", "made"])
def test_the_image_of_a_code_is_its_mean_or_a_draw(decoder):
    model, n = acn.make(dataclasses.replace(TINY, decoder=decoder, widths=(5,)), SPEC), 3000
    state = spread_out(model.init(jax.random.key(0)))
    z = jnp.tile(jnp.array([[0.5, -1.0]]), (n, 1))
    result = np.asarray(jax.jit(model.decode)(state, z, jax.random.key(1)))
    if decoder == "mlp":
        hidden, out = state.params["dec"]["Dense_0"], state.params["dec"]["Dense_1"]
        logits = dense(out, np.maximum(dense(hidden, np.float64(z)), 0))
        np.testing.assert_allclose(result.reshape(n, -1), 1 / (1 + np.exp(-logits)), rtol=1e-5)
        return
    every = np.array(list(itertools.product((0.0, 1.0), repeat=4)), np.float32)
    images = jnp.asarray(every).reshape(-1, *SHAPE)
    logits = nets.MaskedMLP(SHAPE, 1, (5,)).apply({"params": state.params["dec"]}, images, z[:16])
    signed = np.where(every == 1, -1, 1) * np.float64(logits).reshape(16, 4)
    chance = np.exp(-np.logaddexp(0, signed).sum(1))
    counts = np.bincount(np.int64(result.reshape(n, 4) @ [8, 4, 2, 1]), minlength=16)
    assert chisquare(counts, n * chance / chance.sum()).pvalue > 1e-4


@pytest.mark.parametrize("decoder", ["mlp", "made"])
def test_daydreams_by_means_repeat_and_by_samples_do_not(decoder):
    x = random_batch()["image"]
    for mode in ("mean", "sample"):
        config = dataclasses.replace(TINY, decoder=decoder, daydream_mode=mode)
        model = acn.make(config, SPEC)
        state, dream = spread_out(model.init(jax.random.key(0))), jax.jit(model.daydream)
        one, other = (np.asarray(dream(state, x, jax.random.key(i))) for i in (1, 2))
        assert one.shape == x.shape
        assert (one == other).all() == (mode == "mean")
        if mode == "sample":
            assert np.isin(one, (0, 1)).all()


@pytest.mark.parametrize("decoder", ["mlp", "made"])
def test_the_decoder_alone_has_no_code_and_dreams_of_its_samples(decoder):
    """With z = 0 a link of the chain does not see the image: a mean, or a draw of `sample`."""
    x = random_batch()["image"]
    for mode in ("mean", "sample"):
        config = dataclasses.replace(TINY, variant="decoder", decoder=decoder, daydream_mode=mode)
        model = acn.make(config, SPEC)
        assert model.encode is model.decode is model.posterior is None
        state, dream = spread_out(model.init(jax.random.key(0))), jax.jit(model.daydream)
        result, other = (dream(state, image, jax.random.key(1)) for image in (x, 1 - x))
        np.testing.assert_array_equal(result, other)
        if (mode, decoder) == ("mean", "mlp"):
            mean = jax.nn.sigmoid(state.params["dec"]["Dense_0"]["bias"]).reshape(SHAPE)
            np.testing.assert_allclose(result, np.stack([mean] * 4), rtol=1e-6)


@pytest.mark.parametrize(
    ("encoder", "decoder"),
    [("mlp", "made"), ("conv", "conv"), ("mlp", "pixelcnn"), ("mlp", "vq")],
)
def test_every_network_trains(encoder, decoder):
    shape = (8, 8, 1)
    spec = Spec(shape, size=6, classes=0, levels=2, mean=np.full(shape, 0.5, np.float32))
    config = dataclasses.replace(
        TINY, encoder=encoder, decoder=decoder, widths=(8,), conv_width=2, conv_blocks=1,
        pixelcnn_width=2, pixelcnn_layers=2, latent=4, vq_codes=5, vq_width=3,
    )  # fmt: skip
    model = acn.make(config, spec)
    x = np.random.default_rng(0).integers(0, 2, (4, *shape))
    batch = batch_of(x, [3, 0, 5, 1])

    @jax.jit
    def run(of_init, of_steps, of_samples):
        start = model.init(of_init)
        step = lambda state, key: model.step(state, batch, key)
        state, metrics = jax.lax.scan(step, start, jax.random.split(of_steps, 3))
        return start, state, metrics, model.sample(state, of_samples, 2)

    start, state, metrics, drawn = run(*jax.random.split(jax.random.key(0), 3))
    assert drawn.shape == (2, *shape)
    for leaf in jax.tree.leaves((state.params, metrics, drawn)):
        assert np.isfinite(leaf).all()
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), start.params, state.params)
    assert all(any(jax.tree.leaves(net)) for net in moved.values())


# -- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        *(({name: 0}, f"{name}=0 must be at least 1")
          for name in ("latent", "components", "neighbours", "mixtures", "pixelcnn_layers",
                       "vq_codes", "vq_width")),
        ({"nodes": 1}, "nodes=1"),
        ({"unique_neighbours": True, "variant": "vae"}, "variant=vae has none"),
    ],
)  # fmt: skip
def test_contradictions_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        acn.Config(**fields)


def test_more_neighbours_than_images_are_refused():
    with pytest.raises(ValueError, match="neighbours=12, but 12 training images leave only 11"):
        acn.make(dataclasses.replace(TINY, neighbours=SIZE), SPEC)


def test_a_code_that_makes_no_map_is_refused():
    mean = np.full((28, 28, 1), 0.5, np.float32)
    spec = Spec(mean.shape, size=SIZE, classes=0, levels=2, mean=mean)
    with pytest.raises(ValueError, match=r"latent=64 must be a multiple of 49.*latent=98"):
        acn.make(dataclasses.replace(TINY, decoder="vq", latent=64), spec)


def test_the_quadrature_cannot_be_deceived_within_the_bounds_of_the_scales():
    # Descend the quadrature's own error: what 16 nodes say minus what 100 say of the same mixture.
    low, high = acn_networks.LOG_SCALE_BOUNDS
    keys = jax.random.split(jax.random.key(0), 4)
    code = jax.random.normal(keys[0], (200, 1))
    raw = [jax.random.normal(key, (200, 1, 4)) for key in keys[1:]]
    bounded = lambda p: (p[0], 2 * p[1], jnp.clip(p[2], low, high))
    claimed = lambda p: losses.kl_unit_gaussian_to_mixture(code, *bounded(p), 16)

    @jax.jit
    def descend(p):
        step = lambda p, _: (
            jax.tree.map(lambda x, g: x - 0.1 * g, p, jax.grad(lambda p: claimed(p).sum())(p)), None
        )  # fmt: skip
        p = jax.lax.scan(step, p, length=300)[0]
        return claimed(p), losses.kl_unit_gaussian_to_mixture(code, *bounded(p), 100)

    found, true = descend(raw)
    assert np.min(true) > -1e-4
    assert np.min(found) > -2e-3
    np.testing.assert_allclose(found, true, atol=5e-3)
