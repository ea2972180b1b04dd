"""A :class:`~server.filter.matcher.Matcher` in plain Python: for where the fast one has no package."""

from collections.abc import Mapping, Sequence

from server.filter.matcher import Match


class PlainMatcher:
    """Words by their first characters, and for each beginning the lengths that occur."""

    def __init__(self, words: Sequence[str]) -> None:
        """Args: different from one another, none empty. A word's number is its position."""
        self._numbers: Mapping[str, int] = {word: number for number, word in enumerate(words)}
        self._single = frozenset(word for word in words if len(word) == 1)
        lengths: dict[str, set[int]] = {}
        for word in words:
            if len(word) > 1:
                lengths.setdefault(word[:2], set()).add(len(word))
        self._lengths = {begin: tuple(sorted(found)) for begin, found in lengths.items()}

    def matches(self, text: str) -> list[Match]:
        """See :meth:`server.filter.matcher.Matcher.matches`."""
        numbers, lengths = self._numbers, self._lengths
        found = [(at, at + 1, numbers[each]) for at, each in enumerate(text) if each in self._single]
        for start in range(len(text) - 1):
            for length in lengths.get(text[start : start + 2], ()):
                number = numbers.get(text[start : start + length])
                # Near the end the slice is shorter than the length, and may be a shorter word.
                if number is not None and start + length <= len(text):
                    found.append((start, start + length, number))
        found.sort(key=_by_end)
        return found


def _by_end(match: Match) -> tuple[int, int]:
    return match[1], match[0]
