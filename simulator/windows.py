"""Memories with an end: sliding windows, and tables whose entries go with age or number. Pure."""

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Window:
    """Counts what happened within the last minute and the last hour, against a limit for each."""

    def __init__(self, per_minute: int, per_hour: int) -> None:
        self._per_minute = per_minute
        self._per_hour = per_hour
        self._minute: deque[float] = deque()
        self._hour: deque[float] = deque()

    def admit(self, now: float) -> bool:
        """Takes one more, or says no and takes nothing."""
        for times, seconds in ((self._minute, 60), (self._hour, 3600)):
            while times and times[0] <= now - seconds:
                times.popleft()
        if len(self._minute) >= self._per_minute or len(self._hour) >= self._per_hour:
            return False
        self._minute.append(now)
        self._hour.append(now)
        return True


class Windows(Generic[K]):
    """A window for each key; at most ``limit`` keys, the longest unused goes first."""

    def __init__(self, per_minute: int, per_hour: int, limit: int) -> None:
        self._bounds = (per_minute, per_hour)
        self._limit = limit
        self._windows: OrderedDict[K, Window] = OrderedDict()

    def admit(self, key: K, now: float) -> bool:
        """As :meth:`Window.admit`."""
        window = self._windows.setdefault(key, Window(*self._bounds))
        self._windows.move_to_end(key)
        while len(self._windows) > self._limit:
            self._windows.popitem(last=False)
        return window.admit(now)


class Remembered(Generic[K, V]):
    """A table of at most ``limit`` entries, each with an end in POSIX seconds; the oldest goes first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def put(self, key: K, value: V, until: float) -> None:
        """Writes an entry; an older one of the same key is forgotten."""
        self._entries.pop(key, None)
        self._entries[key] = (until, value)
        while len(self._entries) > self._limit:
            self._entries.popitem(last=False)

    def get(self, key: K, now: float) -> V | None:
        """The entry, unless its end has come."""
        found = self._entries.get(key)
        if found is None:
            return None
        if found[0] <= now:
            del self._entries[key]
            return None
        return found[1]

    def pop(self, key: K) -> None:
        """Forgets an entry."""
        self._entries.pop(key, None)

    def values(self) -> Iterator[V]:
        """All values, oldest first, ended ones included until somebody asks for them."""
        yield from [value for _, value in self._entries.values()]

    def __len__(self) -> int:
        return len(self._entries)
