"""Door 5: the robot of a group (DOC 91770). It hears nothing; programs push messages through it.

WeCom has nothing against doubles here, and no way to ask what was sent. So each message is
recorded right before it is sent and after it; what remains is that one whose sending nobody saw
end is sent again, and may be seen twice. ``resend_suspect_total`` counts these.
"""

import base64
import hashlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import msgspec
import structlog

from adapter.cards import flaws
from adapter.media.kinds import amr_seconds
from adapter.media.upload import NotSendable, Sources
from adapter.metrics import Metrics
from adapter.outcome import Delivered, Outcome, Record, Undeliverable, put_off
from adapter.rest.errors import ContentRefused, RequestRefused, SlowDown, WeComError, WeComUnreachable
from adapter.robot.api import GONE, RobotApi
from adapter.robot.messages import File, Piece, Said, Style, mentions_of, pieces_of
from adapter.robot.pace import RobotPace
from adapter.text.capabilities import DOORS, VOICE_SECONDS, kind_for
from weconverse import Delivery
from weconverse.v1.conversation_pb2 import Media

log = structlog.get_logger()

_WINDOWS: Final = 10
"""How many windows of WeCom one message waits for here before its delivery is put off."""
_FILES: Final = DOORS["robot_text"].files
_GONE: Final = {
    93000: "the key is wrong or the robot was removed from its group; give the key of a robot that is there",
    93004: "the robot is disabled; enable it in its group",
}


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the next attempt must know."""

    sent: int = 0
    """Messages that WeCom took."""
    trying: bool = False
    """Whether the one behind them was being sent, and nobody knows how that ended."""
    tries: int = 0
    """How often the delivery was put off."""


def read_progress(data: bytes) -> Progress:
    """What an earlier attempt recorded; nothing when that cannot be read."""
    try:
        return msgspec.json.decode(data, type=Progress) if data else Progress()
    except msgspec.MsgspecError:
        return Progress()


class RobotCourier:
    """Sends what is pushed through one robot, at the pace that WeCom allows."""

    def __init__(
        self,
        api: RobotApi,
        sources: Sources,
        pace: RobotPace,
        metrics: Metrics,
        *,
        style: Style = "auto",
        longest_pause: float = 1800.0,
    ) -> None:
        """Args: ``longest_pause`` in seconds between two attempts of one delivery."""
        self._api = api
        self._sources = sources
        self._pace = pace
        self._metrics = metrics
        self._style = style
        self._longest_pause = longest_pause

    async def deliver(self, delivery: Delivery, record: Record) -> Outcome:
        """Sends the messages that were not sent yet. See :class:`adapter.outcome.Courier`."""
        if not delivery.pushed:
            return Undeliverable("the robot of a group answers nobody; only pushes go through it")
        progress = read_progress(delivery.progress)
        if progress.trying:
            self._metrics.resend_suspect.labels("robot").inc()
        try:
            mentions = mentions_of(delivery.recipient)
            pieces = pieces_of(delivery.ended_turn.reply.parts, mentions, self._style)
        except ValueError as error:
            return Undeliverable(str(error))
        if delivery.attempt == 1:
            for flaw in flaws(delivery.ended_turn, "robot"):
                log.warning("card_said_in_words", turn=delivery.turn, why=flaw)
        for number in range(progress.sent, len(pieces)):
            try:
                body = await self._body(pieces[number])
                trying = msgspec.json.encode(Progress(number, trying=True, tries=progress.tries))
                await self._send(body, partial(record, trying))
            except WeComError as error:
                return self._after(error, Progress(number, tries=progress.tries))
            if number + 1 < len(pieces):
                await record(msgspec.json.encode(Progress(number + 1, tries=progress.tries)))
        return Delivered()

    async def _send(self, body: dict[str, Any], note: Callable[[], Awaitable[None]]) -> None:
        """Sends one message in its turn; ``note`` is called when it is about to leave, and not while it waits."""
        for left in reversed(range(_WINDOWS)):
            async with self._pace.place():
                await note()
                try:
                    with self._metrics.send_seconds.time():
                        await self._api.send(body)
                except SlowDown as slow:
                    self._metrics.sends.labels("robot", "slow_down").inc()
                    self._pace.blocked(slow.retry_after or 60.0)
                    if left == 0:
                        raise
                except WeComError as error:
                    unreachable = isinstance(error, WeComUnreachable)
                    self._metrics.sends.labels("robot", "unreachable" if unreachable else "refused").inc()
                    raise
                else:
                    self._metrics.sends.labels("robot", "ok").inc()
                    return

    async def _body(self, piece: Piece) -> dict[str, Any]:
        """The message of a piece; a file is put up for it. What cannot be sent is named instead."""
        if isinstance(piece, Said):
            return piece.body
        assert isinstance(piece, File)
        try:
            return await self._of_file(piece.media)
        except NotSendable as error:
            log.info("file_not_sendable", why=str(error))
            return _said_instead(piece.media)

    async def _of_file(self, media: Media) -> dict[str, Any]:
        file = await self._sources.bytes_of(media)
        seconds = amr_seconds(file.data, VOICE_SECONDS) if file.mime_type == "audio/amr" else 0.0
        kind = kind_for(_FILES, file.mime_type, len(file.data), voice_seconds=seconds)
        if kind is None:
            raise NotSendable(f"{len(file.data)} bytes of {file.mime_type} are not what a robot sends")
        if kind == "image":
            digest = hashlib.md5(file.data, usedforsecurity=False).hexdigest()
            return {"msgtype": "image", "image": {"base64": base64.b64encode(file.data).decode(), "md5": digest}}
        return {"msgtype": kind, kind: {"media_id": await self._api.upload(kind, file.name, file.data)}}

    def _after(self, error: WeComError, progress: Progress) -> Outcome:
        if isinstance(error, RequestRefused) and error.code in GONE:
            return Undeliverable(f"{error}: {_GONE[error.code]}")
        if isinstance(error, ContentRefused):
            return Undeliverable(str(error))
        maybe_sent = isinstance(error, WeComUnreachable) and error.maybe_done
        after = min(self._longest_pause, (error.retry_after or 5.0) * 2.0 ** min(progress.tries, 20))
        state = Progress(progress.sent, maybe_sent, progress.tries + 1)
        return put_off(after, str(error), msgspec.json.encode(state), waits=error.waits)


def _said_instead(media: Media) -> dict[str, Any]:
    name = " ".join(media.display_name.split())[:100]
    return {"msgtype": "text", "text": {"content": f"（文件{f'“{name}”' if name else ''}无法发送）"}}
