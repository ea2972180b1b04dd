"""Word documents (``.docx``): paragraphs, headings, lists and tables, as Markdown."""

import re
import zipfile
from collections.abc import Mapping
from typing import Final

from server.media.bounded_text import BoundedText
from server.media.markdown_table import MAX_COLUMNS, MarkdownTable
from server.media.packed import XmlReader, parse

DOCUMENT: Final = "word/document.xml"
_STYLES: Final = "word/styles.xml"
_MAX_DOCUMENT_BYTES: Final = 1 << 30
"""It is read piece by piece, and only until there is enough text."""
_MAX_STYLES_BYTES: Final = 8 << 20
_HEADING_NAME: Final = re.compile(r"heading ([1-9])", re.IGNORECASE)
_DEEPEST_HEADING: Final = 6
_ITEM: Final = "- "
_MAX_CELL_CHARACTERS: Final = 2000
_MAX_PARAGRAPH_CHARACTERS: Final = 100_000


def read_word(archive: zipfile.ZipFile, text: BoundedText) -> None:
    """Reads the body of a document; notes, comments, headers and what was struck out are left out.

    Raises:
        CannotRead: if it cannot be read.
        Enough: if there is enough text.
    """
    body = _Body(text, _prefixes(archive))
    parse(archive, DOCUMENT, _MAX_DOCUMENT_BYTES, body.reader())


def _prefixes(archive: zipfile.ZipFile) -> Mapping[str, str]:
    """What stands in front of a paragraph, by the identifier of its style. Word in Chinese calls headings 1, 2, 3."""
    prefixes: dict[str, str] = {}
    current = ""

    def style(attributes: Mapping[str, str]) -> None:
        nonlocal current
        current = attributes.get("styleId", "")

    def name(attributes: Mapping[str, str]) -> None:
        found = _HEADING_NAME.fullmatch(attributes.get("val", ""))
        if found:
            prefixes[current] = f"{'#' * min(int(found[1]), _DEEPEST_HEADING)} "

    def numbered(_: Mapping[str, str]) -> None:
        prefixes.setdefault(current, _ITEM)

    parse(archive, _STYLES, _MAX_STYLES_BYTES, XmlReader({"style": style, "name": name, "numPr": numbered}, {}))
    return prefixes


class _Body:
    """Takes the elements of a body as they come, and writes what a reader would see."""

    def __init__(self, text: BoundedText, prefixes: Mapping[str, str]) -> None:
        self._text = text
        self._prefixes = prefixes
        self._said: list[str] = []
        self._characters = 0
        self._in_run = False
        self._prefix = ""
        self._hidden = 0
        self._tables = 0
        self._table = MarkdownTable(text)
        self._row: list[str] = []
        self._cell: list[str] = []

    def reader(self) -> XmlReader:
        return XmlReader(
            {
                "p": self._paragraph_begins,
                "pStyle": self._style,
                "numPr": self._list_item,
                "t": lambda _: self._run(begins=True),
                "tab": lambda _: self._say("\t"),
                "br": lambda _: self._say("\n"),
                "cr": lambda _: self._say("\n"),
                # What newer programs draw instead; it says the same once more.
                "Fallback": lambda _: self._hide(1),
                "tbl": lambda _: self._table_begins(),
                "tr": lambda _: self._row_begins(),
                "tc": lambda _: self._cell_begins(),
            },
            {
                "p": self._paragraph_ends,
                "t": lambda: self._run(begins=False),
                "Fallback": lambda: self._hide(-1),
                "tbl": self._table_ends,
                "tr": self._row_ends,
                "tc": self._cell_ends,
            },
            self._characters_of_run,
        )

    # --- paragraphs ------------------------------------------------------------------------

    def _paragraph_begins(self, _: Mapping[str, str]) -> None:
        self._prefix = ""

    def _style(self, attributes: Mapping[str, str]) -> None:
        self._prefix = self._prefixes.get(attributes.get("val", ""), "")

    def _list_item(self, _: Mapping[str, str]) -> None:
        self._prefix = self._prefix or _ITEM

    def _run(self, *, begins: bool) -> None:
        self._in_run = begins

    def _characters_of_run(self, text: str) -> None:
        if self._in_run:
            self._say(text)

    def _say(self, text: str) -> None:
        if not self._hidden and self._characters < _MAX_PARAGRAPH_CHARACTERS:
            self._characters += len(text)
            self._said.append(text)

    def _hide(self, by: int) -> None:
        self._hidden += by

    def _paragraph_ends(self) -> None:
        said = "".join(self._said).strip()
        self._said.clear()
        self._characters = 0
        if self._tables:
            if said and sum(map(len, self._cell)) < _MAX_CELL_CHARACTERS:
                self._cell.append(said)
        elif said:
            self._text.line(f"{self._prefix}{said}\n" if self._prefix.startswith("#") else f"{self._prefix}{said}")

    # --- tables: one within another becomes text of the cell it stands in -------------------

    def _table_begins(self) -> None:
        self._tables += 1
        if self._tables == 1:
            self._table = MarkdownTable(self._text)

    def _row_begins(self) -> None:
        if self._tables == 1:
            self._row = []

    def _cell_begins(self) -> None:
        if self._tables == 1:
            self._cell = []

    def _cell_ends(self) -> None:
        if self._tables == 1 and len(self._row) < MAX_COLUMNS:
            self._row.append(" ".join(self._cell))

    def _row_ends(self) -> None:
        if self._tables == 1:
            self._table.row(self._row)

    def _table_ends(self) -> None:
        self._tables -= 1
        if not self._tables:
            self._table.end()
