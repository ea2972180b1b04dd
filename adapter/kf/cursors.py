"""How far each account was read, kept in a small file.

Losing it is safe: reading then begins three days back, and the service knows each message
by its id. The file only saves that work.
"""

import asyncio
import os
from pathlib import Path
from typing import Final

import msgspec
import structlog

log = structlog.get_logger()

_MOST_BYTES: Final = 1024 * 1024


class _State(msgspec.Struct):
    version: int = 1
    cursors: dict[str, str] = msgspec.field(default_factory=dict)


class Cursors:
    """The cursors of one application, by ``open_kfid``. One task writes at a time."""

    def __init__(self, path: str) -> None:
        """Args: ``path`` of the file; empty keeps them in memory only."""
        self._path = Path(path) if path else None
        self._state = _State()
        self._lock = asyncio.Lock()

    async def load(self) -> None:
        """Reads the file; one that is missing or cannot be read counts as lost."""
        if self._path is None:
            return
        try:
            self._state = msgspec.json.decode(await asyncio.to_thread(_read, self._path), type=_State)
        except FileNotFoundError:
            log.info("kf_cursors_new", path=str(self._path))
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("kf_cursors_lost", path=str(self._path), why=type(error).__name__)

    def get(self, open_kfid: str) -> str:
        """The cursor behind everything that was handled; empty if nothing was."""
        return self._state.cursors.get(open_kfid, "")

    async def put(self, open_kfid: str, cursor: str) -> None:
        """Notes that everything before a cursor was handled; on disk when this returns, if it can be written."""
        if self._state.cursors.get(open_kfid, "") == cursor:
            return
        self._state.cursors[open_kfid] = cursor
        if self._path is None:
            return
        async with self._lock:
            try:
                await asyncio.to_thread(_write, self._path, msgspec.json.encode(self._state))
            except OSError as error:
                log.warning("kf_cursors_not_written", path=str(self._path), why=error.strerror)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MOST_BYTES)


def _write(path: Path, data: bytes) -> None:
    """Puts the file in place whole or not at all."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
