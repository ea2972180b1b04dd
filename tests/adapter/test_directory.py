"""The directory between rules and a local WeCom: what it asks, how often, and what it does when it cannot."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from adapter.access.directory import Directory, NotKnown, Tagged
from adapter.backoff import Backoff
from adapter.metrics import Metrics
from adapter.rest.api import WeComApi
from simulator.app import Simulator
from simulator.clock import ManualClock
from simulator.settings import AppSettings, DepartmentSettings, ListenSettings, PersonSettings, Settings, TagSettings

HOUR = 3600.0


def corporation(app: AppSettings | None = None) -> Settings:
    return Settings(
        listen=ListenSettings(address="127.0.0.1:0"),
        apps=(app or AppSettings(),),
        departments=(
            DepartmentSettings(id=1, name="公司", parent=0),
            DepartmentSettings(id=2, name="研发部"),
            DepartmentSettings(id=3, name="后端", parent=2),
            DepartmentSettings(id=4, name="存储", parent=3),
            DepartmentSettings(id=5, name="市场部"),
        ),
        people=(
            PersonSettings(id="ChenJie", name="陈杰", departments=(4, 5)),
            PersonSettings(id="lina", name="李娜", departments=(5,)),
            PersonSettings(id="boss", name="老板"),
        ),
        tags=(TagSettings(id=7, name="试点", members=("ChenJie", "lina"), departments=(3,)),),
    )


class Book:
    def __init__(self, directory: Directory, sim: Simulator, clock: ManualClock, registry: CollectorRegistry) -> None:
        self.directory = directory
        self.sim = sim
        self.clock = clock
        self._registry = registry

    def asked(self, call: str, result: str = "ok") -> float:
        labels = {"call": call, "result": result}
        return self._registry.get_sample_value("weconverse_adapter_directory_reads_total", labels) or 0.0

    async def known(self, user: str) -> set[int] | None:
        try:
            return set(await self.directory.departments(user))
        except NotKnown:
            return None


@asynccontextmanager
async def book(
    app: AppSettings | None = None, *, max_members: int = 100, request_seconds: float = 3.0
) -> AsyncIterator[Book]:
    clock, registry = ManualClock(), CollectorRegistry()
    metrics = Metrics(registry)
    async with Simulator(corporation(app), clock=clock) as sim, aiohttp.ClientSession() as session:
        api = WeComApi(
            session,
            base=sim.rest_base,
            corp_id=sim.settings.corp_id,
            secret=sim.settings.apps[0].secret,
            metrics=metrics,
            clock=clock.time,
            pause=lambda: Backoff(0.001, 0.001),
        )
        directory = Directory(
            api, metrics, app="assistant", max_members=max_members, request_seconds=request_seconds, clock=clock.time
        )
        try:
            yield Book(directory, sim, clock, registry)
        finally:
            await directory.aclose()
            await api.aclose()


async def test_departments_come_with_all_above_them_and_case_does_not_count() -> None:
    async with book() as wecom:
        assert await wecom.known("chenjie") == {1, 2, 3, 4, 5}
        assert await wecom.known("CHENJIE") == {1, 2, 3, 4, 5}
        assert await wecom.known("lina") == {1, 5}
        assert await wecom.known("boss") == {1}
        assert wecom.asked("user/get") == 3
        assert wecom.asked("department/simplelist") == 1


async def test_a_tag_has_members_and_departments() -> None:
    async with book() as wecom:
        for _ in range(5):
            assert await wecom.directory.tagged(7) == Tagged(frozenset({"chenjie", "lina"}), frozenset({3}))
        assert await wecom.directory.tagged(99) == Tagged(frozenset(), frozenset())
        assert wecom.asked("tag/get") == 2


async def test_many_who_wait_share_one_question() -> None:
    async with book() as wecom:
        found = await asyncio.gather(*(wecom.known("lina") for _ in range(200)))
        assert found == [{1, 5}] * 200
        assert wecom.asked("user/get") == 1
        assert wecom.asked("department/simplelist") == 1


async def test_an_answer_is_fresh_for_an_hour_and_then_asked_for_anew() -> None:
    async with book() as wecom:
        await wecom.known("lina")
        wecom.clock.advance(HOUR - 1)
        await wecom.known("lina")
        assert wecom.asked("user/get") == 1
        wecom.clock.advance(2)
        await wecom.known("lina")
        assert wecom.asked("user/get") == 2


@pytest.mark.parametrize("fault", ["rest_5xx", "directory_busy", "directory_limited", "rest_cut_before"])
async def test_while_wecom_cannot_be_asked_the_last_good_answer_counts_for_a_day(fault: str) -> None:
    async with book() as wecom:
        await wecom.known("lina")
        wecom.sim.faults.set(fault)
        wecom.clock.advance(2 * HOUR)
        assert await wecom.known("lina") == {1, 5}
        assert await wecom.known("ChenJie") is None
        wecom.clock.advance(21 * HOUR)
        assert await wecom.known("lina") == {1, 5}
        wecom.clock.advance(2 * HOUR)
        assert await wecom.known("lina") is None
        wecom.sim.faults.clear()
        wecom.clock.advance(61)
        assert await wecom.known("lina") == {1, 5}


async def test_a_limit_stops_all_questions_for_its_minute() -> None:
    async with book() as wecom:
        wecom.sim.faults.set("directory_limited")
        for user in ("lina", "boss", "chenjie", "lina"):
            assert await wecom.known(user) is None
        with pytest.raises(NotKnown):
            await wecom.directory.tagged(7)
        assert wecom.sim.faults.struck["directory_limited"] == 1
        wecom.sim.faults.clear()
        wecom.clock.advance(59)
        assert await wecom.known("lina") is None
        wecom.clock.advance(2)
        assert await wecom.known("lina") == {1, 5}


async def test_a_failure_is_not_asked_about_again_by_everybody() -> None:
    async with book() as wecom:
        await wecom.known("lina")
        wecom.sim.faults.set("directory_busy")
        wecom.clock.advance(2 * HOUR)
        for _ in range(50):
            assert await wecom.known("lina") == {1, 5}
        assert wecom.asked("user/get", "unreachable") + wecom.asked("user/get", "refused") == 1


async def test_who_is_not_there_is_in_no_department_for_some_minutes() -> None:
    async with book() as wecom:
        for _ in range(3):
            assert await wecom.known("stranger") == set()
        assert wecom.asked("user/get") == 1
        wecom.clock.advance(301)
        assert await wecom.known("stranger") == set()
        assert wecom.asked("user/get") == 2


async def test_who_is_not_visible_is_in_no_department_and_the_operator_hears_of_it_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with book(AppSettings(visible_departments=(5,))) as wecom:
        assert await wecom.known("boss") == set()
        assert await wecom.known("BOSS") == set()
        # Of a department that is not visible, nobody says what is above it.
        assert await wecom.known("chenjie") == {1, 4, 5}
        assert capsys.readouterr().out.count("directory_not_visible") == 1
        wecom.clock.advance(301)
        assert await wecom.known("boss") == set()
        assert "directory_not_visible" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "asked_again"),
    [
        (lambda book: book.changed("update_user", "Lina"), "user/get"),
        (lambda book: book.changed("create_party"), "department/simplelist"),
        (lambda book: book.changed("update_tag"), "tag/get"),
    ],
)
async def test_a_change_that_is_told_is_asked_about_anew(change: Callable[[Directory], None], asked_again: str) -> None:
    async with book() as wecom:
        await wecom.known("lina")
        await wecom.directory.tagged(7)
        change(wecom.directory)
        await wecom.known("lina")
        await wecom.directory.tagged(7)
        assert wecom.asked(asked_again) == 1  # a change that comes with thousands of others
        wecom.clock.advance(11)
        await wecom.known("lina")
        await wecom.directory.tagged(7)
        calls = ("user/get", "department/simplelist", "tag/get")
        assert {call: wecom.asked(call) for call in calls} == {call: 1 + (call == asked_again) for call in calls}
        # Until the new answer is there, the old one still counts.
        change(wecom.directory)
        wecom.clock.advance(11)
        wecom.sim.faults.set("directory_busy")
        assert await wecom.known("lina") == {1, 5}


async def test_a_department_that_is_younger_than_the_tree_has_the_tree_read_again() -> None:
    async with book(AppSettings(visible_departments=(3,))) as wecom:
        assert await wecom.known("chenjie") == {2, 3, 4, 5}
        assert wecom.asked("department/simplelist") == 1
        wecom.clock.advance(301)
        assert await wecom.known("chenjie") == {2, 3, 4, 5}
        assert wecom.asked("department/simplelist") == 2


async def test_what_is_remembered_has_a_bound() -> None:
    async with book(max_members=2) as wecom:
        for user in ("lina", "boss", "chenjie", "lina"):
            await wecom.known(user)
        assert wecom.asked("user/get") == 4


async def test_a_slow_answer_is_not_waited_for_longer_than_a_message_can_and_is_kept() -> None:
    async with book(request_seconds=0.2) as wecom:
        await wecom.directory.tagged(7)  # with the token at hand, each question is one request
        wecom.sim.faults.once("rest_slow", seconds=10.0)
        assert await wecom.known("lina") is None
        assert await wecom.known("boss") == {1}
        wecom.clock.advance(10)
        async with asyncio.timeout(5):
            while wecom.asked("user/get") < 2:
                await asyncio.sleep(0.001)
        wecom.sim.faults.set("directory_busy")
        assert await wecom.known("lina") == {1, 5}
