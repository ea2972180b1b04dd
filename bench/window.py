"""The window of a measurement: what was done between two moments, and what it cost."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from bench import jobs, proc


class WrongAnswer(Exception):
    """An answer is not what was asked for."""


class Window:
    """Counts what is done, and reads the clocks at both ends."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = pids
        self.done = 0.0
        """What is done so far; of a stream counts the part that has arrived, since long ones end in bunches."""
        self._begin_done = 0.0
        self._begin_time = 0.0
        self._begin_own = 0.0
        self._begin_cpu: dict[str, float] = {}

    def open(self) -> None:
        """Begins to measure."""
        self._begin_cpu = self._cpu()
        self._begin_done = self.done
        self._begin_own = time.process_time()
        self._begin_time = time.perf_counter()

    def close(self, latencies: Sequence[float] = ()) -> jobs.Result:
        """Ends it."""
        seconds = time.perf_counter() - self._begin_time
        now = self._cpu()
        return jobs.Result(
            count=self.done - self._begin_done,
            seconds=seconds,
            cpu={name: now[name] - before for name, before in self._begin_cpu.items()},
            own_cpu=time.process_time() - self._begin_own,
            latencies=_summary(latencies),
        )

    def _cpu(self) -> dict[str, float]:
        return {name: proc.cpu_seconds(pid) for name, pid in self._pids.items()}


def _summary(latencies: Sequence[float]) -> dict[str, float]:
    if not latencies:
        return {}
    line = sorted(latencies)
    last = len(line) - 1
    return {
        "mean": sum(line) / len(line),
        "p50": line[last // 2],
        "p99": line[min(last, round(last * 0.99))],
        "max": line[-1],
    }


async def closed_loop(
    window: Window, one: Callable[[int], Awaitable[None]], *, workers: int, seconds: float, warm: Callable[[], bool]
) -> jobs.Result:
    """Keeps ``workers`` at it; opens the window when ``warm`` says so, and closes it ``seconds`` later.

    Args: ``one`` does one thing, counts it in the window, and gets the number of its worker; what it raises
        ends the loop.
    """
    stopping = False

    async def worker(number: int) -> None:
        while not stopping:
            await one(number)

    async with asyncio.TaskGroup() as group:
        for number in range(workers):
            group.create_task(worker(number))
        deadline = time.perf_counter() + 60
        while not warm():
            if time.perf_counter() > deadline:
                raise WrongAnswer("the warm-up did not end within a minute")
            await asyncio.sleep(0.01)
        window.open()
        await asyncio.sleep(seconds)
        result = window.close()
        stopping = True
    return result
