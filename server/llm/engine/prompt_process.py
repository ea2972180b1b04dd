"""The process in which an engine's template and tokeniser run, seen from the service."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

import msgspec

import server
from server.budget import Budget
from server.llm.base import ErrorClass, Message, ProviderError
from server.llm.engine.vocabulary import Vocabulary
from server.llm.prompt_messages import (
    LENGTH,
    MAX_ANSWER_BYTES,
    Answer,
    Load,
    Loaded,
    Question,
    Refused,
    Tokenize,
    Tokenized,
)

MAX_LOAD_SECONDS: Final = 30.0
"""How long reading a tokeniser may take. The largest take three or four."""

MAX_PROMPT_SECONDS: Final = 5.0
"""How long one prompt may take. A hundred thousand characters take a tenth of one."""

_COMMAND: Final = (sys.executable, "-E", "-s", "-m", "server.llm.engine.prompt_worker")
_ROOT: Final = Path(server.__file__).parent.parent
_ENVIRONMENT: Final = {"LANG": "C.UTF-8", "TOKENIZERS_PARALLELISM": "false"}
"""Nothing of this program's own environment, where keys may be."""

A = TypeVar("A", Loaded, Tokenized)


class PromptProcess:
    """One tokeniser at work. Prompts are made one after the other.

    A process that dies, is late, or is left while it works is ended; the next call
    starts another one.
    """

    def __init__(self, archive: bytes, command: Sequence[str] = _COMMAND) -> None:
        """Args: what the engine handed out; what to start."""
        self._archive = archive
        self._command = command
        self._turn = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._closed = False

    async def load(self, budget: Budget) -> Vocabulary:
        """Starts the process, and returns what the tokens write.

        Raises:
            ProviderError: NOT_FOUND if this is nothing to work with; TIMEOUT.
        """
        async with self._my_turn(budget):
            return await self._start(budget)

    async def tokenize(self, messages: Sequence[Message], variables: Mapping[str, object], budget: Budget) -> Tokenized:
        """A prompt as tokens.

        Raises:
            ProviderError: BAD_REQUEST if the template refuses the messages; TRANSIENT if
                the process died over them; TIMEOUT.
        """
        question = Tokenize([(message.role.value, message.text) for message in messages], dict(variables))
        async with self._my_turn(budget):
            if self._process is None or self._process.returncode is not None:
                await self._start(budget)
            return await self._asked(question, Tokenized, budget.within(MAX_PROMPT_SECONDS), ErrorClass.BAD_REQUEST)

    async def aclose(self) -> None:
        """Ends the process. Prompts that are being made fail."""
        self._closed = True
        await self._end()

    def _my_turn(self, budget: Budget) -> "_Turn":
        return _Turn(self._turn, budget)

    async def _start(self, budget: Budget) -> Vocabulary:
        await self._end()
        if self._closed:
            raise ProviderError(ErrorClass.TRANSIENT, "the provider was closed")
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=_ROOT,
            env=_ENVIRONMENT,
            # Ctrl-C in a terminal is for the service, which still needs this process while it drains.
            start_new_session=True,
        )
        loaded = await self._asked(Load(self._archive), Loaded, budget.within(MAX_LOAD_SECONDS), ErrorClass.NOT_FOUND)
        return loaded.vocabulary

    async def _asked(self, question: Question, answer: type[A], seconds: float, refusal: ErrorClass) -> A:
        """The answer to a question. A process that gives none is ended, whatever the reason."""
        answered = False
        try:
            async with asyncio.timeout(seconds):
                found = await self._exchange(question)
            if isinstance(found, Refused):
                # To refuse to load is to be of no use; to refuse a prompt is not.
                answered = refusal is ErrorClass.BAD_REQUEST
                if answered:
                    # A template may refuse a prompt in words that quote it.
                    raise ProviderError(
                        refusal, "the prompt cannot be written as the engine wants it", said=found.reason
                    )
                raise ProviderError(refusal, f"the engine's tokeniser cannot be used: {found.reason}")
            answered = isinstance(found, answer)
            if not isinstance(found, answer):
                raise ProviderError(ErrorClass.TRANSIENT, "the prompt worker answered something else")
            return found
        except TimeoutError:
            raise ProviderError(ErrorClass.TIMEOUT, "making the prompt took too long") from None
        except (asyncio.IncompleteReadError, ConnectionError, msgspec.MsgspecError):
            raise ProviderError(ErrorClass.TRANSIENT, "the prompt worker died over the engine's tokeniser") from None
        finally:
            if not answered:
                await self._end()

    async def _exchange(self, question: Question) -> Answer:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise ProviderError(ErrorClass.TRANSIENT, "the provider was closed")
        data = msgspec.msgpack.encode(question)
        process.stdin.write(LENGTH.pack(len(data)) + data)
        await process.stdin.drain()
        (size,) = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))
        if size > MAX_ANSWER_BYTES:
            raise ProviderError(ErrorClass.TRANSIENT, f"the prompt worker's answer has {size} bytes")
        answer: Answer = msgspec.msgpack.decode(await process.stdout.readexactly(size), type=Answer)
        return answer

    async def _end(self) -> None:
        """Ends the process, if there is one. It holds nothing, so it is not asked."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.kill()
        if process.stdin is not None:
            process.stdin.close()
        await process.wait()


class _Turn:
    """A lock that is waited for within a budget."""

    def __init__(self, lock: asyncio.Lock, budget: Budget) -> None:
        self._lock = lock
        self._budget = budget

    async def __aenter__(self) -> None:
        try:
            async with asyncio.timeout(self._budget.remaining()):
                await self._lock.acquire()
        except TimeoutError:
            raise ProviderError(ErrorClass.TIMEOUT, "the prompt worker was busy for too long") from None

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()
