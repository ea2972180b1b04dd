"""Holds the lease on the deliveries of one account, and runs them.

A lost lease cancels what was under way: the service offers it to another instance at
once, so whatever is sent from then on could be sent twice. What had been handed to WeCom
but not reported is offered with a higher ``attempt``, and protected by what WeCom has
against doubles: the duplicate check (application) or the stream's id (bot).
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final, Literal, Protocol

import structlog

from adapter.backoff import Backoff
from adapter.metrics import Metrics
from adapter.outcome import Courier, Delivered, Outcome, Retry, Undeliverable, Waiting
from weconverse import ChannelSession, Delivery, Granted, Revoked, WeConverseError

log = structlog.get_logger()

_AFTER_DEFECT: Final = 30.0
"""Seconds before a delivery that met a defect of ours is offered again."""


Standing = Literal["active", "standby", "detached"]
"""Of this instance: it delivers; another one does; it is not attached, and nobody knows."""


def _ignore(_standing: Standing) -> None:
    """For whoever need not know."""


class Attaches(Protocol):
    """The part of the client that opens leases."""

    def attach(
        self,
        account: str,
        instance: str,
        *,
        exclusive: bool = False,
        max_open_deliveries: int = 64,
        ended_only: bool = False,
    ) -> ChannelSession:
        """A session to enter; see ``weconverse.ConversationClient.attach``."""
        ...


class Lease:
    """Attaches to one account, again and again, and gives each delivery to the courier."""

    def __init__(
        self,
        client: Attaches,
        courier: Courier,
        metrics: Metrics,
        *,
        account: str,
        instance: str,
        door: str,
        max_open: int = 64,
        exclusive: bool = False,
        ended_only: bool = False,
        backoff: Backoff | None = None,
    ) -> None:
        """Args: ``account`` as ``channels/…/accounts/…``; ``door`` is a label for metrics."""
        self._client = client
        self._courier = courier
        self._account = account
        self._instance = instance
        self._door = door
        self._max_open = max_open
        self._exclusive = exclusive
        self._ended_only = ended_only
        self._backoff = backoff or Backoff(0.2, 5.0)
        self._on_change: Callable[[Standing], None] = _ignore
        self._attached = metrics.attached.labels(account.rpartition("/")[2])
        self._open = metrics.deliveries_open.labels(door)
        self._counted = metrics.deliveries
        self._tasks: dict[asyncio.Task[None], str] = {}
        self._left = asyncio.Event()
        self._pause = 0.0
        self._stopping = asyncio.Event()
        self._session: ChannelSession | None = None

    async def run(self, on_change: Callable[[Standing], None] = _ignore) -> None:
        """Holds the lease until :meth:`drain` was called or this is cancelled; owns every delivery it started.

        Args: ``on_change`` hears of every new standing; it must not wait.
        """
        self._on_change = on_change
        while not self._stopping.is_set():
            self._left.clear()
            self._pause = 0.0
            try:
                await self._hold()
            except WeConverseError as error:
                log.warning("lease_lost", account=self._account, reason=error.reason or error.code.name)
            if self._stopping.is_set():
                return
            await self._rest(self._pause or self._backoff.pause())

    async def settle(self, turn: str, expire_time: float) -> bool:
        """Reports a turn of this account as delivered, whoever it was offered to; whether the report is on its way.

        For a platform that fetches replies by itself, from whichever instance it reaches. The
        turn must have ended; after ``expire_time`` (POSIX seconds) the report is not heard.
        """
        session = self._session
        if session is None:
            return False
        try:
            await session.delivered(turn, expire_time=expire_time)
        except WeConverseError as error:
            log.info("report_lost", turn=turn, reason=error.reason or error.code.name)
            return False
        self._counted.labels(self._door, "fetched").inc()
        return True

    def leave(self, seconds: float) -> None:
        """Gives the lease up now, so that another instance can have it, and comes back after a pause."""
        self._pause = max(seconds, 0.001)
        self._left.set()

    async def drain(self, seconds: float) -> None:
        """Takes no more deliveries, lets those under way finish for at most ``seconds``, then gives the lease up."""
        self._stopping.set()
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=seconds)
        self._left.set()

    async def _rest(self, seconds: float) -> None:
        # Woken early only by drain(): nobody waits for a pause when the program stops.
        try:
            async with asyncio.timeout(seconds):
                while not self._stopping.is_set():
                    await self._left.wait()
                    self._left.clear()
        except TimeoutError:
            pass

    async def _hold(self) -> None:
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(
                self._client.attach(
                    self._account,
                    self._instance,
                    exclusive=self._exclusive,
                    max_open_deliveries=self._max_open,
                    ended_only=self._ended_only,
                )
            )
            self._session = session
            stack.callback(self._detach)
            # Entered after the session and so left before it: reports of finished deliveries still go out.
            stack.push_async_callback(self._end_deliveries)
            stack.callback(self._stand, "detached")
            await self._until_left(session)

    def _detach(self) -> None:
        self._session = None

    async def _until_left(self, session: ChannelSession) -> None:
        # Reading is a task of its own, because cancelling a read ends the lease, and drain() must be able
        # to stop taking deliveries while reports of the last ones are still written.
        reading = asyncio.create_task(self._read(session), name=f"lease {self._account}")
        leaving = asyncio.create_task(self._left.wait(), name=f"leaving {self._account}")
        try:
            await asyncio.wait((reading, leaving), return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
            else:
                await self._end_deliveries()
                await session.aclose()
        finally:
            for task in (reading, leaving):
                task.cancel()
            await asyncio.gather(reading, leaving, return_exceptions=True)

    async def _read(self, session: ChannelSession) -> None:
        async for message in session:
            match message:
                case Granted():
                    self._backoff.reset()
                    self._stand("active")
                case Revoked():
                    self._stand("standby")
                    await self._end_deliveries()
                case Delivery() if not self._stopping.is_set():
                    self._begin(session, message)

    def _stand(self, standing: Standing) -> None:
        self._attached.set(standing == "active")
        self._on_change(standing)

    def _begin(self, session: ChannelSession, delivery: Delivery) -> None:
        task = asyncio.create_task(self._deliver(session, delivery), name=f"delivery {delivery.turn}")
        self._tasks[task] = delivery.turn
        self._open.set(len(self._tasks))
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        self._open.set(len(self._tasks))

    async def _end_deliveries(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _deliver(self, session: ChannelSession, delivery: Delivery) -> None:
        async def record(progress: bytes) -> None:
            await session.progress(delivery, progress)

        try:
            outcome = await self._courier.deliver(delivery, record)
        except WeConverseError as error:
            outcome = Retry(error.retry_after or 1.0, f"the service broke off: {error.reason or error.code.name}")
        except Exception:
            # The boundary of the adapter: a defect in one delivery must not end the lease of all, and the
            # turn stays owed. The server gives up after its own number of attempts.
            log.exception("delivery_failed", turn=delivery.turn, attempt=delivery.attempt)
            outcome = Retry(_AFTER_DEFECT, "a defect of the adapter; its log says more")
        try:
            await self._report(session, delivery, outcome)
        except WeConverseError as error:
            # The lease is gone, and reading it says so. The turn is offered again.
            log.info("report_lost", turn=delivery.turn, reason=error.reason or error.code.name)

    async def _report(self, session: ChannelSession, delivery: Delivery, outcome: Outcome) -> None:
        self._counted.labels(self._door, type(outcome).__name__.lower()).inc()
        match outcome:
            case Delivered(expire_time=expire_time):
                await session.delivered(delivery, expire_time=expire_time)
            case Retry(after=after, detail=detail, progress=progress):
                log.warning("delivery_deferred", turn=delivery.turn, attempt=delivery.attempt, after=after, why=detail)
                await session.retry(delivery, after, progress=progress, detail=detail)
            case Waiting(after=after, detail=detail, progress=progress):
                await session.waiting(delivery, after, progress=progress, detail=detail)
            case Undeliverable(detail=detail):
                log.error("undeliverable", turn=delivery.turn, attempt=delivery.attempt, why=detail)
                await session.undeliverable(delivery, detail)
