"""The studies: what the papers claim, tried out. `python experiments/study.py --list`.

study.py                      trains every run of every study that is not there, and writes results
study.py vaegan acn           these studies
study.py vaegan --only 'VAE*' of them the runs whose names match
study.py --list               for each run: done, started, stale or missing, and its cost
study.py --jobs 2             runs at a time, a process each
study.py vaegan --steps 20 --seeds 2   a trial: results are printed and not written
study.py --write              writes pages, CLAIMS.md and README.md again from the stored numbers
study.py --check              exit status 1 where --write would change a file

A study is a file of experiments/studies/. Runs are kept in runs/studies/ under digests of their
settings and of the code that training depends on: a stale one was trained by other code. Training
that is stopped goes on. Numbers, pages and pictures are in experiments/results/.
"""

import argparse
import contextlib
import dataclasses
import fnmatch
import importlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from studylib import summaries  # noqa: E402
from studylib.declare import Claim, Run, Study  # noqa: E402
from studylib.pages import claim_section, duration, hardware  # noqa: E402
from studylib.store import FOLDER, Store, as_json  # noqa: E402

from jaxae.command.streams import STOPPED, leave, open_streams  # noqa: E402
from jaxae.data import DataError  # noqa: E402
from jaxae.settings import UsageError  # noqa: E402
from jaxae.training.divergence import Diverged  # noqa: E402
from jaxae.training.loop import NonFiniteLoss, Stopped  # noqa: E402
from jaxae.training.workdir import WorkdirError, write_atomically  # noqa: E402

RESULTS = HERE / "results"
NAMES = sorted(file.stem for file in (HERE / "studies").glob("[a-z]*.py") if file.stem != "common")


def main(argv: list[str]) -> int:
    """The command; returns its exit status."""
    asked = words().parse_args(argv)
    unknown = [name for name in asked.names if name not in NAMES]
    if unknown:
        print(f"error: no study {unknown[0]!r}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 1
    if asked.write or asked.check:
        return write_summaries(check=asked.check)
    trial = {k: v for k in ("steps", "seeds", "data") if (v := getattr(asked, k)) is not None}
    if trial.get("seeds", 2) < 1 or trial.get("steps", 1) < 1:
        print("error: --seeds and --steps must be at least 1", file=sys.stderr)
        return 1
    store = Store(FOLDER / "trials" if trial else FOLDER, asked.data_dir, trial)
    chosen = {name: study_of(name) for name in asked.names or NAMES}
    jobs = [
        Job(name, label, run, known_cost(name, label))
        for name, study in chosen.items()
        for label, run in study.runs.items()
        if any(fnmatch.fnmatch(label, pattern) for pattern in asked.only)
    ]
    if not jobs:
        print(f"error: no run matches {' '.join(asked.only)}", file=sys.stderr)
        return 1
    if asked.list:
        show_list(jobs, chosen, store)
        return 0
    work_off(jobs, chosen, store, asked)
    if asked.only_work:
        return 0
    for name, study in chosen.items():
        publish(name, study, store, jobs, keep=not trial)
    return 0 if trial else write_summaries()


def words() -> argparse.ArgumentParser:
    """The words of the command."""
    parser = argparse.ArgumentParser(
        "study.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="STUDY", help="default: all")
    parser.add_argument("--list", action="store_true", help="train nothing, say what is there")
    parser.add_argument("--only", nargs="+", default=["*"], metavar="RUN", help="names or patterns")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--data-dir", help="folder that holds mnist/ (default: $JAXAE_DATA_DIR)")
    parser.add_argument("--steps", type=int, help="a trial: training steps of every run")
    parser.add_argument("--seeds", type=int, help="a trial: training seeds of every run")
    parser.add_argument("--data", help="a trial: another data set for every run")
    parser.add_argument("--write", action="store_true", help="pages from the stored numbers")
    parser.add_argument("--check", action="store_true", help="change nothing, compare")
    parser.add_argument("--only-work", action="store_true", help=argparse.SUPPRESS)
    return parser


def study_of(name: str) -> Study:
    """The study of `studies/<name>.py`."""
    return importlib.import_module(f"studies.{name}").STUDY


# -- training and measuring ------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Job:
    """A run to be trained and measured."""

    study: str
    label: str
    run: Run
    cost: float | None
    """seconds that it took when the results were made; None: never done"""

    def is_finished(self, study: Study, store: Store) -> bool:
        """Whether it is trained and all its measures are taken."""
        done = store.status(self.run) == "done"
        return done and all(store.is_measured(self.run, m) for m in study.measures_of(self.label))


def known_cost(name: str, label: str) -> float | None:
    """Seconds that a run took, training and measures, by the stored results."""
    return results(name).get("runs", {}).get(label, {}).get("seconds_in_all")


def show_list(jobs: list[Job], studies: dict[str, Study], store: Store) -> None:
    """A line for each run."""
    total = 0.0
    for job in jobs:
        status = store.status(job.run)
        if status == "done" and not job.is_finished(studies[job.study], store):
            status = "to be measured"
        cost = "cost unknown" if job.cost is None else duration(job.cost)
        total += 0.0 if status == "done" else job.cost or 0.0
        seeds = f"{store.asked(job.run).seeds} seeds"
        print(f"{job.study:12} {status:14} {seeds:9} {cost:12} {job.label}")
    print(f"to do: about {duration(total)}, without the runs of unknown cost")


def work_off(jobs: list[Job], studies: dict[str, Study], store: Store, asked) -> None:
    """Trains and measures what is not there, `asked.jobs` runs at a time."""
    todo = [job for job in jobs if not job.is_finished(studies[job.study], store)]
    waiting, running, start = [*todo], [], time.monotonic()
    try:
        while waiting or running:
            while waiting and len(running) < asked.jobs:
                job = waiting.pop(0)
                left = sum(j.cost or 0.0 for j in [job, *waiting]) / asked.jobs
                count = len(todo) - len(waiting)
                rest = f", about {duration(left)} left" if left else ""
                if not asked.only_work:
                    print(f"[{count}/{len(todo)}] {job.study}: {job.label}{rest}", flush=True)
                if asked.jobs == 1:
                    work(job, studies[job.study], store)
                else:
                    words = [*passed_on(asked), job.study, "--only", glob_escape(job.label)]
                    command = [sys.executable, __file__, *words, "--only-work"]
                    running.append((job, subprocess.Popen(command)))
            for job, process in [*running]:
                if process.poll() is not None:
                    running.remove((job, process))
                    if process.returncode:
                        raise subprocess.CalledProcessError(process.returncode, job.label)
            if running:
                time.sleep(0.2)
    finally:
        for _, process in running:
            process.send_signal(signal.SIGINT)
        for _, process in running:
            process.wait()
    if todo and not asked.only_work:
        print(f"{len(todo)} runs in {duration(time.monotonic() - start)}", flush=True)


def work(job: Job, study: Study, store: Store) -> None:
    """Trains a run and takes its measures."""
    store.train(job.run)
    for measure in study.measures_of(job.label):
        store.measured(job.run, measure)
    store.forget(job.run)


def passed_on(asked) -> list[str]:
    """The words that a process for one run is given too."""
    chosen = {"--data-dir": asked.data_dir, "--steps": asked.steps, "--seeds": asked.seeds,
              "--data": asked.data}  # fmt: skip
    return [str(word) for pair in chosen.items() if pair[1] is not None for word in pair]


def glob_escape(label: str) -> str:
    """A pattern that matches the label alone."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in label)


# -- results ---------------------------------------------------------------------------------------


def results(name: str) -> dict:
    """What is stored of a study; empty where nothing is."""
    file = RESULTS / f"{name}.json"
    return json.loads(file.read_text()) if file.exists() else {}


def publish(name: str, study: Study, store: Store, jobs: list[Job], keep: bool) -> None:
    """Gathers the numbers of the finished runs, then claims, pictures and page.

    Args:
        keep: write them to `results/`; else print the page (a trial).
    """
    stored = results(name) if keep else {}
    stored = {"runs": {}, "numbers": {}, "claims": {}} | stored
    for job in jobs:
        if job.study == name and job.is_finished(study, store):
            gather(job, study, store, stored)
    numbers = as_arrays(stored["numbers"])
    for claim in study.claims:
        if set(claim.runs) <= set(numbers):
            stored["claims"][claim.name] = judged(claim, study, numbers, stored["runs"], name)
    if keep:
        RESULTS.mkdir(exist_ok=True)
        text = json.dumps(stored, indent=1, sort_keys=True) + "\n"
        write_atomically(RESULTS / f"{name}.json", text.encode())
        draw_pictures(name, study, store)
    elif set(study.runs) <= set(numbers):
        print(page(name, study, stored))


def gather(job: Job, study: Study, store: Store, stored: dict) -> None:
    """A finished run's numbers and account, put into `stored`."""
    numbers, seconds = {}, 0.0
    for measure in study.measures_of(job.label):
        values = as_json(store.measured(job.run, measure))
        if shared := numbers.keys() & values.keys():
            raise ValueError(f"{job.study}: two measures of {job.label} give {sorted(shared)[0]}")
        numbers |= values
        seconds += store.measure_seconds(job.run, measure)
    run = store.asked(job.run)
    known = store.done(job.run)
    stored["numbers"][job.label] = rounded(numbers)
    stored["runs"][job.label] = known | {
        "seconds_in_all": round(known["seconds"] + seconds, 1),
        "seconds": round(known["seconds"], 1),
        "data": run.settings().data,
        "recipe": f"{run.model} {run.recipe}",
        "changes": as_json(dict(run.changes)) if run.changes else {},
        "seeds": [run.first_seed + i for i in range(run.seeds)],
    }


def rounded(values):
    """Numbers to six digits, which is more than any of them is good for."""
    if isinstance(values, dict):
        return {name: rounded(value) for name, value in values.items()}
    if isinstance(values, list):
        return [rounded(value) for value in values]
    return float(f"{values:.6g}") if isinstance(values, float) else values


def as_arrays(numbers: dict) -> dict[str, dict[str, np.ndarray]]:
    """The stored numbers by run and name: `[seeds, ...]`."""
    return {run: {k: np.array(v) for k, v in of.items()} for run, of in numbers.items()}


def judged(claim: Claim, study: Study, numbers, runs: dict, name: str) -> dict:
    """What is stored of a claim."""
    measures = claim.measures(numbers)
    of_runs = [runs[label] for label in claim.runs]
    first = of_runs[0]
    seconds = sum(run["seconds_in_all"] for run in of_runs)
    found_by = (
        f"`python experiments/study.py {name}`: {first['data']}, {len(first['seeds'])} seeds from "
        f"{first['seeds'][0]} on, {duration(seconds)}, {hardware(first['made_with'])}."
    )
    return {
        "measures": [dataclasses.asdict(m) | {"values": rounded(as_json(m.values))}
                     for m in measures],
        "rows": claim.rows(numbers),
        "found_by": found_by,
        "data": first["data"],
        "seeds": len(first["seeds"]),
        "seconds": seconds,
        "made_with": hardware(first["made_with"]),
    }  # fmt: skip


def draw_pictures(name: str, study: Study, store: Store) -> None:
    """Draws each picture whose runs are in the store."""
    for file, picture in study.pictures.items():
        runs = {label: study.runs[label] for label in picture.runs}
        if all(store.status(run) == "done" for run in runs.values()):
            trained = {label: store.trained(run) for label, run in runs.items()}
            part = RESULTS / f".{name}-{file}.png"
            picture.draw(trained, part)
            part.replace(RESULTS / f"{name}-{file}.png")
            for run in runs.values():
                store.forget(run)


def page(name: str, study: Study, stored: dict) -> str:
    """A study's page, from what is stored."""
    parts = [f"# {study.title}", f"`python experiments/study.py {name}`"]
    if missing := [label for label in study.runs if label not in stored.get("numbers", {})]:
        parts.append(
            f"{len(missing)} of {len(study.runs)} runs are still to be done; `--list` names them."
        )
        parts += summaries.earlier_pages(name, RESULTS)
    else:
        parts += study.page(as_arrays(stored["numbers"]))
    for claim in study.claims:
        if claim.name in stored.get("claims", {}):
            file = f"{name}-{claim.picture}.png"
            picture = file if claim.picture and (RESULTS / file).exists() else None
            parts.append(claim_section(claim, stored["claims"][claim.name], picture))
    if stored.get("runs"):
        parts.append(summaries.runs_table(stored["runs"]))
    return "\n\n".join(parts) + "\n"


def write_summaries(check: bool = False) -> int:
    """Every page, CLAIMS.md and README.md's results, from the stored numbers.

    Args:
        check: compare only; the exit status is 1 where something would change.
    """
    wanted = {}
    studies = {name: study_of(name) for name in NAMES}
    for name, study in studies.items():
        wanted[RESULTS / f"{name}.md"] = page(name, study, results(name))
    stored = {name: results(name) for name in NAMES}
    wanted |= summaries.of_all(studies, stored, RESULTS)
    stale = [f for f, text in wanted.items() if not f.exists() or f.read_text() != text]
    for file in stale:
        if check:
            print(f"{file.relative_to(HERE.parent)} is not what the stored numbers say")
        else:
            file.write_text(text := wanted[file])
            print(f"wrote {file.relative_to(HERE.parent)}, {text.count(chr(10))} lines")
    return int(check and bool(stale))


@contextlib.contextmanager
def errors_as_lines() -> Iterator[list[int]]:
    """Turns what a user can mend, or wanted, into a line on stderr and an exit status."""
    status = [0]
    try:
        yield status
    except BrokenPipeError:  # the reader of standard output has gone
        status[0] = 0
    except (Stopped, KeyboardInterrupt) as stopped:
        print(STOPPED, file=sys.stderr)
        status[0] = 128 + getattr(stopped, "signum", signal.SIGINT)
    except (DataError, UsageError, NonFiniteLoss, Diverged, WorkdirError) as error:
        print(f"error: {error}", file=sys.stderr)
        status[0] = 1
    except subprocess.CalledProcessError as error:
        print(f"error: the run {error.cmd!r} failed; the others were stopped", file=sys.stderr)
        status[0] = 1


if __name__ == "__main__":
    open_streams()
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str((FOLDER / "compiled").resolve()))
    with errors_as_lines() as outcome:
        outcome[0] = main(sys.argv[1:])
    leave(outcome[0])
