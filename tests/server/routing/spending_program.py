"""Spends one unit under a cap for each byte it is given, and says so, until the cap is reached or it is killed."""

import asyncio
import sys
from pathlib import Path

from server.routing.counting import CountedHere
from server.routing.limit_state import Claim, Refusal
from server.routing.spending_record import SpendingFile


async def main(path: str, cap: int) -> None:
    state = CountedHere(SpendingFile(Path(path)))
    await state.open()
    claim = Claim("total", "total:", money=cap)
    while sys.stdin.buffer.read(1) and not isinstance(taken := await state.take([claim], 0, 1), Refusal):
        sys.stdout.write("1")
        sys.stdout.flush()
        await state.give_back(taken, (0, 1))
    sys.stdout.write("x")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
