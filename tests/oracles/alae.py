"""The losses of ALAE and of its ablations."""

import jax
import jax.numpy as jnp

from oracles.common import Oracle, cross_entropy, of


def alae(variant):
    def losses(spec, state, batch, draws):
        config, run = of(variant, spec)
        x, turns = batch["image"], {}
        if config.centred:
            x = 2 * x - 1
        levels = spec.image_shape[0].bit_length() - 2
        inputs = 2 * levels if config.network == "style" else 1
        left = iter(draws)
        for name in ("critic", "generator", "reciprocity"):
            z = next(left)
            noise = [next(left) for _ in range(inputs)] if inputs > 1 else []
            assert z.shape == (len(x), config.latent)
            assert all(n.shape[1] == 4 * 2 ** (i // 2) for i, n in enumerate(noise))
            crossed = None
            if inputs > 1 and name != "reciprocity":
                cut, share, other = next(left), next(left), next(left)
                crossed = (
                    other,
                    [
                        int(c) if s < config.style_mixing else inputs
                        for c, s in zip(cut, share, strict=True)
                    ],
                )
            turns[name] = z, noise, crossed
        assert next(left, None) is None

        def image(p, turn):
            z, noise, crossed = turns[turn]
            w = run(p, {}, "map", z)
            rows = [[w[b]] * inputs for b in range(len(z))]
            if crossed:
                other, cuts = run(p, {}, "map", crossed[0]), crossed[1]
                rows = [[w[b]] * cut + [other[b]] * (inputs - cut) for b, cut in enumerate(cuts)]
            raw = run(p, {}, "gen", jnp.array(rows), *noise)
            if config.output == "sigmoid":
                raw = jax.nn.sigmoid(raw)
                raw = 2 * raw - 1 if config.centred else raw
            return raw

        def judged(p, u):
            return run(p, {}, "dis", run(p, {}, "eye" if config.separate else "enc", u))

        def critic(p):
            cost = cross_entropy(judged(p, x), 1) + cross_entropy(judged(p, image(p, "critic")), 0)
            slopes = jax.vmap(jax.grad(lambda u: judged(p, u[None])[0]))(x)
            return cost + config.r1 / 2 * jnp.sum(slopes**2) / len(x)

        def generator(p):
            return cross_entropy(judged(p, image(p, "generator")), 1)

        def reciprocity(p):
            z = turns["reciprocity"][0]
            # The target is what F said before this turn, whatever F becomes.
            target = z if config.reciprocity == "z" else fixed(p, z)
            found = run(p, {}, "enc", image(p, "reciprocity"))
            return jnp.sum((found - target) ** 2) / z.size

        def fixed(p, z):
            return jax.lax.stop_gradient(run(p, {}, "map", z))

        owns = {
            "critic": ("eye" if config.separate else "enc", "dis"),
            "generator": ("map", "gen"),
            "reciprocity": ("enc", "gen", *(["map"] if config.update_f_in_reciprocity else [])),
        }
        if config.moments == "shared" and not config.separate:
            owns["reciprocity"] += ("dis",)  # whose gradient is zero
        turns_of = {"critic": critic, "generator": generator, "reciprocity": reciprocity}
        return Oracle(owns, turns_of, simultaneous=False)

    return losses


LOSSES = {name: alae(name) for name in ("alae", "alae style", "alae ablated")}
