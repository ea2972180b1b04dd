"""A circuit breaker: a model that fails again and again is not called for a while."""

import enum
from collections.abc import Callable
from typing import Final

from server.llm.base import ErrorClass, ProviderError
from server.routing.recent import RecentCounts
from server.settings import RoutingSettings

COUNTED: Final = frozenset({ErrorClass.TRANSIENT, ErrorClass.TIMEOUT, ErrorClass.INCOMPLETE, ErrorClass.OVERLOADED})
"""The failures that speak against a model. Any other error shows that it is there and answers."""

PROBES: Final = 2
"""Calls that may be under way at a time while it is half open."""

BUSY_SECONDS: Final = 1.0
"""What callers are told to wait while probes are under way."""


class BreakerState(enum.Enum):
    """Whether a model is called."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class BreakerOpen(ProviderError):
    """The call was not made, because the model has been failing."""

    def __init__(self, model: str, retry_after: float) -> None:
        super().__init__(
            ErrorClass.TRANSIENT,
            "not called, its circuit breaker is open",
            model=model,
            code="breaker_open",
            retry_after=retry_after,
        )


class Breaker:
    """The breaker of one model. A call enters, says when it sees signs of life, and leaves.

    Opens at a share of failures within the window, or at a row of failures to connect.
    After a pause, up to :data:`PROBES` calls may enter. The first sign of life of one of
    them closes it, so that nobody waits for the end of a long reply; a failure opens it
    for twice as long.
    """

    def __init__(self, settings: RoutingSettings, changed: Callable[[str], None]) -> None:
        """Args: the ``breaker_*`` settings; what is told each new state."""
        self._settings = settings
        self._changed = changed
        self._recent = RecentCounts(settings.breaker_window_seconds)
        self._connect_failures = 0
        self._state = BreakerState.CLOSED
        self._epoch = 0
        """Grows with each change of state: a ticket of an earlier one decides nothing."""
        self._probes = 0
        self._pause = settings.breaker_open_seconds
        self._until = 0.0

    @property
    def state(self) -> BreakerState:
        """As it was left by the last call: a pause that is over shows when the next one enters."""
        return self._state

    def wait(self, now: float) -> float:
        """Seconds until a call may be let in; 0 if one may be now."""
        if self._state is BreakerState.CLOSED:
            return 0.0
        if self._state is BreakerState.OPEN:
            return max(0.0, self._until - now)
        return 0.0 if self._probes < PROBES else BUSY_SECONDS

    def enter(self, now: float) -> int | None:
        """A ticket for a call, to be brought back once by :meth:`leave`; ``None`` if it must not be made."""
        if self._state is BreakerState.CLOSED:
            return self._epoch
        if self.wait(now) > 0:
            return None
        if self._state is BreakerState.OPEN:
            self._change(BreakerState.HALF_OPEN)
        self._probes += 1
        return self._epoch

    def alive(self, ticket: int) -> None:
        """The backend has begun to answer."""
        if ticket == self._epoch:
            self._connect_failures = 0
            if self._state is BreakerState.HALF_OPEN:
                self._close()

    def leave(self, ticket: int, now: float, *, failed: bool | None, connecting: bool = False) -> None:
        """A call ended.

        Args:
            failed: ``None`` if nothing can be said: the caller went away, or had too little time.
            connecting: it failed before the backend was reached.
        """
        if ticket != self._epoch or self._state is BreakerState.OPEN:
            return
        if self._state is BreakerState.HALF_OPEN:
            self._probe_ended(now, failed)
        elif failed is not None:
            self._count(now, failed, connecting)

    def _probe_ended(self, now: float, failed: bool | None) -> None:
        self._probes -= 1
        if failed:
            self._pause = min(self._pause * 2, self._settings.breaker_longest_open_seconds)
            self._open(now)
        elif failed is not None:
            self._close()

    def _count(self, now: float, failed: bool, connecting: bool) -> None:
        self._recent.add(now, marked=failed)
        if not failed:
            self._connect_failures = 0
            return
        self._connect_failures = self._connect_failures + 1 if connecting else 0
        calls, failures = self._recent.totals(now)
        settings = self._settings
        if self._connect_failures >= settings.breaker_connect_failures or (
            calls >= settings.breaker_min_calls and failures >= settings.breaker_failure_share * calls
        ):
            self._open(now)

    def _open(self, now: float) -> None:
        self._until = now + self._pause
        self._change(BreakerState.OPEN)

    def _close(self) -> None:
        self._pause = self._settings.breaker_open_seconds
        self._recent.clear()
        self._connect_failures = 0
        self._change(BreakerState.CLOSED)

    def _change(self, state: BreakerState) -> None:
        self._state = state
        self._epoch += 1
        self._probes = 0
        self._changed(state.value)


def counts_as_connecting(error: ProviderError, *, anything_arrived: bool) -> bool:
    """Whether a call failed before its backend was reached: no status, and not a byte of a reply."""
    return error.kind is ErrorClass.TRANSIENT and error.status is None and not anything_arrived
