"""What the many words for the end of a reply mean here. Data.

A finish reason, and nothing else, says that a reply is complete. Words that mean a
failure are errors and not ends: taking them for ``stop`` would pass half answers off
as whole ones.
"""

from typing import Final

from server.domain import FinishReason
from server.llm.base import ErrorClass

ENDS: Final[dict[str, FinishReason]] = {
    **dict.fromkeys(
        ("stop", "end_turn", "stop_sequence", "complete", "eos", "eos_token", "reason_stop"), FinishReason.STOP
    ),
    **dict.fromkeys(
        (
            "length",
            "max_tokens",
            "model_length",
            "model_context_window_exceeded",
            "reason_max_len",
            "reason_max_context",
            "reason_time_limit",
            "pause_turn",
        ),
        FinishReason.LENGTH,
    ),
    **dict.fromkeys(
        (
            "content_filter",
            "sensitive",
            "refusal",
            "safety",
            "recitation",
            "blocklist",
            "prohibited_content",
            "spii",
            "language",
            "image_safety",
            "guardrail_intervened",
        ),
        FinishReason.PROVIDER_BLOCKED,
    ),
}
"""Ends of a reply, by the word in lower case."""

FAILURES: Final[dict[str, ErrorClass]] = {
    "network_error": ErrorClass.TRANSIENT,
    "insufficient_system_resource": ErrorClass.TRANSIENT,
    "error": ErrorClass.INCOMPLETE,
    "abort": ErrorClass.INCOMPLETE,
}
"""Words that say that the reply broke off."""

TOOL_CALLS: Final = frozenset(
    {
        "tool_calls",
        "tool_call",
        "tool_use",
        "function_call",
        "reason_tool_calls",
        "malformed_function_call",
        "unexpected_tool_call",
        "too_many_tool_calls",
    }
)
"""Words that say that the model waits for a tool. This service offers none, so such a
reply is not an answer, and counts as broken off."""
