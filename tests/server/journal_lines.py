"""The log lines that a test causes, as the server writes them."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import structlog

from program.journal import configure


@contextmanager
def journal(level: Any = "info") -> Iterator[BytesIO]:
    """Writes lines into what it gives; they are whole once it was left."""
    output, root = BytesIO(), logging.getLogger()
    before, root_level = root.handlers[:], root.level
    writer = configure(level, "json", output, for_good=False)
    try:
        yield output
    finally:
        writer.flush()
        root.handlers[:] = before
        root.setLevel(root_level)
        structlog.reset_defaults()


def lines(output: BytesIO, event: str = "call") -> list[dict[str, Any]]:
    """The lines of one kind."""
    return [line for line in map(json.loads, output.getvalue().splitlines()) if line["event"] == event]
