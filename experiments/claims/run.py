"""Puts the papers' claims to the test and rewrites CLAIMS.md: `python experiments/claims/run.py`.

run.py                       every claim that has not been tested by the present code
run.py NAME ...              these claims
run.py --list                their names
run.py --data mnist --data-dir DIR --seeds 3 --again

A claim is a module beside this one. What was found is kept in experiments/claims/found/ with a
hash of the code and the settings; a claim that was tested by the same code is not tested again
unless --again says so. Each takes up to about ten minutes on two CPU cores.
"""

import argparse
import dataclasses
import importlib
import json
import pathlib
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from cells import digest, hardware, made_with, sources  # noqa: E402
from claims_common import CONFIDENCE, FIGURES, Measure, account, verdict  # noqa: E402

FOUND = HERE / "found"
NAMES = sorted(f.stem for f in HERE.glob("c[0-9][0-9]_*.py"))
TEXT = HERE.parents[1] / "CLAIMS.md"


def main(argv: list[str]) -> int:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    words.add_argument("--data", default="mnist", help="mnist or digits")
    words.add_argument("--data-dir", help="folder that holds mnist/ (default: $JAXAE_DATA_DIR)")
    words.add_argument("--seeds", type=int, default=3)
    words.add_argument("--again", action="store_true")
    words.add_argument("--list", action="store_true")
    asked = words.parse_args(argv)
    if asked.list:
        for name in NAMES:
            print(f"{name}: {importlib.import_module(name).CLAIM.said}")
        return 0
    unknown = [name for name in asked.names if name not in NAMES]
    if unknown:
        print(f"error: no claim {', '.join(unknown)}; there are {', '.join(NAMES)}",
              file=sys.stderr)  # fmt: skip
        return 1
    if asked.seeds < 2:
        print("error: --seeds must be at least 2, for an error bar", file=sys.stderr)
        return 1
    chosen = asked.names or NAMES
    for number, name in enumerate(chosen, start=1):
        print(f"[{number}/{len(chosen)}] {name}", flush=True)
        found = tested(name, asked)
        print(f"    {verdict([Measure(**m) for m in found['measures']])} "
              f"({found['seconds']:.0f} s)", flush=True)  # fmt: skip
        write()
    return 0


def tested(name: str, asked) -> dict:
    """What the claim's test found, from its file where the same code has found it before."""
    code = digest(sources([name]))
    file = FOUND / f"{name}.json"
    same = {"data": asked.data, "seeds": asked.seeds, "code": code}
    if file.exists() and not asked.again:
        found = json.loads(file.read_text())
        if same.items() <= found.items():
            return found
    FIGURES.mkdir(exist_ok=True)
    start, claim = time.monotonic(), importlib.import_module(name).CLAIM
    measures, rows = claim.test(asked.data, asked.seeds, FIGURES / f"{name}.png", asked.data_dir)
    found = same | {
        "measures": [dataclasses.asdict(m) | {"values": list(map(float, m.values))}
                     for m in measures],
        "rows": rows,
        "seconds": time.monotonic() - start,
        "made_with": hardware(made_with()),
    }  # fmt: skip
    FOUND.mkdir(exist_ok=True)
    file.write_text(json.dumps(found, indent=1))
    return found


def write() -> None:
    """CLAIMS.md from all that was found."""
    sections, lines = [], []
    for name in NAMES:
        file = FOUND / f"{name}.json"
        if not file.exists():
            continue
        found, claim = json.loads(file.read_text()), importlib.import_module(name).CLAIM
        sections.append(account(name, claim, found))
        result = verdict([Measure(**m) for m in found["measures"]])
        lines.append(f"| `{name}` | {claim.said} | {result} |")
    head = f"""# Claims of the papers, put to the test

Written by `python experiments/claims/run.py`. A claim is judged by numbers of independent training
runs: *reproduced* where the interval of {CONFIDENCE:.0%} (Student's t over training seeds) of every
measure lies above zero, *not reproduced* where that of any lies below, else *inconclusive*. Budgets
are small (minutes on two CPU cores) and every setting is ours unless said otherwise: the verdicts
are about these settings, not about the papers' own.

| name | claim | verdict |
|---|---|---|
"""
    TEXT.write_text(head + "\n".join(lines) + "\n\n" + "\n".join(sections))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
