"""Submits messages whole: with the bytes of what belongs to them.

Two ways, by what WeCom does with a message that is not acknowledged. Over the long
connection nobody waits, so a message is fetched once and offered until it is taken.
A callback is repeated after five seconds, and a fetch may take longer than that. So it goes
on, and ends in the submission, also when the callback it began with was answered with "not
yet"; the first repetition that finds the message on disk acknowledges it. Nothing is
acknowledged before, and nothing depends on there being a repetition.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog
from cachetools import TTLCache

from adapter.backoff import Backoff
from adapter.callbacks.gate import Rejected
from adapter.callbacks.taking import Submit
from adapter.media.attachments import Attachments
from adapter.translate import Incoming, read_address
from weconverse import InvalidRequest, RequestIdReused, Unavailable

log = structlog.get_logger()

_MOST: Final = 1000
_REPEATED_SECONDS: Final = 20.0
"""A message that is older was held up on its way, so its age says nothing about WeCom's next repetition."""
_LEAST_SECONDS: Final = 1.5
_ATTEMPT_SECONDS: Final = 10.0
_PATIENCE: Final = 20.0
"""Seconds for which a message that is whole is offered to the service."""

Key = tuple[str, str]


class FilledSubmission:
    """A :data:`adapter.callbacks.taking.Submit` that fetches first, once for all attempts at a message."""

    def __init__(self, submit: Submit, attachments: Attachments, *, seconds: float, kept_seconds: float) -> None:
        """Args: ``seconds`` for a fetch; ``kept_seconds`` is how long a message is offered again and again."""
        self._submit = submit
        self._attachments = attachments
        self._seconds = seconds
        self._kept: TTLCache[Key, Incoming] = TTLCache(_MOST, kept_seconds)

    async def __call__(self, incoming: Incoming, seconds: float) -> None:
        """Returns when the service has the message on disk; ``seconds`` are for that, without the fetch.

        Raises:
            WeConverseError: as ``submit`` does.
        """
        if not incoming.attachments:
            await self._submit(incoming, seconds)
            return
        self._kept.expire()  # what was given up elsewhere must not take up the room
        key = (incoming.conversation, incoming.request_id)
        whole = self._kept.get(key)
        if whole is None:
            whole = self._kept[key] = await self._attachments.fill(incoming, self._seconds)
        try:
            await self._submit(whole, seconds)
        except (InvalidRequest, RequestIdReused):
            self._kept.pop(key, None)
            raise
        self._kept.pop(key, None)


class WholeSubmission:
    """A :data:`adapter.callbacks.taking.Submit` that fetches first, for callbacks. Close it with :meth:`aclose`."""

    def __init__(
        self,
        submit: Submit,
        attachments: Attachments,
        *,
        seconds: float,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Args: ``seconds`` from when a message was sent until it is submitted with what is there."""
        self._submit = submit
        self._attachments = attachments
        self._seconds = seconds
        self._now = now
        self._under_way: dict[Key, asyncio.Task[None]] = {}
        self._on_disk: TTLCache[Key, bool] = TTLCache(10 * _MOST, 60.0)

    async def __call__(self, incoming: Incoming, seconds: float) -> None:
        """Returns when the service has the message on disk. The caller bounds the time; the work goes on.

        Raises:
            WeConverseError: as ``submit`` does.
            Rejected: too many fetches are under way.
        """
        if not incoming.attachments:
            await self._submit(incoming, seconds)
            return
        key = (incoming.conversation, incoming.request_id)
        if key in self._on_disk:
            return
        await asyncio.shield(self._under_way.get(key) or self._begin(key, incoming))

    async def aclose(self) -> None:
        """Ends what is under way: it was not acknowledged, so WeCom comes again."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, key: Key, incoming: Incoming) -> asyncio.Task[None]:
        if len(self._under_way) >= _MOST:
            raise Rejected(503, "media")
        task = asyncio.create_task(self._work(incoming), name=f"attachments of {incoming.request_id}")
        self._under_way[key] = task
        task.add_done_callback(lambda ended: self._ended(key, ended))
        return task

    def _ended(self, key: Key, task: asyncio.Task[None]) -> None:
        del self._under_way[key]
        if task.cancelled():
            return
        if (error := task.exception()) is None:
            self._on_disk[key] = True
        else:
            # Whoever still waits has the error; WeCom's next repetition begins anew.
            log.info("whole_message_not_taken", request_id=key[1], why=type(error).__name__)

    async def _work(self, incoming: Incoming) -> None:
        age = self._now() - (read_address(incoming.address).create_time or self._now())
        left = self._seconds - (age if 0 < age < _REPEATED_SECONDS else 0.0)
        whole = await self._attachments.fill(incoming, max(_LEAST_SECONDS, left))
        backoff, until = Backoff(0.2, 2.0), time.monotonic() + _PATIENCE
        while True:
            try:
                return await self._submit(whole, _ATTEMPT_SECONDS)
            except Unavailable as error:
                if time.monotonic() >= until:
                    raise
                log.debug("service_away", request_id=incoming.request_id, why=error.reason or error.code.name)
            await asyncio.sleep(backoff.pause())
