"""All limits at once, against a model that counts on its fingers."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from msgspec.structs import replace

from server.routing.counting import CountedHere
from server.routing.limit_state import Claim, LimitKind, Refusal, Taken

T = TypeVar("T")
DAY = 86400.0

CLAIMS = (
    Claim("model", "model:a", requests=3, tokens=40, places=3),
    Claim("model", "model:b", requests=2, money=900),
    Claim("caller", "caller:x", tokens=30, places=2, money=500),
    Claim("total", "total:", requests=6, tokens=90, places=4, money=1500),
)
COUNTED_ONCE = ("caller", "total")


class Clocks:
    def __init__(self, wall: float = 10 * DAY) -> None:
        self.now = 1000.0
        self.wall = wall

    def pass_by(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds

    def state(self, **more: Any) -> CountedHere:
        return CountedHere(clock=lambda: self.now, wall_clock=lambda: self.wall, **more)


class Call:
    """A call as it is remembered by hand."""

    def __init__(self, claims: tuple[Claim, ...], at: float, day: int, tokens: int, money: int) -> None:
        self.claims = claims
        self.at = at
        self.day = day
        self.requests = 1
        self.tokens = tokens
        self.money = money
        self.open = True
        self.taken: Taken | None = None

    def of(self, claim: Claim) -> list[Claim]:
        """Its own claim of the same thing, if it has one."""
        return [own for own in self.claims if own.key == claim.key]


def as_part(claim: Claim, part: str) -> Claim:
    if part == "first" or claim.scope not in COUNTED_ONCE:
        return claim
    return replace(claim, again=True, requests=0 if part == "again" else claim.requests)


class ByHand(RuleBasedStateMachine):
    calls = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clocks = Clocks()
        self.state = self.clocks.state()
        self.made: list[Call] = []

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        self.run(self.state.aclose())
        self.loop.close()

    def refused(self, claims: tuple[Claim, ...], tokens: int, money: int, later: float = 0.0) -> set[LimitKind]:
        """What refuses such a call, so many seconds from now."""
        now, day = self.clocks.now + later, int((self.clocks.wall + later) // DAY)
        why = set()
        for claim in claims:
            mine = [call for call in self.made if call.of(claim)]
            minute = [call for call in mine if now - call.at < 60]
            counted = sum(call.requests for call in minute if not call.of(claim)[0].again)
            if claim.requests and counted + 1 > claim.requests:
                why.add(LimitKind.REQUESTS)
            held = sum(call.tokens for call in minute)
            if claim.tokens and held + min(tokens, claim.tokens) > claim.tokens:
                why.add(LimitKind.TOKENS)
            if claim.places and sum(call.open for call in mine) >= claim.places:
                why.add(LimitKind.PLACES)
            spent = sum(call.money for call in mine if call.day == day)
            if claim.money and money and spent + money > claim.money:
                why.add(LimitKind.MONEY)
        return why

    @rule(
        target=calls,
        which=st.sets(st.sampled_from(CLAIMS), min_size=1).map(lambda chosen: tuple(sorted(chosen, key=str))),
        part=st.sampled_from(["first", "again", "aside"]),
        tokens=st.integers(0, 50),
        money=st.integers(0, 400),
    )
    def begin(self, which: tuple[Claim, ...], part: str, tokens: int, money: int) -> Call:
        which = tuple(as_part(claim, part) for claim in which)
        call = Call(which, self.clocks.now, int(self.clocks.wall // DAY), tokens, money)
        refused = self.refused(which, tokens, money)
        checked = self.run(self.state.check(which, tokens, money))
        assert (checked is None) == (not refused - {LimitKind.PLACES})
        verdict = self.run(self.state.take(which, tokens, money))
        if isinstance(verdict, Refusal):
            assert verdict.kind in refused
            self.waits_exactly(verdict, call, tokens, money)
            call.open = False
            return call
        assert not refused
        call.taken = verdict
        self.made.append(call)
        return call

    def waits_exactly(self, refusal: Refusal, call: Call, tokens: int, money: int) -> None:
        if refusal.kind is LimitKind.PLACES:
            assert self.refused(call.claims, tokens, money) == {LimitKind.PLACES}
            assert refusal.retry_after == 0
            return
        assert not self.refused(call.claims, tokens, money, refusal.retry_after) - {LimitKind.PLACES}
        assert self.refused(call.claims, tokens, money, refusal.retry_after - 1e-3) - {LimitKind.PLACES}

    @rule(call=consumes(calls), used=st.none() | st.tuples(st.integers(0, 60), st.integers(0, 500)))
    def end(self, call: Call, used: tuple[int, int] | None) -> None:
        if call.taken is None:
            return
        self.run(self.state.give_back(call.taken, used))
        self.run(self.state.give_back(call.taken, used))
        call.open = False
        if used is None:
            call.requests = 0
        call.tokens = used[0] if used else 0
        # A call that was to cost nothing is not held to account.
        call.money = used[1] if used and call.money else 0

    @rule(seconds=st.sampled_from([0.25, 1.0, 7.5, 30.0, 59.75, 60.0, 3600.0, DAY / 2]))
    def wait(self, seconds: float) -> None:
        self.clocks.pass_by(seconds)

    @invariant()
    def nothing_is_held_by_nobody(self) -> None:
        for claim in CLAIMS:
            counts = self.state._keys.get(claim.key)
            if counts is not None and claim.places:
                assert counts.in_use == sum(call.open for call in self.made if call.of(claim))


ByHand.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestByHand = ByHand.TestCase


def person(name: str, **limits: int) -> Claim:
    return Claim("person", f"person:{name}", shared_key="person:*", **limits)


async def test_keys_that_count_nothing_any_more_are_forgotten() -> None:
    clocks = Clocks()
    state = clocks.state(most_keys=100)
    for number in range(1000):
        taken = await state.take([person(str(number), requests=1, places=1, money=100)], 0, 10)
        assert not isinstance(taken, Refusal)
        await state.give_back(taken, (0, 0))
        clocks.pass_by(1.0)
    assert len(state._keys) < 100


async def test_too_many_newcomers_share_what_one_may() -> None:
    clocks = Clocks()
    state = clocks.state(most_keys=10)
    known = [person(str(number), requests=2) for number in range(10)]
    for claim in known:
        assert not isinstance(await state.take([claim], 0, 0), Refusal)
    verdicts = [await state.take([person(f"new{number}", requests=2)], 0, 0) for number in range(50)]
    assert sum(not isinstance(verdict, Refusal) for verdict in verdicts) == 2
    # Those who were known have what is theirs, and not more.
    for claim in known:
        assert not isinstance(await state.take([claim], 0, 0), Refusal)
        assert isinstance(await state.take([claim], 0, 0), Refusal)
    assert len(state._keys) <= 11


async def test_a_crowd_does_not_make_the_service_forget_an_abuser() -> None:
    clocks = Clocks()
    state = clocks.state(most_keys=50)
    abuser = person("abuser", requests=5)
    passed = 0
    for number in range(2000):
        passed += not isinstance(await state.take([abuser], 0, 0), Refusal)
        await state.take([person(str(number), requests=5)], 0, 0)
        clocks.pass_by(60 / 2000)
    assert passed == 5


async def test_spending_outlives_being_forgotten_but_not_midnight() -> None:
    clocks = Clocks()
    state = clocks.state(most_keys=1000)
    spender = person("spender", requests=9, money=100)
    taken = await state.take([spender], 0, 60)
    assert not isinstance(taken, Refusal)
    await state.give_back(taken, (0, 60))
    clocks.pass_by(61)
    for number in range(20):
        await state.take([person(str(number), requests=1)], 0, 0)
        clocks.pass_by(61)
    assert spender.key not in state._keys
    refusal = await state.take([spender], 0, 41)
    assert isinstance(refusal, Refusal)
    assert refusal.kind is LimitKind.MONEY
    assert refusal.retry_after == pytest.approx(11 * DAY - clocks.wall)
    assert not isinstance(await state.take([spender], 0, 40), Refusal)
    clocks.pass_by(refusal.retry_after)
    assert not isinstance(await state.take([spender], 0, 100), Refusal)


async def test_a_call_over_midnight_is_paid_for_by_the_day_it_began_on() -> None:
    clocks = Clocks(wall=11 * DAY - 1)
    state = clocks.state()
    claim = Claim("total", "total:", money=100)
    over_midnight = await state.take([claim], 0, 90)
    assert not isinstance(over_midnight, Refusal)
    clocks.pass_by(2)
    today = await state.take([claim], 0, 100)
    assert not isinstance(today, Refusal)
    await state.give_back(over_midnight, (0, 95))
    await state.give_back(today, (0, 40))
    assert isinstance(await state.take([claim], 0, 61), Refusal)
    assert not isinstance(await state.take([claim], 0, 60), Refusal)


async def test_a_clock_that_is_set_back_does_not_reopen_a_day() -> None:
    clocks = Clocks(wall=11 * DAY + 5)
    state = clocks.state()
    claim = Claim("total", "total:", money=100)
    taken = await state.take([claim], 0, 100)
    assert not isinstance(taken, Refusal)
    await state.give_back(taken, (0, 100))
    clocks.wall -= 3600
    assert isinstance(await state.take([claim], 0, 1), Refusal)
