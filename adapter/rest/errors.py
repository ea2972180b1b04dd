"""What the HTTP interface of WeCom can say no with.

The tree, one line of purpose each::

    WeComError               anything that kept a request from succeeding
     ├─ WeComUnreachable     no answer that could be read
     ├─ SlowDown             a frequency limit; nothing was done
     ├─ CredentialRefused    the application's secret or registration is wrong
     ├─ ReceiverRefused      this person can never get a message from this application
     ├─ ContentRefused       this message can never be sent
     └─ RequestRefused       every other error code

Codes are those of DOC 90313. Messages hold no token and no text of people.
"""

from typing import Final


class WeComError(Exception):
    """Anything that kept a request from succeeding."""

    retry_after: float | None = None
    """Seconds after which another try can help; ``None`` where none can."""

    waits: bool = False
    """Whether nothing was done, and it is WeCom or an operator that has to change, not the request."""


class WeComUnreachable(WeComError):
    """No answer that could be read: the network, a time-out, an HTTP error, or WeCom was busy to the last try."""

    def __init__(self, why: str, *, maybe_done: bool) -> None:
        """Args: ``maybe_done`` says whether WeCom may have acted on the request."""
        super().__init__(f"WeCom gave no usable answer: {why}")
        self.maybe_done = maybe_done
        self.waits = not maybe_done
        self.retry_after = 2.0


class RequestRefused(WeComError):
    """WeCom answered with an error code."""

    def __init__(self, code: int, call: str, retry_after: float | None = None) -> None:
        """Args: ``call`` is the path of the request, without its query."""
        super().__init__(f"WeCom refused {call} with code {code}")
        self.code = code
        self.call = call
        self.retry_after = retry_after


class SlowDown(RequestRefused):
    """A frequency limit was reached. Nothing was done; ``retry_after`` says when to come back."""

    waits = True


class CredentialRefused(RequestRefused):
    """The secret, the company or the application is not accepted, until an operator has acted."""

    waits = True


class ReceiverRefused(RequestRefused):
    """The person left, or is outside of what the application may see."""


class ContentRefused(RequestRefused):
    """WeCom does not take this content, and will not next time."""


TOKEN_CODES: Final = frozenset({40001, 40014, 41001, 42001})
"""The access token is wrong, expired or missing: a fresh one may cure it (DOC 90313)."""

BUSY_CODES: Final = frozenset({-1, 6000})
"""A passing state of WeCom; the same request may be tried again soon."""

_SLOW_DOWN: Final = {45009: 60.0, 45033: 2.0}
# 45009 blocks for as long as its window, and the shortest window is a minute; 45033 is about requests at one time.

_GROUP: Final = frozenset({40050, 49008, *range(86001, 86009)})
"""A group that is gone, or that another application created."""
_RECEIVER: Final = frozenset({40003, 46004, 60011, 60021, 60111, 81013, 82001, 82002, 82003, 50002}) | _GROUP
_CARD: Final = frozenset(range(42014, 42052))
"""A template card that breaks a rule (DOC 90313)."""
_MEDIA: Final = frozenset({40005, 40006, 40007, 45001, 45007, 45008})
_CONTENT: Final = frozenset({40008, 40033, 40058, 40074, 44004, 45002, 82004, 85002}) | _MEDIA | _CARD
_OPERATOR: Final = frozenset({40013, 40056, 40082, 45031, 48002, 50003, 60020, 301002})
_CUSTOMER_SERVICE: Final = frozenset({48007, 95011, 95012, 95017})
"""The application may not call customer service, or not for this account."""
_CUSTOMER: Final = frozenset({40096, 95000, 95004})
"""No such customer, or no such account of customer service (any more)."""

_OPERATOR_WAIT: Final = 60.0


def refusal(code: int, call: str) -> RequestRefused:
    """The error for a code other than 0 out of ``call``."""
    if code in _SLOW_DOWN:
        return SlowDown(code, call, _SLOW_DOWN[code])
    if code in _RECEIVER or code in _CUSTOMER:
        return ReceiverRefused(code, call)
    if code in _CONTENT:
        return ContentRefused(code, call)
    if code in _OPERATOR or code in _CUSTOMER_SERVICE or code in TOKEN_CODES:
        return CredentialRefused(code, call, _OPERATOR_WAIT)
    # An unknown code may be new and passing: trying again later loses nothing, giving up would.
    return RequestRefused(code, call, 5.0)
