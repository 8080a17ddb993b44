"""The IAE's losses, and those of its flipped form."""

import jax
import jax.numpy as jnp

from oracles.common import Oracle, cross_entropy, of


def remaker_pays(name, on_r):
    if name == "ml":
        return -jnp.mean(jnp.exp(on_r))  # logits of tiny networks are far from the bounds
    if name == "rkl":
        return -jnp.mean(on_r)
    return -cross_entropy(on_r, 0) if name == "js" else cross_entropy(on_r, 1)


def maker_pays(name, on_q, on_r):
    return {
        "ml": lambda: jnp.mean(on_q),
        "rkl": lambda: -jnp.mean(on_r),
        "js": lambda: -cross_entropy(on_q, 1) - cross_entropy(on_r, 0),
        "ns_both": lambda: cross_entropy(on_q, 0) + cross_entropy(on_r, 1),
        "ns_pos": lambda: cross_entropy(on_q, 0),
        "ns_neg": lambda: cross_entropy(on_r, 1),
    }[name]()


def iae(variant):
    def losses(spec, state, batch, draws):
        config, run = of(variant, spec)
        x, classes = batch["image"], jax.nn.one_hot(batch["label"], spec.classes)
        drawn, local_and_eps = None, iter(draws)
        eps, local = next(local_and_eps), next(local_and_eps)
        if config.local_warmup:
            local = local / config.local_warmup  # at the first step
        if config.task == "translation":
            half = x[1::2]
            x = x[0::2]
            drawn = jnp.stack([  # each 2x2 square has its mean in all four places
                jnp.kron(
                    (im[0::2, 0::2, 0] + im[1::2, 0::2, 0] + im[0::2, 1::2, 0] + im[1::2, 1::2, 0])
                    / 4,
                    jnp.ones((2, 2)),
                ).reshape(-1)
                for im in half
            ])  # fmt: skip
        elif config.task == "plain":
            _, drawn = next(local_and_eps), next(local_and_eps)  # after labels that it ignores
            if config.prior == "uniform":
                drawn = config.prior_scale * (2 * drawn - 1)
        else:
            k = config.clusters if config.task == "clustering" else spec.classes
            drawn = jax.nn.one_hot(next(local_and_eps), k)
        assert len(local) == len(x)

        def encoder(p, image, eps):
            raw = run(p, {}, "enc", image, eps)
            if config.task in ("clustering", "semisupervised"):
                return jnp.exp(raw) / jnp.sum(jnp.exp(raw), 1, keepdims=True)
            return (1 + jnp.tanh(raw / 2)) / 2 if config.task == "translation" else raw

        def decoder(p, z):
            out = run(p, {}, "dec", jnp.concatenate([z, local], 1))
            return (1 + jnp.tanh(out / 2).reshape(x.shape)) / 2

        def judge(p, image, z):
            return run(p, {}, "critic_pair", image, config.code_scale * z)

        def pairs(p):
            if config.flipped:
                made = decoder(p, drawn)
                return (made, drawn), (made, encoder(p, made, eps))
            z = classes if config.task == "given" else encoder(p, x, eps)
            return (x, z), (decoder(p, z), z)

        def critic_pair(p):
            original, remade = pairs(p)
            cost = cross_entropy(judge(p, *original), 1) + cross_entropy(judge(p, *remade), 0)
            which = 1 if config.flipped else 0
            slope = jax.grad(lambda *pair: jnp.sum(judge(p, *pair)), which)(*original)
            return cost + config.r1 / 2 * jnp.sum(slope**2) / len(x)

        def fools(p, network, *seen):
            on_it = run(p, {}, network, *seen)
            return -jnp.mean(on_it) if config.recon_gan == "rkl" else cross_entropy(on_it, 1)

        def critic_code(p):
            look = lambda z: run(p, {}, "critic_code", z)
            cost = cross_entropy(look(drawn), 1) + cross_entropy(look(pairs(p)[0][1]), 0)
            slope = jax.grad(lambda z: jnp.sum(look(z)))(drawn)
            return cost + config.code_r1 / 2 * jnp.sum(slope**2) / len(drawn)

        def critic_image(p):
            look = lambda image: run(p, {}, "critic_image", image, jnp.zeros((len(image), 0)))
            slope = jax.grad(lambda image: jnp.sum(look(image)))(x)
            cost = cross_entropy(look(x), 1) + cross_entropy(look(decoder(p, drawn)), 0)
            return cost + config.r1 / 2 * jnp.sum(slope**2) / len(x)

        def remaker(p):
            return remaker_pays(config.recon_gan, judge(p, *pairs(p)[1]))

        def maker(p):
            original, remade = pairs(p)
            cost = maker_pays(config.recon_gan, judge(p, *original), judge(p, *remade))
            if config.flipped:
                other = fools(p, "critic_image", original[0], jnp.zeros((len(x), 0)))
            else:
                other = fools(p, "critic_code", original[1])
            return cost + config.code_weight * other

        def supervised(p):
            few = batch["supervised"]
            y = encoder(p, few["image"], draws[3])
            return -jnp.mean(jnp.log(y[jnp.arange(len(y)), few["label"]]))

        owns = {"critic_pair": ("critic_pair",), "decoder": ("dec",), "encoder": ("enc",)}
        if config.task == "given":
            turns = {"critic_pair": critic_pair, "decoder": remaker}
        elif config.flipped:
            owns["critic_image"] = ("critic_image",)
            turns = {"critic_pair": critic_pair, "critic_image": critic_image, "encoder": remaker,
                     "decoder": maker}  # fmt: skip
        else:
            owns["critic_code"] = ("critic_code",)
            turns = {"critic_pair": critic_pair, "critic_code": critic_code, "decoder": remaker,
                     "encoder": maker}  # fmt: skip
        if config.task == "semisupervised":
            owns["supervised"], turns["supervised"] = ("enc",), supervised
        return Oracle(owns, turns, config.simultaneous)

    return losses


LOSSES = {
    name: iae(name)
    for name in ("iae", "iae semisupervised", "iae flipped", "iae given", "iae translation")
}
