"""Cuts a text into messages that WeCom takes whole.

WeCom counts bytes and cuts what is too long, in the middle of a character if need be
(DOC 90236), so the cutting is done here, where it can be done at a good place.
"""

import unicodedata
from typing import Final

from adapter.text.markdown import Block, Framed, Paragraph, blocks, close_fence
from adapter.text.visible import encodable, has_visible, utf8_length

SMALLEST_LIMIT: Final = 32
"""Below this a marker would leave no room for the text."""

_STOPS: Final = "。！？；…"
_WESTERN_STOPS: Final = ".!?;"
_CLAUSES: Final = "，、：, \t"
_CLOSERS: Final = frozenset("”’」』）)】》\"'。！？…")
_CLUSTER_STEPS: Final = 64
_ZWJ: Final = "\u200d"


def split(text: str, limit: int, *, numbered: bool = True) -> list[str]:
    """The parts of ``text`` in order, each at most ``limit`` bytes of UTF-8, marker included.

    Cuts fall between paragraphs, else between lines, else between sentences, else
    between clauses or words, else between characters as a person sees them. Code blocks
    and tables stay whole when a part can hold them, else each piece is given the fence,
    or the header rows, again. Nothing but white space at cuts is lost. A text that fits
    stays as it is; one without a visible character has no parts. With ``numbered``,
    several parts begin with ``(1/3)``, ``(2/3)`` and so on.

    Takes time linear in the text, whatever the text.

    Raises:
        ValueError: ``limit`` is below 32.
    """
    if limit < SMALLEST_LIMIT:
        raise ValueError(f"limit: must be at least {SMALLEST_LIMIT} bytes")
    text = close_fence(encodable(text))
    size = utf8_length(text)
    if size <= limit:
        return [text] if has_visible(text) else []
    found = blocks(text)
    if not numbered:
        return _pack(found, limit)
    digits = len(str(size // limit + 1))
    while True:
        parts = _pack(found, limit - 2 * digits - len("(/)\n\n"))
        if len(parts) < 10**digits:
            break
        digits += 1
    if len(parts) < 2:
        return parts
    return [_marker(number, len(parts), part) + part for number, part in enumerate(parts, start=1)]


def _marker(number: int, total: int, part: str) -> str:
    # A rule or a table right below a line of text would make that line a heading or a row.
    apart = "\n\n" if part.lstrip()[:1] in ("|", "-", "=") else "\n"
    return f"({number}/{total}){apart}"


def _pack(found: list[Block], budget: int) -> list[str]:
    parts = _Parts(budget)
    for block in found:
        if isinstance(block, Paragraph):
            _put_text(parts, block.gap, block.text)
        else:
            _put_framed(parts, block)
    parts.flush()
    return parts.done


class _Parts:
    """The parts so far, and the one being filled."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.done: list[str] = []
        self._pieces: list[str] = []
        self._used = 0

    @property
    def is_empty(self) -> bool:
        return not self._pieces

    def room(self, gap: str) -> int:
        """Bytes that are left in this part after ``gap``."""
        return self.budget if self.is_empty else self.budget - self._used - utf8_length(gap)

    def put(self, gap: str, text: str) -> None:
        """Adds what :meth:`room` has room for."""
        if not self.is_empty:
            self._pieces.append(gap)
            self._used += utf8_length(gap)
        self._pieces.append(text)
        self._used += utf8_length(text)

    def flush(self) -> None:
        """Ends this part; one that nobody would see is dropped."""
        part = "".join(self._pieces).rstrip()
        if has_visible(part):
            self.done.append(part)
        self._pieces.clear()
        self._used = 0


def _put_text(parts: _Parts, gap: str, text: str) -> None:
    size = utf8_length(text)
    if size <= parts.room(gap):
        parts.put(gap, text)
        return
    # It is cut anyway if no part can hold it; then a part that has just begun is better filled than sent.
    if size <= parts.budget or parts.room(gap) < parts.budget * 3 // 4:
        parts.flush()
    at = 0
    while at < len(text):
        end = cut(text, at, parts.room(gap))
        parts.put(gap, text[at:end])
        at = _after_space(text, end)
        if at < len(text):
            parts.flush()


def _after_space(text: str, at: int) -> int:
    """Past the white space at a cut, but not past the indentation of a new line."""
    while at < len(text) and text[at].isspace():
        at += 1
        if text[at - 1] == "\n":
            break
    return at


def _put_framed(parts: _Parts, block: Framed) -> None:
    size, gap = utf8_length(block.text), block.gap
    if size > parts.room(gap) and size <= parts.budget:
        parts.flush()
    if size <= parts.room(gap):
        parts.put(gap, block.text)
        return
    frame = utf8_length(block.around([]))
    if frame > parts.budget // 2:
        # Repeating it would leave no room for what it holds.
        _put_text(parts, gap, block.text)
        return
    if parts.room(gap) < parts.budget // 2 + frame:
        parts.flush()
    _put_lines(parts, block, frame)


def _put_lines(parts: _Parts, block: Framed, frame: int) -> None:
    gap, body, used = block.gap, list[str](), 0
    for line in block.lines:
        for piece in _pieces(line, parts.budget - frame - 1):
            cost = utf8_length(piece) + 1
            if used + cost > parts.room(gap) - frame:
                _put_body(parts, block, gap, body)
                parts.flush()
                gap, body, used = "", [], 0
            body.append(piece)
            used += cost
    _put_body(parts, block, gap, body)


def _put_body(parts: _Parts, block: Framed, gap: str, body: list[str]) -> None:
    if has_visible("".join(body)):
        parts.put(gap, block.around(body))


def _pieces(line: str, room: int) -> list[str]:
    """A line of code or a row, cut where it must be and otherwise as it is."""
    pieces, at = [], 0
    while utf8_length(line[at : at + room + 1]) > room:
        end = cut(line, at, room)
        pieces.append(line[at:end])
        at = end
    return [*pieces, line[at:]]


# --- Where to cut ------------------------------------------------------------------------


def cut(text: str, start: int, room: int) -> int:
    """Where the piece of ``text`` that begins at ``start`` and has at most ``room`` bytes ends best.

    Args: ``room`` at least 4, so that any character fits; the result is above ``start``.
    """
    end = start + _characters_that_fit(text, start, room)
    if end >= len(text):
        return len(text)
    best = text.rfind("\n", start + (end - start) // 8, end + 1)
    if best <= start:
        best = _sentence_end(text, start + (end - start) // 8, end)
    if best <= start:
        best = _clause_end(text, start + (end - start) // 2, end)
    if best <= start:
        best = _between_clusters(text, start, end)
    return _not_before_fence(text, start, best)


def _characters_that_fit(text: str, start: int, room: int) -> int:
    window = text[start : start + room]
    encoded = window.encode()
    return len(window) if len(encoded) <= room else len(encoded[:room].decode("utf-8", "ignore"))


def _sentence_end(text: str, low: int, end: int) -> int:
    """Behind the last sentence that ends between ``low`` and ``end``; 0 if none does."""
    best = max(text.rfind(stop, low, end) for stop in _STOPS) + 1
    for stop in _WESTERN_STOPS:
        # Only before a space: not inside an address, a number or a name. "1. " begins an item.
        at = text.rfind(f"{stop} ", low, end + 1)
        while at > low and text[at - 1].isdigit():
            at = text.rfind(f"{stop} ", low, at)
        best = max(best, at + 1)
    if best > low:
        while best < end and text[best] in _CLOSERS:
            best += 1
    return best


def _clause_end(text: str, low: int, end: int) -> int:
    return max(text.rfind(mark, low, end) for mark in _CLAUSES) + 1


def _between_clusters(text: str, start: int, end: int) -> int:
    """``end``, or a little before it, so that no emoji or accented letter falls apart if that can be helped."""
    for at in range(end, max(start, end - _CLUSTER_STEPS), -1):
        if not _joins(text, at):
            return at
    return end


def _joins(text: str, at: int) -> bool:
    """Whether the characters on both sides of ``at`` are shown as one (UAX 29, the rules that occur in chats)."""
    before, after = text[at - 1], text[at]
    code = ord(after)
    if code < 0x300:
        return False
    if before == _ZWJ or after in (_ZWJ, "\u200c") or unicodedata.category(after)[0] == "M":
        return True
    if 0x1F3FB <= code <= 0x1F3FF or 0xE0020 <= code <= 0xE007F:
        return True
    if 0x1160 <= code <= 0x11FF:
        return 0x1100 <= ord(before) <= 0x11FF or 0xAC00 <= ord(before) <= 0xD7A3
    if _is_regional(after) and _is_regional(before):
        return _regionals_before(text, at) % 2 == 1
    return False


def _is_regional(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _regionals_before(text: str, at: int) -> int:
    # Bounded: in an endless row of flags it does not matter which two letters stay together.
    count = 0
    while count < _CLUSTER_STEPS and at - count > 0 and _is_regional(text[at - count - 1]):
        count += 1
    return count


def _not_before_fence(text: str, start: int, end: int) -> int:
    """``end``, or earlier, so that ticks in the middle of a line do not open a code block in the next part."""
    at = end
    while at > start and text.startswith(("```", "~~~"), _skip_blanks(text, at)):
        at -= 1
        while at > start and text[at].isspace():
            at -= 1
    return at if at > start else end


def _skip_blanks(text: str, at: int) -> int:
    # Bounded, because it is asked again for every cut inside a long blank.
    last = min(len(text), at + _CLUSTER_STEPS)
    while at < last and text[at].isspace():
        at += 1
    return at
