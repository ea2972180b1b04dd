"""Delivers the replies of one bot, and says what became of each."""

from typing import Final

import msgspec
import structlog
from cachetools import TTLCache

from adapter.bot.errors import RECEIVER, SLOW_DOWN, TOO_LONG, BotError, FrameRefused, NotConnected, OverBudget
from adapter.bot.line import BotLine
from adapter.bot.showing import BotTiming, Progress, Showing, Upload, read_progress
from adapter.cards import check_not_native, flaws
from adapter.metrics import Metrics
from adapter.outcome import Delivered, Outcome, Record, Undeliverable, Waiting, put_off
from adapter.recently_sent import MemberPace
from adapter.translate import Address, read_address
from weconverse import ConversationClient, Delivery, NotFound

log = structlog.get_logger()

_MOST_SHOWN: Final = 10_000
_SHOWN_SECONDS: Final = 3600.0
"""How long this process remembers what it has shown of a turn; the service has the record by then."""

_NOT_REACHED: Final = (
    "the person never wrote to the bot, or the bot is not in the group; whoever shall get messages has to write first"
)


def receiver(recipient: str) -> Address:
    """Whom a message of our own accord is for: ``user:`` with a UserID, or ``chat:`` with the id of a group.

    Case counts in both (DOC 101463).

    Raises:
        ValueError: neither of them.
    """
    kind, _, name = recipient.partition(":")
    if kind not in ("user", "chat") or not name:
        raise ValueError("recipient: is neither user:USERID nor chat:CHATID")
    if kind == "user":
        return Address(door="bot", user=name)
    return Address(door="bot", user="", chat=name, chat_type="group")


class BotCourier:
    """Shows what people of one bot are owed, and sends what is pushed to them."""

    def __init__(
        self,
        client: ConversationClient,
        line: BotLine,
        metrics: Metrics,
        *,
        timing: BotTiming,
        pace: MemberPace,
        upload: Upload | None = None,
        longest_pause: float = 1800.0,
    ) -> None:
        """Args:
        pace: how many messages a conversation may get.
        upload: gives WeCom the bytes of files; without it they are said in words.
        longest_pause: in seconds between two attempts of one delivery.
        """
        self._client = client
        self._line = line
        self._metrics = metrics
        self._timing = timing
        self._pace = pace
        self._upload = upload
        self._longest_pause = longest_pause
        self._shown: TTLCache[str, Progress] = TTLCache(_MOST_SHOWN, _SHOWN_SECONDS)

    async def deliver(self, delivery: Delivery, record: Record) -> Outcome:
        """Shows the reply as it grows, then as it is. See :class:`adapter.outcome.Courier`."""
        try:
            address = receiver(delivery.recipient) if delivery.pushed else read_address(delivery.address)
            check_not_native(delivery.ended_turn.reply.parts)
        except ValueError as error:
            return Undeliverable(str(error))
        if delivery.attempt == 1:
            for flaw in flaws(delivery.ended_turn, "bot"):
                log.warning("card_said_in_words", turn=delivery.turn, why=flaw)
        recorded = read_progress(delivery.progress)
        # Of our own accord, or behind the bubble.
        unprotected = not address.req_id or recorded.proactive or recorded.sent > 0
        if delivery.attempt > 1 and unprotected and delivery.turn not in self._shown:
            self._metrics.resend_suspect.labels("bot").inc()
        showing = Showing(
            self._client,
            self._line,
            self._timing,
            delivery=delivery,
            address=address,
            record=record,
            pace=self._pace,
            shown=self._shown,
            upload=self._upload,
        )
        try:
            await showing.run()
        except NotFound:
            return Undeliverable("the turn does not exist any more")
        except OverBudget as over:
            self._metrics.sends.labels("bot", "slow_down").inc()
            state = msgspec.structs.replace(showing.progress, tries=showing.progress.tries + 1)
            return Waiting(min(self._longest_pause, over.after), str(over), msgspec.json.encode(state))
        except FrameRefused as refused:
            self._metrics.sends.labels("bot", "slow_down" if refused.code in SLOW_DOWN else "refused").inc()
            if refused.code in RECEIVER:
                return Undeliverable(f"{refused}: {_NOT_REACHED}")
            if refused.code in TOO_LONG:
                return Undeliverable(str(refused))
            pause = SLOW_DOWN.get(refused.code)
            return self._later(pause or 5.0, refused, showing.progress, waits=pause is not None)
        except BotError as error:
            self._metrics.sends.labels("bot", "unreachable").inc()
            return self._later(2.0, error, showing.progress, waits=isinstance(error, NotConnected))
        self._metrics.sends.labels("bot", "ok").inc()
        return Delivered()

    def _later(self, seconds: float, error: BotError, progress: Progress, *, waits: bool) -> Outcome:
        after = min(self._longest_pause, seconds * 2.0 ** min(progress.tries, 20))
        state = msgspec.structs.replace(progress, tries=progress.tries + 1)
        return put_off(after, str(error), msgspec.json.encode(state), waits=waits)
