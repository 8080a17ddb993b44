"""Train a model and look at it: `python experiments/run.py --model acn`.

run.py --model NAME [--preset P] [--data D] [--workdir W] [any field of the model or the plan]
run.py --workdir W                     goes on with a run, whatever it is
run.py evaluate --workdir W            evaluates and draws again, without training
run.py sample   --workdir W --out DIR  [--n 64]      writes samples of the first seed as PNGs
run.py encode   --workdir W --out F.npz              writes its codes of all images
                [--checkpoint best]    the lowest validation loss, for the three above: of a run
                                       with --validation N, or of data with a folder val/
                [--images 0 ...]       fields of the report, which no run's settings fix
run.py --list                          models, presets, data sets
run.py --model NAME --help             every flag of that model
"""

import argparse
import inspect
import json
import pathlib
import sys

from ending import INTERRUPTED, STOPPED, leave

ALWAYS = "Besides these: --preset, --workdir, --data-dir, --print-config (see run.py --help)."
# What to do, and the words that it uses beside --model, --preset, --workdir and --data-dir.
VERBS = {
    "train": (),
    "evaluate": ("checkpoint",),
    "sample": ("checkpoint", "out", "n"),
    "encode": ("checkpoint", "out"),
}


def words_parser() -> argparse.ArgumentParser:
    """Reads the words that choose what to do; `settings.WORDS` keeps them from being fields."""
    parser = argparse.ArgumentParser("run.py", add_help=False, allow_abbrev=False)
    parser.add_argument("--model")
    parser.add_argument("--preset", help="default: the model's first, mostly digits")
    parser.add_argument("--workdir", type=pathlib.Path)
    parser.add_argument("--data-dir")
    parser.add_argument("--checkpoint", choices=["last", "best"])
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--n", type=int, help="default: 64")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--print-config", action="store_true")
    return parser


def parse(argv: list[str]):
    """What to do, its words, and the rest, which are flags of the model."""
    what = argv[0] if argv and argv[0] in VERBS else "train"
    words, flags = words_parser().parse_known_args(argv[argv[:1] == [what] :])
    return what, words, flags


def main(argv: list[str]) -> int:
    """Runs the command; returns its exit code."""
    what, words, flags = parse(argv)
    if words.list:
        return show_list()
    if not words.model and not words.workdir:
        print(__doc__)
        return 0 if not argv or "--help" in flags or "-h" in flags else 2
    from settings import UsageError, choose, from_flags, from_folder

    from jaxae.data import DataError
    from jaxae.models import MODELS
    from jaxae.training.checkpoint import CheckpointError
    from jaxae.training.loop import NonFiniteLoss, Stopped
    from jaxae.training.parallel import DeviceError
    from jaxae.training.workdir import WorkdirError

    try:
        refuse_unused(what, words, flags)
        there = words.workdir and (words.workdir / "config.json").exists()
        if words.model:
            from presets import PRESETS

            choose("model", words.model, MODELS)
            words.preset = words.preset or next(iter(PRESETS[words.model]))
            preset = choose("preset", words.preset, PRESETS[words.model])
            about = f"{inspect.getdoc(preset)}\n\n{ALWAYS}"
            name, settings = words.model, from_flags(words.model, preset(), flags, about)
        elif there:
            name, settings = from_folder(words.workdir, flags)
        else:
            raise UsageError(f"{words.workdir} holds no run (no config.json): name a --model")
        if words.print_config:
            print(json.dumps(settings.identity(name), indent=2))
            return 0
        workdir = words.workdir or pathlib.Path("runs") / f"{name}-{words.preset}"
        return act(what, words, name, settings, workdir)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        return 128 + stopped.signum
    except (UsageError, DataError, WorkdirError, DeviceError, CheckpointError,
            NonFiniteLoss) as error:  # fmt: skip
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # no room, no permission, a file where a folder should be
        if error.errno is None:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror}; when that is mended the same command goes on from "
              "what was kept", file=sys.stderr)  # fmt: skip
        return 1


def refuse_unused(what: str, words, flags: list[str]) -> None:
    """Raises UsageError where a word was given that would go unheard."""
    from settings import UsageError

    if words.preset and not words.model:
        raise UsageError(f"--preset {words.preset} needs --model: a run's settings are fixed")
    for word in ("checkpoint", "out", "n"):
        if getattr(words, word) is not None and word not in VERBS[what]:
            raise UsageError(f"{what} does not use --{word}")
    if what == "sample" and flags and not words.model:
        raise UsageError(f"sample does not use {' '.join(flags)}")


def act(what: str, words, name: str, settings, path: pathlib.Path) -> int:
    """Does what was asked, in the locked folder."""
    import wiring
    from settings import UsageError

    from jaxae.training import Workdir

    if what in ("sample", "encode") and words.out is None:
        raise UsageError(f"{what} needs --out")
    if what != "train" and not (path / "config.json").exists():
        raise UsageError(f"{path} holds no run: train first")
    run = wiring.build(name, settings, words.data_dir)
    with Workdir.open(path) as workdir:
        if words.model:
            wiring.claim(run, workdir)
        else:  # the settings are the folder's own
            wiring.check_data(run, workdir)
        if what == "train":
            fitted = wiring.train(run, workdir)
            step, states = settings.plan.steps, fitted.states
            about = {"seconds_training": fitted.seconds, "mode": vars(fitted.mode)}
        else:
            step, states, meta = wiring.restore(run, workdir, best=words.checkpoint == "best")
            about = {"checkpoint": words.checkpoint or "last", "mode": meta["mode"],
                     "seconds_training": meta["seconds"]}  # fmt: skip
        if what == "sample":
            count = 64 if words.n is None else words.n
            return wiring.write_samples(run, states[0], words.out, count)
        if what == "encode":
            return wiring.write_codes(run, states[0], words.out)
        result = wiring.conclude(run, workdir, states, step, about)
    show(result, path)
    return 0


def show(result: dict, path: pathlib.Path) -> None:
    """Prints the numbers of result.json as a table, and where the pictures are."""
    from rich.console import Console
    from rich.table import Table

    from jaxae.evaluation import flat_rows

    table = Table(title=f"{result['model']} on {result['data']}, step {result['step']}")
    table.add_column("result")
    table.add_column("value", justify="right")
    for row in flat_rows(result["results"]):
        table.add_row(*row)
    console = Console()
    console.print(table)
    for file in [*result["figures"], "result.json", "report.html"]:
        console.print(str(path / file), soft_wrap=True, highlight=False)


def show_list() -> int:
    """Prints models, presets and data sets."""
    from presets import PRESETS

    from jaxae.data import describe
    from jaxae.models import MODELS

    for name, module in MODELS.items():
        print(f"{name}: {inspect.getdoc(module).splitlines()[0]}")
        for preset, make in PRESETS[name].items():
            print(f"    --preset {preset}: {inspect.getdoc(make).splitlines()[0]}")
    print("data sets:")
    for name, line in describe().items():
        print(f"    --data {name}: {line}")
    return 0


if __name__ == "__main__":
    try:
        status = main(sys.argv[1:])
    except KeyboardInterrupt:  # outside of training, which saves and raises Stopped
        print(STOPPED, file=sys.stderr)
        status = INTERRUPTED
    leave(status)
