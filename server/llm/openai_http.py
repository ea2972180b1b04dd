"""Any server with an OpenAI-style ``/chat/completions``, over HTTP."""

import time
from collections.abc import AsyncGenerator, Callable
from urllib.parse import urlsplit, urlunsplit

import msgspec
from yarl import URL

from server.budget import Budget
from server.llm.base import Chunk, Prompt
from server.llm.http_call import HttpOrigin, Outgoing, tracing
from server.llm.openai_chunks import ReplyReader
from server.settings import ModelSettings


class OpenAiHttpProvider:
    """A :class:`~server.llm.base.Backend`; time-outs as :class:`~server.llm.http_call.HttpOrigin` keeps them."""

    def __init__(self, name: str, settings: ModelSettings, *, wall_clock: Callable[[], float] = time.time) -> None:
        """Args: the name of the route, and POSIX time for the dates in ``Retry-After``.

        Raises:
            ValueError: if ``base_url`` is not an address.
        """
        self._name = name
        self._settings = settings
        self._url = URL(_endpoint(settings.base_url), encoded=True)
        self._origin = HttpOrigin(name, settings, wall_clock=wall_clock)

    def generate(self, prompt: Prompt, budget: Budget, key: str = "") -> AsyncGenerator[Chunk, None]:
        """See :meth:`server.llm.base.Backend.generate`."""
        headers = tracing(prompt)
        if key:
            headers["Authorization"] = f"Bearer {key}"
        request = Outgoing(self._url, self._body(prompt), headers, key)
        return self._origin.stream(request, ReplyReader(self._name), budget)

    async def aclose(self) -> None:
        """See :meth:`server.llm.base.Provider.aclose`."""
        await self._origin.aclose()

    def _body(self, prompt: Prompt) -> bytes:
        settings = self._settings
        body: dict[str, object] = {
            "model": settings.model or self._name,
            "messages": [{"role": message.role.value, "content": message.text} for message in prompt.messages],
            "stream": True,
        }
        if settings.send_stream_options is not False:
            body["stream_options"] = {"include_usage": True}
        if prompt.temperature is not None:
            body["temperature"] = prompt.temperature
        if prompt.max_output_tokens is not None:
            body[settings.max_tokens_name or "max_tokens"] = prompt.max_output_tokens
        if prompt.user:
            body["user"] = prompt.user
        body.update(settings.extra_body)
        return msgspec.json.encode(body)


def _endpoint(base_url: str) -> str:
    """The address of the call; a query behind the base address is kept (Azure's ``api-version``)."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("base_url must begin with http:// or https:// and name a host")
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + "/chat/completions", fragment=""))
