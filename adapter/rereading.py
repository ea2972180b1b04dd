"""Rereads the files of secrets while the adapter runs.

A rotation is then a matter of the file: the new secret is put in the place of the old one,
by an atomic rename as mounted secrets do it, and is used from the next look on. What
cannot be used leaves the last good one in place, and is said once.
"""

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import structlog

from adapter.callbacks.keyring import broken_rule
from adapter.metrics import Metrics
from program.secret import Secret

log = structlog.get_logger()

_FILE: Final = "file:"
_MAX_BYTES: Final = 64 * 1024
"""A larger file is not a secret."""
_NEXT: Final = "next_"


class Watched(NamedTuple):
    """A secret that may change."""

    field: str
    """Its path in the settings."""
    secret: Secret


def watched(settings: msgspec.Struct) -> Iterator[Watched]:
    """Every secret of an account that is in a file.

    The next ones come before the present ones, and are so read before them: a value that
    is moved from the one to the other meanwhile is then seen in one place at least.
    """
    for kind in settings.__struct_fields__:
        accounts = getattr(settings, kind)
        if isinstance(accounts, Mapping):
            for name, account in accounts.items():
                yield from _of_account(f"{kind}.{name}", account)


def _of_account(path: str, account: object) -> Iterator[Watched]:
    if not isinstance(account, msgspec.Struct):
        return
    for name in sorted(account.__struct_fields__, key=lambda name: not name.startswith(_NEXT)):
        value = getattr(account, name)
        if isinstance(value, Secret) and value.reference.startswith(_FILE):
            yield Watched(f"{path}.{name}", value)


def read_secret(path: str) -> str:
    """The secret in a file, as the settings read it. Blocks.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is not a small UTF-8 file.
    """
    # Not blocking, or a pipe in its place would hold the thread for good.
    descriptor = os.open(Path(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is not a regular file")
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise ValueError(f"it is larger than {_MAX_BYTES} bytes")
    try:
        return data.decode("utf-8").strip("\r\n")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None  # the error itself would quote what it could not read


class Rereading:
    """The files of all accounts. Whoever opens it runs :meth:`run` as a task and cancels it."""

    def __init__(
        self,
        secrets: Iterator[Watched],
        metrics: Metrics,
        *,
        seconds: float = 5.0,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        read: Callable[[str], str] = read_secret,
    ) -> None:
        """Args: ``seconds`` between two looks; ``read`` is called in a thread, and raises as :func:`read_secret`."""
        self._watched = tuple(secrets)
        self._counted = metrics.secret_rereads
        self._seconds = seconds
        self._sleep = sleep
        self._read = read
        self._listeners: list[tuple[Secret, Callable[[], None]]] = []
        self._reported: dict[str, str] = {}
        """What was last said about a secret that cannot be used."""

    def on_change(self, secret: Secret, listener: Callable[[], None]) -> None:
        """Calls ``listener`` after the secret was replaced."""
        self._listeners.append((secret, listener))

    async def run(self) -> None:
        """Looks again and again, until it is cancelled; returns at once when there is nothing to look at."""
        while self._watched:
            await self._sleep(self._seconds)
            await self.look()

    async def look(self) -> None:
        """Looks at every file once."""
        # All are read before any is replaced: a value that moves from the next to the present one is never nowhere.
        found = await asyncio.to_thread(self._read_all)
        for (field, secret), text in zip(self._watched, found, strict=True):
            self._take(field, secret, text)

    def _read_all(self) -> list[str | OSError | ValueError]:
        found: list[str | OSError | ValueError] = []
        for _, secret in self._watched:
            try:
                found.append(self._read(secret.reference.removeprefix(_FILE)))
            except (OSError, ValueError) as error:
                found.append(error)
        return found

    def _take(self, field: str, secret: Secret, text: str | OSError | ValueError) -> None:
        name = field.rpartition(".")[2]
        if isinstance(text, OSError):
            self._keep(field, "unreadable", text.strerror or type(text).__name__)
        elif isinstance(text, ValueError):
            self._keep(field, "unreadable", str(text))
        elif text == secret.reveal():
            self._reported.pop(field, None)
        elif rule := "" if name.startswith(_NEXT) and not text else broken_rule(name, text):
            self._keep(field, "malformed", rule)
        else:
            self._replace(field, secret, text)

    def _replace(self, field: str, secret: Secret, text: str) -> None:
        secret.replace(text)
        self._reported.pop(field, None)
        self._counted.labels("changed").inc()
        log.info("secret_reread", setting=field)
        for watched_secret, listener in self._listeners:
            if watched_secret is secret:
                listener()

    def _keep(self, field: str, result: str, why: str) -> None:
        if self._reported.get(field) == why:
            return
        self._reported[field] = why
        self._counted.labels(result).inc()
        log.error("secret_not_reread", setting=field, why=why, remedy="the last good one stays in use; mend the file")
