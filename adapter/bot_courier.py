"""Delivers the replies of one bot, and says what became of each."""

import msgspec

from adapter.bot_errors import RECEIVER, SLOW_DOWN, TOO_LONG, BotError, FrameRefused
from adapter.bot_line import BotLine
from adapter.bot_showing import BotTiming, Progress, Showing, read_progress
from adapter.metrics import Metrics
from adapter.outcome import Delivered, Outcome, Record, Retry, Undeliverable
from adapter.translate import read_address
from weconverse import ConversationClient, Delivery, NotFound


class BotCourier:
    """Shows what people of one bot are owed."""

    def __init__(
        self,
        client: ConversationClient,
        line: BotLine,
        metrics: Metrics,
        *,
        timing: BotTiming,
        longest_pause: float = 1800.0,
    ) -> None:
        """Args: ``longest_pause`` in seconds between two attempts of one delivery."""
        self._client = client
        self._line = line
        self._metrics = metrics
        self._timing = timing
        self._longest_pause = longest_pause

    async def deliver(self, delivery: Delivery, record: Record) -> Outcome:
        """Shows the reply as it grows, then as it is. See :class:`adapter.outcome.Courier`."""
        try:
            address = read_address(delivery.address)
        except ValueError as error:
            return Undeliverable(str(error))
        if delivery.attempt > 1 and read_progress(delivery.progress).proactive:
            self._metrics.resend_suspect.labels("bot").inc()
        showing = Showing(self._client, self._line, self._timing, delivery=delivery, address=address, record=record)
        try:
            await showing.run()
        except NotFound:
            return Undeliverable("the turn does not exist any more")
        except FrameRefused as refused:
            self._metrics.sends.labels("bot", "refused").inc()
            if refused.code in RECEIVER or refused.code in TOO_LONG:
                return Undeliverable(str(refused))
            return self._later(SLOW_DOWN.get(refused.code, 5.0), refused, showing.progress)
        except BotError as error:
            self._metrics.sends.labels("bot", "unreachable").inc()
            return self._later(2.0, error, showing.progress)
        self._metrics.sends.labels("bot", "ok").inc()
        return Delivered()

    def _later(self, seconds: float, error: BotError, progress: Progress) -> Retry:
        after = min(self._longest_pause, seconds * 2.0 ** min(progress.tries, 20))
        state = msgspec.structs.replace(progress, tries=progress.tries + 1)
        return Retry(after, str(error), msgspec.json.encode(state))
