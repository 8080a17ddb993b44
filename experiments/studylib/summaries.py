"""CLAIMS.md and the results in README.md, from the stored numbers of all studies."""

import pathlib
from collections.abc import Mapping
from typing import Any

from studylib.declare import CONFIDENCE, FIRST_SEED, Measure, Study, verdict
from studylib.pages import claim_section, duration, hardware, pipe_table

ROOT = pathlib.Path(__file__).resolve().parents[2]
README, CLAIMS = ROOT / "README.md", ROOT / "CLAIMS.md"
# Prefixes of the names of earlier pages, if they differ from the name of the study.
EARLIER = {
    "acn": ("acn", "mnist_presets"),
    "ae": ("ae_",),
    "iae": ("iae",),
    "vae": ("vae_", "mnist_presets"),
    "vqvae": ("vqvae_mnist",),
    "vqvae_audio": ("vqvae_speech",),
}
FIRST, LAST = "<!-- results, written by experiments/study.py -->", "<!-- end of results -->"


def of_all(
    studies: Mapping[str, Study], stored: Mapping[str, Any], folder: pathlib.Path
) -> dict[pathlib.Path, str]:
    """The texts of CLAIMS.md and README.md by file."""
    results = "\n\n".join([claims_table(studies, stored), studies_table(studies, stored, folder)])
    return {
        CLAIMS: claims_text(studies, stored, folder),
        README: replaced(README.read_text(), results),
    }


def replaced(text: str, results: str) -> str:
    """`text` with `results` between the two marks."""
    before, rest = text.split(FIRST)
    return f"{before}{FIRST}\n\n{results}\n\n{LAST}{rest.split(LAST)[1]}"


def claims_text(
    studies: Mapping[str, Study], stored: Mapping[str, Any], folder: pathlib.Path
) -> str:
    """CLAIMS.md."""
    head = f"""# Claims of the papers, put to the test

Written by `python experiments/study.py`. A claim is judged by numbers of independent training
runs: *reproduced* if the interval of {CONFIDENCE:.0%} (Student's t over training seeds) of every
measure lies above zero, *not reproduced* if that of any measure lies below zero, else
*inconclusive*. The seeds begin at {FIRST_SEED}; settings were tuned on seeds from 0 on. The number
of seeds was fixed beforehand: five, or three where five would take much more than ten minutes. In
the tables ± is the standard deviation over seeds. An interval belongs to the machine that is
named: another machine rounds differently, adversarial runs diverge from each other above all, and
its numbers may lie outside. Where numbers of another machine are known, a measure has a margin
that its interval must clear; where no margin is written, no second machine was compared. Budgets
are small (minutes on two CPU cores) and every setting is ours unless said otherwise: a verdict is
about these settings, not about the paper's own."""
    table = [["study", "claim", "verdict"]]
    sections = []
    for name, study in studies.items():
        for claim in study.claims:
            result = stored[name].get("claims", {}).get(claim.name)
            outcome = "not run yet"
            if result:
                outcome = verdict([Measure(**fields) for fields in result["measures"]])
            table.append([f"`{name}`", claim.statement, outcome])
            if result:
                file = folder / f"{name}-{claim.picture}.png"
                picture = str(file.relative_to(ROOT)) if claim.picture and file.exists() else None
                sections.append(claim_section(claim, result, picture))
    return "\n\n".join([head, pipe_table(table), *sections]) + "\n"


def claims_table(studies: Mapping[str, Study], stored: Mapping[str, Any]) -> str:
    """A line for each claim, for the README."""
    rows = [["claim", "verdict", "measured", "published", "study, seeds, time, commit"]]
    machines = set()
    for name, study in studies.items():
        for claim in study.claims:
            result = stored[name].get("claims", {}).get(claim.name)
            if not result:
                rows.append([claim.statement, "not run yet", "", claim.published, f"`{name}`"])
                continue
            measures = [Measure(**fields) for fields in result["measures"]]
            machine, commit = result["made_with"].rsplit(", commit ", 1)
            machines.add(f"{result['data']}, {machine}")
            rows.append([
                claim.statement, verdict(measures), "; ".join(map(format_measure, measures)),
                claim.published,
                f"`{name}`, {result['seeds']} seeds, {duration(result['seconds'])}, {commit}"
                + (", by earlier code" if result.get("earlier") else ""),
            ])  # fmt: skip
    return "\n\n".join([
        "The papers' claims, each by `python experiments/study.py NAME`; pictures and the numbers "
        "behind them are in [CLAIMS.md](CLAIMS.md). Measured is what the claim says is above "
        "zero: mean over training seeds and 95 % interval, which is of one machine: another one's "
        "numbers may lie outside. Budgets are minutes, so published figures are for orientation. "
        "`python experiments/study.py --list` says which runs the code has changed since.",
        pipe_table(rows),
        f"On {'; '.join(sorted(machines))}.",
    ])  # fmt: skip


def format_measure(measure: Measure) -> str:
    """A measure with its interval, in one line."""
    mean, low, high = measure.interval
    unit = f" {measure.unit}" if measure.unit else ""
    return f"{measure.name}: {mean:.3g}{unit} ({low:.3g} to {high:.3g})"


def studies_table(
    studies: Mapping[str, Study], stored: Mapping[str, Any], folder: pathlib.Path
) -> str:
    """A line for each study, for the README."""
    rows = [["study", "command", "runs", "time"]]
    for name, study in studies.items():
        runs = stored[name].get("runs", {})
        seconds = sum(run["seconds_in_all"] for run in runs.values())
        link = f"[{study.title}]({(folder / name).relative_to(ROOT)}.md)"
        count = f"{len(runs)} of {len(study.runs)}" if len(runs) < len(study.runs) else len(runs)
        rows.append([link, f"`python experiments/study.py {name}`", count,
                     duration(seconds) if runs else "not run yet"])  # fmt: skip
    return "The studies, each with what was expected and whether it came out:\n\n" + pipe_table(
        rows
    )


def earlier_pages(name: str, folder: pathlib.Path) -> list[str]:
    """A paragraph with links to the pages of earlier code for a study; empty if there are none."""
    of_study = EARLIER.get(name, (name,))
    files = sorted(f for f in (folder / "earlier").glob("*.md") if f.stem.startswith(of_study))
    if not files:
        return []
    links = ", ".join(f"[{file.stem}](earlier/{file.name})" for file in files)
    return [
        f"Found by earlier code, with commands that are gone and partly other settings: {links}."
    ]


def runs_table(runs: Mapping[str, Any]) -> str:
    """A table of the runs that the numbers of a page are from."""
    rows = [["run", "recipe", "changes", "seeds", "time", "made with"]]
    for label, run in runs.items():
        changes = ", ".join(f"{k}={v}" for k, v in run["changes"].items())
        seeds = (
            f"{run['seeds'][0]} to {run['seeds'][-1]}" if len(run["seeds"]) > 1 else run["seeds"][0]
        )
        rows.append([label, f"`{run['recipe']}`", changes, seeds, duration(run["seconds_in_all"]),
                     hardware(run["made_with"])])  # fmt: skip
    return "## The runs\n\n" + pipe_table(rows)
