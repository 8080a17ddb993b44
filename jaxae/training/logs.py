"""What a person sees while a model trains, and the TensorBoard copy of the metrics."""

import pathlib
import sys
import time
from typing import Any

import numpy as np


def plain(value: np.ndarray) -> float | list[float]:
    """One number for one seed, a list for several, as JSON takes them."""
    value = np.asarray(value, np.float64).reshape(-1)
    return float(value[0]) if value.size == 1 else [float(v) for v in value]


class Progress:
    """A bar with loss, speed and time left on a terminal; a plain line now and then elsewhere.

    Args:
        steps: steps of the whole run, of which `done` lie behind.
        quiet: show nothing.
        seconds: shortest time between two plain lines.
    """

    def __init__(self, steps: int, done: int = 0, quiet: bool = False, seconds: float = 5.0):
        self.steps, self.first, self.seconds = steps, done, seconds
        self.start, self.last_line, self.bar = time.monotonic(), -np.inf, None
        self.quiet = quiet or sys.stderr is None
        if not self.quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self.bar = Progress(
                TextColumn("step {task.completed:>7.0f}/{task.total:.0f}"),
                BarColumn(),
                TextColumn("{task.fields[seen]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self.task = self.bar.add_task("train", total=steps, completed=done, seen="compiling")
            self.bar.start()

    def update(self, step: int, loss: Any, speed: float) -> None:
        """Shows the mean loss of the last chunk and the steps per second."""
        if self.quiet:
            return
        loss = np.atleast_1d(np.asarray(loss, np.float64))
        text = f"loss {' '.join(f'{v:.3f}' for v in loss)}  {speed:.4g} steps/s"
        if self.bar:
            self.bar.update(self.task, completed=step, seen=text)
            return
        now = time.monotonic()
        if now - self.last_line >= self.seconds or step >= self.steps:
            self.last_line = now
            pace = (now - self.start) / max(step - self.first, 1)
            left = f"{(self.steps - step) * pace:.0f} s left"
            try:
                print(f"step {step}/{self.steps}  {text}  {left}", file=sys.stderr, flush=True)
            except OSError:  # nobody reads on; that is no reason to end the run
                self.quiet = True

    def close(self) -> None:
        """Takes the bar off the terminal."""
        if self.bar:
            self.bar.stop()


class Events:
    """A TensorBoard event file: a copy of `metrics.jsonl`, one curve per seed.

    Written anew in every session: what a killed process had queued never reached its file, and
    what it had written may be later than the checkpoint.

    Args:
        folder: where the file lies; event files of earlier sessions there are removed.
        records: what `metrics.jsonl` holds already.
    """

    def __init__(self, folder: pathlib.Path, records: list[dict]):
        from tensorboardX import SummaryWriter

        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        # purge_step: a TensorBoard that is open forgets the removed files.
        self.writer = SummaryWriter(str(folder), purge_step=0)
        for record in records:
            self.write(record)

    def write(self, record: dict) -> None:
        """Adds every metric of a record of `metrics.jsonl`."""
        for name, value in record.items():
            if name in ("step", "seconds"):
                continue
            values = value if isinstance(value, list) else [value]
            for i, v in enumerate(values):
                tag = name if len(values) == 1 else f"{name}/seed{i}"
                # The file has "nan" and "inf" for what JSON has no number for.
                self.writer.add_scalar(tag, float(v), record["step"])

    def close(self) -> None:
        """Flushes and closes the files."""
        self.writer.close()
