"""All measures of a trained state, as `result.json` and `report.html`."""

import base64
import html
import importlib.metadata
import math
import os
import pathlib
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxae.evaluation.clusters import cluster_errors
from jaxae.evaluation.codes import encode_split, on_images
from jaxae.evaluation.fidelity import SAMPLES, fidelity_table
from jaxae.evaluation.kinds import bits_offset
from jaxae.evaluation.kmeans import kmeans_table
from jaxae.evaluation.likelihood import active_units, bounds, mean_over, summary
from jaxae.evaluation.passes import evenly_spaced, over_split
from jaxae.evaluation.probes import probe_table
from jaxae.evaluation.reconstruction import reconstruction
from jaxae.evaluation.retrieval import retrieval_table
from jaxae.evaluation.two_sample import classifier_test, mmd_test, two_sample_test
from jaxae.training.state import Model, State

VALIDATION = 10_000  # training images on which clusters get their labels, at most
CODES = 2000  # test codes compared with the prior, at most
MIN_CODES = 4
MAX_NAMES = 20  # class names in a table


def assess_run(
    model: Model,
    state: State,
    untrained: State | None,
    data: Any,
    *,
    rng: jax.Array,
    batch_size: int,
    iwae_samples: int,
    probe_train_limit: int | None = 20_000,
    limit: int | None = None,
    per_example: bool = True,
    probe_data: Any = None,
    images: int = SAMPLES,
) -> dict[str, Any]:
    """All measures of one state on the test set, as plain JSON values.

    Args:
        model: the bundle; measures that need a capability it lacks are left out.
        state: the trained state.
        untrained: a state from `model.init` for the probes' baseline, or None.
        data: a data set with `train` and `test`.
        rng: one key; two calls with the same key agree.
        batch_size: images at a time.
        iwae_samples: k of the importance-weighted bound.
        probe_train_limit: number of training examples for the probes; None for all.
        limit: number of test examples, evenly spaced; None for all.
        per_example: as in `mean_over`, for the model's `evaluate`.
        probe_data: data for the probes instead of `data`, such as the same images in grey levels
            for a model trained on binarised ones.
        images: maximum number of reconstructions and of samples; 0 leaves both out, for models
            that take minutes to sample.
    Returns:
        those of these that apply:
        `data`: name and options of the data (likelihoods under different binarisations are not
        comparable), number of validation images, and class names in the order of their numbers;
        `test`: means and standard errors of the model's `evaluate` (nats, or squared error if the
        model has no likelihood), named by its `result_names`;
        `likelihood`: `bounds`, for models with `log_weight`, with `why_no_bits_per_dim` if the
        bounds are not code lengths; and `active_units`, if `encode` returns the means of a
        `posterior` with the prior N(0, I);
        `probes`: `probe_table`; `clusters`: `kmeans_table`, of labelled data;
        `retrieval`: `retrieval_table`, for codes of bits;
        `prediction`, for models with `predict` on labelled data: `cluster_errors`, with clusters
        labelled on `VALIDATION` training images; and, if there are as many logits as classes,
        `error` (share of test images whose argmax is not the label) and `error_se`, which are
        meaningful only if `predict` was trained on labels;
        `codes_vs_prior`, for models with `prior` and `encode`: `statistic` and `p_value` of
        `two_sample_test` (`energy`), `mmd_test` (`mmd`) and `classifier_test` (`classifier`) of
        test codes and as many samples of the prior; the codes are samples of `posterior` if the
        model has it (the aggregated posterior), else of `encode`;
        `reconstruction`: of test images, by `encode` and `decode`;
        `fidelity`: `fidelity_table`, for models that sample;
        `whole_set`: the model's own `assess`.
    """
    keys = jax.random.split(rng, 8)
    of_means, of_bounds, of_codes, of_probes, of_set, of_labels, of_prior, of_search = keys
    of_clusters, of_images, of_samples = jax.random.split(jax.random.fold_in(rng, 8), 3)
    means = mean_over(model.evaluate, state, data.test, batch_size, of_means, limit, per_example)
    result = {"data": _describe_data(data), "test": _rename(means, model.result_names)}
    if model.log_weight is not None:
        offset, why_no_bits = bits_offset(model.likelihood, data)
        result["likelihood"] = bounds(
            model,
            state,
            data.test,
            samples=iwae_samples,
            batch_size=batch_size,
            rng=of_bounds,
            limit=limit,
            measured=means,
            offset_bits=offset,
        )
        if why_no_bits:
            result["likelihood"]["why_no_bits_per_dim"] = why_no_bits
        if None not in (model.encode, model.posterior, model.prior):
            codes, _ = encode_split(model, state, data.test, batch_size, of_codes, limit)
            result["likelihood"]["active_units"] = active_units(codes)
    result["probes"] = probe_table(
        model,
        state,
        untrained,
        probe_data or data,
        batch_size=batch_size,
        rng=of_probes,
        train_limit=probe_train_limit,
        limit=limit,
    )
    if probe_data:
        result["probes"]["data"] = _describe_data(probe_data)
    grey = probe_data or data
    every = {"batch_size": batch_size, "limit": limit}
    result["clusters"] = kmeans_table(model, state, grey, rng=of_clusters, **every)
    result["retrieval"] = retrieval_table(model, state, grey, rng=of_search, **every)
    if model.predict is not None and data.test.labels is not None:
        result["prediction"] = _prediction(model, state, data, batch_size, of_labels, limit)
    if model.prior is not None and model.encode is not None:
        count = min(CODES, limit or CODES)
        for_codes, for_prior, *for_tests = jax.random.split(of_prior, 5)
        sampler = model if model.posterior is None else model._replace(encode=model.posterior)
        codes, _ = encode_split(sampler, state, data.test, batch_size, for_codes, count)
        prior_samples = np.asarray(model.prior(for_prior, len(codes)))
        if len(codes) >= MIN_CODES:
            tests = {"energy": two_sample_test, "mmd": mmd_test, "classifier": classifier_test}
            result["codes_vs_prior"] = {
                name: test(codes, prior_samples, key)
                for (name, test), key in zip(tests.items(), for_tests, strict=True)
            }
    if images:
        count = min(images, limit or images)
        result["reconstruction"] = reconstruction(
            model, state, data, batch_size=batch_size, rng=of_images, limit=count
        )
        result["fidelity"] = fidelity_table(
            model, state, data, batch_size=batch_size, rng=of_samples, count=count
        )
    if model.assess is not None:
        result["whole_set"] = model.assess(state, data, of_set)
    return jsonable({name: part for name, part in result.items() if part is not None})


def _rename(means: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The numbers and standard errors of `mean_over` with the names used in results."""
    renamed = {}
    for name, value in means.items():
        number = name.removesuffix("_se")
        renamed[names.get(number, number) + name.removeprefix(number)] = value
    return renamed


def _prediction(
    model: Model, state: State, data: Any, batch_size: int, rng: jax.Array, limit: int | None
) -> dict[str, Any]:
    of_test, of_train = jax.random.split(rng)

    def predict(split: Any, key: jax.Array, count: int | None) -> tuple[np.ndarray, np.ndarray]:
        logits = over_split(on_images(model.predict), state, split, batch_size, key, count)
        if not np.isfinite(logits).all():
            raise ValueError("logits of predict hold NaN or infinity: the run has diverged")
        return logits, np.asarray(split.labels)[evenly_spaced(split.size, count)]

    logits, labels = predict(data.test, of_test, limit)
    same_size = logits.shape[1] == data.spec.classes
    error = summary("error", logits.argmax(1) != labels) if same_size else {}
    return error | cluster_errors(*predict(data.train, of_train, VALIDATION), logits, labels)


def _describe_data(data: Any) -> dict[str, Any]:
    options = ("binarise", "dequantise", "standardise")
    about = {"name": data.name, **{option: getattr(data.options, option) for option in options}}
    split = data.validation
    about["validation"] = "none" if split is None else f"{split.size} images"
    return about | ({"class_names": list(data.class_names)} if data.class_names else {})


def jsonable(value: Any) -> Any:
    """The same nested dicts and lists with plain Python numbers, for `json.dumps`."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return np.asarray(value).tolist()
    return value


def combine_seeds(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The results of several seeds as one: each number becomes its mean, error and values.

    Args:
        results: one nested dict per seed, with the same keys.
    Returns:
        a dict of the same structure; a number becomes `{"mean", "se", "values"}` with the standard
        error of the mean over seeds (n - 1; None for one seed). If any seed has None, the mean is
        None. Other values are kept if all seeds agree, else they become `{"values"}`.
    Raises:
        ValueError: no results, or different keys.
    """
    if not results:
        raise ValueError("there are no results to combine")
    if any(set(result) != set(results[0]) for result in results):
        names = [sorted(result) for result in results]
        raise ValueError(f"the seeds' results differ in their names: {names}")
    return {name: _combine([result[name] for result in results]) for name in results[0]}


def _combine(values: list[Any]) -> Any:
    if all(isinstance(value, Mapping) for value in values):
        return combine_seeds(values)
    if all(_is_number(value) or value is None for value in values):
        if all(value is None for value in values):
            return None
        mean = error = None
        if None not in values:
            mean = float(np.mean(values))
            if len(values) > 1:
                error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
        return {"mean": mean, "se": error, "values": values}
    if all(value == values[0] for value in values):
        return values[0]
    return {"values": values}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def flat_rows(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A result, of one or several seeds, as rows of a table.

    Args:
        result: from `assess_run` or `combine_seeds`.
    Returns:
        (name, text) in order; nested names are joined by dots, and numbers have their standard
        error, `104.2 ± 0.3`: over images for one seed, over seeds for several.
    """
    rows = []
    for name, value in result.items():
        if name.endswith("_se") and name.removesuffix("_se") in result:
            continue
        if isinstance(value, Mapping) and set(value) == {"mean", "se", "values"}:
            error = value["se"]
            if error is None:  # one seed: over images
                error = (result.get(f"{name}_se") or {}).get("mean")  # None for one image
            rows.append((name, _with_error(value["mean"], error)))
        elif isinstance(value, Mapping):
            rows += [(f"{name}.{inner}", text) for inner, text in flat_rows(value)]
        else:
            rows.append((name, _with_error(value, result.get(f"{name}_se"))))
    return rows


def _with_error(value: Any, error: float | None) -> str:
    return _text(value) if error is None or value is None else f"{_text(value)} ± {error:.2g}"


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        more = f", ... ({len(value)} in all)" if len(value) > MAX_NAMES else ""
        return ", ".join(value[:MAX_NAMES]) + more
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) < 1e6 else f"{value:.4g}"
    return str(value)


def environment() -> dict[str, Any]:
    """Versions and devices of this process, to store with results."""
    devices = jax.devices()
    affinity = getattr(os, "sched_getaffinity", None)  # not on every system
    cores = len(affinity(0)) if affinity else os.cpu_count()
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        **{name: importlib.metadata.version(name) for name in packages},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": devices[0].device_kind,
        "backend": jax.default_backend(),
        "device_count": len(devices),
        "cores": cores,
        "process_count": jax.process_count(),
    }


_STYLE = """
:root { color-scheme: light dark; --ink: #1d2129; --faint: #69707d; --line: #e1e4e8;
        --paper: #ffffff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --faint: #9aa3af; --line: #333941; --paper: #16191d; }
}
body { margin: 3rem auto; max-width: 62rem; padding: 0 1.5rem; color: var(--ink);
       background: var(--paper); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 2rem; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 0.7rem; }
table { border-collapse: collapse; width: 100%; font-size: 0.9rem; }
td { border-bottom: 1px solid var(--line); padding: 0.3rem 0.8rem 0.3rem 0; vertical-align: top;
     overflow-wrap: anywhere; }
td:first-child { color: var(--faint); width: 45%; }
td:last-child { font-variant-numeric: tabular-nums; }
figure { margin: 0 0 1.5rem; }
img { max-width: 100%; height: auto; background: #fff; border-radius: 6px; }
"""


def write_html(
    path: pathlib.Path,
    title: str,
    config: Mapping[str, Any],
    result: Mapping[str, Any],
    figures: Sequence[pathlib.Path],
    environment: Mapping[str, Any],
) -> None:
    """One self-contained page: numbers, figures, configuration, versions.

    Args:
        path: the file, written atomically.
        title: heading.
        config: nested or flat dict.
        result: from `assess_run` or `combine_seeds`.
        figures: PNG files, embedded.
        environment: from `environment`.
    """
    pictures = "\n".join(_picture(pathlib.Path(figure)) for figure in figures)
    sections = [
        f"<h1>{html.escape(title)}</h1>",
        f"<h2>Results</h2>\n{_table(flat_rows(result))}",
        f"<h2>Figures</h2>\n{pictures}" if pictures else "",
        f"<h2>Configuration</h2>\n{_table(flat_rows(config))}",
        f"<h2>Environment</h2>\n{_table(flat_rows(environment))}",
    ]
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(section for section in sections if section)
        + "\n</body></html>\n"
    )
    path = pathlib.Path(path)
    partial = path.with_name(path.name + ".part")
    partial.write_text(page, encoding="utf-8")
    partial.replace(path)


def _table(rows: Sequence[tuple[str, str]]) -> str:
    cells = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(text)}</td></tr>\n"
        for name, text in rows
    )
    return f"<table>\n{cells}</table>"


def _picture(path: pathlib.Path) -> str:
    content = base64.b64encode(path.read_bytes()).decode()
    name = html.escape(path.stem.replace("_", " "))
    return f'<figure><img alt="{name}" src="data:image/png;base64,{content}"></figure>'
