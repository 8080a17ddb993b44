"""Semantic hashing: codes of a few bits that are addresses in memory.

Salakhutdinov & Hinton 2009, IJAR 50, "Semantic hashing". Similar items get addresses that differ in
few bits, so that what is similar to a query is found by looking at all addresses nearby, however
large the collection. Its numbers are recalled and not re-read: noise variance 16, a threshold of
0.1, counts divided by the length.

x [B,D] an image in [0,1], or the words of a document: counts v = x (levels - 1), in any
arrangement as an "image"; a [B,b] what the encoder gives, s(a) the activity of a code unit. Noise
on a makes values in the middle useless, so that |a| grows far above it and the units become bits.
Where the paper draws the noise of a document once and keeps it, here it is fresh at every step.
With `init=rbm` the layers are pretrained as machines (see `rbm.py`): of counts the first one, a
"constrained Poisson" machine, and binary ones above it.
"""

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxae import losses
from jaxae.fields import Checked, InnerShare, LayerSteps, Rate, Size, StepsOrZero, Weight
from jaxae.models.shared.mirrored import Mirrored, flat
from jaxae.models.shared.rbm import Pretraining
from jaxae.training.state import Model, Spec, State, adam, all_gather, descend

SATURATED = 0.1  # from 0 or 1: a unit that is nearer to either is as good as a bit
KEPT = 0.99  # of the running medians at each step
BLOCK = 500  # images at a time where a whole set is read


@dataclasses.dataclass(frozen=True)
class Config(Checked):
    """Every field is a flag of the command line; the line below a field is its help text."""

    bits: Size = 16
    """length b of the code; about the logarithm to base 2 of the collection's size"""
    widths: tuple[Size, ...] = (256, 128)
    """hidden layers of the encoder; the decoder mirrors them (none: linear)"""
    activation: str = "relu"
    """relu, tanh, gelu, silu, elu, leaky_relu or sigmoid"""
    likelihood: Literal["bernoulli", "counts"] = "bernoulli"
    """images in [0, 1], or word counts"""
    count_input: Literal["log", "share", "counts"] = "log"
    """what the encoder sees of counts v of length N: log(1 + v), v / N, or v"""
    per_word: bool = False
    """divide a document's cost by its length in training"""
    discretise: Literal["noise", "noise_ramp", "straight_through", "bernoulli"] = "noise"
    """how codes become bits: Gaussian noise before the sigmoid (the paper), the same growing from
    0, a hard threshold or a coin of that probability, both with the sigmoid's gradient"""
    noise: Weight = 4.0
    """deviation of the noise"""
    ramp_steps: StepsOrZero = 0
    """steps in which the noise grows to its full size (discretise=noise_ramp)"""
    threshold: InnerShare = 0.5
    """activity above which a unit is read as a 1"""
    balanced: bool = False
    """read units above their running median as 1 instead, so that each bit halves the collection"""
    init: Literal["he", "glorot", "rbm"] = "he"
    """where the weights start; rbm: small, for machines that pretrain the layers"""
    pretrain_steps: LayerSteps = 0
    """steps for which each layer is trained as a machine, one after the other (init=rbm)"""
    rbm_rate: Rate = 0.1
    """rate of a machine"""
    rbm_count_rate: Rate = 0.001
    """rate of the machine on word counts (ours: counts are large)"""
    rbm_slow_steps: StepsOrZero = 0
    """steps of each layer with momentum 0.5, before it is 0.9"""
    rbm_decay: Weight = 2e-4
    """pull of a machine's weights towards zero"""
    learning_rate: Rate = 1e-3
    """Adam's rate at its first step"""
    decay_steps: StepsOrZero = 0
    """steps, pretraining not counted, in which Adam's rate falls to zero (0: constant)"""

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
                f"init={self.init} and pretrain_steps={self.pretrain_steps}: machines pretrain a "
                "network that starts for them; set init=rbm and pretrain_steps, or neither"
            )
        if self.pretrain_steps and self.activation != "sigmoid":
            raise ValueError(
                f"pretrain_steps={self.pretrain_steps}: machines have activation=sigmoid"
            )
        if self.pretrain_steps and self.likelihood == "counts" and self.count_input != "counts":
            raise ValueError(
                f"count_input={self.count_input}: the machine on words sees count_input=counts"
            )


def make(config: Config, spec: Spec) -> Model:
    """Semantic hashing for images or documents of `spec`.

    Raises:
        ValueError: an unknown activation, or likelihood=counts on data that holds no counts.
    """
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
    usual_length = float(np.sum(spec.mean)) * scale

    def target(images):
        x = flat(images)
        return jnp.round(x * scale) if words else x

    def seen(v):
        if not words or config.count_input == "counts":
            return v
        if config.count_input == "log":
            return jnp.log1p(v)
        return v / jnp.maximum(jnp.sum(v, axis=1, keepdims=True), 1)

    def read(state, a):
        """Bits, as 0.0 and 1.0."""
        if config.balanced:
            return (a > state.extra["median"][None]).astype(jnp.float32)
        return (a > math.log(config.threshold / (1 - config.threshold))).astype(jnp.float32)

    def blurred(a, step, rng):
        """The code that trains: what the decoder gets for a."""
        if config.discretise in ("noise", "noise_ramp"):
            deviation = losses.linear_warmup(step, config.ramp_steps, 0.0, config.noise)
            return jax.nn.sigmoid(a + deviation * jax.random.normal(rng, a.shape))
        p = jax.nn.sigmoid(a)
        if config.discretise == "bernoulli":
            bit = jax.random.uniform(rng, a.shape) < p
        else:
            bit = a > 0
        return p + jax.lax.stop_gradient(bit - p)

    def costs(p, c, v, depth=network.depth):
        """[B] each: in nats, and as squared error or per word."""
        out = network.down(p, c, first=depth)
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
        v = target(batch["image"])

        def tune(state, rng):
            tuned = state.step - network.depth * config.pretrain_steps

            def loss(p):
                a = network.up(p, seen(v))
                found = jax.tree.map(jnp.mean, costs(p, blurred(a, tuned, rng), v))
                return found["loss"], found

            opt, a = state.opt["autoencoder"], network.up(state.params, seen(v))
            params, opt, metrics = descend(loss, tx, state.params, opt, axis_name)
            now = jnp.median(all_gather(a, axis_name), axis=0)
            median = KEPT * state.extra["median"] + (1 - KEPT) * now
            extra = state.extra | {"median": median}
            return state.replace(params=params, opt={"autoencoder": opt}, extra=extra), metrics

        def mean_costs(p, hidden, depth):
            return jax.tree.map(jnp.mean, costs(p, hidden, v, depth))

        if pretraining:
            state, metrics = pretraining.step(tune, mean_costs, state, seen(v), rng, axis_name)
        else:
            state, metrics = tune(state, rng)
        return state.replace(step=state.step + 1), metrics

    def evaluate(state, batch, rng):
        """Of the bits; `..._soft` of the activities, `saturated` the share of units near 0 or 1."""
        v = target(batch["image"])
        a = network.up(state.params, seen(v))
        activity = jax.nn.sigmoid(a)
        soft = costs(state.params, activity, v)
        near = jnp.minimum(activity, 1 - activity) < SATURATED
        return {
            **costs(state.params, read(state, a), v),
            **{f"{name}_soft": value for name, value in soft.items()},
            "saturated": jnp.mean(near.astype(jnp.float32), axis=1),
        }

    def encode(state, x, rng):
        return read(state, network.up(state.params, seen(target(x))))

    def decode(state, z, rng):
        """Pixel means, or the expected counts of a document of the usual length."""
        out = network.down(state.params, z)
        x = usual_length / scale * jax.nn.softmax(out) if words else jax.nn.sigmoid(out)
        return jnp.clip(x, 0, 1).reshape(-1, *spec.image_shape)

    def assess(state, data, rng):
        """How well the bits are used by the training set and by the test set."""
        run, found = jax.jit(encode), {}
        for name in ("train", "test"):
            split = getattr(data, name).examples(BLOCK)
            bits = np.concatenate(
                [np.asarray(run(state, batch["image"], None))[mask] for batch, mask in split]
            )
            ones = bits.mean(0)
            with np.errstate(divide="ignore", invalid="ignore"):
                each = -np.nan_to_num(ones * np.log2(ones) + (1 - ones) * np.log2(1 - ones))
            addresses = len(np.unique(np.packbits(bits > 0.5, axis=1), axis=0))
            found[f"bit_entropy_{name}"] = float(each.mean())  # 1: every bit halves the set
            found[f"constant_bits_{name}"] = int(np.sum(ones * (1 - ones) == 0))
            found[f"items_per_used_address_{name}"] = len(bits) / addresses
        return found

    return Model(init, step, evaluate, encode=encode, decode=decode, assess=assess)
