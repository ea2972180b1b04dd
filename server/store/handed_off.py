"""Which conversations a person may have, so that a turn of any other need not ask the disk."""

from collections.abc import Iterable
from typing import Final

MOST_NAMES: Final = 100_000
"""Names that are kept: some 15 MB. With more, every turn asks the disk."""


class MaybeHandedOff:
    """A superset of the conversations that are handed off.

    A name is added before the write that hands its conversation off, and stays until the
    process ends: a write of which nobody heard may have happened, and a read is cheap.
    """

    def __init__(self, names: Iterable[str]) -> None:
        """Args: those that are handed off on disk."""
        self._names = set(names)

    def add(self, name: str) -> None:
        """From now on, the disk is to be asked about this one."""
        if len(self._names) <= MOST_NAMES:
            self._names.add(name)

    def __contains__(self, name: str) -> bool:
        return name in self._names or len(self._names) > MOST_NAMES
