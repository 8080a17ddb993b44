"""Rewrites the README's results from the files that the commands wrote.

    python experiments/readme.py            rewrite
    python experiments/readme.py --check    exit status 1 where it would change

Reads claims/found/*.json, results/benchmark_*.md and the heads of tables/results/*.md.
"""

import argparse
import importlib
import json
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "claims")]

from cells import spent  # noqa: E402
from claims_common import Measure, verdict  # noqa: E402

README = HERE.parent / "README.md"
FIRST, LAST = "<!-- results, written by experiments/readme.py -->", "<!-- end of results -->"


def main(argv: list[str]) -> int:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--check", action="store_true", help="change nothing")
    asked = words.parse_args(argv)
    old = README.read_text()
    new = replaced(old, "\n\n".join(filter(None, [claims(), benchmarks(), tables()])))
    if asked.check:
        print("README's results are up to date" if old == new else "README's results are stale")
        return int(old != new)
    README.write_text(new)
    return 0


def replaced(text: str, results: str) -> str:
    """`text` with `results` between the two marks."""
    before, rest = text.split(FIRST)
    return f"{before}{FIRST}\n\n{results}\n\n{LAST}{rest.split(LAST)[1]}"


def claims(folder: pathlib.Path = HERE / "claims" / "found") -> str:
    """A line for each claim that was tested."""
    lines, made = [], set()
    for file in sorted(folder.glob("*.json")):
        found, claim = json.loads(file.read_text()), importlib.import_module(file.stem).CLAIM
        measures = claim.measures(found)
        hardware, commit = found["made_with"].rsplit(", commit ", 1)
        lines.append(
            f"| {claim.said} | {verdict(measures)} | {'; '.join(map(_measured, measures))} "
            f"| {claim.published} | `{file.stem}`, {found['seeds']} seeds, "
            f"{spent(found)}, {commit} |"
        )
        made.add(f"{found['data']}, {hardware}")
    if not lines:
        return ""
    return "\n".join([
        "The papers' claims, each by `python experiments/claims/run.py NAME`; pictures, the "
        "numbers behind them, and which were found before the code changed, are in "
        "[CLAIMS.md](CLAIMS.md). Measured is what the claim says is "
        "above zero: mean over training seeds and 95 % interval, which is of one machine: another "
        "one's numbers may lie outside. Budgets are minutes, so published "
        "figures are for orientation.",
        "",
        "| claim | verdict | measured | published | name, seeds, time, commit |",
        "|---|---|---|---|---|",
        *lines,
        "",
        f"On {'; '.join(sorted(made))}.",
    ])  # fmt: skip


def _measured(measure: Measure) -> str:
    mean, low, high = measure.interval
    unit = f" {measure.unit}" if measure.unit else ""
    return f"{measure.name}: {mean:.3g}{unit} ({low:.3g} to {high:.3g})"


def benchmarks(folder: pathlib.Path = HERE / "results") -> str:
    """The table of all models and its run, as the benchmark wrote them."""
    found = []
    for file in sorted(folder.glob("benchmark_*.md")):
        parts = file.read_text().split("\n\n")
        table = next(part for part in parts if part.startswith("| model"))
        run = next(part for part in parts if part.startswith("`python"))
        made = next(part for part in parts if part.startswith("Made with"))
        path = file.relative_to(HERE.parent)
        found.append(f"[All models, one protocol]({path}). {run}\n\n{table}\n\n{made.strip()}")
    return "\n\n".join(found)


def tables(folder: pathlib.Path = HERE / "tables" / "results") -> str:
    """The acceptance tables: what, by which command, in which time."""
    lines = []
    for file in sorted(folder.glob("*.md")):
        text = file.read_text()
        title = re.search(r"^# (.+)$", text, re.M)[1]
        command = re.search(r"`(python .+?)`", text)[1]
        times = re.search(
            r"(?P<seconds>[0-9]+) s of wall time(, (?P<cpu_seconds>[0-9]+) s of CPU)?", text
        )
        known = {name: int(t) for name, t in times.groupdict().items() if t} if times else {}
        time = spent(known) if known else "said there"
        lines.append(f"| [{title}]({file.relative_to(HERE.parent)}) | `{command}` | {time} |")
    return "\n".join([
        "Acceptance tables, each with what was expected and whether it came out (on one or two "
        "CPU cores):",
        "",
        "| table | command | time |",
        "|---|---|---|",
        *lines,
    ])  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
