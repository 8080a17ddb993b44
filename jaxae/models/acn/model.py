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

import jax
import jax.numpy as jnp

from jaxae import losses, nets
from jaxae.models.acn import costs, networks
from jaxae.models.acn import memory as code_memory
from jaxae.models.acn.config import ASSOCIATIVE, Config
from jaxae.models.shared.gaussian import mean_and_log_var, reparameterise
from jaxae.training.state import Model, Spec, State, adam, all_gather, descend

# With them at hand a code costs less than without: no bound, unlike `total_unordered` of `assess`.
GIVEN_NEIGHBOURS = {"loss": "loss_given_neighbours", "rate": "rate_given_neighbours"}
REPORT_NODES = 64  # evaluation can afford what narrow components need


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
    encoder = networks.encoder(config, 2 * d if learned_variance else d)
    decoder = networks.decoder(config, spec, pixel.channels)
    autoregressive = config.decoder in ("made", "pixelcnn")
    prior_network = networks.PriorNetwork(d, config.components, config.prior_widths)
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
        return reparameterise(mean, log_var, jax.random.normal(rng, mean.shape))

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
            extra = code_memory.empty(of_memory, size, d, config.unique_neighbours)
        return State(jnp.int32(0), params, {"autoencoder": tx.init(params)}, extra)

    def step(state, batch, rng, axis_name=None):
        x, index, extra = batch["image"], batch["index"], state.extra
        of_choice, of_z = jax.random.split(rng)
        neighbour, seen = jnp.zeros((x.shape[0], d)), {}
        if associative:
            code = jax.lax.stop_gradient(posterior(state.params, x)[0])
            everyone = all_gather((index, code), axis_name)
            if config.unique_neighbours:
                extra = code_memory.begin_pass(extra, state.step, len(everyone[0]))
            extra, drift = code_memory.write(extra, *everyone)
            row, extra = code_memory.choose(
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
        return state.replace(extra=code_memory.write(state.extra, batch["index"], code)[0])

    # -- what a whole set costs ----------------------------------------------------------------

    parts = costs.Parts(
        code=lambda p, x: posterior(p, x)[0],
        rate=lambda p, mean, z, neighbour: rate_of(p, mean, jnp.zeros_like(mean), z, neighbour),
        prior=prior,
        distortion=lambda p, x, z: pixel.nll(render(p, x, z), x),
    )

    def assess(state, data, rng):
        """The costs of the whole test set, defined in `costs`."""
        return costs.of_set(
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
