"""Every listed word and every pattern in a text, also what does not count, each with the reason.

For trying lists, not for turns.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from server.filter.base import Occurrence, Why
from server.filter.entries import Direction, Entry
from server.filter.fold import Folded
from server.filter.match_rules import NOTHING_BEFORE, Surroundings, Verdict
from server.filter.pattern_stream import PatternStream
from server.filter.text_pattern import TextPattern
from server.filter.word_stream import Spans, Words

MAX_OCCURRENCES: Final = 10_000
"""Of one text; what follows is left out."""


def occurrences(
    words: Words, text: str, direction: Direction, patterns: Sequence[TextPattern] = ()
) -> tuple[Occurrence, ...]:
    """By where they start, the longer first."""
    found = dict.fromkeys(_in_one_pass(words, Folded(text), direction, repeated=False))
    if words.repeats:
        found |= dict.fromkeys(_in_one_pass(words, Folded(text).collapsed(), direction, repeated=True))
    if patterns:
        found |= dict.fromkeys(_of_patterns(patterns, text, direction))
    return tuple(sorted(found, key=lambda each: (each.start, -each.end)))


def _in_one_pass(words: Words, folded: Folded, direction: Direction, *, repeated: bool) -> Iterator[Occurrence]:
    around = Surroundings(folded, NOTHING_BEFORE, ended=True, repeated=repeated)
    matches = words.matcher.matches(folded.content)
    allowed = Spans(
        [
            (start, end)
            for start, end, number in matches
            if words.pattern(number).allows and around.verdict(start, end, own_word=False) is Verdict.MEANT
        ]
    )
    for start, end, number in matches[:MAX_OCCURRENCES]:
        for entry in words.pattern(number).entries:
            if repeated and not (entry.repeats and folded.is_repeated(start, end)):
                continue
            own_word = entry.boundary == "word" and not repeated
            why = _why(entry, direction, around.verdict(start, end, own_word=own_word))
            if why is Why.MEANT and allowed.cover(start, end):
                why = Why.ALLOWED
            yield Occurrence(entry, folded.start(start), folded.end(end), why)


def _of_patterns(patterns: Sequence[TextPattern], text: str, direction: Direction) -> Iterator[Occurrence]:
    for hit in PatternStream(patterns).close(text).hits[:MAX_OCCURRENCES]:
        why = Why.MEANT if direction in hit.entry.direction else Why.OTHER_DIRECTION
        yield Occurrence(hit.entry, hit.start, hit.end, why)


def _why(entry: Entry, direction: Direction, verdict: Verdict) -> Why:
    return Why[verdict.name] if direction in entry.direction else Why.OTHER_DIRECTION
