"""The Messages API over HTTP: Anthropic, and those who copy it."""

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final

import msgspec
import structlog
from yarl import URL

from server.budget import Budget
from server.llm.anthropic_chunks import ReplyReader
from server.llm.anthropic_request import messages_body
from server.llm.authorization import authorization
from server.llm.base import NO_MODEL_TAKES_PICTURES, Chunk, ErrorClass, Prompt, ProviderError
from server.llm.base_address import call_address
from server.llm.endpoint import ModelEndpoint
from server.llm.http_call import HttpOrigin, Outgoing, tracing

_log = structlog.get_logger(__name__)

API_VERSION: Final = "2023-06-01"
"""The form of requests and replies. The one after it takes no temperature of any model; a header
``anthropic-version`` in ``extra_headers`` goes before this."""


class AnthropicHttpProvider:
    """A :class:`~server.llm.base.Backend`; time-outs as :class:`~server.llm.http_call.HttpOrigin` keeps them.

    It keeps one thing between calls beside its connections: whether the model bears a
    temperature. Newer ones refuse every call that has one, their names are not told
    apart by rule, and every assistant has one; so a call that is refused for it is made
    again without, and later ones are made without at once.
    """

    def __init__(self, endpoint: ModelEndpoint, *, wall_clock: Callable[[], float] = time.time) -> None:
        """Args: what to reach, and POSIX time for the dates in ``Retry-After``."""
        self._endpoint = endpoint
        self._url = URL(call_address(endpoint.address, "v1", "messages"), encoded=True)
        self._origin = HttpOrigin(
            endpoint.name, endpoint.settings, overrides=endpoint.side.errors, wall_clock=wall_clock
        )
        self._bears_temperature = True

    async def generate(self, prompt: Prompt, budget: Budget, key: str = "") -> AsyncGenerator[Chunk, None]:
        """See :meth:`server.llm.base.Backend.generate`."""
        if not self._endpoint.takes(prompt):
            raise ProviderError(
                ErrorClass.BAD_REQUEST,
                "the model cannot be shown a picture of this prompt",
                model=self._endpoint.name,
                code=NO_MODEL_TAKES_PICTURES,
            )
        temperature = self._temperature(prompt)
        try:
            async with aclosing(self._ask(prompt, temperature, budget, key)) as chunks:
                async for chunk in chunks:
                    yield chunk
            return
        except ProviderError as error:
            if temperature is None or not _refuses_temperature(error):
                raise
        self._bears_temperature = False
        _log.warning("llm_temperature_refused", model=self._endpoint.name)
        async with aclosing(self._ask(prompt, None, budget, key)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def aclose(self) -> None:
        """See :meth:`server.llm.base.Provider.aclose`."""
        await self._origin.aclose()

    def _temperature(self, prompt: Prompt) -> float | None:
        known = self._endpoint.side.parameters.temperature
        if prompt.temperature is None or known is None or not self._bears_temperature:
            return None
        return known.of(prompt.temperature, self._endpoint.model)

    def _ask(self, prompt: Prompt, temperature: float | None, budget: Budget, key: str) -> AsyncGenerator[Chunk, None]:
        endpoint = self._endpoint
        body = messages_body(
            prompt,
            model=endpoint.model,
            temperature=temperature,
            thinking=endpoint.thinking,
            extra=endpoint.settings.extra_body,
        )
        headers = {
            "anthropic-version": API_VERSION,
            **{name.lower(): value for name, value in endpoint.settings.extra_headers.items()},
            **tracing(prompt),
            **authorization(endpoint.side.auth, key),
        }
        request = Outgoing(self._url, msgspec.json.encode(body), headers, key)
        reader = ReplyReader(endpoint.name, overrides=endpoint.side.errors)
        return self._origin.stream(request, reader, budget)


def _refuses_temperature(error: ProviderError) -> bool:
    return error.status == 400 and error.kind is ErrorClass.BAD_REQUEST and "temperature" in error.detail
