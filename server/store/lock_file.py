"""One process a file."""

import fcntl
import os
from pathlib import Path

from server.store.refusals import StoreLocked


class LockFile:
    """Holds ``<path>.lock`` for as long as this process uses ``path``.

    The kernel drops the lock with the process, however it dies, so a lock file that was
    left behind means nothing. It is never removed: a process that waits on the removed
    file and one that made a new one would both believe to be alone. Does not reach
    across machines on every network file system; keep the file on a local disk.
    """

    def __init__(self, path: Path) -> None:
        """Takes the lock.

        Raises:
            StoreLocked: if another process, or this one, holds it already.
            OSError: if the lock file cannot be opened.
        """
        lock_path = path.with_name(path.name + ".lock")
        descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise StoreLocked(path, lock_path, holder) from None
        except OSError:
            os.close(descriptor)
            raise
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Lets the next process in."""
        os.close(self._descriptor)
