"""Rereads files of keys while the service runs.

A rotation is then a matter of the file: the new key goes into it beside the old one or in
its place, by an atomic rename as mounted secrets do it, and calls take it from the next
look on. A refused key has its file looked at on the spot, so that a rotation without an
overlap costs a second attempt and no failed turn.
"""

import asyncio
import os
import stat
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from server.budget import Budget, Clock
from server.routing.base import ModelObserver
from server.routing.keys import KeyPool, KeySource

_log = structlog.get_logger()

MAX_FILE_BYTES: Final = 64 << 10
"""A larger file is not one of keys."""

MAX_KEYS: Final = 64
"""Keys of one file; later lines are left alone."""

OLD_SHARE: Final = 0.9
"""The share of its allowed age from which a key is reported as old."""

_SECONDS_PER_DAY: Final = 86400.0


class KeyFile(NamedTuple):
    """What was read."""

    keys: tuple[str, ...]
    modified: float
    """POSIX seconds."""


def keys_in(text: str) -> tuple[str, ...]:
    """One key a line; blank lines and white space around keys do not count, nor do repetitions."""
    lines = dict.fromkeys(line.strip() for line in text.splitlines())
    return tuple(line for line in lines if line)[:MAX_KEYS]


def read_key_file(path: str) -> KeyFile:
    """Reads a file of keys. Blocks.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it holds no key, or is not a small UTF-8 file.
    """
    # Not blocking, or a pipe in its place would hold the thread for good.
    descriptor = os.open(Path(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a regular file")
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"it is larger than {MAX_FILE_BYTES} bytes")
    keys = keys_in(data.decode("utf-8"))
    if not keys:
        raise ValueError("it holds no key")
    return KeyFile(keys, status.st_mtime)


class _Watched:
    """A file, and for whom it is read."""

    __slots__ = ("broken", "known", "model", "pool", "reported", "source")

    def __init__(self, model: str, pool: KeyPool, source: KeySource) -> None:
        self.model = model
        self.pool = pool
        self.source = source
        self.known = tuple(key.secret.reveal() for key in source.keys)
        self.broken = False
        self.reported: frozenset[str] = frozenset()
        """Keys that were reported as old."""


class KeyFiles:
    """The files of all models. Whoever opens it runs :meth:`watch` as a task and cancels it."""

    def __init__(
        self,
        interval: float,
        observer: ModelObserver,
        *,
        clock: Clock = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        read: Callable[[str], KeyFile] = read_key_file,
    ) -> None:
        """Args: seconds between two looks; clocks for rests, and for the age of files; what reads, in a thread."""
        self._interval = interval
        self._observer = observer
        self._clock = clock
        self._wall_clock = wall_clock
        self._sleep = sleep
        self._read = read
        self._files: list[_Watched] = []
        self._reading: dict[str, asyncio.Lock] = {}

    def add(self, model: str, pool: KeyPool, source: KeySource) -> None:
        """Watches the file of a source, whose keys were read when the settings were."""
        watched = _Watched(model, pool, source)
        self._files.append(watched)
        self._reading.setdefault(model, asyncio.Lock())
        pool.look_again = lambda budget: self._look_at_once(model, budget)

    def __len__(self) -> int:
        return len(self._files)

    async def watch(self) -> None:
        """Looks again and again, until it is cancelled."""
        while True:
            await self.look()
            await self._sleep(self._interval)

    async def look(self) -> None:
        """Looks at all files once. A file that cannot be read leaves its keys as they are."""
        for watched in self._files:
            async with self._reading[watched.model]:
                await self._look_at(watched, forgive=True)

    async def _look_at_once(self, model: str, budget: Budget) -> None:
        """Looks at the files of one model because a key of it was refused. Gives up with the budget."""
        try:
            async with asyncio.timeout(budget.remaining()), self._reading[model]:
                for watched in self._files:
                    if watched.model == model:
                        # Nobody mended the key that was refused just now.
                        await self._look_at(watched, forgive=False)
        except TimeoutError:
            return

    async def _look_at(self, watched: _Watched, *, forgive: bool) -> None:
        source = watched.source
        try:
            found = await asyncio.to_thread(self._read, source.path)
        except (OSError, ValueError) as error:
            self._observer.key_file_read(watched.model, source.place, readable=False)
            self._cannot_read(watched, error)
            return
        self._observer.key_file_read(watched.model, source.place, readable=True)
        watched.broken = False
        if found.keys != watched.known:
            watched.known = found.keys
            before = {key.name for key in source.keys}
            watched.pool.replace(source, found.keys, self._clock(), forgive=forgive)
            for name in before.difference(key.name for key in source.keys):
                self._observer.key_gone(watched.model, name)
            _log.info("model_keys_reread", model=watched.model, keys=[key.name for key in source.keys])
        if source.max_age_days:
            self._weigh_age(watched, found.modified)

    def _cannot_read(self, watched: _Watched, error: OSError | ValueError) -> None:
        if watched.broken:
            return
        watched.broken = True
        reason = error.strerror if isinstance(error, OSError) else str(error)
        if isinstance(error, UnicodeDecodeError):
            reason = "it is not UTF-8 text"  # the error itself would quote what it could not read
        _log.error("model_key_file_unreadable", model=watched.model, place=watched.source.place, reason=reason)

    def _weigh_age(self, watched: _Watched, modified: float) -> None:
        share = (self._wall_clock() - modified) / (watched.source.max_age_days * _SECONDS_PER_DAY)
        for key in watched.source.keys:
            self._observer.key_age(watched.model, key.name, max(0.0, share))
        old = frozenset(key.name for key in watched.source.keys) if share >= OLD_SHARE else frozenset()
        for name in sorted(old - watched.reported):
            _log.warning("model_key_old", model=watched.model, key=name, age_share=round(share, 2))
        watched.reported = old
