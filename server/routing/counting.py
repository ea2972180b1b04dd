"""Limits counted in this process."""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from server.routing.limit_state import Claim, LimitKind, Refusal, Taken
from server.routing.minute import ROUNDING_SECONDS, Entry, Minute
from server.routing.spending import SpendingMarks
from server.routing.spending_record import SpendingForgotten, SpendingRecord

MOST_KEYS: Final = 100_000
"""Things that are counted apart. Beyond it, newcomers with a shared key are counted under that."""

MARKS_A_CAP: Final = 50
"""Steps in which the marks of a cap are raised: writes a day, and the part of it that a crash can cost."""

UNRECORDED_RETRY_SECONDS: Final = 30.0
"""When to come back while spending cannot be written down: the disk is full, or gone."""

_LOOKED_AT: Final = 4
"""Keys that are looked at for each newcomer, to forget those that have nothing to say."""

_log = structlog.get_logger(__name__)


class _Counts:
    """What is known of one key. ``spent`` and ``reserved`` are of ``day``."""

    __slots__ = ("day", "has_places", "in_use", "key", "minute", "pays", "reserved", "spent")

    def __init__(self, key: str, claim: Claim, day: int, spent: int) -> None:
        self.key = key
        # A claim that takes no request may be the first to come, and does not say whether requests are limited.
        self.minute = Minute() if claim.requests or claim.tokens or claim.again else None
        self.has_places = claim.places > 0
        self.in_use = 0
        self.pays = claim.money > 0
        self.day = day
        self.spent = spent
        self.reserved = 0

    def begin(self, day: int) -> None:
        """Begins a new day. What is still under way is settled with the day it began on, and so with nothing."""
        self.day = day
        self.spent = self.reserved = 0

    def idle(self, now: float) -> bool:
        """Whether there is nothing to know but ``spent``."""
        if self.in_use or self.reserved:
            return False
        if self.minute is None:
            return True
        self.minute.forget_old(now)
        return not self.minute.entries


class _Held(Taken):
    """What a call holds: the same of all its keys, but for the request, which some may have had before."""

    __slots__ = ("again", "counted", "day", "entry", "minutes", "minutes_again", "money")

    def __init__(self, counted: Sequence[_Counts], entry: Entry, money: int, day: int) -> None:
        self.counted = counted
        self.entry = entry
        self.minutes: list[Minute] = []
        """The logs that ``entry`` stands in."""
        self.again: Entry | None = None
        """As ``entry``, without the request."""
        self.minutes_again: list[Minute] = []
        self.money = money
        self.day = day


class CountedHere:
    """A :class:`~server.routing.limit_state.LimitState` in memory, with the day's spending on disk.

    Nothing is awaited between looking and taking, so no two calls can take the same last
    place. The one thing ever waited for is a write, at most fifty times a day and key.

    Memory: a key whose minute is empty and which has no call under way is forgotten but for
    what it spent today, which changes no answer. Keys that count are never forgotten to make
    room: when there are too many, newcomers that have a shared key are counted together under
    it, and all of them pass what one of them may. Whoever gets a count of their own again has
    at most twice their limit in that minute.
    """

    def __init__(
        self,
        record: SpendingRecord | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        most_keys: int = MOST_KEYS,
    ) -> None:
        """Args: where spending is kept (nowhere, by default), growing seconds, POSIX seconds, and the bound."""
        self._marks = SpendingMarks(record or SpendingForgotten(), wall_clock)
        self._clock = clock
        self._most_keys = most_keys
        self._keys: OrderedDict[str, _Counts] = OrderedDict()
        self._day = -1
        self._spent: dict[str, int] = {}
        """What keys spent on that day that are forgotten otherwise."""
        self._newcomers = 0
        """Keys that came since some were last forgotten. Not while a call is looked at: it holds on to its counts."""

    async def open(self) -> None:
        """See :meth:`server.routing.limit_state.LimitState.open`."""
        self._today()
        # Of a process that died, nobody knows what it spent of its marks.
        self._spent = await self._marks.open()

    async def take(self, claims: Sequence[Claim], tokens: int, money: int) -> _Held | Refusal:
        """See :meth:`server.routing.limit_state.LimitState.take`."""
        while True:
            now = self._clock()
            if self._newcomers:
                self._forget_some(now)
            day = self._today() if money else self._day
            counted = [self._counts(claim) for claim in claims]
            refusal = self._refusal(claims, counted, now, tokens, money, places=True)
            if refusal is not None:
                return refusal
            short = self._beyond_marks(claims, counted, money) if money else None
            if not short:
                return _hold(claims, _Held(counted, Entry(now, tokens), money, day))
            try:
                await self._marks.raise_to(day, {key: mark for _, key, mark in short})
            except OSError as error:
                # What cannot be kept account of is not spent.
                _log.error("spending_not_recorded", error=repr(error))
                return Refusal(short[0][0], LimitKind.MONEY, UNRECORDED_RETRY_SECONDS)

    async def check(self, claims: Sequence[Claim], tokens: int, money: int) -> Refusal | None:
        """See :meth:`server.routing.limit_state.LimitState.check`."""
        now = self._clock()
        if money:
            self._today()
        counted = [self._counts(claim) for claim in claims]
        return self._refusal(claims, counted, now, tokens, money, places=False)

    async def give_back(self, taken: Taken, used: tuple[int, int] | None) -> None:
        """See :meth:`server.routing.limit_state.LimitState.give_back`."""
        assert isinstance(taken, _Held)
        counted, taken.counted = taken.counted, ()
        if not counted:
            # It was given back already.
            return
        tokens, money = used or (0, 0)
        if not taken.entry.past(self._clock()):
            _become(taken.entry, taken.minutes, 0 if used else -1, tokens)
            if taken.again is not None:
                _become(taken.again, taken.minutes_again, 0, tokens)
        for counts in counted:
            if counts.has_places:
                counts.in_use -= 1
            if taken.money and counts.pays and taken.day == counts.day:
                counts.reserved -= taken.money
                counts.spent += money

    async def aclose(self) -> None:
        """See :meth:`server.routing.limit_state.LimitState.aclose`."""
        day = self._today()
        sums = dict(self._spent)
        for counts in self._keys.values():
            if counts.day == day and counts.spent + counts.reserved:
                sums[counts.key] = counts.spent + counts.reserved
        await self._marks.aclose(sums)

    def _refusal(
        self,
        claims: Sequence[Claim],
        counted: Sequence[_Counts],
        now: float,
        tokens: int,
        money: int,
        *,
        places: bool,
    ) -> Refusal | None:
        """The limit that refuses for longest; a place that is missing only where nothing else is."""
        longest, why, full = 0.0, None, None
        for claim, counts in zip(claims, counted, strict=True):
            if counts.minute is not None:
                wait, kind = _wait_for_minute(claim, counts.minute, now, tokens)
                if wait > longest:
                    longest, why = wait, (claim, kind)
            if money and claim.money and counts.spent + counts.reserved + money > claim.money:
                wait = self._marks.until_tomorrow() + ROUNDING_SECONDS
                if wait > longest:
                    longest, why = wait, (claim, LimitKind.MONEY)
            if places and claim.places and full is None and counts.in_use >= claim.places:
                full = claim
        if why is not None:
            return Refusal(*why, longest)
        return None if full is None else Refusal(full, LimitKind.PLACES, 0.0)

    def _beyond_marks(
        self, claims: Sequence[Claim], counted: Sequence[_Counts], money: int
    ) -> list[tuple[Claim, str, int]]:
        """The claims whose spending would pass what is on disk, with their keys and the marks they need."""
        short = []
        for claim, counts in zip(claims, counted, strict=True):
            if claim.money:
                sum_then = counts.spent + counts.reserved + money
                if sum_then > self._marks.mark(counts.key):
                    short.append((claim, counts.key, sum_then + claim.money // MARKS_A_CAP))
        return short

    def _today(self) -> int:
        day = self._marks.today()
        if day != self._day:
            self._day = day
            self._spent = {}
        return day

    def _counts(self, claim: Claim) -> _Counts:
        """What is known of a claim's key, of today."""
        counts = self._keys.get(claim.key)
        if counts is None:
            counts = self._newcomer(claim)
        if counts.day != self._day:
            counts.begin(self._day)
        return counts

    def _newcomer(self, claim: Claim) -> _Counts:
        self._newcomers += 1
        key = claim.key
        if claim.shared_key and key not in self._spent and len(self._keys) + len(self._spent) >= self._most_keys:
            key = claim.shared_key
        counts = self._keys.get(key)
        if counts is None:
            counts = self._keys[key] = _Counts(key, claim, self._day, self._spent.pop(key, 0))
        return counts

    def _forget_some(self, now: float) -> None:
        looked_at, self._newcomers = _LOOKED_AT * self._newcomers, 0
        for _ in range(min(looked_at, len(self._keys))):
            key, counts = self._keys.popitem(last=False)
            if not counts.idle(now):
                self._keys[key] = counts
            elif counts.spent and counts.day == self._day:
                self._spent[key] = counts.spent


def _wait_for_minute(claim: Claim, minute: Minute, now: float, tokens: int) -> tuple[float, LimitKind]:
    """Seconds until a minute has room for a call, and for what it waits the longest."""
    entries = minute.entries
    if entries and entries[0].past(now):
        minute.forget_old(now)
    wait, kind = 0.0, LimitKind.REQUESTS
    if claim.requests and minute.requests >= claim.requests:
        wait = minute.wait_for_request(now, claim.requests)
    if claim.tokens and minute.tokens + tokens > claim.tokens:
        wait_for_tokens = minute.wait_for_tokens(now, claim.tokens, tokens)
        if wait_for_tokens > wait:
            return wait_for_tokens, LimitKind.TOKENS
    return wait, kind


def _hold(claims: Sequence[Claim], held: _Held) -> _Held:
    money = held.money
    for claim, counts in zip(claims, held.counted, strict=True):
        if counts.has_places:
            counts.in_use += 1
        minute = counts.minute
        if minute is not None:
            if not claim.again:
                minute.add(held.entry)
                held.minutes.append(minute)
            elif claim.tokens:
                if held.again is None:
                    held.again = Entry(held.entry.at, held.entry.tokens, 0)
                minute.add(held.again)
                held.minutes_again.append(minute)
        if money and counts.pays:
            counts.reserved += money
    return held


def _become(entry: Entry, minutes: Sequence[Minute], more_requests: int, tokens: int) -> None:
    """An entry turns out to be another one, in all its logs."""
    more_tokens = tokens - entry.tokens
    entry.requests += more_requests
    entry.tokens = tokens
    for minute in minutes:
        minute.changed(entry, more_requests, more_tokens)
