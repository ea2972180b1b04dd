"""The files of Office: XML in a ZIP, opened without believing what they say of themselves."""

import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, Final
from xml.sax.handler import ContentHandler, feature_external_ges, feature_namespaces
from xml.sax.xmlreader import AttributesNSImpl

from defusedxml.common import DefusedXmlException
from defusedxml.expatreader import DefusedExpatParser

from server.media.job import CannotRead

MAX_ENTRIES: Final = 20_000
_METHODS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
"""Those that can be unpacked piece by piece. Office uses no others."""

_ENCRYPTED: Final = 0x1
_PIECE_BYTES: Final = 64 << 10
MAX_DEPTH: Final = 256
"""Elements within one another. Word's documents have a dozen or two."""

Name = tuple[str | None, str]
"""A namespace and a local name."""


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


def parse(archive: zipfile.ZipFile, name: str, max_bytes: int, handler: "XmlReader") -> bool:
    """Reads an entry piece by piece, so that its size takes time and no memory; returns whether it is there.

    Raises:
        CannotRead: if it cannot be read, or holds what foreign XML has no business with (a DTD, entities).
        Enough: if the handler does.
    """
    if not check_entry(archive, name, max_bytes):
        return False
    parser = DefusedExpatParser(forbid_dtd=True)
    parser.setFeature(feature_namespaces, True)
    parser.setFeature(feature_external_ges, False)
    parser.setContentHandler(handler)
    try:
        with archive.open(name) as entry:
            while piece := entry.read(_PIECE_BYTES):
                parser.feed(piece)
        parser.close()
    except DefusedXmlException:
        raise CannotRead("damaged") from None
    return True


class XmlReader(ContentHandler):
    """Calls a function for the beginning and the end of the elements that somebody asked for.

    Nothing is kept of the document. Elements are known by their local names: the
    namespaces of Office differ between its two dialects, and the names do not clash.
    """

    def __init__(
        self,
        starts: Mapping[str, Callable[[Mapping[str, str]], None]],
        ends: Mapping[str, Callable[[], None]],
        characters: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Args: functions by local name; attributes come by local name too."""
        super().__init__()
        self._starts = starts
        self._ends = ends
        self._characters = characters
        self._depth = 0

    def startElementNS(self, name: Name, qname: str | None, attrs: AttributesNSImpl) -> None:  # noqa: N802 - SAX
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise CannotRead("damaged")
        start = self._starts.get(name[1])
        if start is not None:
            items: Any = attrs.items()
            start({local: value for (_, local), value in items})

    def endElementNS(self, name: Name, qname: str | None) -> None:  # noqa: N802 - SAX
        self._depth -= 1
        end = self._ends.get(name[1])
        if end is not None:
            end()

    def characters(self, content: str) -> None:
        self._characters(content)
