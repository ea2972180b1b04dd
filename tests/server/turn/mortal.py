"""A store that dies as its process would."""

from typing import Any

from server.errors import StoreUnavailable
from server.store.base import TurnStore


class MortalStore:
    """A store whose process dies at one of its writes: before it, or behind it without having heard."""

    WRITES = frozenset(
        {"accept", "claim", "merge", "finish", "finish_owed", "record_offer", "record_report", "hand_off", "resume"}
    )

    def __init__(self, store: TurnStore, dies_at: int, *, behind: bool) -> None:
        self._store = store
        self._left = dies_at
        self._behind = behind
        self.dead = False

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        async def call(*given: Any, **named: Any) -> Any:
            if self.dead:
                raise StoreUnavailable("turn")
            if name in self.WRITES:
                self._left -= 1
                if self._left == 0:
                    self.dead = True
                    if self._behind:
                        await method(*given, **named)
                    raise StoreUnavailable("turn")
            return await method(*given, **named)

        return call
