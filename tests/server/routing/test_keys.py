"""Which key a call takes, and what takes keys and accounts out of use."""

import math
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from structlog.testing import capture_logs

from server.budget import Budget
from server.llm.base import ErrorClass, ProviderError
from server.routing.keys import Key, KeyPool, KeySource, QuotaGroup
from server.settings import RoutingSettings
from tests.server.routing.played import ByKey, Clock, Noted, Part, failing, keyed, routed, watch, whole

SETTINGS = RoutingSettings()


def pool_of(*weights: float, groups: Sequence[str] = ()) -> KeyPool:
    pool = KeyPool("m", SETTINGS, lambda model, count: None)
    known: dict[str, QuotaGroup] = {}
    for index, weight in enumerate(weights):
        name = groups[index] if groups else "g"
        group = known.setdefault(name, QuotaGroup(name, SETTINGS))
        pool.add_source(KeySource(f"keys[{index}]", "", weight, 0), group, (f"secret-{index}",))
    return pool


def secret(key: Key | None) -> str:
    assert key is not None
    return key.secret.reveal()


def test_weights_are_kept_and_mixed() -> None:
    pool = pool_of(5, 1, 1)
    taken = [secret(pool.choose(0.0)) for _ in range(14)]
    assert Counter(taken) == {"secret-0": 10, "secret-1": 2, "secret-2": 2}
    assert taken[:7] == ["secret-0", "secret-0", "secret-1", "secret-0", "secret-2", "secret-0", "secret-0"]


def test_weights_hold_among_those_that_are_left() -> None:
    pool = pool_of(2, 1, 1)
    pool.failed(pool.keys[1], ProviderError(ErrorClass.AUTH, "no"), 0.0, 0.0)
    taken = Counter(secret(pool.choose(1.0)) for _ in range(9))
    assert taken == {"secret-0": 6, "secret-2": 3}


@pytest.mark.parametrize(
    ("kind", "left", "seconds"),
    [
        (ErrorClass.AUTH, ["secret-1", "secret-2"], 1800),
        (ErrorClass.QUOTA, ["secret-2"], 600),
        (ErrorClass.RATE_LIMIT, ["secret-2"], 2),
    ],
)
def test_what_is_out_of_use_and_for_how_long(kind: ErrorClass, left: list[str], seconds: float) -> None:
    pool = pool_of(1, 1, 1, groups=("one", "one", "two"))
    assert pool.failed(pool.keys[0], ProviderError(kind, "no"), 100.0, 99.0)
    assert sorted({secret(pool.choose(100.0)) for _ in range(6)}) == left
    assert pool.usable(100.0) == len(left)
    assert pool.usable(100.0 + seconds) == 3
    assert pool.usable(99.9 + seconds) == len(left)


@pytest.mark.parametrize("kind", [kind for kind in ErrorClass if kind.name not in ("AUTH", "QUOTA", "RATE_LIMIT")])
def test_what_says_nothing_of_a_key(kind: ErrorClass) -> None:
    pool = pool_of(1)
    assert not pool.failed(pool.keys[0], ProviderError(kind, "no"), 0.0, 0.0)
    assert pool.choose(0.0) is pool.keys[0]


def test_waits() -> None:
    pool = pool_of(1, 1, groups=("one", "two"))
    assert pool.wait(0.0) == 0
    pool.failed(pool.keys[0], ProviderError(ErrorClass.RATE_LIMIT, "no", retry_after=7), 0.0, 0.0)
    assert pool.wait(0.0) == 0
    assert pool.wait(0.0, ("two",)) == 7
    pool.failed(pool.keys[1], ProviderError(ErrorClass.QUOTA, "no"), 0.0, 0.0)
    assert pool.wait(0.0) == 7
    assert pool.refusal(0.0).kind is ErrorClass.RATE_LIMIT
    pool.failed(pool.keys[0], ProviderError(ErrorClass.AUTH, "no"), 0.0, 0.0)
    assert pool.wait(0.0) == math.inf
    assert (pool.refusal(0.0).kind, pool.refusal(0.0).retry_after) == (ErrorClass.QUOTA, 600)
    pool.failed(pool.keys[1], ProviderError(ErrorClass.AUTH, "no"), 0.0, 0.0)
    assert pool.refusal(0.0).kind is ErrorClass.AUTH


def test_two_models_share_an_account() -> None:
    group = QuotaGroup("account", SETTINGS)
    pools = [KeyPool(name, SETTINGS, lambda model, count: None) for name in "ab"]
    for pool in pools:
        pool.add_source(KeySource("api_key", "", 1, 0), group, ("k",))
    pools[0].failed(pools[0].keys[0], ProviderError(ErrorClass.QUOTA, "no"), 0.0, 0.0)
    assert pools[1].choose(0.0) is None
    pools[1].keys[0].succeeded(0.0)
    assert pools[0].choose(0.0) is not None


def test_no_key_is_ever_printed() -> None:
    key = pool_of(1).keys[0]
    for shown in (repr(key), str(key), f"{key.secret}", key.name):
        assert "secret-0" not in shown
    assert key.name.startswith("keys[0].1#")


# --- through the router ---------------------------------------------------------------------


def parts(**by_key: Part) -> ByKey:
    return ByKey(lambda key: by_key[key])


async def test_a_wrong_key_one_alert_and_no_loop() -> None:
    clock, observer = Clock(), Noted()
    backend = parts(bad=failing(ErrorClass.AUTH, status=401), good=whole())
    with capture_logs() as lines:
        async with routed({"a": backend}, clock, models={"a": keyed("bad", "good")}, observer=observer) as router:
            for _ in range(100):
                shown = await watch(router, budget=Budget(60, clock))
                assert shown.text == "好"
                clock.now += 1
    assert backend.keys.count("bad") == 1
    assert clock.naps == [], "another key is taken at once"
    alerts = [line for line in lines if line["log_level"] == "error"]
    assert [line["event"] for line in alerts] == ["model_key_refused"]
    assert not any("good" in str(line) or "'bad'" in str(line) for line in lines)
    assert observer.usable == {"a": 1}


async def test_many_turns_that_hold_a_wrong_key_at_the_same_time() -> None:
    clock = Clock()
    bad = {f"bad{index}": failing(ErrorClass.AUTH) for index in range(8)}
    backend = parts(**bad, good=whole())
    with capture_logs() as lines:
        async with routed({"a": backend}, clock, models={"a": keyed(*bad, "good")}) as router:
            for _ in range(20):
                assert (await watch(router, budget=Budget(60, clock))).text == "好"
    assert sum(line["event"] == "model_key_refused" for line in lines) == 8
    assert backend.calls == 28


@pytest.mark.parametrize("kind", [ErrorClass.QUOTA, ErrorClass.RATE_LIMIT])
async def test_the_next_account_at_once(kind: ErrorClass) -> None:
    clock = Clock()
    backend = parts(one=failing(kind), also=failing(kind), two=whole())
    models = {"a": keyed("one", "also", "two", groups=("spent", "spent", "fresh"))}
    async with routed({"a": backend}, clock, models=models) as router:
        shown = await watch(router, budget=Budget(60, clock))
    assert (shown.text, backend.keys, clock.naps) == ("好", ["one", "two"], [])


async def test_rate_limits_with_no_time_to_wait_go_from_account_to_account_once() -> None:
    clock = Clock()
    backend = ByKey(lambda key: failing(ErrorClass.RATE_LIMIT, retry_after=0.0))
    models = {"a": keyed("one", "two", groups=("x", "y"))}
    async with routed({"a": backend}, clock, models=models) as router:
        shown = await watch(router, budget=Budget(60, clock))
    assert shown.error is not None
    assert backend.calls <= 2 * 3
    assert sum(clock.naps) >= 1


async def test_a_lone_refused_key_is_tried_again_further_and_further_apart() -> None:
    clock = Clock()
    backend = parts(k=failing(ErrorClass.AUTH))
    with capture_logs() as lines:
        async with routed({"a": backend}, clock, models={"a": keyed("k")}) as router:
            for _ in range(200):
                await watch(router, budget=Budget(60, clock))
                clock.now += 0.5
            assert backend.calls == 7
            backend._by_key = lambda key: whole()
            clock.now += 60
            assert (await watch(router, budget=Budget(60, clock))).text == "好"
            assert (await watch(router, budget=Budget(60, clock))).text == "好"
    assert sum(line["event"] == "model_key_refused" for line in lines) == 1


class AnyOrder(RuleBasedStateMachine):
    """Keys of three accounts fail, succeed, come and go, while time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.told = -1
        self.pool = KeyPool("m", SETTINGS, self._usable)
        self.groups = {name: QuotaGroup(name, SETTINGS) for name in "xyz"}
        self.sources = {name: KeySource(f"keys[{name}]", "", 1.0, 0) for name in "xyz"}
        for name in "xyz":
            self.pool.add_source(self.sources[name], self.groups[name], (f"{name}1", f"{name}2"))
        self.refused: dict[str, float] = {}
        """Until when, by a model that knows nothing of who was under way when."""
        self.spent: dict[str, float] = {}

    def _usable(self, model: str, count: int) -> None:
        self.told = count

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 100.0, 700.0, 2000.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    def _rests(self, key: Key) -> bool:
        until = self.refused.get(key.secret.reveal(), 0), self.spent.get(key.group.name, 0)
        return max(until) > self.now

    @rule(
        kind=st.sampled_from([ErrorClass.AUTH, ErrorClass.QUOTA, ErrorClass.TRANSIENT]),
        closed=st.sets(st.sampled_from("xyz"), max_size=2),
    )
    def a_call_fails(self, kind: ErrorClass, closed: set[str]) -> None:
        free = [key for key in self.pool.keys if not self._rests(key) and key.group.name not in closed]
        key = self.pool.choose(self.now, closed)
        assert (key is not None) == bool(free)
        assert (self.pool.wait(self.now, closed) == 0) == bool(free)
        if key is None:
            return
        assert key in free
        self.pool.failed(key, ProviderError(kind, "no"), self.now, self.now)
        if kind is ErrorClass.AUTH:
            self.refused[key.secret.reveal()] = self.now + 1800
        elif kind is ErrorClass.QUOTA:
            self.spent[key.group.name] = key.group.money.until
            assert 599.999 <= key.group.money.remaining(self.now) <= 3600.001
        if kind is not ErrorClass.TRANSIENT:
            assert self.told == self.pool.usable(self.now)

    @rule()
    def a_call_succeeds(self) -> None:
        key = self.pool.choose(self.now)
        if key is not None:
            key.succeeded(self.now)
            assert self.pool.usable(self.now) >= 1

    @rule(name=st.sampled_from("xyz"), texts=st.lists(st.sampled_from("12345"), min_size=1, max_size=3, unique=True))
    def a_file_changes(self, name: str, texts: list[str]) -> None:
        before = {key.secret.reveal(): key for key in self.pool.keys}
        self.pool.replace(self.sources[name], [name + text for text in texts], self.now, forgive=True)
        for key in self.sources[name].keys:
            assert before.get(key.secret.reveal(), key) is key, "what stays keeps its state"
        for text in "12345":
            self.refused.pop(name + text, None)
        self.spent.pop(name, None)

    @precondition(lambda self: self.pool.usable(self.now) == 0)
    @rule()
    def one_looks_when_nothing_is_left(self) -> None:
        key = self.pool.probe(self.now)
        if key is not None:
            assert self._rests(key)
            key.succeeded(self.now)
            self.refused.pop(key.secret.reveal(), None)
            self.spent.pop(key.group.name, None)
            assert self.pool.choose(self.now) is not None

    @invariant()
    def counts_agree(self) -> None:
        assert self.pool.usable(self.now) == sum(not self._rests(key) for key in self.pool.keys)
        if self.pool.usable(self.now) == 0:
            assert self.pool.refusal(self.now).kind in (ErrorClass.AUTH, ErrorClass.QUOTA)


AnyOrder.TestCase.settings = hypothesis_settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase
