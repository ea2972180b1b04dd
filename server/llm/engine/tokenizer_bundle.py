"""Reads the archive in which an engine hands out its tokeniser. Pure: bytes in, values out.

The archive comes from whoever answers on the engine's port. Nothing in it is believed:
sizes are bounded before memory is taken for them, and hold while reading, because an
archive can lie about them; names serve only to find the few files that are needed, and
nothing is written to disk.
"""

import io
import struct
import zipfile
import zlib
from typing import Final

import msgspec

MAX_ARCHIVE_BYTES: Final = 64 << 20
"""Bytes of an archive. Those of the largest open models have about ten million."""

MAX_DIRECTORY_BYTES: Final = 64 << 10
"""Bytes of an archive's table of contents, which is read as a whole. An entry takes 46 and its name."""

MAX_ENTRIES: Final = 256
"""Files in an archive."""

MAX_RATIO: Final = 100
"""How many times larger a file may be than it is in the archive. Tokenisers shrink to a quarter or so."""

_LIMITS: Final = {
    "tokenizer.json": 64 << 20,
    "tokenizer_config.json": 4 << 20,
    "special_tokens_map.json": 1 << 20,
    "chat_template.jinja": 1 << 20,
    "chat_template.json": 1 << 20,
}
"""The files that are needed, and how many bytes each may have."""

_SPECIALS: Final = ("bos_token", "eos_token", "pad_token", "unk_token")
"""The tokens that templates know by name."""

_END: Final = struct.Struct("<4s4H2LH")
"""The record at the end of an archive: signature, disk numbers, counts, size and place of the directory, comment."""

_END_SIGNATURE: Final = b"PK\x05\x06"
_MALFORMED: Final = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,
    OverflowError,
    ValueError,
)
"""What zipfile raises for archives that are malformed, or packed in ways it does not know. Fuzzing found the last."""

_PLAIN: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class UnusableBundle(ValueError):
    """An archive that is malformed, too large, or lacks what is needed."""


class Bundle(msgspec.Struct, frozen=True):
    """What is needed of an engine's tokeniser. Still not to be believed, but of bounded size."""

    tokenizer: bytes
    """``tokenizer.json``."""
    template: str
    """The chat template, in Jinja."""
    specials: dict[str, str]
    """``bos_token`` and its like, as templates name them."""


def read_bundle(archive: bytes) -> Bundle:
    """Takes from an archive what is needed.

    Raises:
        UnusableBundle: saying what is wrong with it.
    """
    files = _read_files(archive)
    if "tokenizer.json" not in files:
        raise UnusableBundle("the archive has no tokenizer.json; only tokenisers of that form can be used")
    config = _object(files, "tokenizer_config.json")
    template = _template(files, config)
    if not template:
        raise UnusableBundle("the model has no chat template, so it is not one that chats")
    return Bundle(files["tokenizer.json"], template, _specials(config, _object(files, "special_tokens_map.json")))


def _read_files(archive: bytes) -> dict[str, bytes]:
    if len(archive) > MAX_ARCHIVE_BYTES:
        raise UnusableBundle(f"the archive has {len(archive)} bytes, and may have {MAX_ARCHIVE_BYTES}")
    _check_directory(archive)
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            entries = opened.infolist()
            if len(entries) > MAX_ENTRIES:
                raise UnusableBundle(f"the archive has {len(entries)} files, and may have {MAX_ENTRIES}")
            wanted = [entry for entry in entries if entry.filename in _LIMITS]
            if len({entry.filename for entry in wanted}) < len(wanted):
                raise UnusableBundle("the archive has two files of one name")
            return {entry.filename: _read(opened, entry) for entry in wanted}
    except UnusableBundle:
        raise
    except _MALFORMED as error:
        raise UnusableBundle(f"the archive is malformed: {type(error).__name__}") from None


def _check_directory(archive: bytes) -> None:
    """Bounds the table of contents before it is read: zipfile makes an object for each entry."""
    at = archive.rfind(_END_SIGNATURE, max(0, len(archive) - _END.size - 0xFFFF))
    if at < 0 or len(archive) - at < _END.size:
        raise UnusableBundle("it is no archive")
    size = _END.unpack_from(archive, at)[5]
    # The form for archives beyond 4 GiB says so with this size, among others.
    if size > MAX_DIRECTORY_BYTES or archive.find(b"PK\x06\x07", max(0, at - 20), at) >= 0:
        raise UnusableBundle(f"the archive's table of contents exceeds {MAX_DIRECTORY_BYTES} bytes")


def _read(opened: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    limit = _LIMITS[entry.filename]
    if entry.compress_type not in _PLAIN or entry.flag_bits & 1:
        raise UnusableBundle(f"{entry.filename} is encrypted, or packed in an unusual way")
    if entry.file_size > limit:
        raise UnusableBundle(f"{entry.filename} has {entry.file_size} bytes, and may have {limit}")
    if entry.file_size > MAX_RATIO * max(entry.compress_size, 1024):
        raise UnusableBundle(f"{entry.filename} grows more than {MAX_RATIO} times when it is unpacked")
    with opened.open(entry) as file:
        # No more than the archive names is unpacked; if there is more, the sum over it is another one, which fails.
        return file.read(entry.file_size)


def _object(files: dict[str, bytes], name: str) -> dict[str, object]:
    """A file that holds a JSON object; empty if there is none."""
    if name not in files:
        return {}
    try:
        return msgspec.json.decode(files[name], type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UnusableBundle(f"{name} is no JSON object") from None


def _template(files: dict[str, bytes], config: dict[str, object]) -> str:
    """The template from the place where it is: models have been published with it in each of these."""
    if "chat_template.jinja" in files:
        try:
            return files["chat_template.jinja"].decode()
        except UnicodeDecodeError:
            raise UnusableBundle("chat_template.jinja is not UTF-8") from None
    found = _object(files, "chat_template.json").get("chat_template") or config.get("chat_template")
    if isinstance(found, list):
        named = {item.get("name"): item.get("template") for item in found if isinstance(item, dict)}
        found = named.get("default")
    return found if isinstance(found, str) else ""


def _specials(*sources: dict[str, object]) -> dict[str, str]:
    specials: dict[str, str] = {}
    for source in reversed(sources):
        for name in _SPECIALS:
            token = source.get(name)
            text = token.get("content") if isinstance(token, dict) else token
            if isinstance(text, str):
                specials[name] = text
    return specials
