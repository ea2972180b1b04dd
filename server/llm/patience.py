"""How long the next piece of a reply may take. Pure."""

from typing import Final, Protocol

from server.budget import Budget
from server.settings import ModelSettings

END_GRACE_SECONDS: Final = 2.0
"""How long the token counts and the end of the call may take after the finish reason: the reply is whole without."""

DRAIN_SECONDS: Final = 0.1
"""How long the end may take after the last word. In time, the backend sees a call that ended and not one that
was left, and the connection can be used again."""


class Progress(Protocol):
    """How far a reply has come."""

    arrived: bool
    """Whether text or a thought has come."""
    done: bool
    """Whether nothing more is to be expected."""

    @property
    def finished(self) -> bool:
        """Whether a finish reason was seen."""
        ...


class Patience:
    """The time-outs of one reply, each the smaller of its setting and what the budget has left."""

    def __init__(self, settings: ModelSettings, budget: Budget) -> None:
        """Begins to count."""
        self._idle_seconds = settings.idle_seconds
        self.whole: Final = budget.part(settings.total_seconds)
        self.first: Final = self.whole.part(settings.first_token_seconds)
        """For the first text or thought, connecting included."""

    def seconds(self, reply: Progress) -> float:
        """Seconds that the next piece may take."""
        if reply.done:
            return self.whole.within(DRAIN_SECONDS)
        if reply.finished:
            return self.whole.within(END_GRACE_SECONDS)
        if reply.arrived:
            return self.whole.within(self._idle_seconds)
        return self.first.remaining()
