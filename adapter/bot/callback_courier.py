"""Sees to it that an answer of a bot in callback mode arrives once: by the bubble, or by ``response_url``.

WeCom fetches the bubble from whichever instance it reaches (:mod:`adapter.bot.callback`), and
one instance is offered the delivery. Between the two stand these rules:

1. *Which way an answer goes follows from two times that everybody knows*: when the message was
   sent, and when its turn ended. Within ``close_seconds`` it belongs to the bubble, later to
   ``response_url``. Nobody has to tell anybody, and no two instances can think differently.
2. *A bubble is finished only when the debt is settled.* Whoever is polled for a turn that has
   ended first reports it as delivered, whoever holds it, waits until the service says so, and
   only then answers ``finish``. If it dies between, the next poll finishes the bubble elsewhere.
3. *``response_url`` is used only for a turn that is still owed*, by the one instance that holds
   it, and for a bubble's turn not before WeCom's polls have ended: then nobody has come for it,
   because the first answer never reached WeCom, or WeCom stopped asking.
4. *The use of a ``response_url`` is recorded before it.* The address works once, so an attempt
   that follows one without a known end may repeat it: WeCom refuses what it has already shown,
   and the refusal then means "delivered".

5. *Near the end of the polls nothing is settled by them any more*: what is still owed then goes
   by rule 3, because too few polls are left to bring an end that is lost on its way. Reports
   carry that time, so that one which hangs on its way, or in a service that hangs, settles
   nothing later. The bubble says so half of ``grace`` later, as clocks differ.

What remains: when no instance can be reached from the moment in which a bubble is about to be
finished until WeCom stops asking, which is ``grace`` seconds at least, the answer stays unseen;
and if WeCom took a used address again (it documents that it does not), a crash in the middle of
that request could show an answer twice.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
import structlog
from yarl import URL

from adapter.bot import fetched
from adapter.metrics import Metrics
from adapter.outcome import Delivered, Outcome, Record, Undeliverable, put_off
from adapter.rest.errors import RequestRefused, SlowDown, WeComError, WeComUnreachable
from adapter.rest.secret_address import Answer, SecretAddress
from adapter.translate import Address, read_address
from adapter.unsaid import unsaid
from weconverse import ConversationClient, Delivery, NotFound, Turn, WeConverseError

log = structlog.get_logger()

_CALL: Final = "aibot/response"
_GRACE_SECONDS: Final = 10.0
"""How long after WeCom's polls a bubble's turn is left alone: more than clocks differ, and answers take."""
_FIRST_LOOK: Final = 2.0
_NEXT_LOOK: Final = 30.0
"""The shortest and the longest pause between two looks whether another instance was polled."""
_ASK_SECONDS: Final = 3.0
_SETTLE_SECONDS: Final = 1.0
"""Beside the 3.5 s for getting the turn; WeCom waits for 5."""
_FIRST_ASK: Final = 0.03
"""The shortest pause between two questions whether a report was written down."""


class FetchTiming(msgspec.Struct, frozen=True, kw_only=True):
    """For how long WeCom fetches; all in seconds since the message."""

    close: float = 330.0
    """When a bubble is ended although its answer is not complete."""
    end: float = 360.0
    """When WeCom stops fetching (DOC 101031)."""
    grace: float = _GRACE_SECONDS
    """For how long after that nothing else is sent in its place."""

    @property
    def settled_until(self) -> float:
        """Until when a poll may settle a debt: rule 5."""
        return self.end - self.grace

    def last(self, *, owed: bool) -> float:
        """Until when a bubble shows its answer. What is owed after that goes another way, and what is not went it."""
        return self.end - self.grace / 2 if owed else self.end + self.grace / 2


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the next attempt must know."""

    fetched: bool = False
    """WeCom has the bubble, or gets it: only what does not fit into it is still owed."""
    posting: bool = False
    """``response_url`` is or was being used, and nobody knows how that ended."""
    tries: int = 0
    """How often the delivery was put off."""


def read_progress(data: bytes) -> Progress:
    """What an earlier attempt recorded; nothing when that cannot be read."""
    try:
        return msgspec.json.decode(data, type=Progress) if data else Progress()
    except msgspec.MsgspecError:
        return Progress()


class BotCallbackCourier:
    """Waits for the poll that takes an answer, and sends what no poll takes."""

    def __init__(
        self,
        client: ConversationClient,
        addresses: SecretAddress,
        metrics: Metrics,
        *,
        timing: FetchTiming,
        allowed_host: str,
        longest_pause: float = 1800.0,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Args:
        allowed_host: of WeCom's HTTP interface; other addresses are used with TLS only.
        longest_pause: seconds between two attempts of one delivery.
        clock: POSIX seconds.
        """
        self._client = client
        self._addresses = addresses
        self._metrics = metrics
        self._timing = timing
        self._allowed_host = allowed_host
        self._longest_pause = longest_pause
        self._clock = clock
        self._sleep = sleep
        self._waiting: dict[str, asyncio.Event] = {}
        """Turns held here that wait for a poll; as many as deliveries may be open."""

    def fetched(self, turn: str) -> bool:
        """Tells that WeCom asks for a turn that has ended; whether its delivery waits here for that."""
        waiting = self._waiting.get(turn)
        if waiting is None:
            return False
        waiting.set()
        return True

    async def deliver(self, delivery: Delivery, record: Record) -> Outcome:
        """Returns when WeCom has the answer. See :class:`adapter.outcome.Courier`."""
        if delivery.pushed:
            return Undeliverable("a bot in callback mode can only answer; push through an application or a robot")
        try:
            address = read_address(delivery.address)
        except ValueError as error:
            return Undeliverable(str(error))
        turn, progress = delivery.ended_turn, read_progress(delivery.progress)
        if unsaid(turn):
            return Delivered()  # a poll ends its bubble with that
        if not (address.req_id and fetched.belongs_to_bubble(turn, address.create_time, self._timing.close)):
            return await self._send(delivery, address, progress, fetched.message(turn), record)
        if not progress.fetched:
            if progress.posting:  # nobody had come for it, and still nobody may
                return await self._send(delivery, address, progress, fetched.message(turn), record)
            how = await self._until_fetched(turn, address.create_time)
            if how == "elsewhere":
                return Delivered()
            if how == "never":
                log.warning("answer_not_fetched", turn=delivery.turn)
                return await self._send(delivery, address, progress, fetched.message(turn), record)
            progress = msgspec.structs.replace(progress, fetched=True)
        beside = fetched.shown(turn, group=bool(address.chat)).beside
        until = fetched.began(turn, address.create_time) + self._timing.settled_until
        if beside is None:
            return Delivered(until)
        if self._clock() > until:
            beside = fetched.message(turn)  # the bubble says by now that everything comes separately
        return await self._send(delivery, address, progress, beside, record)

    async def _until_fetched(self, turn: Turn, sent_at: int) -> str:
        """How the wait for a poll ended: ``here``, ``elsewhere`` or ``never``."""
        waiting = self._waiting[turn.name] = asyncio.Event()
        until = fetched.began(turn, sent_at) + self._timing.end + self._timing.grace
        pause = _FIRST_LOOK
        try:
            while True:
                left = until - self._clock()
                if await self._set_within(waiting, max(0.0, min(pause, left))):
                    return "here"
                if await self._is_settled(turn.name):
                    return "elsewhere"
                if left <= pause:
                    return "never"
                pause = min(_NEXT_LOOK, pause * 2)
        finally:
            del self._waiting[turn.name]

    async def _set_within(self, waiting: asyncio.Event, seconds: float) -> bool:
        told = asyncio.create_task(waiting.wait())
        alarm = asyncio.ensure_future(self._sleep(seconds))
        try:
            await asyncio.wait((told, alarm), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (told, alarm):
                task.cancel()
            await asyncio.gather(told, alarm, return_exceptions=True)
        return waiting.is_set()

    async def _is_settled(self, name: str) -> bool:
        try:
            turn = await self._client.get_turn(name, omit_input=True, timeout=_ASK_SECONDS)
        except NotFound:
            return True
        return turn.delivery_state != Turn.OWED

    # --- response_url ------------------------------------------------------------------------

    async def _send(
        self, delivery: Delivery, address: Address, progress: Progress, body: Mapping[str, Any], record: Record
    ) -> Outcome:
        try:
            url = self._checked(address.response_url)
        except ValueError as error:
            return self._given_up(delivery, progress, str(error))
        suspect = progress.posting
        if suspect:
            self._metrics.resend_suspect.labels("bot_callback").inc()
        else:
            await record(msgspec.json.encode(msgspec.structs.replace(progress, posting=True)))
        try:
            await self._addresses.post(url, msgspec.json.encode(body), _CALL, Answer)
        except SlowDown as slow:
            return self._later(slow, progress, posting=suspect)
        except RequestRefused as refused:
            if suspect:  # It works once, and somebody used it: that was us.
                log.info("response_url_used_before", turn=delivery.turn, code=refused.code)
                return Delivered()
            self._metrics.sends.labels("bot_callback", "refused").inc()
            return self._given_up(delivery, progress, str(refused))
        except WeComUnreachable as unreachable:
            self._metrics.sends.labels("bot_callback", "unreachable").inc()
            return self._later(unreachable, progress, posting=suspect or unreachable.maybe_done)
        self._metrics.sends.labels("bot_callback", "ok").inc()
        return Delivered()

    def _checked(self, response_url: str) -> URL:
        """The address, if it can be one of WeCom's. Raises ``ValueError``, which does not quote it."""
        if not response_url:
            raise ValueError("the message brought no response_url")
        try:
            url = URL(response_url)
        except ValueError:
            raise ValueError("the response_url is not an address") from None
        plain_http = url.scheme == "http" and url.host == self._allowed_host
        if not url.host or not (url.scheme == "https" or plain_http):
            raise ValueError("the response_url is neither WeCom's nor protected by TLS")
        return url

    def _given_up(self, delivery: Delivery, progress: Progress, why: str) -> Outcome:
        if not progress.fetched:
            return Undeliverable(why)
        # The bubble has what it can hold, and says that more was to come.
        log.error("rest_not_sent", turn=delivery.turn, why=why)
        return Delivered()

    def _later(self, error: WeComError, progress: Progress, *, posting: bool) -> Outcome:
        after = min(self._longest_pause, (error.retry_after or 5.0) * 2.0 ** min(progress.tries, 20))
        state = msgspec.structs.replace(progress, posting=posting, tries=progress.tries + 1)
        return put_off(after, str(error), msgspec.json.encode(state), waits=error.waits)


class Settling:
    """Makes sure that a turn which WeCom asks for is settled before its bubble is finished: rule 2 above."""

    def __init__(
        self,
        client: ConversationClient,
        courier: BotCallbackCourier,
        report: Callable[[str, float], Awaitable[bool]],
        *,
        seconds: float = _SETTLE_SECONDS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Args: ``report`` says that a turn was delivered, as ``Lease.settle``; ``seconds`` for all of it."""
        self._client = client
        self._courier = courier
        self._report = report
        self._seconds = seconds
        self._sleep = sleep

    async def __call__(self, turn: str, shown: fetched.Shown, until: float) -> bool:
        """Whether the bubble of an owed turn may be finished now; otherwise a later poll may.

        Args: ``until`` when the debt may be settled by that, in POSIX seconds.
        """
        pause = _FIRST_ASK
        try:
            async with asyncio.timeout(self._seconds):
                # What does not fit into the bubble is the holder's to send: then the poll that reaches him counts.
                if not self._courier.fetched(turn) and (
                    shown.beside is not None or not await self._report(turn, until)
                ):
                    return False
                while await self._owed(turn):
                    await self._sleep(pause)
                    pause *= 2
        except (TimeoutError, WeConverseError):
            return False
        return True

    async def _owed(self, turn: str) -> bool:
        now = await self._client.get_turn(turn, omit_input=True, timeout=_ASK_SECONDS)
        return now.delivery_state == Turn.OWED
