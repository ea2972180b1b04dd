"""The deliveries of the fake service: who is attached, and what is offered to whom."""

import asyncio
import time
from collections.abc import Callable, Iterable

from weconverse._fake_turns import FakeTurn
from weconverse.v1.channel_pb2 import AttachResponse, Delivery, DeliveryResult, Granted, Hello, Revoked
from weconverse.v1.conversation_pb2 import Turn

DEFAULT_OPEN = 64
"""How many deliveries may be open when ``Hello.max_open_deliveries`` is 0."""


class Debt:
    """One turn that is owed to a person."""

    def __init__(self, turn: FakeTurn, account: str, address: bytes, recipient: str | None) -> None:
        """Args: ``recipient`` of a message that was pushed, else ``None``."""
        self.turn = turn
        self.account = account
        self.address = address
        self.recipient = recipient
        self.attempt = 0
        self.progress = b""
        self.holder: Session | None = None
        self.delayed = False
        self.waits = False
        """Whether it is delayed until the person writes again."""

    @property
    def settled(self) -> bool:
        """Whether nothing is owed any more."""
        return self.turn.turn.delivery_state != Turn.OWED


class Session:
    """One attached instance."""

    def __init__(self, hello: Hello) -> None:
        self.hello = hello
        self.active = False
        self.epoch = 0
        self.outbox: asyncio.Queue[AttachResponse | None] = asyncio.Queue()


class Deliveries:
    """Offers what is owed to whoever is attached, as the contract says; keeps it all in memory."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self.results: list[DeliveryResult] = []
        self._on_change = on_change
        self._debts: dict[str, Debt] = {}
        self._sessions: list[Session] = []
        self._epoch = 0
        self._timers: set[asyncio.TimerHandle] = set()

    def owe(self, turn: FakeTurn, account: str, address: bytes, recipient: str | None = None) -> None:
        """Takes a turn that is owed from now on; with a ``recipient``, one that was pushed."""
        self._debts[turn.turn.name] = Debt(turn, account, address, recipient)
        conversation = turn.turn.name.partition("/turns/")[0]
        for debt in self._debts.values():
            if debt.waits and debt.turn.turn.name.partition("/turns/")[0] == conversation:
                debt.delayed = debt.waits = False
        self.offer()

    def attach(self, hello: Hello) -> Session:
        """Takes an instance; grants it at once unless another one holds the account for itself."""
        session = Session(hello)
        self._sessions.append(session)
        self._grant(hello.account)
        return session

    def detach(self, session: Session) -> None:
        """The instance is gone: what it held is offered elsewhere."""
        self._sessions.remove(session)
        self._release(session)

    def revoke(self, account: str) -> None:
        """Takes the grant from every active instance of an account, which then stands at the end of the line."""
        for session in [s for s in self._sessions if s.hello.account == account and s.active]:
            session.outbox.put_nowait(AttachResponse(revoked=Revoked(epoch=session.epoch)))
            self._sessions.remove(session)
            self._sessions.append(session)
            self._release(session)

    def report(self, session: Session, result: DeliveryResult) -> None:
        """Takes a result. Of a turn that this instance does not hold it may say only that it was delivered."""
        self.results.append(result)
        debt = self._debts.get(result.turn)
        expired = result.HasField("expire_time") and result.expire_time.ToNanoseconds() < time.time_ns()
        if debt is not None and expired and debt.holder is session:
            debt.holder = None
        elif debt is not None and not expired and _may_report(debt, session, result):
            if result.progress:
                debt.progress = result.progress
            if result.outcome == DeliveryResult.DELIVERED:
                debt.turn.turn.delivery_state = Turn.DELIVERED
            elif result.outcome == DeliveryResult.UNDELIVERABLE:
                debt.turn.turn.delivery_state = Turn.UNDELIVERABLE
            elif result.outcome in (DeliveryResult.RETRY, DeliveryResult.WAITING):
                debt.waits = result.outcome == DeliveryResult.WAITING
                self._delay(debt, result.retry_delay.ToNanoseconds() / 1e9)
            if result.outcome != DeliveryResult.OUTCOME_UNSPECIFIED:
                debt.holder = None
        self.offer()
        self._on_change()

    def offer(self) -> None:
        """Offers what can be offered now."""
        for debt in self._first_of_each_conversation():
            if debt.holder is not None or debt.delayed:
                continue
            session = self._session_for(debt)
            if session is not None:
                debt.holder = session
                debt.attempt += 1
                session.outbox.put_nowait(AttachResponse(delivery=self._delivery(debt)))

    def close(self) -> None:
        """Forgets what was to be offered again later, and ends the sessions."""
        for timer in self._timers:
            timer.cancel()
        for session in self._sessions:
            session.outbox.put_nowait(None)

    def _first_of_each_conversation(self) -> Iterable[Debt]:
        seen = set()
        for debt in self._debts.values():
            conversation = debt.turn.turn.name.partition("/turns/")[0]
            if not debt.settled and conversation not in seen:
                seen.add(conversation)
                yield debt

    def _session_for(self, debt: Debt) -> Session | None:
        fit = [
            (self._open_count(session), index, session)
            for index, session in enumerate(self._sessions)
            if session.active
            and session.hello.account == debt.account
            and (debt.turn.ended or not session.hello.ended_only)
            and self._open_count(session) < (session.hello.max_open_deliveries or DEFAULT_OPEN)
        ]
        return min(fit)[2] if fit else None

    def _open_count(self, session: Session) -> int:
        return sum(debt.holder is session for debt in self._debts.values())

    def _delivery(self, debt: Debt) -> Delivery:
        return Delivery(
            turn=debt.turn.turn.name,
            address=debt.address,
            attempt=debt.attempt,
            progress=debt.progress,
            ended_turn=_as_delivered(debt.turn.turn) if debt.turn.ended else None,
            recipient=debt.recipient or "",
            pushed=debt.recipient is not None,
        )

    def _delay(self, debt: Debt, seconds: float) -> None:
        def over() -> None:
            self._timers.discard(timer)
            debt.delayed = debt.waits = False
            self.offer()

        debt.delayed = True
        timer = asyncio.get_running_loop().call_later(seconds, over)
        self._timers.add(timer)

    def _release(self, session: Session) -> None:
        session.active = False
        for debt in self._debts.values():
            if debt.holder is session:
                debt.holder = None
        self._grant(session.hello.account)

    def _grant(self, account: str) -> None:
        members = [session for session in self._sessions if session.hello.account == account]
        for session in members:
            taken = any(other.active and other.hello.exclusive for other in members)
            if not session.active and not (session.hello.exclusive and taken):
                self._epoch += 1
                session.active, session.epoch = True, self._epoch
                session.outbox.put_nowait(AttachResponse(granted=Granted(epoch=self._epoch)))
        self.offer()
        self._on_change()


def _as_delivered(turn: Turn) -> Turn:
    """Without the bytes of what was said: no channel needs back what it brought."""
    delivered = Turn()
    delivered.CopyFrom(turn)
    for part in delivered.input.parts:
        if part.media.HasField("inline_data"):
            part.media.ClearField("inline_data")
    return delivered


def _may_report(debt: Debt, session: Session, result: DeliveryResult) -> bool:
    if debt.holder is session:
        return True
    fetched = result.outcome == DeliveryResult.DELIVERED and debt.turn.ended and session.active
    return fetched and not debt.settled and session.hello.account == debt.account
