"""Chats that nobody watches share calls, where the backend says that it takes several at once."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Final

import msgspec
import structlog

from server.budget import Budget
from server.llm.base import Backend, Chunk, ErrorClass, Prompt, ProviderError
from server.llm.endpoint import ModelEndpoint
from server.llm.failure_lines import log_failure
from server.llm.http_call import HttpOrigin
from server.llm.microbatch import MicroBatcher
from server.llm.openai.shared_chat import ChatArray, CompletionsArray, SharedChat
from server.llm.openai.shared_replies import MAX_BYTES_PER_REPLY

MOST_KINDS: Final = 32
"""Kinds of prompts (sampling settings and key) that are gathered at a time; others go alone."""

CALLS_AT_A_TIME: Final = 16
"""Shared calls of one kind under way. Backends that take such calls put prompts together by themselves too."""

_BLAMES_A_PROMPT: Final = frozenset({ErrorClass.BAD_REQUEST, ErrorClass.CONTENT, ErrorClass.CONTEXT})
"""When several prompts were sent together, one of them may have brought this on the others."""

_log = structlog.get_logger(__name__)

_Batcher = MicroBatcher[Prompt, Chunk]


class BatchedChat:
    """A :class:`~server.llm.base.Backend` in front of the plain one of the same model.

    A prompt shares a call only if it is ``patient`` and has no pictures; everything else
    goes the plain way, untouched. So does a patient one that is alone: with nothing under
    way it goes at once, as a chat like any other. Prompts that share a call have the same
    sampling settings and the same key; each gets its own reply, in one chunk, or its own error.
    A refusal that may be the fault of a single prompt is found out about by asking for each alone.
    """

    def __init__(self, plain: Backend, endpoint: ModelEndpoint, *, wall_clock: Callable[[], float] = time.time) -> None:
        """Args: ``plain`` is closed with this one. The endpoint's setting ``batch`` is not ``none``."""
        self._plain = plain
        self._endpoint = endpoint
        self._origin = HttpOrigin(
            endpoint.name, endpoint.settings, overrides=endpoint.side.errors, wall_clock=wall_clock
        )
        array = ChatArray if endpoint.settings.batch == "vllm_chat_batch" else CompletionsArray
        self._shared: SharedChat = array(endpoint, self._origin)
        self._offered = True
        self._batchers: OrderedDict[bytes, _Batcher] = OrderedDict()
        self._closed = False

    async def generate(self, prompt: Prompt, budget: Budget, key: str = "") -> AsyncGenerator[Chunk, None]:
        """See :meth:`server.llm.base.Backend.generate`."""
        batcher = self._batcher(prompt, key) if prompt.patient and not _has_pictures(prompt) else None
        if batcher is not None:
            yield await self._ask(batcher, prompt, budget)
            return
        async with aclosing(self._plain.generate(prompt, budget, key)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def aclose(self) -> None:
        """See :meth:`server.llm.base.Provider.aclose`."""
        self._closed = True
        for batcher in self._batchers.values():
            await batcher.aclose()
        await self._origin.aclose()
        await self._plain.aclose()

    async def _ask(self, batcher: _Batcher, prompt: Prompt, budget: Budget) -> Chunk:
        try:
            return await batcher.ask(prompt, budget)
        except ProviderError as error:
            error.model = self._endpoint.name
            raise

    def _batcher(self, prompt: Prompt, key: str) -> _Batcher | None:
        """Where prompts of this kind gather; ``None`` where they do not."""
        if self._closed or not self._offered:
            return None
        kind = msgspec.json.encode((prompt.temperature, prompt.max_output_tokens, key))
        batcher = self._batchers.get(kind)
        if batcher is None:
            if len(self._batchers) >= MOST_KINDS and not self._forget_an_idle_one():
                return None
            settings = self._endpoint.settings
            batcher = self._batchers[kind] = MicroBatcher(
                partial(self._replies, key=key),
                size=settings.batch_size,
                seconds=settings.batch_milliseconds / 1000,
                calls=CALLS_AT_A_TIME,
            )
        self._batchers.move_to_end(kind)
        return batcher

    def _forget_an_idle_one(self) -> bool:
        for kind, batcher in self._batchers.items():
            if batcher.idle:
                del self._batchers[kind]
                return True
        return False

    async def _replies(self, prompts: Sequence[Prompt], budget: Budget, *, key: str) -> Sequence[Chunk | ProviderError]:
        if len(prompts) == 1 or not self._offered:
            return await self._each_alone(prompts, budget, key)
        # Whose pseudonym would stand for all of them?
        nameless = [msgspec.structs.replace(prompt, user="") for prompt in prompts]
        try:
            return await self._shared.call(nameless, budget, key)
        except ProviderError as error:
            if error.kind not in _BLAMES_A_PROMPT and error.kind is not ErrorClass.NOT_FOUND:
                raise
            replies = await self._each_alone(prompts, budget, key)
            if error.kind is ErrorClass.NOT_FOUND and any(isinstance(reply, Chunk) for reply in replies):
                self._offered = False
                log_failure(_log.warning, "llm_batch_not_offered", error, model=self._endpoint.name)
            return replies

    async def _each_alone(self, prompts: Sequence[Prompt], budget: Budget, key: str) -> Sequence[Chunk | ProviderError]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._alone(prompt, budget, key)) for prompt in prompts]
        return [task.result() for task in tasks]

    async def _alone(self, prompt: Prompt, budget: Budget, key: str) -> Chunk | ProviderError:
        """One reply of the plain backend, put together."""
        text: list[str] = []
        thoughts: list[str] = []
        room = MAX_BYTES_PER_REPLY
        try:
            async with aclosing(self._plain.generate(prompt, budget, key)) as chunks:
                async for chunk in chunks:
                    text.append(chunk.text)
                    thoughts.append(chunk.reasoning)
                    room -= len(chunk.text) + len(chunk.reasoning)
                    if chunk.finish is not None:
                        return Chunk("".join(text), "".join(thoughts), chunk.finish, chunk.usage, chunk.model)
                    if room < 0:
                        return ProviderError(ErrorClass.INCOMPLETE, "the reply is too long to be kept")
        except ProviderError as error:
            return error
        return ProviderError(ErrorClass.INCOMPLETE, "the backend ended without a finish reason")


def _has_pictures(prompt: Prompt) -> bool:
    return any(message.images for message in prompt.messages)
