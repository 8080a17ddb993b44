"""One list of checks over all losses: value and gradient against float64 numpy and scipy, jit,
vmap, shape and dtype errors, half and double precision, finite values and gradients at extreme
inputs, and NaN outside the declared range of an argument."""

import functools
import inspect
import itertools
import re
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from jaxae import losses

generator = np.random.default_rng(0)
normal = lambda *shape: generator.normal(size=shape).astype(np.float32)
uniform = lambda *shape: generator.uniform(size=shape).astype(np.float32)
log_sd = lambda *shape: 0.5 * normal(*shape)
grid = lambda *shape: (generator.integers(0, 4, size=shape) / 3).astype(np.float32)


class Case(NamedTuple):
    loss: Callable
    reference: Callable  # the same in float64, from another formula or library
    args: tuple
    extremes: list  # one number per argument, which then fills it
    argnums: tuple = ()  # arguments with a gradient, all by default
    outside: tuple = ()  # position of an argument with a declared range, numbers outside of it
    error: float = 1e-11  # in float64: the method's, or the reference's


def logistic_mixture(params, x, levels=4):
    """Bin masses as differences of scipy's cdf, pixel by pixel."""
    x = np.rint(x * (levels - 1)) / (levels - 1)
    channels, half = x.shape[-1], 1 / (levels - 1)
    blocks = params.reshape(
        *params.shape[:-1], 1 + 2 * channels + channels * (channels - 1) // 2, -1
    )
    total = np.zeros(x.shape[0])
    for place in np.ndindex(x.shape[:-1]):
        logits, rest = blocks[place][0], blocks[place][1:]
        means, log_scales, couplings = np.split(rest, [channels, 2 * channels])
        mass = special.softmax(logits)
        pairs = [(c, j) for c in range(channels) for j in range(c)]
        for c in range(channels):
            y = 2 * x[place] - 1
            centre = means[c] + sum(
                np.tanh(couplings[pairs.index((c, j))]) * y[j] for j in range(c)
            )
            cdf = functools.partial(stats.logistic.cdf, loc=centre, scale=np.exp(log_scales[c]))
            upper = 1.0 if x[place][c] == 1 else cdf(y[c] + half)
            lower = 0.0 if x[place][c] == 0 else cdf(y[c] - half)
            mass = mass * (upper - lower)
        total[place[0]] -= np.log(mass.sum())
    return total


def kl_gaussians(mean_q, log_var_q, mean_p, log_var_p):
    s, t = np.exp(log_var_q / 2), np.exp(log_var_p / 2)
    return (np.log(t / s) + (s**2 + (mean_q - mean_p) ** 2) / (2 * t**2) - 0.5).sum(-1)


def mixture_pdf(z, logits, means, log_scales):
    parts = special.softmax(logits, axis=-1) * stats.norm.pdf(
        z[..., None], means, np.exp(log_scales)
    )
    return parts.sum(-1)


def kl_by_trapezoids(code, logits, means, log_scales):
    noise = np.linspace(-9, 9, 201)[:, None, None]  # converges faster than any power of the step
    log_p = np.log(mixture_pdf(code + noise, logits[None], means[None], log_scales[None]))
    q = stats.norm.pdf(noise)
    return (q * (np.log(q) - log_p)).sum((0, -1)) * (noise[1] - noise[0]).item()


def upper_bound(code, logits, means, log_scales):
    kl = log_scales + (1 + (code[..., None] - means) ** 2) / (2 * np.exp(log_scales) ** 2) - 0.5
    return -np.log((special.softmax(logits, axis=-1) * np.exp(-kl)).sum(-1)).sum(-1)


def streamed(log_weights):
    carry = losses.extend_bound(losses.empty_bound(np.shape(log_weights)[1:]), log_weights[:1])
    return losses.finish_bound(losses.extend_bound(carry, log_weights[1:]))


def bowl(x):
    """A critic whose gradient at x is x."""
    return 0.5 * jnp.sum(jnp.square(x), axis=1)


NEGATIVE = [-1.0, -1e-3, -np.inf, np.inf, np.nan]
OFF_UNIT = [*NEGATIVE, 1.001, 2.0]
IMAGE, CODE, MIXTURE = (3, 2, 2, 2), (3, 2), (3, 2, 3)
BIG, signs = 1e4, lambda *sizes: list(itertools.product(*[(-s, s) for s in sizes]))
CASES = {
    "bernoulli_nll": Case(
        losses.bernoulli_nll,
        lambda l, x: (
            -(x * np.log(special.expit(l)) + (1 - x) * np.log(special.expit(-l))).sum((1, 2, 3))
        ),
        (2 * normal(*IMAGE), uniform(*IMAGE)),
        [(l, x) for l in (-BIG, BIG) for x in (0.0, 1.0)],
        outside=(1, OFF_UNIT),
    ),
    "gaussian_nll": Case(
        losses.gaussian_nll,
        lambda x, m, s: -stats.norm.logpdf(x, m, np.exp(s)).sum((1, 2, 3)),
        (normal(*IMAGE), normal(*IMAGE), log_sd(*IMAGE)),
        signs(BIG, BIG, 30),
    ),
    "gaussian_nll, one scale": Case(
        losses.gaussian_nll,
        lambda x, m, s: -stats.norm.logpdf(x, m, np.exp(s)).sum((1, 2, 3)),
        (normal(*IMAGE), normal(*IMAGE), np.float32(-0.7)),
        signs(BIG, BIG, 30),
    ),
    "constrained_poisson_nll": Case(
        losses.constrained_poisson_nll,
        lambda l, v: (
            -stats.poisson.logpmf(v, v.sum(-1, keepdims=True) * special.softmax(l, axis=-1)).sum(-1)
        ),
        (normal(3, 5), np.float32(generator.integers(0, 4, (3, 5)) + [1, 0, 0, 0, 0])),
        [(l, v) for l in (-BIG, BIG) for v in (0.0, 255.0)],
        argnums=(0,),
        outside=(1, [*NEGATIVE, 0.5, 2.001]),
    ),
    "multinomial_nll": Case(
        losses.multinomial_nll,
        lambda l, v: (
            -np.array(
                [
                    stats.multinomial.logpmf(row, row.sum(), p)
                    for row, p in zip(v, special.softmax(l, axis=-1), strict=True)
                ]
            )
        ),
        (normal(3, 5), np.float32(generator.integers(0, 4, (3, 5)))),
        [(l, v) for l in (-BIG, BIG) for v in (0.0, 255.0)],
        argnums=(0,),
        outside=(1, [*NEGATIVE, 0.5, 2.001]),
    ),
    "words_nll": Case(
        losses.words_nll,
        lambda l, v: -(v * np.log(special.softmax(l, axis=-1))).sum(-1),
        (normal(3, 5), np.float32(generator.integers(0, 4, (3, 5)))),
        [(l, v) for l in (-BIG, BIG) for v in (0.0, 255.0)],
        outside=(1, NEGATIVE),
    ),
    "half_squared_error": Case(
        losses.half_squared_error,
        lambda x, m: 0.5 * ((x - m) ** 2).sum((1, 2, 3)),
        (normal(*IMAGE), normal(*IMAGE)),
        signs(BIG, BIG),
    ),
    "categorical_nll": Case(
        losses.categorical_nll,
        lambda l, x: (
            -np.log(
                np.take_along_axis(
                    special.softmax(l, -1), np.rint(3 * x)[..., None].astype(int), -1
                )
            ).sum((1, 2, 3, 4))
        ),
        (2 * normal(*IMAGE, 4), grid(*IMAGE)),
        [(l, x) for l in (-BIG, BIG) for x in (0.0, 2 / 3, 1.0)],
        argnums=(0,),
        outside=(1, OFF_UNIT),
    ),
    "logistic_mixture_nll": Case(
        functools.partial(losses.logistic_mixture_nll, levels=4),
        logistic_mixture,
        (normal(2, 1, 2, 20), grid(2, 1, 2, 3)),
        [(p, x) for p in (-BIG, BIG, -30.0, 30.0) for x in (0.0, 2 / 3, 1.0)],
        argnums=(0,),
        outside=(1, OFF_UNIT),
    ),
    "gradient_penalty": Case(
        lambda real, fake, alpha: losses.gradient_penalty(bowl, real, fake, alpha),
        lambda real, fake, alpha: (
            (np.linalg.norm(alpha[:, None] * real + (1 - alpha[:, None]) * fake, axis=1) - 1) ** 2
        ),
        (normal(*CODE), normal(*CODE), uniform(3)),
        [(BIG, -BIG, 0.0), (BIG, -BIG, 1.0), (0.0, 0.0, 0.5)],
        outside=(2, OFF_UNIT),
    ),
    "squared_gradient_norms": Case(
        lambda *inputs: losses.squared_gradient_norms(lambda x, y: bowl(x) + bowl(y), *inputs),
        lambda x, y: (x**2).sum(1) + (y**2).sum(1),
        (normal(*CODE), normal(3, 4)),
        signs(BIG, BIG),
    ),
    "r1_penalty": Case(
        lambda *real: losses.r1_penalty(bowl, *real),
        lambda x: 0.5 * (x**2).sum(1),
        (normal(*CODE),),
        signs(BIG),
    ),
    "mean_squared_gradient_norm": Case(
        lambda inputs: losses.mean_squared_gradient_norm(bowl, inputs),
        lambda inputs: (inputs**2).sum(1).mean(),
        (normal(*CODE),),
        signs(BIG),
    ),
    "feature_matching": Case(
        losses.feature_matching,
        lambda real, fake: ((real.mean(0) - fake.mean(0)) ** 2).sum(),
        (normal(*CODE), normal(4, 2)),
        signs(BIG, BIG),
    ),
    "kl_to_standard_normal": Case(
        losses.kl_to_standard_normal,
        lambda m, v: kl_gaussians(m, v, 0.0, 0.0),
        (normal(*CODE), normal(*CODE)),
        signs(BIG, 30),
    ),
    "kl_diagonal_gaussians": Case(
        losses.kl_diagonal_gaussians,
        kl_gaussians,
        (normal(*CODE), normal(*CODE), normal(*CODE), normal(*CODE)),
        signs(BIG, 30, BIG, 30),
    ),
    "gaussian_log_prob": Case(
        losses.gaussian_log_prob,
        lambda z, m, v: stats.norm.logpdf(z, m, np.exp(v / 2)).sum(-1),
        (normal(*CODE), normal(*CODE), normal(*CODE)),
        signs(BIG, BIG, 30),
    ),
    "kl_monte_carlo": Case(
        losses.kl_monte_carlo,
        lambda q, p: sum(q[i] - p[i] for i in range(3)) / 3,
        (normal(*CODE), normal(*CODE)),
        signs(BIG, BIG),
    ),
    "free_bits": Case(
        functools.partial(losses.free_bits, floor=0.5),
        lambda kl: sum(max(0.5, sum(group) / len(group)) for group in kl.T),
        (uniform(4, 5),),
        [(0.0,), (BIG,)],
    ),
    "free_bits_per_example": Case(
        functools.partial(losses.free_bits_per_example, floor=0.5),
        lambda kl: np.array([sum(max(0.5, nats) for nats in row) for row in kl]),
        (uniform(4, 5),),
        [(0.0,), (BIG,)],
    ),
    "capacity_penalty": Case(
        functools.partial(losses.capacity_penalty, gamma=10.0),
        lambda rate, capacity: 10 * np.where(rate > capacity, rate - capacity, capacity - rate),
        (uniform(5), np.float32(0.5)),
        [(0.0, 0.0), (BIG, 1.0)],
    ),
    "importance_weighted_bound": Case(
        losses.importance_weighted_bound,
        lambda w: np.log(np.exp(w).mean(0)),
        (normal(*CODE),),
        signs(BIG),
    ),
    "extend_bound": Case(
        streamed, lambda w: np.log(np.exp(w).mean(0)), (normal(*CODE),), signs(BIG)
    ),
    "mixture_log_prob": Case(
        losses.mixture_log_prob,
        lambda z, *mixture: np.log(mixture_pdf(z, *mixture)).sum(-1),
        (normal(*CODE), normal(*MIXTURE), normal(*MIXTURE), log_sd(*MIXTURE)),
        signs(BIG, BIG, BIG, 30),
    ),
    "kl_unit_gaussian_to_mixture": Case(
        functools.partial(losses.kl_unit_gaussian_to_mixture, nodes=100),
        kl_by_trapezoids,
        (normal(*CODE), normal(*MIXTURE), normal(*MIXTURE), 0.5 * log_sd(*MIXTURE)),
        signs(BIG, BIG, BIG, 30),
        error=1e-8,
    ),
    "kl_unit_gaussian_to_mixture_sampled": Case(
        losses.kl_unit_gaussian_to_mixture_sampled,
        lambda c, z, *mixture: (stats.norm.logpdf(z, c) - np.log(mixture_pdf(z, *mixture))).sum(-1),
        (normal(*CODE), normal(*CODE), normal(*MIXTURE), normal(*MIXTURE), log_sd(*MIXTURE)),
        signs(BIG, BIG, BIG, BIG, 30),
    ),
    "kl_unit_gaussian_to_gaussian": Case(
        losses.kl_unit_gaussian_to_gaussian,
        lambda c, m, s: kl_gaussians(c, 0.0, m, 2 * s),
        (normal(*CODE), normal(*CODE), log_sd(*CODE)),
        signs(BIG, BIG, 30),
    ),
    "kl_mixture_upper_bound": Case(
        losses.kl_mixture_upper_bound,
        upper_bound,
        (normal(*CODE), normal(*MIXTURE), normal(*MIXTURE), log_sd(*MIXTURE)),
        signs(BIG, BIG, BIG, 30),
    ),
}

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def argnums(case):
    return case.argnums or tuple(range(len(case.args)))


def replaced(args, position, value):
    return (*args[:position], value, *args[position + 1 :])


def value_and_grads(case):
    """The loss, and the gradient of its sum over examples (with weights, so none hides another)."""

    def total(*args):
        value = case.loss(*args)
        weights = 1 + jnp.arange(value.size, dtype=value.dtype).reshape(value.shape)
        return jnp.sum(weights * value), value

    return jax.jit(jax.value_and_grad(total, argnums(case), has_aux=True))


def check_value_and_gradient(case, args, of_value, of_gradient):
    (_, value), grads = value_and_grads(case)(*args)
    args = [np.float64(a) for a in args]
    expected = np.asarray(case.reference(*args))
    assert value.shape == expected.shape
    np.testing.assert_allclose(value, expected, **of_value)
    weights = 1 + np.arange(expected.size).reshape(expected.shape)
    for position, grad in zip(argnums(case), grads, strict=True):
        numerical = np.zeros(args[position].shape)
        for place in np.ndindex(numerical.shape):
            shift = np.zeros(numerical.shape)
            shift[place] = 1e-5
            up = case.reference(*replaced(args, position, args[position] + shift))
            down = case.reference(*replaced(args, position, args[position] - shift))
            numerical[place] = (weights * (up - down)).sum() / 2e-5
        np.testing.assert_allclose(grad, numerical, **of_gradient)
    return value, *grads


@every_case
def test_value_and_gradient_under_jit(case):
    found = check_value_and_gradient(
        case, case.args, {"rtol": 2e-5, "atol": 2e-6}, {"rtol": 2e-4, "atol": 2e-4}
    )
    assert {number.dtype for number in found} == {np.dtype(np.float32)}


@pytest.fixture
def _double_precision():
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@every_case
@pytest.mark.usefixtures("_double_precision")
def test_double_precision_stays_double(case):
    args = [np.float64(arg) for arg in case.args]
    close = {"rtol": case.error, "atol": case.error}
    found = check_value_and_gradient(case, args, close, {"rtol": 1e-6, "atol": 1e-6})
    assert {number.dtype for number in found} == {np.dtype(np.float64)}


@every_case
def test_half_precision_is_computed_in_single(case):
    halves = [jnp.asarray(arg, jnp.bfloat16) for arg in case.args]
    value = jax.jit(case.loss)(*halves)
    assert value.dtype == np.float32
    singles = [np.float32(half) for half in halves]
    np.testing.assert_allclose(value, jax.jit(case.loss)(*singles), rtol=1e-6, atol=1e-6)


@every_case
def test_lists_are_arrays(case):
    arrays, lists = case.args, [arg.tolist() for arg in case.args]
    np.testing.assert_array_equal(case.loss(*lists), case.loss(*arrays))


@every_case
def test_vmap_is_a_loop(case):
    pairs = [np.stack([a, np.flip(a)]) for a in case.args]
    loss = jax.jit(case.loss)
    looped = np.stack([loss(*(a[i] for a in pairs)) for i in range(2)])
    np.testing.assert_allclose(jax.jit(jax.vmap(case.loss))(*pairs), looped, rtol=1e-5, atol=1e-6)


def names(name, case):
    """Of the function that is called, and of each of its arguments."""
    *first, last = inspect.signature(case.loss).parameters
    rest = len(case.args) - len(first)
    return name.split(",")[0], [*first, *[last] * rest]


# These have one batch, a scalar scale, or samples in front; all others any number of leading axes.
FIXED = {"gaussian_nll, one scale", "kl_monte_carlo", "free_bits", "capacity_penalty",
         "importance_weighted_bound", "extend_bound", "gradient_penalty", "squared_gradient_norms",
         "r1_penalty", "mean_squared_gradient_norm", "feature_matching"}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in CASES if name not in FIXED])
def test_leading_axes_are_examples(name):
    case = CASES[name]
    pairs = [np.stack([a, np.flip(a)]) for a in case.args]
    loss = jax.jit(case.loss)
    looped = np.stack([loss(*(a[i] for a in pairs)) for i in range(2)])
    np.testing.assert_allclose(loss(*pairs), looped, rtol=1e-5, atol=1e-6)


FREE = {"capacity_penalty": "rates", "feature_matching": "batch", "squared_gradient_norms": "width"}


def wrong_shapes(function, arg):
    if not arg.ndim:
        return [np.ones(7, np.float32)]
    others = {"batch": arg[:1], "width": arg[..., :1]}
    return (
        []
        if FREE.get(function) == "rates"
        else [other for axis, other in others.items() if axis != FREE.get(function)]
    )


several = [name for name, case in CASES.items() if len(case.args) > 1]


@pytest.mark.parametrize("name", several)
def test_nothing_broadcasts_silently(name):
    case = CASES[name]
    function, arguments = names(name, case)
    for position, arg in enumerate(case.args):
        for other in wrong_shapes(function, arg):
            with pytest.raises(ValueError, match=f"^{function}: .* must ") as error:
                case.loss(*replaced(case.args, position, other))
            begins = rf"{function}: (the last axis of )?({'|'.join(arguments)})(\[\d\])?[ ,]"
            assert re.match(begins, str(error.value)), error.value


@pytest.mark.parametrize("name", CASES)
def test_an_argument_that_is_not_float_is_named(name):
    case = CASES[name]
    function, arguments = names(name, case)
    for position, arg in enumerate(case.args):
        if np.ndim(arg):
            words = f"^{function}: {arguments[position]}.* must be an array of floats, is int"
            with pytest.raises(TypeError, match=words):
                case.loss(*replaced(case.args, position, np.int32(arg)))


WITHOUT_AXES = [name for name in CASES if name not in ("capacity_penalty", "extend_bound")]


@pytest.mark.parametrize("name", WITHOUT_AXES)
def test_single_numbers_are_refused_by_the_name_of_an_argument(name):
    case = CASES[name]
    function, arguments = names(name, case)
    with pytest.raises(ValueError, match=f"^{function}: ") as error:
        case.loss(*[np.float32(0.5)] * len(case.args))
    said = str(error.value).removeprefix(f"{function}: ")
    if not said.startswith("event_ndim for x of 0 axes must be from "):
        assert re.match(rf"({'|'.join(arguments)})(\[0\])? must have ", said), said
        assert "at least" not in said or said.endswith(" must have at least 1 axes, has shape []")


ONE_AXIS = ("constrained_poisson_nll", "multinomial_nll", "words_nll", "free_bits_per_example",
            "gaussian_log_prob", "kl_diagonal_gaussians", "kl_to_standard_normal",
            "kl_unit_gaussian_to_gaussian")  # fmt: skip


@pytest.mark.parametrize("name", ONE_AXIS)
def test_one_example_needs_no_axis_in_front(name):
    case = CASES[name]
    rows = [np.float32(a)[..., 0, :] if np.ndim(a) > 1 else a for a in case.args]
    rows = [row.reshape(-1, row.shape[-1])[0] if np.ndim(row) > 1 else row for row in rows]
    one = case.loss(*rows)
    assert one.shape == ()
    np.testing.assert_allclose(one, case.loss(*(row[None] for row in rows))[0], rtol=1e-6)


@every_case
def test_extreme_inputs_are_finite_in_value_and_gradient(case):
    compiled = value_and_grads(case)
    for fill in case.extremes:
        args = [np.full_like(a, number) for a, number in zip(case.args, fill, strict=True)]
        (_, value), grads = compiled(*args)
        for number in (value, *grads):
            assert np.isfinite(number).all(), f"{fill}: {number}"


@every_case
def test_no_loss_hides_a_nan(case):
    for position, arg in enumerate(case.args):
        spoilt = np.array(arg)
        spoilt[(0,) * spoilt.ndim] = np.nan
        assert np.isnan(jax.jit(case.loss)(*replaced(case.args, position, spoilt))).any()


ranged = {name: case for name, case in CASES.items() if case.outside}


@pytest.mark.parametrize("case", ranged.values(), ids=ranged.keys())
def test_values_and_gradients_outside_the_declared_range_are_nan(case):
    """In the last example only, traced or not."""
    position, numbers = case.outside
    compiled = value_and_grads(case)
    for number in numbers:
        args = replaced(case.args, position, np.array(case.args[position]))
        args[position][(-1,) * args[position].ndim] = number
        (_, value), grads = compiled(*args)
        for found in (value, case.loss(*args), grads[0]):
            assert np.isnan(found[-1]).any(), number
            assert np.isfinite(found[:-1]).all(), number


def test_every_declared_range_has_a_case():
    declares = r"float,? (in \[0, 1\]|in \{0|whole numbers|at least 0)"
    docs = {name: inspect.getdoc(getattr(losses, name)) for name in losses.__all__}
    declared = {name for name, doc in docs.items() if re.search(declares, doc)}
    as_others = {name for name, doc in docs.items() if "Args, Raises: as" in doc}
    assert declared - {"Likelihood"} <= set(ranged) <= declared | as_others
