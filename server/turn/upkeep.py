"""Drops what has been kept long enough."""

import asyncio
import time
from collections.abc import Callable

import structlog

from server.errors import StoreUnavailable
from server.settings import StoreSettings
from server.store.base import Retention, TurnStore

_log = structlog.get_logger()


class Upkeep:
    """Applies the retention of payloads and of keys, again and again."""

    def __init__(self, settings: StoreSettings, store: TurnStore, clock: Callable[[], float] = time.time) -> None:
        """Args: ``clock`` gives POSIX seconds."""
        self._settings = settings
        self._store = store
        self._clock = clock

    async def round(self) -> None:
        """One round of retention. A store that cannot be reached now is asked again next time."""
        now = self._clock()
        retention = Retention(
            payloads_before=now - self._settings.payload_retention_hours * 3600,
            keys_before=now - self._settings.key_retention_hours * 3600,
        )
        try:
            dropped = await self._store.apply_retention(retention)
        except StoreUnavailable as error:
            _log.warning("retention_skipped", reason=error.message)
            return
        if dropped.payloads or dropped.keys:
            _log.info("retention_applied", payloads=dropped.payloads, keys=dropped.keys)

    async def run_for_ever(self) -> None:
        """Rounds at the set interval, until cancelled."""
        while True:
            await self.round()
            await asyncio.sleep(self._settings.retention_interval_minutes * 60)
