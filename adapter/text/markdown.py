"""The two parts of Markdown that must not be cut anywhere: fenced code and tables.

A small reader of lines, not a Markdown parser: it knows enough to tell where such a
block begins and ends, in time linear in the text.
"""

import re
from collections.abc import Sequence
from typing import Final

import msgspec

# Longer runs of ticks are somebody's line of decoration, and repeating them would fill the parts.
_FENCE: Final = re.compile(r"([ \t]*)(`{3,16}|~{3,16})([^\n]{0,80})$")
_FENCE_LINE_CHARACTERS: Final = 120


class Paragraph(msgspec.Struct, frozen=True):
    """Lines without an empty one between them."""

    gap: str
    """What stands between the block before and this one: line breaks and empty lines."""
    text: str


class Framed(msgspec.Struct, frozen=True):
    """Lines that need what stands above them: a code block or a table."""

    gap: str
    head: str
    """The opening fence, or the header and separator rows."""
    lines: Sequence[str]
    tail: str
    """The closing fence; empty for a table."""

    @property
    def is_table(self) -> bool:
        return not self.tail

    @property
    def text(self) -> str:
        return self.around(self.lines)

    def around(self, lines: Sequence[str]) -> str:
        """A block of the same kind that holds ``lines``."""
        return "\n".join([self.head, *lines, self.tail] if self.tail else [self.head, *lines])


Block = Paragraph | Framed


def blocks(text: str) -> list[Block]:
    """The blocks of ``text`` in order. Gaps and texts joined are ``text``, but for white space at its ends.

    A fence that nobody closed is closed at the end.
    """
    lines = text.split("\n")
    found: list[Block] = []
    at, empty = 0, 0
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        # As many breaks as there were: the lines between the blocks, kept as they are.
        gap = "\n".join(["", *lines[empty:at], ""]) if found else ""
        block, at = _block(lines, at, gap)
        found.append(block)
        empty = at
    return found


def _block(lines: list[str], at: int, gap: str) -> tuple[Block, int]:
    fence = opening_fence(lines[at])
    if fence is not None:
        end = at + 1
        while end < len(lines) and not closes(lines[end], fence):
            end += 1
        tail = lines[end] if end < len(lines) else fence
        return Framed(gap, lines[at], lines[at + 1 : end], tail), end + 1
    if _is_table(lines, at):
        end = at + 2
        while end < len(lines) and "|" in lines[end] and opening_fence(lines[end]) is None:
            end += 1
        return Framed(gap, f"{lines[at]}\n{lines[at + 1]}", lines[at + 2 : end], ""), end
    end = at + 1
    while end < len(lines) and lines[end].strip() and opening_fence(lines[end]) is None and not _is_table(lines, end):
        end += 1
    return Paragraph(gap, "\n".join(lines[at:end])), end


def opening_fence(line: str) -> str | None:
    """What closes the code block that ``line`` opens: its indentation and ticks; ``None`` if it opens none."""
    if len(line) > _FENCE_LINE_CHARACTERS:
        return None
    match = _FENCE.match(line)
    # Ticks after ticks are a code span in a line of text.
    if match is None or (match[2][0] in match[3]):
        return None
    return match[1] + match[2]


def closes(line: str, fence: str) -> bool:
    """Whether ``line`` ends the code block that ``fence`` belongs to."""
    stripped, ticks = line.strip(), fence.strip()
    return len(stripped) >= len(ticks) and stripped == ticks[0] * len(stripped)


def close_fence(text: str) -> str:
    """``text``, with its last code block closed if it is open."""
    if "```" not in text and "~~~" not in text:
        return text
    fence: str | None = None
    for line in text.split("\n"):
        if fence is None:
            fence = opening_fence(line)
        elif closes(line, fence):
            fence = None
    if fence is None:
        return text
    return f"{text}{fence}" if text.endswith("\n") else f"{text}\n{fence}"


def _is_table(lines: list[str], at: int) -> bool:
    return at + 1 < len(lines) and "|" in lines[at] and _is_separator(lines[at + 1])


def _is_separator(line: str) -> bool:
    if "|" not in line or "-" not in line or not set(line) <= set("|:- \t"):
        return False
    return all(re.fullmatch(r":?-+:?", cell) for cell in cells(line))


def cells(row: str) -> list[str]:
    """The cells of a table row, without the white space around them."""
    inner = row.strip().removeprefix("|")
    if inner.endswith("|") and not inner.endswith("\\|"):
        inner = inner[:-1]
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", inner)]
