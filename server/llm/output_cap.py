"""The most that a model may write for a prompt: the cap that is really sent, thoughts included.

Limits reserve it. Where thoughts count against a vendor's cap, more is sent than the
prompt asks for, and all of that is paid for if the model uses it.
"""

from collections.abc import Callable, Mapping
from typing import Final

from server.llm.anthropic.request import cap_for as anthropic_cap
from server.llm.base import Prompt
from server.llm.endpoint import ModelEndpoint
from server.llm.gemini.request import cap_for as gemini_cap

UNBOUNDED_OUTPUT_TOKENS: Final = 4096
"""What is assumed where no cap is sent."""

MostOutput = Callable[[Prompt], int]
"""Tokens that the answer to a prompt may have at the most."""

_CAP_NAMES: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens")
"""What `extra_body` can call the cap where it goes before the prompt's."""


_PROMPT_FIRST: Final = frozenset({"vllm_engine", "sglang_engine", "weconverse", "scripted"})
"""Protocols in which nothing in `extra_body` goes before the prompt's cap."""


def most_output(endpoint: ModelEndpoint) -> MostOutput:
    """What a model may write at the most, by prompt."""
    named = None if endpoint.protocol in _PROMPT_FIRST else _named(endpoint.settings.extra_body)
    if named is not None:
        return lambda prompt: named
    find = _FINDERS.get(endpoint.protocol, _as_asked)
    return lambda prompt: find(prompt, endpoint) or UNBOUNDED_OUTPUT_TOKENS


def _named(extra_body: Mapping[str, object]) -> int | None:
    """The cap that the settings have of their own. It goes before that of a prompt."""
    how = extra_body.get("generationConfig", extra_body.get("generation_config"))
    fields = {**extra_body, **how} if isinstance(how, Mapping) else extra_body
    found = (fields.get(name) for name in _CAP_NAMES)
    return next((value for value in found if isinstance(value, int) and value > 0), None)


def _as_asked(prompt: Prompt, endpoint: ModelEndpoint) -> int | None:
    return prompt.max_output_tokens


def _within_parameters(prompt: Prompt, endpoint: ModelEndpoint) -> int | None:
    """For those who are sent what the preset knows a name for."""
    asked = prompt.max_output_tokens
    return None if asked is None else endpoint.side.parameters.cap(asked)


def _anthropic(prompt: Prompt, endpoint: ModelEndpoint) -> int | None:
    return anthropic_cap(prompt, thinking=endpoint.thinking, extra=endpoint.settings.extra_body)


def _gemini(prompt: Prompt, endpoint: ModelEndpoint) -> int | None:
    return gemini_cap(prompt, endpoint.thinking)


_FINDERS: Final[Mapping[str, Callable[[Prompt, ModelEndpoint], int | None]]] = {
    "openai_chat": _within_parameters,
    "xai_chat": _within_parameters,
    "provider_service": _within_parameters,
    "anthropic_messages": _anthropic,
    "gemini": _gemini,
    "gemini_grpc": _gemini,
}
