"""What the acceptance tables share: digits, training by seeds, probes, Markdown, result files."""

import argparse
import pathlib
import sys
import time
import types
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxae import evaluation
from jaxae.data import Data, Options, load
from jaxae.training import Model, Plan, State, fit

# After this module a table can import `presets` and `run`.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from pipe_table import pipe_table

RESULTS = pathlib.Path(__file__).parent / "results"
KEY = 2**31 - 1  # of every evaluation, apart from the training seeds
BATCH = 360  # images at a time in evaluation
SAMPLES, SURE = 1000, 0.9  # of `sampled_classes`


def digits(binarise: str = "dynamic") -> Data:
    """scikit-learn's digits; `binarise="none"` gives the grey images that probes encode."""
    return load("digits", Options(binarise=binarise))


def make(module: types.ModuleType, data: Data, **fields) -> Model:
    """The model of `jaxae.models.<module>` with these fields of its Config.

    A module and no name: what a result depends on is seen by what its experiment imports.
    """
    return module.make(module.Config(**fields), data.spec)


def train(model: Model, data: Data, seeds: int, steps: int, **fields):
    """`(states, last)`: one state per seed, and each training metric's mean over the last 200
    steps as `[seeds]`. `fields` are the plan's others."""
    plan = Plan(steps=steps, seeds=seeds, devices=1, **fields)
    fitted = fit(model, data, plan, quiet=True)
    recent = [r for r in fitted.records if r["step"] > steps - 200]
    names = [name for name in fitted.records[0] if name.startswith("train/")]
    last = {
        name.removeprefix("train/"): np.mean([np.atleast_1d(r[name]) for r in recent], axis=0)
        for name in names
    }
    print(f"  {steps} steps x {seeds} seeds in {fitted.seconds:.0f} s", file=sys.stderr, flush=True)
    return fitted.states, last


def on_test(model: Model, states: Sequence[State], data: Data) -> dict[str, np.ndarray]:
    """`evaluate` averaged over the test set, `{name: [seeds]}`."""
    return gather(
        states,
        lambda state: evaluation.mean_over(
            model.evaluate, state, data.test, BATCH, jax.random.key(KEY), per_example=False
        ),
    )


def assessed(model: Model, states: Sequence[State], data: Data) -> dict[str, np.ndarray]:
    """`Model.assess`, `{name: [seeds]}`."""
    return gather(states, lambda state: model.assess(state, data, jax.random.key(KEY)))


def coded(
    model: Model, state: State, data: Data, batch: int = BATCH, train_limit: int | None = None
) -> list[np.ndarray]:
    """Codes and labels of training images, then of test images, as the probes take them."""
    return [
        part
        for split, limit in ((data.train, train_limit), (data.test, None))
        for part in evaluation.encode_split(model, state, split, batch, jax.random.key(KEY), limit)
    ]


def probes(
    model: Model, states: Sequence[State], data: Data, batch: int = BATCH
) -> dict[str, np.ndarray]:
    """Test accuracy of a logistic regression and of 5 nearest neighbours on the codes of `data`."""

    def measure(state):
        arrays = coded(model, state, data, batch)
        return {
            "logistic": evaluation.linear_probe(*arrays),
            "5-NN": evaluation.knn_probe(*arrays),
        }

    return gather(states, measure)


def sampled_classes(model: Model, state: State, classifier, rng: jax.Array) -> int:
    """Classes of which at least one of a hundred samples is surely an example.

    A thousand samples; sure is a chance of 0.9 in the classifier's eyes.
    """
    logits = classifier.logits(jax.jit(model.sample, static_argnums=2)(state, rng, SAMPLES))
    chance = np.exp(logits - logits.max(1, keepdims=True))
    chance /= chance.sum(1, keepdims=True)
    sure = np.bincount(chance.argmax(1)[chance.max(1) >= SURE], minlength=logits.shape[1])
    return int((sure >= SAMPLES / 100).sum())


def gather(states: Sequence[State], measure: Callable) -> dict[str, np.ndarray]:
    """`measure` of every state: `{name: [seeds]}`."""
    found = [measure(state) for state in states]
    return {name: np.array([each[name] for each in found]) for name in found[0]}


def shown(values, digits: int = 2) -> str:
    """Mean of `[seeds]`, and their standard deviation where there are several."""
    values = np.atleast_1d(np.asarray(values, float))
    text = f"{values.mean():.{digits}f}"
    return text if len(values) == 1 else f"{text} ± {values.std(ddof=1):.{digits}f}"


def against(
    values, reference: float | None, tolerance: float, digits: int = 2
) -> tuple[str, str, str]:
    """Our number, the reference's, and whether ours lies within the tolerance."""
    if reference is None:
        return shown(values, digits), "", ""
    fits = abs(np.mean(values) - reference) <= tolerance + 1e-9
    return shown(values, digits), f"{reference:g} ± {tolerance:g}", "pass" if fits else "**off**"


def holds(text: str, left: float, right: float, digits: int = 2) -> tuple[str, str, str]:
    """A row of requirements: `left <= right`."""
    verdict = "pass" if left <= right else "**FAIL**"
    return text, f"{left:.{digits}f} ≤ {right:.{digits}f}", verdict


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table under a heading."""
    return f"## {title}\n\n{pipe_table([head, *rows])}\n"


def parser(
    doc: str, parts: Sequence[str], seeds: int, steps: int | None
) -> argparse.ArgumentParser:
    """The flags of every table; without `steps` the length is each part's own."""
    found = argparse.ArgumentParser(description=doc.splitlines()[0])
    found.add_argument("--seeds", type=int, default=seeds, help="independent runs per row")
    found.add_argument("--steps", type=int, default=steps, help="training steps per run")
    found.add_argument("--only", nargs="+", choices=parts, default=list(parts), help="which parts")
    return found


def publish(name: str, title: str, sections: dict[str, Callable[[], str]], whole: bool) -> None:
    """Runs the sections, prints them, and writes them to `results/<name>.md`.

    The file says by which command, versions and time; it is written after every section.
    Where they are not the whole table it is `results/<name>-<section>....md`.
    """
    start, cpu_start = time.monotonic(), time.process_time()
    there = evaluation.environment()
    file = RESULTS / ("-".join([name, *([] if whole else sections)]) + ".md")
    versions = ", ".join(f"{key} {there[key]}" for key in ("python", "jax", "flax", "optax"))
    done = []
    RESULTS.mkdir(exist_ok=True)
    for section in sections.values():
        done.append(section())
        print(done[-1], flush=True)
        script = pathlib.Path(sys.argv[0]).name
        command = " ".join(["python", f"experiments/tables/{script}", *sys.argv[1:]])
        seconds, cpu = time.monotonic() - start, time.process_time() - cpu_start
        about = (f"`{command}`\n\n{versions}; {there['backend']}; {seconds:.0f} s of wall time, "
                 f"{cpu:.0f} s of CPU.\n")  # fmt: skip
        file.write_text("\n".join([f"# {title}\n", about, *done]))


def at_random(rows: np.ndarray, most: int) -> np.ndarray:
    """At most so many rows, without order: the first of a data set need not be like the others
    (MNIST's first test images are of other writers)."""
    return rows[np.random.default_rng(KEY).permutation(len(rows))[:most]]


def first_of_each_class(labels) -> np.ndarray:
    """Where each class stands first among labels, `[classes]`."""
    return np.unique(np.asarray(labels), return_index=True)[1]


def many_digits(model: Model, state: State, z, first, file: str, name: str, note: str) -> str:
    """A row for each code z: what `first` shows, and eleven draws; a link to results/<file>.png."""
    one = jax.jit(lambda z, key: model.decode(state, z[None], key)[0])
    keys = jax.random.split(jax.random.key(KEY), 11)
    columns = [*first, *(jax.vmap(one, (0, None))(jnp.asarray(z), key) for key in keys)]
    columns = [np.asarray(column) for column in columns]
    RESULTS.mkdir(exist_ok=True)
    evaluation.image_grid(
        np.stack(columns, axis=1).reshape(-1, *columns[0].shape[1:]), len(columns),
        RESULTS / f"{file}.png", title=f"One code, many digits: {name}", note=note,
        column_gaps=range(len(first)),
    )  # fmt: skip
    return f"![{name}]({file}.png)\n"
