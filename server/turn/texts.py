"""Which fixed sentence a person is shown when a turn ends without an answer."""

from server.domain import Failure
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


def sentence_for(failure: Failure, texts: TextSettings) -> str:
    """The assistant's sentence for a failure; the apology where no other fits."""
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
