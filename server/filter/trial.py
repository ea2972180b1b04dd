"""What the filter makes of a text that is only tried. Pure: nothing is logged or counted."""

from collections.abc import Sequence

from server.filter.base import Occurrence, TriedText, Why
from server.filter.entries import Action, Direction, Hit
from server.filter.fold import Folded
from server.filter.policy import Policy
from server.filter.rendering import Rendering
from server.filter.word_stream import Decided


def judged(text: str, occurrences: Sequence[Occurrence], policy: Policy | None, direction: Direction) -> TriedText:
    """The occurrences in a text with what they lead to, and what is passed on of it.

    Args:
        occurrences: by where they start.
        policy: ``None`` for an assistant in which nothing is looked for: nothing leads to anything then.
    """
    folded = Folded(text).content
    if policy is None:
        return TriedText(folded, tuple(occurrences), Action.PASS, text)
    action_of = policy.actions(direction)
    told = tuple(
        Occurrence(each.entry, each.start, each.end, each.why, action_of(each.entry)) if each.why is Why.MEANT else each
        for each in occurrences
    )
    hits = tuple(Hit(each.entry, each.start, each.end) for each in told if each.why is Why.MEANT)
    rendered = Rendering(action_of, policy.replacement).apply(Decided(text, hits))
    action = max((each.action for each in told), default=Action.PASS)
    return TriedText(folded, told, action, "" if action.stops else rendered.text)
