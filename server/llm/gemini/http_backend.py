"""Gemini over HTTP. The same models over gRPC: ``grpc_backend.py``."""

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from urllib.parse import quote

import msgspec
from yarl import URL

from server.budget import Budget
from server.llm.authorization import authorization
from server.llm.base import Chunk, Prompt
from server.llm.base_address import call_address
from server.llm.endpoint import ModelEndpoint
from server.llm.gemini.chunks import ReplyReader
from server.llm.gemini.request import request_for, resource_name
from server.llm.http_call import HttpOrigin, Outgoing, tracing
from server.llm.presets import laid_over


class GeminiHttpProvider:
    """A :class:`~server.llm.base.Backend`; time-outs as :class:`~server.llm.http_call.HttpOrigin` keeps them."""

    def __init__(self, endpoint: ModelEndpoint, *, wall_clock: Callable[[], float] = time.time) -> None:
        """Args: what to reach, and POSIX time for the dates in ``Retry-After``."""
        self._endpoint = endpoint
        path = f"{quote(resource_name(endpoint.model), safe='/')}:streamGenerateContent"
        self._url = URL(call_address(endpoint.address, "v1beta", path, "alt=sse"), encoded=True)
        self._origin = HttpOrigin(
            endpoint.name, endpoint.settings, overrides=endpoint.side.errors, wall_clock=wall_clock
        )

    async def generate(self, prompt: Prompt, budget: Budget, key: str = "") -> AsyncGenerator[Chunk, None]:
        """See :meth:`server.llm.base.Backend.generate`."""
        endpoint = self._endpoint
        if not endpoint.takes(prompt):
            raise endpoint.refusal_of_picture()
        headers = {
            **endpoint.settings.extra_headers,
            **tracing(prompt),
            **authorization(endpoint.side.auth, key),
        }
        request = Outgoing(self._url, self._body(prompt), headers, key)
        async with aclosing(
            self._origin.stream(request, ReplyReader(endpoint.name, overrides=endpoint.side.errors), budget)
        ) as chunks:
            async for chunk in chunks:
                yield chunk

    async def aclose(self) -> None:
        """See :meth:`server.llm.base.Provider.aclose`."""
        await self._origin.aclose()

    def _body(self, prompt: Prompt) -> bytes:
        endpoint = self._endpoint
        known = endpoint.side.parameters.temperature
        temperature = known.of(prompt.temperature, endpoint.model) if known and prompt.temperature is not None else None
        request = request_for(prompt, temperature=temperature, thinking=endpoint.thinking)
        extra = endpoint.settings.extra_body
        # Table by table: `extra_body` may say topP without unsaying the temperature beside it.
        return msgspec.json.encode(laid_over(msgspec.to_builtins(request), extra) if extra else request)
