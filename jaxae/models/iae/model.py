"""IAE: an autoencoder without a pixel loss, in which both conditionals are only sampled from.

Makhzani 2018, arXiv:1805.09804. No code of the author is public and the paper's body was not at
hand: the losses follow from its definitions, sizes and rates are ours or recalled.

x [B,H,W,C] image; z = f(x, e) [B,Z] the global code, e noise or none; x^ = g(z, n) the
reconstruction, whose noise n [B,N] is the local code; T(x, z) the pair critic's logit, positive
where it believes in data; S(z) the code critic's, positive where it believes in the prior. With
q(x, z) the pairs (x, z) and r(x, z) the pairs (x^, z) of the same z

    E log p(x)  >=  -KL(q(x,z) || r(x,z)) - KL(q(z) || p(z)) - H(x)

and two GANs estimate the two divergences. A step in turn, all on one draw of x, e, n:

    critic_pair    mean softplus(-T(x, z)) + mean softplus(T(x^, z))
    critic_code    mean softplus(-S(z')) + mean softplus(S(z)), z' ~ p(z)
    decoder        makes x^ pass for x beside z
    encoder        closes the same gap from the side of z, and makes z pass for z'
    supervised     cross-entropy of y on labelled images (semisupervised); moves the encoder

What decoder and encoder pay is `recon_gan` (`iae_games`). Nothing asks for a copy: any draw from
q(x|z) is a perfect reconstruction, and nothing asks for a code that says something.

Tasks: plain, z ~ N(0, I) or another prior; clustering, z = y, K class probabilities against one-hot
draws; semisupervised, K = classes; given, z = the label, without encoder; translation (CycleIAE,
one direction), z an image of another domain, whose prior is that domain's images. The flipped IAE
starts from z ~ p(z): x = g(z, n) is judged beside data by critic_image, and (x, z) is told from
(x, f(x, e)): the encoder remakes, the decoder makes.
"""

import jax
import jax.numpy as jnp
import optax

from jaxae import losses, nets
from jaxae.models.iae.config import Config
from jaxae.models.iae.domains import in_the_other_domain
from jaxae.models.iae.games import pair_game
from jaxae.models.iae.measures import reconstruction_measures
from jaxae.models.iae.networks import LEAKY, ConvReader, DenseReader
from jaxae.models.shared import priors
from jaxae.models.shared.batch_needs import of_labels
from jaxae.models.shared.gaussian import output_start
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

CLASSED = ("clustering", "semisupervised")
LABELLED = ("semisupervised", "given")
HALVES = Need("task=translation makes the other domain of every second image", least=2, multiple=2,
              by_device=True)  # fmt: skip
AVERAGED = ("enc", "dec")  # both: a decoder of the past does not know the codes of today's encoder


def make(config: Config, spec: Spec) -> Model:
    """The IAE for images of `spec`.

    Raises:
        ValueError: a task that needs labels on data without, a prior that does not fit `latent`, a
            domain that does not fit the images.
    """
    task, shape = config.task, (-1, *spec.image_shape)
    if task in LABELLED and not spec.classes:
        raise ValueError(f"task={task} needs labels, and this data has none")
    height, width, _ = spec.image_shape
    if task == "translation" and config.domain == "coarse" and (height % 2 or width % 2):
        raise ValueError(f"domain=coarse needs images with even sides, not {height}x{width}")
    if task == "translation" and config.domain == "rotated" and height != width:
        raise ValueError(f"domain=rotated needs square images, not {height}x{width}")
    code_size = _code_size(config, spec)
    prior_of_z = priors.prior(config.prior, config.latent, config.prior_scale)
    network, players = _networks(config, spec), _players(config)
    gan, makers = losses.gan_loss("non_saturating"), pair_game(config.recon_gan)
    marginal = "critic_image" if config.flipped else "critic_code"
    squash = output_activation(config.output)

    # -- the parts -----------------------------------------------------------------------------

    def inferred(p, x, eps):
        """z = f(x, e) [B,Z], and what the encoder's last layer says."""
        raw = network(p, {}, "enc", x, eps)
        if task in CLASSED:
            return jax.nn.softmax(raw), raw
        return (jax.nn.sigmoid(raw) if task == "translation" else raw), raw

    def rendered(p, z, n):
        """g(z, n) [B,H,W,C]."""
        return squash(network(p, {}, "dec", jnp.concatenate([z, n], axis=-1))).reshape(shape)

    def told(p, x, z):
        """T [B] of pairs."""
        return network(p, {}, "critic_pair", x, config.code_scale * z)[..., 0]

    def judged(p, made):
        """The other critic's logit [B]: of codes, or flipped of images."""
        if config.flipped:
            return network(p, {}, marginal, made, jnp.zeros((made.shape[0], 0)))[..., 0]
        return network(p, {}, marginal, made)[..., 0]

    # -- the contract --------------------------------------------------------------------------

    def init(rng):
        x, z = jnp.zeros((1, *spec.image_shape)), jnp.zeros((1, code_size))
        examples = {
            "enc": (x, jnp.zeros((1, config.noise))),
            "dec": jnp.zeros((1, code_size + config.local)),
            "critic_pair": (x, z),
            "critic_code": z,
            "critic_image": (x, jnp.zeros((1, 0))),
        }
        params, _ = network.init(rng, **examples)
        opt = init_opt_state(players, params)
        averaged = AVERAGED if config.average else ()
        return State(jnp.int32(0), params, opt, init_ema(averaged, params))

    def step(state, batch, rng, axis_name=None):
        x, keys = batch["image"], jax.random.split(rng, 4)
        if task == "translation":
            HALVES.check(x.shape[0], f"a batch of {x.shape[0]}")
            # Every second image, so that devices agree on who is what.
            x, other = x[0::2], in_the_other_domain(config.domain, x[1::2])
        n = x.shape[0]
        eps = jax.random.normal(keys[0], (n, config.noise))
        local = grown(state) * jax.random.normal(keys[1], (n, config.local))
        drawn = other if task == "translation" else prior(keys[2], n)
        if task == "semisupervised":
            few = supervised_examples(batch, task)
            few_eps = jax.random.normal(keys[3], (few["image"].shape[0], config.noise))

        def pairs(p):
            """The positive pair, the negative one, and what the other critic judges."""
            if config.flipped:
                made = rendered(p, drawn, local)
                return (made, drawn), (made, inferred(p, made, eps)[0]), made
            z = one_hot(batch["label"]) if task == "given" else inferred(p, x, eps)[0]
            return (x, z), (rendered(p, z, local), z), z

        def critic_pair(p, stats):
            positive, negative, _ = pairs(p)
            cost = jnp.mean(gan.real_loss(told(p, *positive)))
            cost += jnp.mean(gan.fake_loss(told(p, *negative)))
            total = cost + 0.5 * config.r1 * slope(p, positive) if config.r1 else cost
            return total, ({"critic_pair": cost}, stats)

        def slope(p, positive):
            """|grad T|^2 by the half of a pair that is remade: the image, flipped the code."""
            image, code = positive
            if config.flipped:
                return losses.mean_squared_gradient_norm(lambda z: told(p, image, z), code)
            return losses.mean_squared_gradient_norm(lambda x: told(p, x, code), image)

        def critic_marginal(p, stats):
            made = pairs(p)[2]
            real = x if config.flipped else drawn
            cost = jnp.mean(gan.real_loss(judged(p, real))) + jnp.mean(
                gan.fake_loss(judged(p, made))
            )
            total, weight = cost, config.r1 if config.flipped else config.code_r1
            if weight:
                total += (
                    0.5
                    * weight
                    * losses.mean_squared_gradient_norm(lambda real: judged(p, real), real)
                )
            return total, ({marginal: cost}, stats)

        def remaker(p, stats):
            cost = jnp.mean(makers.remaker(told(p, *pairs(p)[1])))
            return cost, ({"encoder" if config.flipped else "decoder": cost}, stats)

        def maker(p, stats):
            positive, negative, made = pairs(p)
            cost = jnp.mean(makers.maker(told(p, *positive), told(p, *negative)))
            cost += config.code_weight * jnp.mean(makers.marginal(judged(p, made)))
            return cost, ({"decoder" if config.flipped else "encoder": cost}, stats)

        def supervised(p, stats):
            logits = inferred(p, few["image"], few_eps)[1]
            cost = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, few["label"]))
            return cost, ({"supervised": cost}, stats)

        last = ("encoder", "decoder") if config.flipped else ("decoder", "encoder")
        turns = {"critic_pair": critic_pair, marginal: critic_marginal, last[0]: remaker,
                 last[1]: maker, "supervised": supervised}  # fmt: skip
        turns = {name: loss for name, loss in turns.items() if name in players}
        params, opt, _, metrics = step_players(
            players, turns, state.params, state.opt, {}, axis_name, config.simultaneous
        )
        extra = update_ema(ema_decay(config.average, state.step), state.extra, params)
        state = state.replace(step=state.step + 1, params=params, opt=opt, extra=extra)
        return state, metrics | {"loss": metrics["decoder"]}

    def grown(state):
        """Deviation of the decoder's noise."""
        if not config.local_start and not config.local_warmup:
            return 1.0
        grown_for = 1.0 + state.step - config.local_start
        return jnp.clip(grown_for / max(config.local_warmup, 1), 0.0, 1.0)

    def one_hot(labels):
        return jax.nn.one_hot(labels, spec.classes)

    def read(state, x, rng):
        return inferred(
            eval_params(state)[0], x, jax.random.normal(rng, (x.shape[0], config.noise))
        )

    def encode(state, x, rng):
        return read(state, x, rng)[0]

    def code_of(state, batch, rng):
        return one_hot(batch["label"]) if task == "given" else encode(state, batch["image"], rng)

    def decode(state, z, rng):
        """A draw: the decoder's noise is fresh."""
        n = grown(state) * jax.random.normal(rng, (z.shape[0], config.local))
        return rendered(eval_params(state)[0], z, n)

    def evaluate(state, batch, rng):
        """`loss`: half the squared error of one reconstruction, summed over pixels.

        A convention and no measure of success: where the game ends a reconstruction is another draw
        from q(x|z), and its error twice what the best autoencoder with the same codes has.
        """
        of_code, of_image = jax.random.split(rng)
        back = decode(state, code_of(state, batch, of_code), of_image)
        error = losses.half_squared_error(back, batch["image"])
        return {"loss": error, "mse": 2 * error / batch["image"][0].size}

    def assess(state, data, rng):
        categorical = task in (*CLASSED, "given")
        return reconstruction_measures(code_of, decode, state, data, rng, categorical)

    def prior(rng, n):
        if task == "plain":
            return prior_of_z.sample(rng, n)
        return jax.nn.one_hot(jax.random.randint(rng, (n,), 0, code_size), code_size)

    def sample(state, rng, n):
        of_z, of_x = jax.random.split(rng)
        return decode(state, prior(of_z, n), of_x)

    def predict(state, x, rng):
        return read(state, x, rng)[1]

    free = task != "translation"  # whose prior is data
    return Model(
        init,
        step,
        evaluate,
        encode=encode if task != "given" else None,
        decode=decode,
        sample=sample if free else None,
        prior=prior if free else None,
        predict=predict if task in CLASSED else None,
        assess=assess,
        draws=True,
        needs={"translation": (HALVES,), "semisupervised": (of_labels(task),)}.get(task, ()),
    )


def _code_size(config: Config, spec: Spec) -> int:
    pixels = spec.image_shape[0] * spec.image_shape[1] * spec.image_shape[2]
    sizes = {"plain": config.latent, "clustering": config.clusters, "translation": pixels}
    return sizes.get(config.task, spec.classes)


def _networks(config: Config, spec: Spec) -> nets.Bundle:
    """enc: x, e -> z; dec: (z, n) -> x; critic_pair: x, z -> T; critic_code or critic_image."""
    height, width, colours = spec.image_shape
    start = output_start("bernoulli" if config.output == "sigmoid" else "gaussian", spec, colours)
    code_size = _code_size(config, spec)
    if config.network == "mlp":
        reader = lambda out: DenseReader(config.widths, out, config.deviation)
        dec = nets.MLP(config.widths[::-1], height * width * colours, LEAKY, start.reshape(-1),
                       deviation=config.deviation)  # fmt: skip
    else:
        reader = lambda out: ConvReader(config.conv_width, out)
        dec = nets.ConvDecoder(spec.image_shape, colours, config.conv_width, 0, LEAKY,
                               start.mean((0, 1)))  # fmt: skip
    found = {"dec": dec, "critic_pair": reader(1)}
    if config.task != "given":
        found["enc"] = reader(code_size)
    if config.flipped:
        found["critic_image"] = reader(1)
    elif config.task != "given":
        found["critic_code"] = nets.MLP(config.widths, 1, LEAKY, deviation=config.deviation)
    return nets.Bundle(**found)


def _players(config: Config) -> dict[str, Player]:
    """Who moves what."""
    descent = lambda rate: adam(rate, config.decay_steps, config.beta1)
    players = {
        "critic_pair": Player(("critic_pair",), descent(config.critic_rate)),
        "decoder": Player(("dec",), descent(config.learning_rate)),
    }
    if config.task == "given":
        return players
    marginal = "critic_image" if config.flipped else "critic_code"
    players[marginal] = Player((marginal,), descent(config.critic_rate))
    players["encoder"] = Player(("enc",), descent(config.learning_rate))
    if config.task == "semisupervised":
        players["supervised"] = Player(("enc",), descent(config.supervised_rate))
    return players
