"""Accepts turns for ever and prints the name of each one that was acknowledged. Killed by its test."""

import asyncio
import sys
from pathlib import Path

from server.domain import Ask, Content, Owed, TurnName
from server.store.sqlite import open_sqlite


async def accept_for_ever(path: Path, prefix: str) -> None:
    async with open_sqlite(path) as store:
        print("ready", flush=True)

        async def submit(worker: int) -> None:
            number = 0
            while True:
                number += 1
                name = TurnName(f"c{worker}", f"{prefix}-{worker}-{number}")
                ask = Ask(name, Content.of_text("在吗" * 40), True, "default")
                await store.accept(ask, Owed("acc", b"to"), time=1.0, claim=True)
                print(f"{name.conversation} {name.request_id}", flush=True)

        await asyncio.gather(*(submit(worker) for worker in range(16)))


if __name__ == "__main__":
    asyncio.run(accept_for_ever(Path(sys.argv[1]), sys.argv[2]))
