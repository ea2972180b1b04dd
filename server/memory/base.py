"""What the memory of conversations promises."""

from typing import Protocol

from server.domain import Round


class Memory(Protocol):
    """The recent rounds of each conversation.

    The truth is in the turn rows; this is a window on them that may be dropped and
    read back at any time.
    """

    async def recall(self, conversation: str, rounds: int, idle_seconds: float) -> tuple[Round, ...]:
        """The last ``rounds`` rounds, oldest first.

        Empty when the conversation was reset, is new, or has been silent for longer
        than ``idle_seconds`` (0 never lapses).

        Raises:
            StoreUnavailable: if the rows cannot be read.
        """
        ...

    def remember(self, conversation: str, round_: Round) -> None:
        """Adds a round whose turn row is already on disk."""
        ...

    def forget(self, conversation: str) -> None:
        """Drops the window, after the store has recorded the cut or the deletion."""
        ...
