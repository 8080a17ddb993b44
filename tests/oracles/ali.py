"""The losses of ALI, BiGAN and of the methods beside them."""

import jax
import jax.numpy as jnp

from oracles.common import Oracle, cross_entropy, of, r1


def ali(variant):
    def losses(spec, state, batch, draws):
        config, run = of(variant, spec)
        x, stats = batch["image"], state.extra["stats"]
        flat = x.reshape(len(x), -1)
        z, noise, noise_of_fakes = draws[:3]
        assert z.shape == (len(x), config.latent)
        halves = 0.5 if config.halved else 1.0

        def embedding(p, labels):
            if config.task != "conditional":
                return []
            return [run(p, stats, "embed", jax.nn.one_hot(labels, spec.classes))]

        def encoder(p, image, noise, e):
            """The code, and what the encoder's last layer says."""
            if config.posterior == "universal":
                image = jnp.concatenate([image, noise], 1)
            raw = run(p, stats, "enc", image, *e)
            if config.posterior == "gaussian":
                mean, log_sigma = raw[:, : config.latent], raw[:, config.latent :]
                return mean + jnp.exp(log_sigma) * noise, raw
            return (jnp.tanh(raw / 2), raw) if config.prior == "uniform" else (raw, raw)

        def generator(p, e):
            return jax.nn.sigmoid(run(p, stats, "gen", jnp.concatenate([z, *e], 1)))

        def judge(p, image, *code):
            """The logit, the scores of the classes, the last hidden layer."""
            scores, hidden = run(p, stats, "critic", image, *code)
            if config.task == "semisupervised":  # against a class of fakes whose score is zero
                return jnp.log(jnp.sum(jnp.exp(scores), 1)), scores, hidden
            return scores[:, 0], scores, hidden

        def pairs(p, which=0):
            e = embedding(p, batch["label"])
            code = jnp.concatenate([encoder(p, flat, noise, e)[0], *e], 1)
            made, z_e = generator(p, e), jnp.concatenate([z, *e], 1)
            if not config.together:
                return judge(p, flat, code)[which], judge(p, made, z_e)[which]
            both = judge(p, jnp.concatenate([flat, made]), jnp.concatenate([code, z_e]))[which]
            return both[: len(x)], both[len(x) :]

        def critic(p):
            on_q, on_p = pairs(p)
            game = cross_entropy(on_q, 1) + cross_entropy(on_p, 0)
            if config.r1:  # by the image alone: the code stands still
                code = encoder(p, flat, noise, [])[0]
                pixels = flat.shape[1]

                def pair(one):
                    code = jax.lax.stop_gradient(one[:, pixels:])
                    return judge(p, one[:, :pixels], code)[0]

                return halves * game + r1(config.r1, pair, jnp.concatenate([flat, code], 1))
            if config.task != "semisupervised":
                return halves * game
            few = batch["supervised"]
            image = few["image"].reshape(len(few["label"]), -1)
            code, _ = encoder(p, image, draws[3], [])
            _, scores, _ = judge(p, image, code)
            right = jax.nn.softmax(scores)[jnp.arange(len(image)), few["label"]]
            return game / 2 - jnp.mean(jnp.log(right))

        def both(p):
            if config.feature_matching:
                real, made = pairs(p, which=2)
                return jnp.sum(jnp.abs(jnp.sum(real - made, 0))) / len(x)
            on_q, on_p = pairs(p)
            return halves * (cross_entropy(on_q, 0) + cross_entropy(on_p, 1))

        def regression(p):
            target = (z + 1) / 2
            found = jax.nn.sigmoid(encoder(p, generator(p, []), noise_of_fakes, [])[1])
            each = target * jnp.log(found) + (1 - target) * jnp.log(1 - found)
            return -jnp.sum(each) / z.size

        def image_critic(p):
            real, fake = judge(p, flat)[0], judge(p, generator(p, []))[0]
            return halves * (cross_entropy(real, 1) + cross_entropy(fake, 0))

        def image_generator(p):
            cost = halves * cross_entropy(judge(p, generator(p, []))[0], 1)
            return cost + (0.25 * regression(p) if config.method == "joint_regressor" else 0)

        def judged_pairs(p):
            """What the discriminator that comes afterwards says of both kinds of pairs."""
            ask = lambda *pair: run(p, stats, "pair_critic", *pair)[0][:, 0]
            return ask(flat, encoder(p, flat, noise, [])[0]), ask(generator(p, []), z)

        def pair_critic(p):
            on_q, on_p = judged_pairs(p)
            return halves * (cross_entropy(on_q, 1) + cross_entropy(on_p, 0))

        def late_encoder(p):
            return halves * cross_entropy(judged_pairs(p)[0], 0)

        if config.method == "post_hoc_ali":  # once the GAN has frozen
            owns = {"pair_critic": ("pair_critic",), "encoder": ("enc",)}
            turns = {"pair_critic": pair_critic, "encoder": late_encoder}
            return Oracle(owns, turns, config.simultaneous)

        owns = {"critic": ("critic",)}
        if config.method == "ali":
            owns["generator"] = ("enc", "gen", *(["embed"] if config.task == "conditional" else []))
            turns = {"critic": critic, "generator": both}
        else:
            owns |= {"generator": ("gen",), "regressor": ("enc",)}
            turns = {"regressor": regression, "critic": image_critic, "generator": image_generator}
        return Oracle(owns, turns, config.simultaneous)

    return losses


LOSSES = {
    name: ali(name)
    for name in (
        "ali",
        "ali semisupervised",
        "ali feature matching",
        "ali joint regressor",
        "ali post hoc",
        "ali r1",
    )
}
