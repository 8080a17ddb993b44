"""What ACN's codes cost over a whole set, under names that keep unlike things apart.

A `rate_neighbour`: KL to the priors of the K nearest others within the set, their mean. The
  training objective on unseen data, not a code length by itself.
  `rate_neighbour_train_memory`: the same with neighbours among the training codes.
B `rate_unordered`: KL to one prior for all items. With the distortion a bound on -log p(x), and
  the only total to be compared with a VAE's or a PixelCNN's. Both are means over the same items,
  spread evenly over the set, where B is too dear for all.
C `rate_ordered`: KL along the greedy path through the set, each item given the one before it; the
  first item costs what it costs in B. Decodable, but the cost of the *set*: the sender chose
  the order.
D `distortion`: -log r(x|z), the same in all three; its mean over the whole set.
E `order_credit`: ln(n!)/n, what C got for free. Compare C + D + E with others' totals.

All in nats per image. Definitions are ours where the paper's tables could not be read.
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


class Parts(NamedTuple):
    """The model's pieces, as functions of its parameters p."""

    code: Callable  # p, x [B,H,W,C] -> c [B,d]
    rate: Callable  # p, c [B,d], z [B,d], neighbour [B,d] -> [B] nats
    prior: Callable  # p, neighbour [B,d] -> logits, means, log_scales [B,d,M]
    distortion: Callable  # p, x, z -> [B] nats


def of_set(
    parts: Parts,
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

    Both sets are encoded afresh with `params`. `unordered` is mixture, gmm or network. Where the
    set has no more than `neighbours` images, A is over all others; of one image what needs another
    is None: A, and standard errors.
    """
    of_noise, of_codes, of_fit = jax.random.split(rng, 3)
    memory, _ = _encode(parts, params, data.train, batch_size)
    codes, images = _encode(parts, params, data.test, batch_size)
    z = _noisy(codes, of_noise)
    distortion = batched(parts.distortion, params, (images, z), batch_size)
    rate = lambda c, z, neighbour: batched(parts.rate, params, (c, z, neighbour), batch_size)

    others = min(neighbours, len(codes) - 1)
    among, evenness = None, dict.fromkeys(("largest_in_degree", "mutual_share"))
    if others:
        graph, evenness = neighbour_graph(codes, others)
        among = np.mean([rate(codes, z, codes[graph[:, j]]) for j in range(others)])
    known = batched(_search(neighbours), memory, (codes,), batch_size)
    in_memory = [rate(codes, z, memory[known[:, j]]) for j in range(neighbours)]

    few = np.arange(min(unordered_items, len(codes)))  # spread evenly, item 0 among them
    few = few * len(codes) // len(few)
    log_q = losses.gaussian_log_prob(z[few], codes[few], jnp.zeros_like(codes[few]))
    if unordered == "mixture":
        chosen = jax.random.permutation(of_codes, len(memory))[:unordered_codes]
        log_p = mixture_of_conditionals(parts.prior, params, z[few], memory[chosen])
    elif unordered == "gmm":
        log_p = fitted_gmm(z[few], memory)
    else:
        log_p = fitted_network(z[few], memory, components, of_fit)
    alone = np.asarray(log_q - log_p)
    alone_total = alone + distortion[few]

    order = greedy_path(codes)
    ordered = path_costs(rate, codes, z, order, float(alone[0]))
    error = lambda each: np.std(each, ddof=1) / np.sqrt(len(each)) if len(each) > 1 else None
    result = {
        "rate_neighbour": among,
        "rate_neighbour_train_memory": np.mean(in_memory),
        "rate_unordered": np.mean(alone),
        "rate_unordered_se": error(alone),
        "rate_ordered": np.mean(ordered),
        "distortion": np.mean(distortion),
        "order_credit": losses.order_credit(len(codes)),
    }
    result |= {
        "total_neighbour": None if among is None else among + result["distortion"],
        "total_unordered": np.mean(alone_total),
        "total_unordered_se": error(alone_total),
        "total_ordered": result["rate_ordered"] + result["distortion"],
    }
    result["total_ordered_with_credit"] = result["total_ordered"] + result["order_credit"]
    found = result | evenness
    return {name: None if value is None else float(value) for name, value in found.items()}


@functools.cache
def _search(k: int) -> Callable:
    """rows, queries -> the k nearest rows of each; one object for each k, so it compiles once."""
    return lambda rows, query: nets.nearest(query, rows, k)[0]


def path_costs(rate, codes, z, order: np.ndarray, first: float) -> np.ndarray:
    """What each item of `order` costs given the one before it, [n] nats in path order.

    Args:
        rate: c, z, neighbour -> [n] nats.
        codes, z: `[n,d]` the items' codes and the samples sent.
        order: `[n]` a permutation.
        first: the cost of the first item, which has nothing before it.
    """
    later, before = order[1:], order[:-1]
    if not len(later):
        return np.array([first])
    return np.concatenate([[first], rate(codes[later], z[later], codes[before])])


def mixture_of_conditionals(prior, params, z: jax.Array, codes: jax.Array, block: int = 32):
    """log (1/N) sum_j p(z|C_j) over training codes: the prior that `sample` draws from.

    Args:
        prior: params, codes `[n,d]` -> a mixture for each dimension.
        z: `[B,d]`; codes: `[N,d]`. N*B*d*M exponentials, memory B*block*d*M.
    Returns:
        `[B]` nats.
    """
    size = len(codes)
    padded = jnp.concatenate([codes, jnp.zeros((-size % block, codes.shape[1]))])
    alive = (jnp.arange(len(padded)) < size).reshape(-1, block)
    blocks = padded.reshape(-1, block, codes.shape[1])

    parts = [_summed(prior, params, z[i : i + 256], blocks, alive) for i in range(0, len(z), 256)]
    return jnp.concatenate(parts) - jnp.log(size)


@functools.partial(jax.jit, static_argnums=0)
def _summed(prior, params, z, blocks, alive):
    """log sum_j p(z|C_j) over the codes that are `alive`, some at a time."""

    def add(bound, rows):
        conditions, real = rows
        mixture = prior(params, conditions)
        log_p = jax.vmap(
            lambda *one: losses.mixture_log_prob(
                z, *(jnp.broadcast_to(part, (len(z), *part.shape)) for part in one)
            )
        )(*mixture)  # [block, B]
        log_p = jnp.where(real[:, None], log_p, -jnp.inf)
        return jnp.logaddexp(bound, jax.nn.logsumexp(log_p, axis=0)), None

    return jax.lax.scan(add, jnp.full((len(z),), -jnp.inf), (blocks, alive))[0]


def fitted_gmm(z: jax.Array, codes: jax.Array, gaussians: int = 50) -> np.ndarray:
    """log-density of z `[B,d]` under a Gaussian mixture fitted by EM to the training codes, its
    variances raised by the posterior's 1."""
    from sklearn.mixture import GaussianMixture

    few = max(1, min(gaussians, len(np.unique(codes, axis=0)) // 2))  # duplicates are one
    found = GaussianMixture(few, covariance_type="diag", random_state=0).fit(np.asarray(codes))
    variances = found.covariances_ + 1
    squares = np.square(np.asarray(z)[:, None] - found.means_) / variances
    log_p = -0.5 * np.sum(squares + np.log(2 * np.pi * variances), axis=-1)
    return np.logaddexp.reduce(log_p + np.log(found.weights_), axis=-1)


def fitted_network(
    z: jax.Array, codes: jax.Array, components: int, rng: jax.Array, steps: int = 1000
) -> jax.Array:
    """log-density of z `[B,d]` under the prior network's family with a constant for its input (so
    one mixture for each dimension), fitted to the training codes with their unit noise."""
    d = codes.shape[1]
    spread = jnp.linspace(-1.5, 1.5, components) * jnp.std(codes)
    start = (
        jnp.zeros((d, components)),
        jnp.broadcast_to(spread, (d, components)) + jnp.mean(codes, 0)[:, None],
        jnp.zeros((d, components)),
    )
    return _density(_fitted(start, codes, jax.random.split(rng, steps)), z)


_density = jax.vmap(lambda mixture, z: losses.mixture_log_prob(z, *mixture), in_axes=(None, 0))


@jax.jit
def _fitted(start, codes, keys):
    """The mixture after a step of Adam on noisy codes for each key."""
    tx = optax.adam(2e-2)

    def step(carry, key):
        mixture, opt = carry
        of_row, of_noise = jax.random.split(key)
        rows = codes[jax.random.randint(of_row, (512,), 0, len(codes))]
        loss = lambda m: -jnp.mean(_density(m, _noisy(rows, of_noise)))
        updates, opt = tx.update(jax.grad(loss)(mixture), opt, mixture)
        return (optax.apply_updates(mixture, updates), opt), None

    return jax.lax.scan(step, (start, tx.init(start)), keys)[0][0]


def batched(function, params, arrays: tuple, batch_size: int) -> np.ndarray:
    """`function(params, *arrays)` in batches of one size, the last one filled up and cut."""
    size, run, found = len(arrays[0]), jax.jit(function), []
    batch_size = min(batch_size, size)
    for first in range(0, size, batch_size):
        rows = np.minimum(np.arange(first, first + batch_size), size - 1)
        found.append(np.asarray(run(params, *(a[rows] for a in arrays)))[: size - first])
    return np.concatenate(found)


def _noisy(codes: jax.Array, rng: jax.Array) -> jax.Array:
    return codes + jax.random.normal(rng, codes.shape)


def _encode(parts: Parts, params, split, batch_size: int) -> tuple[jax.Array, np.ndarray]:
    """Codes `[N,d]` and images `[N,H,W,C]` of a split."""
    code, codes, images = jax.jit(parts.code), [], []
    for batch, mask in split.examples(batch_size):
        codes.append(np.asarray(code(params, batch["image"]))[np.asarray(mask)])
        images.append(np.asarray(batch["image"])[np.asarray(mask)])
    return jnp.asarray(np.concatenate(codes)), np.concatenate(images)
