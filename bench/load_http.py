"""Load over HTTP: WeCom's callbacks, in a closed loop, at a steady rate, and on to the reply."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable

import msgspec

from bench import bot_platform, envelope, jobs, load_grpc, raw_http, upstream, wecom
from bench.window import Window, WrongAnswer

_WHOLE_WAY_SECONDS = 90.0
_POLL_SECONDS = 0.02
_ALL_GROW_SECONDS = 10.0
"""A client that waits globally never lets everybody's answer grow; then this ends the wait."""


def _run() -> str:
    return f"{time.time_ns() % 10**12:x}"


def _questions(door: envelope.Door, count: int, people: int) -> list[bytes]:
    """Sealed questions; the mark of each is the person who asks, so that the reply can be told."""
    run, now, first = _run(), int(time.time()), time.time_ns()
    messages = []
    for number in range(count):
        user = f"u{run}n{number % people if people else number}"
        text = f"{upstream.mark(user)}请问出差的报销流程是什么?需要哪些材料?第{number}问"
        messages.append(envelope.text_message(door, user, text, first + number, now))
    return envelope.seal(door, messages, now)


def _events(door: envelope.Door, count: int) -> list[bytes]:
    run, now = _run(), int(time.time())
    return envelope.seal(door, [envelope.silent_event(door, f"e{run}n{number}", now) for number in range(count)], now)


async def _post(connection: raw_http.Connection, request: bytes) -> None:
    status, body = await connection.exchange(request)
    if status != 200 or body not in (b"", b"success"):
        raise WrongAnswer(f"the callback was answered with {status} {body[:80]!r}")


async def _send_all(address: str, requests: list[bytes], concurrency: int, window: Window) -> None:
    waiting = iter(requests)
    connections = [raw_http.Connection(address) for _ in range(concurrency)]

    async def worker(connection: raw_http.Connection) -> None:
        for request in waiting:
            await _post(connection, request)
            window.done += 1

    try:
        async with asyncio.TaskGroup() as group:
            for connection in connections:
                group.create_task(worker(connection))
    finally:
        for connection in connections:
            connection.close()


async def callbacks(job: jobs.Callbacks) -> jobs.Result:
    """Runs :class:`bench.jobs.Callbacks`."""
    warm = _events(job.door, job.concurrency * 2)
    requests = _events(job.door, job.count) if job.events else _questions(job.door, job.count, job.people)
    window = Window(job.pids)
    await _send_all(job.door.address, warm, job.concurrency, window)
    window.open()
    await _send_all(job.door.address, requests, job.concurrency, window)
    return window.close()


async def whole_way(job: jobs.WholeWay) -> jobs.Result:
    """Runs :class:`bench.jobs.WholeWay`."""
    requests = _questions(job.door, job.count, 0)
    api = raw_http.Connection(job.wecom)

    async def stats(target: str) -> wecom.Stats:
        _, body = await api.exchange(raw_http.request("GET", target, job.wecom))
        return msgspec.json.decode(body, type=wecom.Stats)

    try:
        await stats("/reset")
        window = Window(job.pids)
        window.open()
        await _send_all(job.door.address, requests, job.concurrency, window)
        seen = await _until(lambda: stats("/stats"), job.count)
        result = window.close()
    finally:
        api.close()
    if seen.sent != job.count or seen.wrong or seen.doubled:
        raise WrongAnswer(f"{job.count} questions: {seen.sent} replies, {seen.wrong} wrong, {seen.doubled} doubled")
    return result


async def _until(read: Callable[[], Awaitable[wecom.Stats]], count: int) -> wecom.Stats:
    deadline = time.monotonic() + _WHOLE_WAY_SECONDS
    while True:
        seen = await read()
        if seen.sent >= count or time.monotonic() > deadline:
            return seen
        await asyncio.sleep(_POLL_SECONDS)


async def bubbles(job: jobs.Bubbles) -> jobs.Result:
    """Runs :class:`bench.jobs.Bubbles`: opens the window when everybody's answer grows."""
    platform = raw_http.Connection(job.platform)

    async def stats() -> bot_platform.Stats:
        _, body = await platform.exchange(raw_http.request("GET", "/stats", job.platform))
        return msgspec.json.decode(body, type=bot_platform.Stats)

    try:
        await platform.exchange(raw_http.request("GET", f"/begin?people={job.concurrency}", job.platform))
        deadline = time.monotonic() + _ALL_GROW_SECONDS
        while (await stats()).growing < job.concurrency and time.monotonic() < deadline:
            await asyncio.sleep(_POLL_SECONDS)
        window = Window(job.pids)
        before = await stats()
        window.open()
        await asyncio.sleep(job.seconds)
        after = await stats()
        window.done = after.frames - before.frames
        result = window.close()
    finally:
        platform.close()
    if after.wrong:
        raise WrongAnswer(f"{after.wrong} wrong frames: {after.why}")
    if not window.done:
        raise WrongAnswer("no frame came")
    return result


async def acknowledge(job: jobs.Acknowledge) -> jobs.Result:
    """Runs :class:`bench.jobs.Acknowledge`."""
    requests = _questions(job.door, round(job.rate * job.seconds), 0)
    window = Window(job.pids)
    latencies: list[float] = []
    ended = itertools.count()
    async with load_grpc.stubs(job.target, 4) as stubs:
        asker = load_grpc.Asker(job, Window({}))

        async def streams(worker: int) -> None:
            while True:
                await asker.stream(stubs[worker % len(stubs)], worker, job.answers)
                next(ended)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(streams(number)) for number in range(job.concurrency)]
            await asyncio.sleep(1.0)  # until the streams are spread over their length
            window.open()
            await _at_a_rate(job, requests, latencies)
            window.done = len(latencies)
            result = window.close(latencies)
            for task in tasks:
                task.cancel()
    return msgspec.structs.replace(result, streams=next(ended))


async def _at_a_rate(job: jobs.Acknowledge, requests: list[bytes], latencies: list[float]) -> None:
    free: list[raw_http.Connection] = []
    begin = time.perf_counter()

    async def one(request: bytes, due: float) -> None:
        connection = free.pop() if free else raw_http.Connection(job.door.address)
        await _post(connection, request)
        latencies.append(time.perf_counter() - due)
        free.append(connection)

    try:
        async with asyncio.TaskGroup() as group:
            for number, request in enumerate(requests):
                due = begin + number / job.rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                group.create_task(one(request, due))
    finally:
        for connection in free:
            connection.close()
