"""Uploads over the long connection: begun, sent in pieces in any order, finished (DOC 101463)."""

import binascii
import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from simulator.corp import Corp
from simulator.media import KINDS, MediaStore
from simulator.rules import Refused
from simulator.windows import Remembered, Window

_SESSIONS = 100
_NAME_BYTES = 256


class _Upload(msgspec.Struct):
    kind: str
    name: str
    size: int
    chunks: int
    md5: str
    pieces: dict[int, bytes]


class Uploads:
    """The uploads of one bot. They belong to the bot, so they outlive a connection."""

    def __init__(self, corp: Corp, store: MediaStore) -> None:
        self._corp = corp
        self._store = store
        self._open: Remembered[str, _Upload] = Remembered(_SESSIONS)
        rules = corp.rules
        self._rate = Window(rules.uploads_per_minute, rules.uploads_per_hour)

    def begin(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """``aibot_upload_media_init``: what the acknowledgement says.

        Raises:
            Refused: nothing was begun.
        """
        kind, name = body.get("type"), body.get("filename")
        size, chunks, md5 = body.get("total_size"), body.get("total_chunks"), body.get("md5", "")
        if kind not in KINDS:
            raise Refused(40004)
        if not isinstance(name, str) or not name or len(name.encode()) > _NAME_BYTES:
            raise Refused(40058, "invalid filename")
        if type(size) is not int or type(chunks) is not int or not isinstance(md5, str):
            raise Refused(40058, "invalid total_size, total_chunks or md5")
        if size <= self._corp.rules.media_least_bytes:
            raise Refused(40006)
        if not 1 <= chunks <= self._corp.rules.upload_chunks:
            raise Refused(40058, "invalid total_chunks")
        if not self._rate.admit(self._corp.now):
            raise Refused(45009)
        upload_id = self._corp.new_opaque_id("up")
        upload = _Upload(str(kind), name, size, chunks, md5, {})
        self._open.put(upload_id, upload, self._corp.now + self._corp.rules.upload_seconds)
        return {"upload_id": upload_id}

    def chunk(self, body: Mapping[str, Any]) -> None:
        """``aibot_upload_media_chunk``: the same piece again changes nothing. Raises :class:`Refused`."""
        upload = self._named(body)
        number, text = body.get("chunk_index"), body.get("base64_data")
        if type(number) is not int or not 0 <= number < upload.chunks or not isinstance(text, str):
            raise Refused(40058, "invalid chunk_index or base64_data")
        try:
            data = binascii.a2b_base64(text, strict_mode=True)
        except (binascii.Error, ValueError):
            raise Refused(40058, "invalid base64_data") from None
        if not data or len(data) > self._corp.rules.upload_chunk_bytes:
            raise Refused(40058, "invalid length of base64_data")
        upload.pieces[number] = data

    def finish(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """``aibot_upload_media_finish``: what the acknowledgement says. Raises :class:`Refused`."""
        upload = self._named(body)
        data = b"".join(upload.pieces[number] for number in sorted(upload.pieces))
        if len(upload.pieces) != upload.chunks or len(data) != upload.size:
            raise Refused(40058, "pieces are missing")
        if upload.md5 and upload.md5 != hashlib.md5(data, usedforsecurity=False).hexdigest():
            raise Refused(40058, "md5 does not match")
        media_id = self._store.put(upload.kind, upload.name, data)
        self._open.pop(str(body.get("upload_id")))
        return {"type": upload.kind, "media_id": media_id, "created_at": str(int(self._corp.now))}

    def _named(self, body: Mapping[str, Any]) -> _Upload:
        upload = self._open.get(str(body.get("upload_id", "")), self._corp.now)
        if upload is None:
            raise Refused(40058, "invalid upload_id")
        return upload
