"""What the turn room tells whoever counts."""

from typing import Protocol

from server.domain import CacheOutcome, Turn
from server.llm.base import ErrorClass


class TurnObserver(Protocol):
    """Called on the event loop, on the hot path: must be quick and must not raise."""

    def turn_ended(self, turn: Turn, seconds: float) -> None:
        """A turn ended, after ``seconds`` since it arrived."""
        ...

    def cache_used(self, outcome: CacheOutcome) -> None:
        """The reply cache was asked."""
        ...

    def model_answered(self, model: str, seconds: float) -> None:
        """A model call gave a complete reply."""
        ...

    def model_failed(self, model: str, kind: ErrorClass) -> None:
        """A model call was given up on."""
        ...

    def delivery_reported(self, outcome: str) -> None:
        """A channel reported on a delivery: progress, delivered, retry or undeliverable."""
        ...

    def delivery_offered(self) -> None:
        """A turn was offered to a channel instance."""
        ...

    def pushed(self) -> None:
        """A message of a program was taken on."""
        ...


class Unobserved:
    """Counts nothing."""

    def turn_ended(self, turn: Turn, seconds: float) -> None: ...

    def cache_used(self, outcome: CacheOutcome) -> None: ...

    def model_answered(self, model: str, seconds: float) -> None: ...

    def model_failed(self, model: str, kind: ErrorClass) -> None: ...

    def delivery_reported(self, outcome: str) -> None: ...

    def delivery_offered(self) -> None: ...

    def pushed(self) -> None: ...
