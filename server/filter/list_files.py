"""Reads word lists from files: one word a line, CSV, or JSON. Blocks: for a thread or a process of its own."""

import csv
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from server.filter.list_rows import COLUMNS, ListError, Row, RowReader

MAX_FILE_BYTES: Final = 256 << 20
"""A larger file is not a word list."""

MAX_FILES: Final = 1000

SUFFIXES: Final = (".txt", ".csv", ".json")

_ALLOWED: Final = ".allow.txt"
"""One a line, and all of them phrases inside of which nothing counts."""


class FileState(NamedTuple):
    """What tells that a file was changed."""

    path: str
    modified: int
    """Nanoseconds."""
    inode: int
    size: int
    """Bytes."""


def find_lists(places: Sequence[str]) -> tuple[FileState, ...]:
    """The files that the settings name, those of a folder by their names.

    Raises:
        ListError: for a place that does not exist, or a file of an unknown kind.
    """
    files: list[FileState] = []
    for place in places:
        files.extend(_files_at(Path(place)))
        if len(files) > MAX_FILES:
            raise ListError(place, None, f"there are more than {MAX_FILES} lists; join some of them")
    return tuple(files)


def _files_at(place: Path) -> Iterator[FileState]:
    try:
        if not stat.S_ISDIR(place.stat().st_mode):
            if place.suffix not in SUFFIXES:
                raise ListError(str(place), None, f"is no word list; its name ends with none of {', '.join(SUFFIXES)}")
            yield _state(place)
            return
        inside = sorted(each for each in place.iterdir() if each.suffix in SUFFIXES and each.name[0] != ".")
        for path in inside:
            yield _state(path)
    except OSError as error:
        raise ListError(str(place), None, f"cannot be read: {error.strerror}; correct it or filter.lists") from None


def _state(path: Path) -> FileState:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ListError(path.name, None, "is not a regular file; remove it from the folder")
    return FileState(str(path), status.st_mtime_ns, status.st_ino, status.st_size)


def read_list(
    path: str, *, single_characters: bool = False, refused: Callable[[ListError], object] | None = None
) -> Iterator[Row]:
    """The rows of a file, in their order.

    Args:
        refused: told of each row that cannot be used, which is then left out. ``None``: the first one is raised.

    Raises:
        ListError: naming file, line, rule and remedy.
    """
    place = Path(path)
    reader = RowReader(place.name, single_characters=single_characters)
    for line, fields in _fields(place):
        try:
            yield reader.row(line, fields)
        except ListError as error:
            if refused is None:
                raise
            refused(error)


def _fields(place: Path) -> Iterator[tuple[int, Mapping[str, str]]]:
    text = _read(place)
    if place.suffix == ".json":
        return _json_rows(place.name, text)
    if place.suffix == ".csv":
        return _csv_rows(place.name, text)
    return _lines(text, allows=place.name.endswith(_ALLOWED))


def _read(path: Path) -> str:
    # Not blocking, or a pipe in its place would hold the thread for good.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ListError(path.name, None, "is not a regular file")
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ListError(path.name, None, f"cannot be read: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise ListError(path.name, None, f"is larger than {MAX_FILE_BYTES >> 20} MiB; split it")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ListError(path.name, line, "is not UTF-8; save the file with that encoding") from None


def _lines(text: str, *, allows: bool) -> Iterator[tuple[int, Mapping[str, str]]]:
    allow = {"allow": "yes"} if allows else {}
    for number, line in enumerate(text.split("\n"), 1):
        word = line.strip()
        if word and not word.startswith("#"):
            yield number, {"word": word, **allow}


def _csv_rows(file: str, text: str) -> Iterator[tuple[int, Mapping[str, str]]]:
    columns: Sequence[str] | None = None
    lines = csv.reader(text.split("\n"), strict=True)
    try:
        for cells in lines:
            if not any(cell.strip() for cell in cells) or cells[0].lstrip().startswith("#"):
                continue
            if columns is None:
                columns = _header(file, lines.line_num, [cell.strip().lower() for cell in cells])
                continue
            if len(cells) > len(columns):
                raise ListError(
                    file,
                    lines.line_num,
                    f"has {len(cells)} cells for {len(columns)} columns; put quotes around cells that hold commas",
                )
            yield lines.line_num, dict(zip(columns, cells, strict=False))
    except csv.Error as error:
        raise ListError(file, lines.line_num, f"is not CSV: {error}; mend its quotes") from None


def _header(file: str, line: int, columns: Sequence[str]) -> Sequence[str]:
    unknown = [column for column in columns if column not in COLUMNS]
    if unknown or "word" not in columns or len(set(columns)) != len(columns):
        raise ListError(
            file,
            line,
            f"the first line must name the columns, once each and 'word' among them: {', '.join(COLUMNS)}",
        )
    return columns


def _json_rows(file: str, text: str) -> Iterator[tuple[int, Mapping[str, str]]]:
    try:
        items = msgspec.json.decode(text, type=list[Any])
    except msgspec.MsgspecError as error:
        raise ListError(file, None, f"is not a JSON list of words and objects: {error}") from None
    for number, item in enumerate(items, 1):
        yield number, _item(file, number, item)


def _item(file: str, number: int, item: object) -> Mapping[str, str]:
    if isinstance(item, str):
        return {"word": item}
    if not isinstance(item, dict):
        raise ListError(file, number, "is neither a word nor an object with the fields of a word")
    fields: dict[str, str] = {}
    for name, value in item.items():
        if name not in COLUMNS:
            raise ListError(file, number, f"{name}: there is no such field; there are {', '.join(COLUMNS)}")
        if name == "variants" and isinstance(value, list):
            value = "|".join(map(str, value))
        if isinstance(value, bool):
            value = "yes" if value else "no"
        if not isinstance(value, str | int):
            raise ListError(file, number, f"{name}: is neither a text nor a number")
        fields[name] = str(value)
    return fields
