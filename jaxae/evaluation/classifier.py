"""A small classifier that no model has seen: judges whether a picture shows what it should.

Its last hidden layer also serves as the features of a Fréchet distance. Distances by different
classifiers cannot be compared with each other, nor with published ones on Inception features;
`features` has frozen ones, with names.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

_TRAINED, _READ = 128, 500  # images at a time
_CONVOLVED = 16  # pixels of the shorter side from which convolutions are used
_LEARNING_RATE = 2e-3
_FEATURES = 128


class Classifier(NamedTuple):
    """A trained classifier, as functions of numpy images `[N,H,W,C]` of any N."""

    features: Callable[[np.ndarray], np.ndarray]
    """images -> `[N, F]` float32, the last hidden layer"""
    logits: Callable[[np.ndarray], np.ndarray]
    """images -> `[N, K]` float32"""
    test_accuracy: float
    """in 0..1, on the whole test set"""


class Network(nn.Module):
    """Images `[B,H,W,C]` to features `[B, F]` and logits `[B, K]`."""

    classes: int
    width: int = _FEATURES
    """F, the units of the last hidden layer"""

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        if min(x.shape[1:3]) >= _CONVOLVED:
            x = nn.relu(nn.Conv(16, (5, 5), strides=(2, 2))(x))
            x = nn.relu(nn.Conv(32, (3, 3), strides=(2, 2))(x))
            x = x.reshape(x.shape[0], -1)
        else:
            x = nn.relu(nn.Dense(256)(x.reshape(x.shape[0], -1)))
        features = nn.relu(nn.Dense(self.width)(x))
        return features, nn.Dense(self.classes)(features)


def train_classifier(data: Any, seed: int = 0, steps: int = 2000) -> Classifier:
    """A classifier of the data set's own labels, trained on its training images.

    All training labels are used, those too that `Options.labels` hides from a model. Images are
    taken as the model sees them. Two calls with the same arguments agree (bit for bit on a CPU).

    Args:
        data: a data set with `train`, `test` and labels.
        seed: of the start and of the order of the batches.
        steps: of Adam on batches of 128, its rate falling to zero.
    Raises:
        ValueError: the data has no labels, or steps is below 1.
    """
    network = Network(data.spec.classes)
    params = fit_classifier(network, data, seed, steps)
    features, logits = reader(network, params)
    return Classifier(features, logits, accuracy(logits, data.test))


def fit_classifier(
    network: Network, data: Any, seed: int, steps: int, shift: int = 0
) -> dict[str, Any]:
    """Parameters of a network, fitted to the labels of all training images.

    Args:
        network: for as many classes as the data has.
        data, seed, steps: as `train_classifier` has them.
        shift: images are moved by up to so many pixels, a random number in each direction; the
            free edge is 0.
    Raises:
        ValueError: the data has no labels, or steps is below 1.
    """
    if not data.spec.classes:
        raise ValueError(f"{data.name} has no labels, so no classifier can be trained on it")
    if steps < 1:
        raise ValueError(f"steps is {steps}; it must be at least 1")
    tx = optax.adam(optax.cosine_decay_schedule(_LEARNING_RATE, steps))
    params = network.init(jax.random.key(seed), jnp.zeros((1, *data.spec.image_shape)))
    opt = tx.init(params)

    def loss(params, batch):
        logits = network.apply(params, batch["image"])[1]
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

    @jax.jit
    def update(params, opt, batch, rng):
        if shift:
            batch = batch | {"image": moved(batch["image"], rng, shift)}
        updates, opt = tx.update(jax.grad(loss)(params, batch), opt, params)
        return optax.apply_updates(params, updates), opt

    for step in range(steps):
        batch = data.train.batch(seed, step, min(_TRAINED, data.train.size))
        # The batch's own noise has the 0.
        rng = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), step), 1)
        params, opt = update(params, opt, batch, rng)
    return params


def moved(images: jax.Array, rng: jax.Array, most: int) -> jax.Array:
    """Images `[B,H,W,C]`, each moved by -most..most pixels down and right; the free edge is 0."""
    offsets = jax.random.randint(rng, (len(images), 2), 0, 2 * most + 1)
    padded = jnp.pad(images, ((0, 0), (most, most), (most, most), (0, 0)))
    cut = lambda image, at: jax.lax.dynamic_slice(image, (at[0], at[1], 0), images.shape[1:])
    return jax.vmap(cut)(padded, offsets)


def accuracy(logits: Callable[[np.ndarray], np.ndarray], split: Any) -> float:
    """The share, in 0..1, of the images of a split whose largest logit is that of their label."""
    right = [
        (logits(batch["image"]).argmax(1) == np.asarray(batch["label"]))[mask]
        for batch, mask in split.examples(_READ)
    ]
    return float(np.concatenate(right).mean())


def reader(network: Network, params: dict[str, Any]) -> tuple[Callable, Callable]:
    """Features and logits of numpy images `[N,H,W,C]` of any N, as two functions."""
    read = jax.jit(network.apply)
    both = lambda images: _in_batches(lambda batch: read(params, batch), images)
    return lambda images: both(images)[0], lambda images: both(images)[1]


def _in_batches(fn: Callable, images: np.ndarray) -> tuple[np.ndarray, ...]:
    """Both outputs of `fn` for all images, in batches of one shape, so that it compiles once."""
    images, found = np.asarray(images, np.float32), []
    for start in range(0, max(1, len(images)), _READ):
        batch = images[start : start + _READ]
        padded = np.pad(batch, ((0, _READ - len(batch)), (0, 0), (0, 0), (0, 0)))
        found.append([np.asarray(output)[: len(batch)] for output in fn(padded)])
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))
