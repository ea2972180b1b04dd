"""Puts the turn room together, and opens and closes it."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog

from server.settings import Settings
from server.turn.admission import Admission
from server.turn.assistants import Assistants
from server.turn.debts import Debts
from server.turn.deliveries import Deliveries
from server.turn.engine import Engine
from server.turn.lane import Lanes
from server.turn.media_door import MediaDoor
from server.turn.merging import Merging
from server.turn.pushes import Pushes
from server.turn.register import Register
from server.turn.runner import Runner
from server.turn.stations import Stations
from server.turn.turns import Turns
from server.turn.upkeep import Upkeep

_log = structlog.get_logger()

_LAST_WRITES_SECONDS: Final = 1.0
"""What a write may still take when everything closes at once."""


class TurnRoom:
    """The turn service, the delivery service, the push service, and what keeps them going."""

    def __init__(self, settings: Settings, stations: Stations, *, clock: Callable[[], float] = time.time) -> None:
        """Args: ``clock`` gives POSIX seconds.

        Raises:
            ValueError: for assistants that do not fit the models.
        """
        store, memory, observer = stations.store, stations.memory, stations.observer
        limits = settings.turns
        assistants = Assistants(settings.assistants, frozenset(settings.models) | frozenset(settings.splits))
        register = Register(limits.linger_seconds, limits.keep_ended_seconds)
        lanes = Lanes(limits.max_waiting_per_conversation)
        engine = Engine(settings, assistants, stations)
        self.register = register
        self._shared = stations.shared
        self._admission = Admission(limits, register, settings.node_id)
        merging = Merging(assistants, store, limits.max_input_characters, clock)
        self._runner = Runner(limits, engine, merging, register, assistants, store, memory, observer, clock)
        self.deliveries = Deliveries(settings.delivery, store, observer, clock)
        door = MediaDoor(stations.media, limits.max_input_characters)
        self._debts = Debts(
            limits,
            self._admission,
            assistants,
            store,
            lanes,
            register,
            self._runner,
            self.deliveries,
            merging,
            door,
            clock,
        )
        self.turns = Turns(
            self._admission,
            assistants,
            store,
            memory,
            lanes,
            register,
            self._runner,
            self._debts,
            self.deliveries,
            door,
            clock,
        )
        self.pushes = Pushes(
            settings.delivery, self._admission, assistants, stations, self._debts, self.deliveries, clock
        )
        self._upkeep = Upkeep(settings.store, store, clock)
        self._background: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Goes on with every debt on disk, and begins the upkeep.

        Raises:
            StoreUnavailable: if the debts cannot be read: a server that cannot pay must not open.
        """
        count = await self._debts.recover()
        _log.info("debts_recovered", unsettled=count)
        self._background = [
            asyncio.create_task(self._debts.sweep_for_ever()),
            asyncio.create_task(self._upkeep.run_for_ever()),
        ]

    def refuse_new(self) -> None:
        """Lets no more turns begin."""
        self._admission.close()

    async def drain(self, seconds: float) -> None:
        """Lets what runs and what is being taken on finish, for up to ``seconds`` together.

        Owed turns that do not finish stay owed on disk.
        """
        self.refuse_new()
        began = time.monotonic()
        await self._end_accepting(seconds)
        await self._runner.drain(max(0.0, seconds - (time.monotonic() - began)))

    async def _end_accepting(self, seconds: float) -> None:
        await asyncio.gather(self._debts.aclose(seconds), self.pushes.aclose(seconds))

    async def aclose(self) -> None:
        """Stops everything that is left. Instances are sent away; what they had open stays owed."""
        self.refuse_new()
        self.deliveries.close()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._end_accepting(_LAST_WRITES_SECONDS)
        await self._runner.aclose()
        await self._shared.aclose()
