"""Two sides of one stream, each with its own pace."""

import asyncio
from collections.abc import Coroutine
from typing import Any


async def first_to_end(*sides: Coroutine[Any, Any, None]) -> None:
    """Runs the sides together until one of them ends, then stops the others.

    Whatever ended the first side is what is raised here. When this returns or raises,
    every side has ended: nothing goes on behind the back of the caller.
    """
    tasks = [asyncio.create_task(side) for side in sides]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if task in done:
            task.result()
