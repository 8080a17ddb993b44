"""The studies: experiments on the papers' claims. `python experiments/study.py --list`.

study.py                      trains all missing runs of all studies, and writes the results
study.py vaegan acn           these studies
study.py vaegan --only 'VAE*' only the runs whose names match
study.py --list               for each run: done, started, stale or missing, and its duration
study.py --jobs 2             two runs at a time, each in its own process
study.py vaegan --steps 20 --seeds 2   a trial: results are printed and not written
study.py --write              writes pages, CLAIMS.md and README.md again from the stored numbers
study.py --check              exit status 1 where --write would change a file

A study is a file of experiments/studies/. Runs are kept in runs/studies/ under digests of their
settings and of the code that training depends on: a stale run was trained by other code. Stopped
training is continued. Numbers, pages and pictures are in experiments/results/.
"""

import argparse
import contextlib
import dataclasses
import fnmatch
import glob
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
    args = build_parser().parse_args(argv)
    unknown = [name for name in args.names if name not in NAMES]
    if unknown:
        print(f"error: no study {unknown[0]!r}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 1
    if args.write or args.check:
        return write_summaries(check=args.check)
    trial = {k: v for k in ("steps", "seeds", "data") if (v := getattr(args, k)) is not None}
    if trial.get("seeds", 2) < 1 or trial.get("steps", 1) < 1:
        print("error: --seeds and --steps must be at least 1", file=sys.stderr)
        return 1
    store = Store(FOLDER / "trials" if trial else FOLDER, args.data_dir, trial)
    studies = {name: study_of(name) for name in args.names or NAMES}
    jobs = [
        Job(name, label, run, known_duration(name, label))
        for name, study in studies.items()
        for label, run in study.runs.items()
        if any(fnmatch.fnmatch(label, pattern) for pattern in args.only)
    ]
    if not jobs:
        print(f"error: no run matches {' '.join(args.only)}", file=sys.stderr)
        return 1
    if args.list:
        show_list(jobs, studies, store)
        return 0
    run_jobs(jobs, studies, store, args)
    if args.only_work:
        return 0
    for name, study in studies.items():
        publish(name, study, store, jobs, keep=not trial)
    return 0 if trial else write_summaries()


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command's arguments."""
    parser = argparse.ArgumentParser(
        "study.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="STUDY", help="default: all")
    parser.add_argument(
        "--list", action="store_true", help="print the status of the runs; train nothing"
    )
    parser.add_argument("--only", nargs="+", default=["*"], metavar="RUN", help="names or patterns")
    parser.add_argument("--jobs", type=int, default=1, help="number of runs at a time")
    parser.add_argument("--data-dir", help="folder that holds mnist/ (default: $JAXAE_DATA_DIR)")
    parser.add_argument("--steps", type=int, help="a trial: training steps of every run")
    parser.add_argument("--seeds", type=int, help="a trial: training seeds of every run")
    parser.add_argument("--data", help="a trial: another data set for every run")
    parser.add_argument(
        "--write", action="store_true", help="write the pages from the stored numbers"
    )
    parser.add_argument("--check", action="store_true", help="compare the pages, change nothing")
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
    duration: float | None
    """seconds of training and measures, from the stored results; None: never run"""

    def is_finished(self, study: Study, store: Store) -> bool:
        """Whether the run is trained and all its measures are stored."""
        trained = store.status(self.run) == "done"
        return trained and all(
            store.is_measured(self.run, m) for m in study.measures_of(self.label)
        )


def known_duration(name: str, label: str) -> float | None:
    """Seconds of training and measures of a run, from the stored results; None: never run."""
    return results(name).get("runs", {}).get(label, {}).get("seconds_in_all")


def show_list(jobs: list[Job], studies: dict[str, Study], store: Store) -> None:
    """A line for each run."""
    total = 0.0
    for job in jobs:
        status = store.status(job.run)
        if status == "done" and not job.is_finished(studies[job.study], store):
            status = "to be measured"
        time_text = "time unknown" if job.duration is None else duration(job.duration)
        total += 0.0 if status == "done" else job.duration or 0.0
        seeds = f"{store.with_trial(job.run).seeds} seeds"
        print(f"{job.study:12} {status:14} {seeds:9} {time_text:12} {job.label}")
    print(f"to do: about {duration(total)}, without the runs of unknown time")


def run_jobs(jobs: list[Job], studies: dict[str, Study], store: Store, args) -> None:
    """Trains and measures the unfinished runs, `args.jobs` at a time."""
    unfinished = [job for job in jobs if not job.is_finished(studies[job.study], store)]
    waiting, running, start = [*unfinished], [], time.monotonic()
    try:
        while waiting or running:
            while waiting and len(running) < args.jobs:
                job = waiting.pop(0)
                seconds = sum(j.duration or 0.0 for j in [job, *waiting]) / args.jobs
                count = len(unfinished) - len(waiting)
                estimate = f", about {duration(seconds)} left" if seconds else ""
                if not args.only_work:
                    print(
                        f"[{count}/{len(unfinished)}] {job.study}: {job.label}{estimate}",
                        flush=True,
                    )
                if args.jobs == 1:
                    run_job(job, studies[job.study], store)
                else:
                    arguments = [job.study, "--only", glob.escape(job.label), "--only-work"]
                    command = [sys.executable, __file__, *shared_arguments(args), *arguments]
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
    if unfinished and not args.only_work:
        print(f"{len(unfinished)} runs in {duration(time.monotonic() - start)}", flush=True)


def run_job(job: Job, study: Study, store: Store) -> None:
    """Trains a run and computes its measures."""
    store.train(job.run)
    for measure in study.measures_of(job.label):
        store.measured(job.run, measure)
    store.forget(job.run)


def shared_arguments(args) -> list[str]:
    """Arguments of this command that the process of a single run gets too."""
    flags = {"--data-dir": args.data_dir, "--steps": args.steps, "--seeds": args.seeds,
              "--data": args.data}  # fmt: skip
    return [str(part) for pair in flags.items() if pair[1] is not None for part in pair]


# -- results ---------------------------------------------------------------------------------------


def results(name: str) -> dict:
    """The stored results of a study; empty if there are none."""
    file = RESULTS / f"{name}.json"
    return json.loads(file.read_text()) if file.exists() else {}


def publish(name: str, study: Study, store: Store, jobs: list[Job], keep: bool) -> None:
    """Collects the numbers of the finished runs and evaluates the claims.

    Args:
        keep: write numbers and pictures to `results/`; otherwise (a trial) print the page.
    """
    stored = results(name) if keep else {}
    stored = {"runs": {}, "numbers": {}, "claims": {}} | stored
    for job in jobs:
        if job.study == name and job.is_finished(study, store):
            add_run(job, study, store, stored)
    numbers = as_arrays(stored["numbers"])
    for claim in study.claims:
        if set(claim.runs) <= set(numbers):
            stored["claims"][claim.name] = evaluate_claim(claim, numbers, stored["runs"], name)
    if keep:
        RESULTS.mkdir(exist_ok=True)
        text = json.dumps(stored, indent=1, sort_keys=True) + "\n"
        write_atomically(RESULTS / f"{name}.json", text.encode())
        draw_pictures(name, study, store)
    elif set(study.runs) <= set(numbers):
        print(page(name, study, stored))


def add_run(job: Job, study: Study, store: Store, stored: dict) -> None:
    """Adds the numbers and the description of a finished run to `stored`."""
    numbers, seconds = {}, 0.0
    for measure in study.measures_of(job.label):
        values = as_json(store.measured(job.run, measure))
        if shared := numbers.keys() & values.keys():
            raise ValueError(f"{job.study}: two measures of {job.label} give {sorted(shared)[0]}")
        numbers |= values
        seconds += store.measure_seconds(job.run, measure)
    run = store.with_trial(job.run)
    record = store.done(job.run)
    stored["numbers"][job.label] = rounded(numbers)
    stored["runs"][job.label] = record | {
        "seconds_in_all": round(record["seconds"] + seconds, 1),
        "seconds": round(record["seconds"], 1),
        "data": run.settings().data,
        "recipe": f"{run.model} {run.recipe}",
        "changes": as_json(dict(run.changes)) if run.changes else {},
        "seeds": [run.first_seed + i for i in range(run.seeds)],
    }


def rounded(values):
    """Numbers rounded to six significant digits."""
    if isinstance(values, dict):
        return {name: rounded(value) for name, value in values.items()}
    if isinstance(values, list):
        return [rounded(value) for value in values]
    return float(f"{values:.6g}") if isinstance(values, float) else values


def as_arrays(numbers: dict) -> dict[str, dict[str, np.ndarray]]:
    """The stored numbers by run and name: `[seeds, ...]`."""
    return {run: {k: np.array(v) for k, v in of.items()} for run, of in numbers.items()}


def evaluate_claim(claim: Claim, numbers, runs: dict, name: str) -> dict:
    """The entry of a claim in the stored results."""
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
            temporary = RESULTS / f".{name}-{file}.png"
            picture.draw(trained, temporary)
            temporary.replace(RESULTS / f"{name}-{file}.png")
            for run in runs.values():
                store.forget(run)


def page(name: str, study: Study, stored: dict) -> str:
    """The Markdown page of a study, from the stored results."""
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
    """Writes all pages, CLAIMS.md and the results in README.md from the stored numbers.

    Args:
        check: compare only; the exit status is 1 if something would change.
    """
    texts = {}
    studies = {name: study_of(name) for name in NAMES}
    stored = {name: results(name) for name in NAMES}
    for name, study in studies.items():
        texts[RESULTS / f"{name}.md"] = page(name, study, stored[name])
    texts |= summaries.of_all(studies, stored, RESULTS)
    stale = [f for f, text in texts.items() if not f.exists() or f.read_text() != text]
    for file in stale:
        if check:
            print(f"{file.relative_to(HERE.parent)} is not what the stored numbers say")
        else:
            file.write_text(text := texts[file])
            print(f"wrote {file.relative_to(HERE.parent)}, {text.count(chr(10))} lines")
    return int(check and bool(stale))


@contextlib.contextmanager
def errors_as_lines() -> Iterator[list[int]]:
    """Turns errors that a user can correct, and stops, into a line on stderr and an exit status."""
    status = [0]
    try:
        yield status
    except BrokenPipeError:  # the reader of stdout has closed it
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
    with errors_as_lines() as status:
        status[0] = main(sys.argv[1:])
    leave(status[0])
