"""vLLM and SGLang over gRPC, in tokens: template, tokeniser and reading are done on this side.

These engines know neither keys nor TLS, so they are reached on this machine, or behind a
proxy that asks for a client certificate.
"""

import asyncio
import importlib.util
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from typing import Final

import msgspec

from server.budget import Budget
from server.llm.base import Chunk, ErrorClass, Prompt, ProviderError
from server.llm.endpoint import ModelEndpoint
from server.llm.engine.dialects import Dialect, EngineFacts, SglangDialect, VllmDialect
from server.llm.engine.reply import EngineReader
from server.llm.engine.sampling import Sampling, sampling_for, sampling_of_settings
from server.llm.engine.tokenizer import EngineTokenizer
from server.llm.grpc_call import GrpcLine
from server.llm.grpc_request import metadata_of
from server.llm.prompt_messages import Tokenized
from server.llm.unguarded import require_protection

ABORT_SECONDS: Final = 2.0
"""How long an engine may take to hear that a reply is not wanted any more."""

_DOUBTFUL: Final = frozenset({ErrorClass.TRANSIENT, ErrorClass.INCOMPLETE})
"""Failures behind which an engine may have been started again."""

_PACKAGES: Final = ("jinja2", "tokenizers")


class EngineBackend:
    """A :class:`~server.llm.base.Backend`; time-outs as :class:`~server.llm.grpc_call.GrpcLine` keeps them.

    The first call also fetches the tokeniser, within ``first_token_seconds``.
    """

    def __init__(
        self, endpoint: ModelEndpoint, dialect: Dialect, *, new_id: Callable[[], str] = lambda: secrets.token_hex(8)
    ) -> None:
        """Args: what to reach; how it speaks; what tells two attempts of one request apart.

        Raises:
            ValueError: for a setting that cannot work; the message begins with its name.
        """
        missing = [package for package in _PACKAGES if importlib.util.find_spec(package) is None]
        if missing:
            raise ValueError(
                f"protocol: {endpoint.protocol} needs {' and '.join(missing)}: pip install -r requirements-extras.lock"
            )
        require_protection(endpoint.address, endpoint.settings, mutual=True)
        self._extra, self._chosen = sampling_of_settings(endpoint.settings.extra_body)
        self._endpoint = endpoint
        self._dialect = dialect
        self._new_id = new_id
        self._line = GrpcLine(endpoint.name, endpoint.address, endpoint.settings, overrides=endpoint.side.errors)
        self._tokenizer = EngineTokenizer(self._line, dialect)
        self._aborts: set[asyncio.Task[None]] = set()

    async def generate(self, prompt: Prompt, budget: Budget, key: str = "") -> AsyncGenerator[Chunk, None]:
        """See :meth:`server.llm.base.Backend.generate`."""
        request_id = f"{prompt.request_id[:64]}-{self._new_id()}"
        reader, answer = await self._asked(request_id, prompt, budget, key)
        unwanted = True
        try:
            async with aclosing(answer) as chunks:
                async for chunk in chunks:
                    unwanted = chunk.finish is None
                    yield chunk
        except ProviderError as error:
            unwanted = error.kind is ErrorClass.TIMEOUT
            if error.kind in _DOUBTFUL or "vocab" in error.detail:
                # The second: it was asked with tokens that it does not have.
                self._tokenizer.doubt()
            raise
        finally:
            if unwanted or reader.enough:
                self._abort(request_id)

    async def aclose(self) -> None:
        """See :meth:`server.llm.base.Provider.aclose`."""
        await asyncio.gather(*self._aborts)
        await self._tokenizer.aclose()
        await self._line.aclose()

    async def _asked(
        self, request_id: str, prompt: Prompt, budget: Budget, key: str
    ) -> tuple[EngineReader, AsyncGenerator[Chunk, None]]:
        """The call that will generate the reply, and what reads it. Nothing is sent yet."""
        first = budget.part(self._endpoint.settings.first_token_seconds)
        try:
            if not self._endpoint.takes(prompt):
                raise self._endpoint.refusal_of_picture()
            engine = await self._tokenizer.ready(first)
            self._check_name(engine.facts)
            asked = await engine.process.tokenize(prompt.messages, self._endpoint.thinking, first)
            sampling = _within(
                sampling_for(prompt, engine.facts.sampling, self._extra, self._chosen), engine.facts, asked
            )
            request = self._dialect.request(request_id, asked.ids, sampling)
        except ProviderError as error:
            error.model = self._endpoint.name
            raise
        except (ValueError, TypeError) as error:
            # Protobuf's words for a number that does not fit in its field.
            raise ProviderError(
                ErrorClass.BAD_REQUEST, f"a sampling parameter cannot be sent: {error}", model=self._endpoint.name
            ) from None
        reader = EngineReader(self._endpoint.name, self._dialect, engine.vocabulary, asked, sampling.stop)
        metadata = metadata_of(prompt, self._endpoint.side.auth, key)
        return reader, self._line.generate(self._dialect.generate, request, reader, budget, key=key, metadata=metadata)

    def _check_name(self, facts: EngineFacts) -> None:
        """A request names no model, so another one would answer in silence."""
        wanted = self._endpoint.settings.model
        if wanted and facts.names and wanted not in facts.names:
            raise ProviderError(
                ErrorClass.NOT_FOUND,
                f"the engine serves {' or '.join(facts.names)}, and models.{self._endpoint.name}.model is {wanted!r}; "
                "set it to that, or leave it out",
            )

    def _abort(self, request_id: str) -> None:
        """Tells the engine. It also sees the call cancelled; the protocol has this for engines that overlook that."""
        task = asyncio.create_task(self._send_abort(request_id), name="engine abort")
        self._aborts.add(task)
        task.add_done_callback(self._aborts.discard)

    async def _send_abort(self, request_id: str) -> None:
        with suppress(ProviderError):
            # Not to be told is no worse for the engine than a caller who crashed.
            await self._line.ask(self._dialect.abort, self._dialect.abort_request(request_id), Budget(ABORT_SECONDS))


def _within(sampling: Sampling, facts: EngineFacts, asked: Tokenized) -> Sampling:
    """The parameters, with a cap on the reply that fits into the window that the engine names."""
    if not facts.window:
        return sampling
    room = facts.window - len(asked.ids)
    if room < 1:
        raise ProviderError(
            ErrorClass.CONTEXT, f"the prompt has {len(asked.ids)} tokens, and the model's window {facts.window}"
        )
    most = room if sampling.max_tokens is None else min(room, sampling.max_tokens)
    return msgspec.structs.replace(sampling, max_tokens=most)


def vllm_backend(endpoint: ModelEndpoint) -> EngineBackend:
    """A backend for vLLM; see :class:`EngineBackend`."""
    return EngineBackend(endpoint, VllmDialect())


def sglang_backend(endpoint: ModelEndpoint) -> EngineBackend:
    """A backend for SGLang; see :class:`EngineBackend`."""
    return EngineBackend(endpoint, SglangDialect())
