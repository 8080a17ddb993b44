"""DAE: corrupt the input, reconstruct the clean one.

Vincent, Larochelle, Bengio & Manzagol 2008 (ICML); Vincent et al. 2010 (JMLR 11), whose emphasis on
corrupted components is recalled and not re-read. No bottleneck is needed, since copying does not
pay. With holes in place of noise the same network fills in images (Xie, Xu & Chen 2012, recalled).

x [B,D] the clean image; x~ [B,D] what the network sees; z [B,Z] code; m [B,D] 1 where a pixel is
known. A hole's mask is an input beside x~, and the known pixels are pasted over the output. The
target is always the clean image, and `encode` reads clean images: corruption belongs to training.
With `stack_steps` the layers are first trained one after the other, each as a denoising
autoencoder of the clean features below it; then all together.
Deviation: the papers fine-tune a stack with a classifier on top; here it is fine-tuned to denoise.
"""

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxae import losses, nets
from jaxae.fields import Checked, LayerSteps, Rate, Size, StepsOrZero, Weight
from jaxae.models.dae import corruptions
from jaxae.models.shared import pca
from jaxae.models.shared.layerwise import take_turns
from jaxae.models.shared.mirrored import Mirrored, flat
from jaxae.nets.mlp import output_activation
from jaxae.training.state import Model, Spec, State, adam, descend

MOST_DECIBELS = 100.0  # an image without any error has no finite ratio
BLOCK = 500  # images at a time where a whole set is read


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
    """what the code layer passes through: nothing, or what hidden layers do (the papers)"""
    output: Literal["sigmoid", "linear"] = "sigmoid"
    """what the last layer passes through: sigmoid for pixels in [0, 1]"""
    loss: Literal["bce", "mse"] = "bce"
    """cross-entropy with the clean grey levels, or squared error"""
    tied: bool = False
    """the decoder's weights are the encoder's, transposed (the papers)"""
    init: Literal["he", "glorot"] = "he"
    """where the weights start"""
    corruption: Literal[
        "none", "masking", "masking_exact", "salt_and_pepper", "gaussian",
        "block", "centre", "half", "pixels", "strokes",
    ] = "masking"  # fmt: skip
    """noise, or (block, centre, half, pixels, strokes) holes to be filled in"""
    levels: tuple[Weight, ...] = (0.25,)
    """share of components that are hit, deviation of the noise, or side of the hole as a share of
    the image's (strokes are half as wide); with stack_steps one for the pixels and for each hidden
    layer, or one for all"""
    changed_weight: Weight = 1.0
    """alpha: weight in the loss of the components that were hit"""
    kept_weight: Weight = 1.0
    """beta: weight of the others"""
    mask_channel: bool = True
    """the network sees where the holes are (of noise it is never told)"""
    stack_steps: LayerSteps = 0
    """steps for which each layer is trained alone, one after the other (0: all at once)"""
    learning_rate: Rate = 1e-3
    """Adam's rate at its first step, and again at the first step of each layer of a stack"""
    decay_steps: StepsOrZero = 0
    """steps in which Adam's rate falls to zero, counted anew for each layer (0: constant)"""

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
                f"changed_weight and kept_weight tell hit components from others, which "
                f"corruption={self.corruption} does not: leave them at 1"
            )
        if not (self.changed_weight or self.kept_weight):
            raise ValueError("changed_weight and kept_weight must not both be 0")
        if self.inpaints and self.mask_channel and self.tied:
            raise ValueError("tied weights would reconstruct the mask: take mask_channel=False")
        if self.inpaints and self.stack_steps:
            raise ValueError(f"corruption={self.corruption}: holes are in images, not in the "
                             "hidden layers of a stack; leave stack_steps at 0")  # fmt: skip
        if self.stack_steps and self.corruption == "salt_and_pepper" and self.activation not in (
            "sigmoid", "tanh"
        ):  # fmt: skip
            raise ValueError(
                f"corruption=salt_and_pepper of hidden layers needs their range, which "
                f"activation={self.activation} does not have: take sigmoid or tanh"
            )

    @property
    def inpaints(self) -> bool:
        """Holes in place of noise."""
        return self.corruption in corruptions.HOLES


def make(config: Config, spec: Spec) -> Model:
    """The DAE for images of `spec`.

    Raises:
        ValueError: an unknown activation.
    """
    network, act = _network(config, spec), nets.activation(config.activation)
    squash = output_activation(config.output)
    depth, tx = network.depth, adam(config.learning_rate, config.decay_steps)
    height, width, colours = spec.image_shape
    levels = config.levels if len(config.levels) > 1 else config.levels * depth

    def corrupted(x, rng):
        """What the network sees of clean images [B,D], which components were hit, and m."""
        if config.inpaints:
            m = corruptions.known(config.corruption, rng, len(x), height, width, levels[0])
            m = flat(jnp.broadcast_to(m, (*m.shape[:3], colours)))
            return m * x, m == 0, m
        seen, hit = corruptions.noise(config.corruption, rng, x, levels[0])
        return seen, hit, jnp.ones_like(x)

    def outputs(p, seen, m):
        return network.down(p, _code(config, network, p, seen, m))

    def emphasised(costs, hit):
        return jnp.sum(jnp.where(hit, config.changed_weight, config.kept_weight) * costs, axis=1)

    def component_costs(out, x):
        if config.loss == "bce":
            return losses.bernoulli_nll(out, x, event_ndim=0)
        return jnp.square(squash(out) - x)

    def costs(p, x, rng):
        seen, hit, m = corrupted(x, rng)
        out = outputs(p, seen, m)
        image = m * x + (1 - m) * squash(out) if config.inpaints else squash(out)
        missing = hit if config.inpaints else None
        return {
            "loss": emphasised(component_costs(out, x), hit),
            "squared_error": jnp.sum(jnp.square(image - x), axis=1),
            "psnr_corrupted": decibels(jnp.clip(seen, 0, 1), x, missing),
            "psnr_restored": decibels(image, x, missing),
        }

    def layer_loss(p, x, k, rng):
        """Layer k as a denoising autoencoder by itself; the features below it are clean."""
        v = jax.lax.stop_gradient(network.up(p, x, last=k))
        top, sigmoid = k == depth - 1, config.activation == "sigmoid"
        low, high = (-1.0, 1.0) if config.activation == "tanh" and k else (0.0, 1.0)
        seen, hit = corruptions.noise(config.corruption, rng, v, levels[k], low, high)
        h = network.up(p, seen, first=k, last=k + 1)
        h = act(h) if top and config.code == "activation" else h
        out = network.down_linear(p, h, k)
        if k == 0:
            each = component_costs(out, v)
        elif sigmoid:
            each = losses.bernoulli_nll(out, v, event_ndim=0)
        else:
            each = jnp.square(act(out) - v)
        return jnp.mean(emphasised(each, hit))

    def init(rng):
        params = network.init(rng, config.init)
        return State(jnp.int32(0), params, {"autoencoder": tx.init(params)}, {})

    def step(state, batch, rng, axis_name=None):
        x = flat(batch["image"])

        def whole(state, rng):
            def loss(p):
                found = jax.tree.map(jnp.mean, costs(p, x, rng))
                return found["loss"], found

            return moved(loss, state)

        def layer(k):
            def turn(state, rng):
                of_layer, of_report = jax.random.split(rng)

                def loss(p):
                    cost = layer_loss(p, x, k, of_layer)
                    return cost, jax.tree.map(jnp.mean, costs(p, x, of_report))

                return moved(loss, state)

            return turn

        def moved(loss, state):
            # With fresh moments Adam leaves alone what has no gradient: the other layers.
            opt, fresh = state.opt["autoencoder"], tx.init(state.params)
            if config.stack_steps:
                phase_begins = state.step % config.stack_steps == 0
                phase_begins &= state.step <= depth * config.stack_steps
                opt = jax.tree.map(lambda a, b: jnp.where(phase_begins, a, b), fresh, opt)
            params, opt, metrics = descend(loss, tx, state.params, opt, axis_name)
            return state.replace(params=params, opt={"autoencoder": opt}), metrics

        if config.stack_steps:
            phase = jnp.minimum(state.step // config.stack_steps, depth)
            turns = [*(layer(k) for k in range(depth)), whole]
            state, metrics = take_turns(phase, turns, state, rng)
        else:
            state, metrics = whole(state, rng)
        return state.replace(step=state.step + 1), metrics

    def evaluate(state, batch, rng):
        return costs(state.params, flat(batch["image"]), rng)

    def encode(state, x, rng):
        x = flat(x)
        return _code(config, network, state.params, x, jnp.ones_like(x))

    def decode(state, z, rng):
        out = network.down(state.params, z)
        return squash(out).reshape(-1, *spec.image_shape)

    def repaired(state, x, rng):
        """Seen and restored images, and which components are missing (None: noise)."""
        seen, hit, m = corrupted(flat(x), rng)
        image = squash(outputs(state.params, seen, m))
        image = m * seen + (1 - m) * image if config.inpaints else image
        missing = hit.reshape(x.shape) if config.inpaints else None
        return seen.reshape(x.shape), image.reshape(x.shape), missing

    def restore(state, x, rng):
        return repaired(state, x, rng)[:2]

    def assess(state, data, rng):
        return of_set(lambda x, rng: repaired(state, x, rng), data, rng)

    small = network.sizes[0] <= pca.MAX_DIMS
    return Model(
        init,
        step,
        evaluate,
        encode=encode,
        decode=decode,
        assess=assess if small else None,
        restore=restore,
        daydream=lambda state, x, rng: restore(state, x, rng)[1],
    )


def inpaint(
    config: Config, spec: Spec, state: State, image: jax.Array, known: jax.Array
) -> jax.Array:
    """Fills the holes that the caller gives.

    Args:
        config, spec, state: a trained DAE's; one that was trained on holes.
        image: `[B,H,W,C]`; what stands where `known` is 0 is not read.
        known: `[B,H,W,1]` 1 where a pixel is known, 0 where it is missing.
    Returns:
        `[B,H,W,C]`, known pixels as they were.
    Raises:
        ValueError: a model that was trained on noise, or masks that do not fit the images.
    """
    if not config.inpaints:
        raise ValueError(
            f"corruption={config.corruption}: this model has not learnt to fill in; choose one of "
            + ", ".join(corruptions.HOLES)
        )
    if known.shape != (*image.shape[:3], 1):
        raise ValueError(f"known is {known.shape}, images {image.shape} need [B,H,W,1]")
    network, m = _network(config, spec), flat(jnp.broadcast_to(known, image.shape))
    seen = jnp.where(m == 1, flat(image), 0.0)
    z = _code(config, network, state.params, seen, m)
    filled = output_activation(config.output)(network.down(state.params, z))
    return jnp.where(m == 1, flat(image), filled).reshape(image.shape)


def decibels(image, clean, missing=None, xp=jnp):
    """Peak signal-to-noise ratio `[B]` of images `[B,D]` in [0, 1], at most `MOST_DECIBELS`.

    Args:
        image, clean: `[B,D]`.
        missing: bool `[B,D]`: over these components alone, so that what stands at known ones does
            not count; None for all. An image that misses none has `MOST_DECIBELS`.
        xp: `jnp`, or `np` for float64.
    """
    squares = xp.square(image - clean)
    if missing is None:
        mean = xp.mean(squares, axis=1)
    else:
        mean = xp.sum(squares * missing, axis=1) / xp.maximum(xp.sum(missing, axis=1), 1)
    return -10 * xp.log10(xp.maximum(mean, 10 ** (-MOST_DECIBELS / 10)))


def of_set(restore, data, rng: jax.Array) -> dict[str, float]:
    """A denoiser over the test set, beside the best projection onto principal components.

    Args:
        restore: x `[B,H,W,C]`, rng -> seen, restored, missing: bool of that shape, or None for
            noise.
    Returns:
        PSNR in dB, mean over images: `psnr_corrupted` (clipped to [0,1]), `psnr_restored`,
        `psnr_pca`, that of the corrupted image projected onto as many components as do best on
        training images (`pca_components`) and clipped; and over the components whose value the
        corruption changed the mean squared error of the corrupted image, of the restored one and of
        the mean training image. Of holes all of these are over the missing components alone,
        whatever their true value: the known ones, which anyone could paste in, do not count.
    """
    of_train, of_test = jax.random.split(rng)
    run, components = jax.jit(restore), pca.fit(data.train)

    def passes(split, key):
        for number, (batch, mask) in enumerate(split.examples(BLOCK)):
            clean = batch["image"]
            seen, restored, missing = run(clean, jax.random.fold_in(key, number))
            images = (np.float64(flat(np.asarray(x)[mask])) for x in (clean, seen, restored))
            yield *images, None if missing is None else flat(np.asarray(missing)[mask])

    def ratio(image, clean, missing):
        return decibels(np.clip(image, 0, 1), clean, missing, xp=np)

    clean, seen, _, missing = next(passes(data.train, of_train))
    projections = components.growing(seen)
    best = int(np.argmax([ratio(image, clean, missing).mean() for image in projections]))
    decibels_of, changed_errors, changed_count = [], np.zeros(3), 0
    for clean, seen, restored, missing in passes(data.test, of_test):
        projected = components.restored(seen, best)
        decibels_of.append([
            ratio(seen, clean, missing),
            decibels(restored, clean, missing, xp=np),
            ratio(projected, clean, missing),
        ])  # fmt: skip
        changed = seen != clean if missing is None else missing
        changed_count += changed.sum()
        for i, image in enumerate((seen, restored, components.mean)):
            changed_errors[i] += (np.square(image - clean) * changed).sum()
    before, after, projected = np.concatenate(decibels_of, axis=1).mean(1)
    found = {
        "psnr_corrupted": before, "psnr_restored": after, "psnr_pca": projected,
        "pca_components": best,
    }  # fmt: skip
    if changed_count:
        names = ("corrupted", "restored", "mean_image")
        for name, total in zip(names, changed_errors / changed_count, strict=True):
            found[f"changed_squared_error_{name}"] = total
    return {name: float(value) for name, value in found.items()}


def _network(config: Config, spec: Spec) -> Mirrored:
    size = math.prod(spec.image_shape)
    beside = size if config.inpaints and config.mask_channel else 0
    sizes = (size, *config.widths, config.latent)
    return Mirrored(sizes, config.activation, config.tied, side_inputs=beside)


def _code(config: Config, network: Mirrored, p, seen: jax.Array, m: jax.Array) -> jax.Array:
    z = network.up(p, jnp.concatenate([seen, m], axis=1) if network.side_inputs else seen)
    return z if config.code == "linear" else nets.activation(config.activation)(z)
