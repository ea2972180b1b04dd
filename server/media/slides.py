"""Slides (``.pptx``): the texts of each, in their order."""

import re
import zipfile
from collections.abc import Mapping
from typing import Final

from server.media.bounded_text import BoundedText
from server.media.packed import XmlReader, parse

_SLIDE: Final = re.compile(r"ppt/slides/slide(\d{1,5})\.xml")
_MAX_SLIDE_BYTES: Final = 256 << 20
PRESENTATION: Final = "ppt/presentation.xml"


def read_slides(archive: zipfile.ZipFile, text: BoundedText) -> None:
    """Reads the slides; notes are left out.

    Raises:
        CannotRead: if they cannot be read.
        Enough: if there is enough text.
    """
    found = sorted((int(match[1]), match[0]) for match in map(_SLIDE.fullmatch, archive.namelist()) if match)
    for number, (_, name) in enumerate(found, 1):
        text.add(f"\n## 第 {number} 页\n")
        parse(archive, name, _MAX_SLIDE_BYTES, _slide(text))


def _slide(text: BoundedText) -> XmlReader:
    in_run = False
    in_table = 0

    def run(begins: bool) -> None:
        nonlocal in_run
        in_run = begins

    def table(by: int) -> None:
        nonlocal in_table
        in_table += by

    def begin_run(_: Mapping[str, str]) -> None:
        run(True)

    return XmlReader(
        {"t": begin_run, "br": lambda _: text.add("\n"), "tbl": lambda _: table(1)},
        {
            "t": lambda: run(False),
            "p": lambda: text.add(" " if in_table else "\n"),
            "tc": lambda: text.add("| "),
            "tr": lambda: text.add("\n"),
            "tbl": lambda: table(-1),
        },
        lambda said: text.add(said) if in_run else None,
    )
