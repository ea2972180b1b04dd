"""What becomes of a text where words were found: the same for a whole text and for every way of cutting it.

Each character is treated by itself, by the strictest action of the hits that cover it. All
of them are known when it is decided, because a hit is told with the character it begins at.
"""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from server.filter.entries import Action, Entry, Hit
from server.filter.word_stream import Decided

MASK: Final = "＊"
"""Full width, because bots show Markdown, where plain asterisks are emphasis."""


class Rendered(msgspec.Struct, frozen=True):
    """The next part of a text as it may be shown."""

    text: str
    hits: tuple[Hit, ...] = ()
    """Those that mean something, with the one that stops as the last. Where one stops, later ones are not told."""
    stopped: Hit | None = None
    """The text ends here, right before this hit."""


class Rendering:
    """One text. Keeps only hits that reach beyond what was decided."""

    def __init__(self, actions: Callable[[Entry], Action], replacements: Callable[[Entry], str]) -> None:
        """Args: what an entry means, and what stands in its place where it means to replace."""
        self._action = actions
        self._replacement = replacements
        self._position = 0
        """Of what comes next, in the whole text."""
        self._reaching: list[tuple[Hit, Action]] = []
        self._in_replacement = False

    def apply(self, decided: Decided) -> Rendered:
        """The next part. Nothing may be applied behind a hit that stops."""
        judged = [(hit, self._action(hit.entry)) for hit in decided.hits]
        meant = [(hit, action) for hit, action in judged if action is not Action.PASS]
        if not meant and not self._reaching:
            self._position += len(decided.text)
            self._in_replacement = self._in_replacement and not decided.text
            return Rendered(decided.text)
        stop = self._stopping(meant)
        text = decided.text
        if stop is not None:
            text = text[: stop.start - self._position]
            meant = [(hit, action) for hit, action in meant if hit.start < stop.start or hit is stop]
        covering = self._reaching + [(hit, action) for hit, action in meant if not action.stops]
        shown = self._show(text, covering)
        self._position += len(text)
        self._reaching = [(hit, action) for hit, action in covering if hit.end > self._position]
        hits = [hit for hit, _ in meant if hit is not stop]
        return Rendered(shown, tuple(hits if stop is None else [*hits, stop]), stop)

    def _stopping(self, meant: Sequence[tuple[Hit, Action]]) -> Hit | None:
        """The first hit that stops; of several at one place, the strictest."""
        stopping = [(hit.start, -action, hit) for hit, action in meant if action.stops]
        return min(stopping, key=lambda each: each[:2])[2] if stopping else None

    def _show(self, text: str, covering: Sequence[tuple[Hit, Action]]) -> str:
        """The characters of ``text``, of which the first is the one at the present position."""
        here, end = self._position, self._position + len(text)
        masked = _mask(text, _stretches(covering, Action.MASK, here, end), here)
        shown: list[str] = []
        at = here
        for start, stop, hit in _stretches(covering, Action.REPLACE, here, end):
            if at < start:
                shown.append(masked[at - here : start - here])
                self._in_replacement = False
            if not self._in_replacement:
                shown.append(self._replacement(hit.entry))
            self._in_replacement = True
            at = stop
        if at < end:
            shown.append(masked[at - here :])
            self._in_replacement = False
        return "".join(shown)


def _stretches(
    covering: Sequence[tuple[Hit, Action]], wanted: Action, start: int, end: int
) -> list[tuple[int, int, Hit]]:
    """Where one action holds between ``start`` and ``end``, overlapping and touching hits as one, each with the first
    of its hits."""
    stretches: list[tuple[int, int, Hit]] = []
    for hit, action in covering:
        first, last = max(hit.start, start), min(hit.end, end)
        if action is not wanted or first >= last:
            continue
        if stretches and first <= stretches[-1][1]:
            begin, until, earlier = stretches[-1]
            stretches[-1] = (begin, max(until, last), earlier)
        else:
            stretches.append((first, last, hit))
    return stretches


def _mask(text: str, stretches: Sequence[tuple[int, int, Hit]], start: int) -> str:
    masked: list[str] = []
    at = start
    for first, last, _ in stretches:
        masked += (text[at - start : first - start], MASK * (last - first))
        at = last
    return "".join((*masked, text[at - start :]))
