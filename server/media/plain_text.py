"""Files that are text: notes, Markdown, tables with commas, logs, programs, web pages."""

import codecs
import re
from html.parser import HTMLParser
from typing import BinaryIO, Final

from server.media.bounded_text import BoundedText
from server.media.job import CannotRead

_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_CONTROLS: Final = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_MAX_BYTES_PER_CHARACTER: Final = 4
_HTML_BYTES: Final = 2 << 20
"""Bytes of a web page that are read: most of one is no text."""

_HTML_EXTENSIONS: Final = frozenset({"html", "htm", "xhtml"})
_SILENT: Final = frozenset({"script", "style", "head", "template", "noscript", "svg"})
_BLOCKS: Final = frozenset(
    "p div br li tr h1 h2 h3 h4 h5 h6 section article table ul ol blockquote pre dt dd hr figure".split()  # noqa: SIM905 - reads better
)


def read_plain(file: BinaryIO, extension: str, text: BoundedText, max_characters: int) -> None:
    """Reads a file that should be text.

    Raises:
        CannotRead: ``unsupported`` if it is none.
        Enough: if there is enough text.
    """
    html = extension in _HTML_EXTENSIONS
    most = _HTML_BYTES if html else (max_characters + 1) * _MAX_BYTES_PER_CHARACTER
    data = file.read(most)
    said = decoded(data, whole=not file.read(1))
    if html:
        _read_html(said, text)
    else:
        text.add(said.replace("\r\n", "\n").replace("\r", "\n"))


def decoded(data: bytes, *, whole: bool) -> str:
    """Bytes as text: by their mark, else as UTF-8, else as GB18030, in which Windows in China writes.

    Args:
        data: the beginning of a file.
        whole: whether it is all of it, and not cut in the middle of a character perhaps.

    Raises:
        CannotRead: ``unsupported`` if that makes no text.
    """
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return _text(data[len(mark) :], encoding, whole=whole)
    if b"\0" in data:
        raise CannotRead("unsupported")
    try:
        return _text(data, "utf-8", whole=whole)
    except CannotRead:
        return _text(data, "gb18030", whole=whole)


def _text(data: bytes, encoding: str, *, whole: bool) -> str:
    try:
        said = codecs.getincrementaldecoder(encoding)().decode(data, final=whole)
    except UnicodeDecodeError:
        raise CannotRead("unsupported") from None
    # Bytes of any kind are valid in GB18030 now and then, but no text is full of control characters.
    if len(_CONTROLS.findall(said)) > len(said) // 1000:
        raise CannotRead("unsupported")
    return said


def _read_html(said: str, text: BoundedText) -> None:
    reader = _PageReader(text)
    reader.feed(said)
    reader.close()


class _PageReader(HTMLParser):
    """What a person would read on a page."""

    def __init__(self, text: BoundedText) -> None:
        super().__init__(convert_charrefs=True)
        self._text = text
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _SILENT:
            self._silent += 1
        elif tag in _BLOCKS:
            self._text.add("\n")
        elif tag in ("td", "th"):
            self._text.add(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag in _SILENT:
            self._silent = max(0, self._silent - 1)
        elif tag in _BLOCKS:
            self._text.add("\n")

    def handle_data(self, data: str) -> None:
        if not self._silent and (said := " ".join(data.split())):
            self._text.add(f"{said} ")
