"""The breaker against a plain model of it, and its promises one by one."""

from itertools import pairwise

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from server.llm.base import ErrorClass, ProviderError
from server.routing.breaker import BUSY_SECONDS, PROBES, Breaker, BreakerState, counts_as_connecting
from server.settings import RoutingSettings

SETTINGS = RoutingSettings()


class Watched:
    """A breaker, its states so far, and shorthands."""

    def __init__(self) -> None:
        self.states: list[str] = []
        self.breaker = Breaker(SETTINGS, self.states.append)

    def call(self, now: float, *, failed: bool | None, connecting: bool = False) -> bool:
        ticket = self.breaker.enter(now)
        if ticket is None:
            return False
        self.breaker.leave(ticket, now, failed=failed, connecting=connecting)
        return True

    def opened(self, now: float) -> "Watched":
        for _ in range(SETTINGS.breaker_min_calls):
            self.call(now, failed=True)
        assert self.breaker.state is BreakerState.OPEN
        return self


def test_opens_at_half_of_ten() -> None:
    watched = Watched()
    for index in range(9):
        assert watched.call(float(index), failed=index % 2 == 0)
    assert watched.states == []
    watched.call(9.0, failed=True)
    assert watched.states == ["open"]
    assert watched.breaker.wait(9.0) == SETTINGS.breaker_open_seconds


def test_old_calls_do_not_count() -> None:
    watched = Watched()
    for _ in range(9):
        watched.call(0.0, failed=True)
    watched.call(SETTINGS.breaker_window_seconds + 0.1, failed=True)
    assert watched.breaker.state is BreakerState.CLOSED


def test_opens_after_five_failures_to_connect_in_a_row() -> None:
    watched = Watched()
    for failed in (True, True, True, True, False, True, True, True, True):
        watched.call(0.0, failed=failed, connecting=failed)
    assert watched.breaker.state is BreakerState.CLOSED
    watched.call(0.0, failed=True, connecting=True)
    assert watched.states == ["open"]


@pytest.mark.parametrize("failed", [False, None])
def test_what_counts_for_nothing(failed: bool | None) -> None:
    watched = Watched()
    for _ in range(100):
        watched.call(0.0, failed=failed)
    assert watched.states == []


def test_lets_two_probes_through_and_closes_at_the_first_sign_of_life() -> None:
    watched = Watched().opened(0.0)
    breaker = watched.breaker
    assert breaker.enter(9.9) is None
    tickets = [breaker.enter(10.0) for _ in range(PROBES)]
    assert None not in tickets
    assert breaker.enter(10.0) is None
    assert breaker.wait(10.0) == BUSY_SECONDS
    assert tickets[0] is not None
    breaker.alive(tickets[0])
    assert watched.states == ["open", "half_open", "closed"]
    assert breaker.wait(10.0) == 0.0
    for ticket in tickets:
        assert ticket is not None
        breaker.leave(ticket, 11.0, failed=True)
    assert watched.states == ["open", "half_open", "closed"], "they were of an earlier time"


def test_a_failed_probe_doubles_the_pause_up_to_its_bound() -> None:
    watched, now = Watched().opened(0.0), 0.0
    for pause in (10.0, 20.0, 40.0, 80.0, 120.0, 120.0):
        assert watched.breaker.wait(now) == pause
        now += pause
        assert watched.call(now, failed=True)
    now += 120.0
    assert watched.call(now, failed=False)
    watched.opened(now)
    assert watched.breaker.wait(now) == 10.0, "closing forgets the doubling"


def test_probes_that_are_under_way_when_it_opens_again_take_no_place_later() -> None:
    watched = Watched().opened(0.0)
    breaker, now = watched.breaker, 0.0
    for _ in range(5):
        now += breaker.wait(now)
        tickets = [breaker.enter(now) for _ in range(PROBES)]
        for ticket in tickets:
            assert ticket is not None
            breaker.leave(ticket, now, failed=True)
        assert breaker.state is BreakerState.OPEN


def test_a_probe_that_was_cancelled_makes_room_for_another() -> None:
    watched = Watched().opened(0.0)
    for _ in range(10):
        assert watched.call(10.0, failed=None)
    assert watched.breaker.state is BreakerState.HALF_OPEN


@pytest.mark.parametrize(
    ("error", "arrived", "connecting"),
    [
        (ProviderError(ErrorClass.TRANSIENT, "refused"), False, True),
        (ProviderError(ErrorClass.TRANSIENT, "reset"), True, False),
        (ProviderError(ErrorClass.TRANSIENT, "busy", status=503), False, False),
        (ProviderError(ErrorClass.TIMEOUT, "late"), False, False),
    ],
)
def test_failures_to_connect(error: ProviderError, arrived: bool, connecting: bool) -> None:
    assert counts_as_connecting(error, anything_arrived=arrived) is connecting


class AnyOrder(RuleBasedStateMachine):
    """Calls enter, live and leave in any order, while time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.watched = Watched()
        self.breaker = self.watched.breaker
        self.under_way: list[int] = []
        self.latest = -1

    @rule(seconds=st.floats(0.01, 40))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def a_call_enters(self) -> None:
        expected = self.breaker.wait(self.now) == 0
        ticket = self.breaker.enter(self.now)
        assert (ticket is not None) is expected
        if ticket is not None:
            self.under_way.append(ticket)
            self.latest = ticket

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def one_shows_life(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(self.under_way))
        half_open = self.breaker.state is BreakerState.HALF_OPEN
        self.breaker.alive(ticket)
        if half_open:
            closes = ticket == self.latest  # the latest ticket is always that of a probe, while there are any
            assert self.breaker.state is (BreakerState.CLOSED if closes else BreakerState.HALF_OPEN)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), failed=st.sampled_from([True, False, None]), connecting=st.booleans())
    def one_leaves(self, data: st.DataObject, failed: bool | None, connecting: bool) -> None:
        ticket = data.draw(st.sampled_from(self.under_way))
        self.under_way.remove(ticket)
        before = self.breaker.state
        self.breaker.leave(ticket, self.now, failed=failed, connecting=connecting and failed is True)
        if failed is None:
            assert self.breaker.state is before

    @invariant()
    def it_always_comes_back(self) -> None:
        wait = self.breaker.wait(self.now)
        assert 0 <= wait <= SETTINGS.breaker_longest_open_seconds
        if self.breaker.state is BreakerState.OPEN:
            assert self.breaker.wait(self.now + wait) == 0

    @invariant()
    def states_follow_one_another(self) -> None:
        allowed = {("closed", "open"), ("open", "half_open"), ("half_open", "open"), ("half_open", "closed")}
        told = ["closed", *self.watched.states]
        assert set(pairwise(told)) <= allowed
        assert told[-1] == self.breaker.state.value

    def teardown(self) -> None:
        # Whatever happened, once all have left and time has passed, a success closes it.
        for ticket in self.under_way:
            self.breaker.leave(ticket, self.now, failed=None)
        self.now += SETTINGS.breaker_longest_open_seconds
        assert self.watched.call(self.now, failed=False)
        assert self.breaker.state is BreakerState.CLOSED


AnyOrder.TestCase.settings = hypothesis_settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase
