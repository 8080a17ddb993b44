"""A lock on a folder, held by the kernel, so that it ends with the process in any case.

On POSIX systems the file `.lock` and the folder itself are locked (`flock`), so that a second
process is refused even if `.lock` was removed or replaced. On a file system that cannot lock a
folder (NFS) only the file is locked, and `Lock.check` detects that it was removed. On Windows a
byte of the file is locked (`msvcrt`), and the system prevents the removal of an open file.
"""

import contextlib
import errno
import os
import pathlib
import socket
import warnings

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
try:
    import msvcrt
except ImportError:
    msvcrt = None

NAME = ".lock"
LOCKED_BYTE = 1 << 20  # on Windows; beyond the text, so that others can read the text


class Taken(OSError):
    """Another process owns the folder; the message names it."""


class Lock:
    """The lock of one folder, held until `close`.

    Args:
        folder: an existing folder; its file `.lock` names the owner while the lock is held.
    Raises:
        Taken: another process owns it.
        OSError: the file cannot be created or locked.
    """

    def __init__(self, folder: pathlib.Path):
        self.path = folder / NAME
        self._folder: int | None = None
        self._file: int | None = None
        try:
            self._lock_folder()
            while self._file is None:
                self._lock_file()
        except OSError:
            self._release()
            raise
        os.ftruncate(self._file, 0)
        os.lseek(self._file, 0, os.SEEK_SET)
        os.write(self._file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())

    def check(self) -> None:
        """Raises Taken if the folder or its lock file was removed or replaced."""
        try:
            if self._folder is not None:
                mine = os.path.samestat(os.fstat(self._folder), os.stat(self.path.parent))
            else:
                mine = os.path.samestat(os.fstat(self._file), os.stat(self.path))
        except FileNotFoundError:
            mine = False
        if not mine:
            raise Taken(f"{self.path} was removed or replaced while this process owned the folder")

    def close(self) -> None:
        """Releases the lock; a second call does nothing."""
        if self._file is not None:
            os.ftruncate(self._file, 0)
        self._release()

    def _lock_folder(self) -> None:
        if fcntl is None:
            return
        self._folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Taken(self._owner()) from None
        except OSError:  # this file system can lock files only
            os.close(self._folder)
            self._folder = None

    def _lock_file(self) -> None:
        """Locks `.lock`; `_file` stays None if the file was replaced in the meantime."""
        file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(file)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file), os.stat(self.path)):
                    self._file = file
        except BlockingIOError:
            raise Taken(self._owner()) from None
        finally:
            if self._file is None:
                os.close(file)

    def _owner(self) -> str:
        text = b""
        with contextlib.suppress(OSError):
            text = self.path.read_bytes()[:300]
        return text.decode(errors="replace").strip() or "another process"

    def _release(self) -> None:
        for descriptor in (self._file, self._folder):
            if descriptor is not None:
                os.close(descriptor)
        self._file = self._folder = None


def _lock(file: int) -> None:
    """Locks the open file without waiting, or raises BlockingIOError."""
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    elif msvcrt is not None:
        os.lseek(file, LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError(errno.EAGAIN, "locked") from error
    else:
        warnings.warn(
            "this system has neither fcntl nor msvcrt: the run's folder is not locked against "
            "other processes",
            stacklevel=4,
        )
