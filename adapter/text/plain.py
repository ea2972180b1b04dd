"""Markdown for clients that show text as it is: what the marks mean, said without them.

Models write Markdown whether asked to or not. The portable message type of an
application is text, which shows every mark (DOC 90236). Time is linear in the text.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import Final

from adapter.text.markdown import Framed, blocks, cells

_HEADING: Final = re.compile(r"[ ]{0,3}#{1,6}[ \t]+(.+)$")
_RULE: Final = re.compile(r"[ ]{0,3}([-*_])[ \t]*(?:\1[ \t]*){2,}$")
_ITEM: Final = re.compile(r"\A([ \t]*)[-*+][ \t]+(?:\[([ xX])\][ \t]+)?(?=\S)")
_TICKS: Final = re.compile("`+")
_ADDRESS: Final = re.compile(r"https?://[^\s<>()]{1,2048}")
_LINK: Final = re.compile(r"!?\[([^\[\]\n]{0,300})\]\(<?([^()\s<>]{1,2048}(?:\([^()\s<>]{0,200}\)[^()\s<>]{0,200})?)>?"
                          r"(?:[ \t]+\"[^\"\n]{0,300}\")?\)")  # fmt: skip
_AUTOLINK: Final = re.compile(r"<((?:https?://|mailto:)[^\s<>]{1,2048})>")
_BREAK: Final = re.compile(r"<br[ \t]{0,8}/?>", re.IGNORECASE)
_ESCAPED: Final = re.compile(r"\\([\\`*_{}\[\]()#+\-.!|~>])")
_RULE_LINE: Final = "————————"


def plain(text: str) -> str:
    """``text`` as a person would type it.

    Headings stand in 【】, list marks become bullets, a link reads ``标题 (address)``, each
    row of a table is a line of ``键：值``; emphasis and ticks go. Code blocks keep their
    fences, so that it stays clear what is code, and their content untouched.
    """
    out = []
    for block in blocks(text):
        out.append(block.gap)
        if isinstance(block, Framed):
            out.append("\n".join(_rows(block)) if block.is_table else block.text)
        else:
            out.append("\n".join(_line(line) for line in block.text.split("\n")))
    return "".join(out)


def without_tables(text: str) -> str:
    """``text``, still Markdown, but for tables, for clients that would show their pipes."""
    return "".join(
        block.gap + ("\n".join(_rows(block)) if isinstance(block, Framed) and block.is_table else block.text)
        for block in blocks(text)
    )


def _line(line: str) -> str:
    if _RULE.match(line):
        return _RULE_LINE
    heading = _HEADING.match(line)
    if heading:
        return f"【{_inline(heading[1].rstrip().rstrip('#').rstrip())}】"
    return _inline(_ITEM.sub(_bullet, line, count=1))


def _bullet(match: re.Match[str]) -> str:
    mark = {None: "•", " ": "☐"}.get(match[2], "☑")
    return f"{match[1]}{mark} "


def _rows(table: Framed) -> Iterator[str]:
    header = [_inline(cell) for cell in cells(table.head.split("\n")[0])]
    rows = [[_inline(cell) for cell in cells(row)] for row in table.lines]
    if len(header) <= 2 or not rows:
        yield "：".join(cell for cell in header if cell)
        yield from ("：".join(cell for cell in row if cell) for row in rows)
        return
    for row in rows:
        named = zip(header + [""] * (len(row) - len(header)), row, strict=False)
        yield "• " + "；".join(f"{name}：{cell}" if name else cell for name, cell in named if cell)


# --- Inside a line -----------------------------------------------------------------------


def _inline(line: str) -> str:
    line = _linked(_BREAK.sub("\n", line))
    for mark in ("***", "**", "__", "~~", "*", "_"):
        if mark in line:
            line = _without_pairs(line, mark)
    out, at = [], 0
    for start, end, width in _code_spans(line):
        out += [_ESCAPED.sub(r"\1", line[at:start]), line[start + width : end - width].strip() or line[start:end]]
        at = end
    return "".join([*out, _ESCAPED.sub(r"\1", line[at:])])


def _linked(line: str) -> str:
    """``line`` with its links in words; what looks like a link inside code stays."""
    if "](" in line:
        spans = _code_spans(line)
        starts = [start for start, _, _ in spans]

        def say(match: re.Match[str]) -> str:
            number = bisect_right(starts, match.start()) - 1
            if number >= 0 and match.start() < spans[number][1]:
                return match[0]
            title, address = match[1].strip(), match[2]
            return address if title in ("", address) else f"{title} ({address})"

        line = _LINK.sub(say, line)
    return _AUTOLINK.sub(r"\1", line)


def _code_spans(line: str) -> list[tuple[int, int, int]]:
    """Start, end and number of ticks of the code spans of a line: ticks up to the next run of as many."""
    runs = [(match.start(), match.end()) for match in _TICKS.finditer(line)]
    following: dict[int, int] = {}
    closing: list[int | None] = [None] * len(runs)
    for number in range(len(runs) - 1, -1, -1):
        width = runs[number][1] - runs[number][0]
        closing[number] = following.get(width)
        following[width] = number
    spans, number = [], 0
    while number < len(runs):
        end = closing[number]
        if end is not None:
            spans.append((runs[number][0], runs[end][1], runs[number][1] - runs[number][0]))
            number = end
        number += 1
    return spans


def _without_pairs(line: str, mark: str) -> str:
    """``line`` without the pairs of ``mark`` that emphasise: none in code or addresses, none inside a word."""
    kept = [(start, end) for start, end, _ in _code_spans(line)]
    kept += [match.span() for match in _ADDRESS.finditer(line)]
    kept.sort()
    drop: list[int] = []
    opened: int | None = None
    at, protected = line.find(mark), 0
    while at >= 0:
        while protected < len(kept) and kept[protected][1] <= at:
            protected += 1
        if protected < len(kept) and kept[protected][0] <= at:
            at = line.find(mark, kept[protected][1])
            continue
        end = at + len(mark)
        if opened is not None and _closes(line, at, end, mark):
            drop += [opened, at]
            opened = None
        elif _opens(line, at, end, mark):
            opened = at
        at = line.find(mark, end)
    out, last = [], 0
    for start in drop:
        out.append(line[last:start])
        last = start + len(mark)
    return "".join([*out, line[last:]])


def _opens(line: str, at: int, end: int, mark: str) -> bool:
    before, after = line[at - 1 : at], line[end : end + 1]
    return (
        bool(after)
        and not after.isspace()
        and after != mark[0]
        and before not in ("\\", mark[0])
        and not _is_word(before)
    )


def _closes(line: str, at: int, end: int, mark: str) -> bool:
    before, after = line[at - 1 : at], line[end : end + 1]
    return not before.isspace() and before not in ("\\", mark[0]) and after != mark[0] and not _is_word(after)


def _is_word(character: str) -> bool:
    # Chinese has no spaces around an emphasised word, so only what a formula or a name is made of counts.
    return character.isascii() and character.isalnum()
