"""The tokeniser of an engine: fetched from it, checked, and fetched again when it may be another one."""

import asyncio
import hashlib
from typing import Final

import msgspec

from server.budget import Budget
from server.llm.base import ErrorClass, ProviderError
from server.llm.engine.dialects import Dialect, EngineFacts
from server.llm.engine.prompt_process import PromptProcess
from server.llm.engine.tokenizer_bundle import MAX_ARCHIVE_BYTES
from server.llm.engine.vocabulary import Vocabulary
from server.llm.grpc_call import GrpcLine
from server.llm.wire import engine_pb2

MAX_SILENCE_SECONDS: Final = 10.0
"""How long the engine may take to send the next piece of the archive; it builds it at the first call."""


class Engine(msgspec.Struct, frozen=True):
    """An engine as it was last seen."""

    facts: EngineFacts
    digest: str
    """SHA-256 of the archive."""
    process: PromptProcess
    vocabulary: Vocabulary


class EngineTokenizer:
    """Knows the engine at the other end of one line.

    An engine is another one when it was started again: its connection has ended then.
    So what is known holds for one connection; after that the archive is fetched again,
    and taken into use if it is another one.
    """

    def __init__(self, line: GrpcLine, dialect: Dialect) -> None:
        """Args: the way to the engine, which the caller closes; how it speaks."""
        self._line = line
        self._dialect = dialect
        self._turn = asyncio.Lock()
        self._engine: Engine | None = None
        self._doubted = True
        self._watch: asyncio.Task[None] | None = None

    async def ready(self, budget: Budget) -> Engine:
        """The engine, with its tokeniser at work.

        Raises:
            ProviderError: if it cannot be reached or is not ready, or what it hands out cannot be used.
        """
        if self._engine is not None and not self._doubted:
            return self._engine
        try:
            async with asyncio.timeout(budget.remaining()), self._turn:
                if self._engine is None or self._doubted:
                    return await self._look(budget, self._engine)
                return self._engine
        except TimeoutError:
            raise ProviderError(ErrorClass.TIMEOUT, "fetching the engine's tokeniser took too long") from None

    def doubt(self) -> None:
        """Something went wrong, so that it may be another engine by now."""
        self._doubted = True

    async def aclose(self) -> None:
        """Ends what runs here."""
        await self._stop_watching()
        if self._engine is not None:
            await self._engine.process.aclose()

    async def _look(self, budget: Budget, old: Engine | None) -> Engine:
        self._doubted = True
        await self._stop_watching()
        health = await self._line.ask(self._dialect.health, engine_pb2.Empty(), budget)
        if not health.healthy:
            raise ProviderError(ErrorClass.OVERLOADED, "the engine says that it is not healthy", said=health.message)
        # From here on there is a connection; what is learnt below is worth nothing if it ends meanwhile.
        self._watch = asyncio.create_task(self._line.lost(), name="engine connection")
        facts = self._dialect.facts(await self._line.ask(self._dialect.model_info, engine_pb2.Empty(), budget))
        if not facts.generates:
            raise ProviderError(ErrorClass.NOT_FOUND, "the engine's model writes no text")
        archive, digest = await self._fetch(budget)
        if old is not None and old.digest == digest:
            found = msgspec.structs.replace(old, facts=facts)
        else:
            found = await self._load(facts, archive, digest, budget)
        self._engine = found
        self._doubted = self._watch.done()
        self._watch.add_done_callback(lambda _: self.doubt())
        if old is not None and old.process is not found.process:
            await old.process.aclose()
        return found

    async def _fetch(self, budget: Budget) -> tuple[bytes, str]:
        """The archive and its digest, which is the one that the engine names."""
        archive = bytearray()
        named = ""
        async with self._line.open(self._dialect.tokenizer, engine_pb2.Empty(), budget) as incoming:
            while (chunk := await incoming.next(budget.within(MAX_SILENCE_SECONDS))) is not None:
                if named:
                    raise ProviderError(ErrorClass.NOT_FOUND, "the engine's tokeniser goes on behind its digest")
                archive += chunk.data
                if len(archive) > MAX_ARCHIVE_BYTES:
                    raise ProviderError(
                        ErrorClass.NOT_FOUND, f"the engine's tokeniser has more than {MAX_ARCHIVE_BYTES} bytes"
                    )
                named = chunk.sha256
        if not named:
            raise ProviderError(ErrorClass.INCOMPLETE, "the engine's tokeniser was cut")
        found = bytes(archive)
        # Some tens of milliseconds for the largest ones; hashing lets the event loop run meanwhile.
        digest = await asyncio.to_thread(lambda: hashlib.sha256(found).hexdigest())
        if digest != named.lower():
            raise ProviderError(ErrorClass.INCOMPLETE, "the engine's tokeniser is not the one that its digest names")
        return found, digest

    async def _load(self, facts: EngineFacts, archive: bytes, digest: str, budget: Budget) -> Engine:
        process = PromptProcess(archive)
        loaded = False
        try:
            engine = Engine(facts, digest, process, await process.load(budget))
            loaded = True
            return engine
        finally:
            if not loaded:
                await process.aclose()

    async def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
            self._watch = None
