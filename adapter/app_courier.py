"""Delivers the replies of one application by ``message/send``: whole turns, part after part."""

import asyncio
from typing import Final, Literal

import msgspec

from adapter.api import WeComApi, encode_markdown, encode_text
from adapter.api_errors import (
    ContentRefused,
    CredentialRefused,
    ReceiverRefused,
    SlowDown,
    WeComError,
    WeComUnreachable,
)
from adapter.metrics import Metrics
from adapter.outcome import Delivered, Outcome, Record, Retry, Undeliverable
from adapter.recently_sent import MemberPace, RecentlySent
from adapter.render import app_parts
from adapter.translate import read_address
from adapter.unsaid import unsaid
from weconverse import Delivery, text_of

_PATIENCE: Final = 60.0
"""Seconds a delivery waits by itself for a frequency limit: a minute is the shortest window WeCom has."""


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the next attempt must know."""

    sent: int = 0
    """Parts that WeCom took. A part that was sent but not recorded is suppressed by the duplicate check."""
    tries: int = 0
    """How often the delivery was put off, for the length of the next pause."""
    clean: int = 0
    """The attempt that ended in the knowledge that nothing beyond ``sent`` had reached WeCom; 0 if none did."""


def read_progress(data: bytes) -> Progress:
    """What an earlier attempt recorded; nothing when that cannot be read."""
    try:
        return msgspec.json.decode(data, type=Progress) if data else Progress()
    except msgspec.MsgspecError:
        return Progress()


class AppCourier:
    """Sends what people of one application are owed.

    The duplicate check of WeCom is on, but for a body that this instance knows the person
    got for another turn within the interval. Two risks remain. After a restart that
    knowledge is gone, and the second of two equal answers may be suppressed. And when a
    send without the check dies without an answer, the repetition has the check on: the
    person may then see two equal answers once.
    """

    def __init__(
        self,
        api: WeComApi,
        metrics: Metrics,
        *,
        agent_id: int,
        reply_type: Literal["text", "markdown"],
        duplicate_check_seconds: int,
        sent: RecentlySent,
        pace: MemberPace,
        longest_pause: float,
    ) -> None:
        """Args: ``longest_pause`` in seconds between two attempts of one delivery."""
        self._agent_id = agent_id
        self._markdown = reply_type == "markdown"
        self._encode = encode_markdown if self._markdown else encode_text
        self._send_body = api.send_markdown if self._markdown else api.send_text
        self._metrics = metrics
        self._interval = duplicate_check_seconds
        self._sent = sent
        self._pace = pace
        self._longest_pause = longest_pause

    async def deliver(self, delivery: Delivery, record: Record) -> Outcome:
        """Sends the parts that were not sent yet. See :class:`adapter.outcome.Courier`."""
        try:
            user = read_address(delivery.address).user
        except ValueError as error:
            return Undeliverable(str(error))
        if unsaid(delivery.ended_turn):
            return Delivered()  # the next answer covers this message too, or a person answers it
        progress = read_progress(delivery.progress)
        suspect = delivery.attempt > 1 and progress.clean != delivery.attempt - 1
        if suspect:
            self._metrics.resend_suspect.labels("app").inc()
        parts = app_parts(text_of(delivery.ended_turn.reply), markdown=self._markdown)
        for number in range(progress.sent, len(parts)):
            try:
                await self._send(user, parts[number], delivery.turn, suspect=suspect)
            except WeComError as error:
                return self._after(error, number, progress, delivery.attempt)
            if number + 1 < len(parts):
                await record(msgspec.json.encode(Progress(number + 1, progress.tries)))
        return Delivered()

    async def _send(self, user: str, part: str, turn: str, *, suspect: bool) -> None:
        body = self._encode(user, self._agent_id, part, duplicate_check=True, interval=self._interval)
        check = suspect or not self._sent.belongs_to_another(user, body, turn)
        waited = 0.0
        while True:
            try:
                await self._send_at_pace(user, part, check=check)
                break
            except SlowDown as slow:
                pause = slow.retry_after or 1.0
                if waited + pause > _PATIENCE:
                    raise
                waited += pause
                await asyncio.sleep(pause)
        self._sent.confirmed(user, body, turn)

    async def _send_at_pace(self, user: str, part: str, *, check: bool) -> None:
        while (wait := self._pace.wait(user)) > 0:
            if wait > _PATIENCE:
                raise SlowDown(45009, "message/send", wait)
            await asyncio.sleep(wait)
        try:
            await self._send_body(user, self._agent_id, part, duplicate_check=check, interval=self._interval)
        except WeComError as error:
            self._metrics.sends.labels("app", _result(error)).inc()
            if isinstance(error, WeComUnreachable) and error.maybe_done:
                self._pace.sent(user)
            raise
        self._pace.sent(user)
        self._metrics.sends.labels("app", "ok").inc()

    def _after(self, error: WeComError, number: int, progress: Progress, attempt: int) -> Outcome:
        if isinstance(error, ReceiverRefused | ContentRefused):
            return Undeliverable(str(error))
        maybe_sent = isinstance(error, WeComUnreachable) and error.maybe_done
        after = min(self._longest_pause, (error.retry_after or 5.0) * 2.0 ** min(progress.tries, 20))
        state = Progress(number, progress.tries + 1, 0 if maybe_sent else attempt)
        return Retry(after, str(error), msgspec.json.encode(state))


def _result(error: WeComError) -> str:
    if isinstance(error, CredentialRefused):
        return "credentials"
    if isinstance(error, SlowDown):
        return "slow_down"
    return "unreachable" if isinstance(error, WeComUnreachable) else "refused"
