"""Why a store does not open. All of these end a start; none happens later.

::

    StoreRefused        the file cannot be used as it is
     ├─ StoreLocked     another process holds it
     └─ StoreTooNew     a newer version of this program wrote it
"""

from pathlib import Path


class StoreRefused(Exception):
    """The file cannot be used as it is; the message names it and the remedy."""


class StoreLocked(StoreRefused):
    """Another process holds the file."""

    def __init__(self, path: Path, lock_path: Path, holder: str) -> None:
        """Args: ``holder`` is the process id that the lock file names, or empty."""
        who = f"process {holder}" if holder else "another process"
        super().__init__(
            f"{path} is in use by {who} (lock: {lock_path}); stop that process, or give this one another store.path"
        )
        self.path = path
        self.holder = holder


class StoreTooNew(StoreRefused):
    """The file was written by a newer version of this program."""

    def __init__(self, path: Path, found: int, known: int) -> None:
        super().__init__(
            f"{path} has schema version {found}, this program knows up to {known}; "
            "start the newer version again, or restore a backup from before the upgrade"
        )
        self.found = found
        self.known = known
