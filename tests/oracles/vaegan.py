"""VAE/GAN's losses: who pays what, each network called as the paper's table of gradients says."""

import jax.numpy as jnp

from oracles.common import Oracle, cross_entropy, of, r1


def vaegan(variant):
    def losses(spec, state, batch, draws):
        config, run = of(variant, spec)
        x, stats = batch["image"], state.extra["stats"]
        noise, z_prior = draws[:2]
        size, latent = len(x), config.latent
        assert noise.shape == z_prior.shape == (size, latent)
        told = spec.classes if config.conditional else 0
        y = jnp.eye(spec.classes)[batch["label"]][:, :told]

        def rows(*parts):
            return jnp.concatenate(parts, axis=0)

        def seeing(p, name, images):
            """Output and hidden layers of a network that looks at copies of the batch's places."""
            labels = rows(*[y] * (len(images) // size)) if told else None
            return run(p, stats, name, images, labels)

        def drawing(p, name, codes):
            labels = rows(*[y] * (len(codes) // size))
            out = run(p, stats, name, jnp.concatenate([codes, labels], axis=1))
            return (1 / (1 + jnp.exp(-out))).reshape(-1, *x.shape[1:])

        def posterior(p):
            out, _ = seeing(p, "enc", x)
            mean, log_var = out[:, :latent], 10 * jnp.tanh(out[:, latent:] / 10)
            return mean, log_var, mean + jnp.sqrt(jnp.exp(log_var)) * noise

        def distance(p):
            recon = drawing(p, "dec", posterior(p)[2])
            if config.variant == "vae":
                return jnp.sum((x - recon) ** 2) / 2 / size
            if config.layer == 0:
                return jnp.sum((x - recon) ** 2) / (2 * config.scale**2) / size
            hidden = seeing(p, "dis", rows(recon, x))[1][config.layer - (config.layer > 0)]
            return jnp.sum((hidden[:size] - hidden[size:]) ** 2) / (2 * config.scale**2) / size

        def fakes(p):
            if config.variant == "vae_dis_l":
                return drawing(p, "gen", z_prior)
            if config.variant == "gan" or config.fakes == "prior":
                return drawing(p, "dec", z_prior)
            return drawing(p, "dec", rows(z_prior, posterior(p)[2]))

        def logits(p):
            out = seeing(p, "dis", rows(x, fakes(p)))[0]
            return out[:size], out[size:]

        def fooling(p):
            """The sum over kinds of fakes of each kind's mean."""
            on_fake = logits(p)[1]
            kinds = len(on_fake) // size
            if config.game == "saturating":
                return -kinds * cross_entropy(on_fake, 0)
            return kinds * cross_entropy(on_fake, 1)

        def encoder(p):
            mean, log_var, _ = posterior(p)
            rate = -0.5 * jnp.sum(1 + log_var - mean**2 - jnp.exp(log_var)) / size
            return rate + distance(p)

        def decoder(p):
            if config.variant in ("vae", "vae_dis_l"):
                return distance(p)
            share = 1 - config.gamma if config.beside_gamma == "complement" else 1
            return config.gamma * distance(p) + share * fooling(p)

        def discriminator(p):
            on_real, on_fake = logits(p)
            w = config.real_weight
            cost = w * cross_entropy(on_real, 1) + (1 - w) * cross_entropy(on_fake, 0)
            if config.r1:
                cost += r1(config.r1, lambda x: run(p, stats, "dis", x, None)[0][:, 0], x)
            return cost

        owns = {"encoder": ("enc",), "decoder": ("dec",), "discriminator": ("dis",)}
        costs = {"encoder": encoder, "decoder": decoder, "discriminator": discriminator}
        if config.variant == "vae":
            owns, costs = ({k: d[k] for k in ("encoder", "decoder")} for d in (owns, costs))
        elif config.variant == "gan":
            owns = {"generator": ("dec",), "discriminator": ("dis",)}
            costs = {"generator": fooling, "discriminator": discriminator}
        elif config.variant == "vae_dis_l":
            owns["generator"] = ("gen",)
            costs = {"encoder": encoder, "decoder": decoder, "generator": fooling,
                     "discriminator": discriminator}  # fmt: skip
        return Oracle(owns, costs, config.simultaneous)

    return losses


LOSSES = {name: vaegan(name) for name in ("vaegan", "vaegan conv", "vaegan r1", "vaegan separate")}
