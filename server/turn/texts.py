"""Which fixed sentence a person is shown when a turn ends without an answer."""

from collections.abc import Callable, Mapping
from typing import Final

from server.domain import Failure, Missing
from server.errors import (
    ConversationBusy,
    InputTooLong,
    MediaNotSupported,
    NoRouteAvailable,
    RateLimited,
    TurnCancelled,
    TurnQuarantined,
    TurnTimedOut,
)
from server.settings import TextSettings

_MEDIA: Final[Mapping[str, Callable[[TextSettings], str]]] = {
    Missing.TOO_LARGE.name: lambda texts: texts.media_too_large,
    Missing.UNAVAILABLE.name: lambda texts: texts.media_unavailable,
    Missing.REFUSED.name: lambda texts: texts.media_unavailable,
    Missing.DAMAGED.name: lambda texts: texts.media_damaged,
    Missing.UNSUPPORTED.name: lambda texts: texts.media_unreadable,
    Missing.ENCRYPTED.name: lambda texts: texts.media_encrypted,
    Missing.WITHOUT_TEXT.name: lambda texts: texts.media_without_text,
    Missing.TOO_SLOW.name: lambda texts: texts.media_too_slow,
    Missing.NO_LISTENER.name: lambda texts: texts.voice_not_heard,
    Missing.NOT_UNDERSTOOD.name: lambda texts: texts.voice_not_understood,
}


def sentence_for(failure: Failure, texts: TextSettings) -> str:
    """The assistant's sentence for a failure; the apology where no other fits."""
    if failure.reason == MediaNotSupported.reason and (why := _MEDIA.get(failure.metadata.get("missing", ""))):
        return why(texts)
    return {
        ConversationBusy.reason: texts.busy,
        InputTooLong.reason: texts.too_long,
        MediaNotSupported.reason: texts.media_not_supported,
        NoRouteAvailable.reason: texts.unreachable,
        RateLimited.reason: texts.rate_limited,
        TurnCancelled.reason: texts.cancelled,
        TurnQuarantined.reason: texts.quarantined,
        TurnTimedOut.reason: texts.timed_out,
    }.get(failure.reason, texts.apology)
