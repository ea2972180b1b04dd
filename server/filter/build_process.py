"""Builds word lists in a process of its own: an order comes on the input, what became of it goes to the output."""

import os
import sys
from pathlib import Path

import msgspec

from server.filter.building import Order, Outcome, build, save
from server.filter.list_rows import ListError

_NICE = 10
"""Running turns go before."""


def main() -> None:
    """Does one order."""
    os.nice(_NICE)
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    answer = Outcome()
    try:
        save(build(order.job), Path(order.outcome))
    except ListError as error:
        answer = Outcome(error.file, error.line, error.rule)
    sys.stdout.buffer.write(msgspec.json.encode(answer))


if __name__ == "__main__":
    main()
