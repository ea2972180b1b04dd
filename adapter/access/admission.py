"""Lets a message through to the service if its person may use the account: a step in front of handing it over."""

from typing import Final

import msgspec

from adapter.access.rules import Access, Allowed, Refused
from adapter.callbacks.taking import Submit
from adapter.recently_sent import MemberPace
from adapter.translate import Incoming, read_address

REFUSALS_PER_MINUTE: Final = 3
REFUSALS_PER_HOUR: Final = 20
"""Refusals that one person is told: who goes on writing knows by then, and bubbles are limited."""


_SHARE: Final = 0.7
"""Of the time for handing over that the decision may take; its answer is nearly always at hand."""


class NotAllowed(Exception):
    """The person may not use the account; the message is not handed over.

    ``sentence`` is what they are to be told; empty when they were told often enough.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__("not allowed")
        self.sentence = sentence


class Undecided(Exception):
    """Nobody can say now whether the person may; the message is not handed over, and may be offered again.

    ``sentence`` is what they are to be told when it will not be.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__("not decided")
        self.sentence = sentence


class Admission:
    """A :data:`Submit` that asks first. The rules decide each time that a message is offered."""

    def __init__(self, access: Access, submit: Submit, pace: MemberPace | None = None) -> None:
        """Args: ``submit`` hands over what is let through, to ``Incoming.assistant``."""
        self._access = access
        self._submit = submit
        self._pace = pace or MemberPace(REFUSALS_PER_MINUTE, REFUSALS_PER_HOUR)

    async def __call__(self, incoming: Incoming, seconds: float) -> None:
        """Hands a message over.

        Raises:
            NotAllowed, Undecided: it was not.
            WeConverseError: as ``submit``.
        """
        user = read_address(incoming.address).user
        match await self._access.decide(user, seconds * _SHARE):
            case Allowed(assistant):
                await self._submit(msgspec.structs.replace(incoming, assistant=assistant), seconds)
            case Refused(sentence):
                raise NotAllowed(self._at_pace(user, sentence))
            case unknown:
                raise Undecided(unknown.sentence)

    def _at_pace(self, user: str, sentence: str) -> str:
        if self._pace.wait(user) > 0:
            return ""
        self._pace.sent(user)
        return sentence
