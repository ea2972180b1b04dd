"""Every listed word in a text, also what does not count, each with the reason. For trying lists, not for turns."""

from typing import Final

from server.filter.base import Occurrence, Why
from server.filter.entries import Direction, Entry
from server.filter.fold import Folded
from server.filter.match_rules import NOTHING_BEFORE, Surroundings, Verdict
from server.filter.word_stream import Spans, Words

MAX_OCCURRENCES: Final = 10_000
"""Of one text; what follows is left out."""


def occurrences(words: Words, text: str, direction: Direction) -> tuple[Occurrence, ...]:
    """By where they start, the longer first."""
    folded = Folded(text)
    around = Surroundings(folded, NOTHING_BEFORE, ended=True)
    matches = words.matcher.matches(folded.content)
    allowed = Spans(
        [
            (start, end)
            for start, end, number in matches
            if words.pattern(number).allows and around.verdict(start, end, own_word=False) is Verdict.MEANT
        ]
    )
    found: list[Occurrence] = []
    for start, end, number in matches[:MAX_OCCURRENCES]:
        for entry in words.pattern(number).entries:
            why = _why(entry, direction, around.verdict(start, end, own_word=entry.boundary == "word"))
            if why is Why.MEANT and allowed.cover(start, end):
                why = Why.ALLOWED
            found.append(Occurrence(entry, folded.start(start), folded.end(end), why))
    return tuple(sorted(found, key=lambda each: (each.start, -each.end)))


def _why(entry: Entry, direction: Direction, verdict: Verdict) -> Why:
    return Why[verdict.name] if direction in entry.direction else Why.OTHER_DIRECTION
