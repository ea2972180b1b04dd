"""Texts that people and models wrote, to try lists on before they are used: from a file, or from the turn store."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from server.domain import Content
from server.filter.entries import Direction

MAX_TEXTS: Final = 200_000
"""The most that are looked at; of a database, the newest."""


class LoggedText(NamedTuple):
    """A message or a reply."""

    text: str
    direction: Direction


class _Line(msgspec.Struct):
    text: str
    direction: str = "input"


def texts_of_file(path: Path) -> Iterator[LoggedText]:
    """From a JSON Lines file: texts, or objects with ``text`` and ``direction`` (``input`` or ``output``).

    Raises:
        ValueError: naming the line.
        OSError: if it cannot be read.
    """
    decode = msgspec.json.Decoder(str | _Line).decode
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            if number > MAX_TEXTS:
                return
            try:
                found = decode(line)
            except msgspec.MsgspecError as error:
                raise ValueError(
                    f"{path}:{number}: is neither a JSON text nor an object with `text`: {error}"
                ) from None
            if isinstance(found, str):
                found = _Line(found)
            yield LoggedText(found.text, Direction.OUTPUT if found.direction == "output" else Direction.INPUT)


def texts_of_database(path: Path) -> Iterator[LoggedText]:
    """Questions and replies of the turn store, the newest first. It is opened for reading only, and may be in use.

    Raises:
        ValueError: if it is no turn store.
    """
    try:
        database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            rows = database.execute(
                "SELECT input, reply FROM turns WHERE has_payload = 1 ORDER BY sequence DESC LIMIT ?", (MAX_TEXTS // 2,)
            )
            for content, reply in rows:
                yield LoggedText(msgspec.msgpack.decode(content, type=Content).text, Direction.INPUT)
                if reply:
                    yield LoggedText(reply, Direction.OUTPUT)
        finally:
            database.close()
    except (sqlite3.Error, msgspec.MsgspecError) as error:
        raise ValueError(f"{path}: is not a turn store that can be read: {error}") from None
