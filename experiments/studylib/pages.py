"""Markdown: tables, requirements and claims."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from studylib.declare import Claim, Measure, verdict


def pipe_table(rows: Sequence[Sequence]) -> str:
    """A line for each row, the head first; no newline at the end."""
    line = lambda cells: "| " + " | ".join(str(cell) for cell in cells) + " |"
    head, *body = rows
    return "\n".join([line(head), line(["---"] * len(head)), *map(line, body)])


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], note: str = "") -> str:
    """A table under a heading, and a paragraph below it."""
    parts = [f"## {title}", pipe_table([head, *rows]), *([note] if note else [])]
    return "\n\n".join(parts)


def mean_std(values, digits: int = 2) -> str:
    """Mean of `[seeds]`, and the standard deviation if there are several seeds."""
    values = np.atleast_1d(np.asarray(values, float))
    text = f"{values.mean():.{digits}f}"
    return text if len(values) == 1 else f"{text} ± {values.std(ddof=1):.{digits}f}"


def requirement(text: str, left: float, right: float, digits: int = 2) -> tuple[str, str, str]:
    """A row of requirements: `left <= right`."""
    outcome = "pass" if left <= right else "**FAIL**"
    return text, f"{left:.{digits}f} ≤ {right:.{digits}f}", outcome


def near(values, reference: float | None, tolerance: float, digits: int = 2) -> tuple[str, ...]:
    """Our number, the reference, and whether ours is within the tolerance of it."""
    if reference is None:
        return mean_std(values, digits), "", ""
    fits = abs(np.mean(values) - reference) <= tolerance + 1e-9
    return mean_std(values, digits), f"{reference:g} ± {tolerance:g}", "pass" if fits else "**off**"


def compared(
    title: str, numbers, expected: Mapping, nats: float, others: Mapping[str, float], names: Mapping
) -> str:
    """A table of numbers beside the expected ones.

    Args:
        expected: by run and by name of a number; None: shown without a comparison.
        nats: tolerance of the numbers that are not in `others`.
        others: tolerances by name of a number.
        names: names of numbers in the table, if they differ from their own names.
    """
    rows = []
    for run, references in expected.items():
        for name, reference in references.items():
            tolerance = others.get(name, nats)
            ours = near(numbers[run][name], reference, tolerance, 2 if tolerance > 0.1 else 3)
            rows.append([run, names.get(name, name), *ours])
    return table(title, ["run", "number", "ours", "reference", ""], rows)


def cells(of: Mapping[str, Any], digits: Mapping[str, int]) -> list[str]:
    """Mean and deviation of numbers of a run, with the given digits; – for a missing number."""
    return [mean_std(of[name], d) if name in of else "–" for name, d in digits.items()]


def required(*rows: Sequence[str]) -> str:
    """A table of requirements."""
    return table("What must hold", ["", "", ""], rows)


def rows_of(head: Sequence[str], rows: Mapping[str, Sequence]) -> list[list[str]]:
    """A table with a row per name: mean and standard deviation over seeds."""
    text = lambda value: value if isinstance(value, str) else mean_std(value, 4)
    return [["", *head], *([name, *map(text, values)] for name, values in rows.items())]


def claim_section(claim: Claim, stored: Mapping[str, Any], picture: str | None) -> str:
    """A claim with its verdict.

    Args:
        claim: the claim.
        stored: `measures` (fields of `Measure`), `rows`, and `found_by`, a line on the runs.
        picture: path of an image, if there is one.
    """
    measures = [Measure(**fields) for fields in stored["measures"]]
    how = f"{claim.how} " if not stored.get("earlier") else ""
    parts = [
        f"### {claim.statement}",
        f"**{verdict(measures)}** · {claim.where}",
        f"{how}Published: {claim.published}.",
        pipe_table([["the claim says > 0", "mean over seeds", "95 % interval", "by seed", ""],
                    *map(_measure_row, measures)]),
        pipe_table(stored["rows"]),
        *([f"![{claim.statement}]({picture})"] if picture else []),
        stored["found_by"],
    ]  # fmt: skip
    return "\n\n".join(parts)


def _measure_row(measure: Measure) -> list[str]:
    mean, low, high = measure.interval
    unit = f" {measure.unit}" if measure.unit else ""
    by_seed = " ".join(f"{value:.4g}" for value in measure.values)
    interval = f"{low:.4g} to {high:.4g}"
    if measure.margin:
        interval += f" (margin {measure.margin:g})"
    return [measure.name, f"{mean:.4g}{unit}", interval, by_seed, measure.verdict]


def duration(seconds: float) -> str:
    """Seconds as text, in seconds or minutes."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def hardware(environment: Mapping[str, Any]) -> str:
    """Device, versions and commit of a run in one line."""
    cores = environment["cores"]
    place = "a CPU core" if cores == 1 else f"{cores} CPU cores"
    place = place if environment["backend"] == "cpu" else environment["device"]
    versions = f"jax {environment['jax']}, Python {environment['python']}"
    return f"{place}, {versions}, commit {environment['commit']}"
