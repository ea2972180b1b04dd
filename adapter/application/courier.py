"""Delivers what people of one application are owed, and what the company pushes through it."""

import msgspec
import structlog

from adapter.application.messages import Receiver, receiver_of, to_user
from adapter.application.sending import Outlet, Progress, Sending, read_progress
from adapter.cards import flaws
from adapter.outcome import Delivered, Outcome, Record, Undeliverable, put_off
from adapter.rest.errors import ContentRefused, ReceiverRefused, WeComError, WeComUnreachable
from adapter.translate import read_address
from adapter.unsaid import unsaid
from weconverse import Delivery

log = structlog.get_logger()


class AppCourier:
    """Sends whole turns, message after message.

    The duplicate check of WeCom is on, but for a body that this instance knows the person
    got for another turn within the interval. Two risks remain. After a restart that
    knowledge is gone, and the second of two equal answers may be suppressed. And when a
    send without the check dies without an answer, the repetition has the check on: the
    person may then see two equal answers once.
    """

    def __init__(self, outlet: Outlet, *, longest_pause: float) -> None:
        """Args: ``longest_pause`` in seconds between two attempts of one delivery."""
        self._outlet = outlet
        self._longest_pause = longest_pause

    async def deliver(self, delivery: Delivery, record: Record) -> Outcome:
        """Sends what was not sent yet. See :class:`adapter.outcome.Courier`."""
        try:
            receiver = _receiver(delivery)
        except ValueError as error:
            return Undeliverable(str(error))
        if unsaid(delivery.ended_turn):
            return Delivered()
        if delivery.attempt == 1:
            for flaw in flaws(delivery.ended_turn, "app"):
                log.warning("card_said_in_words", turn=delivery.turn, why=flaw)
        suspect = delivery.attempt > 1 and read_progress(delivery.progress).clean != delivery.attempt - 1
        if suspect:
            self._outlet.metrics.resend_suspect.labels("app").inc()
        sending = Sending(self._outlet, delivery, receiver, record, suspect=suspect)
        try:
            await sending.run()
        except WeComError as error:
            return self._after(error, sending.progress, delivery.attempt)
        except ValueError as error:
            return Undeliverable(str(error))
        return Delivered()

    def _after(self, error: WeComError, progress: Progress, attempt: int) -> Outcome:
        if isinstance(error, ReceiverRefused | ContentRefused):
            return Undeliverable(str(error))
        maybe_sent = isinstance(error, WeComUnreachable) and error.maybe_done
        after = min(self._longest_pause, (error.retry_after or 5.0) * 2.0 ** min(progress.tries, 20))
        clean = 0 if maybe_sent else attempt
        state = msgspec.structs.replace(progress, tries=progress.tries + 1, clean=clean)
        return put_off(after, str(error), msgspec.json.encode(state), waits=error.waits)


def _receiver(delivery: Delivery) -> Receiver:
    """Raises :class:`ValueError` where it is nobody that an application can write to."""
    return receiver_of(delivery.recipient) if delivery.pushed else to_user(read_address(delivery.address).user)
