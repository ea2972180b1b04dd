"""The Messages API over HTTP: Anthropic, and those who copy it."""

import time
from collections.abc import AsyncGenerator, Callable
from typing import Final

import msgspec
from yarl import URL

from server.budget import Budget
from server.llm.anthropic.chunks import ReplyReader
from server.llm.anthropic.manners import Manners
from server.llm.anthropic.request import messages_body
from server.llm.authorization import authorization
from server.llm.base import Chunk, Prompt
from server.llm.base_address import call_address
from server.llm.endpoint import ModelEndpoint
from server.llm.http_call import HttpOrigin, Outgoing, tracing
from server.llm.learning import Body, Learning

API_VERSION: Final = "2023-06-01"
"""The form of requests and replies. The one after it takes no temperature of any model; a header
``anthropic-version`` in ``extra_headers`` goes before this."""


class AnthropicHttpProvider:
    """A :class:`~server.llm.base.Backend`; time-outs as :class:`~server.llm.http_call.HttpOrigin` keeps them.

    Beside its connections it keeps one thing between calls: the model's
    :class:`~server.llm.anthropic.manners.Manners`.
    """

    def __init__(self, endpoint: ModelEndpoint, *, wall_clock: Callable[[], float] = time.time) -> None:
        """Args: what to reach, and POSIX time for the dates in ``Retry-After``."""
        self._endpoint = endpoint
        self._url = URL(call_address(endpoint.address, "v1", "messages"), encoded=True)
        self._origin = HttpOrigin(
            endpoint.name, endpoint.settings, overrides=endpoint.side.errors, wall_clock=wall_clock
        )
        self._learning = Learning(endpoint.name, Manners())

    def generate(self, prompt: Prompt, budget: Budget, key: str = "") -> AsyncGenerator[Chunk, None]:
        """See :meth:`server.llm.base.Backend.generate`."""
        return self._learning.generate(
            lambda manners: self._body(prompt, manners), lambda body: self._ask(prompt, body, budget, key)
        )

    async def aclose(self) -> None:
        """See :meth:`server.llm.base.Provider.aclose`."""
        await self._origin.aclose()

    def _body(self, prompt: Prompt, manners: Manners) -> dict[str, object]:
        endpoint = self._endpoint
        if not endpoint.takes(prompt):
            raise endpoint.refusal_of_picture()
        temperature: float | None = None
        known = endpoint.side.parameters.temperature
        if known is not None and prompt.temperature is not None and manners.bears_temperature:
            temperature = known.of(prompt.temperature, endpoint.model)
        return messages_body(
            prompt,
            model=endpoint.model,
            temperature=temperature,
            thinking=manners.thinking(endpoint.thinking),
            extra=endpoint.settings.extra_body,
        )

    def _ask(self, prompt: Prompt, body: Body, budget: Budget, key: str) -> AsyncGenerator[Chunk, None]:
        endpoint = self._endpoint
        headers = {
            "anthropic-version": API_VERSION,
            **endpoint.settings.extra_headers,
            **tracing(prompt),
            **authorization(endpoint.side.auth, key),
        }
        request = Outgoing(self._url, msgspec.json.encode(body), headers, key)
        reader = ReplyReader(endpoint.name, overrides=endpoint.side.errors)
        return self._origin.stream(request, reader, budget)
