"""How a command begins and ends. Imports nothing that takes time."""

import os
import signal
import sys
from typing import NoReturn

INTERRUPTED = 128 + signal.SIGINT
STOPPED = "stopped: what was finished is kept, the same command goes on"


def open_streams() -> None:
    """Makes the standard streams fit for whatever is to be said.

    One that was closed (`2>&-`) leads nowhere from here on: its number would else go to the next
    file that is opened. One that cannot show a letter shows its code.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def leave(status: int) -> NoReturn:
    """Ends the process; after Ctrl-C without Python's own end, which crashes beside a thread that
    still compiles. A reader of standard output that has gone changes nothing of the status."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # Python flushes once more
    if status == INTERRUPTED:
        os._exit(status)
    sys.exit(status)
