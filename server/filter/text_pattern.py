r"""The administrator's regular expressions: compiled once, asked for every text. Pure.

A match begins at the leftmost place where the expression matches within its longest allowed
length, is what RE2 prefers there of that length, and the next one begins behind it. So whether a
match begins at a place depends on the characters from there on, up to the longest length, and on
one more at each side, which ``\b`` looks at. RE2 needs time in proportion to the text, whatever the
expression; so does everything here.
"""

from collections.abc import Sequence
from typing import Any, Final

from server.filter.entries import Action, Direction, Entry
from server.filter.pattern_syntax import without_borders
from server.settings import FilterSettings, PatternSettings

try:
    import re2
except ImportError:  # an extra: requirements-extras.lock
    re2 = None

Span = tuple[int, int]

_MAX_STEP: Final = 4096
"""Characters that are searched at a time, where nothing is found."""

_RANGE_BYTES: Final = 16
"""How much of the beginning of matches is compared. Longer ones hold a little less of hardly any text."""

_DIRECTIONS: Final = {"both": Direction.BOTH, "input": Direction.INPUT, "output": Direction.OUTPUT}


class Beginning:
    """The strings between which every match is, byte by byte: what begins differently cannot become a match."""

    def __init__(self, least: bytes, greatest: bytes) -> None:
        self._least = least
        self._greatest = greatest

    def may_begin(self, text: str, start: int) -> bool:
        """Whether the rest of ``text``, from ``start`` on and with anything behind it, may begin with a match.

        Never ``False`` where it may; sometimes ``True`` where it may not.
        """
        rest = text[start : start + _RANGE_BYTES].encode()
        if rest < self._least:
            return self._least.startswith(rest)
        # A match is a beginning of the rest, or goes on behind it. No beginning longer than the least is the first
        # that is between the two.
        return any(self._least <= rest[:size] <= self._greatest for size in range(len(self._least) + 1))


_ANY_BEGINNING: Final = Beginning(b"", b"")


class TextPattern:
    """One expression, as an entry of the filter. Keeps no state of a text."""

    def __init__(self, entry: Entry, expression: Any, beginning: Beginning, longest: int) -> None:
        """Args:
        expression: of RE2. Typed loosely: the package has no types.
        longest: characters of a match at the most.
        """
        self.entry = entry
        self._expression = expression
        self._beginning = beginning
        self._longest = longest

    def scan(self, text: str, start: int, *, ended: bool) -> tuple[list[Span], int]:
        """The matches that are final, from ``start`` on, and the first place where one may begin that is not.

        Args:
            text: without lone surrogates, and with a character before ``start`` unless the whole text begins there.
        """
        # With the character behind the longest match, nothing that follows can change it.
        decided = len(text) if ended else len(text) - self._longest
        found: list[Span] = []
        while start < decided:
            span = self._first(text, start, decided)
            if span is None:
                start = decided
                break
            found.append(span)
            start = span[1]
        while start < len(text) and not self._beginning.may_begin(text, start):
            start += 1
        return found, len(text) if ended else start

    def _first(self, text: str, start: int, stop: int) -> Span | None:
        """The first match that begins before ``stop``."""
        step = self._longest
        while start < stop:
            found = self._search(text, start, start + step + self._longest)
            if found is None or found[0] >= start + step:
                start += step
                step = min(2 * step, _MAX_STEP)
                continue
            if found[0] >= stop:
                return None
            start = found[0]
            if found[1] - start > self._longest:
                found = self._match(text, start)
            if found is not None:
                return found
            start += 1
            step = self._longest
        return None

    def _search(self, text: str, start: int, end: int) -> Span | None:
        """The first match of whatever length between two places."""
        base = max(start - 1, 0)
        found = self._expression.search(text[base : end + 1], start - base, end - base)
        return None if found is None else (base + found.start(), base + found.end())

    def _match(self, text: str, start: int) -> Span | None:
        """The match at a place that is not too long."""
        base = max(start - 1, 0)
        end = start + self._longest
        found = self._expression.match(text[base : end + 1], start - base, end - base)
        return None if found is None else (start, base + found.end())


def patterns_of(settings: FilterSettings) -> tuple[TextPattern, ...]:
    """The expressions of the settings, ready to be asked.

    Raises:
        ValueError: for one that cannot be used, or where the package for it is missing. The message begins with the
            field.
    """
    patterns = []
    for name, entry in settings.patterns.items():
        try:
            patterns.append(_pattern(name, entry))
        except ValueError as error:
            raise ValueError(f"filter.patterns.{name}.pattern: {error}") from None
    return tuple(patterns)


def towards(patterns: Sequence[TextPattern], direction: Direction) -> tuple[TextPattern, ...]:
    """Those that are meant for one direction."""
    return tuple(pattern for pattern in patterns if direction in pattern.entry.direction)


def _pattern(name: str, settings: PatternSettings) -> TextPattern:
    if re2 is None:
        raise ValueError("needs the package google-re2; install requirements-extras.lock, or leave the pattern out")
    relaxed = _compiled(without_borders(settings.pattern))
    expression = _compiled(settings.pattern)
    if relaxed.fullmatch("") is not None:
        raise ValueError("matches the empty text, so it is found everywhere; write + for *, or {1,9} for {0,9}")
    entry = Entry(
        id=f"patterns.{name}",
        word=settings.pattern,
        tag=settings.tag or name,
        direction=_DIRECTIONS[settings.direction],
        action=Action[settings.action.upper()] if settings.action else None,
        replacement=settings.replacement,
    )
    return TextPattern(entry, expression, _beginning(relaxed), settings.max_characters)


def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options=options)
    except re2.error as error:
        raise ValueError(f"is not a regular expression of RE2: {_told(error)}") from None


def _told(error: Exception) -> str:
    said = error.args[0] if error.args else ""
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)


def _beginning(relaxed: Any) -> Beginning:
    """Args: an expression without borders: RE2 answers for the beginning of a text, where borders are others."""
    try:
        least, greatest = relaxed.possiblematchrange(_RANGE_BYTES)
    except re2.error:
        return _ANY_BEGINNING
    return Beginning(least, greatest)
