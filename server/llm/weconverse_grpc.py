"""Another WeConverse server as a model: what an edge node stands in front of.

The assistant of the other server answers, with its instructions, models and policy; this
one keeps the memory of the conversation and what it has of cache and limits.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Final

import structlog

from server.budget import Budget
from server.llm.base import Chunk, ErrorClass, Prompt, ProviderError
from server.llm.failure_lines import log_failure
from server.llm.grpc_call import GrpcLine, Metadata, Method, Shape
from server.llm.grpc_failures import RpcStatus, failure_of
from server.llm.weconverse_shapes import EventReader, error_of, request_of
from server.settings import ModelSettings
from weconverse.v1 import conversation_pb2 as pb

_log = structlog.get_logger(__name__)

_SERVICE: Final = pb.DESCRIPTOR.services_by_name["ConversationService"].full_name
_STREAM: Final = Method(f"/{_SERVICE}/StreamConverse", pb.StreamConverseResponse)
_CANCEL: Final = Method(f"/{_SERVICE}/CancelTurn", pb.Turn, Shape.UNARY)

_DOMAIN: Final = "weconverse.v1"

RECONNECT_SECONDS: Final = 10.0
"""How long the line may be gone in the middle of a reply before another route is better: a restart
of the other server takes less."""

_FIRST_PAUSE_SECONDS: Final = 0.2
_LONGEST_PAUSE_SECONDS: Final = 1.0

GOODBYE_SECONDS: Final = 2.0
"""How long telling the other server that nobody waits any more may take."""

_GOODBYES_AT_A_TIME: Final = 64
"""Beyond that the other server finds out by itself, half a minute later."""

_LINE_LOST: Final = frozenset({"unavailable", "SHUTTING_DOWN", "STORE_UNAVAILABLE"})
"""Codes of errors after which the turn itself may go on, or its server may come back."""


class WeConverseBackend:
    """A :class:`~server.llm.base.Backend` over ``weconverse.v1``.

    A line that is cut in the middle of a reply is taken up again, within
    :data:`RECONNECT_SECONDS` and the budget: the reply goes on where it was, or, if the
    other server has lost it, begins anew in the same turn (:attr:`Chunk.restart`). Before
    anything of a reply has come, failing is the caller's business, who may have other routes.

    Closing the generator ends the turn there at once, if the line allows it. Otherwise
    the other server lets it run on for its ``turns.linger_seconds``.
    """

    def __init__(
        self,
        name: str,
        settings: ModelSettings,
        node_id: str,
        *,
        random: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Args: the route's name, this server's name among servers, jitter in [0, 1).

        Raises:
            ValueError: as :class:`~server.llm.grpc_channel.Endpoint`.
        """
        self._name = name
        self._assistant = settings.assistant
        self._node_id = node_id
        self._random = random
        self._sleep = sleep
        self._line = GrpcLine(name, settings.target, settings, explain=_explain)
        self._goodbyes: set[asyncio.Task[None]] = set()

    async def generate(self, prompt: Prompt, budget: Budget, key: str = "") -> AsyncGenerator[Chunk, None]:
        """See :meth:`server.llm.base.Backend.generate`."""
        request = self._request(prompt)
        reader = EventReader(self._name)
        waits_there = True
        try:
            async with aclosing(self._over_cuts(request, reader, budget, key)) as chunks:
                async for chunk in chunks:
                    waits_there = chunk.finish is None
                    yield chunk
        except ProviderError as error:
            # What failed there does not wait; what was too slow does.
            waits_there = error.kind is ErrorClass.TIMEOUT and reader.sequence > 0
            raise
        finally:
            if waits_there:
                self._say_goodbye(f"{request.conversation}/turns/{request.request_id}", key)

    async def aclose(self) -> None:
        """See :meth:`server.llm.base.Provider.aclose`."""
        await asyncio.gather(*self._goodbyes)
        await self._line.aclose()

    def _request(self, prompt: Prompt) -> pb.ConverseRequest:
        try:
            return request_of(prompt, assistant=self._assistant, node_id=self._node_id)
        except ProviderError as error:
            error.model = self._name
            raise

    async def _over_cuts(
        self, request: pb.ConverseRequest, reader: EventReader, budget: Budget, key: str
    ) -> AsyncGenerator[Chunk, None]:
        """One reply, over as many calls as its line needs."""
        patience, tries = budget, 0
        while True:
            seen = reader.sequence
            try:
                async with aclosing(
                    self._line.generate(_STREAM, request, reader, budget, key=key, metadata=_authorization(key))
                ) as chunks:
                    async for chunk in chunks:
                        yield chunk
            except ProviderError as error:
                if tries == 0 or reader.sequence != seen:
                    patience, tries = budget.part(RECONNECT_SECONDS), 0
                pause = self._pause(tries)
                if not (reader.arrived and error.code in _LINE_LOST and pause < patience.remaining()):
                    raise
                log_failure(_log.info, "edge_line_lost", error, model=self._name, tries=tries)
            else:
                return
            tries += 1
            await self._sleep(pause)

    def _pause(self, tries: int) -> float:
        """Doubling, at random down to half."""
        bound = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * float(2 ** min(tries, 8)))
        return bound * (0.5 + 0.5 * self._random())

    def _say_goodbye(self, turn: str, key: str) -> None:
        """Has the turn stopped there: it would keep a model busy, and the next question of its conversation waiting."""
        if len(self._goodbyes) < _GOODBYES_AT_A_TIME:
            task = asyncio.create_task(self._cancel(turn, key))
            self._goodbyes.add(task)
            task.add_done_callback(self._goodbyes.discard)

    async def _cancel(self, turn: str, key: str) -> None:
        try:
            await self._line.ask(
                _CANCEL,
                pb.CancelTurnRequest(name=turn),
                Budget(GOODBYE_SECONDS),
                key=key,
                metadata=_authorization(key),
            )
        except ProviderError as error:
            log_failure(_log.info, "edge_goodbye_failed", error, model=self._name)


def _authorization(key: str) -> Metadata:
    return (("authorization", f"Bearer {key}"),) if key else ()


def _explain(status: RpcStatus, begun: bool) -> ProviderError:
    """The error for a status: by the reason of the contract, and by the status where there is none."""
    if status.domain == _DOMAIN:
        found = error_of(
            status.reason, status.message, status.metadata, status=status.number, retry_after=status.retry_after
        )
        if found is not None:
            return found
    return failure_of(status, begun=begun)
