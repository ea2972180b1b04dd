"""The two ways in which OpenAI-style servers answer several prompts in one call."""

from collections.abc import Sequence
from contextlib import aclosing
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

import msgspec
from yarl import URL

from server.budget import Budget
from server.llm.authorization import authorization
from server.llm.base import Chunk, Prompt, ProviderError
from server.llm.endpoint import ModelEndpoint
from server.llm.http_call import HttpOrigin, Outgoing
from server.llm.openai.request import OpenAiRequest
from server.llm.openai.shared_replies import MAX_BYTES_PER_REPLY, SharedReplies
from server.llm.prompt_text import chatml


class SharedChat(Protocol):
    """One call for several prompts that differ in nothing but their messages."""

    async def call(self, prompts: Sequence[Prompt], budget: Budget, key: str) -> list[Chunk | ProviderError]:
        """Each reply as one chunk, or why there is none; in the order of the prompts.

        Raises:
            ProviderError: if the call came to nothing for any of them.
        """
        ...


class ChatArray:
    """vLLM's ``/chat/completions/batch``: a list of conversations, and the replies in one JSON body.

    The server applies the model's own template, so the replies are those of single calls.
    It says nothing until the last one is complete: only ``total_seconds`` bounds the wait.
    """

    def __init__(self, endpoint: ModelEndpoint, origin: HttpOrigin) -> None:
        self._endpoint = endpoint
        self._origin = origin
        self._request = OpenAiRequest(endpoint)
        self._url = _address(endpoint, "/chat/completions/batch")

    async def call(self, prompts: Sequence[Prompt], budget: Budget, key: str) -> list[Chunk | ProviderError]:
        """See :meth:`SharedChat.call`."""
        body = self._request.parameters(prompts[0])
        # A prompt that shares a call has no pictures, so its text is all there is.
        body["messages"] = [
            [{"role": message.role.value, "content": message.text} for message in prompt.messages] for prompt in prompts
        ]
        body.update(self._endpoint.thinking)
        body.update(self._endpoint.settings.extra_body)
        replies = SharedReplies(self._endpoint.name, _lengths(prompts), overrides=self._endpoint.side.errors)
        outgoing = _outgoing(self._endpoint, self._url, body, key)
        replies.feed(await self._origin.fetch(outgoing, budget, MAX_BYTES_PER_REPLY * len(prompts)))
        replies.close()
        return replies.outcomes()


class CompletionsArray:
    """``/completions`` with an array of prompts. The replies come as one stream, piece by piece.

    The server applies no template here: prompts are written as ChatML, and a reply ends
    where ChatML ends a message. For models that were trained on it, as Qwen's were.
    """

    def __init__(self, endpoint: ModelEndpoint, origin: HttpOrigin) -> None:
        self._endpoint = endpoint
        self._origin = origin
        self._request = OpenAiRequest(endpoint)
        self._url = _address(endpoint, "/completions")

    async def call(self, prompts: Sequence[Prompt], budget: Budget, key: str) -> list[Chunk | ProviderError]:
        """See :meth:`SharedChat.call`. Replies that were complete before a stream broke off are given."""
        endpoint = self._endpoint
        body = self._request.parameters(prompts[0])
        body["prompt"] = [chatml(prompt.messages) for prompt in prompts]
        body["stop"] = ["<|im_end|>"]
        body["stream"] = True
        if endpoint.side.parameters.stream_options:
            body["stream_options"] = {"include_usage": True}
        body.update(endpoint.settings.extra_body)
        replies = SharedReplies(endpoint.name, _lengths(prompts), overrides=endpoint.side.errors)
        outgoing = _outgoing(endpoint, self._url, body, key)
        try:
            async with aclosing(self._origin.stream(outgoing, replies, budget)) as chunks:
                async for _ in chunks:
                    pass
        except ProviderError as error:
            outcomes = replies.outcomes(error)
            if all(isinstance(outcome, ProviderError) for outcome in outcomes):
                raise
            return outcomes
        return replies.outcomes()


def _address(endpoint: ModelEndpoint, path: str) -> URL:
    parts = urlsplit(endpoint.address)
    return URL(urlunsplit(parts._replace(path=parts.path.rstrip("/") + path, fragment="")), encoded=True)


def _outgoing(endpoint: ModelEndpoint, url: URL, body: dict[str, object], key: str) -> Outgoing:
    headers = {**endpoint.settings.extra_headers, **authorization(endpoint.side.auth, key)}
    return Outgoing(url, msgspec.json.encode(body), headers, key)


def _lengths(prompts: Sequence[Prompt]) -> list[int]:
    return [sum(len(message.text) for message in prompt.messages) for prompt in prompts]
