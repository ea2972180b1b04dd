"""Changes word lists for ever and prints each change that was acknowledged. Killed by its test."""

import asyncio
import itertools
import sys
import time
from pathlib import Path

from server.administration import LexiconAdministration
from server.filter.base import NewEntry
from server.filter.lexicons import Lexicons
from server.settings import FilterSettings
from server.store.sqlite import open_sqlite


async def change_for_ever(folder: Path, prefix: str) -> None:
    async with (
        open_sqlite(folder / "turns.db") as store,
        Lexicons(FilterSettings(lists=(str(folder / "lists"),), reload_seconds=3600.0)) as lists,
    ):
        admin = LexiconAdministration(lists, store.audit, {}, ("default",), time.time)
        await admin.open()
        print("ready", flush=True)

        async def change(worker: int) -> None:
            for number in itertools.count():
                word = f"{prefix}w{worker}n{number}"
                added = await admin.add(NewEntry(word), "王")
                print(f"added {added.entry.id}", flush=True)
                if number % 3 == 0:
                    await admin.remove(added.entry.id, "王")
                    print(f"removed {added.entry.id}", flush=True)

        await asyncio.gather(*(change(worker) for worker in range(4)))


if __name__ == "__main__":
    asyncio.run(change_for_ever(Path(sys.argv[1]), sys.argv[2]))
