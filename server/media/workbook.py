"""Workbooks (``.xlsx``): the sheets that can be seen, as Markdown tables."""

import datetime
import zipfile
from typing import BinaryIO, Final

from openpyxl.reader.excel import ExcelReader
from openpyxl.worksheet._read_only import ReadOnlyWorksheet
from openpyxl.xml.constants import SHARED_STRINGS

from server.media.bounded_text import BoundedText
from server.media.job import CannotRead
from server.media.markdown_table import MAX_COLUMNS, MarkdownTable
from server.media.packed import WORKBOOK, XmlReader, check_entry, parse

_STRINGS: Final = "xl/sharedStrings.xml"
_MAX_ROWS: Final = 20_000
"""Rows of a sheet that are looked at, empty ones included."""

_MAX_SHEET_BYTES: Final = 1 << 30
"""Sheets are read row by row, and only until there is enough text."""

_MAX_OTHER_BYTES: Final = 64 << 20

_KEPT_BYTES: Final = {
    _STRINGS: 24 << 20,
    "xl/styles.xml": 4 << 20,
    WORKBOOK: 2 << 20,
    "[Content_Types].xml": 2 << 20,
}
"""What is read as a whole before the first row, and its size unpacked: these take memory."""


def read_workbook(archive: zipfile.ZipFile, file: BinaryIO, text: BoundedText) -> None:
    """Reads the sheets: values as they were last worked out, and no formulas.

    Raises:
        CannotRead: if they cannot be read.
        Enough: if there is enough text.
    """
    for entry in archive.infolist():
        most = _MAX_SHEET_BYTES if "/worksheets/" in entry.filename else _MAX_OTHER_BYTES
        check_entry(archive, entry.filename, _KEPT_BYTES.get(entry.filename, most))
    reader = _Reader(file, read_only=True, data_only=True, keep_links=False)
    reader.read()
    book = reader.wb
    if not book.worksheets:
        raise CannotRead("without_text")
    for sheet in book.worksheets:
        if sheet.sheet_state != "visible":
            continue
        text.line(f"\n## 工作表：{sheet.title[:100]}")
        table = MarkdownTable(text)
        for row in sheet.iter_rows(max_row=_MAX_ROWS, max_col=MAX_COLUMNS, values_only=True):
            table.row([_shown(value) for value in row])
        table.end()


class _Sheet(ReadOnlyWorksheet):
    """Not asked how large it is: where it does not say, all its rows would be read for that, before the first."""

    def _get_size(self) -> None:
        pass


class _Reader(ExcelReader):
    """As ``openpyxl.load_workbook`` uses it, but quicker with the texts of cells, which a workbook keeps apart.

    All of them are read before the first row: a hundred thousand take a fifth of a second here, and more than
    one otherwise.
    """

    def read_worksheets(self) -> None:
        """Finds the sheets, and reads nothing of them yet. Sheets that are one chart are left out."""
        for sheet, relation in self.parser.find_sheets():
            if relation.target in self.valid_files and "chartsheet" not in relation.Type:
                found = _Sheet(self.wb, sheet.name, relation.target, self.shared_strings)
                found.sheet_state = sheet.state or "visible"
                # Where its reader puts them, too; there is no public way.
                self.wb._sheets.append(found)  # type: ignore[attr-defined]  # noqa: SLF001

    def read_strings(self) -> None:
        """Reads the texts. Hints how to pronounce them (``rPh``) are left out."""
        part = self.package.find(SHARED_STRINGS)  # type: ignore[no-untyped-call]  # its stub says so
        if part is None:
            return
        texts: list[str] = []
        said: list[str] = []
        inside = hints = 0

        def text(by: int) -> None:
            nonlocal inside
            inside += by

        def hint(by: int) -> None:
            nonlocal hints
            hints += by

        def end() -> None:
            texts.append("".join(said))
            said.clear()

        parse(
            self.archive,
            part.PartName[1:],
            _KEPT_BYTES[_STRINGS],
            XmlReader(
                {"t": lambda _: text(1), "rPh": lambda _: hint(1)},
                {"t": lambda: text(-1), "rPh": lambda: hint(-1), "si": end},
                lambda characters: said.append(characters) if inside and not hints else None,
            ),
        )
        self.shared_strings = texts


def _shown(value: object) -> str:
    """A cell as a person would read it."""
    match value:
        case None:
            return ""
        case bool():
            return "是" if value else "否"
        case float():
            return f"{value:.15g}"
        case datetime.datetime() if value.time() == datetime.time():
            return value.date().isoformat()
        case datetime.datetime():
            return value.isoformat(" ", "seconds")
        case _:
            return str(value)
