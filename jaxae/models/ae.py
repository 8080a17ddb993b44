"""AE: a deep network that squeezes an image through a small code, "nonlinear PCA".

Hinton & Salakhutdinov 2006, Science 313; the authors' MATLAB release (mnistdeepauto.m, rbm.m,
CG_MNIST.m, backprop.m). Sigmoid layers around a linear code do not train from small random weights;
after layer-wise pretraining as restricted Boltzmann machines they do, and beat PCA by far. With
rectifiers and a start at the right scale they train without it.

x [B,D] the flattened image in [0,1]; z [B,Z] code; `squared_error` is in the paper's unit, the sum
over pixels, averaged over images. One player owns both networks. With `init=rbm` each layer is
first trained as a machine for `pretrain_steps` steps (see `rbm.py`), then all are fine-tuned; the
network is unrolled at every moment of it.
Deviations: Adam where the release has conjugate gradients; a training set in a fresh order at each
epoch where it has fixed batches; no machine with Gaussian visible units (its face images).
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from jaxae import losses
from jaxae.fields import Checked, LayerSteps, Rate, Size, StepsOrZero, Weight
from jaxae.models.shared import pca
from jaxae.models.shared.mirrored import Mirrored, flat
from jaxae.models.shared.rbm import Pretraining
from jaxae.nets.mlp import output_activation
from jaxae.training.state import Model, Spec, State, adam, descend

BLOCK = 500  # images at a time where a whole set is read


@dataclasses.dataclass(frozen=True)
class Config(Checked):
    """Every field is a flag of the command line; the line below a field is its help text."""

    latent: Size = 8
    """size Z of the code"""
    widths: tuple[Size, ...] = (256, 128, 64)
    """hidden layers of the encoder; the decoder mirrors them (none: linear)"""
    activation: str = "relu"
    """relu, tanh, gelu, silu, elu, leaky_relu or sigmoid"""
    code: Literal["linear", "sigmoid"] = "linear"
    """what the code layer passes through; linear in the paper"""
    output: Literal["sigmoid", "linear"] = "sigmoid"
    """what the last layer passes through: sigmoid for pixels in [0, 1]"""
    loss: Literal["bce", "mse"] = "bce"
    """what trains: cross-entropy of grey levels (the paper), or squared error"""
    tied: bool = False
    """the decoder's weights are the encoder's, transposed"""
    init: Literal["he", "glorot", "rbm"] = "he"
    """where the weights start; rbm: small, for machines that pretrain the layers"""
    pretrain_steps: LayerSteps = 0
    """steps for which each layer is trained as a machine, one after the other (init=rbm)"""
    rbm_rate: Rate = 0.1
    """rate of a machine"""
    rbm_code_rate: Rate = 0.001
    """rate of the machine below a linear code, whose units have no bound (recalled)"""
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
        if self.loss == "bce" and self.output == "linear":
            raise ValueError("output=linear gives no probabilities: take loss=mse")
        if (self.init == "rbm") != (self.pretrain_steps > 0):
            raise ValueError(
                f"init={self.init} and pretrain_steps={self.pretrain_steps}: machines pretrain a "
                "network that starts for them; set init=rbm and pretrain_steps, or neither"
            )
        if self.pretrain_steps and (self.activation, self.output) != ("sigmoid", "sigmoid"):
            raise ValueError(
                f"pretrain_steps={self.pretrain_steps}: machines have activation=sigmoid and "
                "output=sigmoid"
            )


def make(config: Config, spec: Spec) -> Model:
    """The AE for images of `spec`.

    Raises:
        ValueError: an unknown activation.
    """
    height, width, colours = spec.image_shape
    sizes = (height * width * colours, *config.widths, config.latent)
    network = Mirrored(sizes, config.activation, config.tied)
    linear_code = config.code == "linear"
    rates = [config.rbm_rate] * network.depth
    if linear_code:
        rates[-1] = config.rbm_code_rate
    pretraining = config.pretrain_steps and Pretraining(
        network,
        config.pretrain_steps,
        tuple(rates),
        config.rbm_slow_steps,
        config.rbm_decay,
        code="gaussian" if linear_code else "binary",
    )
    tx = adam(config.learning_rate, config.decay_steps)
    squash = output_activation(config.output)

    def code(p, x):
        z = network.up(p, x)
        return z if linear_code else jax.nn.sigmoid(z)

    def costs(out, x):
        squared = jnp.sum(jnp.square(x - squash(out)), axis=1)
        crossed = losses.bernoulli_nll(out, x, event_ndim=1) if config.loss == "bce" else squared
        return {"loss": crossed, "squared_error": squared}

    def init(rng):
        params = network.init(rng, config.init)
        extra = {"velocity": pretraining.init()} if pretraining else {}
        return State(jnp.int32(0), params, {"autoencoder": tx.init(params)}, extra)

    def step(state, batch, rng, axis_name=None):
        x = flat(batch["image"])

        def mean_costs(p, hidden, depth):
            """Of the network unrolled as far as `depth`, from that layer's hidden units."""
            return jax.tree.map(jnp.mean, costs(network.down(p, hidden, first=depth), x))

        def tune(state, rng):
            def loss(p):
                found = mean_costs(p, code(p, x), network.depth)
                return found["loss"], found

            opt = state.opt["autoencoder"]
            params, opt, metrics = descend(loss, tx, state.params, opt, axis_name)
            return state.replace(params=params, opt={"autoencoder": opt}), metrics

        if pretraining:
            state, metrics = pretraining.step(tune, mean_costs, state, x, rng, axis_name)
        else:
            state, metrics = tune(state, rng)
        return state.replace(step=state.step + 1), metrics

    def evaluate(state, batch, rng):
        x = flat(batch["image"])
        return costs(network.down(state.params, code(state.params, x)), x)

    def encode(state, x, rng):
        return code(state.params, flat(x))

    def decode(state, z, rng):
        return squash(network.down(state.params, z)).reshape(-1, *spec.image_shape)

    def assess(state, data, rng):
        """Squared error per image beside that of as many principal components."""
        run = jax.jit(evaluate)
        found, components = {}, pca.fit(data.train)
        for name in ("train", "test"):
            split = getattr(data, name)
            errors = [
                run(state, batch, None)["squared_error"][mask]
                for batch, mask in split.examples(BLOCK)
            ]
            ours = float(jnp.mean(jnp.concatenate(errors)))
            theirs = pca.mean_squared_error(components, split, config.latent)
            found[f"squared_error_{name}"] = ours
            found[f"squared_error_{name}_pca"] = theirs
            found[f"share_of_pca_{name}"] = ours / theirs
        return found

    small = sizes[0] <= pca.MAX_DIMS
    return Model(
        init, step, evaluate, encode=encode, decode=decode, assess=assess if small else None
    )
