"""What each model needs of its batch, against what its step does with the batch's examples.

Oracle: the shapes that reach the layers of batch normalisation while a step is traced.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jaxae import nets
from jaxae.fields import field_types
from jaxae.models import MODELS
from jaxae.training import Need, Plan, fit

MAIN, FEW = 10, 7  # examples of a batch, and labelled ones beside it: no factor in common
DATA = tiny.images(labels_batch=FEW)
_ALL = dict.fromkeys(("encoder_norm", "generator_norm", "discriminator_norm"), "batch")
_GAN = {"generator_norm": "batch", "discriminator_norm": "batch", "r1": 0.0}
# Variant of `tiny` -> changed fields; every model whose networks may normalise over the batch, in
# every way in which examples share one.
CASES = {
    "gan": ("gan", _GAN), "gan conv": ("gan conv", {}),
    "vaegan": ("vaegan", _ALL), "vaegan conv": ("vaegan conv", {}),
    "vaegan gan": ("vaegan", _ALL | {"variant": "gan"}),
    "vaegan vae": ("vaegan", _ALL | {"variant": "vae"}),
    "vaegan discriminator": ("vaegan", _ALL | {"encoder_norm": "none", "generator_norm": "none"}),
    "ali": ("ali feature matching", {}), "ali together": ("ali", {"discriminator_norm": "batch"}),
    "ali joint discriminator": (
        "ali", _ALL | {"encoder_norm": "none", "generator_norm": "none"},
    ),
    "ali gan": ("ali feature matching", {"feature_matching": False, "method": "gan"}),
    "ali semisupervised": ("ali semisupervised", {}),
    "ali few": ("ali semisupervised", {"encoder_norm": "none"}),
    "aae": ("aae", _ALL), "aae semisupervised": ("aae semisupervised", _ALL),
    "aae few": ("aae semisupervised", {}), "aae decoder": ("aae", {"generator_norm": "batch"}),
    "nvae": ("nvae", {"groups": (1, 1, 1)}), "nvae deep": ("nvae", {"groups": (1, 1, 1, 1)}),
    "iae semisupervised": ("iae semisupervised", {}), "vae": ("vae", {}), "acn": ("acn", {}),
}  # fmt: skip


def make(variant, /, **changes):
    name, fields = tiny.VARIANTS[variant]
    return MODELS[name].make(MODELS[name].Config(**fields | changes), DATA.spec)


def refused(model, batch_size=64, labels_batch=64, **fields):
    """What `Plan.check` says, or None."""
    try:
        Plan(batch_size=batch_size, **fields).check(model, labels_batch)
    except ValueError as error:
        return str(error)
    return None


def normalised(model):
    """Numbers for each example that a unit is normalised over, of the batch and of the labelled."""
    shapes = []

    def noting(true, args, kwargs, context):
        if isinstance(context.module, nn.BatchNorm) and not context.module.use_running_average:
            shapes.append(args[0].shape[:-1])
        return true(*args, **kwargs)

    batch = DATA.train.batch(0, 0, MAIN)
    state = jax.eval_shape(model.init, jax.random.key(0))
    with nn.intercept_methods(noting):
        jax.eval_shape(model.step, state, batch, jax.random.key(0))
    counts = {int(np.prod(shape)) for shape in shapes}
    of = lambda n, other: [count // n for count in counts if count % n == 0 and count % other]
    return of(MAIN, FEW), of(FEW, MAIN)


@pytest.mark.parametrize("case", CASES)
def test_a_batch_is_refused_where_a_unit_is_normalised_over_fewer_than_three_numbers(case):
    variant, changes = CASES[case]
    model = make(variant, **changes)
    main, few = normalised(model)
    for n in (1, 2, 3, 4):
        too_few = any(n * numbers < 3 for numbers in main)
        assert bool(refused(model, batch_size=n)) == too_few, n
        too_few = any(n * numbers < 3 for numbers in few)
        assert bool(refused(model, labels_batch=n)) == too_few, n
    asks = "semisupervised" in variant
    assert bool(refused(model, labels_batch=0)) == asks


def test_the_cases_are_all_models_that_keep_batch_statistics():
    keep = set()
    for variant in tiny.FIRST:
        name = tiny.VARIANTS[variant][0]
        norms = set(_ALL) & set(field_types(MODELS[name].Config))
        model = make(variant, **dict.fromkeys(norms, "batch") | ({"r1": 0.0} if norms else {}))
        stats = jax.eval_shape(model.init, jax.random.key(0)).extra.get("stats", {})
        if any("var" in str(path[-1]) for path, _ in jax.tree_util.tree_leaves_with_path(stats)):
            keep.add(name)
    assert keep == {"gan", "vaegan", "ali", "aae", "nvae"}


@pytest.mark.parametrize(("numbers", "learns"), [(1, False), (2, False), (3, True)])
def test_of_two_numbers_normalisation_leaves_signs_without_a_slope(numbers, learns):
    """Why three: h is large, so that what is added to the variance counts for nothing."""
    h = 100 * jax.random.normal(jax.random.key(0), (numbers, 4))
    weights = jax.random.normal(jax.random.key(1), h.shape)
    variables = nets.batch_norm(True, None).init(jax.random.key(2), h)

    def cost(h):
        out, _ = nets.batch_norm(True, None).apply(variables, h, mutable=["batch_stats"])
        return jnp.sum(weights * out)

    slope = float(jnp.max(jnp.abs(jax.grad(cost)(h)))) * 100
    assert (slope > 0.1) == learns
    assert slope > 0.1 or slope < 1e-4


@pytest.mark.parametrize("variant", ["acai", "iae translation"])
def test_pairs_are_even_on_each_device_that_makes_its_own(variant):
    model = tiny.make(variant, DATA)
    allowed = [n for n in range(1, 9) if not refused(model, batch_size=n)]
    assert allowed == [2, 4, 6, 8]
    shared = [n for n in range(2, 13, 2)
              if not refused(model, batch_size=n, parallel="pmap", devices=2)]  # fmt: skip
    assert shared == [4, 8, 12]
    said = refused(model, batch_size=6, parallel="pmap", devices=2)
    assert said.startswith("batch_size=6 and parallel=pmap, 3 for each of 2 devices: ")
    assert "batch_size must be for each device a multiple of 2" in said
    # All devices that there are.
    there = jax.device_count()
    assert refused(model, batch_size=2 * there, parallel="pmap") is None
    assert refused(model, batch_size=there, parallel="pmap")
    state = jax.eval_shape(model.init, jax.random.key(0))
    batch = jax.tree.map(lambda x: x[:5], DATA.train.batch(0, 0, MAIN))
    with pytest.raises(ValueError, match="a batch of 5: "):
        jax.eval_shape(model.step, state, batch, jax.random.key(0))


def test_batch_statistics_are_of_all_devices():
    model = tiny.make("ali", DATA)
    assert refused(model, batch_size=4, parallel="pmap", devices=4) is None
    assert refused(model, batch_size=2, parallel="pmap", devices=2)


def test_training_refuses_before_anything_is_done(tmp_path):
    model = tiny.toy(DATA)._replace(needs=(Need("x=1 wants many", least=40),))
    with pytest.raises(ValueError, match="batch_size=16: x=1 wants many; batch_size must be at le"):
        fit(model, DATA, tiny.plan(), tmp_path / "w", quiet=True)
    assert not (tmp_path / "w").exists()
    many = model._replace(needs=(Need("x=1 wants many", least=FEW + 1, of="labels_batch"),))
    with pytest.raises(ValueError, match=f"labels_batch={FEW}: x=1 wants many"):
        fit(many, DATA, tiny.plan(), tmp_path / "w", quiet=True)
