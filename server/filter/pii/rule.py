"""What every recogniser of personal data is made of, so that all of them work on streams.

A rule looks for a value from left to right. It may look at :data:`CONTEXT` characters
before the value, for what must not stand there or for a cue word, and it says from where
on the end of an unfinished text could still become a value or change one: everything
before that is final. Both together make the result on a stream equal to that on the whole
text, for every way of cutting.

What a rule has to keep to:

- a match begins at a place that ``tail`` would find too as long as it reaches the end of
  the text, with every character behind it that the rule looks at to judge;
- nothing is repeated without a bound, so that the cost of a text grows with its length.
"""

import re
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from server.filter.pii.kinds import Finding, PiiKind

CONTEXT: Final = 64
"""Characters before a value that a rule may look at."""


class Recognition(Protocol):
    """One kind of value, in texts as :class:`~server.filter.pii.text.PlainText` makes them."""

    @property
    def kind(self) -> PiiKind: ...

    def find(self, text: str, start: int) -> Iterator[Finding]:
        """Every value from ``start`` on, in their order, without overlaps."""
        ...

    def live(self, text: str, start: int) -> int:
        """The first place from ``start`` on where a value may begin whose end is not known yet;
        the length of the text if there is none."""
        ...


Check = Callable[["re.Match[str]"], Finding | None]
"""Judges a match of a rule's pattern. What it returns begins where the match begins."""


class Rule:
    """A recogniser made of a pattern, a check of what it matches, and a pattern for unfinished ends."""

    def __init__(
        self,
        kind: PiiKind,
        pattern: str,
        check: Check,
        *,
        tail: str,
        reach: int,
        flags: re.RegexFlag = re.ASCII,
        may_begin: Callable[[str, int], bool] | None = None,
    ) -> None:
        """Args:
        pattern: of a value, with what must not stand beside it.
        tail: of an end of text that may become one.
        reach: the most characters that ``tail`` matches.
        may_begin: whether a value can begin at a place at all, as far as what stands before it tells.
        """
        self.kind = kind
        self._pattern = re.compile(pattern, flags)
        self._check = check
        self._tail = re.compile(f"(?:{tail})\\Z", flags)
        self._reach = reach
        self._may_begin = may_begin

    def find(self, text: str, start: int) -> Iterator[Finding]:
        """See :meth:`Recognition.find`."""
        while (match := self._pattern.search(text, start)) is not None:
            begins = self._may_begin is None or self._may_begin(text, match.start())
            finding = self._check(match) if begins else None
            if finding is None:
                start = match.start() + 1
            else:
                yield finding
                start = finding.end

    def live(self, text: str, start: int) -> int:
        """See :meth:`Recognition.live`."""
        start = max(start, len(text) - self._reach)
        while (match := self._tail.search(text, start)) is not None:
            if self._may_begin is None or self._may_begin(text, match.start()):
                return match.start()
            start = match.start() + 1
        return len(text)


class Cue:
    """A word that says what the value behind it is."""

    def __init__(self, words: str, between: str = "", *, reach: int = 32) -> None:
        """Args: patterns of the words, and of what may stand between them and the value; the most characters
        of both, at most :data:`CONTEXT`.
        """
        self._pattern = re.compile(f"(?:{words}){between}\\Z", re.ASCII | re.IGNORECASE)
        self._reach = reach

    def before(self, text: str, position: int) -> bool:
        """Whether the word stands before a place."""
        return self._pattern.search(text, max(0, position - self._reach), position) is not None


def begun(literal: str, rest: str = "") -> str:
    """A pattern of every beginning of a literal but the empty one, and of the whole of it with ``rest`` behind."""
    pattern = rest
    for character in reversed(literal):
        pattern = f"{re.escape(character)}(?:{pattern})?"
    return pattern
