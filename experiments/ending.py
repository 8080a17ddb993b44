"""How a command of this folder ends when Ctrl-C stops it. Imports nothing that takes time."""

import os
import signal
import sys
from typing import NoReturn

INTERRUPTED = 128 + signal.SIGINT
STOPPED = "stopped: what was finished is kept, the same command goes on"


def leave(status: int) -> NoReturn:
    """Ends the process; after Ctrl-C without Python's own end, which crashes beside a thread that
    still compiles."""
    if status == INTERRUPTED:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
