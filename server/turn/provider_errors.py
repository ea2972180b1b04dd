"""What a caller is told when a model failed."""

from server.errors import DomainError, NoRouteAvailable, ProviderRefused, ReplyInterrupted
from server.llm.base import RETRYABLE, ProviderError

_RETRY_AFTER_SECONDS = 2.0
"""What a caller is told to wait when the backend gave no hint."""


def to_domain_error(error: ProviderError, *, text_shown: bool) -> DomainError:
    """The error for callers: without the backend's own words, which are for the log."""
    if text_shown:
        return ReplyInterrupted(error.model)
    if error.kind in RETRYABLE:
        return NoRouteAvailable(error.attempts, error.retry_after or _RETRY_AFTER_SECONDS)
    return ProviderRefused(error.model)
