"""AE: a deep autoencoder with a small code, "nonlinear PCA".

Hinton & Salakhutdinov 2006, Science 313; the authors' MATLAB release (mnistdeepauto.m, rbm.m,
CG_MNIST.m, backprop.m).

x [B,D] the flattened image in [0,1]; z [B,Z] code; x^ [B,D] the decoder's logits, or its outputs.

    z = encoder(x)      x^ = decoder(z)      loss = -sum_i log Bernoulli(x_i; x^_i)
                                             (loss=mse: sum_i (x_i - x^_i)^2), mean over images

`squared_error` is in the paper's unit, the sum over pixels, averaged over images. One player owns
both networks. Sigmoid layers around a linear code do not train from small random weights. With
`init=rbm` each layer is first trained as a restricted Boltzmann machine (RBM) for `pretrain_steps`
steps, from the lowest to the highest (`shared/rbm.py`); then all layers are fine-tuned by the loss
above. The result is far better than PCA. Rectifiers with well-scaled initial weights train without
pretraining.
Deviations: Adam where the release has conjugate gradients; a new order of the training set at each
epoch where it has fixed batches; no RBM with Gaussian visible units (its face images).
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from jaxae import losses
from jaxae.fields import Checked, LayerSteps, Rate, Size, StepsOrZero, Weight
from jaxae.models.shared import pca
from jaxae.models.shared.mirrored import PAIRED_LAYERS, Mirrored, flat
from jaxae.models.shared.rbm import Pretraining
from jaxae.nets.custom import Networks, refuse_networks
from jaxae.nets.mlp import output_activation
from jaxae.training.state import Model, Spec, State, adam, descend

BLOCK = 500  # images at a time, where a whole set is read


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
    """output function of the code layer; linear in the paper"""
    output: Literal["sigmoid", "linear"] = "sigmoid"
    """output function of the last layer: sigmoid for pixels in [0, 1]"""
    loss: Literal["bce", "mse"] = "bce"
    """training loss: cross-entropy of grey levels (the paper), or squared error"""
    tied: bool = False
    """the decoder's weights are the encoder's, transposed"""
    init: Literal["he", "glorot", "rbm"] = "he"
    """initial weights; rbm: small, for pretraining the layers as RBMs"""
    pretrain_steps: LayerSteps = 0
    """steps for which each layer is pretrained as an RBM, one after the other (init=rbm)"""
    rbm_rate: Rate = 0.1
    """learning rate of an RBM"""
    rbm_code_rate: Rate = 0.001
    """learning rate of the RBM below a linear code, whose units are unbounded (recalled)"""
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
        if self.loss == "bce" and self.output == "linear":
            raise ValueError("output=linear gives no probabilities: take loss=mse")
        if (self.init == "rbm") != (self.pretrain_steps > 0):
            raise ValueError(
                f"init={self.init} and pretrain_steps={self.pretrain_steps}: pretraining "
                "as RBMs needs both; set init=rbm and pretrain_steps, or neither"
            )
        if self.pretrain_steps and (self.activation, self.output) != ("sigmoid", "sigmoid"):
            raise ValueError(
                f"pretrain_steps={self.pretrain_steps}: RBMs need activation=sigmoid and "
                "output=sigmoid"
            )


def make(config: Config, spec: Spec, networks: Networks = None) -> Model:
    """The AE for images of `spec`.

    Args:
        config: the settings.
        spec: of the data.
        networks: must be None: the layers of encoder and decoder are pairs, which are pretrained
            one by one and may share weights, so no other network can take their place.
    Raises:
        ValueError: an unknown activation, or networks of the caller's own.
    """
    refuse_networks(networks, PAIRED_LAYERS.format("ae"))
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
    to_pixels = output_activation(config.output)

    def encode_batch(p, x):
        z = network.encode(p, x)
        return z if linear_code else jax.nn.sigmoid(z)

    def reconstruction_losses(out, x):
        """`[B]` each."""
        squared = jnp.sum(jnp.square(x - to_pixels(out)), axis=1)
        loss = losses.bernoulli_nll(out, x, event_ndim=1) if config.loss == "bce" else squared
        return {"loss": loss, "squared_error": squared}

    def init(rng):
        params = network.init(rng, config.init)
        extra = {"velocity": pretraining.init()} if pretraining else {}
        return State(jnp.int32(0), params, {"autoencoder": tx.init(params)}, extra)

    def step(state, batch, rng, axis_name=None):
        x = flat(batch["image"])

        def mean_losses(p, hidden, depth):
            """Of the reconstruction from the hidden units `hidden` of layer `depth`."""
            out = network.decode(p, hidden, first=depth)
            return jax.tree.map(jnp.mean, reconstruction_losses(out, x))

        def fine_tune(state, rng):
            def loss_fn(p):
                metrics = mean_losses(p, encode_batch(p, x), network.depth)
                return metrics["loss"], metrics

            opt = state.opt["autoencoder"]
            params, opt, metrics = descend(loss_fn, tx, state.params, opt, axis_name)
            return state.replace(params=params, opt={"autoencoder": opt}), metrics

        if pretraining:
            state, metrics = pretraining.step(fine_tune, mean_losses, state, x, rng, axis_name)
        else:
            state, metrics = fine_tune(state, rng)
        return state.replace(step=state.step + 1), metrics

    def evaluate(state, batch, rng):
        x = flat(batch["image"])
        out = network.decode(state.params, encode_batch(state.params, x))
        return reconstruction_losses(out, x)

    def encode(state, x, rng):
        return encode_batch(state.params, flat(x))

    def decode(state, z, rng):
        return to_pixels(network.decode(state.params, z)).reshape(-1, *spec.image_shape)

    def assess(state, data, rng):
        """Squared error per image, and that of as many principal components."""
        run = jax.jit(evaluate)
        result, components = {}, pca.fit(data.train)
        for name in ("train", "test"):
            split = getattr(data, name)
            errors = [
                run(state, batch, None)["squared_error"][mask]
                for batch, mask in split.examples(BLOCK)
            ]
            error = float(jnp.mean(jnp.concatenate(errors)))
            pca_error = pca.mean_squared_error(components, split, config.latent)
            result[f"squared_error_{name}"] = error
            result[f"squared_error_{name}_pca"] = pca_error
            result[f"share_of_pca_{name}"] = error / pca_error
        return result

    has_pca = sizes[0] <= pca.MAX_DIMS
    return Model(
        init, step, evaluate, encode=encode, decode=decode, assess=assess if has_pca else None
    )
