"""What the error codes of customer service mean (DOC 90313, 96427, 94669)."""

from typing import Final

from adapter.rest.errors import RequestRefused, WeComError

EXHAUSTED: Final = 95001
"""Five messages were sent since the customer wrote last; nothing was sent."""
TOO_LATE: Final = frozenset({95002, 95031})
"""The customer has not written within 48 hours."""
NOT_OURS: Final = frozenset({95013, 95016, 95018})
"""The session is in a state in which the API may not do this: a person has it, or it is over."""
TOKEN_ENDED: Final = 95007
"""The token of the callback is not good any more; it works without one, under stricter limits."""

_MALFORMED: Final = 40058


def code_of(error: WeComError) -> int:
    """The code of a refusal; 0 where WeCom gave no usable answer."""
    return error.code if isinstance(error, RequestRefused) else 0


def came_through_before(error: WeComError) -> bool:
    """Whether a repetition was refused because the first try had arrived.

    No document names the code for a ``msgid`` that was used before. A message that was
    well-formed the first time can be refused as malformed for nothing else. Codes that name
    another reason, such as a forbidden word, speak of the message itself.
    """
    return code_of(error) == _MALFORMED
