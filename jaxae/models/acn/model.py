"""ACN: an associative compression network, whose prior of a code is given a similar image's code.

Graves, Menick & van den Oord 2018, arXiv:1804.02476. The objective, the prior network's family
and the daydreams follow published summaries of the paper; its tables and architecture section
could not be read, so sizes, optimiser and number of mixture components are ours.

x [B,H,W,C] image; c [B,d] its code; q(z|x) = N(c, I); memory C [N,d] holds the last code of each
training image; c^ is the neighbour: one of the K rows of C nearest to c, chosen at random, never
the image's own row; p(z|c^) is the prior network's mixture of M Gaussians for each dimension;
r(x|z) is the decoder.

    loss = KL(q(z|x) || p(z|c^)) - log r(x|z)          one player, one optimiser

Order of a step: codes of the batch; write them to the memory; choose neighbours; update the
networks. The memory is data: no gradient enters it.
Options and their sources are in the Config. `variant` turns the same networks into the baselines.
The vq decoder, which is not the paper's, adds the loss of its codebook to what is minimised.
Deviation: the KL is integrated by quadrature (the paper most likely sampled it).
"""

import jax
import jax.numpy as jnp

from jaxae import losses, nets
from jaxae.models.acn import costs
from jaxae.models.acn import memory as code_memory
from jaxae.models.acn import networks as default_networks
from jaxae.models.acn.config import ASSOCIATIVE, Config
from jaxae.models.shared.gaussian import mean_and_log_var, reparameterise
from jaxae.nets.custom import Networks, replace_networks
from jaxae.training.state import Model, Spec, State, adam, all_gather, descend

# Names in results: a rate given neighbours is no bound on -log p(x), `total_unordered` is one.
GIVEN_NEIGHBOURS = {"loss": "loss_given_neighbours", "rate": "rate_given_neighbours"}
SAMPLE = "sample(variables, shape, z, rng, draw)"
EVALUATION_NODES = 64  # at least; narrow components need them


def make(config: Config, spec: Spec, networks: Networks = None) -> Model:
    """ACN, or the baseline that `config.variant` names, for images of `spec`.

    Args:
        config: the settings.
        spec: of the data.
        networks: flax modules in place of the model's own, by their names in `State.params`:
            `enc`: x `[B,H,W,C]` -> c `[B,d]`; with variant=vae `[B,2d]`, means and log-variances.
            `dec`: z `[B,d]` -> the likelihood's parameters, `[B,H,W,channels]` with decoder=conv
            and `[B, H W channels]` with decoder=mlp. With decoder=made or pixelcnn it takes x
            `[B,H,W,C]` and z and gives `[B,H,W,channels]`; the outputs of a pixel must not depend
            on that pixel or later ones in raster order (this is not checked), and the module needs
            a method `sample(variables, shape, z, rng, draw)` that samples pixel by pixel, as
            `nets.MaskedMLP` has it (`nets.made.sample_by_passes` serves any module). The decoder vq
            cannot be replaced: its codebook has a loss of its own.
            `prior` (variants acn, unconditional): the neighbour's code `[B,d]` -> logits, means and
            log-scales of the mixtures, `[B,d,M]` each.
            `channels` is C (Bernoulli logits, Gaussian means), or for logistic_mixture that of
            `losses.likelihood`.
    Raises:
        ValueError: more neighbours than other training images; a network that cannot take images of
            this size; or networks of other names or output shapes, or without `sample`.
    """
    d, k, size = config.latent, config.neighbours, spec.size
    associative, has_code = config.variant in ASSOCIATIVE, config.variant != "decoder"
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
    autoregressive = config.decoder in ("made", "pixelcnn")
    defaults = {
        "enc": default_networks.encoder(config, 2 * d if learned_variance else d),
        "dec": default_networks.decoder(config, spec, pixel.channels),
    }
    if config.variant in ("acn", "unconditional"):
        defaults["prior"] = default_networks.PriorNetwork(d, config.components, config.prior_widths)

    def example_inputs():
        x, z = jnp.zeros((1, *spec.image_shape)), jnp.zeros((1, d))
        return {"enc": (x,), "dec": (x, z) if autoregressive else (z,), "prior": (z,)}

    if config.decoder == "vq" and "dec" in (networks or {}):
        raise ValueError("networks['dec']: the decoder vq cannot be replaced, take another decoder")
    networks = replace_networks(
        defaults, networks, example_inputs, {"dec": SAMPLE} if autoregressive else None
    )
    evaluation_nodes = max(config.nodes, EVALUATION_NODES)
    tx = adam(config.learning_rate, config.decay_steps)

    # -- the parts of the objective ------------------------------------------------------------

    def posterior(p, x):
        """Mean (the code c) and log-variance of q(z|x), `[B,d]`; only variant=vae learns it."""
        out = networks["enc"].apply({"params": p["enc"]}, x)
        if not learned_variance:
            return out, jnp.zeros_like(out)
        return mean_and_log_var(out)

    def prior(p, neighbour):
        """p(z|neighbour), a mixture: logits, means, log_scales `[B,d,M]`."""
        if config.variant == "acn":
            return networks["prior"].apply({"params": p["prior"]}, neighbour)
        if config.variant == "unconditional":
            return networks["prior"].apply({"params": p["prior"]}, jnp.zeros_like(neighbour))
        means = neighbour if config.variant == "gaussian_neighbour" else jnp.zeros_like(neighbour)
        log_s = p["prior"]["log_s"] if config.variant == "gaussian_neighbour" else 0.0
        means = means[..., None]
        return jnp.zeros_like(means), means, jnp.full_like(means, 1.0) * log_s

    def kl_to_prior(p, mean, log_var, z, neighbour, nodes=evaluation_nodes):
        """KL(q(z|x) || p(z|neighbour)), `[B]` nats."""
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

    def decode_outputs(p, x, z):
        """The parameters of r(x|z), `[B,H,W,channels]`; x is read by autoregressive decoders."""
        args = (x, z) if autoregressive else (z,)
        out = networks["dec"].apply({"params": p["dec"]}, *args)
        return out.reshape(-1, *spec.image_shape[:2], pixel.channels)

    def quantisation_loss(p, z):
        """Of the vq decoder: between its codebook and the codebook's inputs, `[B]`, not in nats."""
        return networks["dec"].apply({"params": p["dec"]}, z, method="quantisation_loss")

    def sample_gaussian(mean, log_var, rng):
        if config.variant == "decoder":
            return jnp.zeros_like(mean)
        return reparameterise(mean, log_var, jax.random.normal(rng, mean.shape))

    # -- the contract --------------------------------------------------------------------------

    def init(rng):
        *network_keys, memory_key = jax.random.split(rng, 4)
        keys = dict(zip(("enc", "dec", "prior"), network_keys, strict=True))
        inputs = example_inputs()
        params = {
            name: network.init(keys[name], *inputs[name])["params"]
            for name, network in networks.items()
        }
        if config.variant == "gaussian_neighbour":
            params["prior"] = {"log_s": jnp.float32(0.0)}
        extra = {}
        if associative:
            extra = code_memory.empty(memory_key, size, d, config.unique_neighbours)
        return State(jnp.int32(0), params, {"autoencoder": tx.init(params)}, extra)

    def step(state, batch, rng, axis_name=None):
        x, index, extra = batch["image"], batch["index"], state.extra
        neighbour_key, z_key = jax.random.split(rng)
        neighbour, memory_metrics = jnp.zeros((x.shape[0], d)), {}
        if associative:
            code = jax.lax.stop_gradient(posterior(state.params, x)[0])
            all_indices, all_codes = all_gather((index, code), axis_name)
            if config.unique_neighbours:
                extra = code_memory.reset_used(extra, state.step, len(all_indices))
            extra, drift = code_memory.write(extra, all_indices, all_codes)
            row, extra = code_memory.choose_neighbours(
                extra,
                code,
                index,
                neighbour_key,
                k=k,
                only_written=config.only_written,
                axis_name=axis_name,
            )
            neighbour = jax.lax.stop_gradient(extra["memory"][row])
            memory_metrics = {
                "memory_drift": drift,
                "memory_written": jnp.mean(extra["written"]),
            }

        def loss_fn(p):
            mean, log_var = posterior(p, x)
            z = sample_gaussian(mean, log_var, z_key)
            rate = jnp.mean(kl_to_prior(p, mean, log_var, z, neighbour, config.nodes))
            use_code = jnp.float32(state.step >= config.decoder_first)
            distortion = jnp.mean(pixel.nll(decode_outputs(p, x, use_code * z), x))
            loss = use_code * rate + distortion
            metrics = {"rate": rate, "distortion": distortion} | memory_metrics
            if config.decoder == "vq":
                metrics["vq"] = jnp.mean(quantisation_loss(p, use_code * z))
                loss += config.vq_weight * metrics["vq"]
            return loss, {"loss": loss} | metrics

        opt = state.opt["autoencoder"]
        if config.decoder_first:
            # Moments averaged over steps without gradients would make the first steps with the
            # code six times too long, after which the code carries no information.
            starts = state.step == config.decoder_first
            reset = tx.init(state.params)
            opt = jax.tree.map(lambda new, old: jnp.where(starts, new, old), reset, opt)
        params, opt, metrics = descend(loss_fn, tx, state.params, opt, axis_name)
        state = state.replace(
            step=state.step + 1, params=params, opt={"autoencoder": opt}, extra=extra
        )
        return state, metrics

    def mean_kl(p, mean, log_var, z, rows, memory):
        """Mean over the neighbours `rows` `[B,K]` of `memory`: `[B]` nats."""
        return jnp.mean(
            jax.vmap(lambda row: kl_to_prior(p, mean, log_var, z, memory[row]), 1, 1)(rows),
            axis=1,
        )

    def evaluate(state, batch, rng):
        x, p = batch["image"], state.params
        mean, log_var = posterior(p, x)
        z = sample_gaussian(mean, log_var, rng)
        distortion = pixel.nll(decode_outputs(p, x, z), x)
        if associative:
            memory = state.extra["memory"]
            rows, _ = nets.nearest(mean, memory, k, exclude=batch["index"])
            rate = mean_kl(p, mean, log_var, z, rows, memory)
        else:
            rate = kl_to_prior(p, mean, log_var, z, jnp.zeros_like(mean))
        return {"loss": rate + distortion, "rate": rate, "distortion": distortion}

    def encode(state, x, rng):
        return posterior(state.params, x)[0]

    def decode_image(p, z, rng, mean: bool):
        """Images `[B,H,W,C]`: samples of r(x|z), or the mean of each pixel."""
        if not autoregressive:
            out = decode_outputs(p, None, z)
            return pixel.mean(out) if mean else pixel.sample(out, rng)
        draw = (lambda out, key: pixel.mean(out)) if mean else pixel.sample
        shape = (z.shape[0], *spec.image_shape)
        return networks["dec"].sample({"params": p["dec"]}, shape, z, rng, draw)

    def decode(state, z, rng):
        return decode_image(state.params, z, rng, mean=not autoregressive)

    def sample_mixture(mixture, rng, mean: bool = False):
        """z `[B,d]`: samples of the mixtures, or their means."""
        logits, means, log_scales = mixture
        component_key, noise_key = jax.random.split(rng)
        if mean:
            return jnp.sum(jax.nn.softmax(logits) * means, axis=-1)
        component = jax.random.categorical(component_key, logits)[..., None]
        loc, log_scale = (
            jnp.take_along_axis(part, component, axis=-1)[..., 0] for part in (means, log_scales)
        )
        return loc + jnp.exp(log_scale) * jax.random.normal(noise_key, loc.shape)

    def sample(state, rng, n):
        row_key, z_key, x_key = jax.random.split(rng, 3)
        if config.variant in ("decoder", "vae"):
            scale = 0.0 if config.variant == "decoder" else 1.0
            z = scale * jax.random.normal(z_key, (n, d))
        else:
            neighbour = jnp.zeros((n, d))
            if associative:
                neighbour = state.extra["memory"][jax.random.randint(row_key, (n,), 0, size)]
            z = sample_mixture(prior(state.params, neighbour), z_key)
        return decode_image(state.params, z, x_key, mean=not autoregressive)

    def daydream(state, x, rng):
        z_key, x_key = jax.random.split(rng)
        as_mean = config.daydream_mode == "mean"
        mean, log_var = posterior(state.params, x)
        if associative:
            z = sample_mixture(prior(state.params, mean), z_key, as_mean)
        else:
            z = mean if as_mean and has_code else sample_gaussian(mean, log_var, z_key)
        return decode_image(state.params, z, x_key, as_mean)

    def refresh(state, batch, rng):
        code = posterior(state.params, batch["image"])[0]
        return state.replace(extra=code_memory.write(state.extra, batch["index"], code)[0])

    # -- costs of a whole set ------------------------------------------------------------------

    functions = costs.ModelFunctions(
        encode=lambda p, x: posterior(p, x)[0],
        rate=lambda p, mean, z, neighbour: kl_to_prior(p, mean, jnp.zeros_like(mean), z, neighbour),
        prior=prior,
        distortion=lambda p, x, z: pixel.nll(decode_outputs(p, x, z), x),
    )

    def assess(state, data, rng):
        """The costs of the whole test set, defined in `costs`."""
        return costs.measure_costs(
            functions,
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
        encode=encode if has_code else None,
        decode=decode if has_code else None,
        sample=sample,
        assess=assess if associative else None,
        daydream=daydream,
        refresh=refresh if associative else None,
        draws=autoregressive,
        likelihood=config.likelihood,
        result_names=GIVEN_NEIGHBOURS if associative else {},
    )
