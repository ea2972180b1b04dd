"""Google's own package for Gemini, imported without its announcements, and answers in its words."""

import warnings
from typing import Any

from google.protobuf.message import Message

with warnings.catch_warnings():
    # It announces which grpcio it will ask for next year.
    warnings.filterwarnings("ignore", ".*grpcio < .* does not support Post-Quantum", FutureWarning)
    from google.ai import generativelanguage_v1beta as vendor
    from google.ai.generativelanguage_v1beta.services.generative_service import transports

__all__ = ["Reason", "answer", "text", "transports", "usage", "vendor"]

Reason = vendor.Candidate.FinishReason


def answer(*parts: Any, finish: int = 0, index: int | None = None, **more: Any) -> Message:
    """A response with one candidate, as protobuf has it."""
    candidate = vendor.Candidate(content=vendor.Content(role="model", parts=parts), finish_reason=finish)
    if index is not None:
        candidate.index = index
    found = vendor.GenerateContentResponse(candidates=[candidate], model_version="gemini-x", **more)
    pb: Message = vendor.GenerateContentResponse.pb(found)
    return pb


def text(value: str, *, thought: bool = False) -> Any:
    return vendor.Part(text=value, thought=thought)


def usage(**counts: int) -> dict[str, Any]:
    return {"usage_metadata": vendor.GenerateContentResponse.UsageMetadata(**counts)}
