"""One call for all who ask the same; it lives as long as anybody listens."""

import asyncio
import traceback
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from server.cache.coalesce import SharedCalls
from server.errors import ShuttingDown

KEY = b"k"


class Source:
    """Calls whose items are given by hand."""

    def __init__(self) -> None:
        self.started = 0
        self.open = 0
        self.queue: asyncio.Queue[str | BaseException | None] = asyncio.Queue()

    async def start(self) -> AsyncGenerator[str, None]:
        self.started += 1
        self.open += 1
        try:
            while (item := await self.queue.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            self.open -= 1

    def say(self, *items: str | BaseException | None) -> None:
        for item in items:
            self.queue.put_nowait(item)


async def listen(shared: SharedCalls, source: Source) -> tuple[bool, list[str]]:
    async with shared.join(KEY, source.start) as call, aclosing(call.chunks()) as chunks:
        return call.leads, [item async for item in chunks]


async def started(source: Source, times: int = 1) -> None:
    while source.started < times:
        await asyncio.sleep(0)


async def closed(source: Source) -> None:
    while source.open:
        await asyncio.sleep(0)


async def test_eight_hundred_asks_make_one_call() -> None:
    shared, source = SharedCalls(), Source()
    tasks = [asyncio.create_task(listen(shared, source)) for _ in range(800)]
    await started(source)
    source.say("一", "二")
    await asyncio.sleep(0)
    source.say("三", None)
    results = await asyncio.gather(*tasks)
    assert source.started == 1
    assert [items for _, items in results] == [["一", "二", "三"]] * 800
    assert sum(leads for leads, _ in results) == 1
    await shared.aclose()


async def test_whoever_joins_late_hears_all() -> None:
    shared, source = SharedCalls(), Source()
    async with shared.join(KEY, source.start) as leader, aclosing(leader.chunks()) as chunks:
        source.say("一")
        assert await anext(chunks) == "一"
        late = asyncio.create_task(listen(shared, source))
        await asyncio.sleep(0)
        source.say("二", None)
        assert await late == (False, ["一", "二"])
        # It has succeeded, and its first listener is still there: no second call.
        assert await listen(shared, source) == (False, ["一", "二"])
        assert [item async for item in chunks] == ["二"]
    source.say(None)
    assert await listen(shared, source) == (True, [])
    assert source.started == 2
    await shared.aclose()


async def test_other_keys_are_other_calls() -> None:
    shared, source = SharedCalls(), Source()
    async with shared.join(b"a", source.start) as one, shared.join(b"b", source.start) as two:
        assert one.leads
        assert two.leads
        await started(source, 2)
    await shared.aclose()


async def test_the_leader_may_leave() -> None:
    shared, source = SharedCalls(), Source()
    leader = asyncio.create_task(listen(shared, source))
    await started(source)
    follower = asyncio.create_task(listen(shared, source))
    await asyncio.sleep(0)
    source.say("一")
    await asyncio.sleep(0)
    leader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leader
    source.say("二", None)
    assert await follower == (False, ["一", "二"])
    assert source.started == 1
    await shared.aclose()


async def test_the_last_to_leave_ends_the_call() -> None:
    shared, source = SharedCalls(), Source()
    tasks = [asyncio.create_task(listen(shared, source)) for _ in range(3)]
    await started(source)
    for task in tasks[:2]:
        task.cancel()
    await asyncio.gather(*tasks[:2], return_exceptions=True)
    await asyncio.sleep(0)
    assert source.open == 1
    tasks[2].cancel()
    await asyncio.gather(tasks[2], return_exceptions=True)
    await closed(source)
    assert not shared._calls
    # And whoever asks now begins anew.
    again = asyncio.create_task(listen(shared, source))
    await started(source, 2)
    source.say(None)
    assert await again == (True, [])
    await shared.aclose()


async def test_leaving_at_once_is_enough() -> None:
    shared, source = SharedCalls(), Source()
    async with shared.join(KEY, source.start):
        pass
    while shared._tasks:
        await asyncio.sleep(0)
    assert source.open == 0
    assert not shared._calls


async def test_an_error_goes_to_all_and_does_not_stay() -> None:
    shared, source = SharedCalls(), Source()
    tasks = [asyncio.create_task(listen(shared, source)) for _ in range(50)]
    await started(source)
    source.say("一", ValueError("played"))
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(error) for error in errors] == ["played"] * 50
    last = errors[-1]
    assert isinstance(last, ValueError)
    # One listener's frames, not those of fifty.
    assert len(traceback.extract_tb(last.__traceback__)) < 10
    source.say("二", None)
    assert await listen(shared, source) == (True, ["二"])
    await shared.aclose()


async def test_a_failed_call_is_not_joined_while_its_listeners_are_still_there() -> None:
    shared, source = SharedCalls(), Source()
    async with shared.join(KEY, source.start) as call:
        source.say(ValueError("played"))
        with pytest.raises(ValueError, match="played"):
            async with aclosing(call.chunks()) as chunks:
                await anext(chunks)
        source.say("二", None)
        assert await listen(shared, source) == (True, ["二"])
    # Leaving the old one must not have touched a newer one.
    await shared.aclose()


async def test_leaving_a_failed_call_does_not_end_the_next() -> None:
    shared, source = SharedCalls(), Source()
    async with shared.join(KEY, source.start) as call:
        source.say(ValueError("played"))
        with pytest.raises(ValueError, match="played"):
            await anext(call.chunks())
        newer = asyncio.create_task(listen(shared, source))
        await started(source, 2)
    source.say("二", None)
    assert await newer == (True, ["二"])
    await shared.aclose()


async def test_closing_tells_the_listeners_and_waits_for_the_calls() -> None:
    shared, source = SharedCalls(), Source()
    tasks = [asyncio.create_task(listen(shared, source)) for _ in range(3)]
    await started(source)
    source.say("一")
    await asyncio.sleep(0)
    await shared.aclose()
    assert source.open == 0
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [ShuttingDown] * 3
    with pytest.raises(ShuttingDown):
        await listen(shared, source)
    await shared.aclose()


async def test_a_stray_cancellation_does_not_hang_anybody() -> None:
    shared, source = SharedCalls(), Source()
    task = asyncio.create_task(listen(shared, source))
    await started(source)
    source.say(asyncio.CancelledError())
    with pytest.raises(ShuttingDown):
        await task
    source.say(None)
    assert await listen(shared, source) == (True, [])
    await shared.aclose()


async def test_a_start_that_fails() -> None:
    shared = SharedCalls()

    def start() -> AsyncGenerator[str, None]:
        raise LookupError("no such model")

    async with shared.join(KEY, start) as call:
        with pytest.raises(LookupError):
            await anext(call.chunks())
    await shared.aclose()
