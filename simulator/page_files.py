"""Files that the browser sends with a message: a form with the message's fields and the files, within bounds."""

from typing import Final

import msgspec
from aiohttp import BodyPartReader, web

from simulator.corp import NobodyThere
from simulator.media import KINDS
from simulator.sent_files import Item

MOST_BYTES: Final = 20 * 1024 * 1024
"""Of all files of a message together: what the largest kind of file may have."""

_MOST_FILES: Final = 10
_MOST_FIELD: Final = 64 * 1024
_FIELDS: Final = frozenset({"person", "chat", "text", "recognition"})

_FRAMES: Final = 50
SILENCE: Final = b"#!AMR\n" + (b"\x3c" + bytes(31)) * _FRAMES
"""A recording of one second, in the format that WeCom's clients send."""


class Form(msgspec.Struct, kw_only=True):
    """A message with files."""

    person: str = ""
    chat: str = ""
    text: str = ""
    """Written with them."""
    recognition: str = ""
    """What the platform understands of a recording."""
    files: list[tuple[str, str, bytes]] = []
    """Kind, name and bytes of each."""

    @property
    def items(self) -> list[Item]:
        """The text and the files, as one message has them."""
        return [*([self.text] if self.text.strip() else []), *self.files]


async def read_form(request: web.Request) -> Form:
    """Reads a ``multipart/form-data`` body whose files are named after their kinds.

    Raises:
        NobodyThere: it is none, has too much in it, or a field of another name.
    """
    if not request.content_type.startswith("multipart/"):
        raise NobodyThere("a form with files is needed")
    form, left = Form(), MOST_BYTES
    try:
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader):
                raise NobodyThere("a part holds parts")
            name = part.name or ""
            if name in KINDS and len(form.files) < _MOST_FILES:
                data = await _read(part, left)
                left -= len(data)
                form.files.append((name, part.filename or "", data))
            elif name in _FIELDS:
                setattr(form, name, (await _read(part, _MOST_FIELD)).decode())
            else:
                raise NobodyThere(f"no field {name[:40]!r}, or more than {_MOST_FILES} files")
    except ValueError:
        raise NobodyThere("the form cannot be read") from None
    return form


async def _read(part: BodyPartReader, most: int) -> bytes:
    data = bytearray()
    while chunk := await part.read_chunk():
        data += chunk
        if len(data) > most:
            raise NobodyThere(f"more than {most} bytes")
    return bytes(data)
