"""What was sent to whom a short while ago: for the duplicate check, and for the limit of a person.

In memory only. Losing it is safe on the side that matters: without it the duplicate check
is on, so nothing is sent twice. What remains is that two equal answers to one person, the
second one shortly after a restart, are shown once: WeCom takes the second for a repetition.
"""

import hashlib
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from cachetools import TTLCache

_MOST: Final = 20_000
"""Entries kept; beyond it the least recent go, which costs what a restart costs."""


class RecentlySent:
    """Which bodies a person got for which turn, for as long as WeCom compares."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Args: ``seconds`` is the interval of the duplicate check."""
        self._turns: TTLCache[bytes, str] = TTLCache(_MOST, seconds, clock)

    def belongs_to_another(self, user: str, body: bytes, turn: str) -> bool:
        """Whether the person got this very body, for another turn, within the interval.

        Then it is no repetition but an equal answer ("ok", a help text), and must not be suppressed.
        """
        return self._turns.get(_key(user, body), turn) != turn

    def confirmed(self, user: str, body: bytes, turn: str) -> None:
        """Tells that WeCom took the body for this turn."""
        self._turns[_key(user, body)] = turn


def _key(user: str, body: bytes) -> bytes:
    # WeCom gives UserIDs back in lower case, and takes them in either.
    return hashlib.blake2b(user.lower().encode() + b"\0" + body, digest_size=16).digest()


class MemberPace:
    """Keeps an application below the number of messages that one person may get.

    Beyond it WeCom drops messages without an error (DOC 90236), so nobody else can notice.
    The limit is per application: several instances share it only roughly, because all
    messages of one conversation are sent by one of them at a time.
    """

    def __init__(self, per_minute: int, per_hour: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Args: 0 switches a limit off."""
        self._limits = tuple((count, span) for count, span in ((per_minute, 60.0), (per_hour, 3600.0)) if count)
        self._clock = clock
        self._sent: TTLCache[str, deque[float]] = TTLCache(_MOST, 3600.0, clock)
        self._kept = max((count for count, _ in self._limits), default=1)

    def wait(self, user: str, messages: int = 1) -> float:
        """Seconds until the person may get that many more messages; 0 if now."""
        times = self._sent.get(user.lower())
        if times is None:
            return 0.0
        now = self._clock()
        # The window must have let go of all but the latest ``full`` messages.
        limits = ((max(1, count - messages + 1), span) for count, span in self._limits)
        return max(0.0, *(times[-full] + span - now for full, span in limits if len(times) >= full), 0.0)

    def sent(self, user: str) -> None:
        """Counts a message that may have reached the person."""
        if not self._limits:
            return
        user = user.lower()
        times = self._sent.get(user)
        if times is None:
            times = deque(maxlen=self._kept)
        times.append(self._clock())
        self._sent[user] = times  # set again, so that its hour begins anew
