"""The GAN's losses."""

import jax
import jax.numpy as jnp

from oracles.common import Oracle, cross_entropy, of


def gan(variant):
    def losses(spec, state, batch, draws):
        config, run = of(variant, spec)
        x, z, stats = batch["image"], draws[0], state.extra["stats"]
        assert z.shape == (len(x), config.latent)

        def fake(p):
            out = run(p, stats, "gen", z)
            out = jax.nn.sigmoid(out) if config.output == "sigmoid" else out
            return out.reshape(x.shape)

        def critic(p):
            on_real, on_fake = run(p, stats, "critic", x), run(p, stats, "critic", fake(p))
            if config.game == "wasserstein":
                cost = jnp.mean(on_fake) - jnp.mean(on_real)
            else:
                cost = cross_entropy(on_real, 1) + cross_entropy(on_fake, 0)
            if config.r1:
                slope = jax.grad(lambda x: jnp.sum(run(p, stats, "critic", x)))(x)
                cost += config.r1 * 0.5 * jnp.sum(slope**2) / len(x)
            if config.gradient_penalty:
                share = draws[1].reshape(-1, 1, 1, 1)
                between = share * x + (1 - share) * fake(p)
                slope = jax.grad(lambda x: jnp.sum(run(p, stats, "critic", x)))(between)
                length = jnp.sqrt(jnp.sum(slope**2, axis=(1, 2, 3)))
                cost += config.gradient_penalty * jnp.mean((length - 1) ** 2)
            return cost

        def generator(p):
            on_fake = run(p, stats, "critic", fake(p))
            if config.game == "wasserstein":
                return -jnp.mean(on_fake)
            return cross_entropy(on_fake, 1)

        owns = {"critic": ("critic",), "generator": ("gen",)}
        return Oracle(owns, {"critic": critic, "generator": generator}, config.simultaneous)

    return losses


LOSSES = {name: gan(name) for name in ("gan", "gan conv", "gan wasserstein")}
