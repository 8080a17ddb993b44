"""The losses of ACAI and of the adversarial autoencoder that it is compared with."""

import jax.numpy as jnp
import numpy as np

from oracles.common import Oracle, cross_entropy, of


def framed(config, image):
    """Images on [-1, 1] in the middle of a black frame."""
    unit, side = 2**config.scales, image.shape[1]
    whole = max(side, config.side)
    while whole % unit:
        whole += 1
    out = -np.ones((len(image), whole, whole, image.shape[3]), np.float32)
    edge = (whole - side) // 2
    out[:, edge : edge + side, edge : edge + side] = 2 * np.asarray(image) - 1
    return jnp.asarray(out)


def acai(variant):
    def losses(spec, state, batch, draws):
        config, run = of(variant, spec)
        x = framed(config, batch["image"])
        n, pixels = len(x), x[0].size
        (u,) = draws
        assert u.shape == (n,)
        alpha = jnp.minimum(u, 1 - u)

        def decoded(p, h):
            return run(p, {}, "dec", h)

        def mixed(p):
            h = run(p, {}, "enc", x)
            rows = [alpha[i] * h[i] + (1 - alpha[i]) * h[n - 1 - i] for i in range(n)]
            return decoded(p, jnp.stack(rows))

        def autoencoder(p):
            back = decoded(p, run(p, {}, "enc", x))
            judged = run(p, {}, "critic", mixed(p))
            return jnp.sum((back - x) ** 2) / n / pixels + config.weight * jnp.sum(judged**2) / n

        def critic(p):
            back = decoded(p, run(p, {}, "enc", x))
            guess = run(p, {}, "critic", mixed(p)) - alpha
            anchor = run(p, {}, "critic", back + config.gamma * (x - back))
            return jnp.sum(guess**2 + anchor**2) / n

        owns = {"autoencoder": ("enc", "dec"), "critic": ("critic",)}
        turns = {"autoencoder": autoencoder, "critic": critic}
        return Oracle(owns, turns, config.simultaneous)

    return losses


def aae(variant):
    def losses(spec, state, batch, draws):
        config, run = of(variant, spec)
        x = framed(config, batch["image"])
        (prior,) = draws

        def encoded(p):
            return run(p, {}, "enc", x)

        def judged(p):
            return run(p, {}, "critic", encoded(p).reshape(len(x), -1))

        def autoencoder(p):
            back = run(p, {}, "dec", encoded(p))
            return jnp.mean((back - x) ** 2) + config.prior_weight * cross_entropy(judged(p), 1)

        def critic(p):
            assert prior.shape == encoded(p).reshape(len(x), -1).shape
            return cross_entropy(run(p, {}, "critic", prior), 1) + cross_entropy(judged(p), 0)

        owns = {"autoencoder": ("enc", "dec"), "critic": ("critic",)}
        turns = {"autoencoder": autoencoder, "critic": critic}
        return Oracle(owns, turns, config.simultaneous)

    return losses


LOSSES = {"acai": acai("acai"), "acai aae": aae("acai aae")}
