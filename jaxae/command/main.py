"""Train and evaluate models: `jaxae --model acn`.

jaxae --model NAME [--recipe P] [--data D] [--workdir W] [any field of the model or the plan]
jaxae --workdir W [--steps N]         continues a run with its own settings, or lengthens it
jaxae evaluate --workdir W            repeats the evaluation and the figures, without training
jaxae sample   --workdir W --out DIR  [--n 64]      writes samples as PNGs
jaxae encode   --workdir W --out F.npz              writes the codes of all images
jaxae decode   --workdir W --out DIR --codes-from F [--n 64]    writes codes as PNGs: the array
                                       `codes`, `test`, or the only one, of an .npz or .npy file
jaxae reconstruct --workdir W --out DIR [--n 64]    writes images and their reconstructions as PNGs,
                                       and a page of both, grid.png
jaxae interpolate --workdir W --out F.png [--n 8]   writes n interpolations between pairs of images
                [--images-from FROM]   for these two, images instead of the test images:
                                       folder:PATH, or the array `images`, or the only one, of an
                                       .npz or .npy file
                [--checkpoint best]    for all but training: the lowest validation loss; needs a run
                                       with --validation N, or data with a folder val/
                [--images 0 ...]       for evaluate: fields of the report, which may be changed
jaxae list                            models, recipes, data sets; the same as jaxae --list
jaxae --model NAME --help             every flag of that model

Images and codes are of the run's first seed. From Python: jaxae.train and jaxae.load.
"""

import argparse
import contextlib
import inspect
import json
import pathlib
import sys
import warnings
from typing import NoReturn

from jaxae.command.streams import INTERRUPTED, STOPPED, leave, open_streams

ALWAYS = "Besides these: --recipe, --workdir, --data-dir, --print-config (see jaxae --help)."
# Verbs, and the arguments that each takes besides --model, --recipe, --workdir and --data-dir.
VERBS = {
    "train": (),
    "evaluate": ("checkpoint",),
    "sample": ("checkpoint", "out", "n"),
    "encode": ("checkpoint", "out"),
    "decode": ("checkpoint", "out", "n", "codes_from"),
    "reconstruct": ("checkpoint", "out", "n", "images_from"),
    "interpolate": ("checkpoint", "out", "n", "images_from"),
    "list": (),
}
NEEDED = ("out", "codes_from")  # arguments that are required by the verbs that take them


def words_parser() -> argparse.ArgumentParser:
    """Parser of the arguments that are no fields of settings (`flags.WORDS`)."""
    parser = argparse.ArgumentParser("jaxae", add_help=False, allow_abbrev=False)
    parser.add_argument("--model")
    parser.add_argument("--recipe", "--preset", help="default: the model's first, mostly digits")
    parser.add_argument("--workdir", type=named)
    parser.add_argument("--data-dir")
    parser.add_argument("--checkpoint", choices=["last", "best"])
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--n", type=int)
    parser.add_argument("--codes-from", type=pathlib.Path)
    parser.add_argument("--images-from")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--print-config", action="store_true")
    return parser


def parse(argv: list[str]):
    """The verb, its arguments, and the rest, which are flags of the model."""
    what = argv[0] if argv and argv[0] in VERBS else "train"
    words, flags = words_parser().parse_known_args(argv[argv[:1] == [what] :])
    return what, words, flags


def named(text: str) -> pathlib.Path:
    """A path. An empty name is an error: pathlib would read it as the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("the name is empty; name a folder ('.' for this one)")
    return pathlib.Path(text)


def main(argv: list[str]) -> int:
    """Runs the command; returns its exit code."""
    what, words, flags = parse(argv)
    if words.list or what == "list":
        return show_list()
    if not words.model and not words.workdir:
        print(__doc__)
        return 0 if not argv or "--help" in flags or "-h" in flags else 2
    from jaxae.command.flags import from_flags, from_folder
    from jaxae.data import DataError
    from jaxae.models import MODELS
    from jaxae.recipes import RECIPES, choose
    from jaxae.settings import UsageError
    from jaxae.training.checkpoint import CheckpointError
    from jaxae.training.divergence import Diverged
    from jaxae.training.loop import NonFiniteLoss, Stopped
    from jaxae.training.parallel import DeviceError
    from jaxae.training.workdir import WorkdirError

    workdir = words.workdir
    try:
        refuse_unused(what, words, flags)
        is_run = words.workdir and (words.workdir / "config.json").exists()
        if words.model:
            choose("model", words.model, MODELS)
            words.recipe = words.recipe or next(iter(RECIPES[words.model]))
            recipe = choose("recipe", words.recipe, RECIPES[words.model])
            about = f"{inspect.getdoc(recipe)}\n\n{ALWAYS}"
            name, settings = words.model, from_flags(words.model, recipe(), flags, about)
        elif is_run:
            name, settings = from_folder(words.workdir, flags)
        else:
            raise UsageError(f"{words.workdir} holds no run (no config.json): name a --model")
        if words.print_config:
            print(json.dumps(settings.identity(name), indent=2))
            return 0
        workdir = words.workdir or pathlib.Path("runs") / f"{name}-{words.recipe}"
        return act(what, words, name, settings, workdir)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        return 128 + stopped.signum
    except (UsageError, DataError, WorkdirError, DeviceError, CheckpointError,
            NonFiniteLoss, Diverged) as error:  # fmt: skip
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of stdout has closed it; printing is the last thing done
        return 0
    except OSError as error:  # no room, no permission, a file where a folder should be
        if error.errno is None:
            raise
        where = error.filename or words.out or workdir
        print(f"error: {where}: {error.strerror}; when that is mended the same command goes on "
              "from what was kept", file=sys.stderr)  # fmt: skip
        return 1


def refuse_unused(what: str, words, flags: list[str]) -> None:
    """Raises UsageError if an argument has no effect, or a required one is missing."""
    from jaxae.settings import UsageError

    flag = lambda word: f"--{word.replace('_', '-')}"
    if words.recipe and not words.model:
        raise UsageError(f"--recipe {words.recipe} needs --model: a run's settings are fixed")
    for word in dict.fromkeys(word for verb in VERBS.values() for word in verb):
        if getattr(words, word) is not None and word not in VERBS[what]:
            raise UsageError(f"{what} does not use {flag(word)}")
        if getattr(words, word) is None and word in NEEDED and word in VERBS[what]:
            raise UsageError(f"{what} needs {flag(word)}")
    if what not in ("train", "evaluate", "encode") and flags and not words.model:
        raise UsageError(f"{what} does not use {' '.join(flags)}")
    if what != "train" and not words.model and any(f.split("=")[0] == "--steps" for f in flags):
        raise UsageError(f"{what} does not use --steps: it takes the run as it is")


def act(what: str, words, name: str, settings, path: pathlib.Path) -> int:
    """Carries out the verb `what` for the run in a folder."""
    from jaxae.settings import UsageError

    if what != "train" and not (path / "config.json").exists():
        raise UsageError(f"{path} holds no run: train first")
    if what in ("train", "evaluate"):
        return train_or_evaluate(what, words, name, settings, path)
    from jaxae.command import outputs

    trained = load(words, name, settings, path)
    n = {} if words.n is None else {"n": words.n}
    if what == "sample":
        return outputs.write_samples(trained, words.out, **n)
    if what == "encode":
        return outputs.write_codes(trained, words.out)
    if what == "decode":
        return outputs.write_decoded(trained, words.codes_from, words.out, **n)
    if what == "reconstruct":
        return outputs.write_reconstructions(trained, words.images_from, words.out, **n)
    return outputs.write_interpolations(trained, words.images_from, words.out, **n)


def load(words, name: str, settings, path: pathlib.Path):
    """The trained model in a folder. With --model, the flags must agree with its run."""
    from jaxae.command import api, run
    from jaxae.command.trained import Trained
    from jaxae.training import Workdir

    best, batch = words.checkpoint == "best", settings.report.report_batch
    if not words.model:
        checkpoint = words.checkpoint or "last"
        return api.load(path, checkpoint=checkpoint, data_dir=words.data_dir, batch_size=batch)
    built = run.build(name, settings, words.data_dir)
    with Workdir.open(path) as workdir:
        run.claim(built, workdir)
        step, states, _ = run.restore(built, workdir, best)
    return Trained(built, states, step, batch_size=batch)


def train_or_evaluate(what: str, words, name: str, settings, path: pathlib.Path) -> int:
    """Trains if the verb is `train`; then evaluates, draws figures and prints the numbers."""
    from jaxae.command import results, run
    from jaxae.training import Workdir

    built = run.build(name, settings, words.data_dir)
    with Workdir.open(path) as workdir:
        if words.model:
            run.claim(built, workdir, lengthened=what == "train")
        else:  # the settings are those of the folder, except for the steps
            run.check_data(built, workdir)
            if what == "train":
                run.lengthen(built, workdir)
        if what == "train":
            fitted = run.train(built, workdir)
            step, states, first_loss = settings.plan.steps, fitted.states, fitted.start
            about = {"seconds_training": fitted.seconds, "mode": vars(fitted.mode)}
        else:
            step, states, meta = run.restore(built, workdir, best=words.checkpoint == "best")
            first_loss = meta.get("start")
            about = {"checkpoint": words.checkpoint or "last", "mode": meta["mode"],
                     "seconds_training": meta["seconds"]}  # fmt: skip
        result = results.conclude(built, workdir, states, step, about, first_loss)
    for line in result["warnings"]:
        print(f"warning: {line}", file=sys.stderr)
    if result["diverged"]:
        print(f"warning: {result['diverged']}", file=sys.stderr)
    show(result, path)
    return 0


def show(result: dict, path: pathlib.Path) -> None:
    """Prints the numbers of result.json as a table, and the paths of the figures."""
    from rich.console import Console
    from rich.table import Table

    from jaxae.evaluation import flat_rows

    table = Table(title=f"{result['model']} on {result['data']}, step {result['step']}")
    table.add_column("result")
    table.add_column("value", justify="right")
    for row in flat_rows(result["results"]):
        table.add_row(*row)
    # Names are printed literally: [lr=0.1] is no markup, :x: no emoji.
    console = Console(markup=False, emoji=False)
    with console.capture() as capture:  # rich exits with a code of its own on a closed pipe
        console.print(table)
        for file in [*result["figures"], "result.json", "report.html"]:
            console.print(str(path / file), soft_wrap=True, highlight=False)
    print(capture.get(), end="", flush=True)


def show_list() -> int:
    """Prints models, recipes and data sets."""
    from jaxae import recipes
    from jaxae.data import describe
    from jaxae.models import MODELS

    model = None
    for entry in recipes.list():
        if entry.model != model:
            model = entry.model
            print(f"{model}: {inspect.getdoc(MODELS[model]).splitlines()[0]}")
        print(f"    --recipe {entry.recipe}: {entry.about}")
    print("data sets:")
    for name, line in describe().items():
        print(f"    --data {name}: {line}")
    return 0


def show_warning(message, category, *_) -> None:
    """Prints a warning as one line, without its location in the source."""
    with contextlib.suppress(OSError):
        print(f"warning: {message}", file=sys.stderr)


def console() -> NoReturn:
    """Entry point: runs the command with `sys.argv` and ends the process."""
    open_streams()
    warnings.showwarning = show_warning
    try:
        status = main(sys.argv[1:])
    except BrokenPipeError:  # the reader of stdout has closed it
        status = 0
    except KeyboardInterrupt:  # not during training, which saves and raises Stopped
        print(STOPPED, file=sys.stderr)
        status = INTERRUPTED
    leave(status)
