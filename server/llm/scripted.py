"""The demonstration model: answers from a script, at a set pace, and plays failures.

Needs no key and no network. Demonstrations, tests and benchmarks use it in the place
of a real model; it keeps the same promises as one.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Final

from msgspec import structs

from server.budget import Budget
from server.domain import FinishReason, Usage
from server.llm.base import Chunk, ErrorClass, Image, Prompt, ProviderError
from server.llm.recollection import recollect
from server.llm.script import Entry, Script
from server.settings import ModelSettings

SHORTEST_PAUSE_SECONDS: Final = 0.01
"""Faster paces give several tokens at a time: shorter sleeps are neither exact nor cheap."""

_TOKEN: Final = re.compile(r"\s*[A-Za-z0-9_]+|\s+|[^\sA-Za-z0-9_]{1,2}")


class ScriptedProvider:
    """A :class:`~server.llm.base.Provider` that answers from a :class:`~server.llm.script.Script`."""

    def __init__(
        self,
        name: str,
        settings: ModelSettings,
        script: Script,
        *,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Args: the route's name; ``tokens_per_second`` and ``first_token_seconds`` of the settings count."""
        self._name = name
        self._pace = settings.tokens_per_second
        self._first_token_seconds = settings.first_token_seconds
        self._script = script
        self._sleep = sleep

    async def generate(self, prompt: Prompt, budget: Budget, key: str = "") -> AsyncGenerator[Chunk, None]:
        """See :meth:`server.llm.base.Provider.generate`."""
        entry = self._entry_for(prompt)
        if entry.stall_seconds:
            await self._stall(entry.stall_seconds, budget)
        if entry.fail is not None:
            raise ProviderError(entry.fail, "the script says so", model=self._name)
        thoughts = _TOKEN.findall(entry.reasoning)
        tokens, finish = self._tokens(entry, prompt)
        usage = Usage(sum(len(message.text) for message in prompt.messages) // 2 + 1, len(thoughts) + len(tokens))
        model = self._name
        async with aclosing(self._paced(thoughts, budget)) as runs:
            async for run in runs:
                yield Chunk(reasoning=run, model=model)
                model = ""
        if not self._pace and finish is not None:
            yield Chunk("".join(tokens), "", finish, usage, self._name)
            return
        async with aclosing(self._paced(tokens, budget)) as runs:
            async for run in runs:
                yield Chunk(run, model=model)
                model = ""
        if finish is None:
            raise ProviderError(ErrorClass.INCOMPLETE, "the script cuts this reply", model=self._name)
        yield Chunk("", "", finish, usage, self._name)

    async def aclose(self) -> None:
        """See :meth:`server.llm.base.Provider.aclose`. There is nothing to close."""

    def _entry_for(self, prompt: Prompt) -> Entry:
        question = prompt.messages[-1].text
        recollection = recollect(prompt.messages)
        if recollection is not None:
            return Entry(words=(), answer=recollection)
        entry = self._script.entry_for(question)
        if entry is None:
            entry = Entry(words=(), answer=self._script.defaults.answer)
        seen = self._seen(prompt.messages[-1].images)
        # Not `format`: the question may hold braces, and so may an answer with code in it.
        said = entry.answer.replace("{question}", question) if question.strip() or not seen else ""
        return structs.replace(entry, answer="\n\n".join(filter(None, (seen, said))))

    def _seen(self, images: Sequence[Image]) -> str:
        """What is said of pictures; empty where there are none, or the script does not care."""
        said = self._script.defaults.pictures
        if not images or not said:
            return ""
        kinds = [image.mime_type.rpartition("/")[2].upper() for image in images]
        sizes = [f" {len(image.data) / 1024:.1f} KB" if image.data else "" for image in images]
        each = "、".join(kind + size for kind, size in zip(kinds, sizes, strict=True))
        return said.replace("{pictures}", f"{len(images)} 张图片（{each}）")

    def _tokens(self, entry: Entry, prompt: Prompt) -> tuple[Sequence[str], FinishReason | None]:
        """What is given, and how it ends; ``None`` for a reply that is cut."""
        tokens = _TOKEN.findall(entry.answer)
        if entry.cut:
            return tokens[: (len(tokens) + 1) // 2], None
        if prompt.max_output_tokens is not None and len(tokens) > prompt.max_output_tokens:
            return tokens[: prompt.max_output_tokens], FinishReason.LENGTH
        return tokens, FinishReason.STOP

    async def _stall(self, seconds: float, budget: Budget) -> None:
        patience = budget.within(self._first_token_seconds)
        await self._sleep(min(seconds, patience))
        if seconds > patience:
            raise ProviderError(ErrorClass.TIMEOUT, "the first text took too long", model=self._name)

    async def _paced(self, tokens: Sequence[str], budget: Budget) -> AsyncGenerator[str, None]:
        """Runs of tokens, with the pauses between them."""
        if not self._pace:
            if tokens:
                yield "".join(tokens)
            return
        size = max(1, round(self._pace * SHORTEST_PAUSE_SECONDS))
        for start in range(0, len(tokens), size):
            if budget.spent():
                raise ProviderError(ErrorClass.TIMEOUT, "the reply took too long", model=self._name)
            await self._sleep(budget.within(size / self._pace))
            yield "".join(tokens[start : start + size])
