"""What a file is, by its first bytes and by its name. Pure.

The bytes win where they say something: a name can be anything. Documents are archives or
text inside, so for those the name says which.
"""

import mimetypes
import re
from collections.abc import Mapping
from typing import Final

from adapter.text.visible import clean

UNKNOWN: Final = "application/octet-stream"

_NAME_BYTES: Final = 255
_ENDING: Final = re.compile(r"\.[A-Za-z0-9]{1,10}\Z")
_UNSAFE: Final = re.compile(r'[\n\t"*:<>?|/\\]')
_SIGNATURES: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"%PDF-", "application/pdf"),
    (b"#!AMR\n", "audio/amr"),
    (b"#!AMR-WB\n", "audio/amr-wb"),
    (b"\x02#!SILK_V3", "audio/silk"),
    (b"#!SILK_V3", "audio/silk"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
    (b"ID3", "audio/mpeg"),
)
_ARCHIVE: Final = b"PK\x03\x04"
_COMPOUND: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
# Beside the standard library's table, which lacks these or takes them from the machine it runs on.
_BY_ENDING: Final[Mapping[str, str]] = {
    ".amr": "audio/amr",
    ".csv": "text/csv",
    ".doc": "application/msword",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".m4a": "audio/mp4",
    ".md": "text/markdown",
    ".mp4": "video/mp4",
    ".ppt": "application/vnd.ms-powerpoint",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ".silk": "audio/silk",
    ".webp": "image/webp",
    ".xls": "application/vnd.ms-excel",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".zip": "application/zip",
}
_ENDING_OF: Final[Mapping[str, str]] = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/gif": ".gif",
    "image/webp": ".webp",
    "application/pdf": ".pdf",
    "application/json": ".json",
    "audio/amr": ".amr",
    "audio/mpeg": ".mp3",
    "video/mp4": ".mp4",
    "text/plain": ".txt",
    **{mime_type: ending for ending, mime_type in _BY_ENDING.items()},
}
# Bytes behind the header of a frame of 20 ms, by its type.
_AMR_FRAMES: Final = (12, 13, 15, 17, 19, 20, 26, 31, 5, 0, 0, 0, 0, 0, 0, 0)
_GUESS: Final = mimetypes.MimeTypes(())
_MEDIA_TYPE: Final = re.compile(r"[a-zA-Z0-9!#$&^_.+-]{1,127}/[a-zA-Z0-9!#$&^_.+-]{1,127}")


def media_type(head: bytes, name: str, otherwise: str = UNKNOWN) -> str:
    """The IANA media type of a file.

    Args:
        head: its first bytes; 16 are enough.
        name: as people see it; may be empty.
        otherwise: when neither says anything; foreign text, of which only a media type is taken.
    """
    if not _MEDIA_TYPE.fullmatch(otherwise):
        otherwise = UNKNOWN
    for signature, mime_type in _SIGNATURES:
        if head.startswith(signature):
            return mime_type
    if head.startswith(b"RIFF") and len(head) >= 12:
        return {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}.get(head[8:12], otherwise)
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        if brand in (b"heic", b"heix", b"mif1"):
            return "image/heic"
        return "audio/mp4" if brand == b"M4A " else "video/quicktime" if brand == b"qt  " else "video/mp4"
    by_name = _named(name)
    if head.startswith(_ARCHIVE):
        return by_name if by_name.startswith("application/") else "application/zip"
    if head.startswith(_COMPOUND):
        return by_name if by_name.startswith("application/") else "application/x-ole-storage"
    return by_name or otherwise


def _named(name: str) -> str:
    ending = ending_of(name)
    return _BY_ENDING.get(ending) or _GUESS.guess_type(f"x{ending}")[0] or ""


def ending_of(name: str) -> str:
    """The ending of a name in lower case, with its dot; empty if it has none."""
    found = _ENDING.search(name)
    return found[0].lower() if found else ""


def safe_name(name: str, mime_type: str = "") -> str:
    """A file name that shows what it is and leads nowhere: no folders, no controls, at most 255 bytes.

    Args: ``mime_type`` gives an ending to a name that has none.
    """
    bare = re.split(r"[/\\]", clean(name))[-1]
    bare = _UNSAFE.sub("_", bare).strip().strip(".")
    ending = ending_of(bare)
    if not ending and (ending := _ENDING_OF.get(mime_type, "")):
        bare = f"{bare or 'file'}{ending}"
    stem = bare[: len(bare) - len(ending)] if ending else bare
    kept = stem.encode()[: _NAME_BYTES - len(ending)].decode(errors="ignore")
    return f"{kept}{ending}" if kept else ""


def amr_seconds(data: bytes, most: float) -> float:
    """How long a recording in AMR is (RFC 4867), counted up to a little more than ``most``; a cut last frame counts."""
    at, frames = len(b"#!AMR\n"), 0
    while at < len(data) and frames * 0.02 <= most:
        at += 1 + _AMR_FRAMES[data[at] >> 3 & 15]
        frames += 1
    return frames * 0.02
