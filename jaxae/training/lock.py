"""One owner for a folder: a lock of the kernel's, which ends with the process however it ends.

On POSIX systems the file `.lock` and the folder itself are locked (`flock`), so that neither a
removed `.lock` nor a replaced one lets a second process in. A file system that cannot lock a folder
(NFS) leaves the file's lock, and `Lock.check` notices when its name is gone. On Windows a byte of
the file is locked (`msvcrt`), and the system itself keeps an open file from being removed.
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
FAR = 1 << 20  # the byte that Windows locks: past the text, which others may then read


class Taken(OSError):
    """Another process has the folder; the message says which."""


class Lock:
    """The lock of one folder, held until `close`.

    Args:
        folder: an existing folder; `.lock` in it names the owner while there is one.
    Raises:
        Taken: another process has it.
        OSError: the file cannot be made or locked.
    """

    def __init__(self, folder: pathlib.Path):
        self.path = folder / NAME
        self._folder: int | None = None
        self._file: int | None = None
        try:
            self._take_folder()
            while self._file is None:
                self._take_file()
        except OSError:
            self._let_go()
            raise
        os.ftruncate(self._file, 0)
        os.lseek(self._file, 0, os.SEEK_SET)
        os.write(self._file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())

    def check(self) -> None:
        """Raises Taken where the folder at this path may be another process's by now."""
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
        """Gives the folder back; a second call does nothing."""
        if self._file is not None:
            os.ftruncate(self._file, 0)
        self._let_go()

    def _take_folder(self) -> None:
        if fcntl is None:
            return
        self._folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Taken(self._owner()) from None
        except OSError:  # this file system locks files only
            os.close(self._folder)
            self._folder = None

    def _take_file(self) -> None:
        """Locks what `.lock` names; leaves `_file` None where the name has changed meanwhile."""
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

    def _let_go(self) -> None:
        for held in (self._file, self._folder):
            if held is not None:
                os.close(held)
        self._file = self._folder = None


def _lock(file: int) -> None:
    """Takes the open file's lock without waiting, or raises BlockingIOError."""
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    elif msvcrt is not None:
        os.lseek(file, FAR, os.SEEK_SET)
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError(errno.EAGAIN, "locked") from error
    else:
        warnings.warn(
            "this system has neither fcntl nor msvcrt: nothing keeps a second process out of a "
            "run's folder",
            stacklevel=4,
        )
