"""`jaxae.load`, `jaxae.train` and the object that they return.

Oracles: the evaluation's own passes over the same images, a model whose code is the image itself,
and the command.
"""

import dataclasses
import json
import shutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import jaxae
from jaxae import evaluation
from jaxae.command import main as command
from jaxae.command import run as runs
from jaxae.command import spec as specs
from jaxae.command.run import EVALUATION_KEY, Run
from jaxae.data import Options, from_arrays
from jaxae.settings import Settings, UsageError
from jaxae.training import Model, Plan, State
from jaxae.training.divergence import Diverged
from jaxae.training.workdir import WorkdirError, read_config

TINY = {"devices": 1, "steps": 6, "batch_size": 8, "log_every": 2, "eval_every": 4,
        "save_every": 4, "widths": [8], "latent": 2}  # fmt: skip
HELD = TINY | {"seeds": 2, "validation": 37}
WORDS = [word for field, value in HELD.items()
         for word in (f"--{field.replace('_', '-')}", str(value).strip("[]"))]  # fmt: skip
GREY = np.random.default_rng(0).integers(0, 256, (30, 6, 6, 1)).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of two seeds, trained from Python."""
    folder = tmp_path_factory.mktemp("vae")
    jaxae.train("vae", workdir=folder, quiet=True, **HELD)
    return folder


@pytest.fixture(scope="module")
def trained(folder):
    return jaxae.load(folder, batch_size=20)


def raw(split, count=None):
    """The images of a split as they were given."""
    return split.arrays["image"][:count]


# -- the object ------------------------------------------------------------------------------------


def test_what_the_object_says_of_itself(trained):
    assert repr(trained) == "<Trained vae on digits, step 6, seed 0>"
    assert (trained.name, trained.step, trained.seed) == ("vae", 6, 0)
    assert isinstance(trained.config, Settings)
    assert trained.config.model.latent == 2
    assert isinstance(trained.model, Model)
    assert isinstance(trained.state, State)
    assert trained.state.step == 6
    assert trained.data.name == "digits"
    assert trained.image_shape == (8, 8, 1)


def test_codes_are_those_of_the_evaluation(trained):
    """Bit for bit, of images as they were given: bits are drawn as the evaluation draws them."""
    images, key = raw(trained.data.test), jax.random.key(EVALUATION_KEY)
    wanted, _ = evaluation.encode_split(trained.model, trained.state, trained.data.test, 250, key)
    tiny.assert_close(trained.encode(images), wanted, rtol=1e-6, atol=1e-6)
    tiny.assert_close(trained.encode(list(images[:3, ..., 0])), wanted[:3], rtol=1e-6, atol=1e-6)
    tiny.assert_close(trained.encode(images / 16), wanted, rtol=1e-6, atol=1e-6)


def test_log_likelihoods_are_those_that_the_evaluation_averages(trained):
    key, data = jax.random.key(5), trained.data
    wanted = evaluation.bounds(
        trained.model, trained.state, data.test, samples=7, batch_size=40, rng=key, measured={}
    )["iwae_nats"]
    found = trained.log_likelihood(raw(data.test), k=7, seed=5)
    assert found.shape == (360,)
    np.testing.assert_allclose(found.mean(), wanted, rtol=1e-5)
    few = trained.log_likelihood(raw(data.test, 3), k=7, seed=5)
    np.testing.assert_allclose(few, found[:3], rtol=1e-5)


def test_reconstructions_samples_and_interpolations_are_the_models_own(trained):
    images, key = raw(trained.data.test, 30), jax.random.key(EVALUATION_KEY)
    codes, others = trained.encode(images), trained.encode(images[4:8])
    wanted = trained.model.decode(trained.state, codes, key)
    found = trained.reconstruct(images / 16)
    tiny.assert_close(found, wanted, rtol=1e-5)
    tiny.assert_close(trained.decode(codes), wanted, rtol=1e-5)
    between = trained.interpolate(images[:4] / 16, images[4:8] / 16, steps=3)
    assert between.shape == (4, 3, 8, 8, 1)
    tiny.assert_close(between[:, 0], found[:4])
    tiny.assert_close(between[:, 2], trained.reconstruct(images[4:8] / 16))
    middle = trained.model.decode(trained.state, (codes[:4] + others) / 2, key)
    tiny.assert_close(between[:, 1], middle)
    drawn = trained.sample(41, seed=3)
    first = jax.random.fold_in(jax.random.key(3), 0)
    tiny.assert_close(drawn[:20], trained.model.sample(trained.state, first, 20))
    tiny.assert_same_bits(trained.sample(2, seed=3), drawn[:2])
    assert len(np.unique(drawn.reshape(41, -1), axis=0)) == 41
    assert np.any(trained.sample(2, seed=4) != drawn[:2])


def test_any_number_of_images_compiles_once(trained, compilations):
    images = raw(trained.data.test)

    def use(n):
        codes = trained.encode(images[:n])
        trained.decode(codes)
        trained.reconstruct(images[:n])
        trained.sample(n)
        trained.interpolate(images[:n], images[-n:], steps=4)
        trained.log_likelihood(images[:n], k=3)

    use(20)
    for n in (1, 19, 20, 21, 73):
        assert compilations(lambda n=n: use(n)) == 0, n


# -- pixels: a model whose code is the image -------------------------------------------------------


def identity(images, options=Options(), **how):  # noqa: B008
    """The object around a model that gives back what it is given."""
    data = from_arrays(images, options=options, **how)
    shape = data.spec.image_shape
    state = State(jnp.int32(0), {}, {}, {})
    model = Model(
        lambda rng: state,
        step=None,
        evaluate=None,
        encode=lambda state, x, rng: x.reshape(len(x), -1),
        decode=lambda state, z, rng: z.reshape(-1, *shape),
        sample=lambda state, rng, n: jnp.ones((n, *shape)),
    )
    settings = Settings("arrays", None, Plan(), options)
    run = Run("mirror", settings, model, specs.known(data), lambda: data)
    return jaxae.Trained(run, [state], 0, batch_size=4)


BITS = GREY > 127
PIXELS = {
    "bytes": (GREY, {}, {}),
    "bytes, standardised": (GREY, {"standardise": True}, {}),
    "bytes, dequantised": (GREY, {"dequantise": True}, {}),
    "levels": (GREY // 16, {}, {"levels": 16}),
    "levels, dequantised": (GREY // 16, {"dequantise": True}, {"levels": 16}),
    "floats": (GREY / np.float32(255), {}, {}),
    "floats, standardised": (GREY / np.float32(255), {"standardise": True}, {}),
    "bits, drawn": (BITS.astype(np.float32), {"binarise": "dynamic"}, {}),
}


@pytest.mark.parametrize("case", PIXELS)
def test_pixels_come_back_as_they_went_in(case):
    images, options, how = PIXELS[case]
    mirror = identity(images, Options(**options), **how)
    back = mirror.reconstruct(images[:7])
    assert back.dtype == images.dtype
    np.testing.assert_allclose(back, images[:7], atol=1e-6 if images.dtype != np.uint8 else 0)
    np.testing.assert_array_equal(mirror.interpolate(images[:2], images[1:3])[:, 0], back[:2])
    if images.dtype == np.uint8:  # and as floats, but for what was spread over a level
        highest = how.get("levels", 256) - 1
        rtol = 0.5 / highest if "dequantise" in options else 1e-6
        floats = mirror.reconstruct(images[:7] / np.float32(highest))
        assert floats.dtype == np.float32
        np.testing.assert_allclose(floats, images[:7] / highest, atol=rtol * 1.01)
        assert mirror.reconstruct(images[:7].astype(np.int64)).dtype == np.int64


def test_bytes_are_taken_by_a_model_of_continuous_pixels():
    mirror = identity(GREY / np.float32(255))
    np.testing.assert_array_equal(mirror.reconstruct(GREY[:3]), GREY[:3])
    np.testing.assert_array_equal(mirror.reconstruct(BITS[:3]), np.float32(BITS[:3]))


def test_what_is_drawn_from_nothing_is_in_the_pixels_of_the_training_images():
    for images, how, dtype, white in (
        (GREY, {}, np.uint8, 255), (GREY // 16, {"levels": 16}, np.float32, 1.0),
        (np.float32(BITS), {}, np.float32, 1.0),
    ):  # fmt: skip
        mirror = identity(images, **how)
        drawn = mirror.sample(3)
        assert (drawn.dtype, drawn.max()) == (dtype, white)
        assert mirror.sample(3, dtype="float32").max() == 1
        assert mirror.decode(np.ones((1, 36)), dtype=np.uint8).max() == (15 if how else 255)
    beyond = identity(GREY).decode(np.full((1, 36), 1.5))
    assert (beyond.dtype, beyond.min()) == (np.uint8, 255)
    assert identity(GREY).decode(np.full((1, 36), 1.5), dtype=np.float32).min() == 1.5


REFUSED = {
    "shape": (lambda m: m.encode(np.zeros((2, 5, 6, 1))), r"mirror takes images \[N,6,6,1\]"),
    "none": (lambda m: m.encode(GREY[:0]), r"these are \[0, 6, 6, 1\]"),
    "ragged": (lambda m: m.encode([np.zeros((6, 6)), np.zeros((5, 6))]), "differ in shape"),
    "kind": (lambda m: m.encode(GREY.astype(complex)), "these are complex128"),
    "range": (lambda m: m.encode(GREY.astype(np.float32)), r"floats in 0..1, .* to 255.0"),
    "nan": (lambda m: m.encode(np.full((1, 6, 6, 1), np.nan)), "floats in 0..1"),
    "integers": (lambda m: m.encode(GREY.astype(int) + 1), "integers in 0..255"),
    "codes": (lambda m: m.decode(np.zeros((2, 35))), r"codes of mirror are \[N,36\]"),
    "pairs": (lambda m: m.interpolate(GREY[:2], GREY[:3]), "2 and 3 images"),
    "steps": (lambda m: m.interpolate(GREY, GREY, steps=1), "steps=1"),
    "n": (lambda m: m.sample(0), "n=0"),
    "dtype": (lambda m: m.sample(1, dtype=np.int8), "int8 does not hold 0..255"),
    "predict": (lambda m: m.predict(GREY), "model mirror has no predict"),
    "likelihood": (lambda m: m.log_likelihood(GREY), "model mirror has no log_likelihood .it has"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_and_the_model_named(name):
    act, message = REFUSED[name]
    with pytest.raises(UsageError, match=message):
        act(identity(GREY))


def test_models_that_lack_a_half_say_which():
    mirror = identity(GREY)
    for lacking in ("encode", "decode", "sample"):
        mirror.model = mirror.model._replace(**{lacking: None})
        acts = {"encode": mirror.reconstruct, "decode": lambda x: mirror.interpolate(x, x),
                "sample": lambda x: mirror.sample()}  # fmt: skip
        with pytest.raises(UsageError, match=f"mirror has no (encode|{lacking})"):
            acts[lacking](GREY)


def test_what_is_not_finite_is_no_result():
    mirror = identity(GREY)
    nan = lambda *of: jnp.full((4, 36), jnp.nan)
    mirror.model = mirror.model._replace(encode=nan, decode=nan, sample=nan)
    for act in (lambda: mirror.encode(GREY), lambda: mirror.decode(np.ones((4, 36))),
                lambda: mirror.sample(4)):  # fmt: skip
        with pytest.raises(Diverged, match="hold NaN or infinity: the run has diverged"):
            act()


# -- load ------------------------------------------------------------------------------------------


@pytest.fixture
def no_data(monkeypatch):
    def refuse(*_):
        raise AssertionError("the data is read")

    monkeypatch.setattr(runs, "load_named", refuse)


def test_a_model_is_loaded_without_its_data(folder, no_data):
    for checkpoint, step in (("last", 6), ("best", None)):
        model = jaxae.load(folder, checkpoint=checkpoint)
        assert step in (None, model.step)
        assert model.sample(2).shape == (2, 8, 8, 1)
        with pytest.raises(AssertionError, match="is read"):
            model.data  # noqa: B018


def test_every_seed_is_there(folder, trained):
    other = jaxae.load(folder, seed=1)
    assert other.seed == 1
    tiny.assert_same_bits(other.state, trained.states[1])
    assert np.any(np.asarray(jax.tree.leaves(other.state.params)[0])
                  != np.asarray(jax.tree.leaves(trained.state.params)[0]))  # fmt: skip
    with pytest.raises(UsageError, match="seed=2: this run has the seeds 0 to 1"):
        jaxae.load(folder, seed=2)


def test_seeds_that_ran_as_one_program_are_taken_apart(tmp_path):
    fields = TINY | {"seeds": 2, "seeds_by": "vmap", "steps": 2}
    whole = jaxae.train("vae", workdir=tmp_path, quiet=True, **fields)
    tiny.assert_same_bits(jaxae.load(tmp_path).states, whole.states)


def test_a_model_that_re_reads_its_training_images(tmp_path, no_data, monkeypatch):
    fields = {k: v for k, v in TINY.items() if k != "eval_every"} | {"prior_widths": [8]}
    data = tiny.images()
    whole = jaxae.train("acn", data=data, workdir=tmp_path, quiet=True, **fields)
    assert np.any(np.asarray(whole.state.extra["memory"]))
    with pytest.raises(UsageError, match="arrays: these images were given from Python"):
        jaxae.load(tmp_path)
    tiny.assert_same_bits(jaxae.load(tmp_path, data=data).state, whole.state)


def test_what_is_no_run_is_told_what_is(tmp_path):
    with pytest.raises(UsageError, match=r"'acn-mnist' is not the folder of a run.*--workdir DIR"):
        jaxae.load("acn-mnist")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="checkpoint='newest' is none of last, best"):
        jaxae.load(tmp_path, checkpoint="newest")


def test_a_mean_image_that_was_changed_is_noticed_and_written_again(folder, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "w")
    file = tmp_path / "w" / specs.MEAN
    whole = file.read_bytes()
    wanted = jaxae.load(folder).sample(2)
    for damage, said in ((lambda: file.write_bytes(whole[:-1] + b"x"), "checksum"),
                         (file.unlink, "No such file")):  # fmt: skip
        damage()
        with pytest.raises(WorkdirError, match=f"{specs.MEAN} cannot be read: .*{said}.*evaluate"):
            jaxae.load(tmp_path / "w")
        assert command.main(["evaluate", "--workdir", str(tmp_path / "w"), "--images", "0"]) == 0
        assert file.read_bytes() == whole
        np.testing.assert_array_equal(jaxae.load(tmp_path / "w").sample(2), wanted)
    capsys.readouterr()


def test_data_that_has_changed_is_noticed_when_it_is_read(tmp_path):
    images = tiny.images()
    jaxae.train("vae", data=images, workdir=tmp_path, quiet=True, **TINY)
    model = jaxae.load(tmp_path)
    assert model.sample(1).shape == (1, 8, 8, 1)
    with pytest.raises(UsageError, match="arrays: these images were given from Python"):
        model.data  # noqa: B018
    assert jaxae.load(tmp_path, data=images).data is images
    with pytest.raises(UsageError, match=r"arrays is no longer the data that"):
        jaxae.load(tmp_path, data=tiny.images(47))


# -- train -----------------------------------------------------------------------------------------


def test_training_is_what_the_command_does(folder, tmp_path, capsys):
    """The same states bit for bit, and each goes on with what the other has left."""
    of_command = ["--model", "vae", *WORDS, "--images", "0", "--iwae-samples", "1",
                  "--workdir", str(tmp_path / "w")]  # fmt: skip
    assert command.main(of_command) == 0
    trained, ran = jaxae.load(folder), jaxae.load(tmp_path / "w")
    tiny.assert_same_bits(ran.states, trained.states)
    fixed = lambda path: {k: v for k, v in read_config(path).items() if k != "report"}
    assert fixed(tmp_path / "w") == fixed(folder)
    longer = jaxae.train("vae", workdir=tmp_path / "w", quiet=True, **HELD | {"steps": 8})
    assert (longer.step, int(longer.state.step)) == (8, 8)
    tiny.assert_same_bits(jaxae.load(tmp_path / "w").states, longer.states)
    with pytest.raises(WorkdirError, match=r"config\.latent: 2 in .* 3 now"):
        jaxae.train("vae", workdir=tmp_path / "w", quiet=True, **HELD | {"latent": 3})
    capsys.readouterr()


def test_without_a_folder_all_stays_in_memory(trained):
    records = []
    model = jaxae.train("vae", quiet=True, callbacks=[records.append], **HELD)
    tiny.assert_same_bits(model.states, trained.states)
    assert {name for record in records for name in record} >= {"train/loss", "validation/loss"}


def test_callbacks_of_a_real_run_are_given_its_records(tmp_path):
    records = []
    jaxae.train("vae", workdir=tmp_path, quiet=True, callbacks=[records.append], **TINY)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert records == [{k: v for k, v in x.items() if k not in ("n", "crc")} for x in lines]


LABELS = np.arange(30) % 3
ARRAYS = {
    "images": GREY,
    "tuple": (GREY, LABELS),
    "with test images": (GREY, LABELS, GREY[:5], LABELS[:5]),
    "dict": {"train_images": GREY // 16, "levels": 16, "train_labels": LABELS},
    "Data": from_arrays(GREY, LABELS, options=Options(standardise=True), name="mine"),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_arrays_of_ones_own(case, tmp_path, capsys):
    """The folder is loaded without them; what is evaluated needs them again."""
    fields = TINY | {"likelihood": "gaussian"}
    model = jaxae.train("vae", data=ARRAYS[case], workdir=tmp_path, quiet=True, **fields)
    name = "arrays:mine" if case == "Data" else "arrays"
    assert model.config.data == read_config(tmp_path)["data"] == name
    assert read_config(tmp_path)["digest"] == model.data.digest
    assert model.config.options == model.data.options
    assert model.config.options.binarise == "none"  # that of the recipe was for its own data
    loaded = jaxae.load(tmp_path)
    tiny.assert_same_bits(loaded.state, model.state)
    x = GREY[:3] // 16 if case == "dict" else GREY[:3]
    np.testing.assert_array_equal(loaded.reconstruct(x), model.reconstruct(x))
    again = jaxae.train("vae", data=ARRAYS[case], workdir=tmp_path, quiet=True, **fields)
    tiny.assert_same_bits(again.state, model.state)
    assert command.main(["evaluate", "--workdir", str(tmp_path)]) == 1
    assert f"{name}: these images were given from Python" in capsys.readouterr().err


MISTAKES = {
    "model": (("acm",), {}, "unknown model 'acm'.*did you mean acn"),
    "recipe": (("vae", "mnits"), {}, "unknown recipe 'mnits'.*mean mnist"),
    "field": (("vae",), {"latnt": 3}, "unknown field 'latnt' of model vae; did you mean latent"),
    "word": (("vae",), {"checkpoint": "best"}, "unknown field 'checkpoint'"),
    "value": (("vae",), {"latent": 0}, "latent=0 must be at least 1"),
    "contradiction": (("vae",), {"iwae_k": 3, "beta": 2.0}, "iwae_k.*beta"),
    "kind of data": (("vae",), {"data": 3}, "an array of training images.*it is int"),
    "key of data": (("vae",), {"data": {"images": GREY}}, "the key 'images', which is none of"),
    "no images": (("vae",), {"data": {"levels": 3}}, "data has no train_images"),
    "options of data": (("vae",), {"data": ARRAYS["Data"], "binarise": "fixed"}, "binarise: the"),
    "networks": (
        ("nvae",),
        {"networks": {"x": nn.Dense(1)}},
        "nvae.* takes no networks of your own",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_clear_message(name, tmp_path):
    words, fields, message = MISTAKES[name]
    with pytest.raises(UsageError, match=message):
        jaxae.train(*words, workdir=tmp_path / "w", quiet=True, **fields)
    assert not (tmp_path / "w").exists()


class Own(nn.Module):
    """An encoder of the caller's own, with a function among its fields."""

    outputs: int
    squash: object = jnp.tanh

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.outputs)(self.squash(x.reshape(x.shape[0], -1)))


def test_networks_of_ones_own_belong_to_the_run(tmp_path, capsys):
    """A run with networks of one's own, and the same without them, are two runs."""
    fields = {"workdir": tmp_path, "quiet": True, **TINY, "steps": 2}
    own = {"enc": Own(4, squash=lambda x: x)}
    for wrong, said in (({"encoder": Own(4)}, "'encoder' is not one of 'enc'"),
                        ({"enc": Own(3)}, r"outputs must have shape \[1, 4\]")):  # fmt: skip
        with pytest.raises(UsageError, match=said):
            jaxae.train("vae", networks=wrong, **fields | {"workdir": tmp_path / "x"})
    model = jaxae.train("vae", networks=own, **fields)
    recorded = read_config(tmp_path)["networks"]["enc"]
    assert "Own(" in recorded
    assert "lambda" in recorded
    assert " at 0x" not in recorded
    loaded = jaxae.load(tmp_path, networks={"enc": Own(4, squash=lambda x: x)})
    tiny.assert_same_bits(loaded.state, model.state)
    for networks in (None, {"enc": Own(4)}):
        with pytest.raises(UsageError, match=r"(?s)as its network 'enc' Own.*same networks="):
            jaxae.load(tmp_path, networks=networks)
    with pytest.raises(WorkdirError, match=r"networks\.enc: .*missing now"):
        jaxae.train("vae", **fields)
    assert command.main(["evaluate", "--workdir", str(tmp_path)]) == 1
    assert "the command cannot take any" in capsys.readouterr().err


def test_settings_are_the_recipes_but_for_what_is_named():
    settings = jaxae.train("vae", quiet=True, **TINY | {"steps": 1}).config
    recipe = jaxae.recipes.get("vae")
    changed = {k: tuple(v) if isinstance(v, list) else v for k, v in (TINY | {"steps": 1}).items()}
    of = lambda part: {f: v for f, v in changed.items() if f in vars(part)}
    assert settings == dataclasses.replace(
        recipe,
        model=dataclasses.replace(recipe.model, **of(recipe.model)),
        plan=dataclasses.replace(recipe.plan, **of(recipe.plan)),
    )
