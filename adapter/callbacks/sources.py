"""From where callbacks come, and whether they may: WeCom's own list, and an operator's.

A second check beside the signature, never in its place: WeCom has been seen to call from
an address that its list did not have. So this begins by only saying what it would refuse.
"""

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Literal

import msgspec
import structlog
from aiohttp import web

from adapter.backoff import Backoff, Randomness
from adapter.callbacks.ranges import Network, Ranges, client, network
from adapter.metrics import Metrics
from adapter.rest.api import Answer, WeComApi
from adapter.rest.errors import WeComError
from adapter.settings import SourcesSettings
from program.health import Health

log = structlog.get_logger()

HEALTH_PART: Final = "sources"

Verdict = Literal["allowed", "elsewhere", "before_list"]

_QUIET: Final = 5.0
"""Seconds between two log lines about callbacks from elsewhere."""
_FIRST_RETRY: Final = 2.0
"""Seconds until the second try while there is no list at all; then twice that, and so on."""


class _Listed(Answer):
    ip_list: tuple[str, ...] = ()


class _Kept(msgspec.Struct, frozen=True):
    """What is in the file."""

    read_at: float
    """POSIX seconds."""
    ip_list: tuple[str, ...]


def sources_of(
    settings: SourcesSettings, apis: Mapping[str, WeComApi], metrics: Metrics, health: Health
) -> "Sources | None":
    """What the settings ask for; ``None`` where nobody is to look."""
    if settings.mode == "off":
        return None
    if not settings.wecom:
        return Sources(settings, metrics, read=None)
    read = partial(wecom_addresses, apis[settings.app or next(iter(apis))])
    if settings.mode == "log":
        return Sources(settings, metrics, read=read)
    # Until the list is there, callbacks cannot be taken: better that another replica gets them.
    health.add(HEALTH_PART)
    return Sources(settings, metrics, read=read, on_list=partial(health.mark, HEALTH_PART, ready=True))


async def wecom_addresses(api: WeComApi) -> Sequence[str]:
    """Where WeCom says that callbacks come from (DOC 90238). The same for every application. Raises ``WeComError``."""
    return (await api.get("getcallbackip", {}, _Listed)).ip_list


class Sources:
    """Judges where requests come from. Whoever opens it runs :meth:`run` as a task and cancels it."""

    def __init__(
        self,
        settings: SourcesSettings,
        metrics: Metrics,
        *,
        read: Callable[[], Awaitable[Sequence[str]]] | None,
        on_list: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        randomness: Randomness = random.random,
    ) -> None:
        """Args: ``read`` asks WeCom for its list, or is ``None`` where that is not wanted; ``on_list`` is told once.

        Raises:
            ValueError: an entry of the settings is no address.
        """
        self._settings = settings
        self._own = Ranges(map(network, settings.allow))
        self._proxies = Ranges(map(network, settings.trusted_proxies))
        self._counted = metrics.sources
        self._reads = metrics.source_reads
        self._read = read
        self._on_list = on_list
        self._clock = clock
        self._sleep = sleep
        self._randomness = randomness
        self._wecom: Ranges | None = None
        self._read_at: float | None = None
        self._quiet_until = 0.0
        metrics.source_list_age.set_function(self._age)

    @property
    def enforced(self) -> bool:
        """Whether a verdict other than ``allowed`` is to be acted on."""
        return self._settings.mode == "enforce"

    def verdict(self, request: web.BaseRequest) -> Verdict:
        """Whether a request comes from where it may. Reads nothing but its headers."""
        found: Verdict
        address = client(request.remote or "", self._forwarded(request), self._proxies)
        if address is not None and (address in self._own or (self._wecom is not None and address in self._wecom)):
            found = "allowed"
        else:
            found = "before_list" if self._read is not None and self._wecom is None else "elsewhere"
        self._counted.labels(found).inc()
        if found == "elsewhere" and self._clock() >= self._quiet_until:
            self._quiet_until = self._clock() + _QUIET
            log.warning("callback_from_elsewhere", address=str(address), refused=self.enforced)
        return found

    def _forwarded(self, request: web.BaseRequest) -> list[str]:
        # Only the header that our proxies write: any other one is passed on as a stranger wrote it.
        if self._settings.header == "forwarded":
            return [element.get("for", "") for element in request.forwarded]
        # A header that comes several times is one list, in that order (RFC 9110, 5.3).
        return [hop for line in request.headers.getall("X-Forwarded-For", ()) for hop in line.split(",")]

    def _age(self) -> float:
        return -1.0 if self._read_at is None else max(0.0, self._clock() - self._read_at)

    # --- WeCom's list ---

    async def run(self) -> None:
        """Keeps WeCom's list up to date until it is cancelled; returns at once where that is not wanted."""
        if self._read is None:
            return
        await self._restore()
        age = self._age()
        pause = max(0.0, self._settings.refresh_seconds - age) if age >= 0 else 0.0
        first = Backoff(_FIRST_RETRY, self._settings.retry_seconds, self._randomness)
        while True:
            await self._sleep(pause)
            if await self._renew(self._read):
                pause = self._settings.refresh_seconds * (0.9 + 0.2 * self._randomness())
            elif self._wecom is not None:
                pause = self._settings.retry_seconds * (0.9 + 0.2 * self._randomness())
            else:
                pause = first.pause()

    async def _renew(self, read: Callable[[], Awaitable[Sequence[str]]]) -> bool:
        try:
            entries = tuple(await read())
        except WeComError as error:
            self._failed(str(error))
            return False
        if not self._use(entries, self._clock()):
            self._failed("it named no address")
            return False
        self._reads.labels("ok").inc()
        log.info("source_list_read", entries=len(entries))
        await self._keep(entries)
        return True

    def _failed(self, why: str) -> None:
        self._reads.labels("failed").inc()
        log.warning("source_list_not_read", why=why, age=round(self._age()))

    def _use(self, entries: Iterable[str], read_at: float) -> bool:
        networks: list[Network] = []
        for entry in entries:
            try:
                networks.append(network(entry))
            except ValueError as error:
                log.warning("source_entry_passed_over", why=str(error))
        if not networks:
            return False
        is_first = self._wecom is None
        self._wecom, self._read_at = Ranges(networks), read_at
        if is_first:
            self._on_list()
        return True

    async def _restore(self) -> None:
        """Takes the list that an earlier run kept."""
        if not self._settings.file:
            return
        try:
            kept = msgspec.json.decode(await asyncio.to_thread(Path(self._settings.file).read_bytes), type=_Kept)
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError) as error:
            log.warning("source_file_not_read", file=self._settings.file, why=str(error))
            return
        self._use(kept.ip_list, min(kept.read_at, self._clock()))

    async def _keep(self, entries: tuple[str, ...]) -> None:
        if not self._settings.file:
            return
        try:
            await asyncio.to_thread(
                _write, Path(self._settings.file), msgspec.json.encode(_Kept(self._clock(), entries))
            )
        except OSError as error:
            log.warning("source_file_not_written", file=self._settings.file, why=error.strerror)


def _write(path: Path, data: bytes) -> None:
    """Puts a file in the place of another in one step."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    fresh.write_bytes(data)
    fresh.replace(path)
