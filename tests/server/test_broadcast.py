"""Every reader sees every item once, in order, and then the end."""

import asyncio

import pytest

from server.broadcast import Broadcast


async def _read(broadcast: Broadcast[int], start: int = 0) -> list[int]:
    return [item async for batch in broadcast.batches(start) for item in batch]


async def test_readers_that_come_early_late_and_after_the_end_see_the_same() -> None:
    broadcast: Broadcast[int] = Broadcast()
    early = asyncio.create_task(_read(broadcast))
    await asyncio.sleep(0)
    for number in range(5):
        broadcast.append(number)
        await asyncio.sleep(0)
    middle = asyncio.create_task(_read(broadcast, 3))
    for number in range(5, 9):
        broadcast.append(number)
    broadcast.close()
    assert await early == list(range(9))
    assert await middle == list(range(3, 9))
    assert await _read(broadcast) == list(range(9))


async def test_an_error_comes_behind_the_last_item() -> None:
    broadcast: Broadcast[int] = Broadcast()
    broadcast.append(1)
    broadcast.close(ValueError("end"))
    seen = []
    with pytest.raises(ValueError, match="end"):
        async for batch in broadcast.batches():
            seen.extend(batch)
    assert seen == [1]
    with pytest.raises(ValueError, match="end"):
        await broadcast.finished()


async def test_nothing_is_added_behind_the_end() -> None:
    broadcast: Broadcast[int] = Broadcast()
    broadcast.close()
    broadcast.close(ValueError("the first end stands"))
    await broadcast.finished()
    with pytest.raises(RuntimeError):
        broadcast.append(1)


async def test_readers_that_give_up_leave_nothing_behind() -> None:
    broadcast: Broadcast[int] = Broadcast()
    readers = [asyncio.create_task(_read(broadcast)) for _ in range(100)]
    await asyncio.sleep(0)
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    assert not broadcast._waiters
