"""Progress display during training, and the TensorBoard copy of the metrics."""

import pathlib
import sys
import time
from typing import Any

import numpy as np


def plain(value: np.ndarray) -> float | list[float]:
    """A number for one seed, a list for several, for JSON."""
    value = np.asarray(value, np.float64).reshape(-1)
    return float(value[0]) if value.size == 1 else [float(v) for v in value]


class Progress:
    """A progress bar with loss, speed and time left on a terminal; text lines elsewhere.

    Args:
        steps: steps of the whole run.
        done: steps done in earlier sessions.
        quiet: show nothing.
        seconds: minimum time between two text lines.
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
                TextColumn("{task.fields[text]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self.task = self.bar.add_task("train", total=steps, completed=done, text="compiling")
            self.bar.start()

    def update(self, step: int, loss: Any, speed: float) -> None:
        """Shows the mean loss of the last chunk and the steps per second."""
        if self.quiet:
            return
        loss = np.atleast_1d(np.asarray(loss, np.float64))
        text = f"loss {' '.join(f'{v:.3f}' for v in loss)}  {speed:.4g} steps/s"
        if self.bar:
            self.bar.update(self.task, completed=step, text=text)
            return
        now = time.monotonic()
        if now - self.last_line >= self.seconds or step >= self.steps:
            self.last_line = now
            seconds_per_step = (now - self.start) / max(step - self.first, 1)
            left = f"{(self.steps - step) * seconds_per_step:.0f} s left"
            try:
                print(f"step {step}/{self.steps}  {text}  {left}", file=sys.stderr, flush=True)
            except OSError:  # stderr is closed; the run continues
                self.quiet = True

    def close(self) -> None:
        """Removes the bar from the terminal."""
        if self.bar:
            self.bar.stop()


class Events:
    """A TensorBoard event file: a copy of `metrics.jsonl`, one curve per seed.

    Rewritten in every session, since the file of a killed process may lack records or have records
    later than the checkpoint.

    Args:
        folder: folder of the file; event files of earlier sessions are removed.
        records: the records of `metrics.jsonl` so far.
    """

    def __init__(self, folder: pathlib.Path, records: list[dict]):
        from tensorboardX import SummaryWriter

        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        # purge_step: a running TensorBoard drops the removed files.
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
                # NaN and infinities are strings in the file.
                self.writer.add_scalar(tag, float(v), record["step"])

    def close(self) -> None:
        """Flushes and closes the files."""
        self.writer.close()
