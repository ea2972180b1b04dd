"""Whose turn it is: the models that one turn may go to, and what its attempts have shown."""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from server.llm.base import ErrorClass, LimitReached, ProviderError
from server.routing.breaker import BreakerOpen
from server.routing.keys import Key
from server.routing.model import Model
from server.routing.verdicts import Verdict, most_telling, verdict_on
from server.settings import RoutingSettings

_HIGHEST_DOUBLING: Final = 16

_OF_THE_MODEL: Final = frozenset({"model", "quota_group"})
"""Scopes of limits that another model may not be under."""


_MOST_CALLS: Final = 20
"""Calls of one turn, whatever they are counted as. Many keys that are refused one by one come near it."""


_UNTROUBLED: Final = (False, 0)
"""The rank of a model that is not tired and did not fail: none is better."""


class Candidate:
    """A model, in one turn."""

    __slots__ = ("called", "closed", "failures", "limited", "model", "out", "ready_at")

    def __init__(self, model: Model) -> None:
        self.model = model
        self.called = False
        self.failures = 0
        """Attempts that count against ``max_attempts``."""
        self.limited = 0
        """How often a limit or a breaker kept an attempt from being made."""
        self.ready_at = 0.0
        self.out = False
        """Whether it is done with for this turn."""
        self.closed: tuple[str, ...] = ()
        """Quota groups that are not to be used while there are others."""


class Chosen(NamedTuple):
    """What the next attempt takes."""

    candidate: Candidate
    key: Key
    again: bool
    """Whether this turn has failed at the model before, in a way that counts."""


class Candidates:
    """The models of one turn, in order of preference.

    Each attempt takes the one with the fewest failures so far that can be called now,
    so that all are tried once before one is tried twice. A failure sets the time before
    which its model is not tried again: a random one below a bound that doubles, and
    never earlier than its backend asked for.
    """

    def __init__(self, models: Sequence[Model], settings: RoutingSettings) -> None:
        self._all = [Candidate(model) for model in models]
        self._settings = settings
        self._failures = 0
        self._contexts = 0
        self._stopped_by: ProviderError | None = None
        self._errors: list[ProviderError] = []

    @property
    def alone(self) -> bool:
        """Whether at most one model is left to try."""
        return len(self._all) == 1 or sum(not candidate.out for candidate in self._all) <= 1

    def choose(self, now: float) -> Chosen | None:
        """What to call now, or ``None`` if nothing can be called at this moment."""
        best: Candidate | None = None
        best_rank = _UNTROUBLED
        for candidate in self._all:
            model = candidate.model
            if candidate.ready_at <= now and self._may(candidate, now) and model.wait(now, candidate.closed) <= 0:
                rank = (model.tired(now), candidate.failures + candidate.limited)
                if best is None or rank < best_rank:
                    best, best_rank = candidate, rank
                    if rank == _UNTROUBLED:
                        break
        if best is None:
            return None
        key = best.model.keys.choose(now, best.closed)
        return None if key is None else Chosen(best, key, best.failures > 0)

    def wait(self, now: float, jitter: float) -> float:
        """Seconds until something can be called; infinite if waiting does not help.

        Args:
            jitter: in [0, 1), so that turns which wait for the same moment do not come together.
        """
        soonest = math.inf
        for candidate in self._all:
            if not self._may(candidate, now):
                continue
            held_back = candidate.model.wait(now, candidate.closed)
            if held_back > self._settings.longest_hint_seconds:
                continue
            if held_back > 0:
                held_back += jitter * self._settings.first_backoff_seconds
            soonest = min(soonest, max(held_back, candidate.ready_at - now))
        return soonest

    def probe(self, now: float) -> Chosen | None:
        """A model that rests, for when nothing else is left: only one that this turn has not called."""
        for candidate in self._all:
            if not candidate.called and self._may(candidate, now):
                key = candidate.model.probe(now, candidate.closed)
                if key is not None:
                    return Chosen(candidate, key, again=False)
        return None

    def failed(self, chosen: Chosen, error: ProviderError, now: float, jitter: float) -> None:
        """An attempt failed, or was kept from being made by a limit or a breaker.

        Args:
            jitter: in [0, 1), of the time before which the model is not tried again.
        """
        self._errors.append(error)
        candidate = chosen.candidate
        if isinstance(error, LimitReached):
            self._limited(chosen, error, now)
            return
        if isinstance(error, BreakerOpen):
            candidate.limited += 1
            return
        candidate.called = True
        self._contexts += error.kind is ErrorClass.CONTEXT
        match verdict_on(error, carry_refused_content=self._settings.carry_refused_content, contexts=self._contexts):
            case Verdict.STOP:
                self._stopped_by = error
            case Verdict.NEXT:
                self._failures += 1
                candidate.out = True
            case Verdict.OTHER_KEY:
                if not self._other_key(chosen, error, now):
                    self._count(candidate, error, now, jitter)
            case Verdict.AGAIN:
                self._count(candidate, error, now, jitter)

    def final_error(self, now: float) -> ProviderError:
        """The error for the caller, once nothing is left to try."""
        if self._stopped_by is not None:
            return self._stopped_by
        errors = self._errors or [
            candidate.model.refusal(now) for candidate in self._all if candidate.model.wait(now, candidate.closed) > 0
        ]
        return most_telling(errors) if errors else ProviderError(ErrorClass.TIMEOUT, "too little time for an attempt")

    def _may(self, candidate: Candidate, now: float) -> bool:
        """Whether this turn may still call it, now or later."""
        return (
            not candidate.out
            and self._stopped_by is None
            and self._failures < self._settings.max_attempts
            and candidate.failures + candidate.limited < candidate.model.max_attempts
            and len(self._errors) < _MOST_CALLS
            and (candidate.failures == 0 or candidate.model.retries.allows(now))
        )

    def _other_key(self, chosen: Chosen, error: ProviderError, now: float) -> bool:
        """Whether the same model can go on at once, which then is no failure of the model.

        Each such step takes a key or an account out of use, so that they come to an end.
        """
        candidate, keys = chosen.candidate, chosen.candidate.model.keys
        if error.kind is ErrorClass.AUTH:
            return keys.wait(now, candidate.closed) <= 0
        closed = (*candidate.closed, chosen.key.group.name)
        if keys.wait(now, closed) > 0:
            candidate.closed = ()
            return False
        candidate.closed = closed
        return True

    def _limited(self, chosen: Chosen, error: LimitReached, now: float) -> None:
        if error.scope not in _OF_THE_MODEL:
            self._stopped_by = error
            return
        candidate = chosen.candidate
        candidate.limited += 1
        if error.scope == "quota_group" and self._other_key(chosen, error, now):
            return
        wait = error.retry_after or 0.0
        candidate.out = wait > self._settings.longest_hint_seconds
        candidate.ready_at = now + wait

    def _count(self, candidate: Candidate, error: ProviderError, now: float, jitter: float) -> None:
        settings, hint = self._settings, error.retry_after or 0.0
        doublings = min(candidate.failures, _HIGHEST_DOUBLING)
        bound = min(settings.longest_backoff_seconds, settings.first_backoff_seconds * float(2**doublings))
        candidate.ready_at = now + max(jitter * bound, hint)
        candidate.out = hint > settings.longest_hint_seconds
        candidate.failures += 1
        self._failures += 1
