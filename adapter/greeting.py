"""What an assistant says to who opens its chat, and who was told so today.

In memory: after a restart, or by another replica, a person may be greeted once more.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Final

from cachetools import TTLCache

from adapter.access.rules import Access, Allowed
from weconverse import ConversationClient

_DECIDE_SECONDS: Final = 1.0
_ASK_SECONDS: Final = 3.0
"""Both together less than WeCom waits for the answer to an event."""

_DAY: Final = 86400
_MOST: Final = 50_000
"""People remembered; beyond it the least recent go, and would be greeted once more."""
_CHINA: Final = 8 * 3600
"""Days begin at midnight there, where WeCom's clocks are, and people are who use it."""


def greeting(client: ConversationClient, access: Access) -> Callable[[str], Awaitable[str]]:
    """Asks the service what the assistant that a person gets says to who opens the chat; empty for silence.

    Nothing for who may not use the account, or of whom nobody knows now: they asked nothing.
    """

    async def ask(user: str) -> str:
        decision = await access.decide(user, _DECIDE_SECONDS)
        if not isinstance(decision, Allowed):
            return ""
        return (await client.get_assistant(decision.assistant, timeout=_ASK_SECONDS)).greeting

    return ask


class Greeted:
    """Says whether an event is the one that greets its person today."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """Args: ``clock`` gives POSIX seconds."""
        self._clock = clock
        self._events: TTLCache[tuple[str, str], tuple[int, str]] = TTLCache(_MOST, _DAY, clock)

    def due(self, account: str, person: str, event_id: str) -> bool:
        """Whether the person is to be greeted: nobody did today, or only this same event, whose answer was lost."""
        day, greeted_by = self._events.get((account, person), (0, ""))
        return day != self._today() or greeted_by == event_id

    def done(self, account: str, person: str, event_id: str) -> None:
        """Tells that the event's answer is the greeting."""
        self._events[account, person] = (self._today(), event_id)

    def _today(self) -> int:
        return int(self._clock() + _CHINA) // _DAY
