import asyncio

from server.llm.watchdog import Watchdog


async def test_barks_once_when_nothing_happens() -> None:
    barked = asyncio.Event()
    dog = Watchdog(barked.set)
    dog.expect(0.02)
    await asyncio.wait_for(barked.wait(), 5)
    assert dog.barked
    dog.close()


async def test_moving_the_deadline_needs_no_new_timer() -> None:
    barks: list[float] = []
    loop = asyncio.get_running_loop()
    dog = Watchdog(lambda: barks.append(loop.time()))
    began = loop.time()
    dog.expect(0.02)
    handle = dog._handle
    for _ in range(1000):
        dog.expect(0.1)
    assert dog._handle is handle
    while not barks:
        await asyncio.sleep(0.005)
    assert barks[0] - began > 0.095
    dog.close()


async def test_an_earlier_deadline_is_kept() -> None:
    barked = asyncio.Event()
    dog = Watchdog(barked.set)
    dog.expect(3600)
    dog.expect(0.01)
    await asyncio.wait_for(barked.wait(), 5)
    dog.close()


async def test_a_resting_or_closed_watchdog_is_silent() -> None:
    barks: list[int] = []
    dog = Watchdog(lambda: barks.append(1))
    dog.expect(0.01)
    dog.rest()
    closed = Watchdog(lambda: barks.append(2))
    closed.expect(0.01)
    closed.close()
    await asyncio.sleep(0.05)
    assert not barks
    dog.expect(0.01)
    while not barks:
        await asyncio.sleep(0.005)
    assert barks == [1]
    dog.close()
