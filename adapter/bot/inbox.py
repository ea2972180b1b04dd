"""What people write to a bot, on its way to the service.

The long connection has no acknowledgement of our own to withhold: WeCom repeats a message
only after a reconnect. So what the service does not take is kept here and offered again,
each conversation in order, within bounds of number and of time; a person whose message
was given up is told so. What is lost with this process, WeCom redelivers on the next
connection, as far as it does.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from adapter.access.admission import NotAllowed, Undecided
from adapter.backoff import Backoff
from adapter.callbacks.taking import Submit
from adapter.metrics import Metrics
from adapter.translate import UNREACHABLE, Incoming, sentence
from weconverse import InvalidRequest, RequestIdReused, WeConverseError

log = structlog.get_logger()

_ATTEMPT_SECONDS: Final = 10.0
_LONGEST_PAUSE: Final = 15.0
_UNDECIDED_SECONDS: Final = 30.0
"""How long a message waits for somebody who can say whether its person may: those behind it wait too."""

Tell = Callable[[Incoming, str], Awaitable[None]]
"""Shows a person a sentence in answer to their message. Does not raise."""


class InboxFull(Exception):
    """No more messages can be kept; the caller must make WeCom keep them."""


class _Waiting:
    __slots__ = ("deadline", "incoming")

    def __init__(self, incoming: Incoming, deadline: float) -> None:
        self.incoming = incoming
        self.deadline = deadline


class BotInbox:
    """Submits messages, one at a time for each conversation. Use it as a context manager."""

    def __init__(
        self,
        submit: Submit,
        tell: Tell,
        metrics: Metrics,
        *,
        account: str,
        max_waiting: int = 1000,
        window_seconds: float = 600.0,
        backoff: Callable[[], Backoff] = lambda: Backoff(0.2, _LONGEST_PAUSE),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args: ``window_seconds`` is how long a message is offered to the service."""
        self._submit = submit
        self._tell = tell
        self._counted = metrics.messages
        self._gauge = metrics.waiting_messages.labels(account)
        self._account = account
        self._max_waiting = max_waiting
        self._window_seconds = window_seconds
        self._backoff = backoff
        self._clock = clock
        self._waiting = 0
        self._lanes: dict[str, deque[_Waiting]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "BotInbox":
        return self

    async def __aexit__(self, *_: object) -> None:
        """Ends the lanes. What still waits is named in the log: it was never acknowledged to anybody."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for lane in self._lanes.values():
            for left in lane:
                log.warning("message_left_behind", account=self._account, request_id=left.incoming.request_id)

    @property
    def waiting(self) -> int:
        """Messages that the service has not taken yet."""
        return self._waiting

    def put(self, incoming: Incoming) -> None:
        """Takes a message.

        Raises:
            InboxFull: it was not taken.
        """
        if self._waiting >= self._max_waiting:
            raise InboxFull
        self._count(+1)
        waiting = _Waiting(incoming, self._clock() + self._window_seconds)
        lane = self._lanes.get(incoming.conversation)
        if lane is not None:
            lane.append(waiting)
            return
        self._lanes[incoming.conversation] = deque((waiting,))
        task = asyncio.create_task(self._empty(incoming.conversation), name=f"inbox {self._account}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self, seconds: float) -> None:
        """Waits until nothing waits any more, at most that many seconds."""
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=seconds)

    def _count(self, change: int) -> None:
        self._waiting += change
        self._gauge.set(self._waiting)

    async def _empty(self, conversation: str) -> None:
        lane = self._lanes[conversation]
        while lane:
            await self._hand_over(lane[0])
            lane.popleft()
            self._count(-1)
        del self._lanes[conversation]

    async def _hand_over(self, waiting: _Waiting) -> None:
        pause = self._backoff()
        incoming = waiting.incoming
        undecided_until = min(waiting.deadline, self._clock() + _UNDECIDED_SECONDS)
        while True:
            try:
                await self._submit(incoming, min(_ATTEMPT_SECONDS, max(0.1, waiting.deadline - self._clock())))
            except NotAllowed as refused:
                self._counted.labels("bot", "refused").inc()
                if refused.sentence:
                    await self._tell(incoming, refused.sentence)
                return
            except Undecided as undecided:
                seconds = pause.pause()
                if self._clock() + seconds >= undecided_until:
                    await self._give_up(incoming, undecided, undecided.sentence)
                    return
                await asyncio.sleep(seconds)
            except RequestIdReused:
                log.warning("message_id_reused", account=self._account, request_id=incoming.request_id)
                self._counted.labels("bot", "id_reused").inc()
                return
            except InvalidRequest as error:
                await self._give_up(incoming, error, sentence(error.reason))
                return
            except WeConverseError as error:
                seconds = max(pause.pause(), min(error.retry_after or 0.0, _LONGEST_PAUSE))
                if self._clock() + seconds >= waiting.deadline:
                    await self._give_up(incoming, error, UNREACHABLE)
                    return
                log.warning("message_waits", account=self._account, request_id=incoming.request_id, why=str(error))
                await asyncio.sleep(seconds)
            else:
                self._counted.labels("bot", "taken").inc()
                return

    async def _give_up(self, incoming: Incoming, error: WeConverseError | Undecided, words: str) -> None:
        log.error("message_given_up", account=self._account, request_id=incoming.request_id, why=str(error))
        self._counted.labels("bot", "not_taken").inc()
        await self._tell(incoming, words)
