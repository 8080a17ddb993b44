"""Every recipe builds its model for its data's shape; the papers' have the papers' numbers.

Oracle: the papers' settings as recalled, and the official scripts'.
"""

import inspect
import pathlib
import re
import sys

import jax
import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "experiments"))

from studies import gan as gan_study

from jaxae import recipes
from jaxae.models import MODELS
from jaxae.models import vaegan as vaegan_module
from jaxae.recipes import RECIPES
from jaxae.settings import UsageError
from jaxae.training import Spec

# Data sets as their sources make them: image shape, classes, levels.
SHAPES = {
    "digits": ((8, 8, 1), 10, 17),
    "mnist": ((28, 28, 1), 10, 256),
    "mnist32": ((32, 32, 1), 10, 256),
    "cifar10": ((32, 32, 3), 10, 256),
    "svhn_cropped": ((32, 32, 3), 10, 256),
    "lines": ((32, 32, 1), 10, 0),
    "grid25": ((1, 2, 1), 25, 0),
    "ones_twos": ((1, 2, 1), 2, 0),
    "topics": ((20, 20, 1), 20, 256),
    "newsgroups": ((40, 50, 1), 20, 256),
    "speech": ((1, 1024, 1), 4, 256),
    "folder:images": ((64, 64, 3), 0, 256),
    "folder:celeba": ((64, 64, 3), 0, 256),
    "folder:celebahq256": ((256, 256, 3), 0, 256),
    "folder:ffhq": ((1024, 1024, 3), 0, 256),
}
SLOW = {("nvae", "paper-mnist"), ("nvae", "paper-cifar10"), ("nvae", "paper-celeba64")}
"""whose parameters take seconds to trace; the other recipes of the model show that it can be"""
ALL = [(model, name) for model, recipes in RECIPES.items() for name in recipes]


def spec_of(settings) -> Spec:
    shape, classes, levels = SHAPES[settings.data]
    options = settings.options
    if options.binarise != "none":
        levels = 2
    elif options.dequantise or options.standardise:
        levels = 0
    return Spec(shape, 1000, classes, levels, np.full(shape, 0.3, np.float32))


@pytest.mark.parametrize(("model", "name"), ALL)
def test_a_recipe_builds_its_model(model, name):
    settings = RECIPES[model][name]()
    assert isinstance(settings.model, MODELS[model].Config)
    made = MODELS[model].make(settings.model, spec_of(settings))
    if (model, name) not in SLOW:
        state = jax.eval_shape(made.init, jax.random.key(0))
        assert state.params


@pytest.mark.parametrize(("model", "name"), ALL)
def test_a_recipe_says_its_command_its_time_and_a_number(model, name):
    """The command that runs it, what it takes, and what to expect or that nothing is recorded."""
    about = " ".join(inspect.getdoc(RECIPES[model][name]).split())
    first = name == next(iter(RECIPES[model]))
    command = f"jaxae --model {model}" + ("" if first else f" --recipe {name}")
    assert re.search(rf"{re.escape(command)}(?! --recipe)(?![-\w])", about)
    assert re.search(r"\bminutes?\b|GPU|TPU", about)
    number = r"[Ee]xpect|[Rr]ecalled|[Pp]ublished|reports|logs|[Nn]o number|experiments/"
    assert re.search(number, about)
    for file in re.findall(r"experiments/[-\w/]+\.\w+", about):
        assert (pathlib.Path(__file__).parents[1] / file).exists(), file


def test_recipes_by_name():
    entries = recipes.list()
    assert [(e.model, e.recipe) for e in entries] == ALL
    assert {e.model for e in entries} == set(MODELS)
    assert all(e.about.endswith(".") for e in entries)
    for model in RECIPES:
        assert recipes.names(model) == [e.recipe for e in entries if e.model == model]
        assert recipes.get(model) == recipes.get(model, recipes.names(model)[0])
    assert recipes.get("vaegan", "mnist").data == "mnist"
    for act, said in (
        (lambda: recipes.get("vea"), "unknown model 'vea'.*did you mean vae"),
        (lambda: recipes.get("vae", "mnits"), "unknown recipe 'mnits': .*did you mean mnist"),
        (lambda: recipes.names("vea"), "unknown model 'vea'"),
    ):
        with pytest.raises(UsageError, match=said):
            act()


# -- what the papers or their code say -------------------------------------------------------------


def test_who_means_the_gan_without_a_penalty_says_so():
    """The default has one: that of the claim whose other row shows what comes without."""
    dcgan = RECIPES["gan"]["dcgan"]().model
    assert (dcgan.r1, dcgan.generator_norm, dcgan.discriminator_norm) == (0, "batch", "batch")
    runs = gan_study.RUNS
    assert runs["GAN"].changes["r1"] == 0
    assert runs["GAN, R1"].changes["r1"] == MODELS["gan"].Config().r1 > 0


def test_aae_recipes_of_the_paper():
    """Rates fall at epochs 50 and 1000 of 5000, clustering's at 50 of 1500; 600 steps each."""
    for name, epochs, drops in (("paper-semisupervised", 5000, (30_000, 600_000)),
                                ("paper-clustering", 1500, (30_000,))):  # fmt: skip
        settings = RECIPES["aae"][name]()
        config = settings.model
        assert config.drops == drops
        assert settings.plan.steps == epochs * 600
        assert settings.plan.batch_size == 100
        assert (config.optimiser, config.deviation) == ("sgd", 0.01)
        assert (config.learning_rate, config.critic_rate, config.fool_rate) == (0.01, 0.1, 0.1)
    semisupervised, clustering = (
        RECIPES["aae"][name]().model for name in ("paper-semisupervised", "paper-clustering")
    )
    assert (semisupervised.widths, semisupervised.latent) == ((1000, 1000), 10)
    assert (semisupervised.image_noise, semisupervised.image_dropout) == (0.3, 0.0)
    assert (clustering.widths, clustering.latent, clustering.clusters) == ((3000, 3000), 5, 16)
    assert (clustering.image_noise, clustering.image_dropout) == (0.0, 0.2)


@pytest.mark.parametrize(
    ("name", "map_shape", "latent", "gamma", "steps"),
    [
        ("paper-cifar", (8, 8, 192), 256, 1e-5, 50_000),
        ("paper-celeba", (8, 8, 256), 128, 1e-6, 62_500),
    ],
)
def test_vaegan_measures_errors_where_the_official_code_does(name, map_shape, latent, gamma, steps):
    """The second convolution of stride 2 of CIFAR-10's script, the third of CelebA's."""
    settings = RECIPES["vaegan"][name]()
    config, spec = settings.model, spec_of(settings)
    assert (config.latent, config.gamma, settings.plan.steps) == (latent, gamma, steps)
    critic = vaegan_module.networks.build_networks(config, spec).networks["dis"]
    image = jax.ShapeDtypeStruct((1, *spec.image_shape), np.float32)
    (_, shown), _ = jax.eval_shape(critic.init_with_output, jax.random.key(0), image)
    assert shown[config.measured_in - 1].shape == (1, *map_shape)


def test_bigan_recipe_of_the_paper():
    settings = RECIPES["ali"]["paper-bigan-mnist"]()
    config = settings.model
    assert (config.latent, config.widths, config.prior) == (50, (1024, 1024), "uniform")
    assert (config.learning_rate, config.critic_rate, config.beta1) == (2e-4, 2e-4, 0.5)
    assert (config.deviation, config.zero_start, config.together) == (0.02, True, False)
    assert settings.plan.steps == config.decay_steps == 400 * 468
    assert settings.plan.batch_size == 128


def test_alae_recipes_of_the_paper():
    settings = RECIPES["alae"]["paper-mnist"]()
    config = settings.model
    assert (config.latent, config.widths, config.map_layers) == (50, (1024, 1024), 6)
    assert (config.r1, config.beta1, config.beta2) == (10.0, 0.0, 0.99)
    for name, rate, width in (("paper-celebahq256", 0.0015, 64), ("paper-ffhq", 0.003, 16)):
        config = RECIPES["alae"][name]().model
        assert (config.latent, config.map_layers, config.last_gain) == (512, 8, 0.03)
        assert (config.conv_width, config.conv_most) == (width, 512)
        assert config.learning_rate == config.critic_rate == config.reciprocity_rate == rate
