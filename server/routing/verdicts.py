"""What to do after a failure, by its class. Pure."""

import enum
from typing import Final

from server.llm.base import ErrorClass, ProviderError


class Verdict(enum.Enum):
    """What the failure of one attempt means for its turn."""

    AGAIN = "again"
    """The next model; and this one again, after a pause."""
    OTHER_KEY = "other_key"
    """This model with another key at once, if it has one; else as ``AGAIN`` where waiting helps, or ``NEXT``."""
    NEXT = "next"
    """The next model; this one would say the same again."""
    STOP = "stop"
    """Nobody else is asked."""


NOTHING_VISIBLE: Final = "nothing_visible"
"""The ``code`` of an ``INCOMPLETE`` when a reply was complete and had nothing to read."""

NO_ROOM_FOR_TEXT: Final = "no_room_for_text"
"""The same where the cap on output was reached before there was any: the same model would do so again."""

_BY_CLASS: Final = {
    ErrorClass.TRANSIENT: Verdict.AGAIN,
    ErrorClass.OVERLOADED: Verdict.AGAIN,
    ErrorClass.TIMEOUT: Verdict.AGAIN,
    ErrorClass.INCOMPLETE: Verdict.AGAIN,
    ErrorClass.RATE_LIMIT: Verdict.OTHER_KEY,
    ErrorClass.QUOTA: Verdict.OTHER_KEY,
    ErrorClass.AUTH: Verdict.OTHER_KEY,
    ErrorClass.CONTENT: Verdict.STOP,
    ErrorClass.CONTEXT: Verdict.NEXT,
    ErrorClass.BAD_REQUEST: Verdict.STOP,
    ErrorClass.NOT_FOUND: Verdict.NEXT,
}

_CAPABILITY_CODES: Final = frozenset(
    {
        "unimplemented",
        "not_implemented",
        "unsupported_parameter",
        "unsupported_value",
        "unsupported_model",
        "unsupported_media",
        "unsupported_image_media_type",
        "unsupported_country_region_territory",
        "image_content_not_supported",
        "model_not_supported",
        "media",
    }
)
"""What a backend says in lower case that cannot do what others can."""

_CAPABILITY_STATUSES: Final = frozenset({12, 415, 501})
"""gRPC's UNIMPLEMENTED, whose numbers end below those of HTTP; an unsupported media type; not implemented."""


def verdict_on(error: ProviderError, *, carry_refused_content: bool, contexts: int) -> Verdict:
    """Args: the setting of that name; how many attempts of the turn found the prompt too long, this one included."""
    if error.kind is ErrorClass.CONTENT and carry_refused_content:
        return Verdict.NEXT
    if error.kind is ErrorClass.BAD_REQUEST and lacks_a_capability(error):
        return Verdict.NEXT
    if error.code == NO_ROOM_FOR_TEXT:
        return Verdict.NEXT
    if error.kind is ErrorClass.CONTEXT and contexts > 1:
        # The next one may have a larger window; a third is hope.
        return Verdict.STOP
    return _BY_CLASS[error.kind]


def lacks_a_capability(error: ProviderError) -> bool:
    """Whether it is the backend that cannot do this, and not the request that nobody could read."""
    status = error.status or 0
    # A redirect says that the address in the settings is wrong: the request was not even looked at.
    return error.code.lower() in _CAPABILITY_CODES or status in _CAPABILITY_STATUSES or 300 <= status < 400


_TELLING: Final = {
    kind: rank
    for rank, kind in enumerate(
        (
            ErrorClass.NOT_FOUND,
            ErrorClass.AUTH,
            ErrorClass.QUOTA,
            ErrorClass.BAD_REQUEST,
            ErrorClass.CONTEXT,
            ErrorClass.CONTENT,
            ErrorClass.RATE_LIMIT,
            ErrorClass.OVERLOADED,
            ErrorClass.TRANSIENT,
            ErrorClass.TIMEOUT,
            ErrorClass.INCOMPLETE,
        )
    )
}
"""What a caller can act on ranks higher: that trying soon may help, then that trying later may, then what is
wrong with the question, and last what is wrong with the settings."""


def most_telling(errors: list[ProviderError]) -> ProviderError:
    """The error that stands for all attempts of a turn; of equals, the latest."""
    return max(reversed(errors), key=lambda error: _TELLING[error.kind])
