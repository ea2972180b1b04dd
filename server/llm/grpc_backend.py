"""What backends over gRPC have in common whose replies are one call each."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Generic, TypeVar

from google.protobuf.message import Message

from server.budget import Budget
from server.llm.base import Chunk, Prompt
from server.llm.endpoint import ModelEndpoint
from server.llm.grpc_call import GrpcLine, MessageReader, Metadata, Method
from server.llm.grpc_request import metadata_of

M = TypeVar("M", bound=Message)


class GrpcBackend(ABC, Generic[M]):
    """A :class:`~server.llm.base.Backend`; time-outs as :class:`~server.llm.grpc_call.GrpcLine` keeps them.

    A vendor says what to call, what to ask, and how the answer is read.
    """

    def __init__(
        self,
        endpoint: ModelEndpoint,
        method: Method[M],
        reader: Callable[[str], MessageReader[M]],
        *,
        metadata: Metadata = (),
    ) -> None:
        """Args: what to reach, the call, what makes a reader for the name of the route, and what accompanies each call.

        Raises:
            ValueError: for an address that cannot work; the message begins with the setting.
        """
        self._endpoint = endpoint
        self._method = method
        self._reader = reader
        self._metadata = metadata
        self._line = GrpcLine(endpoint.name, endpoint.address, endpoint.settings, overrides=endpoint.side.errors)

    @abstractmethod
    def _request(self, prompt: Prompt) -> Message:
        """The request for a prompt.

        Raises:
            ProviderError: if the model cannot be asked this.
        """

    async def generate(self, prompt: Prompt, budget: Budget, key: str = "") -> AsyncGenerator[Chunk, None]:
        """See :meth:`server.llm.base.Backend.generate`."""
        metadata = [*metadata_of(prompt, self._endpoint.side.auth, key), *self._metadata]
        reader = self._reader(self._endpoint.name)
        answer = self._line.generate(self._method, self._request(prompt), reader, budget, key=key, metadata=metadata)
        async with aclosing(answer) as chunks:
            async for chunk in chunks:
                yield chunk

    async def aclose(self) -> None:
        """See :meth:`server.llm.base.Provider.aclose`."""
        await self._line.aclose()
