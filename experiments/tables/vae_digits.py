"""VAE on digits: linear against probabilistic PCA, importance weighting, the plain run, options.

Sections 2, 3, 4 and 6 of the acceptance list. The expected numbers come from closed forms or
were measured by an independent program in the same setting: 1,437/360 digits, encoder 256-256,
Z=16, Adam 1e-3, batch 64, 2,000 steps. Probes encode the grey images.

    python experiments/tables/vae_digits.py
"""

import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from common import (
    KEY,
    against,
    digits,
    gather,
    holds,
    make,
    on_test,
    parser,
    probes,
    publish,
    shown,
    table,
    train,
)
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from jaxae import evaluation, losses
from jaxae.models import vae

PPCA = {2: (0.05397, 0.090, -0.437), 8: (0.02718, 14.364, 13.362), 16: (0.01462, 24.107, 22.693)}
IWAE = {5: -22.83, 50: -22.69, 500: -22.66, 2000: -22.66}


def flat(split) -> np.ndarray:
    """A split's images as float64 rows."""
    return np.float64(evaluation.pixels_of(split, 360))


def ppca(x: np.ndarray, d: int):
    """Mean, covariance and noise variance of the best probabilistic PCA (Tipping & Bishop)."""
    values, axes = np.linalg.eigh(np.cov(x.T, bias=True))
    noise = values[:-d].mean()
    factors = axes[:, -d:] * np.sqrt(values[-d:] - noise)
    return x.mean(0), factors @ factors.T + noise * np.eye(x.shape[1]), noise


def linear(seeds: int, steps: int) -> str:
    """A linear VAE trained on the whole grey training set at each step, beside the closed form."""
    data, rows = digits("none"), []
    x, unseen = flat(data.train), flat(data.test)
    batch = {"image": jnp.asarray(x.reshape(-1, 8, 8, 1), jnp.float32)}
    for d, (reference_noise, reference_train, reference_test) in PPCA.items():
        mean, covariance, noise = ppca(x, d)
        best = multivariate_normal(mean, covariance)
        rows.append((f"d={d}, closed form", "σ²", *against(noise, reference_noise, 1e-5, 5)))
        for name, rows_of, reference in (
            ("train", x, reference_train),
            ("test", unseen, reference_test),
        ):
            value = best.logpdf(rows_of).mean()
            rows.append(
                (f"d={d}, closed form", f"{name} log p", *against(value, reference, 1e-3, 3))
            )
        model = make(vae, data, latent=d, widths=(), likelihood="gaussian_learned",
                     scale=0.3, learning_rate=1e-2, decay_steps=steps)  # fmt: skip

        @jax.jit
        def trained(of_init, of_steps, model=model):
            step = lambda state, key: (model.step(state, batch, key)[0], None)
            start = model.init(of_init)
            # A decoder far too large shrinks slowly: its code is as good, but for the rate.
            dec = start.params["dec"]["Dense_0"]
            dec = {"Dense_0": dec | {"kernel": 0.05 * dec["kernel"]}}
            start = start.replace(params=start.params | {"dec": dec})
            return jax.lax.scan(step, start, jax.random.split(of_steps, steps))[0]

        start = time.monotonic()
        state = trained(*jax.random.split(jax.random.key(0)))
        weigh = jax.jit(lambda key: model.log_weight(state, batch["image"], key))
        log_w = np.float64([weigh(key) for key in jax.random.split(jax.random.key(KEY), 256)])
        print(f"  d={d}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
        p = jax.tree.map(np.float64, state.params)
        kernel, bias = p["dec"]["Dense_0"]["kernel"], p["dec"]["Dense_0"]["bias"]
        variance = np.exp(2 * p["scale"]["log_scale"])
        own = multivariate_normal(bias, kernel.T @ kernel + variance * np.eye(64)).logpdf(x)
        row = f"d={d}, linear VAE, train"
        elbo = log_w.mean()
        rows.append((row, "σ²", *against(variance, round(noise, 5), 3e-4, 5)))
        rows.append((row, "ELBO", *against(elbo, round(best.logpdf(x).mean(), 3), 0.02, 3)))
        rows.append((row, "own exact log p", shown(own.mean(), 3), "", ""))
        error = (log_w.mean(0) - own).std() / np.sqrt(len(x))
        _, below, verdict = holds("", elbo, own.mean() + 5 * error, 3)
        rows.append((row, "ELBO ≤ own log p", below, "", verdict))
        before = -np.inf
        for k in (1, 4, 16, 64, 256):
            bound = (logsumexp(log_w.reshape(-1, k, len(x)), axis=1) - np.log(k)).mean()
            verdict = "pass" if before <= bound else "**FAIL**"
            rows.append((row, f"IWAE-{k}, not below the one before", f"{bound:.4f}", "", verdict))
            before = bound
        rows.append(
            (row, "IWAE-256 against own log p", *against(bound, round(own.mean(), 3), 0.05, 3))
        )
    head = ("", "number", "ours", "expected", "")
    title = f"2. Linear VAE and probabilistic PCA, {steps} full-batch steps, Adam 1e-2 cosine"
    return table(title, head, rows)


def importance(seeds: int, steps: int) -> str:
    """IWAE-k on a 6 -> 2 linear-Gaussian model with known log p, with two posteriors."""
    rng = np.random.default_rng(0)
    loadings, noise = rng.normal(size=(6, 2)), 0.5
    x = loadings @ rng.normal(size=2) + noise * rng.normal(size=6)
    exact = multivariate_normal(np.zeros(6), loadings @ loadings.T + noise**2 * np.eye(6)).logpdf(x)
    precision = np.eye(2) + loadings.T @ loadings / noise**2
    centre = np.linalg.solve(precision, loadings.T @ x) / noise**2
    deviation = 1 / np.sqrt(np.diag(precision))
    root = np.linalg.cholesky(np.linalg.inv(precision))
    samples, rows = rng.normal(size=(2000, 500, 2)), []
    log_normal = lambda v, mean, s: np.sum(
        -0.5 * ((v - mean) / s) ** 2 - np.log(s) - 0.5 * np.log(2 * np.pi), axis=-1
    )
    for name, shift, width in (("diagonal q", 0.0, 1.0), ("shifted, 1.3 times as wide", 0.5, 1.3)):
        mean, s = centre + shift * deviation, width * deviation
        z = mean + s * samples
        log_w = (
            log_normal(x, z @ loadings.T, noise) + log_normal(z, 0.0, 1.0) - log_normal(z, mean, s)
        )
        before = -np.inf
        for k in (1, 5, 50, 500):
            grouped = jnp.asarray(log_w.reshape(-1, k), jnp.float32)
            each = np.float64(losses.importance_weighted_bound(grouped, axis=1))
            bound, error = each.mean(), each.std() / np.sqrt(len(each))
            fits = before <= bound <= exact + 5 * error
            rows.append(
                (name, f"k={k}", f"{bound:.4f} ± {error:.4f}", "pass" if fits else "**FAIL**")
            )
            before = bound
    z = centre + samples[0] @ root.T
    log_q = multivariate_normal(centre, root @ root.T).logpdf(z)
    log_w = log_normal(x, z @ loadings.T, noise) + log_normal(z, 0.0, 1.0) - log_q
    wide = np.abs(log_w - exact).max()
    rows.append(("exact posterior", "largest distance of log w from log p", f"{wide:.1e}",
                 "pass" if wide < 1e-9 else "**FAIL**"))  # fmt: skip
    title = f"3. Importance-weighted bound, 6 → 2 linear-Gaussian model with log p = {exact:.4f}"
    return table(title, ("posterior", "", "ours", ""), rows)


def plain(seeds: int, steps: int) -> str:
    """The digits VAE: bounds, probes, and the baselines."""
    data, grey, rows = digits(), digits("none"), []
    report = lambda row, number, values, reference, tolerance: rows.append(
        (row, number, *against(values, reference, tolerance, 2 if tolerance > 0.1 else 3))
    )
    model = make(vae, data)
    states, _ = train(model, data, seeds, steps)
    test = on_test(model, states, data)
    for number, name, reference in (
        ("R", "rate", 4.6),
        ("D", "distortion", 18.9),
        ("-ELBO", "loss", 23.2),
    ):
        report("VAE, test", number, test[name], reference, 0.3)
    for k, reference in IWAE.items():
        bound = lambda state, k=k: evaluation.bounds(
            model, state, data.test, samples=k, batch_size=360, rng=jax.random.key(KEY), chunk=50,
            measured={},  # rate and distortion are known already
        )  # fmt: skip
        found = gather(states, lambda state: {"iwae": bound(state)["iwae_nats"]})
        report("VAE, test", f"IWAE-{k}", found["iwae"], reference, 0.3)
    seen = probes(model, states, grey)
    report("VAE", "logistic probe", seen["logistic"], 0.95, 0.02)
    report("VAE", "5-NN", seen["5-NN"], 0.97, 0.02)

    mean, x = np.clip(data.spec.mean.reshape(-1), 1e-3, 1 - 1e-3), flat(data.test)
    alone = -np.mean(np.sum(x * np.log(mean) + (1 - x) * np.log1p(-mean), axis=1))
    report("independent pixels, test", "nats", alone, 27.2, 0.3)
    train_grey, test_grey = flat(grey.train), flat(grey.test)
    axes = np.linalg.svd(train_grey - train_grey.mean(0), full_matrices=False)[2][:16]
    accuracy = evaluation.linear_probe(
        train_grey @ axes.T, grey.train.labels, test_grey @ axes.T, grey.test.labels
    )
    report("PCA-16", "logistic probe", accuracy, 0.953, 0.02)
    title = f"4. VAE, mean ± deviation of {seeds} seeds"
    return table(title, ("row", "number", "ours", "reference", ""), rows)


def options(seeds: int, steps: int) -> str:
    """What the reweighted objectives do to the true rate and distortion."""
    data, rows = digits(), []
    mean, x = np.clip(data.spec.mean.reshape(-1), 1e-3, 1 - 1e-3), flat(data.test)
    alone = -np.mean(np.sum(x * np.log(mean) + (1 - x) * np.log1p(-mean), axis=1))
    seen = {}
    for name, fields in {
        "beta=1": {},
        "beta=0": {"beta": 0.0},
        "beta=100": {"beta": 100.0},
        "free_bits=0.5": {"free_bits": 0.5},
        "capacity=10": {"capacity": 10.0, "capacity_steps": steps // 2, "decay_steps": steps},
        "warm-up": {"warmup_steps": steps // 2},
        "iwae_k=5": {"iwae_k": 5},
        "iwae_k=5, dreg": {"iwae_k": 5, "iwae_gradient": "dreg"},
    }.items():
        model = make(vae, data, **fields)
        states, _ = train(model, data, 1, steps)
        seen[name] = {k: float(v[0]) for k, v in on_test(model, states, data).items()}
        rows.append((name, *(f"{seen[name][k]:.2f}" for k in ("rate", "distortion", "loss"))))
    musts = [
        holds("beta=100: R ≤ 0.05", seen["beta=100"]["rate"], 0.05, 3),
        holds("beta=100: distance of D from independent pixels",
              abs(seen["beta=100"]["distortion"] - alone), 0.3),
        holds("beta=0: D ≤ D(beta=1)", seen["beta=0"]["distortion"], seen["beta=1"]["distortion"]),
        holds("capacity=10: distance of R from 10", abs(seen["capacity=10"]["rate"] - 10), 1.0),
        holds("free bits: 16 x 0.5 - 1 ≤ R", 7.0, seen["free_bits=0.5"]["rate"]),
    ]  # fmt: skip
    head = ("option", "R", "D", "R + D")
    return (
        table("6. Options, test set, one seed", head, rows)
        + "\n"
        + table("6. What must hold", ("", "", ""), musts)
    )


def main() -> None:
    parts = {"linear": linear, "importance": importance, "plain": plain, "options": options}
    args = parser(__doc__, tuple(parts), seeds=3, steps=2000).parse_args()
    steps = {"linear": 8 * args.steps}
    publish("vae_digits", "VAE on digits", {
        name: lambda name=name: parts[name](args.seeds, steps.get(name, args.steps))
        for name in args.only
    }, len(args.only) == len(parts))  # fmt: skip


if __name__ == "__main__":
    main()
