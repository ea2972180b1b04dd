"""Asks every model a question, so that an operator sees what works before people do. Part of the composition."""

import time
from contextlib import aclosing
from typing import Final

import msgspec

from server.budget import Budget
from server.llm.base import Backend, Message, Prompt, ProviderError, Role
from server.llm.catalog import build_backends
from server.llm.endpoint import endpoint_of
from server.routing.key_entries import keys_of
from server.settings import ModelSettings, Settings

QUESTION: Final = "请只回答两个字：可以"
BUDGET_SECONDS: Final = 30.0
_MOST_TOKENS: Final = 256
"""A model that thinks needs some before it says anything."""


class _Answer(msgspec.Struct, frozen=True):
    first: float
    whole: float
    tokens: int


async def probe(settings: Settings, model: str | None) -> tuple[list[str], bool]:
    """A line for each model and key, and whether all of them answered.

    One call each, past limits, breakers and second attempts: what is asked is whether the
    backend answers with this key.

    Args:
        model: the one entry of ``models`` to ask; all if ``None``.

    Raises:
        ValueError: if there is no such entry, or one cannot work. The message begins with the field.
    """
    if model is not None and model not in settings.models:
        raise ValueError(f"models.{model}: there is no such entry; there are {', '.join(settings.models)}")
    backends = build_backends(settings.models, settings.node_id)
    lines, well = [], True
    try:
        for name in settings.models if model is None else (model,):
            for key_name, key in keys_of(name, settings.models[name]):
                line, answered = await _ask(name, settings.models[name], backends[name], key_name, key)
                lines.append(line)
                well = well and answered
    finally:
        for backend in backends.values():
            await backend.aclose()
    return lines, well


async def _ask(name: str, entry: ModelSettings, backend: Backend, key_name: str, key: str) -> tuple[str, bool]:
    endpoint = endpoint_of(name, entry)
    where = f"models.{name} ({endpoint.protocol}, {endpoint.address or 'the script'}, {key_name})"
    prompt = Prompt(
        name, (Message(Role.USER, QUESTION),), max_output_tokens=_MOST_TOKENS, request_id=f"probe-{time.time_ns()}"
    )
    try:
        answer = await _answer(backend, prompt, key)
    except ProviderError as error:
        said = " ".join(str(part) for part in (error.status, error.code) if part)
        return f"{where}: {error.kind.value} {said} {error.detail}", False
    return f"{where}: ok, first after {answer.first:.2f} s, whole after {answer.whole:.2f} s", True


async def _answer(backend: Backend, prompt: Prompt, key: str) -> _Answer:
    began = time.monotonic()
    first, tokens = 0.0, 0
    async with aclosing(backend.generate(prompt, Budget(BUDGET_SECONDS), key)) as chunks:
        async for chunk in chunks:
            if not first and (chunk.text or chunk.reasoning):
                first = time.monotonic() - began
            if chunk.usage is not None:
                tokens = chunk.usage.output_token_count
    return _Answer(first, time.monotonic() - began, tokens)
