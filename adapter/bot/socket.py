"""Door 2: an intelligent bot over the long connection (DOC 101463).

A bot may have one connection, so one instance holds the exclusive lease of its account,
and only that one connects. Being kicked by WeCom means that somebody connects without the
lease: this instance then gives the lease up and stays away for a while, so that two of
them never take the bot from each other for ever.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Final

import structlog

from adapter.bot.bubble import CMD, stream_id
from adapter.bot.connection import new_req_id
from adapter.bot.errors import BotError
from adapter.bot.inbox import BotInbox, InboxFull, Tell
from adapter.bot.line import BotLine, Kicked, PushRefused
from adapter.bot.translate import from_bot_message
from adapter.cards import chosen_card
from adapter.delivery import Lease, Standing
from adapter.metrics import Metrics
from adapter.text.render import clean, has_visible, split
from adapter.translate import Chosen, Greeting, Incoming, Rated, read_address
from adapter.wire import Frame, parse_bot_message, send_frame, stream_frame, update_card_frame, welcome_frame
from weconverse import WeConverseError

log = structlog.get_logger()

_WELCOME_CMD: Final = "aibot_respond_welcome_msg"
_WELCOME_SECONDS: Final = 4.0
"""WeCom takes a welcome for 5 seconds (DOC 101463)."""
_WELCOME_BYTES: Final = 2048
_GRACE_SECONDS: Final = 10.0
"""How long the connection outlives a lost lease: the service may just be restarting, and subscribing is
rate-limited. Whoever gets the lease meanwhile takes the connection over, and this one is told so."""
_UPDATE_CMD: Final = "aibot_respond_update_msg"
_UPDATE_SECONDS: Final = 4.0
"""The same holds for the card that takes a touched one's place."""
_MAX_ERRANDS: Final = 256
"""Greetings, cards and ratings under way; what comes beside them is let go of: nobody is owed it."""
_TELL_SECONDS: Final = 30.0


def telling(line: BotLine) -> Tell:
    """Answers messages that the service never took with a sentence, in a bubble of their own."""

    async def tell(incoming: Incoming, words: str) -> None:
        address = read_address(incoming.address)
        req_id, cmd = address.req_id, CMD
        if req_id:
            shown = stream_id(f"{incoming.conversation} {incoming.request_id}")
            frame = stream_frame(req_id, shown, words, finish=True)
        else:  # what answers no message of its own, such as a choice on a card
            cmd = "aibot_send_msg"
            req_id = new_req_id(cmd)
            frame = send_frame(req_id, address.target, 2 if address.chat else 1, "markdown", {"content": words})
        try:
            await line.request(req_id, frame, cmd, wait_seconds=_TELL_SECONDS)
        except BotError as error:
            log.warning("person_not_told", request_id=incoming.request_id, why=str(error))

    return tell


class BotDoor:
    """Runs one bot: connected while this instance has the lease."""

    def __init__(
        self,
        line: BotLine,
        lease: Lease,
        inbox: BotInbox,
        metrics: Metrics,
        *,
        account: str,
        name: str,
        greeting: Callable[[str], Awaitable[str]],
        rate: Callable[[Rated], Awaitable[None]],
        kicked_pause: float = 60.0,
        grace_seconds: float = _GRACE_SECONDS,
        pseudonym_key: bytes = b"",
    ) -> None:
        """Args:
        greeting: asks the service what to say to a person who opens the chat; empty is silence.
        rate: tells the service of a rating; may raise :class:`WeConverseError`.
        """
        self._line = line
        self._lease = lease
        self._inbox = inbox
        self._messages = metrics.messages
        self._account = account
        self._name = name
        self._greeting = greeting
        self._rate = rate
        self._kicked_pause = kicked_pause
        self._grace_seconds = grace_seconds
        self._pseudonym_key = pseudonym_key
        self._standing: Standing = "detached"
        self._changed = asyncio.Event()
        self._errands: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Returns after :meth:`drain`, or runs until it is cancelled."""
        async with self._inbox:
            connecting = asyncio.create_task(self._connect_while_active(), name=f"bot {self._account}")
            leasing = asyncio.create_task(self._lease.run(self._on_change), name=f"lease of bot {self._account}")
            try:
                await asyncio.wait((connecting, leasing), return_when=asyncio.FIRST_COMPLETED)
                if connecting.done():
                    connecting.result()
                leasing.result()
            finally:
                tasks = [connecting, leasing, *self._errands]
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def drain(self, seconds: float) -> None:
        """Lets what is under way finish for at most that many seconds; then :meth:`run` returns."""
        await asyncio.gather(self._lease.drain(seconds), self._inbox.drain(seconds))

    # --- the lease and the connection --------------------------------------------------------

    def _on_change(self, standing: Standing) -> None:
        self._standing = standing
        self._changed.set()

    async def _until(self, *standings: Standing) -> None:
        # One task waits here at a time, so clearing takes the news from nobody.
        while self._standing not in standings:
            self._changed.clear()
            await self._changed.wait()

    async def _connect_while_active(self) -> None:
        while True:
            await self._until("active")
            try:
                await self._connect_until_inactive()
            except Kicked:
                if self._standing != "active":
                    # Whoever has the lease now took over what this one kept for a while: all is well.
                    log.info("bot_handed_over", account=self._account)
                    continue
                log.warning("bot_taken_over", account=self._account, pause=self._kicked_pause)
                self._lease.leave(self._kicked_pause)
                await self._until("detached")

    async def _connect_until_inactive(self) -> None:
        keeping = asyncio.create_task(self._line.keep(self._push), name=f"line of bot {self._account}")
        watching = asyncio.create_task(self._until_truly_inactive(), name=f"grace of bot {self._account}")
        try:
            await asyncio.wait((keeping, watching), return_when=asyncio.FIRST_COMPLETED)
            if keeping.done():
                keeping.result()
        finally:
            for task in (keeping, watching):
                task.cancel()
            await asyncio.gather(keeping, watching, return_exceptions=True)

    async def _until_truly_inactive(self) -> None:
        """Returns when another instance is active, or nobody has known for a while."""
        while True:
            await self._until("standby", "detached")
            if self._standing == "standby":
                return
            try:
                async with asyncio.timeout(self._grace_seconds):
                    await self._until("active", "standby")
            except TimeoutError:
                return

    # --- what WeCom pushes -------------------------------------------------------------------

    def _push(self, frame: Frame) -> None:
        message = parse_bot_message(frame.body)
        meaning = from_bot_message(self._account, self._name, message, req_id=frame.req_id, key=self._pseudonym_key)
        match meaning:
            case Incoming():
                self._take(meaning)
            case Chosen(incoming=incoming):
                self._take(incoming)
                self._send_off(self._show_choice(frame.req_id, meaning))
            case Greeting():
                self._send_off(self._greet(frame.req_id, message.userid))
            case Rated():
                self._send_off(self._note_rating(meaning))
            case _:
                self._messages.labels("bot", "silence").inc()

    def _take(self, incoming: Incoming) -> None:
        try:
            self._inbox.put(incoming)
        except InboxFull:
            log.error("inbox_full", account=self._account, request_id=incoming.request_id)  # noqa: TRY400  # no defect
            raise PushRefused from None

    def _send_off(self, errand: Coroutine[None, None, None]) -> None:
        if len(self._errands) >= _MAX_ERRANDS:
            errand.close()
            return
        task = asyncio.create_task(errand, name=f"errand of bot {self._account}")
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)

    async def _greet(self, req_id: str, person: str) -> None:
        try:
            async with asyncio.timeout(_WELCOME_SECONDS):
                words = clean(await self._greeting(person))
                if has_visible(words):
                    text = split(words, _WELCOME_BYTES, numbered=False)[0]
                    await self._line.request(
                        req_id, welcome_frame(req_id, text), _WELCOME_CMD, wait_seconds=_WELCOME_SECONDS
                    )
        except (BotError, WeConverseError, TimeoutError) as error:
            log.warning("not_welcomed", account=self._account, why=str(error) or type(error).__name__)
            self._messages.labels("bot", "not_welcomed").inc()
        else:
            self._messages.labels("bot", "welcomed").inc()

    async def _show_choice(self, req_id: str, chosen: Chosen) -> None:
        """Shows on the card what was chosen. The choice itself goes its own way: it is a message."""
        if not chosen.task_id:
            return
        card = chosen_card(chosen.task_id, chosen.said)
        frame = update_card_frame(req_id, card, (chosen.user,) if chosen.group else ())
        try:
            async with asyncio.timeout(_UPDATE_SECONDS):
                await self._line.request(req_id, frame, _UPDATE_CMD, wait_seconds=_UPDATE_SECONDS)
        except (BotError, TimeoutError) as error:
            log.info("card_not_updated", account=self._account, why=str(error) or type(error).__name__)

    async def _note_rating(self, rated: Rated) -> None:
        try:
            await self._rate(rated)
        except WeConverseError as error:
            log.warning("rating_not_taken", turn=rated.turn, why=error.reason or error.code.name)
            self._messages.labels("bot", "not_rated").inc()
        else:
            self._messages.labels("bot", "rated").inc()
