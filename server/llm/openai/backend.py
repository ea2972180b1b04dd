"""Any server with an OpenAI-style ``/chat/completions``, over HTTP."""

import time
from collections.abc import AsyncGenerator, Callable
from urllib.parse import urlsplit, urlunsplit

from yarl import URL

from server.budget import Budget
from server.llm.authorization import authorization
from server.llm.base import Chunk, Prompt
from server.llm.endpoint import ModelEndpoint
from server.llm.http_call import HttpOrigin, Outgoing, tracing
from server.llm.learning import Body, Learning
from server.llm.openai.chunks import ReplyReader
from server.llm.openai.manners import Manners
from server.llm.openai.request import OpenAiRequest


class OpenAiHttpProvider:
    """A :class:`~server.llm.base.Backend`; time-outs as :class:`~server.llm.http_call.HttpOrigin` keeps them.

    It always asks for a stream: some models think, or answer at length, in no other way.

    Beside its connections it keeps one thing between calls: the model's
    :class:`~server.llm.openai.manners.Manners`.
    """

    def __init__(self, endpoint: ModelEndpoint, *, wall_clock: Callable[[], float] = time.time) -> None:
        """Args: what to reach, and POSIX time for the dates in ``Retry-After``."""
        self._endpoint = endpoint
        self._url = URL(chat_address(endpoint.address), encoded=True)
        self._request = OpenAiRequest(endpoint)
        self._origin = HttpOrigin(
            endpoint.name, endpoint.settings, overrides=endpoint.side.errors, wall_clock=wall_clock
        )
        self._learning = Learning(endpoint.name, Manners())

    def generate(self, prompt: Prompt, budget: Budget, key: str = "") -> AsyncGenerator[Chunk, None]:
        """See :meth:`server.llm.base.Backend.generate`."""
        return self._learning.generate(
            lambda manners: manners.shown(self._request.streamed(prompt)),
            lambda body: self._ask(prompt, body, budget, key),
        )

    def _ask(self, prompt: Prompt, body: Body, budget: Budget, key: str) -> AsyncGenerator[Chunk, None]:
        side = self._endpoint.side
        headers = {**self._endpoint.settings.extra_headers, **tracing(prompt), **authorization(side.auth, key)}
        request = Outgoing(self._url, self._request.encoded(body), headers, key)
        return self._origin.stream(request, ReplyReader(self._endpoint.name, overrides=side.errors), budget)

    async def aclose(self) -> None:
        """See :meth:`server.llm.base.Provider.aclose`."""
        await self._origin.aclose()


def chat_address(base_url: str) -> str:
    """The address of the call; a query behind the base address is kept (Azure's ``api-version``)."""
    parts = urlsplit(base_url)
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + "/chat/completions", fragment=""))
