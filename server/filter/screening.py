"""Word lists, patterns and a policy at work: for whole texts, and for texts that come in pieces."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import structlog

from server.filter.base import FilterObserver, Screened, Screening, TextStream, Unobserved
from server.filter.entries import Action, Direction, Hit
from server.filter.passes import Pass, stream_of
from server.filter.policy import Policy
from server.filter.rendering import Rendering
from server.filter.text_pattern import TextPattern
from server.filter.word_stream import Decided, Words

_log = structlog.get_logger(__name__)

MAX_LOGGED: Final = 20
"""Entries that are logged for one text, each of them once; all hits are counted."""


class ListScreener:
    """A :class:`~server.filter.base.Screener` with word lists and patterns."""

    def __init__(
        self,
        words: Callable[[], Words],
        policies: Mapping[str, Policy],
        observer: FilterObserver | None = None,
        *,
        patterns: Sequence[TextPattern] = (),
    ) -> None:
        """Args:
        words: gives the lists as they are now.
        policies: by the name of the assistant; others are not looked at.
        """
        self._words = words
        self._patterns = patterns
        self._policies = policies
        self._observer = observer or Unobserved()

    def screening(self, assistant: str) -> Screening:
        """See :meth:`server.filter.base.Screener.screening`."""
        policy = self._policies.get(assistant)
        if policy is None:
            return PASSING
        return ListScreening(self._words(), self._patterns, policy, assistant, self._observer)


class ListScreening:
    """A :class:`~server.filter.base.Screening` with one state of the lists."""

    def __init__(
        self,
        words: Words,
        patterns: Sequence[TextPattern],
        policy: Policy,
        assistant: str,
        observer: FilterObserver,
    ) -> None:
        """Args: the assistant's name is for the log."""
        self._words = words
        self._patterns = patterns
        self._policy = policy
        self._assistant = assistant
        self._observer = observer

    def check(self, text: str, direction: Direction) -> Screened:
        """See :meth:`server.filter.base.Screening.check`."""
        decided = stream_of(self._words, direction, self._patterns).close(text)
        if not decided.hits:
            return Screened(text)
        action_of = self._policy.actions(direction)
        hits = tuple(hit for hit in decided.hits if action_of(hit.entry) is not Action.PASS)
        self._report(direction).tell(hits)
        rendered = Rendering(action_of, self._policy.replacement).apply(decided)
        return Screened(rendered.text, max((action_of(hit.entry) for hit in hits), default=Action.PASS), hits)

    def stream(self, direction: Direction) -> TextStream:
        """See :meth:`server.filter.base.Screening.stream`."""
        actions = self._policy.actions(direction)
        rendering = Rendering(actions, self._policy.replacement)
        found = stream_of(self._words, direction, self._patterns)
        return _ListStream(found, rendering, self._report(direction))

    def _report(self, direction: Direction) -> "_Report":
        return _Report(self._assistant, direction, self._policy, self._observer)


class _ListStream:
    def __init__(self, found: Pass, rendering: Rendering, report: "_Report") -> None:
        self._found = found
        self._rendering = rendering
        self._report = report

    def feed(self, text: str) -> Screened:
        return self._render(self._found.feed(text))

    def close(self) -> Screened:
        return self._render(self._found.close())

    def _render(self, decided: Decided) -> Screened:
        rendered = self._rendering.apply(decided)
        if not rendered.hits:
            return Screened(rendered.text)
        return Screened(rendered.text, self._report.tell(rendered.hits), rendered.hits)


class _Report:
    """Counts the hits of one text, and logs each entry once: by tag and id, never by its words."""

    def __init__(self, assistant: str, direction: Direction, policy: Policy, observer: FilterObserver) -> None:
        self._assistant = assistant
        self._direction = direction
        self._action_of = policy.actions(direction)
        self._observer = observer
        self._logged: set[str] = set()

    def tell(self, hits: tuple[Hit, ...]) -> Action:
        """Returns the strictest action."""
        strictest = Action.PASS
        for hit in hits:
            action = self._action_of(hit.entry)
            strictest = max(strictest, action)
            self._observer.hit(self._direction, hit.entry.tag, action)
            self._log(hit, action)
        return strictest

    def _log(self, hit: Hit, action: Action) -> None:
        if hit.entry.id in self._logged or len(self._logged) == MAX_LOGGED:
            return
        self._logged.add(hit.entry.id)
        _log.info(
            "filter_hit",
            assistant=self._assistant,
            direction=str(self._direction.name).lower(),
            tag=hit.entry.tag,
            entry=hit.entry.id,
            action=action.name.lower(),
        )


class _Passing:
    """Looks for nothing."""

    def check(self, text: str, direction: Direction) -> Screened:
        return Screened(text)

    def stream(self, direction: Direction) -> TextStream:
        return _PASSING_STREAM


class _PassingStream:
    def feed(self, text: str) -> Screened:
        return Screened(text)

    def close(self) -> Screened:
        return Screened("")


_PASSING_STREAM: Final = _PassingStream()
PASSING: Final[Screening] = _Passing()
"""For assistants without a policy."""
