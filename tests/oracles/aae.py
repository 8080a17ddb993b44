"""The AAE's losses, one for each phase."""

import jax
import jax.numpy as jnp
import numpy as np

from oracles.common import Oracle, cross_entropy, of, r1

WITH_CLASSES = ("semisupervised", "reduction")


def aae(variant):
    def losses(spec, state, batch, draws):
        config, run = of(variant, spec)
        x, stats = batch["image"], state.extra["stats"]
        n, k = len(x), spec.classes if config.task != "reduction" else config.clusters
        # In the order in which the step draws: posterior noise, labels of the prior, the prior,
        # classes, noise and dropout of the image, noise on the two discriminators' inputs.
        draws = iter(draws)
        eps, labels, prior = next(draws), next(draws), next(draws)
        classes, noise = next(draws), next(draws)
        kept = next(draws) >= 0.2 if config.image_dropout else None
        blur_z, blur_y = 0.1 * next(draws), 0.0 * next(draws)
        if not config.critic_noise:
            blur_z = 0.0 * blur_z
        seen = x + config.image_noise * noise
        if kept is not None:
            seen = jnp.where(kept, seen / 0.8, 0.0)

        told = None
        if config.task == "conditioned":
            known = np.where(batch["labelled"], batch["label"], k)
            told = jax.nn.one_hot(known, k + 1)
            labels = np.where(known == k, labels, known)
        if config.prior == "mixture":  # a flower of petals, one for each class
            angle = 2 * np.pi * labels / k
            u, v = 1.4 + 0.5 * prior[:, 0], 0.05 * prior[:, 1]
            prior = jnp.stack(
                [np.cos(angle) * u - np.sin(angle) * v, np.sin(angle) * u + np.cos(angle) * v], 1
            )

        def encoder(p, image, noise):
            flat = image.reshape(len(image), -1)
            if config.posterior == "universal":
                flat = jnp.concatenate([flat, noise], 1)
            h = run(p, stats, "trunk", flat)
            code = run(p, stats, "code", h)
            if config.posterior == "gaussian":
                mean, raw = code[:, : config.latent], code[:, config.latent :]
                code = mean + jnp.exp(5 * jnp.tanh(raw / 10)) * noise
            y = jax.nn.softmax(run(p, stats, "label", h)) if config.task in WITH_CLASSES else None
            return y, code

        def reconstruction(p):
            y, z = encoder(p, seen, eps)
            if config.task == "reduction":
                z = y @ p["heads"]["rows"] + z
            elif config.task == "supervised":
                z = jnp.concatenate([jax.nn.one_hot(batch["label"], k), z], 1)
            elif y is not None:
                z = jnp.concatenate([y, z], 1)
            back = jax.nn.sigmoid(run(p, stats, "dec", z)).reshape(x.shape)
            return jnp.sum((x - back) ** 2) / 2 / n

        def judged(p, z, blur):
            z = z + blur
            return run(p, stats, "critic_z", z if told is None else jnp.concatenate([z, told], 1))

        def critic_z(p):
            real, fake = judged(p, prior, blur_z[0]), judged(p, encoder(p, seen, eps)[1], blur_z[1])
            cost = cross_entropy(real, 1) + cross_entropy(fake, 0)
            if config.r1:
                cost += r1(config.r1, lambda z: run(p, stats, "critic_z", z)[:, 0], prior)
            return cost

        def critic_y(p):
            real = run(p, stats, "critic_y", jax.nn.one_hot(classes, k) + blur_y[0])
            fake = run(p, stats, "critic_y", encoder(p, seen, eps)[0])
            return cross_entropy(real, 1) + cross_entropy(fake, 0)

        def fool(p):
            y, z = encoder(p, seen, eps)
            cost = cross_entropy(judged(p, z, blur_z[1]), 1)
            if y is not None:
                cost += cross_entropy(run(p, stats, "critic_y", y), 1)
            return cost

        encoders = ("trunk", "code") if config.task not in WITH_CLASSES else (
            "trunk", "code", "label")  # fmt: skip
        owns = {"reconstruction": (*encoders, "dec"), "critic_z": ("critic_z",), "fool": encoders}
        turns = {"reconstruction": reconstruction, "critic_z": critic_z}
        if config.task in WITH_CLASSES:
            owns["critic_y"], turns["critic_y"] = ("critic_y",), critic_y
        turns["fool"] = fool
        if config.task == "semisupervised":
            few = batch["supervised"]
            _, few_noise = next(draws), next(draws)

            def supervised(p):
                y, _ = encoder(p, few["image"], few_noise)
                return -jnp.mean(jnp.log(y[np.arange(len(y)), few["label"]]))

            owns["supervised"], turns["supervised"] = ("trunk", "label"), supervised
        if config.task == "reduction":

            def heads(p):
                rows, cost = p["heads"]["rows"], 0.0
                for i in range(k):
                    for j in range(i):
                        apart = jnp.sqrt(jnp.sum((rows[i] - rows[j]) ** 2))
                        cost += jnp.maximum(0.0, config.margin - apart)
                return cost

            owns["reconstruction"] += ("heads",)
            owns["heads"], turns["heads"] = ("heads",), heads
        return Oracle(owns, turns, simultaneous=False)

    return losses


LOSSES = {
    name: aae(name)
    for name in (
        "aae",
        "aae conditioned",
        "aae supervised",
        "aae semisupervised",
        "aae reduction",
        "aae r1",
    )
}
