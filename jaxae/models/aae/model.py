"""AAE: an autoencoder whose codes a discriminator cannot tell from draws of a chosen prior.

Makhzani, Shlens, Jaitly, Goodfellow & Frey 2016, arXiv:1511.05644. No code of the authors is
public, and the paper's body was not at hand: sizes, rates and priors follow reimplementations and
memory, and are so marked in the presets. Departure: the decoder's last bias starts at the mean
image, also in the presets of the paper, where all biases start at zero.

x [B,H,W,C] image; z [B,Z] code; y [B,K] class probabilities; T a discriminator's logit, positive
where it believes in the prior. A step in turn, each phase from where the one before it ended:

    reconstruction   half the squared error of x, summed over pixels; moves encoder and decoder
    critic_z         log-loss of z ~ p(z) against the encoder's; moves the discriminator
    critic_y         the same for one-hot y ~ Cat(1/K), where the task has classes
    fool             -log D of the encoder's; moves the encoder, with an optimiser of its own
    supervised       cross-entropy of y on labelled images (semi-supervised); trunk and label head
    heads            pushes cluster heads apart (reduction)

Tasks: plain; conditioned, where the discriminator is told the class of labelled images and prior
draws; supervised, where the decoder is told the class; semisupervised and clustering, where the
encoder infers y beside z; reduction, where the decoder sees W^T y + z. The matching is of the
aggregated posterior with the prior: no bound on log p(x).

Options that are not the paper's: a normalisation for each network, averages of the weights, and R1
(Mescheder, Geiger & Nowozin 2018, arXiv:1801.04406), a penalty of each discriminator's slope at
draws of its prior, by the code alone: a class beside it is held.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxae import losses, nets
from jaxae.models.aae.config import Config
from jaxae.models.aae.networks import Heads, Trunk, head_repulsion
from jaxae.models.shared import priors
from jaxae.models.shared.batch_needs import of_batch_norm, of_labels
from jaxae.models.shared.gaussian import gaussian_draw, mean_and_log_var, output_start
from jaxae.models.shared.labels import supervised_examples
from jaxae.nets.mlp import output_activation
from jaxae.training.state import (
    Model,
    Need,
    Player,
    Spec,
    State,
    adam,
    ema_decay,
    eval_params,
    init_ema,
    init_opt_state,
    step_players,
    update_ema,
)

CLASSED = ("semisupervised", "clustering", "reduction")
AVERAGED = ("trunk", "code", "label", "dec", "heads")


def make(config: Config, spec: Spec) -> Model:
    """The AAE for images of `spec`.

    Raises:
        ValueError: a task that needs labels on data without, a prior that does not fit `latent`.
    """
    task, d, shape = config.task, config.latent, (-1, *spec.image_shape)
    if config.needs_labels and not spec.classes:
        raise ValueError(f"task={task} needs labels, and this data has none")
    k = spec.classes if config.needs_labels else config.clusters
    pieces = spec.classes or 10  # of a prior that comes in pieces
    if config.fixed_heads and d != k:
        raise ValueError(f"fixed_heads need latent={d} to be the number of classes, {k}")
    prior_of_z = priors.prior(config.prior, d, config.prior_scale, pieces)
    network, gan = _networks(config, spec), losses.gan_loss(config.game)
    squash = output_activation(config.output)
    players = _players(config)
    noise_size = config.noise if config.posterior == "universal" else d

    # -- the parts -----------------------------------------------------------------------------

    def encoded(run, p, stats, x, noise):
        """Label logits [B,K] (None in tasks without classes), z [B,Z], and the statistics."""
        x = x.reshape(x.shape[0], -1)
        if config.posterior == "universal":
            x = jnp.concatenate([x, noise], axis=-1)
        h, stats = run(p, stats, "trunk", x)
        z, _ = run(p, stats, "code", h)
        if config.posterior == "gaussian":
            z = gaussian_draw(*mean_and_log_var(z), noise)
        logits = run(p, stats, "label", h)[0] if task in CLASSED else None
        return logits, z, stats

    def joined(p, y, z):
        """What the decoder sees of a class y [B,K] and a code z [B,Z]."""
        if task == "reduction":
            if config.fixed_heads:
                return config.fixed_heads * y + z
            return y @ p["heads"]["rows"] + z
        return z if y is None else jnp.concatenate([y, z], axis=-1)

    def rendered(run, p, stats, code):
        out, stats = run(p, stats, "dec", code)
        return squash(out).reshape(shape), stats

    def asked(run, p, stats, name, code, condition):
        """A discriminator's logits [B,1], and the statistics."""
        if condition is not None:
            code = jnp.concatenate([code, condition], axis=-1)
        return run(p, stats, name, code)

    # -- the contract --------------------------------------------------------------------------

    def init(rng):
        pixels = spec.image_shape[0] * spec.image_shape[1] * spec.image_shape[2]
        seen = pixels + (config.noise if config.posterior == "universal" else 0)
        h, z, y = jnp.zeros((1, config.widths[-1])), jnp.zeros((1, d)), jnp.zeros((1, k))
        with_class = {"supervised", "semisupervised", "clustering"}
        examples = {
            "trunk": jnp.zeros((1, seen)),
            "code": h,
            "dec": jnp.zeros((1, d + k)) if task in with_class else z,
            "critic_z": jnp.zeros((1, d + k + 1)) if task == "conditioned" else z,
            "label": h,
            "critic_y": y,
            "heads": (),
        }
        params, stats = network.init(rng, **examples)
        opt = init_opt_state(players, params)
        averages = init_ema(AVERAGED if config.average else (), params, stats)
        return State(jnp.int32(0), params, opt, {"stats": stats} | averages)

    def step(state, batch, rng, axis_name=None):
        x, keys = batch["image"], jax.random.split(rng, 9)
        n = x.shape[0]
        known = jnp.where(batch["labelled"], batch["label"], k) if task == "conditioned" else None
        eps = jax.random.normal(keys[0], (n, noise_size))
        labels = jax.random.randint(keys[1], (n,), 0, pieces)
        drawn = prior_of_z.sample_given_label(
            keys[2], labels if known is None else jnp.where(known == k, labels, known)
        )
        one_hot = jax.nn.one_hot(jax.random.randint(keys[3], (n,), 0, k), k)
        seen = _spoiled(config, x, keys[4])
        blur_z = config.critic_noise * jax.random.normal(keys[5], (2, n, d))
        blur_y = config.critic_noise * jax.random.normal(keys[6], (2, n, k))
        condition = None if known is None else jax.nn.one_hot(known, k + 1)
        if config.has_supervised_phase:
            few = supervised_examples(batch, task)
            few_seen = _spoiled(config, few["image"], keys[7])
            few_eps = jax.random.normal(keys[8], (few["image"].shape[0], noise_size))
        run = lambda *args: network.train(*args, axis_name=axis_name)

        def reconstruction(p, stats):
            logits, z, stats = encoded(run, p, stats, seen, eps)
            y = None if logits is None else jax.nn.softmax(logits)
            if task == "supervised":
                y = jax.nn.one_hot(batch["label"], k)
            back, stats = rendered(run, p, stats, joined(p, y, z))
            cost = jnp.mean(losses.half_squared_error(back, x))
            return cost, ({"loss": cost, "reconstruction": cost}, stats)

        def critic(p, stats, name, drawn, found, condition=None):
            """What a discriminator pays; it alone keeps the statistics of its own passes."""
            on_real, stats = asked(run, p, stats, name, drawn, condition)
            on_fake, stats = asked(run, p, stats, name, found, condition)
            cost = jnp.mean(gan.real_loss(on_real)) + jnp.mean(gan.fake_loss(on_fake))
            metrics = {name: cost}
            if config.r1:
                judge = lambda code: asked(as_is, p, stats, name, code, condition)[0][:, 0]
                slope = losses.mean_squared_gradient_norm(judge, drawn)
                metrics[f"slope_{name[-1]}"] = slope
                cost += 0.5 * config.r1 * slope
            return cost, (metrics, stats)

        def critic_z(p, stats):
            z = encoded(run, p, stats, seen, eps)[1]
            return critic(p, stats, "critic_z", drawn + blur_z[0], z + blur_z[1], condition)

        def critic_y(p, stats):
            y = jax.nn.softmax(encoded(run, p, stats, seen, eps)[0])
            return critic(p, stats, "critic_y", one_hot + blur_y[0], y + blur_y[1])

        def fool(p, stats):
            logits, z, _ = encoded(run, p, stats, seen, eps)
            judged, _ = asked(run, p, stats, "critic_z", z + blur_z[1], condition)
            cost = jnp.mean(gan.generator_loss(judged))
            if logits is not None:
                y = jax.nn.softmax(logits)
                judged, _ = asked(run, p, stats, "critic_y", y + blur_y[1], None)
                cost += jnp.mean(gan.generator_loss(judged))
            return cost, ({"fool": cost}, stats)

        def supervised(p, stats):
            logits = encoded(run, p, stats, few_seen, few_eps)[0]
            cost = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, few["label"]))
            return cost, ({"supervised": cost}, stats)

        def heads(p, stats):
            cost = head_repulsion(p["heads"]["rows"], config.margin)
            return cost, ({"heads": cost}, stats)

        turns = {"reconstruction": reconstruction, "critic_z": critic_z, "critic_y": critic_y,
                 "fool": fool, "supervised": supervised, "heads": heads}  # fmt: skip
        turns = {name: loss for name, loss in turns.items() if name in players}
        params, opt, stats, metrics = step_players(
            players, turns, state.params, state.opt, state.extra["stats"], axis_name
        )
        keep = ema_decay(config.average, state.step)
        extra = {"stats": stats} | update_ema(keep, state.extra, params, stats)
        return state.replace(step=state.step + 1, params=params, opt=opt, extra=extra), metrics

    def as_is(p, stats, name, *args):
        return network(p, stats, name, *args), stats

    def read(state, x, rng):
        """Label logits and z of images."""
        eps = jax.random.normal(rng, (x.shape[0], noise_size))
        return encoded(as_is, *eval_params(state), x, eps)[:2]

    def encode(state, x, rng):
        logits, z = read(state, x, rng)
        return z if logits is None else joined(eval_params(state)[0], jax.nn.softmax(logits), z)

    def decode(state, code, rng):
        return rendered(as_is, *eval_params(state), code)[0]

    def evaluate(state, batch, rng):
        x = batch["image"]
        code = encode(state, x, rng)
        if task == "supervised":
            code = joined(eval_params(state)[0], jax.nn.one_hot(batch["label"], k), code)
        error = losses.half_squared_error(decode(state, code, rng), x)
        return {"loss": error, "mse": 2 * error / (x[0].size)}

    def prior(rng, n):
        """Draws of what `encode` gives."""
        of_y, of_z = jax.random.split(rng)
        z = prior_of_z.sample(of_z, n)
        return z if task not in CLASSED else joined(None, classes(of_y, n), z)

    def classes(rng, n):
        return jax.nn.one_hot(jax.random.randint(rng, (n,), 0, k), k)

    def sample(state, rng, n):
        of_y, of_z, of_x = jax.random.split(rng, 3)
        y = classes(of_y, n) if task in (*CLASSED, "supervised") else None
        code = joined(eval_params(state)[0], y, prior_of_z.sample(of_z, n))
        return decode(state, code, of_x)

    def predict(state, x, rng):
        return read(state, x, rng)[0]

    return Model(
        init,
        step,
        evaluate,
        encode=encode,
        decode=None if task == "supervised" else decode,
        sample=sample,
        prior=None if task == "reduction" else prior,  # its heads are parameters
        predict=predict if task in CLASSED else None,
        needs=_needs(config),
    )


def _needs(config: Config) -> tuple[Need, ...]:
    found = of_batch_norm(
        encoder_norm=config.encoder_norm,
        generator_norm=config.generator_norm,
        discriminator_norm=config.discriminator_norm,
    )
    if not config.has_supervised_phase:
        return found
    of_few = of_batch_norm(of="labels_batch", encoder_norm=config.encoder_norm)
    return (*found, of_labels(config.task), *of_few)


def _networks(config: Config, spec: Spec) -> nets.Bundle:
    """The networks that the task has, by name."""
    height, width, colours = spec.image_shape
    start = output_start("bernoulli" if config.output == "sigmoid" else "gaussian", spec, colours)
    k = spec.classes if config.needs_labels else config.clusters
    dense = lambda out: nn.Dense(out, kernel_init=nets.kernel_init(config.deviation))
    mlp = lambda widths, out, norm, bias=None: nets.MLP(
        widths, out, "relu", bias, norm, config.deviation
    )
    critic = lambda: mlp(config.widths, 1, config.discriminator_norm)
    pixels = height * width * colours
    networks = {
        "trunk": Trunk(config.widths, config.encoder_norm, config.deviation),
        "code": dense(config.latent * (2 if config.posterior == "gaussian" else 1)),
        "dec": mlp(config.widths[::-1], pixels, config.generator_norm, start.reshape(-1)),
        "critic_z": critic(),
    }
    if config.task in CLASSED:
        networks |= {"label": dense(k), "critic_y": critic()}
    if config.task == "reduction" and not config.fixed_heads:
        networks["heads"] = Heads(k, config.latent)
    return nets.Bundle(**networks)


def _players(config: Config) -> dict[str, Player]:
    """Who moves what in which phase."""
    encoder = ("trunk", "code", "label") if config.task in CLASSED else ("trunk", "code")
    learns_heads = config.task == "reduction" and not config.fixed_heads
    moved_too = ("heads",) if learns_heads and config.heads_reconstruct else ()
    main = lambda rate: _descent(config, rate, adversarial=False)
    against = lambda rate: _descent(config, rate, adversarial=True)
    players = {
        "reconstruction": Player((*encoder, "dec", *moved_too), main(config.learning_rate)),
        "critic_z": Player(("critic_z",), against(config.critic_rate)),
        "fool": Player(encoder, against(config.fool_rate)),
    }
    if config.task in CLASSED:
        players["critic_y"] = Player(("critic_y",), against(config.critic_rate))
    if config.has_supervised_phase:
        players["supervised"] = Player(("trunk", "label"), main(config.supervised_rate))
    if learns_heads:
        players["heads"] = Player(("heads",), main(config.supervised_rate))
    return players


def _descent(config: Config, rate: float, adversarial: bool) -> optax.GradientTransformation:
    """A phase's optimiser: the adversarial phases, discriminators and encoder, have less memory."""
    if config.optimiser == "adam":
        return adam(rate, config.decay_steps, config.beta1 if adversarial else 0.9)
    falls = dict.fromkeys(config.drops, 0.1)
    momentum = 0.1 if adversarial else 0.9
    return optax.sgd(optax.piecewise_constant_schedule(rate, falls), momentum)


def _spoiled(config: Config, x: jax.Array, rng: jax.Array) -> jax.Array:
    """The encoder's input in training."""
    of_noise, of_mask = jax.random.split(rng)
    x = x + config.image_noise * jax.random.normal(of_noise, x.shape)
    if config.image_dropout:
        kept = jax.random.uniform(of_mask, x.shape) >= config.image_dropout
        x = jnp.where(kept, x / (1 - config.image_dropout), 0.0)
    return x
