"""Offers owed turns to the channel instances that are attached, until each is settled.

For each account there are lines of debts, one a conversation, in order of arrival. Only
the first of a line is offered: the next one follows when the channel has reported on it,
so nothing overtakes on the way to a person. What was offered on an attachment that broke
is offered again, with a higher attempt.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import msgspec
import structlog

from server.domain import Content, DeliveryState, Turn, TurnName
from server.errors import ShuttingDown
from server.logged_names import logged_name
from server.settings import DeliverySettings
from server.store.base import DeliveryReport, StoredTurn, TurnStore
from server.turn.base import Delivery, Granted, Hello, Report, Revoked
from server.turn.observer import TurnObserver

_log = structlog.get_logger()

_DEFAULT_OPEN_DELIVERIES = 64


class Debt(msgspec.Struct, eq=False):
    """An owed turn on its way to a person."""

    name: TurnName
    account: str
    address: bytes
    recipient: str
    sequence: int
    owed_since: float
    progress: bytes
    retries: int
    deliver_after: float
    turn: Turn
    ended: bool
    """Whether its end is on disk, so that it may be shown whole."""
    pushed: bool
    """Whether a program pushed it. Its message may be large, and is read when it is needed."""
    pushed_bytes: int
    """How large that is; else 0."""
    offered_to: "InstanceAttachment | None" = None
    timer: asyncio.TimerHandle | None = None
    waits: bool = False
    """Whether it is put off until the person writes. A new process does not know, and keeps the time only."""
    last_in_line: int = 0
    """The sequence of the last turn of its line when it was offered."""
    settled: bool = False


class Deliveries:
    """Every debt of this process, and every attached instance."""

    def __init__(
        self,
        settings: DeliverySettings,
        store: TurnStore,
        observer: TurnObserver,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Args: ``clock`` gives POSIX seconds."""
        self._settings = settings
        self._store = store
        self._observer = observer
        self._clock = clock
        self._debts: dict[TurnName, Debt] = {}
        self._accounts: dict[str, _Account] = {}
        self._closing = False

    def __len__(self) -> int:
        """How many turns are owed."""
        return len(self._debts)

    def oldest_age(self) -> float:
        """Seconds since the oldest owed turn arrived; 0 when nothing is owed."""
        first = next(iter(self._debts.values()), None)
        return max(0.0, self._clock() - first.owed_since) if first is not None else 0.0

    # --- debts -----------------------------------------------------------------------------

    def add(self, stored: StoredTurn) -> None:
        """Takes an owed turn into its line, unless it is there already; it may still be running."""
        known = self._debts.get(stored.turn.name)
        if known is not None:
            if stored.turn.state.ended and not known.ended:
                self.ended(stored.turn)
            return
        assert stored.owed is not None
        turn, pushed = stored.turn, stored.turn.pushed is not None
        debt = Debt(
            name=stored.turn.name,
            account=stored.owed.account,
            address=stored.owed.address,
            recipient=stored.owed.recipient,
            sequence=stored.sequence,
            owed_since=max(stored.turn.create_time, stored.deliver_after),
            progress=stored.progress,
            retries=stored.retries,
            deliver_after=stored.deliver_after,
            turn=msgspec.structs.replace(turn, pushed=Content(), reply="") if pushed else turn,
            ended=turn.state.ended,
            pushed=pushed,
            pushed_bytes=stored.pushed_bytes,
        )
        self._debts[debt.name] = debt
        account = self._account(debt.account)
        account.pushes += pushed
        account.pushed_bytes += debt.pushed_bytes
        account.append(debt)

    def ended(self, turn: Turn) -> None:
        """Notes that an owed turn has ended: it may now be offered to instances that want whole replies.

        One that was settled with its end is not offered any more; whoever has it already, as
        it was being offered meanwhile, is heard out.
        """
        debt = self._debts.get(turn.name)
        if debt is not None:
            debt.turn, debt.ended = turn, True
            if turn.delivery_state is not DeliveryState.OWED and debt.offered_to is None:
                self._settle(debt)
                return
            self._account(debt.account).became_ready(debt)

    def pushes(self, account: str) -> tuple[int, int]:
        """How many messages that programs pushed wait for an account, and their bytes."""
        known = self._accounts.get(account)
        return (0, 0) if known is None else (known.pushes, known.pushed_bytes)

    def names(self) -> frozenset[TurnName]:
        """The turns that are owed, as far as this process knows."""
        return frozenset(self._debts)

    def drop_settled(self, names: Iterable[TurnName]) -> None:
        """Forgets debts that turned out to be settled on disk."""
        for name in names:
            if (debt := self._debts.get(name)) is not None:
                self._settle(debt)

    def drop_conversation(self, conversation: str) -> None:
        """Forgets the debts of a conversation that is being deleted."""
        for debt in [debt for debt in self._debts.values() if debt.name.conversation == conversation]:
            self._settle(debt)

    def _account(self, name: str) -> "_Account":
        account = self._accounts.get(name)
        if account is None:
            account = self._accounts[name] = _Account(self._clock)
        return account

    def _settle(self, debt: Debt) -> None:
        debt.settled = True
        if debt.timer is not None:
            debt.timer.cancel()
        account = self._account(debt.account)
        if self._debts.pop(debt.name, None) is not None:
            account.pushes -= debt.pushed
            account.pushed_bytes -= debt.pushed_bytes
        account.settle(debt)

    # --- instances --------------------------------------------------------------------------

    @asynccontextmanager
    async def attach(self, hello: Hello) -> AsyncIterator["InstanceAttachment"]:
        """Attaches an instance; leaving offers elsewhere what was open here."""
        if self._closing:
            raise ShuttingDown
        account = self._account(hello.account)
        attachment = InstanceAttachment(self, hello)
        _log.info("channel_attached", account=hello.account, instance=hello.instance, exclusive=hello.exclusive)
        account.join(attachment)
        try:
            yield attachment
        finally:
            account.leave(attachment)
            _log.info("channel_left", account=hello.account, instance=hello.instance)

    def close(self) -> None:
        """Sends every instance away; what they have open stays owed on disk."""
        self._closing = True
        for account in self._accounts.values():
            account.send_away()

    async def offer(self, debt: Debt) -> Delivery | None:
        """Makes the message for a debt that was given to an attachment, once the offer is counted on disk."""
        if debt.settled:
            return None
        if self._clock() - debt.owed_since > self._settings.window_hours * 3600:
            await self._conclude(debt, "undeliverable", b"", "its window has passed")
            return None
        attempt = await self._store.record_offer(debt.name)
        self._observer.delivery_offered()
        # No channel needs back what it brought, which may be megabytes.
        turn = debt.turn.without_bytes() if debt.ended else None
        return Delivery(debt.name, debt.address, attempt, debt.progress, turn, debt.recipient, debt.pushed)

    async def whole(self, delivery: Delivery) -> Delivery | None:
        """A delivery as it is sent: with the message, if it was pushed; ``None`` if that was deleted meanwhile."""
        if not delivery.pushed:
            return delivery
        stored = await self._store.find(delivery.name)
        return None if stored is None else msgspec.structs.replace(delivery, ended_turn=stored.turn)

    async def take(self, attachment: "InstanceAttachment", report: Report) -> None:
        """Writes an outcome, then acts on it."""
        debt = self._debts.get(report.name)
        if debt is None or not _may_report(debt, attachment, report):
            _log.info("late_report", outcome=report.outcome, **logged_name(report.name))
            return
        if 0 < report.expire_time < self._clock():
            _log.info("expired_report", outcome=report.outcome, **logged_name(report.name))
            if debt.offered_to is attachment:
                self._account(debt.account).take_back(debt)
            return
        if report.outcome == "progress":
            debt.progress = report.progress
            await self._store.record_report(DeliveryReport(report.name, "progress", report.progress))
            self._observer.delivery_reported("progress")
        elif report.outcome == "waiting" or (report.outcome == "retry" and debt.retries < self._settings.max_retries):
            await self._put_off(debt, report)
        else:
            outcome = "undeliverable" if report.outcome == "retry" else report.outcome
            await self._conclude(debt, outcome, report.progress, report.detail)

    async def _put_off(self, debt: Debt, report: Report) -> None:
        debt.waits = report.outcome == "waiting"
        debt.retries += not debt.waits
        debt.progress = report.progress or debt.progress
        debt.deliver_after = self._clock() + report.retry_delay
        await self._store.record_report(
            DeliveryReport(
                debt.name, report.outcome, report.progress or None, debt.deliver_after, report.detail, self._clock()
            )
        )
        self._observer.delivery_reported(report.outcome)
        if debt.offered_to is not None:
            self._account(debt.account).take_back(debt)

    async def _conclude(self, debt: Debt, outcome: str, progress: bytes, detail: str) -> None:
        await self._store.record_report(
            DeliveryReport(debt.name, outcome, progress or None, 0.0, detail, self._clock())
        )
        if outcome == "undeliverable":
            _log.warning("turn_undeliverable", account=debt.account, detail=detail, **logged_name(debt.name))
        debt.turn.delivery_state = DeliveryState.DELIVERED if outcome == "delivered" else DeliveryState.UNDELIVERABLE
        self._observer.delivery_reported(outcome)
        self._settle(debt)


def _may_report(debt: Debt, attachment: "InstanceAttachment", report: Report) -> bool:
    """Whether an instance may say this of a debt.

    One that was offered to another instance, or to nobody, can be delivered all the same:
    where the platform fetches replies by itself, it fetches them from whom it likes.
    """
    if debt.offered_to is attachment:
        return True
    fetched = report.outcome == "delivered" and debt.ended and attachment.active
    return fetched and attachment.hello.account == debt.account


class InstanceAttachment:
    """One attached instance: what to tell it, and what it has open."""

    def __init__(self, deliveries: Deliveries, hello: Hello) -> None:
        self._deliveries = deliveries
        self.hello = hello
        self.limit = hello.max_open_deliveries or _DEFAULT_OPEN_DELIVERIES
        self.active = False
        self.epoch = 0
        self.open: set[Debt] = set()
        # Bounded by ``limit`` offers and a grant or two: nothing else is ever put here.
        self._outgoing: asyncio.Queue[Granted | Revoked | Debt | None] = asyncio.Queue()

    def tell(self, message: "Granted | Revoked | Debt | None") -> None:
        """Queues a message; ``None`` sends the instance away."""
        self._outgoing.put_nowait(message)

    async def messages(self) -> AsyncIterator[Granted | Revoked | Delivery]:
        """What to tell the instance, in order.

        Raises:
            ShuttingDown: when the server stops.
        """
        while True:
            batch = [await self._outgoing.get()]
            while not self._outgoing.empty():
                batch.append(self._outgoing.get_nowait())
            # Offers that are ready together are counted on disk together.
            offers = [message for message in batch if isinstance(message, Debt)]
            made = dict(zip(offers, await asyncio.gather(*map(self._deliveries.offer, offers)), strict=True))
            for message in batch:
                if message is None:
                    raise ShuttingDown
                said = made[message] if isinstance(message, Debt) else message
                if isinstance(said, Delivery):
                    said = await self._deliveries.whole(said)
                if said is not None:
                    yield said

    async def report(self, report: Report) -> None:
        """Takes the outcome of a delivery."""
        await self._deliveries.take(self, report)


class _Account:
    """The debts and the instances of one account."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lines: dict[str, deque[Debt]] = {}
        # Firsts of their lines that wait for an instance. A running turn is only for instances
        # that follow; it moves over when it ends, and its old entry is skipped when met.
        self._running: deque[Debt] = deque()
        self._ended: deque[Debt] = deque()
        self._instances: list[InstanceAttachment] = []
        self._epoch = 0
        self.pushes = 0
        """How many of its debts were pushed."""
        self.pushed_bytes = 0
        """Of those together."""

    # --- debts -------------------------------------------------------------------------

    def append(self, debt: Debt) -> None:
        line = self._lines.setdefault(debt.name.conversation, deque())
        line.append(debt)
        if line[0] is debt:
            self.became_ready(debt)
        elif line[0].waits:
            self._due(line[0])

    def became_ready(self, debt: Debt) -> None:
        """Queues a debt for an offer, if it is the first of its line, free, and due."""
        line = self._lines.get(debt.name.conversation)
        if not line or line[0] is not debt or debt.offered_to is not None or debt.settled:
            return
        wait = debt.deliver_after - self._clock()
        if wait > 0:
            if debt.timer is None:
                debt.timer = asyncio.get_running_loop().call_later(wait, self._due, debt)
            return
        (self._ended if debt.ended else self._running).append(debt)
        self._hand_out()

    def _due(self, debt: Debt) -> None:
        if debt.timer is not None:
            debt.timer.cancel()
        debt.timer, debt.deliver_after, debt.waits = None, 0.0, False
        self.became_ready(debt)

    def take_back(self, debt: Debt) -> None:
        """Frees a debt from the instance it was offered to."""
        if debt.offered_to is not None:
            debt.offered_to.open.discard(debt)
            debt.offered_to = None
        if debt.waits and self._lines[debt.name.conversation][-1].sequence > debt.last_in_line:
            # The person wrote while it was said that it waits for that.
            debt.deliver_after, debt.waits = 0.0, False
        self.became_ready(debt)
        self._hand_out()

    def settle(self, debt: Debt) -> None:
        """Removes a debt from its line and lets the next one come."""
        if debt.offered_to is not None:
            debt.offered_to.open.discard(debt)
            debt.offered_to = None
        conversation = debt.name.conversation
        line = self._lines.get(conversation)
        if line is not None and debt in line:
            line.remove(debt)
            if not line:
                del self._lines[conversation]
            else:
                self.became_ready(line[0])
        self._hand_out()

    def _hand_out(self) -> None:
        for queue, followers_only in ((self._ended, False), (self._running, True)):
            while queue:
                debt = queue[0]
                if self._stale(debt, running=followers_only):
                    queue.popleft()
                    continue
                instance = self._free_instance(followers_only)
                if instance is None:
                    break
                queue.popleft()
                debt.offered_to = instance
                debt.last_in_line = self._lines[debt.name.conversation][-1].sequence
                instance.open.add(debt)
                instance.tell(debt)

    def _stale(self, debt: Debt, *, running: bool) -> bool:
        """Whether a queued debt is queued elsewhere, on its way, put off or settled by now."""
        return (
            debt.settled
            or debt.offered_to is not None
            or debt.timer is not None
            or (debt.deliver_after > 0 and debt.deliver_after > self._clock())
            or (running and debt.ended)
        )

    def _free_instance(self, followers_only: bool) -> InstanceAttachment | None:
        free = [
            instance
            for instance in self._instances
            if instance.active
            and len(instance.open) < instance.limit
            and not (followers_only and instance.hello.ended_only)
        ]
        return min(free, key=lambda instance: len(instance.open), default=None)

    # --- instances ----------------------------------------------------------------------

    def join(self, instance: InstanceAttachment) -> None:
        self._instances.append(instance)
        if not instance.hello.exclusive or not self._exclusive_active():
            self._grant(instance)

    def leave(self, instance: InstanceAttachment) -> None:
        self._instances.remove(instance)
        instance.active = False
        if instance.hello.exclusive and not self._exclusive_active():
            standby = next((other for other in self._instances if other.hello.exclusive), None)
            if standby is not None:
                self._grant(standby)
        for debt in sorted(instance.open, key=lambda debt: debt.sequence):
            self.take_back(debt)
        instance.open.clear()

    def send_away(self) -> None:
        for instance in self._instances:
            instance.active = False
            instance.tell(None)

    def _exclusive_active(self) -> bool:
        return any(instance.active and instance.hello.exclusive for instance in self._instances)

    def _grant(self, instance: InstanceAttachment) -> None:
        # The clock keeps epochs growing over restarts, without a row for them.
        self._epoch = max(self._epoch + 1, int(self._clock() * 1000))
        instance.active = True
        instance.epoch = self._epoch
        instance.tell(Granted(self._epoch))
        self._hand_out()
