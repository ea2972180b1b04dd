"""Keeps one bot connected while this instance may, and sends its frames over whatever connection there is."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import structlog

from adapter.backoff import Backoff
from adapter.bot.connection import BotConnection
from adapter.bot.errors import (
    CONFLICT,
    NOT_SUBSCRIBED,
    BotError,
    FrameRefused,
    NotConnected,
    SubscribeRefused,
)
from adapter.metrics import Metrics
from adapter.wire import Frame
from program.secret import Secret

log = structlog.get_logger()

_CLOSED: Final = 0
_CONNECTING: Final = 1
_SUBSCRIBED: Final = 2

_SETTLED_SECONDS: Final = 10.0
"""How long a connection must have lived for the next loss to count as the first one."""
_CONFLICT_TRIES: Final = 3
_CONFLICT_PAUSE: Final = 0.2


class Kicked(Exception):
    """Another connection took the bot over. Connecting again would only take it back, and so on for ever."""


class PushRefused(Exception):
    """A message cannot be taken now, and must not get lost."""


class BotLine:
    """The connection of one bot, through losses of it. Run it with :meth:`keep`; send from anywhere."""

    def __init__(
        self,
        connect: Callable[[], AbstractAsyncContextManager[BotConnection]],
        metrics: Metrics,
        *,
        account: str,
        bot_id: str,
        secret: Secret,
        subscribe_seconds: float = 10.0,
        backoff: Backoff | None = None,
        refused_backoff: Backoff | None = None,
    ) -> None:
        """Args: ``refused_backoff`` is for a refused subscription, which must never be hammered."""
        self._connect = connect
        self._account = account
        self._bot_id = bot_id
        self._secret = secret
        self._subscribe_seconds = subscribe_seconds
        self._backoff = backoff or Backoff(0.3, 30.0)
        self._refused_backoff = refused_backoff or Backoff(15.0, 900.0)
        self._full_pause = Backoff(20.0, 20.0)
        self._state = metrics.socket_state.labels(account)
        self._connects = metrics.socket_connects
        self._kicks = metrics.socket_kicks.labels(account)
        self._connection: BotConnection | None = None
        self._subscribed = asyncio.Event()
        self._secret_changed = asyncio.Event()

    @property
    def subscribed(self) -> bool:
        """Whether frames can be sent now."""
        return self._subscribed.is_set()

    def secret_changed(self) -> None:
        """Tells that the secret was replaced: whatever the old one met, the new one is tried at once."""
        self._secret_changed.set()

    async def keep(self, on_push: Callable[[Frame], None]) -> None:
        """Stays connected until it is cancelled.

        Args: ``on_push`` gets messages and events. It must not wait, and raises
            :class:`PushRefused` when it cannot take one.

        Raises:
            Kicked: WeCom said that another connection took over.
        """
        try:
            while True:
                self._state.set(_CONNECTING)
                pause = await self._once(on_push)
                self._state.set(_CLOSED)
                await self._rest(pause)
        finally:
            self._state.set(_CLOSED)

    async def _rest(self, seconds: float) -> None:
        """Waits before the next connection; not longer than until there is a new secret to try."""
        try:
            async with asyncio.timeout(seconds):
                await self._secret_changed.wait()
        except TimeoutError:
            return
        self._refused_backoff.reset()

    async def request(
        self, req_id: str, frame: str, cmd: str, *, wait_seconds: float, taken: Callable[[], None] | None = None
    ) -> dict[str, Any]:
        """Sends a frame over the present connection, or the next one if that comes within ``wait_seconds``.

        Returns the body of the acknowledgement, which few commands have.

        A dropped subscription (846609) is renewed and the frame sent once more; a conflict
        (6000) is tried again three times. Both mean that nothing was done.

        Args: ``taken`` as in :meth:`BotConnection.request`.

        Raises:
            BotError: as :meth:`BotConnection.request`; ``ConnectionLost`` also when no connection came.
        """
        renewed = False
        conflicts = 0
        while True:
            connection = await self._present(wait_seconds)
            try:
                return await connection.request(req_id, frame, cmd, taken)
            except FrameRefused as refused:
                if refused.code == NOT_SUBSCRIBED and not renewed:
                    renewed = True
                    await self._renew(connection)
                elif refused.code == CONFLICT and conflicts < _CONFLICT_TRIES:
                    await asyncio.sleep(_CONFLICT_PAUSE * 2.0**conflicts)
                    conflicts += 1
                else:
                    raise

    async def _present(self, wait_seconds: float) -> BotConnection:
        try:
            async with asyncio.timeout(wait_seconds):
                while True:
                    await self._subscribed.wait()
                    # It may have been lost again before this task came to run.
                    if self._connection is not None and self._subscribed.is_set():
                        return self._connection
        except TimeoutError:
            raise NotConnected("not connected") from None

    async def _renew(self, connection: BotConnection) -> None:
        if self._connection is connection:
            log.warning("subscription_lost", account=self._account)
            self._subscribed.clear()
            await connection.aclose()

    async def _once(self, on_push: Callable[[Frame], None]) -> float:
        """One connection from its opening to its end; the pause before the next one, in seconds."""
        self._secret_changed.clear()
        try:
            async with self._connect() as connection:
                await connection.subscribe(self._bot_id, self._secret, self._subscribe_seconds)
                self._connects.labels(self._account, "ok").inc()
                self._refused_backoff.reset()
                await self._serve(connection, on_push)
        except SubscribeRefused as refused:
            self._connects.labels(self._account, "refused").inc()
            pause = self._refused_backoff.pause()
            log.error("subscription_refused", account=self._account, code=refused.code, next_try_in=round(pause))  # noqa: TRY400  # the code says it all
            return pause
        except PushRefused:
            # WeCom redelivers on the next connection what this one could not take; until then there is room again.
            log.error("connection_dropped_for_room", account=self._account)  # noqa: TRY400  # it says it all
            return self._full_pause.pause()
        except BotError as error:
            self._connects.labels(self._account, "lost").inc()
            log.warning("connection_failed", account=self._account, why=str(error))
        return self._backoff.pause()

    async def _serve(self, connection: BotConnection, on_push: Callable[[Frame], None]) -> None:
        self._connection = connection
        self._subscribed.set()
        self._state.set(_SUBSCRIBED)
        log.info("bot_subscribed", account=self._account)
        began = asyncio.get_running_loop().time()
        beating = asyncio.create_task(connection.beat(), name=f"heartbeat {self._account}")
        try:
            async for frame in connection.pushes():
                if _says_kicked(frame):
                    self._kicks.inc()
                    raise Kicked
                on_push(frame)
        finally:
            self._subscribed.clear()
            self._connection = None
            # Not sooner: a connection that is closed as soon as it is subscribed would be opened again every second.
            if asyncio.get_running_loop().time() - began >= _SETTLED_SECONDS:
                self._backoff.reset()
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
        log.warning("connection_ended", account=self._account)


def _says_kicked(frame: Frame) -> bool:
    event = frame.body.get("event")
    return (
        frame.cmd == "aibot_event_callback"
        and isinstance(event, dict)
        and event.get("eventtype") == "disconnected_event"
    )
