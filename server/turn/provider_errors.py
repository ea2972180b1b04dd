"""What a caller is told when a model failed."""

from server.domain import Ask
from server.errors import (
    DomainError,
    MediaNotSupported,
    NoRouteAvailable,
    ProviderRefused,
    RateLimited,
    ReplyInterrupted,
    RouteLoop,
)
from server.llm.base import NO_MODEL_TAKES_PICTURES, RETRYABLE, ROUTE_LOOP, LimitReached, ProviderError

_RETRY_AFTER_SECONDS = 2.0
"""What a caller is told to wait when the backend gave no hint."""


def to_domain_error(error: ProviderError, ask: Ask, *, text_shown: bool) -> DomainError:
    """The error for callers: without the backend's own words, which are for the log."""
    if text_shown:
        return ReplyInterrupted(error.model)
    if isinstance(error, LimitReached):
        return RateLimited(error.scope, error.limit, error.retry_after or _RETRY_AFTER_SECONDS)
    if error.code == NO_MODEL_TAKES_PICTURES and ask.input.media:
        return MediaNotSupported(ask.input.media[0].mime_type)
    if error.code == ROUTE_LOOP:
        return RouteLoop(error.model)
    if error.kind in RETRYABLE:
        return NoRouteAvailable(error.attempts, error.retry_after or _RETRY_AFTER_SECONDS)
    return ProviderRefused(error.model)
