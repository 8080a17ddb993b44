import dataclasses
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from scipy import stats
from scipy.special import expit
from sklearn.decomposition import PCA

from jaxae.data import from_arrays
from jaxae.models import dae
from jaxae.models.dae import corruptions
from jaxae.training.state import Spec

SHAPE = (4, 4, 1)
SPEC = Spec(SHAPE, size=16, classes=0, levels=0, mean=np.full(SHAPE, 0.5, np.float32))
SMALL = dae.Config(latent=3, widths=(5,))
generator = np.random.default_rng(0)


def batch(n=6, shape=SHAPE):
    return {"image": jnp.asarray(generator.uniform(0.1, 1, (n, *shape)), jnp.float32),
            "index": jnp.arange(n)}  # fmt: skip


def likely(counts, shares):
    """The counts are such as a multinomial with these shares gives (p > 1e-4)."""
    counts = np.float64(counts)
    return stats.chisquare(counts, counts.sum() * np.float64(shares)).pvalue > 1e-4


# -- corruption --------------------------------------------------------------------------------


def test_rates_and_values_of_noise():
    x = jnp.full((500, 40), 0.6)
    kept = np.float32(0.6)
    for kind, level, values, shares in (
        ("masking", 0.25, (0, kept), (0.25, 0.75)),
        ("salt_and_pepper", 0.3, (0, 1, kept), (0.15, 0.15, 0.7)),
    ):
        corrupted, chosen = corruptions.corrupt(kind, jax.random.key(0), x, level)
        assert likely([np.sum(corrupted == value) for value in values], shares)
        np.testing.assert_array_equal(chosen, corrupted != kept)
    low = corruptions.corrupt("salt_and_pepper", jax.random.key(0), x, 0.3, low=-1.0)[0]
    assert set(np.unique(low)) == {-1, kept, 1}
    corrupted, chosen = corruptions.corrupt("masking_exact", jax.random.key(1), x, 0.33)
    np.testing.assert_array_equal((corrupted == 0).sum(1), 13)  # round(0.33 * 40)
    assert likely((corrupted == 0).sum(0), np.full(40, 1 / 40))
    corrupted, chosen = corruptions.corrupt("gaussian", jax.random.key(2), x, 0.5)
    assert stats.kstest((np.ravel(corrupted) - kept) / 0.5, "norm").pvalue > 1e-4
    assert chosen.all()
    assert corrupted.max() > 1  # not clipped
    corrupted, chosen = corruptions.corrupt("none", jax.random.key(2), x, 0.5)
    np.testing.assert_array_equal(corrupted, x)
    assert not chosen.any()


def test_noise_of_two_steps_is_independent():
    x = jnp.ones((200, 40))
    one, two = (
        corruptions.corrupt("masking", jax.random.key(step), x, 0.3)[1] for step in range(2)
    )
    table = [[np.sum((one == a) & (two == b)) for a in (True, False)] for b in (True, False)]
    assert likely(np.ravel(table), np.outer([0.3, 0.7], [0.3, 0.7]).ravel())


def test_shapes_of_holes():
    height, width, count = 6, 8, 2000
    masks = lambda kind, level=0.5: np.asarray(
        corruptions.sample_mask(kind, jax.random.key(0), count, height, width, level)
    )
    block = masks("block")
    assert block.shape == (count, height, width, 1)
    assert set(np.unique(block)) == {0, 1}
    np.testing.assert_array_equal((1 - block).sum((1, 2, 3)), 3 * 4)
    corners = [tuple(np.argwhere(m[..., 0] == 0)[0]) for m in block]
    for m, (top, left) in zip(block[:50], corners, strict=False):
        assert not m[top : top + 3, left : left + 4].any()
    cells = np.array([corners.count((i, j)) for i in range(4) for j in range(5)])
    assert likely(cells, np.full(20, 1 / 20))
    centre = masks("centre")
    np.testing.assert_array_equal(centre[0, ..., 0] == 0, np.pad(np.ones((3, 4)), ((1, 2), (2, 2))))
    assert (centre == centre[:1]).all()
    half = masks("half")[..., 0]
    wanted = [np.ones((height, width)) for _ in range(4)]
    wanted[0][:, :4], wanted[1][:, 4:], wanted[2][:3], wanted[3][3:] = 0, 0, 0, 0
    counts = [np.sum((half == m).all((1, 2))) for m in wanted]
    assert sum(counts) == count
    assert likely(counts, np.full(4, 0.25))
    pixels = masks("pixels", 0.2)
    assert likely([np.sum(pixels == 0), np.sum(pixels == 1)], [0.2, 0.8])
    strokes = masks("strokes", 0.3)
    missing = (1 - strokes).mean((1, 2, 3))
    assert missing.min() > 0
    assert 0.1 < missing.mean() < 0.7
    assert len(np.unique(strokes.reshape(count, -1), axis=0)) > 0.9 * count


@pytest.mark.parametrize(("level", "wide"), [(0.02, 1), (0.1, 1), (0.3, 3), (0.5, 5), (0.6, 6)])
def test_width_of_a_straight_stroke(monkeypatch, level, wide):
    """Three walks on one another, from row 10.4 at the left edge of 20x20 pixels to the right."""
    start = jnp.array([0.52, 0.0, 0.0])
    monkeypatch.setattr(jax.random, "uniform", lambda rng, shape: jnp.broadcast_to(start, shape))
    monkeypatch.setattr(jax.random, "normal", lambda rng, shape: jnp.zeros(shape))
    missing = 1 - corruptions.sample_mask("strokes", jax.random.key(0), 2, 20, 20, level)[..., 0]
    np.testing.assert_array_equal(missing.sum(1), np.full((2, 20), wide))
    rows = np.flatnonzero(missing[0, :, 0])
    assert np.ptp(rows) == wide - 1
    assert abs(rows.mean() + 0.5 - 10.4) <= 0.5


# -- the cost ----------------------------------------------------------------------------------


def dense(params, layer, h):
    return h @ np.float64(params[layer]["kernel"]) + np.float64(params[layer]["bias"])


def by_hand(params, corrupted):
    """Outputs of the network 16-5-3-5-16 with rectifiers and a linear code."""
    h = np.maximum(dense(params["enc"], "layer_0", corrupted), 0)
    h = np.maximum(dense(params["dec"], "layer_1", dense(params["enc"], "layer_1", h)), 0)
    return dense(params["dec"], "layer_0", h)


@pytest.mark.parametrize("loss", ["bce", "mse"])
def test_cost_against_the_clean_image_with_emphasis(loss):
    config = dataclasses.replace(SMALL, loss=loss, changed_weight=2.0, kept_weight=0.5)
    model, examples = dae.make(config, SPEC), batch()
    state = model.init(jax.random.key(0))
    found = model.evaluate(state, examples, jax.random.key(1))
    x = np.float64(examples["image"]).reshape(6, -1)
    damaged, hit = corruptions.corrupt("masking", jax.random.key(1), jnp.float32(x), 0.25)
    assert 0 < hit.sum() < hit.size
    out = by_hand(state.params, np.float64(damaged))
    each = (x - expit(out)) ** 2
    if loss == "bce":
        each = -(x * np.log(expit(out)) + (1 - x) * np.log(expit(-out)))
    np.testing.assert_allclose(found["loss"], (np.where(hit, 2, 0.5) * each).sum(1), 1e-4)
    squared = (x - expit(out)) ** 2
    np.testing.assert_allclose(found["squared_error"], squared.sum(1), 1e-4)
    np.testing.assert_allclose(found["psnr_restored"], -10 * np.log10(squared.mean(1)), 1e-4)
    before = -10 * np.log10(((x - damaged) ** 2).mean(1))
    np.testing.assert_allclose(found["psnr_corrupted"], before, 1e-4)
    damaged_image, restored = model.restore(state, examples["image"], jax.random.key(1))
    np.testing.assert_allclose(damaged_image.reshape(6, -1), damaged, 1e-6)
    np.testing.assert_allclose(restored.reshape(6, -1), expit(out), 1e-4)


def test_features_are_of_the_clean_image():
    model, examples = dae.make(SMALL, SPEC), batch()
    state = model.init(jax.random.key(0))
    x = np.float64(examples["image"]).reshape(6, -1)
    h = np.maximum(dense(state.params["enc"], "layer_0", x), 0)
    for key in range(2):
        z = model.encode(state, examples["image"], jax.random.key(key))
        np.testing.assert_allclose(z, dense(state.params["enc"], "layer_1", h), 1e-4, 1e-6)


def test_decibels_by_hand():
    clean = jnp.zeros((3, 4))
    image = jnp.float32([[0.1, 0.1, 0.1, 0.1], [1, 0, 0, 0], [0, 0, 0, 0]])
    # mean squares 0.01 and 1/4; none at all
    np.testing.assert_allclose(dae.restoration.psnr(image, clean), [20, 6.0206, 100], rtol=1e-5)
    missing = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]], bool)  # 0.01 and 1/2; no hole
    for xp in (jnp, np):
        found = dae.restoration.psnr(xp.asarray(image), xp.asarray(clean), missing, xp)
        np.testing.assert_allclose(found, [20, 3.0103, 100], rtol=1e-5)


def test_the_optimal_linear_denoiser_is_reached():
    """For x ~ N(0,S) it is S (S + s^2 I)^-1, whose error is tr S - tr S (S + s^2 I)^-1 S."""
    size, count, noise = 4, 2000, 0.5
    x = generator.normal(size=(count, size)) @ (generator.normal(size=(size, size)) / 2)
    x -= x.mean(0)
    config = dae.Config(
        latent=size, widths=(), loss="mse", output="linear", corruption="gaussian",
        levels=(noise,), init="glorot", learning_rate=2e-2, decay_steps=1500,
    )  # fmt: skip
    model = dae.make(config, SPEC._replace(image_shape=(1, size, 1)))
    examples = {"image": jnp.float32(x).reshape(count, 1, size, 1), "index": jnp.arange(count)}
    step = lambda state, key: (model.step(state, examples, key)[0], None)
    keys = jax.random.split(jax.random.key(1), 1500)
    state, _ = jax.jit(lambda s: jax.lax.scan(step, s, keys))(model.init(jax.random.key(0)))
    p = jax.tree.map(np.float64, state.params)
    up, down = p["enc"]["layer_0"], p["dec"]["layer_0"]
    a, bias = up["kernel"] @ down["kernel"], up["bias"] @ down["kernel"] + down["bias"]
    s = x.T @ x / count
    best = s @ np.linalg.inv(s + noise**2 * np.eye(size))
    error = lambda a: (
        np.trace((np.eye(size) - a) @ s @ (np.eye(size) - a).T) + noise**2 * np.sum(a**2)
    )
    np.testing.assert_allclose(error(best), np.trace(s) - np.trace(best @ s), rtol=1e-9)
    assert error(a.T) + np.sum(bias**2) < 1.01 * error(best)
    assert error(np.eye(size)) > 1.3 * error(best)  # copying is far off


# -- holes -------------------------------------------------------------------------------------

HOLE = dataclasses.replace(SMALL, corruption="centre", levels=(0.5,), kept_weight=0.0)


def test_inpainting_sees_the_mask_and_pastes_what_is_known():
    model, examples = dae.make(HOLE, SPEC), batch()
    state = model.init(jax.random.key(0))
    assert state.params["enc"]["layer_0"]["kernel"].shape == (32, 5)
    m = np.ones(SHAPE)
    m[1:3, 1:3] = 0
    m, x = m.reshape(-1), np.float64(examples["image"]).reshape(6, -1)
    out = by_hand(state.params, np.concatenate([m * x, np.tile(m, (6, 1))], axis=1))
    found = model.evaluate(state, examples, jax.random.key(1))
    each = -(x * np.log(expit(out)) + (1 - x) * np.log(expit(-out)))
    np.testing.assert_allclose(found["loss"], each[:, m == 0].sum(1), 1e-4)  # kept_weight=0
    filled = m * x + (1 - m) * expit(out)
    _, restored = model.restore(state, examples["image"], jax.random.key(1))
    np.testing.assert_allclose(restored.reshape(6, -1), filled, 1e-4)
    error = ((x - filled) ** 2).sum(1)
    np.testing.assert_allclose(found["squared_error"], error, 1e-4)
    # Ratios are of the four missing pixels: those that anyone could paste in flatter nobody.
    decibels = lambda image: -10 * np.log10(((image - x) ** 2)[:, m == 0].mean(1))
    np.testing.assert_allclose(found["psnr_restored"], decibels(filled), 1e-4)
    np.testing.assert_allclose(found["psnr_corrupted"], decibels(0 * x), 1e-4)


@tiny.x64()
def test_holes_given_by_the_caller_are_filled():
    model, examples = dae.make(HOLE, SPEC), tiny.in_float64(batch())
    state, image = tiny.in_float64(model.init(jax.random.key(0))), examples["image"]
    known = jnp.float32(generator.integers(0, 2, (6, 4, 4, 1)))
    filled = dae.model.inpaint(HOLE, SPEC, state, image, known)
    np.testing.assert_array_equal(filled[known == 1], image[known == 1])
    other = jnp.where(known == 1, image, jnp.nan)  # what lies in a hole is not read
    np.testing.assert_array_equal(dae.model.inpaint(HOLE, SPEC, state, other, known), filled)
    m = np.ones(SHAPE, np.float32)
    m[1:3, 1:3] = 0
    _, restored = model.restore(state, image, jax.random.key(1))
    again = dae.model.inpaint(HOLE, SPEC, state, image, jnp.broadcast_to(m, image.shape))
    np.testing.assert_allclose(again, restored, rtol=1e-12)
    with pytest.raises(ValueError, match="was not trained to inpaint"):
        dae.model.inpaint(SMALL, SPEC, state, image, known)
    with pytest.raises(ValueError, match="known is"):
        dae.model.inpaint(HOLE, SPEC, state, image, known[..., 0])


# -- stacks ------------------------------------------------------------------------------------

STACK = dae.Config(
    latent=3, widths=(5,), activation="sigmoid", code="activation", tied=True, init="glorot",
    levels=(0.2, 0.4), stack_steps=2, decay_steps=10,
)  # fmt: skip


def test_a_stack_trains_layer_by_layer_on_clean_features():
    """Each layer's cost by hand; the corruption is of its own input, at its own level."""
    model, examples, inputs = dae.make(STACK, SPEC), batch(), []
    true = corruptions.corrupt

    def corrupt(kind, rng, x, level, *ends):
        found = true(kind, rng, x, level, *ends)
        jax.debug.callback(lambda x: inputs.append((level, np.float64(x))), x)
        return found

    state = model.init(jax.random.key(0))
    with mock.patch.object(corruptions, "corrupt", corrupt):
        step = jax.jit(lambda *args: model.step(*args))
        for number in range(6):
            before = state
            state, _ = step(state, examples, jax.random.key(number))
            jax.effects_barrier()
            moved = {
                (net, layer) for net in ("enc", "dec") for layer in ("layer_0", "layer_1")
                if np.any(before.params[net][layer]["bias"] != state.params[net][layer]["bias"])
            }  # fmt: skip
            layers = [f"layer_{number // 2}"] if number < 4 else ["layer_0", "layer_1"]
            assert moved == {(net, layer) for net in ("enc", "dec") for layer in layers}
            counts = jax.tree.leaves(state.opt["autoencoder"][0].count)
            assert counts == [number % 2 + 1]  # Adam starts anew with each phase
            if 2 <= number < 4:
                p = jax.tree.map(np.float64, before.params)
                x = np.float64(examples["image"]).reshape(6, -1)
                h = expit(dense(p["enc"], "layer_0", x))
                clean = next(v for level, v in inputs if level == 0.4)
                np.testing.assert_allclose(clean, h, rtol=1e-5)
            inputs.clear()


def test_a_layers_gradient_by_differences():
    """A step of plain descent of layer 1 is the slope of its cost, written out."""
    import optax

    with mock.patch.object(dae.model, "adam", return_value=optax.sgd(1.0)):
        model = dae.make(dataclasses.replace(STACK, stack_steps=1, corruption="none",
                                             levels=(0.0,)), SPEC)  # fmt: skip
    examples = batch()
    before = model.init(jax.random.key(0)).replace(step=jnp.int32(1))
    after, _ = jax.jit(model.step)(before, examples, jax.random.key(1))
    p = jax.tree.map(np.float64, before.params)
    h = expit(dense(p["enc"], "layer_0", np.float64(examples["image"]).reshape(6, -1)))

    def cost(kernel):
        z = expit(h @ kernel + p["enc"]["layer_1"]["bias"])
        out = z @ kernel.T + p["dec"]["layer_1"]["bias"]
        return -(h * np.log(expit(out)) + (1 - h) * np.log(expit(-out))).sum(1).mean()

    kernel = p["enc"]["layer_1"]["kernel"]
    slope = np.zeros_like(kernel)
    for i in np.ndindex(kernel.shape):
        nudge = np.zeros_like(kernel)
        nudge[i] = 1e-5
        slope[i] = (cost(kernel + nudge) - cost(kernel - nudge)) / 2e-5
    moved = kernel - np.float64(after.params["enc"]["layer_1"]["kernel"])
    np.testing.assert_allclose(moved, slope, rtol=1e-3, atol=1e-6)


# -- the whole set -----------------------------------------------------------------------------


def test_numbers_of_the_whole_set():
    train, test = generator.uniform(size=(600, 2, 3, 1)), generator.uniform(size=(40, 2, 3, 1))
    data = from_arrays(np.float32(train), test_images=np.float32(test))

    def restore(x, rng):  # darkens; repairs a part of it
        return 0.5 * x, 0.9 * x, None

    found = dae.restoration.measure_restoration(restore, data, jax.random.key(0))
    x = np.float64(np.float32(test)).reshape(40, -1)
    ratio = lambda image: (-10 * np.log10(((image - x) ** 2).mean(1))).mean()
    np.testing.assert_allclose(found["psnr_corrupted"], ratio(0.5 * x), rtol=1e-5)
    np.testing.assert_allclose(found["psnr_restored"], ratio(0.9 * x), rtol=1e-5)
    flat = np.float64(np.float32(train)).reshape(600, -1)
    projected = []
    for d in range(1, 7):
        kept = PCA(d, svd_solver="full").fit(flat)
        back = lambda image, kept=kept: kept.inverse_transform(kept.transform(image))
        shown = lambda clean, back=back: np.clip(back(0.5 * clean), 0, 1)
        gap = lambda clean: (-10 * np.log10(((shown(clean) - clean) ** 2).mean(1))).mean()
        projected.append((gap(flat[:500]), gap(x), d))
    _, on_test, d = max(projected)
    assert found["pca_components"] == d
    np.testing.assert_allclose(found["psnr_pca"], on_test, rtol=1e-5)
    for name, image in (
        ("corrupted", 0.5 * x),
        ("restored", 0.9 * x),
        ("mean_image", flat.mean(0)),
    ):
        wanted = ((image - x) ** 2).mean()
        np.testing.assert_allclose(found[f"changed_squared_error_{name}"], wanted, rtol=1e-5)


def test_numbers_of_the_whole_set_with_holes():
    """Two of six pixels are missing, of which one is often black; what stands at the four known
    ones does not matter, neither to a restorer that ruins them nor to the projections."""
    draw = lambda n: np.float32(generator.uniform(size=(n, 2, 3, 1)))
    train, test = draw(600), draw(40)
    for images in (train, test):
        images[::2, 0, 0] = 0  # the hole shows the truth there, and is a hole all the same
    data, hole = from_arrays(train, test_images=test), np.zeros((2, 3, 1), bool)
    hole[0, 0] = hole[1, 1] = True

    def restore(x, rng):
        m = jnp.broadcast_to(hole, x.shape)
        return jnp.where(m, 0.0, x), jnp.where(m, 0.8 * x + 0.1, 7.0), m

    found = dae.restoration.measure_restoration(restore, data, jax.random.key(0))
    x, missing = np.float64(test).reshape(40, -1), hole.ravel()
    squares = lambda image, x: ((image - x) ** 2)[:, missing]
    ratio = lambda image, x: np.minimum(-10 * np.log10(squares(image, x).mean(1)), 100).mean()
    np.testing.assert_allclose(found["psnr_corrupted"], ratio(0 * x, x), rtol=1e-5)
    np.testing.assert_allclose(found["psnr_restored"], ratio(0.8 * x + 0.1, x), rtol=1e-5)
    flat = np.float64(train).reshape(600, -1)
    projected = []
    for d in range(1, 7):
        kept = PCA(d, svd_solver="full").fit(flat)
        shown = lambda clean, kept=kept: np.clip(
            kept.inverse_transform(kept.transform(np.where(missing, 0.0, clean))), 0, 1
        )
        projected.append((ratio(shown(flat[:500]), flat[:500]), ratio(shown(x), x), d))
    mean = np.broadcast_to(flat.mean(0), (600, 6))
    projected.append((ratio(mean[:500], flat[:500]), ratio(mean[:40], x), 0))
    _, on_test, d = max(projected)
    assert found["pca_components"] == d
    np.testing.assert_allclose(found["psnr_pca"], on_test, rtol=1e-5)
    for name, image in (
        ("corrupted", 0 * x),
        ("restored", 0.8 * x + 0.1),
        ("mean_image", flat.mean(0)),
    ):
        wanted = squares(image, x).mean()
        np.testing.assert_allclose(found[f"changed_squared_error_{name}"], wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"latent": 0}, "latent"),
        ({"stack_steps": -1}, "stack_steps"),
        ({"output": "linear"}, "loss=mse"),
        ({"levels": ()}, "levels"),
        ({"levels": (-0.1,)}, "levels"),
        ({"levels": (0.1, 0.2)}, "only a stack"),
        ({"levels": (1.5,)}, "cannot exceed 1"),
        ({"corruption": "gaussian", "kept_weight": 0.5}, "leave them at 1"),
        ({"kept_weight": 0.0, "changed_weight": 0.0}, "must not both be 0"),
        ({"corruption": "block", "tied": True}, "mask_channel=False"),
        ({"corruption": "block", "stack_steps": 5}, "stack_steps at 0"),
        ({"corruption": "salt_and_pepper", "stack_steps": 5}, "take sigmoid or tanh"),
    ],
)
def test_contradictions_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        dae.Config(**fields)
