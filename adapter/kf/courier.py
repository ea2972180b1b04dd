"""Delivers the replies of one application's customer service by ``kf/send_msg``.

A customer can be sent five messages after each of theirs, within 48 hours, and only while
no person has the session (DOC 96427). So a reply is cut to what there is room for; an
answer without room waits for the customer's next message and then goes first, because the
service offers nothing that is behind it before it was reported on. It waits here, where
every message of the customer is heard of; when too many do, at the service.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
import structlog
from cachetools import TTLCache

from adapter.cards import check_not_native
from adapter.kf.api import KfApi
from adapter.kf.errors import EXHAUSTED, NOT_OURS, TOO_LATE, came_through_before, code_of
from adapter.kf.ledger import Ledger
from adapter.kf.render import File, Menu, Message, Text, messages
from adapter.kf.service import KfService
from adapter.kf.wire import ASSISTANT, PERSON, POOL, Receiver, media_message, menu_message, message_id, text_message
from adapter.metrics import Metrics
from adapter.outcome import Delivered, Outcome, Record, Retry, Undeliverable, Waiting, put_off
from adapter.rest.api import WeComApi
from adapter.rest.errors import (
    ContentRefused,
    CredentialRefused,
    ReceiverRefused,
    RequestRefused,
    SlowDown,
    WeComError,
    WeComUnreachable,
)
from adapter.translate import read_address
from weconverse import Delivery, Turn, text_of

log = structlog.get_logger()

NOBODY_THERE: Final = "抱歉，目前没有人工客服在线。您可以继续向我提问，或稍后再试。"
"""When a customer asked for a person, and WeCom gives them to nobody."""

_QUICK_TRIES: Final = 3
_QUICK_PAUSE: Final = 0.3
_PATIENCE: Final = 60.0
"""Seconds a delivery waits by itself for a frequency limit."""
_CATCH_UP_SECONDS: Final = 30.0
_LOOK_AGAIN_SECONDS: Final = 300.0
"""After which an answer that waits at the service is looked at again, if its customer has not written before."""
_MOST_FILES: Final = 10_000
_FILE_SECONDS: Final = 86400.0
"""In which an equal file is not put up again: far below the three days that it lives, so that none ends on its way."""
_TOO_LATE: Final = "the customer has not written within 48 hours"
_PERSON_HAS_IT: Final = "a person of the company has the customer"


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the next attempt must know."""

    room: int = 0
    """For how many messages the reply was cut; 0 before that was decided."""
    sent: int = 0
    """Messages that WeCom took. One that was sent but not recorded is refused for its id."""
    tries: int = 0
    """How often the delivery was put off, for the length of the next pause."""
    clean: int = 0
    """The attempt that put it off, if by then no message is in doubt; 0 after any other."""


def read_progress(data: bytes) -> Progress:
    """What an earlier attempt recorded; nothing when that cannot be read."""
    try:
        return msgspec.json.decode(data, type=Progress) if data else Progress()
    except msgspec.MsgspecError:
        return Progress()


class HandingOver(msgspec.Struct, frozen=True):
    """To whom customers are given who ask for a person."""

    servicer: str = ""
    """The UserID of a person; empty for the pool."""


class _CannotGo(Exception):
    """The delivery ends here; ``outcome`` says how."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(repr(outcome))
        self.outcome = outcome


class KfCourier:
    """Sends what customers of one application are owed."""

    def __init__(
        self,
        api: KfApi,
        uploads: WeComApi,
        service: KfService,
        ledger: Ledger,
        metrics: Metrics,
        *,
        account: str,
        handing_over: HandingOver | None,
        caught_up: Callable[[str], Awaitable[None]],
        longest_pause: float,
        max_waiting: int = 128,
        file_above: int = 0,
    ) -> None:
        """Made for one application.

        Args:
            handing_over: ``None`` where no person can be brought in.
            caught_up: waits until everything was handled that an account (``open_kfid``) has now.
            longest_pause: in seconds between two attempts.
            max_waiting: answers that wait here for a message of their customer.
            file_above: as for ``kf_render.messages``.
        """
        self._api = api
        self._uploads = uploads
        self._service = service
        self._ledger = ledger
        self._sends = metrics.sends
        self._suspects = metrics.resend_suspect.labels("kf")
        self._waiting = metrics.kf_waiting.labels(account)
        self._account = account
        self._handing_over = handing_over
        self._caught_up = caught_up
        self._longest_pause = longest_pause
        self._max_waiting = max_waiting
        self._file_above = file_above
        self._waits = 0
        self._closing = False
        self._put_up_lately: TTLCache[bytes, str] = TTLCache(_MOST_FILES, _FILE_SECONDS)

    async def deliver(self, delivery: Delivery, record: Record) -> Outcome:
        """Sends the messages that were not sent yet. See :class:`adapter.outcome.Courier`."""
        try:
            to, wrote_at = _receiver(delivery)
            check_not_native(delivery.ended_turn.reply.parts)
        except ValueError as error:
            return Undeliverable(str(error))
        self._ledger.heard(to, wrote_at)
        sending = _Sending(delivery, to, read_progress(delivery.progress))
        try:
            outcome = await self._deliver(sending, record)
        except _CannotGo as end:
            outcome = end.outcome
        except WeComError as error:
            outcome = self._later(sending, error)
        if not isinstance(outcome, Retry | Waiting):
            self._ledger.answered(to, delivery.turn)
        return outcome

    def close(self) -> None:
        """Waits for no customer any more: from now on all answers without room wait at the service."""
        self._closing = True
        self._ledger.wake()

    async def _deliver(self, sending: "_Sending", record: Record) -> Outcome:
        turn = sending.delivery.ended_turn
        if turn.finish_reason == Turn.MERGED or turn.state == Turn.CANCELLED:
            return Delivered()  # the next answer covers this message too; or the customer took it back
        if turn.finish_reason == Turn.HANDED_OFF and not text_of(turn.reply):
            return await self._quiet(sending)
        await self._say(sending, record)
        if turn.finish_reason == Turn.HANDED_OFF and self._handing_over is not None and not sending.delivery.pushed:
            await self._hand_over(sending, self._handing_over)
        return Delivered()

    # --- saying something -------------------------------------------------------------------

    async def _say(self, sending: "_Sending", record: Record) -> None:
        if not sending.progress.room:
            # Decided once: another attempt must cut the reply at the same places.
            sending.progress = msgspec.structs.replace(sending.progress, room=await self._room(sending))
            await record(msgspec.json.encode(sending.progress))
        turn = sending.delivery.ended_turn
        said = messages(turn, sending.progress.room, file_above=self._file_above)
        for number in range(sending.progress.sent, len(said)):
            msgid = message_id(sending.delivery.turn, str(number))
            if not self._ledger.took(msgid):
                await self._room(sending)
                await self._send(sending, msgid, said[number])
            sending.progress = msgspec.structs.replace(sending.progress, sent=number + 1)
            # Behind the last one there is nothing to repeat, but where the customer is then given away: the
            # next attempt could not send it again.
            if number + 1 < len(said) or turn.finish_reason == Turn.HANDED_OFF:
                await record(msgspec.json.encode(sending.progress))

    async def _room(self, sending: "_Sending") -> int:
        """How many messages may be sent; waits for the customer while there is no room for any."""
        to, turn = sending.to, sending.delivery.turn
        while not (room := self._ledger.room(to, turn)):
            left = self._ledger.window_left(to)
            if left <= 0:
                raise _CannotGo(Undeliverable(_TOO_LATE))
            if self._closing or self._waits >= self._max_waiting:
                why = "no room until the customer writes again"
                raise _CannotGo(Waiting(_LOOK_AGAIN_SECONDS, why, sending.put_off(sending.progress.tries)))
            self._waits += 1
            self._waiting.set(self._waits)
            try:
                await self._ledger.until_written(to, left)
            finally:
                self._waits -= 1
                self._waiting.set(self._waits)
        if self._ledger.window_left(to) <= 0:
            raise _CannotGo(Undeliverable(_TOO_LATE))
        return room

    async def _send(self, sending: "_Sending", msgid: str, message: Message) -> None:
        """Returns when WeCom has the message; waits for room where there turns out to be none."""
        body = await self._encoded(sending.to, msgid, message)
        while not await self._try(sending, msgid, body):
            await self._room(sending)

    async def _encoded(self, to: Receiver, msgid: str, message: Message) -> bytes:
        match message:
            case Text(content=content):
                return text_message(to, msgid, content)
            case Menu(head=head, items=items):
                return menu_message(to, msgid, head, items)
            case File(kind=kind, name=name, data=data):
                try:
                    return media_message(to, msgid, kind, await self._put_up(kind, name, data))
                except ContentRefused:
                    return text_message(to, msgid, message.in_words)

    async def _put_up(self, kind: str, name: str, data: bytes) -> str:
        """The ``media_id`` of a file, which may have been put up for another customer."""
        digest = hashlib.blake2b(f"{kind}/{name}/".encode(), digest_size=16)
        digest.update(data)
        key = digest.digest()
        media_id = self._put_up_lately.get(key)
        if media_id is None:
            media_id = self._put_up_lately[key] = await self._uploads.upload(kind, name, data)
        return media_id

    async def _try(self, sending: "_Sending", msgid: str, body: bytes) -> bool:
        """Sends one message; ``False`` when WeCom takes none until the customer writes again."""
        waited, tries = 0.0, 0
        if sending.resumed and sending.is_first:
            self._suspects.inc()
        while True:
            mark = self._ledger.mark(sending.to)
            try:
                await self._api.send(body)
            except WeComError as error:
                self._sends.labels("kf", _result(error)).inc()
                tries += 1
                if isinstance(error, WeComUnreachable):
                    if error.maybe_done and not sending.in_doubt:
                        sending.in_doubt = True
                        self._suspects.inc()
                    if tries >= _QUICK_TRIES:
                        raise
                    await asyncio.sleep(_QUICK_PAUSE)
                elif isinstance(error, SlowDown) and waited + (error.retry_after or 1.0) <= _PATIENCE:
                    waited += error.retry_after or 1.0
                    await asyncio.sleep(error.retry_after or 1.0)
                elif sending.in_doubt and came_through_before(error):
                    break
                else:
                    return await self._refused(sending, error, mark)
            else:
                break
        sending.is_first, sending.in_doubt = False, sending.resumed
        self._sends.labels("kf", "ok").inc()
        self._ledger.sent(sending.to, sending.delivery.turn, msgid)
        return True

    async def _refused(self, sending: "_Sending", error: WeComError, mark: int) -> bool:
        """What a refusal means: wait for the customer (``False``), or an end."""
        code = code_of(error)
        if code in TOO_LATE:
            raise _CannotGo(Undeliverable(_TOO_LATE)) from None
        if code == EXHAUSTED:
            self._ledger.exhausted(sending.to, mark)
            return False
        if code not in NOT_OURS:
            raise error
        state = await self._api.state(sending.to)
        if state in (POOL, PERSON):
            if sending.in_doubt and sending.delivery.ended_turn.finish_reason == Turn.HANDED_OFF:
                # An earlier attempt got as far as giving the customer away, which is behind the last message.
                raise _CannotGo(Delivered()) from None
            # Somebody took the customer over by hand.
            if sending.conversation:
                await self._service.hand_off(sending.conversation)
            raise _CannotGo(Undeliverable(_PERSON_HAS_IT)) from None
        # It is over. The customer's next message opens another one.
        self._ledger.exhausted(sending.to, mark)
        return False

    # --- people ------------------------------------------------------------------------------

    async def _hand_over(self, sending: "_Sending", handing_over: HandingOver) -> None:
        """Gives the customer to a person, after the reply that says so: nothing could be sent behind it."""
        found = await self._api.state(sending.to)
        if found in (POOL, PERSON):
            return
        if sending.delivery.attempt > 1 and found != ASSISTANT:
            # An earlier attempt gave the customer away, and that session is over by now. If it did not get that
            # far after all, the customer's next message finds out (see ``_quiet``).
            return
        state = PERSON if handing_over.servicer else POOL
        try:
            await self._api.give(sending.to, state, handing_over.servicer)
        except (WeComUnreachable, SlowDown):
            raise
        except RequestRefused as refused:
            log.warning("kf_not_handed_over", account=self._account, why=str(refused))
            await self._service.resume(sending.conversation)
            await self._excuse(sending)

    async def _excuse(self, sending: "_Sending") -> None:
        """Says that nobody is there, if there is room for it."""
        turn = sending.delivery.turn
        if not self._ledger.room(sending.to, turn):
            return
        msgid = message_id(turn, "nobody there")
        try:
            await self._api.send(text_message(sending.to, msgid, NOBODY_THERE))
        except WeComError as error:
            self._sends.labels("kf", _result(error)).inc()
            log.info("kf_not_told", account=self._account, why=str(error))
        else:
            self._sends.labels("kf", "ok").inc()
            self._ledger.sent(sending.to, turn, msgid)

    async def _quiet(self, sending: "_Sending") -> Outcome:
        """Says nothing while a person has the customer; finds out whether one really has.

        No event tells of a session that ran out. Then this message is asked once more, of the
        assistant. Where an event does tell that a person was done, what was written before was
        theirs; what was written behind met the silence of an instance that reads old events.
        """
        if await self._api.state(sending.to) in (POOL, PERSON):
            return Delivered()
        delivery, conversation, open_kfid = sending.delivery, sending.conversation, sending.to.open_kfid
        try:
            async with asyncio.timeout(_CATCH_UP_SECONDS):
                await self._caught_up(open_kfid)
        except TimeoutError:
            return self._put_off(sending, 5.0, "events of the account were not read in time")
        if self._ledger.was_a_persons(conversation, delivery.turn):
            return Delivered()
        log.info("kf_nobody_has_it", account=self._account, conversation=conversation)
        await self._service.resume(conversation)
        again = message_id(delivery.turn, "again")
        await self._service.ask_again(conversation, delivery.ended_turn, delivery.address, open_kfid, again)
        return Delivered()

    # --- what did not work -------------------------------------------------------------------

    def _later(self, sending: "_Sending", error: WeComError) -> Outcome:
        if isinstance(error, ReceiverRefused | ContentRefused):
            return Undeliverable(str(error))
        return self._put_off(sending, error.retry_after or 5.0, str(error), waits=error.waits)

    def _put_off(self, sending: "_Sending", seconds: float, why: str, *, waits: bool = False) -> Retry | Waiting:
        tries = sending.progress.tries
        after = min(self._longest_pause, seconds * 2.0 ** min(tries, 20))
        return put_off(after, why, sending.put_off(tries + 1), waits=waits)


class _Sending:
    """One delivery under way."""

    def __init__(self, delivery: Delivery, to: Receiver, progress: Progress) -> None:
        self.delivery = delivery
        self.to = to
        self.progress = progress
        # What an attempt that died had recorded may have been lost with it: any message may have been sent.
        self.resumed = delivery.attempt > 1 and progress.clean != delivery.attempt - 1
        """Whether an earlier attempt may have sent more than it recorded."""
        self.in_doubt = self.resumed
        """Whether WeCom may already have the message that is being sent."""
        self.is_first = True
        """Whether this attempt has sent nothing yet."""

    def put_off(self, tries: int) -> bytes:
        """What the next attempt must know, when this one ends in order."""
        clean = 0 if self.in_doubt else self.delivery.attempt
        return msgspec.json.encode(msgspec.structs.replace(self.progress, tries=tries, clean=clean))

    @property
    def conversation(self) -> str:
        """The conversation of the turn; empty for a message of the company's own accord."""
        return "" if self.delivery.pushed else self.delivery.turn.rpartition("/turns/")[0]


def _receiver(delivery: Delivery) -> tuple[Receiver, int]:
    """To whom it goes, and when the customer wrote, in POSIX seconds; 0 if that is not known.

    Raises:
        ValueError: the delivery does not say.
    """
    if delivery.pushed:
        kind, _, who = delivery.recipient.partition(":")
        open_kfid, slash, customer = who.partition("/")
        if kind != "customer" or not (open_kfid and slash and customer):
            raise ValueError("recipient: must be customer:OPEN_KFID/EXTERNAL_USERID")
        return Receiver(open_kfid, customer), 0
    address = read_address(delivery.address)
    if not address.open_kfid:
        raise ValueError("address: names no account of customer service")
    return Receiver(address.open_kfid, address.user), address.create_time


def _result(error: WeComError) -> str:
    if isinstance(error, CredentialRefused):
        return "credentials"
    if isinstance(error, SlowDown):
        return "slow_down"
    return "unreachable" if isinstance(error, WeComUnreachable) else "refused"
