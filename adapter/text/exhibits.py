"""Long tables and long code as files, for doors that cannot show them. Pure.

A table of fifty rows said in words is fifty lines that nobody reads; as a file it opens in
a spreadsheet.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from adapter.text.capabilities import Door
from adapter.text.markdown import Framed, blocks, cells
from adapter.text.plain import plain
from adapter.text.visible import clean, utf8_length
from weconverse.v1.conversation_pb2 import Media, Part

_LANGUAGE: Final = re.compile(r"[A-Za-z0-9+#-]{1,20}")
_ENDINGS: Final[Mapping[str, str]] = {
    "bash": "sh",
    "c": "c",
    "c#": "cs",
    "c++": "cpp",
    "cpp": "cpp",
    "css": "css",
    "csv": "csv",
    "go": "go",
    "html": "html",
    "java": "java",
    "javascript": "js",
    "js": "js",
    "json": "json",
    "markdown": "md",
    "md": "md",
    "php": "php",
    "py": "py",
    "python": "py",
    "rust": "rs",
    "sh": "sh",
    "shell": "sh",
    "sql": "sql",
    "toml": "toml",
    "ts": "ts",
    "typescript": "ts",
    "xml": "xml",
    "yaml": "yaml",
    "yml": "yaml",
}
# What a spreadsheet would take for a formula: text of a model must not be calculated.
_FORMULA: Final = re.compile(r"[=@\t\r]|[+-](?![0-9.,]+%?\Z)")


def with_files(parts: Iterable[Part], door: Door, above_bytes: int) -> list[Part]:
    """``parts``, where tables and code blocks that ``door`` cannot show are files if they are long.

    Each file stands behind the text it was in, which says so. The same parts give the same
    files in every attempt.

    Args: ``above_bytes`` is how long such a block may be to stay in the text; 0 leaves every one there.
    """
    if above_bytes <= 0:
        return list(parts)
    exhibits = _Exhibits(door, above_bytes)
    return [made for part in parts for made in (exhibits.of(part.text) if part.HasField("text") else [part])]


class _Exhibits:
    def __init__(self, door: Door, above_bytes: int) -> None:
        self._door = door
        self._above_bytes = above_bytes
        self._tables = 0
        self._codes = 0

    def of(self, text: str) -> Iterator[Part]:
        if utf8_length(text) <= self._above_bytes:
            yield Part(text=text)
            return
        files: list[Media] = []
        out = []
        for block in blocks(clean(text)):
            out.append(block.gap)
            if isinstance(block, Framed) and self._is_long(block):
                file = self._table(block) if block.is_table else self._code(block)
                files.append(file)
                what = "表格" if block.is_table else "代码"
                out.append(f"（{what}较长，见文件「{file.display_name}」）")
            else:
                out.append(block.text)
        yield Part(text="".join(out) if files else text)
        yield from (Part(media=file) for file in files)

    def _is_long(self, block: Framed) -> bool:
        shown = self._door.tables if block.is_table else self._door.code
        return not shown and utf8_length(block.text) > self._above_bytes

    def _table(self, block: Framed) -> Media:
        self._tables += 1
        out = io.StringIO()
        writer = csv.writer(out)
        for row in (block.head.split("\n")[0], *block.lines):
            writer.writerow([_harmless(plain(cell)) for cell in cells(row)])
        # The mark tells spreadsheets that it is UTF-8; without it they show Chinese as noise.
        return _file("text/csv", f"表格{self._tables if self._tables > 1 else ''}.csv", "\ufeff" + out.getvalue())

    def _code(self, block: Framed) -> Media:
        self._codes += 1
        said = _LANGUAGE.match(block.head.strip().lstrip("`~").strip())
        ending = _ENDINGS.get(said[0].lower(), "txt") if said else "txt"
        name = f"代码{self._codes if self._codes > 1 else ''}.{ending}"
        return _file("text/plain", name, "\n".join([*block.lines, ""]))


def _file(mime_type: str, name: str, text: str) -> Media:
    return Media(mime_type=mime_type, display_name=name, inline_data=text.encode())


def _harmless(cell: str) -> str:
    return f"'{cell}" if _FORMULA.match(cell) else cell
