"""A conversation that a person has: how it comes to that, and what the assistant does meanwhile."""

import contextlib

from server.budget import Budget
from server.domain import Ask, FinishReason, Turn
from server.filter.pii.external import RecogniserFailed
from server.filter.pii.guard import PiiGuard
from server.turn.live import LiveTurn
from server.turn.personal import keep_masked


async def keep_quiet(live: LiveTurn, guard: PiiGuard | None, budget: Budget) -> None:
    """Ends a turn that came while a person has its conversation: it is kept, and nothing is said.

    Args:
        guard: what masks the message for the log; ``None`` where it is kept as it is.
    """
    with contextlib.suppress(RecogniserFailed):  # like a message that is refused for it: kept as it is
        await keep_masked(live, guard, budget)
    live.turn.finish_reason = FinishReason.HANDED_OFF


def hands_over(turn: Turn, ask: Ask) -> bool:
    """Whether this end gives the conversation to a person: its reply says so, and the caller can bring one in."""
    return turn.finish_reason is FinishReason.HANDED_OFF and turn.reply != "" and ask.options.can_hand_off
