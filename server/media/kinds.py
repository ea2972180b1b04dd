"""What a file is, by its first bytes. Pure.

Names and media types are what somebody says; WeCom says ``application/octet-stream`` of
every file. So the bytes decide, and the media type only where they do not tell.
"""

import re
from typing import Final

from server.media.base import MediaKind

_PICTURES: Final = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpg"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"BM", "bmp"),
    (b"II*\x00", "tif"),
    (b"MM\x00*", "tif"),
)
_RECORDINGS: Final = (
    (b"#!AMR", "amr"),
    (b"#!SILK", "silk"),
    (b"\x02#!SILK", "silk"),
    (b"ID3", "mp3"),
    (b"OggS", "ogg"),
    (b"fLaC", "flac"),
)
_OTHERS: Final = (
    b"Rar!",
    b"7z\xbc\xaf",
    b"\x1f\x8b",
    b"\x7fELF",
    b"MZ\x90",
    b"\x1aE\xdf\xa3",  # Matroska and WebM
    b"FLV\x01",
    b"\x00\x00\x01\xba",  # MPEG
    b"\x00\x00\x01\xb3",
)

_MP4_SOUND: Final = frozenset({b"M4A ", b"M4B "})
_RIFF: Final = {b"WAVE": ("recording", "wav"), b"WEBP": ("picture", "webp")}
_MP3_FRAME: Final = re.compile(rb"\xff[\xe2-\xe7\xf2-\xf7\xfa-\xfb\xfd]")
_EXTENSION: Final = re.compile(r"\.([a-z0-9]{1,8})\Z")


def kind_of(data: bytes, mime_type: str) -> tuple[MediaKind, str]:
    """What the bytes are, and the extension that fits; the extension is empty where it is not known from them."""
    head = data[:64]
    for magic, extension in _PICTURES:
        # Two letters begin many a text: a bitmap has zeros behind its size.
        if head.startswith(magic) and (extension != "bmp" or head[6:10] == b"\0\0\0\0"):
            return "picture", extension
    for magic, extension in _RECORDINGS:
        if head.startswith(magic):
            return "recording", extension
    if head.startswith(b"RIFF") and head[8:12] in _RIFF:
        kind, extension = _RIFF[head[8:12]]
        return ("recording", extension) if kind == "recording" else ("picture", extension)
    if head[4:8] == b"ftyp":
        return ("recording", "m4a") if head[8:12] in _MP4_SOUND else ("other", "")
    if _MP3_FRAME.match(head) and mime_type.lower().startswith("audio/"):
        return "recording", "mp3"
    if head.startswith(_OTHERS):
        return "other", ""
    return "document", ""


def extension_of(name: str) -> str:
    """The extension of a file's name in lower case, without its full stop; empty for none and for odd ones."""
    found = _EXTENSION.search(name.lower())
    return found[1] if found else ""
