"""ALAE: a GAN cut in two places, whose halves are an autoencoder of a latent that it learns itself.

Pidhorskyi, Adjeroh & Doretto 2020, arXiv:2004.04467 (its text was not at hand); podgorskiy/ALAE.

x [B,H,W,C] image; z [B,Z] ~ N(0, I); w = F(z) [B,Z] the latent, whose distribution nobody
prescribes; G(w, noise) an image; E(x) the latent read from an image; D(w) the logit, positive
where it believes that E has read data. The generator is G after F, the discriminator D after E.
Each step, in turn, with a fresh z, noise and (but for the last) style mixing for each:

    critic       mean softplus(D(E(G(F(z))))) + mean softplus(-D(E(x)))
                 + gamma/2 mean |grad_x D(E(x))|^2                        moves E and D
    generator    mean softplus(-D(E(G(F(z)))))                            moves F and G
    reciprocity  mean (w - E(G(w)))^2, w = F(z), over examples and Z      moves E and G

In reciprocity w is a constant as a target, but not as G's input: through it the official code moves
F as well, which the published algorithm does not (update_f_in_reciprocity). A real x enters the
critic's turn alone: that G(E(x)) looks like x is an indirect effect, and keeps its kind rather than
its pixels.

Ablations: reciprocity=z has E find z instead of w; separate gives the discriminator an encoder of
its own ("eye"), so that E learns from reciprocity alone (the official one is StyleGAN's, with
statistics over the batch).

The official code has two optimisers, of {E, D} and of {F, G}; reciprocity steps both. So Adam's
second moments are those of a network, whichever turn moves it, and D, which reciprocity gives no
gradient, rests there while its second moment fades (moments=shared). That is safe because beta1 is
0: a momentum would move D. In moments=apart each turn has moments of its own and D is left alone.

Evaluation reads moving averages of F, G and E. Where networks are convolutional see `style`.

Departures: style mixing is drawn for each image, not for a batch; the average of w moves in the
turns of critic and generator, twice a step, where the code moves it whenever it generates images,
in reciprocity too.
"""

from collections import Counter
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxae import losses, nets
from jaxae.models.alae import style
from jaxae.models.alae.config import Config
from jaxae.models.alae.networks import DenseEncoder, DenseGenerator, Judge, Mapping
from jaxae.models.shared.reconstruction import reconstruction_ratio
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
W_KEEP = 0.995  # what the average of w keeps of itself in the critic's and the generator's turn
TRUNCATED = 8  # of G's inputs are truncated, the coarse ones


class Draw(NamedTuple):
    """What one turn draws."""

    z: jax.Array  # [B, Z]
    other: jax.Array | None  # [B, Z], whose styles follow from `cut` on; None: no mixing
    cut: jax.Array | None  # [B] int32
    noise: tuple[jax.Array, ...]  # what G adds to its features


def make(config: Config, spec: Spec) -> Model:
    """ALAE for images of `spec`.

    Raises:
        ValueError: network=style on images that are not square with a power of two as their side.
    """
    network, players, gan = (
        _networks(config, spec),
        _players(config),
        losses.gan_loss("non_saturating"),
    )
    styled = config.network == "style"
    inputs = 2 * style.levels(spec.image_shape) if styled else 1
    noise_shapes = style.noise_shapes(spec.image_shape) if styled else ()
    eye = "eye" if config.separate else "enc"

    def seen(x):
        """Pixels as the networks see them."""
        return 2 * x - 1 if config.centred else x

    def shown(made):
        return (made + 1) / 2 if config.centred else made

    # -- the parts -----------------------------------------------------------------------------

    def noise_of(rng, n):
        keys = jax.random.split(rng, max(len(noise_shapes), 1))
        return tuple(jax.random.normal(k, (n, *s)) for k, s in zip(keys, noise_shapes))  # noqa: B905

    def draw(rng, n, mixed):
        of_z, of_noise, of_other, of_coin, of_cut = jax.random.split(rng, 5)
        z, noise = prior(of_z, n), noise_of(of_noise, n)
        if not (mixed and styled):
            return Draw(z, None, None, noise)
        cut = jax.random.randint(of_cut, (n,), 1, inputs + 1)  # at `inputs` nothing is mixed
        mixing = jax.random.uniform(of_coin, (n,)) < config.style_mixing
        return Draw(z, prior(of_other, n), jnp.where(mixing, cut, inputs), noise)

    def alike(w):
        """The same w for all of G's inputs: [B,Z] -> [B,L,Z]."""
        return jnp.broadcast_to(w[:, None], (w.shape[0], inputs, w.shape[1]))

    def latents(p, drawn):
        """w = F(z) [B,Z], and the styles [B,L,Z] that it and another w give."""
        w = network(p, {}, "map", drawn.z)
        if drawn.other is None:
            return w, alike(w)
        first = jnp.arange(inputs)[None] < drawn.cut[:, None]
        return w, jnp.where(first[..., None], alike(w), alike(network(p, {}, "map", drawn.other)))

    def generated(p, styles, noise):
        """G's images as the networks see them."""
        raw = network(p, {}, "gen", styles, *noise)
        if config.output == "linear":
            return raw
        return seen(jax.nn.sigmoid(raw))

    def judged(p, image):
        """D(E(image)) [B]."""
        return network(p, {}, "dis", network(p, {}, eye, image))

    # -- the contract --------------------------------------------------------------------------

    def init(rng):
        x, w = jnp.zeros((1, *spec.image_shape)), jnp.zeros((1, config.latent))
        noise = tuple(jnp.zeros((1, *shape)) for shape in noise_shapes)
        examples = {"map": w, "gen": (alike(w), *noise), "enc": x, "eye": x, "dis": w}
        params, _ = network.init(rng, **examples)
        opt = init_opt_state(players, params)
        averages = init_ema(AVERAGED if config.half_life else (), params)
        extra = {"w_mean": jnp.zeros(config.latent)} | averages
        return State(jnp.int32(0), params, opt, extra)

    def step(state, batch, rng, axis_name=None):
        x = seen(batch["image"])
        first, second, third = (
            draw(key, x.shape[0], mixed)
            for key, mixed in zip(jax.random.split(rng, 3), (True, True, False), strict=True)
        )

        def made(p, drawn, w_mean):
            w, styles = latents(p, drawn)
            w_mean = W_KEEP * w_mean + (1 - W_KEEP) * jnp.mean(w, axis=0)
            return generated(p, styles, drawn.noise), w_mean

        def critic(p, w_mean):
            fake, w_mean = made(p, first, w_mean)
            cost = jnp.mean(gan.fake_loss(judged(p, fake))) + jnp.mean(gan.real_loss(judged(p, x)))
            slope = (
                losses.mean_squared_gradient_norm(lambda x: judged(p, x), x)
                if config.r1
                else jnp.zeros(())
            )
            total = cost + 0.5 * config.r1 * slope
            return total, ({"critic": total, "slope": slope}, w_mean)

        def generator(p, w_mean):
            fake, w_mean = made(p, second, w_mean)
            cost = jnp.mean(gan.generator_loss(judged(p, fake)))
            return cost, ({"generator": cost}, w_mean)

        def reciprocity(p, w_mean):
            w, styles = latents(p, third)
            found = network(p, {}, "enc", generated(p, styles, third.noise))
            # Without this F would shrink w, which makes any guess a good one.
            target = third.z if config.reciprocity == "z" else jax.lax.stop_gradient(w)
            cost = jnp.mean(jnp.square(target - found))
            spread = jnp.mean(jnp.var(all_gather(w, axis_name), axis=0))
            return cost, ({"loss": cost, "reciprocity": cost, "spread": spread}, w_mean)

        turns = {"critic": critic, "generator": generator, "reciprocity": reciprocity}
        params, opt, w_mean, metrics = step_players(
            players, turns, state.params, state.opt, state.extra["w_mean"], axis_name
        )
        shares = 1 if axis_name is None else jax.lax.axis_size(axis_name)
        keep = 0.5 ** (shares * x.shape[0] / max(config.half_life, 1))
        extra = {"w_mean": w_mean} | update_ema(keep, state.extra, params)
        return State(state.step + 1, params, opt, extra), metrics

    def code_of(p, z, w):
        return z if config.reciprocity == "z" else w

    def encode(state, x, rng):
        return network(eval_params(state)[0], {}, "enc", seen(x))

    def rendered(state, styles, rng):
        p = eval_params(state)[0]
        return shown(generated(p, styles, noise_of(rng, styles.shape[0])))

    def decode(state, z, rng):
        if config.reciprocity == "z":
            z = network(eval_params(state)[0], {}, "map", z)
        return rendered(state, alike(z), rng)

    def prior(rng, n):
        return jax.random.normal(rng, (n, config.latent))

    def sample(state, rng, n):
        of_z, of_noise = jax.random.split(rng)
        styles = alike(network(eval_params(state)[0], {}, "map", prior(of_z, n)))
        mean = state.extra["w_mean"][None, None]
        pulled = (jnp.arange(inputs) < TRUNCATED)[None, :, None]
        truncated = mean + config.truncation * (styles - mean)
        return rendered(state, jnp.where(pulled, truncated, styles), of_noise)

    def mix(state, x, y, rng):
        """x with its coarse, middle or fine styles replaced by those of y (two kinds at 8x8)."""
        w_x, w_y = (alike(encode(state, image, rng)) for image in (x, y))
        kinds = np.array_split(np.arange(inputs).reshape(-1, 2), min(3, inputs // 2))
        found = []
        for key, kind in zip(jax.random.split(rng, len(kinds)), kinds, strict=True):
            theirs = np.isin(np.arange(inputs), kind)[None, :, None]
            found.append(rendered(state, jnp.where(theirs, w_y, w_x), key))
        return jnp.stack(found)

    def reciprocal(state, rng, n):
        """n codes, F(z) or z, and what the encoder finds of them in their images."""
        of_z, of_noise = jax.random.split(rng)
        z = prior(of_z, n)
        code = code_of(state, z, network(eval_params(state)[0], {}, "map", z))
        return code, encode(state, decode(state, code, of_noise), rng)

    def evaluate(state, batch, rng):
        """`loss`: half the squared error of G(E(x)), summed over pixels; `reciprocity`: that of the
        code of a generated image, one for each example, averaged over Z."""
        x, (of_image, of_z) = batch["image"], jax.random.split(rng)
        error = losses.half_squared_error(decode(state, encode(state, x, rng), of_image), x)
        code, found = reciprocal(state, of_z, x.shape[0])
        return {
            "loss": error,
            "mse": 2 * error / x[0].size,
            "reciprocity": jnp.mean(jnp.square(code - found), axis=-1),
        }

    def assess(state, data, rng):
        """Reciprocity beside the variance of the code, and how near reconstructions come."""
        of_codes, of_images = jax.random.split(rng)
        code, found = jax.jit(reciprocal, static_argnums=2)(state, of_codes, 1000)
        error, variance = jnp.mean(jnp.square(code - found)), jnp.mean(jnp.var(code, axis=0))
        back = jax.jit(lambda s, batch, rng: decode(s, encode(s, batch["image"], rng), rng))
        return {
            "reciprocity_error": float(error),
            "code_variance": float(variance),
            "reciprocity_share": float(error / variance),
        } | reconstruction_ratio(back, state, data, of_images)

    return Model(
        init,
        step,
        evaluate,
        encode=encode,
        decode=decode,
        sample=sample,
        prior=prior if config.reciprocity == "z" else None,
        assess=assess,
        mix=mix if styled and config.reciprocity == "w" else None,
        draws=True,
    )


def _networks(config: Config, spec: Spec) -> nets.Bundle:
    """map: z -> w; gen: styles, noise -> x; enc (and eye): x -> w; dis: w -> D."""
    shape, found = spec.image_shape, {"map": Mapping(config.map_layers)}
    if config.network == "mlp":
        # z has both signs alike, so whoever finds z is not rectified at the end.
        last = 1.0 if config.reciprocity == "z" else config.slope
        found["gen"] = DenseGenerator(shape, config.widths[::-1], config.slope)
        encoder = lambda: DenseEncoder(config.widths, config.latent, last)
    else:
        sizes = shape, config.conv_width, config.conv_most
        colour, floor = _mean_colour(config, spec), config.norm_floor
        found["gen"] = style.StyleGenerator(*sizes, config.last_gain, colour, floor)
        encoder = lambda: style.StyleEncoder(*sizes, config.latent, floor)
    found["enc"] = encoder()
    if config.separate:
        found["eye"] = encoder()
    found["dis"] = Judge(config.critic_layers, config.d_activation == "leaky_relu")
    return nets.Bundle(**found)


def _mean_colour(config: Config, spec: Spec) -> np.ndarray:
    """`[C]` where G begins, before any squashing: at the training images' mean colour."""
    mean = np.asarray(spec.mean, np.float32).mean((0, 1))
    if config.output == "sigmoid":
        mean = np.clip(mean, 0.01, 0.99)
        return np.log(mean) - np.log1p(-mean)
    return 2 * mean - 1 if config.centred else mean


def _players(config: Config) -> dict[str, Player]:
    """Who moves what."""
    shared = config.moments == "shared"
    recipients = ("enc", "gen", "map") if config.update_f_in_reciprocity else ("enc", "gen")
    rests = ("dis",) if shared and not config.separate else ()
    owns = {
        "critic": ("eye" if config.separate else "enc", "dis"),
        "generator": ("map", "gen"),
        "reciprocity": (*recipients, *rests),
    }
    rates = {
        "critic": config.critic_rate,
        "generator": config.learning_rate,
        "reciprocity": config.reciprocity_rate,
    }
    # A shared state counts the moves of all turns, of which a rate falls by one share each.
    moves = Counter(name for names in owns.values() for name in names) if shared else {}

    def descent(rate, name):
        steps = config.decay_steps * moves.get(name, 1)
        return adam(rate, steps, config.beta1, config.beta2)

    return {
        turn: Player(names, per_network({n: descent(rates[turn], n) for n in names}), shared)
        for turn, names in owns.items()
    }
