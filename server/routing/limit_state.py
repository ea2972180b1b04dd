"""What the limits remember, behind one small interface.

In one process it is :class:`~server.routing.counting.CountedHere`. State that several
servers share answers the same four questions, with one round trip for each call that is
let through and one when it ends.
"""

import enum
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

MONEY_UNITS: Final = 1_000_000_000
"""Money is counted in whole billionths of the currency: sums of fractions would miss a cap by their rounding."""


class Claim(msgspec.Struct, frozen=True):
    """What one thing allows: a model, an account, a person, a caller, or the whole service. 0 is no limit."""

    scope: str
    """``model``, ``quota_group``, ``person``, ``caller`` or ``total``."""
    key: str
    """What the counts are kept under; begins with the scope."""
    requests: int = 0
    """In any 60 seconds."""
    tokens: int = 0
    """In any 60 seconds."""
    places: int = 0
    """Calls at a time."""
    money: int = 0
    """A UTC day, in billionths."""
    again: bool = False
    """Another call has taken, or will take, the request: this one takes tokens, a place and money only. Whether there
    would be room for a request is looked at all the same, unless ``requests`` is 0."""
    shared_key: str = ""
    """The key to count under where there are too many things of this scope; empty: always ``key``."""


class LimitKind(enum.Enum):
    """What ran out."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    PLACES = "places"
    MONEY = "money"


class Refusal(msgspec.Struct, frozen=True):
    """Why a call may not be made now."""

    claim: Claim
    kind: LimitKind
    retry_after: float
    """Seconds until the same call passes all its limits, if nobody else comes; 0 for PLACES, which nobody can know."""


class Taken(Protocol):
    """What a call holds. Only the state that gave it can read it."""


class LimitState(Protocol):
    """Counts calls, tokens, places and money under keys.

    Every method takes effect as a whole or not at all, however many tasks call it.
    """

    async def take(self, claims: Sequence[Claim], tokens: int, money: int) -> Taken | Refusal:
        """Takes a request, ``tokens``, a place and ``money`` of every claim that limits them, or nothing of any.

        Of a claim with ``again`` it takes no request.

        Where several limits refuse, the answer is the one that lasts longest; PLACES only if no other does.
        """
        ...

    async def check(self, claims: Sequence[Claim], tokens: int, money: int) -> Refusal | None:
        """What :meth:`take` would refuse, places left aside. Takes nothing."""
        ...

    async def give_back(self, taken: Taken, used: tuple[int, int] | None) -> None:
        """Ends a call. Takes effect even if whoever calls is cancelled.

        Args:
            used: tokens and money that it came to; ``None`` if it was never made, which
                gives the request back too.
        """
        ...

    async def open(self) -> None:
        """Reads what must outlive a restart.

        Raises:
            OSError: if it cannot be read. Then no spending cap can be kept.
        """
        ...

    async def aclose(self) -> None:
        """Writes what must outlive a restart. Calls under way count as made."""
        ...
