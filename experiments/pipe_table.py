"""Tables as Markdown has them."""

from collections.abc import Sequence


def pipe_table(rows: Sequence[Sequence]) -> str:
    """A line for each row, the head first; no newline at the end."""
    line = lambda cells: "| " + " | ".join(str(cell) for cell in cells) + " |"
    head, *body = rows
    return "\n".join([line(head), line(["---"] * len(head)), *map(line, body)])
