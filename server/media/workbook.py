"""Workbooks (``.xlsx``): the sheets that can be seen, as Markdown tables."""

import datetime
import zipfile
from typing import BinaryIO, Final

from server.media.bounded_text import BoundedText
from server.media.job import CannotRead
from server.media.markdown_table import MAX_COLUMNS, MarkdownTable
from server.media.packed import check_entry

WORKBOOK: Final = "xl/workbook.xml"
_MAX_ROWS: Final = 20_000
"""Rows of a sheet that are looked at, empty ones included."""

_MAX_SHEET_BYTES: Final = 1 << 30
"""Sheets are read row by row, and only until there is enough text."""

_MAX_OTHER_BYTES: Final = 64 << 20

_KEPT_BYTES: Final = {
    "xl/sharedStrings.xml": 16 << 20,
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
    from openpyxl import load_workbook

    for entry in archive.infolist():
        kept = _KEPT_BYTES.get(entry.filename)
        check_entry(
            archive, entry.filename, kept or (_MAX_SHEET_BYTES if "/worksheets/" in entry.filename else 64 << 20)
        )
    book = load_workbook(file, read_only=True, data_only=True, keep_links=False)
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
