"""Door 2b: an intelligent bot in callback mode (DOC 101031, 101033, 100719), at ``/wecom/bot/{account}``.

A message is on disk at the service before it is answered; the passive answer then opens a
bubble, whose id names the turn. WeCom asks for the bubble about every second, whichever
instance that reaches, and is answered from ``GetTurn``: this door keeps nothing between two
requests. What becomes of answers that nobody asks for is :mod:`adapter.bot.callback_courier`'s.

Whether WeCom repeats a message that was not answered is not documented for this mode, so a
message of which nobody knows whether the service has it opens a bubble too. The polls for it
find the turn once the service is back, or find that there is none: then a sentence asks the
person to write again. Nobody is asked for what is answered as well.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple, Protocol

import msgspec
import structlog
from aiohttp import web

from adapter.access.admission import NotAllowed, Undecided
from adapter.backoff import Backoff
from adapter.bot import fetched, passive
from adapter.bot.callback_courier import FetchTiming
from adapter.bot.translate import FETCHED, from_bot_message
from adapter.callbacks.door import CalledDoor
from adapter.callbacks.gate import Gate, Rejected, Seal
from adapter.callbacks.taking import Submit, Taking, Unfit
from adapter.cards import chosen_card
from adapter.metrics import Metrics
from adapter.text.render import PLACEHOLDER, clean, has_visible, split
from adapter.translate import (
    Chosen,
    Greeting,
    Incoming,
    Rated,
)
from adapter.wire import BotMessage, bot_message_body, parse_bot_message
from weconverse import (
    ConversationClient,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    Turn,
    Unavailable,
    WeConverseError,
)

log = structlog.get_logger()

PATH: Final = "/wecom/bot/{account}"

_WELCOME_BYTES: Final = 2048


class BotSeal(Seal, Protocol):
    """Opens the callbacks of a bot and the files beside them; see :class:`adapter.callbacks.keyring.Keyring`."""

    def aeskey(self, timestamp: str, nonce: str) -> str:
        """The key of the files beside the callback of this time and nonce."""
        ...


class Fill(Protocol):
    """Fetches the attachments of a message; see :class:`adapter.media.attachments.Attachments`."""

    async def fill(self, incoming: Incoming, seconds: float) -> Incoming:
        """The message with its bytes, or with the reasons why some are missing."""
        ...


class BotCallbackAccount(NamedTuple):
    """What the door needs of one bot."""

    envelope: BotSeal
    bot_id: str
    """The ``aibotid`` of its callbacks; empty: any."""
    name: str
    """As people mention it in groups."""
    submit: Submit
    media: Fill
    greeting: Callable[[str], Awaitable[str]]
    """What the assistant says to this person, who opens the chat; empty for silence. Raises ``WeConverseError``."""
    rate: Callable[[Rated], Awaitable[None]]
    """Notes a rating. Raises ``WeConverseError``."""
    settle: Callable[[str, fetched.Shown, float], Awaitable[bool]]
    """Whether the bubble of an owed turn that has ended may be finished now with this; see ``Settling``."""
    timing: FetchTiming


class _Refused(Exception):
    """The service does not get this message, or will not take it; the words are for the person, and may be none."""

    def __init__(self, words: str) -> None:
        super().__init__(words)
        self.words = words


class BotCallbackDoor(CalledDoor[BotCallbackAccount]):
    """Answers the callbacks of all bots in callback mode. Add :meth:`routes` to a web application."""

    def __init__(
        self,
        accounts: Mapping[str, BotCallbackAccount],
        client: ConversationClient,
        gate: Gate,
        metrics: Metrics,
        *,
        submit_seconds: float = 3.5,
        fetch_seconds: float = 2.0,
        pseudonym_key: bytes = b"",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Args:
        submit_seconds: within which a message is handed over, its attachments included; WeCom waits for 5.
        fetch_seconds: of these, for fetching attachments.
        pseudonym_key: as for ``adapter.translate.incoming``.
        clock: POSIX seconds.
        """
        super().__init__(PATH, accounts, gate)
        self._client = client
        self._taking = Taking(metrics, door="bot_callback", submit_seconds=submit_seconds)
        self._messages = metrics.messages
        self._submit_seconds = submit_seconds
        self._fetch_seconds = min(fetch_seconds, submit_seconds / 2)
        self._pseudonym_key = pseudonym_key
        self._clock = clock

    async def _received(self, request: web.Request) -> web.Response:
        name, account = request.match_info["account"], self._account(request)
        opened = await self._gate.opened(request, account.envelope)
        message = parse_bot_message(bot_message_body(opened.plain))
        if account.bot_id and message.aibotid and message.aibotid != account.bot_id:
            raise Rejected(403, "account")
        reply = await self._replied(name, account, message, account.envelope.aeskey(opened.timestamp, opened.nonce))
        if reply is None:
            return web.Response()
        # WeCom names no type for the answer; its own plug-in says this one.
        return web.Response(body=passive.sealed(reply, opened, account.envelope), content_type="text/plain")

    async def _replied(
        self, name: str, account: BotCallbackAccount, message: BotMessage, aeskey: str
    ) -> dict[str, Any] | None:
        if message.msgtype == "stream":
            return await self._polled(name, account, message)
        meaning = from_bot_message(
            name, account.name, message, door="bot_callback", req_id=FETCHED, key=self._pseudonym_key
        )
        match meaning:
            case Incoming():
                return await self._taken(account, _with_key(meaning, aeskey), message.create_time)
            case Greeting():
                return await self._greeted(name, account, message.userid)
            case Chosen():
                return await self._chosen(account, meaning)
            case Rated():
                await self._rated(account, meaning)
            case _:
                self._messages.labels("bot_callback", "silence").inc()
        return None

    # --- messages and events ---------------------------------------------------------------

    async def _taken(self, account: BotCallbackAccount, incoming: Incoming, sent_at: int) -> dict[str, Any] | None:
        """Hands a message over, and opens its bubble; or says in a whole bubble why there will be no answer."""
        turn = f"{incoming.conversation}/turns/{incoming.request_id}"
        shown = fetched.stream_id(turn, sent_at)
        try:
            taken = await self._hand_over(account, incoming)
        except _Refused as refused:
            return passive.stream(shown, refused.words, finish=True) if refused.words else None
        content = PLACEHOLDER if taken else fetched.NOT_SURE
        return passive.stream(shown, content, finish=False, feedback_id=fetched.feedback_id(turn))

    async def _hand_over(self, account: BotCallbackAccount, incoming: Incoming) -> bool:
        """Whether the service has the message on disk; otherwise nobody knows.

        Raises:
            _Refused: it does not, and will not.
        """
        until = asyncio.get_running_loop().time() + self._submit_seconds

        async def submit(incoming: Incoming, _seconds: float) -> None:
            try:
                await account.submit(incoming, max(0.1, until - asyncio.get_running_loop().time()))
            except (NotAllowed, Undecided) as error:
                raise _Refused(error.sentence) from None

        try:
            async with asyncio.timeout_at(until):
                whole = await account.media.fill(incoming, self._fetch_seconds)
                await self._taking.take(submit, whole)
        except _Refused:
            self._messages.labels("bot_callback", "refused").inc()
            raise
        except Unfit as unfit:
            raise _Refused(unfit.sentence) from None
        except (Rejected, TimeoutError):
            return False
        return True

    async def _greeted(self, name: str, account: BotCallbackAccount, user: str) -> dict[str, Any] | None:
        try:
            words = clean(await account.greeting(user))
        except WeConverseError as error:
            log.warning("not_welcomed", account=name, why=error.reason or error.code.name)
            self._messages.labels("bot_callback", "not_welcomed").inc()
            return None
        if not has_visible(words):
            return None
        self._messages.labels("bot_callback", "welcomed").inc()
        return passive.text(split(words, _WELCOME_BYTES, numbered=False)[0])

    async def _chosen(self, account: BotCallbackAccount, chosen: Chosen) -> dict[str, Any] | None:
        """Takes a choice as the person's next message, and shows it on the card.

        The event comes once. What the service did not take leaves the card as it is, so that
        it can be touched again: a card's choice is one turn, however often it is touched.
        """
        try:
            taken = await self._hand_over(account, chosen.incoming)
        except _Refused:
            return None
        if not taken or not chosen.task_id:
            return None
        card = chosen_card(chosen.task_id, chosen.said)
        return passive.updated_card(card, (chosen.user,) if chosen.group else ())

    async def _rated(self, account: BotCallbackAccount, rated: Rated) -> None:
        try:
            await account.rate(rated)
        except (NotFound, InvalidRequest):
            self._messages.labels("bot_callback", "silence").inc()  # the turn is not kept any more
        except WeConverseError as error:
            log.warning("rating_not_taken", turn=rated.turn, why=error.reason or error.code.name)
            raise Rejected(503, "service") from None
        else:
            self._messages.labels("bot_callback", "rated").inc()

    # --- polls -------------------------------------------------------------------------------

    async def _polled(self, name: str, account: BotCallbackAccount, message: BotMessage) -> dict[str, Any]:
        """The bubble as it is now."""
        named = fetched.named_by(name, message.stream_id)
        if named is None:
            return passive.stream(message.stream_id, fetched.UNKNOWN, finish=True)
        try:
            turn = await self._turn(named.turn)
        except WeConverseError as error:
            # An error might end WeCom's asking, of which nothing is documented.
            log.info("poll_not_answered", turn=named.turn, why=error.reason or error.code.name)
            over = named.sent_at > 0 and self._clock() - named.sent_at > account.timing.last(owed=True)
            return passive.stream(message.stream_id, fetched.STILL_AWAY if over else fetched.NOT_SURE, finish=over)
        if turn is None:
            return passive.stream(message.stream_id, fetched.UNKNOWN, finish=True)
        return await self._bubble(account, message, turn, named.sent_at)

    async def _bubble(
        self, account: BotCallbackAccount, message: BotMessage, turn: Turn, sent_at: int
    ) -> dict[str, Any]:
        shown, timing = message.stream_id, account.timing
        began = fetched.began(turn, sent_at)
        age = self._clock() - began
        if not fetched.ended(turn):
            if age >= timing.close:
                return passive.stream(shown, fetched.closed_early(turn), finish=True)
            return passive.stream(shown, fetched.so_far(turn), finish=False)
        owed = turn.delivery_state == Turn.OWED
        if not fetched.belongs_to_bubble(turn, sent_at, timing.close) or age > timing.last(owed=owed):
            return passive.stream(shown, fetched.SENT_SEPARATELY, finish=True)
        whole = fetched.shown(turn, group=message.chattype == "group")
        until = began + timing.settled_until
        if owed and not (self._clock() <= until and await account.settle(turn.name, whole, until)):
            return passive.stream(shown, whole.content, finish=False)
        return passive.stream(shown, whole.content, finish=True, pictures=whole.pictures)

    async def _turn(self, name: str) -> Turn | None:
        """A turn, from a service that may just be coming back; ``None`` when it has none of that name.

        That is asked for some seconds: a message that was handed over in vain may still be on its way to the disk.

        Raises:
            WeConverseError: nobody knows.
        """
        clock, backoff = asyncio.get_running_loop().time, Backoff(0.1, 0.5)
        missing_since: float | None = None
        try:
            async with asyncio.timeout(self._submit_seconds):
                while True:
                    try:
                        return await self._client.get_turn(name, omit_input=True, timeout=self._submit_seconds)
                    except NotFound:
                        missing_since = missing_since or clock()
                    except Unavailable:
                        missing_since = None
                    await asyncio.sleep(backoff.pause())
        except TimeoutError:
            if missing_since is not None and clock() - missing_since > self._submit_seconds / 2:
                return None
            raise DeadlineExceeded("the service was not reached in time") from None


def _with_key(incoming: Incoming, aeskey: str) -> Incoming:
    """A message with what opens its files."""
    attachments = tuple(msgspec.structs.replace(one, aeskey=one.aeskey or aeskey) for one in incoming.attachments)
    return msgspec.structs.replace(incoming, attachments=attachments)
