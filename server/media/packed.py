"""The files of Office: XML in a ZIP, opened without believing what they say of themselves."""

import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import BinaryIO, Final
from xml.parsers import expat
from xml.parsers.expat import errors

from server.media.job import CannotRead

WORKBOOK: Final = "xl/workbook.xml"
"""What tells a workbook. It stands here because its reader takes long to load."""

MAX_ENTRIES: Final = 10_000
_METHODS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
"""Those that can be unpacked piece by piece. Office uses no others."""

_NO_MEMORY: Final = errors.codes[errors.XML_ERROR_NO_MEMORY]
_ENCRYPTED: Final = 0x1
_PIECE_BYTES: Final = 64 << 10
MAX_DEPTH: Final = 256
"""Elements within one another. Word's documents have a dozen or two."""


@contextmanager
def opened(file: BinaryIO) -> Iterator[zipfile.ZipFile]:
    """The archive.

    Raises:
        CannotRead: if it is none, or holds more than an Office file would.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            if len(archive.infolist()) > MAX_ENTRIES:
                raise CannotRead("too_large")
            yield archive
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OverflowError):
        raise CannotRead("damaged") from None


def check_entry(archive: zipfile.ZipFile, name: str, max_bytes: int) -> bool:
    """Whether there is an entry of that name.

    Its declared size holds: no more than that is ever unpacked of it.

    Raises:
        CannotRead: if it is too large when unpacked, or packed in a way that no Office program uses.
    """
    try:
        entry = archive.getinfo(name)
    except KeyError:
        return False
    if entry.flag_bits & _ENCRYPTED:
        raise CannotRead("encrypted")
    if entry.compress_type not in _METHODS:
        raise CannotRead("damaged")
    if entry.file_size > max_bytes:
        raise CannotRead("too_large")
    return True


def parse(archive: zipfile.ZipFile, name: str, max_bytes: int, reader: "XmlReader") -> bool:
    """Reads an entry piece by piece, so that its size takes time and no memory; returns whether it is there.

    Raises:
        CannotRead: if it cannot be read, or has a document type, which Office never writes and bombs are made of.
        Enough: if the reader does.
    """
    if not check_entry(archive, name, max_bytes):
        return False
    parser = reader.parser()
    try:
        with archive.open(name) as entry:
            while piece := entry.read(_PIECE_BYTES):
                parser.Parse(piece)
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise CannotRead("too_large" if error.code == _NO_MEMORY else "damaged") from None
    return True


class XmlReader:
    """Calls a function for the beginning and the end of the elements that somebody asked for.

    Nothing is kept of the document. Elements are known by their local names: the
    namespaces of Office differ between its two dialects, and the names do not clash.

    Expat itself, and not SAX on top of it, which takes almost three times as long.
    """

    def __init__(
        self,
        starts: Mapping[str, Callable[[Mapping[str, str]], None]],
        ends: Mapping[str, Callable[[], None]],
        characters: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Args: functions by local name; attributes come by local name too."""
        self._starts = starts
        self._ends = ends
        self._characters = characters
        self._depth = 0

    def parser(self) -> expat.XMLParserType:
        """A parser for one document."""
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = _refuse
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        return parser

    def _start(self, name: str, attributes: Mapping[str, str]) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise CannotRead("damaged")
        start = self._starts.get(_local(name))
        if start is not None:
            start({_local(key): value for key, value in attributes.items()})

    def _end(self, name: str) -> None:
        self._depth -= 1
        end = self._ends.get(_local(name))
        if end is not None:
            end()


def _local(name: str) -> str:
    return name[name.rfind(" ") + 1 :]


def _refuse(*_: object) -> None:
    raise CannotRead("damaged")
