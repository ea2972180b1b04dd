"""The limits of the settings, around each call to a backend."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Final

import msgspec
from msgspec.structs import replace

from server.budget import Budget
from server.domain import Usage
from server.llm.base import LimitReached
from server.routing.base import Admission, CallFacts, ModelObserver, TurnPart
from server.routing.limit_log import LimitLog
from server.routing.limit_state import MONEY_UNITS, Claim, LimitKind, LimitState, Refusal, Taken
from server.routing.limit_words import in_words
from server.routing.place_line import LineFull, PlaceLine
from server.routing.prices import FREE, Rate
from server.settings import LimitSettings, ModelSettings, PriceSettings, SharedLimitSettings

PLACE_RETRY_SECONDS: Final = 1.0
"""When to come back after no place became free in time: calls end when they end."""

TOKENS_PER_CHARACTER: Final = 0.75
"""For replies that no backend counted: what a Chinese character takes. Others take less."""

MOST_PLANS: Final = 4096
"""Combinations of model, account and caller whose limits are kept looked up."""

NO_LIMITS: Final = LimitSettings()


class _Plan(msgspec.Struct, frozen=True):
    """What calls of one model, account and caller have to pass, but for the person's limits."""

    first: tuple[Claim, ...]
    again: tuple[Claim, ...]
    aside: tuple[Claim, ...]
    rate: Rate

    def claims(self, part: TurnPart) -> tuple[Claim, ...]:
        """The claims of a call that is this part of its turn."""
        if part is TurnPart.FIRST:
            return self.first
        return self.again if part is TurnPart.AGAIN else self.aside


class Demand(msgspec.Struct, frozen=True):
    """What a call wants of which limits."""

    model: str
    claims: Sequence[Claim]
    tokens: int
    money: int


class Limits:
    """A :class:`~server.routing.base.Limiter` over the settings and a :class:`LimitState`.

    A call passes all limits at once, or takes nothing of any. Only for a place does it
    wait: first come, first served, within its budget, having taken nothing yet. In shadow
    mode nothing waits and nothing is refused; a call that would be is let through uncounted,
    so that the counts are those of the calls that limits would have let through.

    Persons are told apart by caller: what two callers call by one name need not be one.
    """

    def __init__(
        self,
        models: Mapping[str, ModelSettings],
        shared: SharedLimitSettings,
        state: LimitState,
        observer: ModelObserver,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args: the models and the limits beside theirs, what counts, who hears of refusals, seconds for the log."""
        self._models = models
        self._shared = shared
        self._state = state
        self._observer = observer
        self._log = LimitLog(clock)
        self._line = PlaceLine()
        self._plans: dict[tuple[str, str, str], _Plan] = {}
        self._person = (
            _new_plan((claim_of("person", "*", shared.person),), FREE) if _limits_anything(shared.person) else None
        )

    async def open(self) -> None:
        """Reads what was spent today. Raises ``OSError``."""
        await self._state.open()

    async def aclose(self) -> None:
        """Writes what was spent today. Calls under way count as made."""
        await self._state.aclose()

    def admitted(self, facts: CallFacts, budget: Budget) -> AbstractAsyncContextManager[Admission]:
        """See :meth:`server.routing.base.Limiter.admitted`."""
        plan = self._plan(facts)
        claims = plan.claims(facts.part)
        if self._person is not None and facts.person:
            (every,) = self._person.claims(facts.part)
            key = f"person:{facts.caller}\n{facts.person}"
            claims = (replace(every, key=key, shared_key=every.key), *claims)
        return _Passage(self, facts, claims, plan.rate, budget)

    async def enter(self, demand: Demand, budget: Budget) -> Taken | None:
        """What the call holds now; ``None`` for one that only shadow mode lets through. Raises ``LimitReached``."""
        if self._line.waiting and not self._shared.shadow:
            for claim in demand.claims:
                if claim.places and self._line.waits_for(claim.key):
                    return await self._enter_behind(claim, demand, budget)
        verdict = await self._state.take(demand.claims, demand.tokens, demand.money)
        if not isinstance(verdict, Refusal):
            return verdict
        if self._shared.shadow:
            self._noted(demand.model, verdict, enforced=False)
            return None
        if verdict.kind is LimitKind.PLACES:
            return await self._wait(verdict.claim, demand, budget)
        raise self._refused(demand, verdict)

    async def leave(self, demand: Demand, taken: Taken, used: tuple[int, int] | None) -> None:
        """Ends a call, and calls those who wait for its places."""
        await self._state.give_back(taken, used)
        if self._line.waiting:
            for claim in demand.claims:
                if claim.places:
                    self._line.freed(claim.key)

    async def _enter_behind(self, full: Claim, demand: Demand, budget: Budget) -> Taken:
        """Waits behind those who wait already, unless it could not pass anyway."""
        refusal = await self._state.check(demand.claims, demand.tokens, demand.money)
        if refusal is not None:
            raise self._refused(demand, refusal)
        return await self._wait(full, demand, budget)

    async def _wait(self, full: Claim, demand: Demand, budget: Budget) -> Taken:
        """Waits for a place, and takes everything else with it: nothing is held in line."""
        try:
            waiter = self._line.join(full.key)
        except LineFull:
            raise self._refused(demand, Refusal(full, LimitKind.PLACES, PLACE_RETRY_SECONDS)) from None
        try:
            while True:
                await waiter.turn(budget)
                verdict = await self._state.take(demand.claims, demand.tokens, demand.money)
                if not isinstance(verdict, Refusal):
                    return verdict
                if verdict.kind is not LimitKind.PLACES:
                    raise self._refused(demand, verdict)
                full = verdict.claim
                waiter.stand_again(full.key)
        except TimeoutError:
            raise self._refused(demand, Refusal(full, LimitKind.PLACES, PLACE_RETRY_SECONDS)) from None
        finally:
            waiter.leave()

    def _refused(self, demand: Demand, refusal: Refusal) -> LimitReached:
        self._noted(demand.model, refusal, enforced=True)
        return LimitReached(
            refusal.claim.scope, in_words(refusal.claim, refusal.kind), refusal.retry_after, model=demand.model
        )

    def _noted(self, model: str, refusal: Refusal, *, enforced: bool) -> None:
        self._observer.limited(refusal.claim.scope, enforced)
        self._log.limited(model, refusal.claim.scope, in_words(refusal.claim, refusal.kind), enforced=enforced)

    def _plan(self, facts: CallFacts) -> _Plan:
        key = (facts.model, facts.quota_group, facts.caller)
        plan = self._plans.get(key)
        if plan is None:
            if len(self._plans) >= MOST_PLANS:
                self._plans.clear()
            plan = self._plans[key] = self._new_plan(facts)
        return plan

    def _new_plan(self, facts: CallFacts) -> _Plan:
        model, shared = self._models[facts.model], self._shared
        limits = (
            ("caller", facts.caller, shared.callers.get(facts.caller, shared.caller)),
            ("model", facts.model, model.limits),
            ("quota_group", facts.quota_group, shared.quota_groups.get(facts.quota_group, NO_LIMITS)),
            ("total", "", shared.total),
        )
        claims = tuple(claim_of(*each) for each in limits if _limits_anything(each[2]))
        return _new_plan(claims, model.price or FREE)


class _Passage(AbstractAsyncContextManager[Admission]):
    """One call on its way through the limits."""

    __slots__ = ("_budget", "_demand", "_input_tokens", "_limits", "_rate", "_taken", "_used")

    def __init__(self, limits: Limits, facts: CallFacts, claims: Sequence[Claim], rate: Rate, budget: Budget) -> None:
        self._limits = limits
        # At least one unit, so that what may cost something is told from what cannot.
        money = 0 if rate.free else max(1, rate.of(facts.input_tokens, facts.output_tokens))
        self._demand = Demand(facts.model, claims, facts.input_tokens + facts.output_tokens, money)
        self._input_tokens = facts.input_tokens
        self._rate = rate
        self._budget = budget
        self._taken: Taken | None = None
        self._used: tuple[int, int] | None = None

    async def __aenter__(self) -> Admission:
        if self._demand.claims:
            self._taken = await self._limits.enter(self._demand, self._budget)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        taken, self._taken = self._taken, None
        if taken is not None:
            await self._limits.leave(self._demand, taken, self._used)

    def settle(self, usage: Usage | None, *, written_characters: int = 0) -> None:
        """See :meth:`server.routing.base.Admission.settle`. Takes effect on leaving; the first one stands."""
        if self._used is not None:
            return
        if usage is None:
            read, written, cached = self._input_tokens, round(written_characters * TOKENS_PER_CHARACTER), 0
        else:
            read, written = usage.input_token_count, usage.output_token_count
            cached = usage.cached_input_token_count
        self._used = (read + written, self._rate.of(read, written, cached))


_A_TURN: Final = frozenset({"person", "caller", "total"})
"""Scopes whose requests are turns, however many calls it takes to answer one."""


def _new_plan(claims: tuple[Claim, ...], price: PriceSettings) -> _Plan:
    again = tuple(replace(each, requests=0, again=True) if each.scope in _A_TURN else each for each in claims)
    aside = tuple(replace(each, again=True) if each.scope in _A_TURN else each for each in claims)
    return _Plan(claims, again, aside, Rate(price))


def _limits_anything(limits: LimitSettings) -> bool:
    return any(msgspec.structs.astuple(limits))


def claim_of(scope: str, name: str, limits: LimitSettings) -> Claim:
    """What settings allow, under the key of what they are for."""
    return Claim(
        scope,
        f"{scope}:{name}",
        limits.requests_per_minute,
        limits.tokens_per_minute,
        limits.concurrent_calls,
        round(limits.spending_per_day * MONEY_UNITS),
    )
