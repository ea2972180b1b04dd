"""Hands a message that WeCom waits over to the service before WeCom's patience ends.

A callback is acknowledged when the service has the message on disk, and not before: WeCom
forgets what was acknowledged, and repeats what was not, about three times in five seconds
each. So a service that is away is waited for within those five. A repetition is the same
turn at the service, so a replay has no second effect.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from adapter.backoff import Backoff
from adapter.callbacks.gate import Rejected
from adapter.metrics import Metrics
from adapter.translate import Incoming, sentence
from weconverse import InvalidRequest, RequestIdReused, Unavailable, WeConverseError

log = structlog.get_logger()

Submit = Callable[[Incoming, float], Awaitable[None]]
"""Hands a message to the service within that many seconds; raises :class:`WeConverseError`."""


class Unfit(Exception):
    """The service does not take this message, however often it is offered; ``sentence`` is for its person."""

    def __init__(self, sentence: str) -> None:
        super().__init__("not to be taken")
        self.sentence = sentence


class Taking:
    """Hands the messages of one door over, and counts what became of them."""

    def __init__(self, metrics: Metrics, *, door: str, submit_seconds: float = 3.5) -> None:
        """Args: ``door`` is a label for metrics; WeCom waits for 5 seconds."""
        self._outcome = {
            name: metrics.messages.labels(door, name) for name in ("taken", "not_taken", "id_reused", "unfit")
        }
        self._submit_seconds = submit_seconds

    async def take(self, submit: Submit, incoming: Incoming) -> None:
        """Returns when the service has the message on disk.

        Raises:
            Rejected: it does not; WeCom has to come again.
            Unfit: it never will.
        """
        try:
            async with asyncio.timeout(self._submit_seconds):
                await self._offer(submit, incoming)
        except RequestIdReused as reused:
            # The id is taken by another message, and will be next time: repeating cannot help.
            log.warning("message_id_reused", conversation=incoming.conversation, turn=reused.metadata.get("turn", ""))
            self._outcome["id_reused"].inc()
        except InvalidRequest as error:
            self._outcome["unfit"].inc()
            log.warning("message_unfit", request_id=incoming.request_id, why=error.reason or error.code.name)
            raise Unfit(sentence(error.reason)) from None
        except WeConverseError as error:
            self._outcome["not_taken"].inc()
            log.warning("message_not_taken", request_id=incoming.request_id, why=error.reason or error.code.name)
            raise Rejected(503, "service") from None
        except TimeoutError:
            self._outcome["not_taken"].inc()
            log.warning("message_not_taken", request_id=incoming.request_id, why="late")
            raise Rejected(503, "service") from None
        else:
            self._outcome["taken"].inc()

    async def _offer(self, submit: Submit, incoming: Incoming) -> None:
        """Offers a message until the service is there. Without end: the caller bounds it.

        Saying no at once would use up WeCom's repetitions while a service that was
        restarted comes back.
        """
        backoff = Backoff(0.1, 0.5)
        while True:
            try:
                return await submit(incoming, self._submit_seconds)
            except Unavailable as error:
                log.debug("service_away", request_id=incoming.request_id, why=error.reason or error.code.name)
            await asyncio.sleep(backoff.pause())
