"""Ends a reply at the first of some strings, wherever the pieces of the text are cut. Pure."""

from collections.abc import Sequence


class StopStrings:
    """Takes a text in pieces and gives it back up to the first stop string, which is left out.

    Holds back what may be the beginning of one.
    """

    __slots__ = ("_held", "_stops", "hit")

    def __init__(self, stops: Sequence[str]) -> None:
        """Args: the strings; empty ones mean nothing."""
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.hit = False
        """Whether a stop string was found. Nothing comes behind it."""

    def feed(self, text: str) -> str:
        """What is certain to stand in front of every stop string."""
        if self.hit or not self._stops:
            return "" if self.hit else text
        text = self._held + text
        # The one that is complete first, so that it does not matter where the text was cut.
        found = min(((at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0), default=None)
        if found is not None:
            self.hit = True
            self._held = ""
            return text[: found[1]]
        kept = max(self._half(text, stop) for stop in self._stops)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]

    def close(self) -> str:
        """What was held back, when the text has ended."""
        held, self._held = self._held, ""
        return held

    @staticmethod
    def _half(text: str, stop: str) -> int:
        """How many characters at the end may be the beginning of a stop string."""
        return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
