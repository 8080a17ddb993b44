import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxae.models import vqvae_audio
from jaxae.training.state import Spec

SHAPE, LEVELS = (1, 12, 1), 5
SPEC = Spec(SHAPE, size=16, classes=3, levels=LEVELS, mean=np.full(SHAPE, 0.5, np.float32))
TINY = vqvae_audio.Config(
    codes=4, code_width=3, halvings=2, conv_width=4, wavenet_width=4, wavenet_layers=2,
    wavenet_head=4, prior_width=4, prior_layers=2,
)  # fmt: skip


def batch_of(n=4, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, LEVELS, (n, *SHAPE)).astype(np.float32) / (LEVELS - 1)
    return {"image": jnp.asarray(x), "index": jnp.arange(n), "label": jnp.arange(n) % 3}


@pytest.fixture(scope="module")
def trained():
    """The decoder hears codes and voices, as it does after some training."""
    model = vqvae_audio.make(TINY, SPEC)
    state, rng = jax.jit(model.init)(jax.random.key(0)), np.random.default_rng(0)
    is_condition = lambda path: any(
        name in jax.tree_util.keystr(path) for name in ("local", "whole")
    )
    dec = jax.tree_util.tree_map_with_path(
        lambda path, p: jnp.float32(rng.normal(size=p.shape)) if is_condition(path) else p,
        state.params["dec"],
    )
    return model, state.replace(params=state.params | {"dec": dec})


def test_the_label_conditions_the_decoder_and_the_rest_is_as_in_vqvae(trained):
    model, state = trained
    batch, evaluate = batch_of(), jax.jit(model.evaluate)
    result = evaluate(state, batch, jax.random.key(1))
    np.testing.assert_allclose(result["loss"], result["rate"] + result["distortion"], rtol=1e-6)
    np.testing.assert_allclose(result["rate_uniform"], 3 * math.log(4), rtol=1e-6)
    other = evaluate(state, batch | {"label": (batch["label"] + 1) % 3}, jax.random.key(1))
    assert np.all(np.abs(result["distortion"] - other["distortion"]) > 1e-4)
    np.testing.assert_array_equal(result["rate"], other["rate"])
    assert model.log_weight is None


def test_what_the_encoder_says_of_a_signal():
    """Of 7 samples 4 and then 2: convolutions of window 4 and stride 2, zeros around, then relu."""
    rng = np.random.default_rng(2)
    net = vqvae_audio.Encoder(2, 4, 3)
    signal = np.float32(rng.normal(size=(2, 7)))
    shapes = jax.eval_shape(net.init, jax.random.key(0), signal)["params"]
    p = jax.tree.map(lambda s: np.float32(rng.normal(size=s.shape)), shapes)
    h = np.float64(signal)[..., None]
    for name, before, moments in (("Conv_0", 1, 4), ("Conv_1", 1, 2)):
        wide = np.pad(h, ((0, 0), (before, 4), (0, 0)))
        windows = np.stack([wide[:, 2 * t : 2 * t + 4] for t in range(moments)], axis=1)
        h = np.maximum(np.einsum("btkc,kcf->btf", windows, p[name]["kernel"]) + p[name]["bias"], 0)
    wanted = h @ p["Dense_0"]["kernel"] + p["Dense_0"]["bias"]
    found = jax.jit(net.apply)({"params": p}, signal)
    np.testing.assert_allclose(found, wanted[:, None, :, None], rtol=1e-4, atol=1e-4)


def test_rate_and_distortion_of_a_signal(trained):
    """Levels given those before, the codes and the speaker; codes given those before."""
    model, state = trained
    batch, networks = batch_of(), vqvae_audio._SignalModel(TINY, SPEC).networks
    found = jax.jit(model.evaluate)(state, batch, jax.random.key(1))
    x = np.asarray(batch["image"]).reshape(4, 12)
    p, table = state.params, np.asarray(state.extra["table"])[0]
    z = np.asarray(networks["enc"].apply({"params": p["enc"]}, 2 * x - 1))[:, 0, :, 0]
    k = np.square(z[:, :, None] - table).sum(-1).argmin(-1)
    levels, speakers = np.int32(np.round(4 * x)), np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
    condition = table[k][:, np.arange(12) // 4]

    def nats(logits, chosen):
        log_p = np.float64(jax.nn.log_softmax(logits))
        return -np.take_along_axis(log_p, chosen[..., None], -1).sum((1, 2))

    of_levels = networks["dec"].apply({"params": p["dec"]}, levels, condition, speakers)
    of_codes = networks["prior"].apply({"params": p["prior"]}, np.int32(k))
    np.testing.assert_allclose(found["distortion"], nats(of_levels, levels), rtol=1e-4)
    np.testing.assert_allclose(found["rate"], nats(of_codes, k), rtol=1e-4)


def test_decode_takes_speakers_at_random(monkeypatch):
    signals = vqvae_audio._SignalModel(TINY, SPEC)
    monkeypatch.setattr(signals, "sample_signals", lambda p, z_q, speaker, rng: speaker)
    speakers = signals.decode({}, np.zeros(300), jax.random.key(0))
    assert np.bincount(speakers, minlength=3).min() > 60
    assert speakers.shape == (300,)
    assert speakers.max() == 2
    without = vqvae_audio._SignalModel(dataclasses.replace(TINY, speakers=False), SPEC)
    assert without.num_speakers == 0
    assert without.global_condition(speakers) is None


def test_without_speakers_the_likelihood_is_that_of_the_signal():
    model = vqvae_audio.make(dataclasses.replace(TINY, speakers=False), SPEC)
    state, batch = jax.jit(model.init)(jax.random.key(0)), batch_of()
    result = jax.jit(model.evaluate)(state, batch, jax.random.key(1))
    weight = jax.jit(model.log_weight)(state, batch["image"], jax.random.key(2))
    np.testing.assert_allclose(weight, -result["loss"], rtol=1e-5)


def test_a_code_lasts_for_its_samples():
    """The decoder's condition at sample t is the code of t // 4."""
    signals = vqvae_audio._SignalModel(TINY, SPEC)
    z_q = jnp.arange(9, dtype=jnp.float32).reshape(1, 1, 3, 1, 3)
    c = signals.local_condition(z_q)
    np.testing.assert_array_equal(c[0, :, 0], 3 * (np.arange(12) // 4))


def test_codes_are_the_rows_nearest_to_the_encoders_output(trained):
    model, state = trained
    x = batch_of()["image"]
    z = np.asarray(model.encode(state, x, jax.random.key(1))).reshape(4, 3, 3)
    squares = np.square(z[:, :, None] - np.asarray(state.extra["table"])).sum(-1)
    found = jax.jit(vqvae_audio.make_encode_codes(TINY, SPEC))(state, x)
    np.testing.assert_array_equal(found, squares.argmin(-1))


def test_speaker_conversion_samples_for_the_given_speaker(trained):
    _, state = trained
    convert = jax.jit(vqvae_audio.make_convert_speaker(TINY, SPEC))
    x, key = batch_of(40)["image"], jax.random.key(5)
    signals = [
        np.asarray(convert(state, x, jnp.full(40, speaker), jax.random.clone(key)))
        for speaker in (0, 0, 1)
    ]
    assert signals[0].shape == x.shape
    np.testing.assert_array_equal(signals[0], signals[1])
    assert (signals[0] != signals[2]).any()
    grid = signals[0] * (LEVELS - 1)
    np.testing.assert_allclose(grid, np.round(grid), atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "levels", "message"),
    [
        ({"groups": 2}, 5, "groups=2: signals have one code"),
        ({"halvings": 5}, 5, "halvings=5 is too much for 12 samples"),
        ({"wavenet_layers": 0}, 5, "wavenet_layers=0 must be at least 1"),
        ({}, 0, "levels=0: leave dequantise and standardise off"),
    ],
)
def test_what_cannot_be_is_named(fields, levels, message):
    with pytest.raises(ValueError, match=message):
        vqvae_audio.make(dataclasses.replace(TINY, **fields), SPEC._replace(levels=levels))
