"""Semantic hashing: binary codes of a few bits that serve as memory addresses.

Salakhutdinov & Hinton 2009, IJAR 50, "Semantic hashing". Similar items get addresses that differ in
few bits. Items similar to a query are found by reading all addresses near its own, at a cost that
does not depend on the size of the collection. The paper's numbers are recalled and not re-read:
noise variance 16, a threshold of 0.1, counts divided by the length.

x [B,D] an image in [0,1], or the words of a document: counts v = x (levels - 1), stored in any
arrangement as an "image"; a [B,b] the encoder's output; s the sigmoid.

    a = encoder(v)      c = s(a + noise * eps), eps ~ N(0, I)      loss = -log p(v | decoder(c))

in nats, mean over the batch: Bernoulli pixels, or words drawn from a softmax. Noise of this size
destroys the information of values of a near 0. Training therefore makes |a| large, and the code
units become bits; evaluation reads bit = [s(a) > threshold]. One player owns both networks.
With `init=rbm` the layers are first pretrained as restricted Boltzmann machines, from the lowest to
the highest (`shared/rbm.py`): on counts a "constrained Poisson" RBM, binary ones above it.
Deviation: the paper draws the noise of a document once and keeps it; here it is new at every step.
"""

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxae import losses
from jaxae.fields import Checked, InnerShare, LayerSteps, Rate, Size, StepsOrZero, Weight
from jaxae.models.shared.mirrored import PAIRED_LAYERS, Mirrored, flat
from jaxae.models.shared.rbm import Pretraining
from jaxae.nets.custom import Networks, refuse_networks
from jaxae.training.state import Model, Spec, State, adam, all_gather, descend

SATURATED = 0.1  # a unit whose activity is nearer than this to 0 or 1 counts as saturated
MEDIAN_DECAY = 0.99  # of the moving averages of the medians
BLOCK = 500  # images at a time, where a whole set is read


@dataclasses.dataclass(frozen=True)
class Config(Checked):
    """Every field is a flag of the command line; the line below a field is its help text."""

    bits: Size = 16
    """length b of the code; about log2 of the size of the collection"""
    widths: tuple[Size, ...] = (256, 128)
    """hidden layers of the encoder; the decoder mirrors them (none: linear)"""
    activation: str = "relu"
    """relu, tanh, gelu, silu, elu, leaky_relu or sigmoid"""
    likelihood: Literal["bernoulli", "counts"] = "bernoulli"
    """images in [0, 1], or word counts"""
    count_input: Literal["log", "share", "counts"] = "log"
    """input of the encoder, for counts v of a document of N words: log(1 + v), v / N, or v"""
    per_word: bool = False
    """divide the loss of a document by its number of words in training"""
    discretise: Literal["noise", "noise_ramp", "straight_through", "bernoulli"] = "noise"
    """how codes become binary in training: Gaussian noise before the sigmoid (the paper), the same
    growing from 0, a hard threshold or a Bernoulli sample, both with the sigmoid's gradient"""
    noise: Weight = 4.0
    """standard deviation of the noise"""
    ramp_steps: StepsOrZero = 0
    """steps in which the noise grows to its full size (discretise=noise_ramp)"""
    threshold: InnerShare = 0.5
    """activity above which a unit is read as 1"""
    balanced: bool = False
    """read units above their running median as 1 instead, so that each bit is 1 for half of the
    collection"""
    init: Literal["he", "glorot", "rbm"] = "he"
    """initial weights; rbm: small, for pretraining the layers as RBMs"""
    pretrain_steps: LayerSteps = 0
    """steps for which each layer is pretrained as an RBM, one after the other (init=rbm)"""
    rbm_rate: Rate = 0.1
    """learning rate of an RBM"""
    rbm_count_rate: Rate = 0.001
    """learning rate of the RBM on word counts (ours: counts are large)"""
    rbm_slow_steps: StepsOrZero = 0
    """steps of each layer with momentum 0.5, before it is 0.9"""
    rbm_decay: Weight = 2e-4
    """weight decay of an RBM"""
    learning_rate: Rate = 1e-3
    """Adam's learning rate at its first step"""
    decay_steps: StepsOrZero = 0
    """steps after pretraining in which Adam's learning rate falls to zero (0: constant)"""

    def __post_init__(self):
        super().__post_init__()
        if self.balanced and self.threshold != 0.5:
            raise ValueError("balanced reads bits at the median: leave threshold at 0.5")
        if (self.discretise == "noise_ramp") != (self.ramp_steps > 0):
            raise ValueError(
                f"discretise={self.discretise} and ramp_steps={self.ramp_steps}: a ramp needs both"
            )
        if self.per_word and self.likelihood != "counts":
            raise ValueError("per_word: only likelihood=counts has words")
        if (self.init == "rbm") != (self.pretrain_steps > 0):
            raise ValueError(
                f"init={self.init} and pretrain_steps={self.pretrain_steps}: pretraining "
                "as RBMs needs both; set init=rbm and pretrain_steps, or neither"
            )
        if self.pretrain_steps and self.activation != "sigmoid":
            raise ValueError(f"pretrain_steps={self.pretrain_steps}: RBMs need activation=sigmoid")
        if self.pretrain_steps and self.likelihood == "counts" and self.count_input != "counts":
            raise ValueError(
                f"count_input={self.count_input}: the RBM on word counts needs count_input=counts"
            )


def make(config: Config, spec: Spec, networks: Networks = None) -> Model:
    """Semantic hashing for images or documents of `spec`.

    Args:
        config: the settings.
        spec: of the data.
        networks: must be None: the layers of encoder and decoder are pairs, which are pretrained
            one by one, so no other network can take their place.
    Raises:
        ValueError: an unknown activation, likelihood=counts on data that holds no counts, or
            networks of the caller's own.
    """
    refuse_networks(networks, PAIRED_LAYERS.format("hashing"))
    words = config.likelihood == "counts"
    if words and spec.levels < 2:
        raise ValueError(
            f"likelihood=counts needs whole numbers; this data has levels={spec.levels} "
            "(0: continuous, dequantised or standardised)"
        )
    sizes = (math.prod(spec.image_shape), *config.widths, config.bits)
    network, tx = Mirrored(sizes, config.activation), adam(config.learning_rate, config.decay_steps)
    rates = [config.rbm_count_rate if words else config.rbm_rate]
    pretraining = config.pretrain_steps and Pretraining(
        network,
        config.pretrain_steps,
        tuple(rates + [config.rbm_rate] * (network.depth - 1)),
        config.rbm_slow_steps,
        config.rbm_decay,
        visible="counts" if words else "binary",
        code="binary",
    )
    scale = max(spec.levels - 1, 1)
    mean_length = float(np.sum(spec.mean)) * scale  # words of a document

    def to_visible(images):
        """v `[B,D]`: pixels, or whole numbers of words."""
        x = flat(images)
        return jnp.round(x * scale) if words else x

    def encoder_input(v):
        if not words or config.count_input == "counts":
            return v
        if config.count_input == "log":
            return jnp.log1p(v)
        return v / jnp.maximum(jnp.sum(v, axis=1, keepdims=True), 1)

    def read_bits(state, a):
        """`[B,b]`, 0.0 or 1.0."""
        if config.balanced:
            return (a > state.extra["median"][None]).astype(jnp.float32)
        return (a > math.log(config.threshold / (1 - config.threshold))).astype(jnp.float32)

    def training_code(a, step, rng):
        """c `[B,b]`, the decoder's input in training."""
        if config.discretise in ("noise", "noise_ramp"):
            deviation = losses.linear_warmup(step, config.ramp_steps, 0.0, config.noise)
            return jax.nn.sigmoid(a + deviation * jax.random.normal(rng, a.shape))
        p = jax.nn.sigmoid(a)
        if config.discretise == "bernoulli":
            bit = jax.random.uniform(rng, a.shape) < p
        else:
            bit = a > 0
        return p + jax.lax.stop_gradient(bit - p)

    def reconstruction_losses(p, c, v, depth=network.depth):
        """`[B]` each, from the hidden units c of layer `depth`: nats, and squared error or nats
        per word."""
        out = network.decode(p, c, first=depth)
        if words:
            nats = losses.words_nll(out, v)
            per_word = nats / jnp.maximum(jnp.sum(v, axis=1), 1)
            return {"loss": per_word if config.per_word else nats, "nats_per_word": per_word}
        squared = jnp.sum(jnp.square(v - jax.nn.sigmoid(out)), axis=1)
        return {"loss": losses.bernoulli_nll(out, v, event_ndim=1), "squared_error": squared}

    def init(rng):
        params = network.init(rng, config.init)
        extra = {"median": jnp.zeros(config.bits)}
        if pretraining:
            extra["velocity"] = pretraining.init()
        return State(jnp.int32(0), params, {"autoencoder": tx.init(params)}, extra)

    def step(state, batch, rng, axis_name=None):
        v = to_visible(batch["image"])

        def mean_losses(p, hidden, depth=network.depth):
            return jax.tree.map(jnp.mean, reconstruction_losses(p, hidden, v, depth))

        def fine_tune(state, rng):
            fine_tuning_step = state.step - network.depth * config.pretrain_steps

            def loss_fn(p):
                a = network.encode(p, encoder_input(v))
                metrics = mean_losses(p, training_code(a, fine_tuning_step, rng))
                return metrics["loss"], metrics

            opt, a = state.opt["autoencoder"], network.encode(state.params, encoder_input(v))
            params, opt, metrics = descend(loss_fn, tx, state.params, opt, axis_name)
            batch_median = jnp.median(all_gather(a, axis_name), axis=0)
            median = MEDIAN_DECAY * state.extra["median"] + (1 - MEDIAN_DECAY) * batch_median
            extra = state.extra | {"median": median}
            return state.replace(params=params, opt={"autoencoder": opt}, extra=extra), metrics

        if pretraining:
            x = encoder_input(v)
            state, metrics = pretraining.step(fine_tune, mean_losses, state, x, rng, axis_name)
        else:
            state, metrics = fine_tune(state, rng)
        return state.replace(step=state.step + 1), metrics

    def evaluate(state, batch, rng):
        """Of the bits; `..._soft` of the activities; `saturated`: share of units near 0 or 1."""
        v = to_visible(batch["image"])
        a = network.encode(state.params, encoder_input(v))
        activity = jax.nn.sigmoid(a)
        soft = reconstruction_losses(state.params, activity, v)
        near = jnp.minimum(activity, 1 - activity) < SATURATED
        return {
            **reconstruction_losses(state.params, read_bits(state, a), v),
            **{f"{name}_soft": value for name, value in soft.items()},
            "saturated": jnp.mean(near.astype(jnp.float32), axis=1),
        }

    def encode(state, x, rng):
        a = network.encode(state.params, encoder_input(to_visible(x)))
        return read_bits(state, a)

    def decode(state, z, rng):
        """Pixel means, or the expected counts of a document of mean length."""
        out = network.decode(state.params, z)
        x = mean_length / scale * jax.nn.softmax(out) if words else jax.nn.sigmoid(out)
        return jnp.clip(x, 0, 1).reshape(-1, *spec.image_shape)

    def assess(state, data, rng):
        """How the training set and the test set use the bits and the addresses."""
        encode_jit, result = jax.jit(encode), {}
        for name in ("train", "test"):
            split = getattr(data, name).examples(BLOCK)
            bits = np.concatenate(
                [np.asarray(encode_jit(state, batch["image"], None))[mask] for batch, mask in split]
            )
            ones = bits.mean(0)
            with np.errstate(divide="ignore", invalid="ignore"):
                entropy = -np.nan_to_num(ones * np.log2(ones) + (1 - ones) * np.log2(1 - ones))
            addresses = len(np.unique(np.packbits(bits > 0.5, axis=1), axis=0))
            # A mean entropy of 1 means that each bit splits the set in half.
            result[f"bit_entropy_{name}"] = float(entropy.mean())
            result[f"constant_bits_{name}"] = int(np.sum(ones * (1 - ones) == 0))
            result[f"items_per_used_address_{name}"] = len(bits) / addresses
        return result

    return Model(init, step, evaluate, encode=encode, decode=decode, assess=assess)
