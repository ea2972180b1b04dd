"""Masks personal data in what a model writes, but for what the person has told it."""

from collections.abc import Collection

from server.filter.pii.find import Decided, PiiStream
from server.filter.pii.kinds import PiiKind
from server.filter.pii.placeholders import hide
from server.filter.pii.values import canonical, mask


class MaskingStream:
    """One text that may come in pieces. What it gives is final, and the same for every way of cutting."""

    def __init__(self, kinds: Collection[PiiKind], known: frozenset[str] = frozenset()) -> None:
        """Args: what to look for; values in canonical form that stay as they are."""
        self._found = PiiStream(kinds)
        self._known = known

    def feed(self, text: str) -> str:
        """Takes the next piece, and gives what is final now."""
        return masked(self._found.feed(text), self._known)

    def close(self) -> str:
        """The rest. Nothing may be fed afterwards."""
        return masked(self._found.close(), self._known)


def masked(decided: Decided, known: frozenset[str] = frozenset()) -> str:
    """A text with a mask for each value that was found in it and is not known."""
    return hide(
        decided.text,
        [
            (finding.start, finding.end, mask(finding.kind, value))
            for finding, value in zip(decided.findings, decided.values, strict=True)
            if canonical(finding.kind, value) not in known
        ],
    )
