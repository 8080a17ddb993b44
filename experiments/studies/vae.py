"""VAE: linear against probabilistic PCA, the importance-weighted bound, the recipes, the options.

The expected numbers come from closed forms or were measured by an independent program in the same
setting. Probes read the codes of grey images.
"""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm
from studylib.declare import Run, Study, Trained
from studylib.pages import compared, mean_std, near, requirement, table

from jaxae import evaluation, losses
from jaxae.models import vae
from studies.common import grey_probes, images, on_test, untrained_probe

VAE, MNIST = "VAE", "VAE, recipe mnist"
STEPS, LINEAR_STEPS = 2000, 16_000
OPTIONS = {
    "beta=0": {"beta": 0.0},
    "beta=100": {"beta": 100.0},
    "free_bits=0.5": {"free_bits": 0.5},
    "capacity=10": {"capacity": 10.0, "capacity_steps": STEPS // 2, "decay_steps": STEPS},
    "warm-up": {"warmup_steps": STEPS // 2},
    "iwae_k=5": {"iwae_k": 5},
    "iwae_k=5, dreg": {"iwae_k": 5, "iwae_gradient": "dreg"},
}
LINEAR = {2: {"latent": 2}, 8: {"latent": 8}, 16: {}}  # 16 is the recipe's
PPCA = {2: (0.05397, 0.090, -0.437), 8: (0.02718, 14.364, 13.362), 16: (0.01462, 24.107, 22.693)}
"""by size of the code: variance of the noise, log p of the training and of the test images"""
BOUNDS = (5, 50, 500, 2000)  # samples
EXPECTED = {
    "rate": 4.6, "distortion": 18.9, "loss": 23.2,
    "IWAE-5": -22.83, "IWAE-50": -22.69, "IWAE-500": -22.66, "IWAE-2000": -22.66,
    "linear probe": 0.95, "5-NN": 0.97, "independent pixels": 27.2, "linear probe, PCA-16": 0.953,
}  # fmt: skip
NAMES = {"rate": "R", "distortion": "D", "loss": "R + D (-ELBO)"}
GROWING = (1, 4, 16, 64, 256)  # samples of the linear VAE's bounds
WEIGHTED = (1, 5, 50, 500)  # samples of the bounds of the linear-Gaussian model
POSTERIORS = {"diagonal q": (0.0, 1.0), "shifted, 1.3 times as wide": (0.5, 1.3)}


def small_decoder(config, spec):
    """A linear decoder that begins at a twentieth: one that is far too large shrinks slowly, and
    its code is as good, but for the rate."""
    model = vae.make(config, spec)

    def init(rng):
        state = model.init(rng)
        layer = state.params["dec"]["Dense_0"]
        small = {"Dense_0": layer | {"kernel": 0.05 * layer["kernel"]}}
        return state.replace(params=state.params | {"dec": small})

    return model._replace(init=init)


def linear(d: int) -> str:
    """The name of a linear VAE's run."""
    return f"linear VAE, d={d}"


# A step sees all training images, in grey levels.
LINEAR_VAE = {
    "binarise": "none", "widths": (), "likelihood": "gaussian_learned", "scale": 0.3,
    "learning_rate": 1e-2, "batch_size": 1437, "steps": LINEAR_STEPS, "decay_steps": LINEAR_STEPS,
}  # fmt: skip
RUNS = {
    **{linear(d): Run("vae", "digits", LINEAR_VAE | LINEAR[d], make=small_decoder) for d in LINEAR},
    VAE: Run("vae", "digits", seeds=3),
    **{name: Run("vae", "digits", changes) for name, changes in OPTIONS.items()},
    MNIST: Run("vae", "mnist"),
}


# -- measures --------------------------------------------------------------------------------------


def flat(split) -> np.ndarray:
    """A split's images as float64 rows."""
    rows = images(split)
    return np.float64(rows.reshape(len(rows), -1))


def ppca(x: np.ndarray, d: int):
    """Mean, covariance and noise variance of the best probabilistic PCA (Tipping & Bishop)."""
    values, axes = np.linalg.eigh(np.cov(x.T, bias=True))
    noise = values[:-d].mean()
    factors = axes[:, -d:] * np.sqrt(values[-d:] - noise)
    return x.mean(0), factors @ factors.T + noise * np.eye(x.shape[1]), noise


def beside_ppca(run: Trained) -> dict:
    """A linear VAE's bounds on the training images, its exact log p, and the closed form."""
    x = flat(run.data.train)
    mean, covariance, noise = ppca(x, run.settings.model.latent)
    best = multivariate_normal(mean, covariance)
    seen = images(run.data.train)
    weigh = jax.jit(lambda key: run.model.log_weight(run.state, seen, key))
    log_w = np.float64([weigh(key) for key in jax.random.split(run.rng(), GROWING[-1])])
    p = jax.tree.map(np.float64, run.state.params)
    kernel, bias = p["dec"]["Dense_0"]["kernel"], p["dec"]["Dense_0"]["bias"]
    variance = np.exp(2 * p["scale"]["log_scale"])
    own = multivariate_normal(bias, kernel.T @ kernel + variance * np.eye(len(bias))).logpdf(x)
    bound = lambda k: logsumexp(log_w.reshape(-1, k, len(x)), axis=1) - np.log(k)
    return {
        "best variance": noise,
        "best log p, train": best.logpdf(x).mean(),
        "best log p, test": best.logpdf(flat(run.data.test)).mean(),
        "variance": variance,
        "ELBO": log_w.mean(),
        "own log p": own.mean(),
        "error of the ELBO": (log_w.mean(0) - own).std() / np.sqrt(len(x)),
        "bounds": [bound(k).mean() for k in GROWING],
    }


def weighted_bounds(run: Trained) -> dict:
    """IWAE-k of one image of a 6 -> 2 linear-Gaussian model with known log p. Nothing is trained:
    the run does not matter."""
    rng = np.random.default_rng(0)
    loadings, noise = rng.normal(size=(6, 2)), 0.5
    x = loadings @ rng.normal(size=2) + noise * rng.normal(size=6)
    exact = multivariate_normal(np.zeros(6), loadings @ loadings.T + noise**2 * np.eye(6)).logpdf(x)
    precision = np.eye(2) + loadings.T @ loadings / noise**2
    centre = np.linalg.solve(precision, loadings.T @ x) / noise**2
    deviation = 1 / np.sqrt(np.diag(precision))
    root = np.linalg.cholesky(np.linalg.inv(precision))
    draws = rng.normal(size=(2000, 500, 2))
    log_normal = lambda v, mean, s: norm.logpdf(v, mean, s).sum(-1)
    joint = lambda z: log_normal(x, z @ loadings.T, noise) + log_normal(z, 0.0, 1.0)
    numbers = {"exact log p": exact}
    for name, (shift, width) in POSTERIORS.items():
        mean, s = centre + shift * deviation, width * deviation
        z = mean + s * draws
        log_w = jnp.asarray(joint(z) - log_normal(z, mean, s), jnp.float32)
        each = [losses.importance_weighted_bound(log_w.reshape(-1, k), axis=1) for k in WEIGHTED]
        numbers[name] = [np.float64(bounds).mean() for bounds in each]
        numbers[f"{name}, errors"] = [np.float64(b).std() / np.sqrt(len(b)) for b in each]
    z = centre + draws[0] @ root.T
    log_w = joint(z) - multivariate_normal(centre, root @ root.T).logpdf(z)
    return numbers | {"exact posterior": np.abs(log_w - exact).max()}


def iwae(run: Trained, k: int) -> float:
    """The importance-weighted bound on the test images, nats."""
    return evaluation.bounds(
        run.model, run.state, run.data.test, samples=k, batch_size=360, rng=run.rng(), chunk=50,
        measured={},  # rate and distortion are known already
    )["iwae_nats"]  # fmt: skip


def iwae_bounds(run: Trained) -> dict[str, float]:
    """Bounds of growing numbers of samples."""
    return {f"IWAE-{k}": iwae(run, k) for k in BOUNDS}


def iwae_100(run: Trained) -> dict[str, float]:
    """The bound of 100 samples."""
    return {"IWAE-100": iwae(run, 100)}


def without_a_model(run: Trained) -> dict[str, float]:
    """Nats of a test image where pixels are independent, and a linear probe on 16 components."""
    mean, x = np.clip(run.data.spec.mean.reshape(-1), 1e-3, 1 - 1e-3), flat(run.data.test)
    grey = run.data.unbinarised
    train, test = flat(grey.train), flat(grey.test)
    axes = np.linalg.svd(train - train.mean(0), full_matrices=False)[2][:16]
    return {
        "independent pixels": -np.mean(np.sum(x * np.log(mean) + (1 - x) * np.log1p(-mean), 1)),
        "linear probe, PCA-16": evaluation.linear_probe(
            train @ axes.T, grey.train.labels, test @ axes.T, grey.test.labels
        ),
    }


# -- what is read from them ------------------------------------------------------------------------


def growing(values, limit=np.inf):
    """A verdict for each value: not below the one before, nor above the limit."""
    fits = (np.diff(values, prepend=-np.inf) >= 0) & (values <= limit)
    return np.where(fits, "pass", "**FAIL**")


def linear_rows(d: int, of):
    """The rows of a linear VAE."""
    closed, row = f"d={d}, closed form", f"d={d}, linear VAE, train"
    noise, of_train, of_test = PPCA[d]
    best, best_noise, own = of["best log p, train"], of["best variance"], of["own log p"]
    yield closed, "σ²", *near(best_noise, noise, 1e-5, 5)
    yield closed, "train log p", *near(best, of_train, 1e-3, 3)
    yield closed, "test log p", *near(of["best log p, test"], of_test, 1e-3, 3)
    yield row, "σ²", *near(of["variance"], round(best_noise, 5), 3e-4, 5)
    yield row, "ELBO", *near(of["ELBO"], round(best, 3), 0.02, 3)
    yield row, "own exact log p", mean_std(own, 3), "", ""
    _, below, verdict = requirement("", of["ELBO"], own + 5 * of["error of the ELBO"], 3)
    yield row, "ELBO ≤ own log p", below, "", verdict
    bounds = of["bounds"]
    for k, bound, verdict in zip(GROWING, bounds, growing(bounds), strict=True):
        yield row, f"IWAE-{k}, not below the one before", f"{bound:.4f}", "", verdict
    yield row, "IWAE-256 against own log p", *near(bounds[-1], round(own, 3), 0.05, 3)


def page(numbers):
    """The tables."""
    first = lambda name: {key: value[0] for key, value in numbers[name].items()}
    yield table(
        f"1. Linear VAE and probabilistic PCA, {LINEAR_STEPS} full-batch steps, Adam 1e-2 cosine",
        ["", "number", "ours", "expected", ""],
        [row for d in LINEAR for row in linear_rows(d, first(linear(d)))],
    )
    known, rows = first(linear(2)), []
    for name in POSTERIORS:
        values, errors = known[name], known[f"{name}, errors"]
        verdicts = growing(values, known["exact log p"] + 5 * errors)
        for k, value, error, verdict in zip(WEIGHTED, values, errors, verdicts, strict=True):
            rows.append([name, f"k={k}", f"{value:.4f} ± {error:.4f}", verdict])
    wide = known["exact posterior"]
    rows.append(["exact posterior", "largest distance of log w from log p", f"{wide:.1e}",
                 "pass" if wide < 1e-9 else "**FAIL**"])  # fmt: skip
    log_p = f"{known['exact log p']:.4f}"
    yield table(
        f"2. Importance-weighted bound, 6 → 2 linear-Gaussian model with log p = {log_p}",
        ["posterior", "", "ours", ""],
        rows,
    )
    others = dict.fromkeys(("linear probe", "5-NN", "linear probe, PCA-16"), 0.02)
    title = "3. The recipe `digits`, test images, mean ± deviation of 3 seeds"
    yield compared(title, numbers, {VAE: EXPECTED}, 0.3, others, NAMES)
    tried = {"beta=1": first(VAE)} | {name: first(name) for name in OPTIONS}
    yield table(
        "4. Options, test images, first seed",
        ["option", "R", "D", "R + D"],
        [[name, *(f"{of[k]:.2f}" for k in ("rate", "distortion", "loss"))]
         for name, of in tried.items()],
    )  # fmt: skip
    yield table("4. What must hold", ["", "", ""], [
        requirement("beta=100: R ≤ 0.05", tried["beta=100"]["rate"], 0.05, 3),
        requirement("beta=100: distance of D from independent pixels",
                    abs(tried["beta=100"]["distortion"] - tried["beta=1"]["independent pixels"]),
                    0.3),
        requirement("beta=0: D ≤ D(beta=1)", tried["beta=0"]["distortion"],
                    tried["beta=1"]["distortion"]),
        requirement("capacity=10: distance of R from 10", abs(tried["capacity=10"]["rate"] - 10),
                    1.0),
        requirement("free bits: 16 x 0.5 - 1 ≤ R", 7.0, tried["free_bits=0.5"]["rate"]),
    ])  # fmt: skip
    of = numbers[MNIST]
    nats = ("rate", "distortion", "loss", "IWAE-100")
    shares = ("linear probe", "linear probe, untrained", "5-NN")
    yield table(
        "5. The recipe `mnist`, test images, one seed",
        [NAMES.get(key, key) for key in (*nats, *shares)],
        [[*(mean_std(of[key]) for key in nats), *(mean_std(of[key], 4) for key in shares)]],
        "Untrained: the same encoder before the first step.",
    )


STUDY = Study(
    title="VAE: bounds that are known, and what the options do",
    runs=RUNS,
    measures={
        **{linear(d): (beside_ppca,) for d in LINEAR},
        linear(2): (beside_ppca, weighted_bounds),
        VAE: (on_test, iwae_bounds, grey_probes, without_a_model),
        **dict.fromkeys(OPTIONS, (on_test,)),
        MNIST: (on_test, iwae_100, grey_probes, untrained_probe),
    },
    page=page,
)
