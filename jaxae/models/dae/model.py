"""DAE: an autoencoder that reconstructs the clean input from a corrupted one.

Vincent, Larochelle, Bengio & Manzagol 2008 (ICML); Vincent et al. 2010 (JMLR 11), whose weighting
of corrupted components is recalled and not re-read. Inpainting by the same network: Xie, Xu & Chen
2012, recalled.

x [B,D] the clean image; x~ [B,D] the corrupted one; z [B,Z] code; y [B,D] the output; l the
cross-entropy or the squared error of a component.

    x~ ~ q(x~|x)      z = encoder(x~)      y = decoder(z)
    loss = alpha sum_{i corrupted} l(y_i, x_i) + beta sum_{i not} l(y_i, x_i), mean over images

One player owns both networks. The identity does not minimise this loss, so no bottleneck is needed.
`encode` reads clean images: corruption is a part of training only.
With holes in place of noise the network inpaints. Then m [B,D], 1 where a pixel is known, is an
input beside x~, and the known pixels replace the output's.
With `stack_steps` the layers are first trained one by one, from the lowest to the highest, each as
a denoising autoencoder of the clean features below it; then all layers together.
Deviation: the papers fine-tune a stack with a classifier on top; here it is fine-tuned to denoise.
"""

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp

from jaxae import losses, nets
from jaxae.fields import Checked, LayerSteps, Rate, Size, StepsOrZero, Weight
from jaxae.models.dae import corruptions
from jaxae.models.dae.restoration import measure_restoration, psnr
from jaxae.models.shared import pca
from jaxae.models.shared.layerwise import run_phase
from jaxae.models.shared.mirrored import PAIRED_LAYERS, Mirrored, flat
from jaxae.nets.custom import Networks, refuse_networks
from jaxae.nets.mlp import output_activation
from jaxae.training.state import Model, Spec, State, adam, descend


@dataclasses.dataclass(frozen=True)
class Config(Checked):
    """Every field is a flag of the command line; the line below a field is its help text."""

    latent: Size = 64
    """size Z of the code"""
    widths: tuple[Size, ...] = (256,)
    """hidden layers of the encoder; the decoder mirrors them (none: one layer)"""
    activation: str = "relu"
    """relu, tanh, gelu, silu, elu, leaky_relu or sigmoid"""
    code: Literal["linear", "activation"] = "linear"
    """output function of the code layer: none, or that of the hidden layers (the papers)"""
    output: Literal["sigmoid", "linear"] = "sigmoid"
    """output function of the last layer: sigmoid for pixels in [0, 1]"""
    loss: Literal["bce", "mse"] = "bce"
    """cross-entropy with the clean grey levels, or squared error"""
    tied: bool = False
    """the decoder's weights are the encoder's, transposed (the papers)"""
    init: Literal["he", "glorot"] = "he"
    """initial weights"""
    corruption: Literal[
        "none", "masking", "masking_exact", "salt_and_pepper", "gaussian",
        "block", "centre", "half", "pixels", "strokes",
    ] = "masking"  # fmt: skip
    """noise, or holes to inpaint (block, centre, half, pixels, strokes)"""
    levels: tuple[Weight, ...] = (0.25,)
    """share of components that are corrupted, standard deviation of the Gaussian noise, or side of
    the hole as a share of the image's (strokes are half as wide); with stack_steps one level for
    each layer, from the pixels up, or one for all"""
    changed_weight: Weight = 1.0
    """alpha: weight of corrupted components in the loss"""
    kept_weight: Weight = 1.0
    """beta: weight of the other components"""
    mask_channel: bool = True
    """the mask of the holes is an input of the network (with noise there is no mask)"""
    stack_steps: LayerSteps = 0
    """steps for which each layer is trained alone, one after the other (0: all together)"""
    learning_rate: Rate = 1e-3
    """Adam's learning rate at its first step, and again at the first step of each layer"""
    decay_steps: StepsOrZero = 0
    """steps in which Adam's learning rate falls to zero, counted again for each layer (0:
    constant)"""

    def __post_init__(self):
        super().__post_init__()
        if self.loss == "bce" and self.output == "linear":
            raise ValueError("output=linear gives no probabilities: take loss=mse")
        depth = len(self.widths) + 1
        if len(self.levels) not in (1, depth):
            raise ValueError(f"levels={self.levels}: give one, or one for each of {depth} layers")
        if len(self.levels) > 1 and not self.stack_steps:
            raise ValueError(f"levels={self.levels}: only a stack (stack_steps) has several")
        if self.corruption != "gaussian" and max(self.levels) > 1:
            raise ValueError(f"levels={self.levels}: a share cannot exceed 1")
        if self.corruption in ("gaussian", "none") and (self.changed_weight, self.kept_weight) != (
            1.0,
            1.0,
        ):
            raise ValueError(
                f"changed_weight and kept_weight need corrupted and other components, "
                f"which corruption={self.corruption} does not have: leave them at 1"
            )
        if not (self.changed_weight or self.kept_weight):
            raise ValueError("changed_weight and kept_weight must not both be 0")
        if self.inpaints and self.mask_channel and self.tied:
            raise ValueError("tied weights would reconstruct the mask: take mask_channel=False")
        if self.inpaints and self.stack_steps:
            raise ValueError(f"corruption={self.corruption}: holes are in images, not in the "
                             "hidden layers of a stack: leave stack_steps at 0")  # fmt: skip
        if self.stack_steps and self.corruption == "salt_and_pepper" and self.activation not in (
            "sigmoid", "tanh"
        ):  # fmt: skip
            raise ValueError(
                f"corruption=salt_and_pepper needs the range of the hidden layers, "
                f"which activation={self.activation} does not bound: take sigmoid or tanh"
            )

    @property
    def inpaints(self) -> bool:
        """Whether the corruption is a hole, not noise."""
        return self.corruption in corruptions.HOLES


def make(config: Config, spec: Spec, networks: Networks = None) -> Model:
    """The DAE for images of `spec`.

    Args:
        config: the settings.
        spec: of the data.
        networks: must be None: the layers of encoder and decoder are pairs, which are trained one
            by one (`stack_steps`) and may share weights, so no other network can take their place.
    Raises:
        ValueError: an unknown activation, or networks of the caller's own.
    """
    refuse_networks(networks, PAIRED_LAYERS.format("dae"))
    network, act = _network(config, spec), nets.activation(config.activation)
    to_pixels = output_activation(config.output)
    depth, tx = network.depth, adam(config.learning_rate, config.decay_steps)
    height, width, colours = spec.image_shape
    levels = config.levels if len(config.levels) > 1 else config.levels * depth

    # -- the loss ------------------------------------------------------------------------------

    def corrupt(x, rng):
        """x~, which components were corrupted, and m; `[B,D]` each, of clean images x."""
        if config.inpaints:
            shape = (len(x), height, width)
            m = corruptions.sample_mask(config.corruption, rng, *shape, levels[0])
            m = flat(jnp.broadcast_to(m, (*m.shape[:3], colours)))
            return m * x, m == 0, m
        corrupted, hit = corruptions.corrupt(config.corruption, rng, x, levels[0])
        return corrupted, hit, jnp.ones_like(x)

    def decode_corrupted(p, corrupted, m):
        """The decoder's linear outputs `[B,D]`."""
        return network.decode(p, _encode(config, network, p, corrupted, m))

    def component_losses(out, x):
        """`[B,D]`"""
        if config.loss == "bce":
            return losses.bernoulli_nll(out, x, event_ndim=0)
        return jnp.square(to_pixels(out) - x)

    def weighted_sum(losses_of_components, hit):
        """alpha times the corrupted components plus beta times the others: `[B]`."""
        weights = jnp.where(hit, config.changed_weight, config.kept_weight)
        return jnp.sum(weights * losses_of_components, axis=1)

    def denoising_losses(p, x, rng):
        """`[B]` each."""
        corrupted, hit, m = corrupt(x, rng)
        out = decode_corrupted(p, corrupted, m)
        restored = m * x + (1 - m) * to_pixels(out) if config.inpaints else to_pixels(out)
        missing = hit if config.inpaints else None
        return {
            "loss": weighted_sum(component_losses(out, x), hit),
            "squared_error": jnp.sum(jnp.square(restored - x), axis=1),
            "psnr_corrupted": psnr(jnp.clip(corrupted, 0, 1), x, missing),
            "psnr_restored": psnr(restored, x, missing),
        }

    def layer_loss(p, x, k, rng):
        """The loss of layer k as a denoising autoencoder of the clean features below it."""
        v = jax.lax.stop_gradient(network.encode(p, x, last=k))
        top, sigmoid = k == depth - 1, config.activation == "sigmoid"
        low, high = (-1.0, 1.0) if config.activation == "tanh" and k else (0.0, 1.0)
        corrupted, hit = corruptions.corrupt(config.corruption, rng, v, levels[k], low, high)
        h = network.encode(p, corrupted, first=k, last=k + 1)
        h = act(h) if top and config.code == "activation" else h
        out = network.decode_layer(p, h, k)
        if k == 0:
            each = component_losses(out, v)
        elif sigmoid:
            each = losses.bernoulli_nll(out, v, event_ndim=0)
        else:
            each = jnp.square(act(out) - v)
        return jnp.mean(weighted_sum(each, hit))

    # -- the contract --------------------------------------------------------------------------

    def init(rng):
        params = network.init(rng, config.init)
        return State(jnp.int32(0), params, {"autoencoder": tx.init(params)}, {})

    def step(state, batch, rng, axis_name=None):
        x = flat(batch["image"])

        def train_all(state, rng):
            def loss_fn(p):
                metrics = jax.tree.map(jnp.mean, denoising_losses(p, x, rng))
                return metrics["loss"], metrics

            return update(loss_fn, state)

        def train_layer(k):
            def layer_step(state, rng):
                layer_key, metrics_key = jax.random.split(rng)

                def loss_fn(p):
                    loss = layer_loss(p, x, k, layer_key)
                    return loss, jax.tree.map(jnp.mean, denoising_losses(p, x, metrics_key))

                return update(loss_fn, state)

            return layer_step

        def update(loss_fn, state):
            # At the first step of a layer Adam's moments are reset. With zero moments Adam does
            # not move parameters without a gradient: those of the other layers.
            opt, reset = state.opt["autoencoder"], tx.init(state.params)
            if config.stack_steps:
                phase_begins = state.step % config.stack_steps == 0
                phase_begins &= state.step <= depth * config.stack_steps
                opt = jax.tree.map(lambda a, b: jnp.where(phase_begins, a, b), reset, opt)
            params, opt, metrics = descend(loss_fn, tx, state.params, opt, axis_name)
            return state.replace(params=params, opt={"autoencoder": opt}), metrics

        if config.stack_steps:
            phase = jnp.minimum(state.step // config.stack_steps, depth)
            phase_steps = [*(train_layer(k) for k in range(depth)), train_all]
            state, metrics = run_phase(phase, phase_steps, state, rng)
        else:
            state, metrics = train_all(state, rng)
        return state.replace(step=state.step + 1), metrics

    def evaluate(state, batch, rng):
        return denoising_losses(state.params, flat(batch["image"]), rng)

    def encode(state, x, rng):
        x = flat(x)
        return _encode(config, network, state.params, x, jnp.ones_like(x))

    def decode(state, z, rng):
        out = network.decode(state.params, z)
        return to_pixels(out).reshape(-1, *spec.image_shape)

    def corrupt_and_restore(state, x, rng):
        """Corrupted and restored images, and which components are missing (None: noise)."""
        corrupted, hit, m = corrupt(flat(x), rng)
        restored = to_pixels(decode_corrupted(state.params, corrupted, m))
        restored = m * corrupted + (1 - m) * restored if config.inpaints else restored
        missing = hit.reshape(x.shape) if config.inpaints else None
        return corrupted.reshape(x.shape), restored.reshape(x.shape), missing

    def restore(state, x, rng):
        return corrupt_and_restore(state, x, rng)[:2]

    def assess(state, data, rng):
        """How well the test set is restored, see `measure_restoration`."""
        return measure_restoration(lambda x, rng: corrupt_and_restore(state, x, rng), data, rng)

    has_pca = network.sizes[0] <= pca.MAX_DIMS
    return Model(
        init,
        step,
        evaluate,
        encode=encode,
        decode=decode,
        assess=assess if has_pca else None,
        restore=restore,
        daydream=lambda state, x, rng: restore(state, x, rng)[1],
    )


def inpaint(
    config: Config, spec: Spec, state: State, image: jax.Array, known: jax.Array
) -> jax.Array:
    """Fills given holes in images.

    Args:
        config, spec, state: of a DAE that was trained on holes.
        image: `[B,H,W,C]`; pixels where `known` is 0 are not read.
        known: `[B,H,W,1]` 1 where a pixel is known, 0 where it is missing.
    Returns:
        `[B,H,W,C]`; known pixels are unchanged.
    Raises:
        ValueError: a model that was trained on noise, or masks of another shape than the images.
    """
    if not config.inpaints:
        raise ValueError(
            f"corruption={config.corruption}: this model was not trained to inpaint; train it with "
            f"one of {', '.join(corruptions.HOLES)}"
        )
    if known.shape != (*image.shape[:3], 1):
        raise ValueError(f"known is {known.shape}, images {image.shape} need [B,H,W,1]")
    network, m = _network(config, spec), flat(jnp.broadcast_to(known, image.shape))
    corrupted = jnp.where(m == 1, flat(image), 0.0)
    z = _encode(config, network, state.params, corrupted, m)
    filled = output_activation(config.output)(network.decode(state.params, z))
    return jnp.where(m == 1, flat(image), filled).reshape(image.shape)


def _network(config: Config, spec: Spec) -> Mirrored:
    size = math.prod(spec.image_shape)
    mask_inputs = size if config.inpaints and config.mask_channel else 0
    sizes = (size, *config.widths, config.latent)
    return Mirrored(sizes, config.activation, config.tied, side_inputs=mask_inputs)


def _encode(config: Config, network: Mirrored, p, x: jax.Array, m: jax.Array) -> jax.Array:
    """z `[B,Z]` of images x, clean or corrupted, with masks m; `[B,D]` each."""
    z = network.encode(p, jnp.concatenate([x, m], axis=1) if network.side_inputs else x)
    return z if config.code == "linear" else nets.activation(config.activation)(z)
