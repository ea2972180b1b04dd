"""Handles what ``kf/sync_msg`` brings, each item once, those of one customer in their order.

An item is handled when our service has it on disk, under the item's own id: items that
come again, after a crash or a lost cursor, change nothing there. What cannot be handed
over now is insisted on, so that no cursor passes it.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Protocol, TypeVar

import structlog

from adapter.backoff import Backoff
from adapter.kf.api import KfApi
from adapter.kf.ledger import Ledger
from adapter.kf.service import KfService
from adapter.kf.translate import address_of, from_kf_item
from adapter.kf.wire import (
    CUSTOMER,
    SERVICER,
    WELCOME_SECONDS,
    WINDOW_SECONDS,
    KfItem,
    Receiver,
    event_message,
    message_id,
    text_message,
)
from adapter.metrics import Metrics
from adapter.rest.errors import WeComError
from adapter.text.render import app_parts
from adapter.translate import Incoming, incoming, sentence
from weconverse import (
    Content,
    DeadlineExceeded,
    Internal,
    PermissionDenied,
    RequestIdReused,
    ResourceExhausted,
    Turn,
    Unauthenticated,
    Unavailable,
    WeConverseError,
)

log = structlog.get_logger()

T = TypeVar("T")

_PASSING: Final = (Unavailable, DeadlineExceeded, ResourceExhausted, Unauthenticated, PermissionDenied, Internal)
"""What ends by itself, or by an operator; a cursor waits for it."""
_MOST_DEFECTS: Final = 10
"""Answers INTERNAL to one item, after which it is passed over: it would hold up everybody."""
_LONGEST_PAUSE: Final = 30.0
_FROM_POOL, _TRANSFER, _END, _AGAIN = 1, 2, 3, 4
"""What happened to a session (``change_type``)."""


class Fills(Protocol):
    """Fetches what belongs to a message; see :mod:`adapter.media.attachments`."""

    async def fill(self, incoming: Incoming, seconds: float) -> Incoming:
        """The message with its bytes, or with why they are missing, within that many seconds."""
        ...


class KfInbox:
    """Takes the items of all accounts of one application."""

    def __init__(
        self,
        service: KfService,
        api: KfApi,
        ledger: Ledger,
        metrics: Metrics,
        *,
        account: str,
        attachments: Fills,
        welcome: bool = True,
        parallel: int = 32,
        fetch_seconds: float = 60.0,
        pseudonym_key: bytes = b"",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Args: ``parallel`` customers are handled at a time; ``fetch_seconds`` are for what belongs to one message;
        ``clock`` gives POSIX seconds.
        """
        self._service = service
        self._api = api
        self._ledger = ledger
        self._outcome = metrics.messages
        self._send_failures = metrics.kf_send_failures
        self._account = account
        self._attachments = attachments
        self._welcomes = welcome
        self._parallel = parallel
        self._fetch_seconds = fetch_seconds
        self._key = pseudonym_key
        self._clock = clock

    async def take(self, items: Iterable[KfItem]) -> None:
        """Returns when every item was handled. May be cancelled: what was handled stays handled."""
        lines: dict[Receiver, deque[KfItem]] = {}
        for item in items:
            lines.setdefault(_customer(item), deque()).append(item)
        # Who is to be welcomed within seconds comes first; beside that, whoever wrote first.
        waiting = deque(sorted(lines.values(), key=lambda line: not any(map(self._is_to_be_welcomed, line))))

        async def work() -> None:
            while waiting:
                for item in waiting.popleft():
                    await self._handle(item)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._parallel, len(waiting))):
                group.create_task(work())

    async def _handle(self, item: KfItem) -> None:
        try:
            if item.is_event:
                await self._event(item)
            elif item.origin == CUSTOMER:
                await self._message(item)
            elif item.origin == SERVICER:
                await self._person_wrote(item)
            else:
                self._count("silence")
        except WeConverseError as refused:
            # Not a matter of time: this item can never be handed over.
            self._count("refused")
            why = refused.reason or refused.code.name
            log.error("kf_item_refused", account=self._account, kind=item.kind, why=why)  # noqa: TRY400 — no defect
        except Exception:
            # The boundary of this door: a defect in one item must not hold up all that come behind it.
            self._count("defect")
            log.exception("kf_item_failed", account=self._account, kind=item.kind)

    def _count(self, result: str) -> None:
        self._outcome.labels("kf", result).inc()

    async def _insist(self, call: Callable[[], Awaitable[T]]) -> T:
        """Calls the service until it answers; without end, because the cursor waits for it.

        Raises:
            WeConverseError: it never will.
        """
        backoff, defects = Backoff(0.1, 5.0), 0
        while True:
            try:
                return await call()
            except _PASSING as error:
                defects += isinstance(error, Internal)
                if defects > _MOST_DEFECTS:
                    raise
                if backoff.failures % 10 == 1:
                    log.warning("kf_waits_for_service", account=self._account, why=error.reason or error.code.name)
                pause = max(backoff.pause(), min(error.retry_after or 0.0, _LONGEST_PAUSE))
            await asyncio.sleep(pause)

    # --- messages --------------------------------------------------------------------------

    async def _message(self, item: KfItem) -> None:
        meaning = from_kf_item(self._account, item, key=self._key)
        if not isinstance(meaning, Incoming):
            self._count("silence")
            return
        customer, turn = _customer(item), f"{meaning.conversation}/turns/{meaning.request_id}"
        wrote_at = item.send_time or int(self._clock())
        if self._clock() - wrote_at > WINDOW_SECONDS:
            # Nobody could be answered any more, so nothing is asked for it either.
            self._count("too_old")
            log.info("kf_message_too_old", account=self._account, request_id=meaning.request_id)
            return
        self._ledger.wrote(customer, wrote_at)
        self._ledger.read(turn)
        if meaning.attachments:
            if await self._insist(lambda: self._service.knows(turn)):
                self._count("known")
                return
            meaning = await self._attachments.fill(meaning, self._fetch_seconds)
        whole = meaning
        try:
            taken = await self._insist(lambda: self._service.submit(whole, item.open_kfid))
        except RequestIdReused:
            # Its bytes came differently this time; the first one is being answered.
            self._count("id_reused")
            log.warning("message_id_reused", conversation=whole.conversation, turn=turn)
            return
        except WeConverseError as error:
            await self._tell(customer, turn, sentence(error.reason))
            raise
        owed = taken.delivery_state == Turn.OWED
        if owed:
            self._ledger.owes(customer, turn)
        self._count("taken" if owed else "known")

    async def _tell(self, customer: Receiver, turn: str, text: str) -> None:
        """Says why there is no answer, once, if WeCom takes it."""
        msgid = message_id(turn, "refused")
        try:
            await self._api.send(text_message(customer, msgid, text))
        except WeComError as error:
            log.info("kf_not_told", account=self._account, why=str(error))
        else:
            self._ledger.sent(customer, turn, msgid)

    async def _person_wrote(self, item: KfItem) -> None:
        """A person of the company wrote to the customer: the assistant has to be silent."""
        self._count("servicer")
        conversation = self._conversation(item)
        if conversation and not self._service.is_served(conversation):
            await self._insist(lambda: self._service.hand_off(conversation))

    # --- events ----------------------------------------------------------------------------

    async def _event(self, item: KfItem) -> None:
        self._count("event")
        match item.kind:
            case "enter_session":
                await self._welcome(item)
            case "session_status_change":
                await self._session_changed(item)
            case "msg_send_fail":
                self._send_failed(item)
            case "user_recall_msg":
                await self._recalled(item)
            case "servicer_status_change" | "servicer_recall_msg" | "reject_customer_msg_switch_change":
                log.debug("kf_event", account=self._account, kind=item.kind)
            case _:
                log.info("kf_event_unknown", account=self._account, kind=item.kind)

    def _is_to_be_welcomed(self, item: KfItem) -> bool:
        """Whether it asks for a welcome that is still in time: the code in it works once, and for 20 seconds."""
        if not self._welcomes or item.kind != "enter_session" or not item.text("welcome_code"):
            return False
        return self._clock() - item.send_time < WELCOME_SECONDS

    async def _welcome(self, item: KfItem) -> None:
        if not self._is_to_be_welcomed(item):
            return
        msgid = message_id(item.msgid, "welcome")
        try:
            async with asyncio.timeout(WELCOME_SECONDS - (self._clock() - item.send_time)):
                greeting = await self._insist(lambda: self._service.greeting(item.open_kfid))
                if not greeting.strip():
                    return
                await self._api.send_on_event(event_message(item.text("welcome_code"), msgid, app_parts(greeting)[0]))
        except (WeComError, TimeoutError) as error:
            # A code that was used before is refused here: whoever used it has said the welcome.
            log.info("kf_not_welcomed", account=self._account, why=str(error) or "late")
            return
        self._count("welcomed")

    async def _session_changed(self, item: KfItem) -> None:
        conversation = self._conversation(item)
        change = item.body.get("change_type")
        if not conversation:
            return
        if change in (_FROM_POOL, _TRANSFER, _AGAIN):
            await self._insist(lambda: self._service.hand_off(conversation))
        elif change == _END:
            self._ledger.ended(conversation, item.msgid)
            await self._insist(lambda: self._service.resume(conversation))

    def _send_failed(self, item: KfItem) -> None:
        """A message that WeCom took did not reach the customer. The answer was reported as delivered by then."""
        fail_type = item.body.get("fail_type")
        known = fail_type if type(fail_type) is int and 0 <= fail_type <= 99 else 0
        self._send_failures.labels(str(known)).inc()
        turn = self._ledger.turn_of(item.text("fail_msgid"))
        log.error("kf_message_not_delivered", account=self._account, fail_type=known, turn=turn)

    async def _recalled(self, item: KfItem) -> None:
        name = incoming(self._account, self._key, item.text("recall_msgid"), Content(), address_of(item))
        if isinstance(name, Incoming) and item.external_userid and item.text("recall_msgid"):
            turn = f"{name.conversation}/turns/{name.request_id}"
            await self._insist(lambda: self._service.cancel(turn))

    def _conversation(self, item: KfItem) -> str:
        """The conversation that an item belongs to; empty if it names no customer."""
        named = incoming(self._account, self._key, item.msgid, Content(), address_of(item))
        return named.conversation if isinstance(named, Incoming) and item.external_userid else ""


def _customer(item: KfItem) -> Receiver:
    return Receiver(item.open_kfid, item.external_userid)
