"""Places that are shared out."""

import asyncio

import pytest

from server.media.places import Places


class Work:
    """People who work at places, and end when they are told to."""

    def __init__(self, count: int) -> None:
        self.places = Places(count)
        self.at_work: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Event] = {}

    async def begin(self, *names: str) -> None:
        """Each is a person's letter and the number of what is theirs."""
        for name in names:
            self._ends[name] = asyncio.Event()
            self.tasks[name] = asyncio.create_task(self._work(name))
        await self.settled()

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await self.settled()

    async def settled(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def _work(self, name: str) -> None:
        async with self.places.one(name[0]):
            self.at_work.append(name)
            try:
                await self._ends[name].wait()
            finally:
                self.at_work.remove(name)


async def test_one_has_all_places_until_somebody_comes() -> None:
    work = Work(2)
    await work.begin("a1", "a2", "a3", "a4", "b1")
    assert work.at_work == ["a1", "a2"]
    await work.end("a1")
    assert work.at_work == ["a2", "b1"]
    await work.end("a2")
    assert work.at_work == ["b1", "a3"]
    await work.end("b1")
    assert work.at_work == ["a3", "a4"]
    await work.end("a3")
    await work.end("a4")
    await work.begin("c1", "c2")
    assert work.at_work == ["c1", "c2"]
    await work.end("c1")
    await work.end("c2")


async def test_equals_go_in_the_order_in_which_they_came() -> None:
    work = Work(1)
    await work.begin("a1", "b1", "c1", "a2")
    for name in ("a1", "b1", "c1", "a2"):
        assert work.at_work == [name]
        await work.end(name)
    assert work.at_work == []


@pytest.mark.parametrize("given_in_the_same_moment", [False, True])
async def test_who_gives_up_leaves_the_place_to_the_next(given_in_the_same_moment: bool) -> None:
    work = Work(1)
    await work.begin("a1", "b1", "c1")
    if given_in_the_same_moment:
        # The place is handed over when a1 ends, and b1 is gone before it could notice.
        work._ends["a1"].set()
        while not work.tasks["a1"].done():
            await asyncio.sleep(0)
        work.tasks["b1"].cancel()
    else:
        work.tasks["b1"].cancel()
        await work.settled()
        await work.end("a1")
    await work.settled()
    assert work.tasks["b1"].cancelled()
    assert work.at_work == ["c1"]
    await work.end("c1")
    await work.begin("d1")
    assert work.at_work == ["d1"]
    await work.end("d1")
