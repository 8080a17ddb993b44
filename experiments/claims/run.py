"""Puts the papers' claims to the test and rewrites CLAIMS.md: `python experiments/claims/run.py`.

run.py                       every claim that has not been tested by the present code
run.py NAME ...              these claims
run.py --list                their names
run.py --again               test them again
run.py --data digits --seeds 2   a trial, printed and kept in runs/claims

A claim is a module beside this one, which says on what data and by how many training seeds it is
judged. What was found is kept in experiments/claims/found/ with a hash of the code and the
settings; what was found by the same code is not tested again. Each takes up to about ten minutes
on two quiet CPU cores. A trial on other data or by other seeds leaves CLAIMS.md as it is.
"""

import argparse
import dataclasses
import importlib
import json
import pathlib
import sys
import time
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from cells import digest, hardware, made_with, reported, sources, spent  # noqa: E402
from claims_common import CONFIDENCE, FIRST_SEED, Claim, Measure, verdict  # noqa: E402
from pipe_table import pipe_table  # noqa: E402

from jaxae.command.streams import leave  # noqa: E402
from jaxae.training.workdir import write_atomically  # noqa: E402

ROOT = HERE.parents[1]
FOUND, FIGURES, TEXT = HERE / "found", HERE / "figures", ROOT / "CLAIMS.md"
TRIALS = pathlib.Path("runs") / "claims"
NAMES = sorted(f.stem for f in HERE.glob("c[0-9][0-9]_*.py"))


def main(argv: list[str]) -> int:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    words.add_argument("--data", choices=["mnist", "digits"],
                       help="default: the claim's own; that about lines has no other")  # fmt: skip
    words.add_argument("--data-dir", help="folder that holds mnist/ (default: $JAXAE_DATA_DIR)")
    words.add_argument("--seeds", type=int, help="training seeds; default: the claim's own")
    words.add_argument("--again", action="store_true", help="also what the same code has found")
    words.add_argument("--list", action="store_true", help="the names, and what each claim says")
    asked = words.parse_args(argv)
    if asked.list:
        for name in NAMES:
            print(f"{name}: {claim_of(name).said}")
        return 0
    unknown = [name for name in asked.names if name not in NAMES]
    if unknown:
        print(f"error: no claim {', '.join(unknown)}; there are {', '.join(NAMES)}",
              file=sys.stderr)  # fmt: skip
        return 1
    if asked.seeds is not None and asked.seeds < 2:
        print("error: --seeds must be at least 2, for an error bar", file=sys.stderr)
        return 1
    chosen = asked.names or NAMES
    for number, name in enumerate(chosen, start=1):
        claim = claim_of(name)
        data = asked.data if asked.data in claim.data else claim.data[0]
        seeds = asked.seeds or claim.seeds
        print(f"[{number}/{len(chosen)}] {name}: {data}, {seeds} seeds", flush=True)
        if (data, seeds) == (claim.data[0], claim.seeds):
            found = tested(name, data, seeds, asked, FOUND / f"{name}.json",
                           FIGURES / f"{name}.png")  # fmt: skip
            write()
        else:
            file = TRIALS / f"{name}-{data}-{seeds}.json"
            found = tested(name, data, seeds, asked, file, file.with_suffix(".png"))
            print(account(name, claim, found, file.with_suffix(".png")))
        print(f"    {verdict(claim.measures(found))} "
              f"({spent(found)})", flush=True)  # fmt: skip
    return 0


def claim_of(name: str) -> Claim:
    return importlib.import_module(name).CLAIM


def tested(
    name: str, data: str, seeds: int, asked, file: pathlib.Path, picture: pathlib.Path
) -> dict[str, Any]:
    """What the claim's test found, from its file where the same code has found it before."""
    same = {"data": data, "seeds": seeds, "code": digest(sources([name]))}
    if file.exists() and not asked.again:
        found = json.loads(file.read_text())
        if same.items() <= found.items():
            return found
    start, cpu_start = time.monotonic(), time.process_time()
    for folder in (file.parent, picture.parent):
        folder.mkdir(parents=True, exist_ok=True)
    # Both are put in place at the end: a test that is stopped leaves what was there.
    new_picture = picture.with_suffix(".part.png")
    measures, rows = claim_of(name).test(data, seeds, new_picture, asked.data_dir)
    found = same | {
        "measures": [dataclasses.asdict(m) | {"values": list(map(float, m.values))}
                     for m in measures],
        "rows": rows,
        "seconds": time.monotonic() - start,
        "cpu_seconds": time.process_time() - cpu_start,
        "made_with": hardware(made_with()),
    }  # fmt: skip
    new_picture.replace(picture)
    write_atomically(file, json.dumps(found, indent=1).encode())
    return found


# -- CLAIMS.md -------------------------------------------------------------------------------------


def write() -> None:
    """CLAIMS.md from all that was found."""
    sections, lines = [], []
    for name in NAMES:
        file = FOUND / f"{name}.json"
        if not file.exists():
            continue
        found, claim = json.loads(file.read_text()), claim_of(name)
        sections.append(account(name, claim, found, FIGURES / f"{name}.png"))
        result = verdict(claim.measures(found))
        lines.append(f"| `{name}` | {claim.said} | {result} |")
    head = f"""# Claims of the papers, put to the test

Written by `python experiments/claims/run.py`. A claim is judged by numbers of independent training
runs: *reproduced* where the interval of {CONFIDENCE:.0%} (Student's t over training seeds) of every
measure lies above zero, *not reproduced* where that of any lies below, else *inconclusive*. Seeds
are those from {FIRST_SEED} on, where nothing was tuned, and their number was fixed beforehand:
five, or three where five would take much more than ten minutes. In the tables ± is the standard
deviation over seeds. An interval is of the machine that is named: another one rounds otherwise,
the runs part, those of adversaries above all, and its numbers may lie outside. Where other
machines' numbers are known, a measure has a margin that its interval must clear zero by; where
none is written, no second machine was compared. Budgets are small (minutes on two CPU cores) and
every setting is ours unless said otherwise: the verdicts are about these settings, not about the
papers' own.

| name | claim | verdict |
|---|---|---|
"""
    TEXT.write_text(head + "\n".join(lines) + "\n\n" + "\n".join(sections))


def account(name: str, claim: Claim, found: dict[str, Any], picture: pathlib.Path) -> str:
    """A claim's section; `found` holds `measures`, `rows`, and its run."""
    measures = claim.measures(found)
    flags = "" if found["data"] == claim.data[0] else f" --data {found['data']}"
    flags += "" if found["seeds"] == claim.seeds else f" --seeds {found['seeds']}"
    stale = ""
    if found["code"] != digest(sources([name])):
        stale = " The code has changed since. Settings in the text are those of the present code."
    shown = picture.relative_to(ROOT) if picture.is_relative_to(ROOT) else picture
    return "\n\n".join([
        f"## {claim.said}",
        f"**{verdict(measures)}** · {claim.where}",
        f"{claim.how} Published: {claim.published}.",
        pipe_table([["the claim says > 0", "mean over seeds", "95 % interval", "by seed", ""],
                    *(_row(m) for m in measures)]),
        pipe_table(found["rows"]),
        f"![{name}]({shown})",
        f"`python experiments/claims/run.py {name}{flags}`: {found['data']}, {found['seeds']} "
        f"seeds, {spent(found)}, {found['made_with']}.{stale}",
    ]) + "\n"  # fmt: skip


def _row(measure: Measure) -> list[str]:
    mean, low, high = measure.interval
    unit = f" {measure.unit}" if measure.unit else ""
    by_seed = " ".join(f"{value:.4g}" for value in measure.values)
    interval = f"{low:.4g} to {high:.4g}"
    if measure.margin:
        interval += f" (margin {measure.margin:g})"
    return [measure.name, f"{mean:.4g}{unit}", interval, by_seed, measure.verdict]


if __name__ == "__main__":
    leave(reported(main, sys.argv[1:]))
