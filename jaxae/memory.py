"""The memory of the machine or of its container. `data` and `training` both read it from here."""

import os
import pathlib

CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Files that hold the memory limit of a container, in cgroup version 2 and 1."""


def host_memory() -> int | None:
    """Bytes of memory of the machine, or of its container if less; None if unknown (no POSIX)."""
    try:
        limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (AttributeError, ValueError, OSError):
        return None
    for name in CGROUP_LIMITS:
        try:
            limits.append(int(pathlib.Path(name).read_text()))
        except (OSError, ValueError):  # no such file, or "max": no limit
            continue
    return min(limits)
