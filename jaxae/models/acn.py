"""ACN: a code is cheap when a similar item has been sent already.

Graves, Menick & van den Oord 2018, arXiv:1804.02476. The objective, the prior network's family
and the daydream protocol follow published summaries of the paper; its tables and architecture
section could not be read, so sizes, optimiser and number of mixture components are ours.

x [B,H,W,C] image; c [B,d] its code; q(z|x) = N(c, I); memory C [N,d] holds the last code of each
training image; c^ is one of the K rows nearest to c, itself excluded by index; the prior network
gives p(z|c^), a mixture of M Gaussians for each dimension; r(x|z) is the decoder.

    loss = KL(q(z|x) || p(z|c^)) - log r(x|z)          one player, one optimiser

The memory is data that the step writes, before it looks anything up; no gradient enters it.
Options and their sources are in the Config. `variant` turns the same networks into the baselines.
The vq decoder, not the paper's, adds the penalty of its table to what is minimised.
Deviations: the KL is integrated by quadrature (the paper most likely sampled it).
"""

import dataclasses
from typing import Annotated, Literal

import jax
import jax.numpy as jnp

from jaxae import losses, nets
from jaxae.fields import (
    Checked,
    Count,
    Depth,
    DepthOrZero,
    Positive,
    Range,
    Rate,
    Size,
    SizeOrZero,
    StepsOrZero,
    Weight,
)
from jaxae.models import acn_costs, acn_memory, acn_networks
from jaxae.models.vae import gaussian_draw, mean_and_log_var
from jaxae.training.state import Model, Spec, State, adam, descend, gathered

ASSOCIATIVE = ("acn", "gaussian_neighbour")
# With them at hand a code costs less than without: no bound, unlike `total_unordered` of `assess`.
GIVEN_NEIGHBOURS = {"loss": "loss_given_neighbours", "rate": "rate_given_neighbours"}
REPORT_NODES = 64  # evaluation can afford what narrow components need


@dataclasses.dataclass(frozen=True)
class Config(Checked):
    """Every field is a flag of the command line; the line below a field is its help text."""

    latent: Size = 16
    """size d of the code"""
    variant: Literal["acn", "unconditional", "gaussian_neighbour", "vae", "vae_unit", "decoder"] = (
        "acn"
    )
    """acn, or a baseline with the same networks: the prior network without its neighbour,
    N(c^, s^2 I) with s learned, a VAE, a VAE of unit variance, the decoder alone (without a code:
    z is 0)"""
    encoder: Literal["mlp", "conv"] = "mlp"
    """dense or convolutional encoder"""
    decoder: Literal["mlp", "conv", "vq", "made", "pixelcnn"] = "made"
    """independent pixels (mlp, conv, vq), or each pixel given those before it (made, pixelcnn);
    vq passes the code through a table of vectors (experimental)"""
    widths: tuple[Size, ...] = (256, 256)
    """hidden layers of dense encoders and decoders"""
    activation: str = "relu"
    """relu, tanh, gelu, silu, elu, leaky_relu or sigmoid"""
    conv_width: Size = 32
    """channels of the first convolution, doubled at each halving of the image"""
    conv_blocks: DepthOrZero = 2
    """residual blocks of the convolutional networks"""
    pixelcnn_width: Size = 16
    """channels of the gated PixelCNN"""
    pixelcnn_layers: Depth = 5
    """layers of the gated PixelCNN"""
    pixelcnn_map: SizeOrZero = 0
    """channels of the map of the image's size as which z is laid out for the PixelCNN's gates; 0: z
    speaks to all places alike"""
    vq_codes: Size = 512
    """vectors in the table of decoder vq"""
    vq_width: Size = 256
    """length of a vector of the table; latent must be a multiple of the positions of a map with
    the image's sides divided by four, such as 98 for 28x28 and 8 for 8x8"""
    vq_weight: Weight = 0.1
    """weight of the squared distances, summed, that hold the table and its inputs together: at 1
    the code withers, at 0.01 both run away from each other"""
    likelihood: Literal["bernoulli", "gaussian", "logistic_mixture"] = "bernoulli"
    """distribution of a pixel"""
    scale: Positive = 0.1
    """standard deviation of a pixel (gaussian)"""
    mixtures: Size = 5
    """components of the logistic mixture"""
    prior_widths: tuple[Size, ...] = (128, 128, 128)
    """tanh layers of the prior network; each sees the code, each feeds the output"""
    components: Size = 4
    """Gaussians M in the prior of each dimension"""
    neighbours: Size = 5
    """K: the conditioning code is drawn from the K nearest"""
    kl: Literal["quadrature", "sample"] = "quadrature"
    """integrate the KL exactly, or estimate it at the decoder's z"""
    nodes: Annotated[int, Range(2, 1_000)] = 16
    """quadrature nodes per dimension in training; evaluation takes at least 64 (on digits, after
    2,000 steps, 16 and 64 differ by 5e-7 nats)"""
    only_written: bool = False
    """look only among rows that a step has written (any row while there are fewer than K)"""
    unique_neighbours: bool = False
    """let each row serve once per pass over the data"""
    decoder_first: StepsOrZero = 0
    """steps in which the decoder learns alone, before encoder and codes join; Adam's moments and
    decay_steps begin anew when they do"""
    unordered: Literal["mixture", "gmm", "network"] = "mixture"
    """the one prior of rate_unordered: mixture of the conditionals over training codes, a Gaussian
    mixture fitted to them, or a prior network without input fitted to them"""
    unordered_items: Count = 1000
    """test images, spread evenly over the test set, on which rate_unordered and total_unordered are
    measured"""
    unordered_codes: Count = 10_000
    """training codes in the mixture of conditionals; Gaussians in gmm are 50"""
    daydream_mode: Literal["sample", "mean"] = "sample"
    """sample z and x at each link of a daydream, or take the means (runs into a fixed point)"""
    learning_rate: Rate = 1e-3
    """Adam's rate at the first step"""
    decay_steps: StepsOrZero = 0
    """steps in which the rate falls to zero along a cosine (0: constant)"""

    def __post_init__(self):
        super().__post_init__()
        if self.unique_neighbours and self.variant not in ASSOCIATIVE:
            raise ValueError(f"unique_neighbours needs neighbours: variant={self.variant} has none")


def make(config: Config, spec: Spec) -> Model:
    """ACN, or the baseline that `config.variant` names, for images of `spec`.

    Raises:
        ValueError: more neighbours than training images leave, or a network that cannot take them.
    """
    d, k, size = config.latent, config.neighbours, spec.size
    associative, coded = config.variant in ASSOCIATIVE, config.variant != "decoder"
    if associative and k > size - 1:
        raise ValueError(f"neighbours={k}, but {size} training images leave only {size - 1}")
    pixel = losses.likelihood(
        config.likelihood,
        spec.image_shape,
        levels=spec.levels,
        scale=config.scale,
        mixtures=config.mixtures,
    )
    learned_variance = config.variant == "vae"
    encoder = acn_networks.encoder(config, 2 * d if learned_variance else d)
    decoder = acn_networks.decoder(config, spec, pixel.channels)
    autoregressive = config.decoder in ("made", "pixelcnn")
    prior_network = acn_networks.PriorNetwork(d, config.components, config.prior_widths)
    report_nodes = max(config.nodes, REPORT_NODES)
    tx = adam(config.learning_rate, config.decay_steps)

    # -- the parts of the objective ------------------------------------------------------------

    def posterior(p, x):
        """c, or the VAE's mean, and the log-variance (0 but for the VAE): [B,d] each."""
        out = encoder.apply({"params": p["enc"]}, x)
        if not learned_variance:
            return out, jnp.zeros_like(out)
        return mean_and_log_var(out)

    def prior(p, neighbour):
        """p(z|neighbour) as a mixture: logits, means, log_scales [B,d,M]."""
        if config.variant == "acn":
            return prior_network.apply({"params": p["prior"]}, neighbour)
        if config.variant == "unconditional":
            return prior_network.apply({"params": p["prior"]}, jnp.zeros_like(neighbour))
        means = neighbour if config.variant == "gaussian_neighbour" else jnp.zeros_like(neighbour)
        log_s = p["prior"]["log_s"] if config.variant == "gaussian_neighbour" else 0.0
        means = means[..., None]
        return jnp.zeros_like(means), means, jnp.full_like(means, 1.0) * log_s

    def rate_of(p, mean, log_var, z, neighbour, nodes=report_nodes):
        """KL(q || p(.|neighbour)), [B] nats."""
        if config.variant == "decoder":
            return jnp.zeros(mean.shape[0])
        if learned_variance:
            return losses.kl_to_standard_normal(mean, log_var)
        mixture = prior(p, neighbour)
        if config.kl == "sample":
            return losses.kl_unit_gaussian_to_mixture_sampled(mean, z, *mixture)
        if mixture[0].shape[-1] == 1:
            _, means, log_scales = (part[..., 0] for part in mixture)
            return losses.kl_unit_gaussian_to_gaussian(mean, means, log_scales)
        return losses.kl_unit_gaussian_to_mixture(mean, *mixture, nodes)

    def render(p, x, z):
        """The decoder's outputs at every pixel; only autoregressive decoders look at x."""
        args = (x, z) if autoregressive else (z,)
        out = decoder.apply({"params": p["dec"]}, *args)
        return out.reshape(-1, *spec.image_shape[:2], pixel.channels)

    def table_penalty(p, z):
        """What holds the vq decoder's table and its inputs together, [B]; no nats."""
        return decoder.apply({"params": p["dec"]}, z, method="penalty")

    def draw(mean, log_var, rng):
        if config.variant == "decoder":
            return jnp.zeros_like(mean)
        return gaussian_draw(mean, log_var, jax.random.normal(rng, mean.shape))

    # -- the contract --------------------------------------------------------------------------

    def init(rng):
        of_encoder, of_decoder, of_prior, of_memory = jax.random.split(rng, 4)
        x, z = jnp.zeros((1, *spec.image_shape)), jnp.zeros((1, d))
        params = {
            "enc": encoder.init(of_encoder, x)["params"],
            "dec": decoder.init(of_decoder, *((x, z) if autoregressive else (z,)))["params"],
        }
        if config.variant in ("acn", "unconditional"):
            params["prior"] = prior_network.init(of_prior, z)["params"]
        if config.variant == "gaussian_neighbour":
            params["prior"] = {"log_s": jnp.float32(0.0)}
        extra = {}
        if associative:
            extra = acn_memory.empty(of_memory, size, d, config.unique_neighbours)
        return State(jnp.int32(0), params, {"autoencoder": tx.init(params)}, extra)

    def step(state, batch, rng, axis_name=None):
        x, index, extra = batch["image"], batch["index"], state.extra
        of_choice, of_z = jax.random.split(rng)
        neighbour, seen = jnp.zeros((x.shape[0], d)), {}
        if associative:
            code = jax.lax.stop_gradient(posterior(state.params, x)[0])
            everyone = gathered((index, code), axis_name)
            if config.unique_neighbours:
                extra = acn_memory.begin_pass(extra, state.step, len(everyone[0]))
            extra, drift = acn_memory.write(extra, *everyone)
            row, extra = acn_memory.choose(
                extra,
                code,
                index,
                of_choice,
                k=k,
                only_written=config.only_written,
                axis_name=axis_name,
            )
            neighbour = jax.lax.stop_gradient(extra["memory"][row])
            seen = {"memory_drift": drift, "memory_written": jnp.mean(extra["written"])}

        def loss(p):
            mean, log_var = posterior(p, x)
            z = draw(mean, log_var, of_z)
            rate = jnp.mean(rate_of(p, mean, log_var, z, neighbour, config.nodes))
            joined = jnp.float32(state.step >= config.decoder_first)
            distortion = jnp.mean(pixel.nll(render(p, x, joined * z), x))
            total = joined * rate + distortion
            metrics = {"rate": rate, "distortion": distortion} | seen
            if config.decoder == "vq":
                metrics["vq"] = jnp.mean(table_penalty(p, joined * z))
                total += config.vq_weight * metrics["vq"]
            return total, {"loss": total} | metrics

        opt = state.opt["autoencoder"]
        if config.decoder_first:
            # Adam's averages over steps without gradients would make the first moves six times
            # too long, which a code that has just joined does not survive.
            anew = state.step == config.decoder_first
            fresh = tx.init(state.params)
            opt = jax.tree.map(lambda new, old: jnp.where(anew, new, old), fresh, opt)
        params, opt, metrics = descend(loss, tx, state.params, opt, axis_name)
        state = state.replace(
            step=state.step + 1, params=params, opt={"autoencoder": opt}, extra=extra
        )
        return state, metrics

    def rate_given(p, mean, log_var, z, rows, memory):
        """Mean rate over neighbours `rows` [B,K] of `memory`: [B] nats."""
        return jnp.mean(
            jax.vmap(lambda row: rate_of(p, mean, log_var, z, memory[row]), 1, 1)(rows), axis=1
        )

    def evaluate(state, batch, rng):
        x, p = batch["image"], state.params
        mean, log_var = posterior(p, x)
        z = draw(mean, log_var, rng)
        distortion = pixel.nll(render(p, x, z), x)
        if associative:
            memory = state.extra["memory"]
            rows, _ = nets.nearest(mean, memory, k, exclude=batch["index"])
            rate = rate_given(p, mean, log_var, z, rows, memory)
        else:
            rate = rate_of(p, mean, log_var, z, jnp.zeros_like(mean))
        return {"loss": rate + distortion, "rate": rate, "distortion": distortion}

    def encode(state, x, rng):
        return posterior(state.params, x)[0]

    def paint(p, z, rng, mean: bool):
        if not autoregressive:
            out = render(p, None, z)
            return pixel.mean(out) if mean else pixel.sample(out, rng)
        one = pixel.mean if mean else pixel.sample
        pick = lambda out, key: one(out) if mean else one(out, key)
        shape = (z.shape[0], *spec.image_shape)
        return decoder.sample({"params": p["dec"]}, shape, z, rng, pick)

    def decode(state, z, rng):
        return paint(state.params, z, rng, mean=not autoregressive)

    def from_mixture(mixture, rng, mean: bool = False):
        logits, means, log_scales = mixture
        of_component, of_noise = jax.random.split(rng)
        if mean:
            return jnp.sum(jax.nn.softmax(logits) * means, axis=-1)
        which = jax.random.categorical(of_component, logits)[..., None]
        loc, log_s = (
            jnp.take_along_axis(part, which, axis=-1)[..., 0] for part in (means, log_scales)
        )
        return loc + jnp.exp(log_s) * jax.random.normal(of_noise, loc.shape)

    def sample(state, rng, n):
        of_row, of_z, of_x = jax.random.split(rng, 3)
        if config.variant in ("decoder", "vae"):
            scale = 0.0 if config.variant == "decoder" else 1.0
            z = scale * jax.random.normal(of_z, (n, d))
        else:
            condition = jnp.zeros((n, d))
            if associative:
                condition = state.extra["memory"][jax.random.randint(of_row, (n,), 0, size)]
            z = from_mixture(prior(state.params, condition), of_z)
        return paint(state.params, z, of_x, mean=not autoregressive)

    def daydream(state, x, rng):
        of_z, of_x = jax.random.split(rng)
        as_mean = config.daydream_mode == "mean"
        mean, log_var = posterior(state.params, x)
        if associative:
            z = from_mixture(prior(state.params, mean), of_z, as_mean)
        else:
            z = mean if as_mean and coded else draw(mean, log_var, of_z)
        return paint(state.params, z, of_x, as_mean)

    def refresh(state, batch, rng):
        code = posterior(state.params, batch["image"])[0]
        return state.replace(extra=acn_memory.write(state.extra, batch["index"], code)[0])

    # -- what a whole set costs ----------------------------------------------------------------

    parts = acn_costs.Parts(
        code=lambda p, x: posterior(p, x)[0],
        rate=lambda p, mean, z, neighbour: rate_of(p, mean, jnp.zeros_like(mean), z, neighbour),
        prior=prior,
        distortion=lambda p, x, z: pixel.nll(render(p, x, z), x),
    )

    def assess(state, data, rng):
        """The costs of the whole test set, defined in `acn_costs`."""
        return acn_costs.of_set(
            parts,
            state.params,
            data,
            rng,
            neighbours=k,
            components=config.components,
            unordered=config.unordered,
            unordered_items=config.unordered_items,
            unordered_codes=config.unordered_codes,
        )

    return Model(
        init,
        step,
        evaluate,
        encode=encode if coded else None,
        decode=decode if coded else None,
        sample=sample,
        assess=assess if associative else None,
        daydream=daydream,
        refresh=refresh if associative else None,
        draws=autoregressive,
        likelihood=config.likelihood,
        result_names=GIVEN_NEIGHBOURS if associative else {},
    )
