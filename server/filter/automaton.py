"""A :class:`~server.filter.matcher.Matcher` on an Aho-Corasick automaton, where its package is installed."""

from collections.abc import Sequence

from server.filter.matcher import Match, Matcher
from server.filter.plain_matcher import PlainMatcher

try:
    import daachorse
except ImportError:  # an extra: requirements-extras.lock
    daachorse = None  # type: ignore[assignment]  # the way to say that a module is missing


class Automaton:
    """The fast one. Building lets go of the interpreter; a built one can be saved and loaded in 1/100 of the time."""

    def __init__(self, automaton: "daachorse.CharwiseDoubleArrayAhoCorasick") -> None:
        self._automaton = automaton

    @classmethod
    def build(cls, words: Sequence[str]) -> "Automaton":
        """Args: different from one another, none empty, at least one. A word's number is its position."""
        return cls(daachorse.CharwiseDoubleArrayAhoCorasick(list(words)))

    @classmethod
    def load(cls, data: bytes) -> "Automaton":
        """What :meth:`save` gave, of the same version of the package. Only for what this program has saved itself."""
        return cls(daachorse.CharwiseDoubleArrayAhoCorasick.deserialize(data))

    def save(self) -> bytes:
        """The automaton as bytes."""
        return self._automaton.serialize()

    def matches(self, text: str) -> list[Match]:
        """See :meth:`server.filter.matcher.Matcher.matches`."""
        return self._automaton.find_overlapping(text)


def is_installed() -> bool:
    """Whether the fast matcher can be used."""
    return daachorse is not None


def build_matcher(words: Sequence[str]) -> Matcher:
    """The fastest matcher that is installed, for words that differ from one another; there may be none."""
    return Automaton.build(words) if words and is_installed() else PlainMatcher(words)
