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

_CAP_NAMES: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")
"""What `extra_body` can call the cap where it goes before the prompt's."""


def most_output(endpoint: ModelEndpoint) -> MostOutput:
    """What a model may write at the most, by prompt."""
    find = _FINDERS.get(endpoint.protocol, _as_asked)
    return lambda prompt: find(prompt, endpoint) or UNBOUNDED_OUTPUT_TOKENS


def _as_asked(prompt: Prompt, endpoint: ModelEndpoint) -> int | None:
    return _named(endpoint.settings.extra_body) or prompt.max_output_tokens


def _within_parameters(prompt: Prompt, endpoint: ModelEndpoint) -> int | None:
    """For those who are sent what the preset knows a name for."""
    named = _named(endpoint.settings.extra_body)
    if named is not None or prompt.max_output_tokens is None:
        return named
    return endpoint.side.parameters.cap(prompt.max_output_tokens)


def _anthropic(prompt: Prompt, endpoint: ModelEndpoint) -> int | None:
    extra = endpoint.settings.extra_body
    return _named(extra) or anthropic_cap(prompt, thinking=endpoint.thinking, extra=extra)


def _gemini(prompt: Prompt, endpoint: ModelEndpoint) -> int | None:
    extra = endpoint.settings.extra_body
    how = extra.get("generationConfig", extra.get("generation_config"))
    named = _named(how) if isinstance(how, Mapping) else None
    return named or gemini_cap(prompt, endpoint.thinking)


def _named(fields: Mapping[str, object]) -> int | None:
    found = (fields.get(name) for name in (*_CAP_NAMES, "maxOutputTokens"))
    return next((value for value in found if isinstance(value, int) and value > 0), None)


_FINDERS: Final[Mapping[str, Callable[[Prompt, ModelEndpoint], int | None]]] = {
    "openai_chat": _within_parameters,
    "xai_chat": _within_parameters,
    "provider_service": _within_parameters,
    "anthropic_messages": _anthropic,
    "gemini": _gemini,
    "gemini_grpc": _gemini,
}
