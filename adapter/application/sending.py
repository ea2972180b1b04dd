"""One delivery of an application: its pieces in order, each at the pace that WeCom allows.

``message/send`` has a duplicate check, so a message whose fate is unknown is sent again as
the same bytes. Groups (``appchat/send``) have none: what was sent there is recorded after
each message, and what remains is that the one between the sending and the record may be
seen twice.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final, Protocol

import msgspec
import structlog

from adapter.application.messages import Message, Receiver, call_for, encode, text, to_user
from adapter.application.pieces import File, Said, pieces_of
from adapter.metrics import Metrics
from adapter.outcome import Record
from adapter.recently_sent import MemberPace, RecentlySent
from adapter.rest.api import WeComApi
from adapter.rest.errors import (
    ContentRefused,
    CredentialRefused,
    ReceiverRefused,
    SlowDown,
    WeComError,
    WeComUnreachable,
)
from weconverse import Delivery
from weconverse.v1.conversation_pb2 import Media

log = structlog.get_logger()

PATIENCE: Final = 60.0
"""Seconds a delivery waits by itself for a frequency limit: a minute is the shortest window WeCom has."""

GROUP_MESSAGES_PER_MINUTE: Final = 200
"""What every member of a group may get in all groups of the application; WeCom drops what is beyond (DOC 90454)."""

_TELL_SECONDS: Final = 1.0
"""What is left of WeCom's patience with a callback, after it has been found that there is nothing but this to say."""

_NAME_CHARACTERS: Final = 200
_BAD_MEDIA: Final = 40007
"""The ``media_id`` is not good any more."""


class Upload(Protocol):
    """Gives WeCom the bytes of a file."""

    async def __call__(self, media: Media) -> tuple[str, Mapping[str, Any]]:
        """The ``msgtype`` that shows it, and what belongs to that.

        Raises:
            ContentRefused: WeCom does not take such a file.
            WeComError: it is not known whether it does.
        """
        ...

    def forget(self, media_id: str) -> None:
        """Tells that WeCom has let go of what was put up: the same file is then put up anew."""
        ...


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the next attempt must know."""

    sent: int = 0
    """Messages that WeCom took. One that was sent but not recorded is suppressed by the duplicate check."""
    tries: int = 0
    """How often the delivery was put off, for the length of the next pause."""
    clean: int = 0
    """The attempt that ended in the knowledge that nothing beyond ``sent`` had reached WeCom; 0 if none did."""
    words_from: int | None = None
    """The first piece that WeCom refused and that is said in words, as are those after it."""
    put_up: tuple[str, dict[str, Any]] | None = None
    """What the file behind ``sent`` became when it was put up: the same next time, for the duplicate check."""


def read_progress(data: bytes) -> Progress:
    """What an earlier attempt recorded; nothing when that cannot be read."""
    try:
        return msgspec.json.decode(data, type=Progress) if data else Progress()
    except msgspec.MsgspecError:
        return Progress()


class Outlet(msgspec.Struct, frozen=True, kw_only=True):
    """What all deliveries of one application share."""

    api: WeComApi
    metrics: Metrics
    agent_id: int
    interval: int
    """Seconds for which WeCom suppresses an equal message."""
    sent: RecentlySent
    pace: MemberPace
    group_pace: MemberPace
    markdown: bool
    cards: bool
    upload: Upload | None = None
    """Without it, files are named in words."""
    file_above: int = 0
    """Bytes above which a table or a block of code is sent as a file; 0: never."""


class Sending:
    """Sends what one turn says. ``progress`` is what the next attempt must know, should this one fail."""

    def __init__(
        self, outlet: Outlet, delivery: Delivery, receiver: Receiver, record: Record, *, suspect: bool
    ) -> None:
        """Args: ``suspect`` says that an earlier attempt may have sent the next message already."""
        self._outlet = outlet
        self._delivery = delivery
        self._receiver = receiver
        self._record = record
        self._suspect = suspect
        self._put_up_now = False
        self.progress = read_progress(delivery.progress)

    async def run(self) -> None:
        """Returns when WeCom has all of it.

        Raises:
            WeComError: it has not.
            ValueError: the turn holds what cannot be sent; names the field, the rule and the remedy.
        """
        while self.progress.sent < len(pieces := self._pieces()):
            piece = pieces[self.progress.sent]
            try:
                await self._send(await self._message(piece))
            except ContentRefused as refused:
                if not await self._made_way(piece, refused):
                    raise
                continue
            self._put_up_now = False
            self.progress = msgspec.structs.replace(self.progress, sent=self.progress.sent + 1, put_up=None)
            if self.progress.sent < len(pieces):
                await self._recorded()

    def _pieces(self) -> list[Said | File]:
        return pieces_of(
            self._delivery.ended_turn,
            self._receiver,
            with_markdown=self._outlet.markdown,
            with_cards=self._outlet.cards,
            words_from=self.progress.words_from,
            file_above=self._outlet.file_above if self._outlet.upload is not None else 0,
        )

    async def _recorded(self) -> None:
        await self._record(msgspec.json.encode(self.progress))

    # --- what is sent -----------------------------------------------------------------------

    async def _message(self, piece: Said | File) -> Message:
        if isinstance(piece, Said):
            return piece.message
        if self._outlet.upload is None:
            return text(_named(piece.media))
        if self.progress.put_up is None:
            kind, body = await self._outlet.upload(piece.media)
            await self._put_up(kind, body)
            self._put_up_now = True
        assert self.progress.put_up is not None
        return Message(*self.progress.put_up)

    async def _put_up(self, kind: str, body: Mapping[str, Any]) -> None:
        self.progress = msgspec.structs.replace(self.progress, put_up=(kind, dict(body)))
        await self._recorded()

    async def _made_way(self, piece: Said | File, refused: ContentRefused) -> bool:
        """Whether the refused piece is now sent in another way."""
        progress = self.progress
        if isinstance(piece, Said):
            if piece.rich is None:
                return False
            self.progress = msgspec.structs.replace(progress, words_from=piece.rich)
        elif refused.code == _BAD_MEDIA and progress.put_up and not self._put_up_now:
            # It was put up by an earlier attempt, and WeCom has let go of it.
            if self._outlet.upload is not None:
                self._outlet.upload.forget(str(progress.put_up[1].get("media_id", "")))
            self.progress = msgspec.structs.replace(progress, put_up=None)
        elif progress.put_up is None or progress.put_up[0] != "text":
            await self._put_up("text", {"content": _named(piece.media)})
        else:
            return False
        log.info("reply_shown_differently", turn=self._delivery.turn, code=refused.code)
        await self._recorded()
        return True

    # --- how --------------------------------------------------------------------------------

    async def _send(self, message: Message) -> None:
        outlet, receiver = self._outlet, self._receiver
        which = f"{self._delivery.turn}#{self.progress.sent}"
        body = encode(message, receiver, outlet.agent_id, duplicate_check=True, interval=outlet.interval)
        check = not receiver.chat
        # An equal message of another turn, or elsewhere in this one, is no repetition. After an attempt of
        # unknown fate it may be one.
        if check and not self._suspect and outlet.sent.belongs_to_another(receiver.key, body, which):
            check = False
        request = encode(message, receiver, outlet.agent_id, duplicate_check=check, interval=outlet.interval)
        waited = 0.0
        while True:
            try:
                await self._send_at_pace(request, repeatable=check)
                break
            except SlowDown as slow:
                pause = slow.retry_after or 1.0
                if waited + pause > PATIENCE:
                    raise
                waited += pause
                await asyncio.sleep(pause)
        outlet.sent.confirmed(receiver.key, body, which)

    async def _send_at_pace(self, request: bytes, *, repeatable: bool) -> None:
        outlet, receiver = self._outlet, self._receiver
        call = call_for(receiver)
        while (wait := self._wait()) > 0:
            if wait > PATIENCE:
                raise SlowDown(45009, call, wait)
            await asyncio.sleep(wait)
        try:
            sent = await outlet.api.send(call, request, repeatable=repeatable)
        except WeComError as error:
            outlet.metrics.sends.labels("app", _result(error)).inc()
            if isinstance(error, WeComUnreachable) and error.maybe_done:
                self._counted()
            raise
        self._counted()
        if sent.missed and len(receiver.users) == 1:
            # "Partly failed" is failed here. WeCom answers 0 all the same, and names the person (DOC 90236).
            outlet.metrics.sends.labels("app", "refused").inc()
            raise ReceiverRefused(81013, call)
        outlet.metrics.sends.labels("app", "missed" if sent.missed else "ok").inc()
        # The id is what an operator needs to take the message back.
        log.info("message_sent", turn=self._delivery.turn, msgid=sent.msgid, missed=sent.missed)

    def _wait(self) -> float:
        """Seconds until everybody who is known to get it may get another message."""
        if self._receiver.chat:
            return self._outlet.group_pace.wait(self._receiver.chat)
        return max((self._outlet.pace.wait(user) for user in self._receiver.users), default=0.0)

    def _counted(self) -> None:
        if self._receiver.chat:
            self._outlet.group_pace.sent(self._receiver.chat)
        for user in self._receiver.users:
            self._outlet.pace.sent(user)


async def tell(outlet: Outlet, user: str, sentence: str) -> None:
    """Sends one person a sentence of at most 2048 bytes that is owed to nobody. Does not raise: then nobody is told."""
    message = encode(text(sentence), to_user(user), outlet.agent_id, duplicate_check=True, interval=outlet.interval)
    try:
        async with asyncio.timeout(_TELL_SECONDS):
            await outlet.api.send("message/send", message, repeatable=True)
    except (WeComError, TimeoutError) as error:
        log.warning("not_told", why=str(error) or "late")
        outlet.metrics.sends.labels("app", _result(error) if isinstance(error, WeComError) else "unreachable").inc()
    else:
        outlet.pace.sent(user)
        outlet.metrics.sends.labels("app", "ok").inc()


def _named(media: Media) -> str:
    name = media.display_name[:_NAME_CHARACTERS]
    return f"（文件：{name}，暂时无法发送）" if name else "（有一个文件，暂时无法发送）"


def _result(error: WeComError) -> str:
    if isinstance(error, CredentialRefused):
        return "credentials"
    if isinstance(error, SlowDown):
        return "slow_down"
    return "unreachable" if isinstance(error, WeComUnreachable) else "refused"
