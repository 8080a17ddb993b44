"""ALAE: a GAN of four networks, two of which are an autoencoder of a learned latent space.

Pidhorskyi, Adjeroh & Doretto 2020, arXiv:2004.04467 (the text was not available);
podgorskiy/ALAE.

    x [B,H,W,C]     image                      z [B,Z] ~ N(0, I)   noise
    w = F(z) [B,Z]  latent; its distribution is learned
    G(w, noise)     generated image            E(x) [B,Z]          latent inferred from an image
    D(w) [B]        logit, positive for "latent of a real image"

The generator of the GAN is G after F, its discriminator D after E. Losses, means over the batch,
with s(t) = log(1 + exp(t)), and the networks that each updates:

    critic       s(D(E(G(F(z))))) + s(-D(E(x))) + r1/2 |grad_x D(E(x))|^2      E, D
    generator    s(-D(E(G(F(z)))))                                             F, G
    reciprocity  (w - E(G(w)))^2 with w = F(z), mean over Z too                E, G (and F)

Order of updates: as listed, each loss from the parameters that the one before has left, with new z,
noise and style mixing (reciprocity: no mixing). In the reciprocity loss w is a constant as the
target, but not as the input of G: through it the official code updates F too, the published
algorithm does not (update_f_in_reciprocity). Only the critic's loss depends on real images: that
G(E(x)) resembles x is an indirect effect, and preserves the kind of image rather than its pixels.

Ablations: with reciprocity=z, E predicts z instead of w; with `separate` the discriminator has an
encoder of its own, `eye`, and E is trained by reciprocity alone (the official one is StyleGAN's
discriminator, with statistics over the batch).

The official code has two optimisers, of {E, D} and of {F, G}, and reciprocity steps both. So there
is one set of Adam's moments for each network, used by all losses, and in reciprocity, where D has
the gradient zero, D stays and its second moment decays (moments=shared). This needs beta1=0: a
momentum would update D. With moments=apart each loss has its own moments and D is left out of
reciprocity.

Evaluation uses moving averages of F, G and E. The convolutional networks are in `style`.

Deviations: style mixing is sampled for each image, not once for a batch; the average of w is
updated in the losses of critic and generator, twice a step, where the official code updates it
whenever it generates images, in reciprocity too.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxae import losses, nets
from jaxae.models.alae import networks as dense
from jaxae.models.alae import style
from jaxae.models.alae.config import Config
from jaxae.models.shared.reconstruction import reconstruction_ratio
from jaxae.nets.custom import replace_networks
from jaxae.training.state import (
    Model,
    Player,
    Spec,
    State,
    adam,
    all_gather,
    eval_params,
    init_ema,
    init_opt_state,
    per_network,
    step_players,
    update_ema,
)

AVERAGED = ("map", "gen", "enc")
W_DECAY = 0.995  # of the moving average of w, at each of its two updates in a step
NUM_TRUNCATED = 8  # styles of G, from the coarsest, that truncation applies to


class GeneratorSample(NamedTuple):
    """The random inputs of the generator."""

    z: jax.Array  # [B, Z]
    z_mix: jax.Array | None  # [B, Z], for the styles from `crossover` on; None: no mixing
    crossover: jax.Array | None  # [B] int32
    noise: tuple[jax.Array, ...]  # added to the features of G


def make(config: Config, spec: Spec, networks: Mapping[str, nn.Module] | None = None) -> Model:
    """ALAE for images of `spec`.

    Args:
        networks: your own modules by name (see `nets.replace_networks`); none
            may keep batch statistics. L: number of style inputs, 1 (mlp) or 2 for each level
            (style).
            `map`, F: z `[B, Z]` -> w `[B, Z]`;
            `gen`, G: styles `[B, L, Z]`, and for network=style L arrays of noise `[B, side, side,
            1]` -> image before `output` `[B, H, W, C]`;
            `enc`, E, and with `separate` `eye`: x `[B, H, W, C]` -> w `[B, Z]`;
            `dis`, D: w `[B, Z]` -> logits `[B]`.
    Raises:
        ValueError: network=style on images that are not square with a power of two as their side;
            `networks` that do not fit.
    """
    network, players = build_networks(config, spec, networks), _players(config)
    gan, is_style = losses.gan_loss("non_saturating"), config.network == "style"
    num_styles = _num_styles(config, spec)
    noise_shapes = style.noise_shapes(spec.image_shape) if is_style else ()
    encoder_of_d = "eye" if config.separate else "enc"

    # -- sampling and forward passes -----------------------------------------------------------

    def to_network_range(x):
        return 2 * x - 1 if config.centred else x

    def to_unit_range(x):
        return (x + 1) / 2 if config.centred else x

    def sample_noise(rng, n):
        keys = jax.random.split(rng, max(len(noise_shapes), 1))
        return tuple(jax.random.normal(k, (n, *s)) for k, s in zip(keys, noise_shapes))  # noqa: B905

    def sample_generator_inputs(rng, n, mix_styles):
        rng_z, rng_noise, rng_mix, rng_coin, rng_crossover = jax.random.split(rng, 5)
        z, noise = prior(rng_z, n), sample_noise(rng_noise, n)
        if not (mix_styles and is_style):
            return GeneratorSample(z, None, None, noise)
        # A crossover at `num_styles` mixes nothing.
        crossover = jax.random.randint(rng_crossover, (n,), 1, num_styles + 1)
        mixed = jax.random.uniform(rng_coin, (n,)) < config.style_mixing
        crossover = jnp.where(mixed, crossover, num_styles)
        return GeneratorSample(z, prior(rng_mix, n), crossover, noise)

    def map_to_latents(p, inputs):
        """w = F(z) [B,Z], and the styles [B,L,Z] with style mixing."""
        w = network(p, {}, "map", inputs.z)
        if inputs.z_mix is None:
            return w, _repeat_style(w, num_styles)
        from_z = jnp.arange(num_styles)[None] < inputs.crossover[:, None]
        w_mix = network(p, {}, "map", inputs.z_mix)
        styles, others = _repeat_style(w, num_styles), _repeat_style(w_mix, num_styles)
        return w, jnp.where(from_z[..., None], styles, others)

    def generate(p, styles, noise):
        """G's images, in the range of the networks."""
        out = network(p, {}, "gen", styles, *noise)
        if config.output == "linear":
            return out
        return to_network_range(jax.nn.sigmoid(out))

    def discriminate(p, image):
        """D(E(image)) [B]."""
        return network(p, {}, "dis", network(p, {}, encoder_of_d, image))

    # -- training ------------------------------------------------------------------------------

    def init(rng):
        params, _ = network.init(rng, **example_inputs(config, spec))
        opt = init_opt_state(players, params)
        averages = init_ema(AVERAGED if config.half_life else (), params)
        extra = {"w_mean": jnp.zeros(config.latent)} | averages
        return State(jnp.int32(0), params, opt, extra)

    def step(state, batch, rng, axis_name=None):
        x = to_network_range(batch["image"])
        of_critic, of_generator, of_reciprocity = (
            sample_generator_inputs(key, x.shape[0], mix_styles)
            for key, mix_styles in zip(jax.random.split(rng, 3), (True, True, False), strict=True)
        )

        def generate_fakes(p, inputs, w_mean):
            """G(F(z)), and the updated average of w."""
            w, styles = map_to_latents(p, inputs)
            w_mean = W_DECAY * w_mean + (1 - W_DECAY) * jnp.mean(w, axis=0)
            return generate(p, styles, inputs.noise), w_mean

        def critic_loss(p, w_mean):
            fake, w_mean = generate_fakes(p, of_critic, w_mean)
            fake_loss = jnp.mean(gan.fake_loss(discriminate(p, fake)))
            loss = fake_loss + jnp.mean(gan.real_loss(discriminate(p, x)))
            squared_norm = jnp.zeros(())
            if config.r1:
                logits = lambda x: discriminate(p, x)
                squared_norm = losses.mean_squared_gradient_norm(logits, x)
            total = loss + 0.5 * config.r1 * squared_norm
            return total, ({"critic": total, "squared_gradient_norm": squared_norm}, w_mean)

        def generator_loss(p, w_mean):
            fake, w_mean = generate_fakes(p, of_generator, w_mean)
            loss = jnp.mean(gan.generator_loss(discriminate(p, fake)))
            return loss, ({"generator": loss}, w_mean)

        def reciprocity_loss(p, w_mean):
            w, styles = map_to_latents(p, of_reciprocity)
            inferred = network(p, {}, "enc", generate(p, styles, of_reciprocity.noise))
            # With a gradient through the target, F could reduce the loss by shrinking w.
            z = of_reciprocity.z
            target = z if config.reciprocity == "z" else jax.lax.stop_gradient(w)
            loss = jnp.mean(jnp.square(target - inferred))
            variance = jnp.mean(jnp.var(all_gather(w, axis_name), axis=0))
            return loss, ({"loss": loss, "reciprocity": loss, "w_variance": variance}, w_mean)

        player_losses = {
            "critic": critic_loss, "generator": generator_loss, "reciprocity": reciprocity_loss,
        }  # fmt: skip
        params, opt, w_mean, metrics = step_players(
            players, player_losses, state.params, state.opt, state.extra["w_mean"], axis_name
        )
        num_devices = 1 if axis_name is None else jax.lax.axis_size(axis_name)
        decay = 0.5 ** (num_devices * x.shape[0] / max(config.half_life, 1))
        extra = {"w_mean": w_mean} | update_ema(decay, state.extra, params)
        return State(state.step + 1, params, opt, extra), metrics

    # -- evaluation ----------------------------------------------------------------------------

    def encode(state, x, rng):
        return network(eval_params(state)[0], {}, "enc", to_network_range(x))

    def decode(state, z, rng):
        """The image of a code: w, or z for reciprocity=z."""
        if config.reciprocity == "z":
            z = network(eval_params(state)[0], {}, "map", z)
        return decode_styles(state, _repeat_style(z, num_styles), rng)

    def decode_styles(state, styles, rng):
        noise = sample_noise(rng, styles.shape[0])
        return to_unit_range(generate(eval_params(state)[0], styles, noise))

    def prior(rng, n):
        return jax.random.normal(rng, (n, config.latent))

    def sample(state, rng, n):
        rng_z, rng_noise = jax.random.split(rng)
        w = network(eval_params(state)[0], {}, "map", prior(rng_z, n))
        styles, mean = _repeat_style(w, num_styles), state.extra["w_mean"][None, None]
        is_coarse = (jnp.arange(num_styles) < NUM_TRUNCATED)[None, :, None]
        truncated = mean + config.truncation * (styles - mean)
        return decode_styles(state, jnp.where(is_coarse, truncated, styles), rng_noise)

    def mix(state, x, y, rng):
        """x with its coarse, middle or fine styles replaced by those of y (8x8: two kinds)."""
        w_x, w_y = (_repeat_style(encode(state, image, rng), num_styles) for image in (x, y))
        groups = np.array_split(np.arange(num_styles).reshape(-1, 2), min(3, num_styles // 2))
        images = []
        for key, group in zip(jax.random.split(rng, len(groups)), groups, strict=True):
            from_y = np.isin(np.arange(num_styles), group)[None, :, None]
            images.append(decode_styles(state, jnp.where(from_y, w_y, w_x), key))
        return jnp.stack(images)

    def sample_and_infer(state, rng, n):
        """n codes, w = F(z) or z, and the codes that the encoder infers from their images."""
        rng_z, rng_noise = jax.random.split(rng)
        z = prior(rng_z, n)
        code = z
        if config.reciprocity == "w":
            code = network(eval_params(state)[0], {}, "map", z)
        return code, encode(state, decode(state, code, rng_noise), rng)

    def evaluate(state, batch, rng):
        """`loss`: half the squared error of G(E(x)), summed over pixels; `reciprocity`: the squared
        error of a code inferred from a generated image, one for each example, mean over Z."""
        x, (rng_x, rng_z) = batch["image"], jax.random.split(rng)
        error = losses.half_squared_error(decode(state, encode(state, x, rng), rng_x), x)
        code, inferred = sample_and_infer(state, rng_z, x.shape[0])
        return {
            "loss": error,
            "mse": 2 * error / x[0].size,
            "reciprocity": jnp.mean(jnp.square(code - inferred), axis=-1),
        }

    def assess(state, data, rng):
        """The reciprocity error, relative to the variance of the code too, and the distance of
        reconstructions from their own images and from others."""
        rng_codes, rng_images = jax.random.split(rng)
        code, inferred = jax.jit(sample_and_infer, static_argnums=2)(state, rng_codes, 1000)
        error, variance = jnp.mean(jnp.square(code - inferred)), jnp.mean(jnp.var(code, axis=0))
        reconstruct = jax.jit(lambda s, batch, rng: decode(s, encode(s, batch["image"], rng), rng))
        return {
            "reciprocity_error": float(error),
            "code_variance": float(variance),
            "reciprocity_share": float(error / variance),
        } | reconstruction_ratio(reconstruct, state, data, rng_images)

    return Model(
        init,
        step,
        evaluate,
        encode=encode,
        decode=decode,
        sample=sample,
        prior=prior if config.reciprocity == "z" else None,
        assess=assess,
        mix=mix if is_style and config.reciprocity == "w" else None,
        draws=True,
    )


def _num_styles(config: Config, spec: Spec) -> int:
    """L, the number of style inputs of G."""
    return 2 * style.num_levels(spec.image_shape) if config.network == "style" else 1


def _repeat_style(w: jax.Array, num_styles: int) -> jax.Array:
    """The same w for all styles: [B,Z] -> [B,L,Z]."""
    return jnp.broadcast_to(w[:, None], (w.shape[0], num_styles, w.shape[1]))


def example_inputs(config: Config, spec: Spec) -> dict[str, Any]:
    """An input, or a tuple of inputs, of each network, by name."""
    x, w = jnp.zeros((1, *spec.image_shape)), jnp.zeros((1, config.latent))
    shapes = style.noise_shapes(spec.image_shape) if config.network == "style" else ()
    noise = tuple(jnp.zeros((1, *shape)) for shape in shapes)
    styles = _repeat_style(w, _num_styles(config, spec))
    return {"map": w, "gen": (styles, *noise), "enc": x, "eye": x, "dis": w}


def build_networks(
    config: Config, spec: Spec, own: Mapping[str, nn.Module] | None = None
) -> nets.Bundle:
    """map: z -> w; gen: styles, noise -> x; enc (and eye): x -> w; dis: w -> D."""
    shape, defaults = spec.image_shape, {"map": dense.Mapping(config.map_layers)}
    if config.network == "mlp":
        # z is symmetric around zero: an encoder that predicts z has no leaky ReLU at the end.
        slope = 1.0 if config.reciprocity == "z" else config.slope
        defaults["gen"] = dense.DenseGenerator(shape, config.widths[::-1], config.slope)
        encoder = lambda: dense.DenseEncoder(config.widths, config.latent, slope)
    else:
        sizes = shape, config.conv_width, config.conv_most
        start, floor = _initial_colour(config, spec), config.norm_floor
        defaults["gen"] = style.StyleGenerator(*sizes, config.last_gain, start, floor)
        encoder = lambda: style.StyleEncoder(*sizes, config.latent, floor)
    defaults["enc"] = encoder()
    if config.separate:
        defaults["eye"] = encoder()
    defaults["dis"] = dense.Judge(config.critic_layers, config.d_activation == "leaky_relu")
    examples = example_inputs(config, spec)
    return nets.Bundle(**replace_networks(defaults, own, examples))


def _initial_colour(config: Config, spec: Spec) -> np.ndarray:
    """`[C]`, the initial bias of G's last layer: the mean colour of the training images."""
    mean = np.asarray(spec.mean, np.float32).mean((0, 1))
    if config.output == "sigmoid":
        mean = np.clip(mean, 0.01, 0.99)
        return np.log(mean) - np.log1p(-mean)
    return 2 * mean - 1 if config.centred else mean


def _players(config: Config) -> dict[str, Player]:
    """The networks that each loss updates, and its optimiser."""
    shared = config.moments == "shared"
    reciprocity = ("enc", "gen", "map") if config.update_f_in_reciprocity else ("enc", "gen")
    if shared and not config.separate:
        reciprocity += ("dis",)  # its gradient is zero there, and its second moment decays
    owns = {
        "critic": ("eye" if config.separate else "enc", "dis"),
        "generator": ("map", "gen"),
        "reciprocity": reciprocity,
    }
    rates = {
        "critic": config.critic_rate,
        "generator": config.learning_rate,
        "reciprocity": config.reciprocity_rate,
    }
    # A shared optimiser state counts the updates of all losses: its schedule is longer by as much.
    updates = Counter(name for names in owns.values() for name in names) if shared else {}

    def optimiser(rate, name):
        steps = config.decay_steps * updates.get(name, 1)
        return adam(rate, steps, config.beta1, config.beta2)

    return {
        player: Player(names, per_network({n: optimiser(rates[player], n) for n in names}), shared)
        for player, names in owns.items()
    }
