"""What was let through in the last 60 seconds. Exact for every window, wherever it begins."""

from collections import deque
from collections.abc import Iterable
from typing import Final

MINUTE_SECONDS: Final = 60.0

ROUNDING_SECONDS: Final = 1e-6
"""Added to a wait, so that whoever waits exactly that long is not early by the last digit of a clock."""

_ALLOWED_EMPTY: Final = 64
"""Entries of nothing that may stand in the log beyond half of it, before it is written anew."""


class Entry:
    """A call: when it was let through, and how much it counts. One stands in the logs of all its limits."""

    __slots__ = ("at", "requests", "tokens")

    def __init__(self, at: float, tokens: int, requests: int = 1) -> None:
        self.at = at
        self.requests = requests
        self.tokens = tokens

    @property
    def empty(self) -> bool:
        """Whether it counts for nothing."""
        return not (self.requests or self.tokens)

    def past(self, now: float) -> bool:
        """Whether it no longer counts anywhere, and so must not be changed any more."""
        return now - self.at >= MINUTE_SECONDS


class Minute:
    """A log of calls with their times, and the sums of what they count.

    Each call counts from the moment it was let through until 60 seconds later, with what
    it turned out to be. So no 60 seconds hold more than the limit, which a token bucket or
    a minute by the clock does not give: either lets through twice as much around its edge.
    The price is one entry a call for a minute; the limit itself bounds their number.
    """

    __slots__ = ("_empty", "entries", "requests", "tokens")

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque()
        """Oldest first."""
        self.requests = 0
        """Calls in the log, those left out that were given back."""
        self.tokens = 0
        self._empty = 0

    def forget_old(self, now: float) -> None:
        """Drops what no longer counts. The sums are those of ``now`` then."""
        entries = self.entries
        while entries and entries[0].past(now):
            entry = entries.popleft()
            self.requests -= entry.requests
            self.tokens -= entry.tokens
            if entry.empty:
                self._empty -= 1

    def add(self, entry: Entry) -> None:
        """Counts a call that was let through now."""
        self.entries.append(entry)
        self.requests += entry.requests
        self.tokens += entry.tokens
        if entry.empty:
            self._empty += 1

    def changed(self, entry: Entry, requests: int, tokens: int) -> None:
        """Says that an entry of the log has become another one: by so many requests and tokens more, or less."""
        self.requests += requests
        self.tokens += tokens
        if entry.empty and (requests or tokens):
            self._empty += 1
            if self._empty > _ALLOWED_EMPTY + len(self.entries) // 2:
                # Calls that are given back at once would make the log long.
                self.entries = deque(kept for kept in self.entries if not kept.empty)
                self._empty = 0

    def wait_for_request(self, now: float, limit: int) -> float:
        """Seconds until one more call fits under ``limit``, if nothing else comes; 0 if it fits now."""
        return _wait(self.entries, now, self.requests + 1 - limit, "requests")

    def wait_for_tokens(self, now: float, limit: int, tokens: int) -> float:
        """As above, for tokens. More than the limit fits into an empty minute: it could never pass otherwise."""
        return _wait(self.entries, now, self.tokens + min(tokens, limit) - limit, "tokens")


def _wait(entries: Iterable[Entry], now: float, over: int, what: str) -> float:
    """Seconds until entries have left that make up for what is over the limit."""
    if over <= 0:
        return 0.0
    for entry in entries:
        over -= getattr(entry, what)
        if over <= 0:
            return max(0.0, entry.at + MINUTE_SECONDS - now) + ROUNDING_SECONDS
    raise AssertionError("the entries make up the sums")
