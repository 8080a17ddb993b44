"""The costs of ACN's codes over a whole set, in nats per image.

A `rate_neighbour`: KL to the priors of the K nearest other images of the set, averaged. It is the
  training objective on unseen data, not a code length by itself.
  `rate_neighbour_train_memory`: the same with neighbours among the training codes.
B `rate_unordered`: KL to one prior for all images. With the distortion it is a bound on -log p(x),
  and the only total that can be compared with a VAE's or a PixelCNN's. Where all images take too
  long, rate and total are means over the same images, spread evenly over the set.
C `rate_ordered`: KL along the greedy path through the set, each image given the one before it; the
  first image costs the same as in B. It can be decoded, but it is the cost of the *set*: the sender
  chose the order.
D `distortion`: -log r(x|z), the same in all three; the mean over the whole set.
E `order_credit`: ln(n!)/n, the information of the order, which C does not count. Compare C + D + E
  with totals of other models.

The definitions are ours where the paper's tables could not be read.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxae import losses, nets
from jaxae.nets.orderings import greedy_path, neighbour_graph


class ModelFunctions(NamedTuple):
    """What the costs need of a model, as functions of its parameters p."""

    encode: Callable  # p, x [B,H,W,C] -> c [B,d]
    rate: Callable  # p, c [B,d], z [B,d], neighbour [B,d] -> [B] nats
    prior: Callable  # p, neighbour [B,d] -> logits, means, log_scales [B,d,M]
    distortion: Callable  # p, x, z -> [B] nats


def measure_costs(
    functions: ModelFunctions,
    params: Any,
    data,
    rng: jax.Array,
    *,
    neighbours: int,
    components: int,
    unordered: str,
    unordered_items: int,
    unordered_codes: int,
    batch_size: int = 256,
) -> dict[str, float]:
    """The five costs of `data.test`, their three totals, and how even the neighbour graph is.

    Both sets are encoded with `params`. A set of `neighbours` images or fewer has for A all other
    images as neighbours; of a single image A and the standard errors are None.

    Args:
        functions, params: of the model.
        data: a data set with `train` and `test`.
        rng: key.
        neighbours: K.
        components: mixture components of the fitted network.
        unordered: the prior of B: `mixture`, `gmm` or `network`.
        unordered_items: images for B.
        unordered_codes: training codes in the mixture of conditional priors.
        batch_size: images at a time.
    Returns:
        nats per image by the names above; `rate_unordered_se` and `total_unordered_se` standard
        errors; `largest_in_degree` and `mutual_share` of `nets.orderings.neighbour_graph`.
    """
    noise_key, codes_key, fit_key = jax.random.split(rng, 3)
    memory, _ = _encode_split(functions, params, data.train, batch_size)
    codes, images = _encode_split(functions, params, data.test, batch_size)
    z = _add_noise(codes, noise_key)
    distortion = run_batched(functions.distortion, params, (images, z), batch_size)
    rate = lambda c, z, neighbour: run_batched(
        functions.rate, params, (c, z, neighbour), batch_size
    )

    num_others = min(neighbours, len(codes) - 1)
    rate_neighbour, graph_measures = None, dict.fromkeys(("largest_in_degree", "mutual_share"))
    if num_others:
        graph, graph_measures = neighbour_graph(codes, num_others)
        rate_neighbour = np.mean([rate(codes, z, codes[graph[:, j]]) for j in range(num_others)])
    rows = run_batched(_nearest_rows(neighbours), memory, (codes,), batch_size)
    rates_train_memory = [rate(codes, z, memory[rows[:, j]]) for j in range(neighbours)]

    items = np.arange(min(unordered_items, len(codes)))  # spread evenly, item 0 included
    items = items * len(codes) // len(items)
    log_q = losses.gaussian_log_prob(z[items], codes[items], jnp.zeros_like(codes[items]))
    if unordered == "mixture":
        chosen = jax.random.permutation(codes_key, len(memory))[:unordered_codes]
        log_p = mixture_of_conditionals(functions.prior, params, z[items], memory[chosen])
    elif unordered == "gmm":
        log_p = fit_gmm_log_prob(z[items], memory)
    else:
        log_p = fit_network_log_prob(z[items], memory, components, fit_key)
    rate_unordered = np.asarray(log_q - log_p)
    total_unordered = rate_unordered + distortion[items]

    order = greedy_path(codes)
    rate_ordered = path_costs(rate, codes, z, order, float(rate_unordered[0]))
    standard_error = lambda v: np.std(v, ddof=1) / np.sqrt(len(v)) if len(v) > 1 else None
    costs = {
        "rate_neighbour": rate_neighbour,
        "rate_neighbour_train_memory": np.mean(rates_train_memory),
        "rate_unordered": np.mean(rate_unordered),
        "rate_unordered_se": standard_error(rate_unordered),
        "rate_ordered": np.mean(rate_ordered),
        "distortion": np.mean(distortion),
        "order_credit": losses.order_credit(len(codes)),
    }
    costs |= {
        "total_neighbour": None if not num_others else rate_neighbour + costs["distortion"],
        "total_unordered": np.mean(total_unordered),
        "total_unordered_se": standard_error(total_unordered),
        "total_ordered": costs["rate_ordered"] + costs["distortion"],
    }
    costs["total_ordered_with_credit"] = costs["total_ordered"] + costs["order_credit"]
    costs |= graph_measures
    return {name: None if value is None else float(value) for name, value in costs.items()}


@functools.cache
def _nearest_rows(k: int) -> Callable:
    """rows, queries -> the k nearest rows of each; one object for each k, so it compiles once."""
    return lambda rows, query: nets.nearest(query, rows, k)[0]


def path_costs(rate, codes, z, order: np.ndarray, first: float) -> np.ndarray:
    """The cost of each image of `order` given the one before it, `[n]` nats in path order.

    Args:
        rate: c, z, neighbour -> `[n]` nats.
        codes, z: `[n,d]` the images' codes and the samples that are sent.
        order: `[n]` a permutation.
        first: the cost of the first image, which has no image before it.
    """
    later, before = order[1:], order[:-1]
    if not len(later):
        return np.array([first])
    return np.concatenate([[first], rate(codes[later], z[later], codes[before])])


def mixture_of_conditionals(prior, params, z: jax.Array, codes: jax.Array, block: int = 32):
    """log (1/N) sum_j p(z|C_j) over training codes C: the prior that `sample` samples from.

    Args:
        prior: params, codes `[n,d]` -> a mixture for each dimension.
        params: the model's parameters.
        z: `[B,d]`.
        codes: `[N,d]`.
        block: codes at a time: N*B*d*M exponentials in memory of B*block*d*M.
    Returns:
        `[B]` nats.
    """
    size = len(codes)
    padded = jnp.concatenate([codes, jnp.zeros((-size % block, codes.shape[1]))])
    valid = (jnp.arange(len(padded)) < size).reshape(-1, block)
    blocks = padded.reshape(-1, block, codes.shape[1])

    log_sums = [
        _log_sum_conditionals(prior, params, z[i : i + 256], blocks, valid)
        for i in range(0, len(z), 256)
    ]
    return jnp.concatenate(log_sums) - jnp.log(size)


@functools.partial(jax.jit, static_argnums=0)
def _log_sum_conditionals(prior, params, z, blocks, valid):
    """log sum_j p(z|C_j) over the codes that are `valid`, block by block."""

    def add_block(log_sum, rows):
        codes, valid = rows
        mixture = prior(params, codes)
        log_p = jax.vmap(
            lambda *one: losses.mixture_log_prob(
                z, *(jnp.broadcast_to(part, (len(z), *part.shape)) for part in one)
            )
        )(*mixture)  # [block, B]
        log_p = jnp.where(valid[:, None], log_p, -jnp.inf)
        return jnp.logaddexp(log_sum, jax.nn.logsumexp(log_p, axis=0)), None

    return jax.lax.scan(add_block, jnp.full((len(z),), -jnp.inf), (blocks, valid))[0]


def fit_gmm_log_prob(z: jax.Array, codes: jax.Array, gaussians: int = 50) -> np.ndarray:
    """Log-density `[B]` of z `[B,d]` under a Gaussian mixture that is fitted to training codes.

    Fitted by EM; 1, the variance of the posterior, is added to the variances.
    """
    from sklearn.mixture import GaussianMixture

    gaussians = max(1, min(gaussians, len(np.unique(codes, axis=0)) // 2))  # duplicates count once
    gmm = GaussianMixture(gaussians, covariance_type="diag", random_state=0)
    gmm.fit(np.asarray(codes))
    variances = gmm.covariances_ + 1
    squares = np.square(np.asarray(z)[:, None] - gmm.means_) / variances
    log_p = -0.5 * np.sum(squares + np.log(2 * np.pi * variances), axis=-1)
    return np.logaddexp.reduce(log_p + np.log(gmm.weights_), axis=-1)


def fit_network_log_prob(
    z: jax.Array, codes: jax.Array, components: int, rng: jax.Array, steps: int = 1000
) -> jax.Array:
    """Log-density `[B]` of z `[B,d]` under a prior network without input.

    That is one mixture for each dimension, fitted to training codes with unit noise.
    """
    d = codes.shape[1]
    spread = jnp.linspace(-1.5, 1.5, components) * jnp.std(codes)
    start = (
        jnp.zeros((d, components)),
        jnp.broadcast_to(spread, (d, components)) + jnp.mean(codes, 0)[:, None],
        jnp.zeros((d, components)),
    )
    return _mixture_log_prob(_fit_mixture(start, codes, jax.random.split(rng, steps)), z)


_mixture_log_prob = jax.vmap(
    lambda mixture, z: losses.mixture_log_prob(z, *mixture), in_axes=(None, 0)
)


@jax.jit
def _fit_mixture(start, codes, keys):
    """The mixture after one step of Adam on noisy codes for each key."""
    tx = optax.adam(2e-2)

    def step(carry, key):
        mixture, opt = carry
        row_key, noise_key = jax.random.split(key)
        rows = codes[jax.random.randint(row_key, (512,), 0, len(codes))]
        loss = lambda m: -jnp.mean(_mixture_log_prob(m, _add_noise(rows, noise_key)))
        updates, opt = tx.update(jax.grad(loss)(mixture), opt, mixture)
        return (optax.apply_updates(mixture, updates), opt), None

    return jax.lax.scan(step, (start, tx.init(start)), keys)[0][0]


def run_batched(function, params, arrays: tuple, batch_size: int) -> np.ndarray:
    """`function(params, *arrays)` in batches of one size; the last one is padded, then cut."""
    size, function, results = len(arrays[0]), jax.jit(function), []
    batch_size = min(batch_size, size)
    for first in range(0, size, batch_size):
        rows = np.minimum(np.arange(first, first + batch_size), size - 1)
        results.append(np.asarray(function(params, *(a[rows] for a in arrays)))[: size - first])
    return np.concatenate(results)


def _add_noise(codes: jax.Array, rng: jax.Array) -> jax.Array:
    return codes + jax.random.normal(rng, codes.shape)


def _encode_split(
    functions: ModelFunctions, params, split, batch_size: int
) -> tuple[jax.Array, np.ndarray]:
    """Codes `[N,d]` and images `[N,H,W,C]` of a split."""
    encode, codes, images = jax.jit(functions.encode), [], []
    for batch, mask in split.examples(batch_size):
        codes.append(np.asarray(encode(params, batch["image"]))[np.asarray(mask)])
        images.append(np.asarray(batch["image"])[np.asarray(mask)])
    return jnp.asarray(np.concatenate(codes)), np.concatenate(images)
