"""Door 2: an intelligent bot over the long connection (DOC 101463).

A bot may have one connection, so one instance holds the exclusive lease of its account,
and only that one connects. Being kicked by WeCom means that somebody connects without the
lease: this instance then gives the lease up and stays away for a while, so that two of
them never take the bot from each other for ever.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from adapter.bot_bubble import CMD, stream_id
from adapter.bot_errors import BotError
from adapter.bot_inbox import BotInbox, InboxFull, Tell
from adapter.bot_line import BotLine, Kicked, PushRefused
from adapter.delivery import Lease, Standing
from adapter.metrics import Metrics
from adapter.render import has_visible, split
from adapter.translate import Greeting, Incoming, from_bot_message, read_address
from adapter.wire import Frame, parse_bot_message, stream_frame, welcome_frame
from weconverse import WeConverseError

log = structlog.get_logger()

_WELCOME_CMD: Final = "aibot_respond_welcome_msg"
_WELCOME_SECONDS: Final = 4.0
"""WeCom takes a welcome for 5 seconds (DOC 101463)."""
_WELCOME_BYTES: Final = 2048
_GRACE_SECONDS: Final = 10.0
"""How long the connection outlives a lost lease: the service may just be restarting, and subscribing is
rate-limited. Whoever gets the lease meanwhile takes the connection over, and this one is told so."""
_MAX_GREETINGS: Final = 64
_TELL_SECONDS: Final = 30.0


def telling(line: BotLine) -> Tell:
    """Answers messages that the service never took with a sentence, in a bubble of their own."""

    async def tell(incoming: Incoming, words: str) -> None:
        req_id = read_address(incoming.address).req_id
        frame = stream_frame(req_id, stream_id(f"{incoming.conversation} {incoming.request_id}"), words, finish=True)
        try:
            await line.request(req_id, frame, CMD, wait_seconds=_TELL_SECONDS)
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
        kicked_pause: float = 60.0,
        grace_seconds: float = _GRACE_SECONDS,
        pseudonym_key: bytes = b"",
    ) -> None:
        """Args: ``greeting`` asks the service what to say to a person who opens the chat; empty is silence."""
        self._line = line
        self._lease = lease
        self._inbox = inbox
        self._messages = metrics.messages
        self._account = account
        self._name = name
        self._greeting = greeting
        self._kicked_pause = kicked_pause
        self._grace_seconds = grace_seconds
        self._pseudonym_key = pseudonym_key
        self._standing: Standing = "detached"
        self._changed = asyncio.Event()
        self._greetings: set[asyncio.Task[None]] = set()

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
                tasks = [connecting, leasing, *self._greetings]
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
                try:
                    self._inbox.put(meaning)
                except InboxFull:
                    log.error("inbox_full", account=self._account, request_id=meaning.request_id)  # noqa: TRY400  # no defect
                    raise PushRefused from None
            case Greeting() if len(self._greetings) < _MAX_GREETINGS:
                task = asyncio.create_task(self._greet(frame.req_id, message.userid), name=f"greeting {self._account}")
                self._greetings.add(task)
                task.add_done_callback(self._greetings.discard)
            case _:
                self._messages.labels("bot", "silence").inc()

    async def _greet(self, req_id: str, person: str) -> None:
        try:
            async with asyncio.timeout(_WELCOME_SECONDS):
                words = await self._greeting(person)
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
