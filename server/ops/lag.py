"""Looks once a second how late the event loop is, and at what changes slowly."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

_INTERVAL_SECONDS: Final = 1.0


async def watch(
    report: Callable[[float], None], samples: Sequence[Callable[[], None]] = (), interval: float = _INTERVAL_SECONDS
) -> None:
    """Reports the loop's lateness in seconds, and takes the samples, until cancelled.

    Gauges are set from here and not read at a scrape: a scrape is rendered in a thread,
    where what belongs to the loop must not be looked at.
    """
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + interval
        await asyncio.sleep(interval)
        report(max(0.0, loop.time() - due))
        for sample in samples:
            sample()
