"""The media store of the platform: bytes under a ``media_id``, and signed addresses for bots' files.

DOC 90253 and 90254 (upload, download), 100719 and 101463 (a bot's files: encrypted, behind
an address that is good for five minutes to everybody who knows it).
"""

import base64
import mimetypes
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, get_args
from urllib.parse import quote, quote_plus

import msgspec
from aiohttp import web

from adapter.crypto import encrypt_media, media_key
from simulator.corp import Corp
from simulator.faults import Strike
from simulator.rules import Refused
from simulator.windows import Remembered, Windows

MediaKind = Literal["image", "voice", "video", "file"]
KINDS: Final[frozenset[str]] = frozenset(get_args(MediaKind))

_NAME_BYTES: Final = 255
_PIECE: Final = 64 * 1024
_HUGE: Final = 100 * 1024 * 1024
_PRIVATE: Final = "http://169.254.169.254/latest/meta-data/"
_SIGNATURES: Final = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF8", "image/gif"),
    (0, b"#!AMR\n", "audio/amr"),
    (4, b"ftyp", "video/mp4"),
)
# Bytes after the header of each frame of 20 ms, by its type (RFC 4867).
_AMR_FRAMES: Final = (12, 13, 15, 17, 19, 20, 26, 31, 5, 0, 0, 0, 0, 0, 0, 0)


class Stored(msgspec.Struct, frozen=True):
    """A file in the store."""

    media_id: str
    kind: str
    name: str
    """As people see it."""
    data: bytes
    created_at: float
    """POSIX seconds."""

    @property
    def mime_type(self) -> str:
        return mimetypes.guess_type(self.name)[0] or _format(self.data) or "application/octet-stream"


class _Signed(msgspec.Struct, frozen=True):
    media_id: str
    aeskey: str
    signature: str


class MediaStore:
    """Every file of the corporation, for three days."""

    def __init__(self, corp: Corp) -> None:
        self._corp = corp
        self._files: OrderedDict[str, Stored] = OrderedDict()
        self._size = 0
        self._signed: Remembered[str, _Signed] = Remembered(corp.settings.bounds.messages)
        rules = corp.rules
        self._gets: Windows[str] = Windows(rules.media_gets_per_minute, 60 * rules.media_gets_per_minute, 10_000)
        self.base = ""
        """Where the simulator is, as ``http://host:port``."""

    # --- what doors do with it ---

    def put(self, kind: str, name: str, data: bytes, *, checked: bool = True) -> str:
        """Keeps a file and returns its ``media_id``.

        Args: without ``checked`` it is a person's, who may send what cannot be uploaded.

        Raises:
            Refused: the kind, the size, the format or the length in seconds is not allowed.
        """
        if kind not in KINDS:
            raise Refused(40004)
        if checked:
            self._check(kind, data)
        stored = Stored(
            self._corp.new_opaque_id("3"),
            kind,
            _clean(name) or f"{kind}.{_format(data).partition('/')[2] or 'bin'}",
            data,
            self._corp.now,
        )
        self._files[stored.media_id] = stored
        self._size += len(data)
        while self._size > self._corp.settings.bounds.media_bytes and len(self._files) > 1:
            _, oldest = self._files.popitem(last=False)
            self._size -= len(oldest.data)
        return stored.media_id

    def get(self, media_id: object) -> Stored:
        """A file.

        Raises:
            Refused: 40007, unknown or older than three days.
        """
        stored = self._files.get(media_id) if isinstance(media_id, str) else None
        if stored is None or stored.created_at + self._corp.rules.media_seconds <= self._corp.now:
            raise Refused(40007)
        return stored

    def fetched(self, media_id: object) -> Stored:
        """As :meth:`get`, for ``media/get``: asking for one file again and again is refused with 45033."""
        stored = self.get(media_id)
        if not self._gets.admit(stored.media_id, self._corp.now):
            raise Refused(45033)
        return stored

    def content(self, media_id: object, kind: str = "") -> dict[str, Any]:
        """What a bubble shows of a file: its ``content`` (see ``chats.Bubble``).

        Args: ``kind`` of the message, where it is another than the file was uploaded as.

        Raises:
            Refused: as :meth:`get`.
        """
        stored = self.get(media_id)
        return {
            "kind": kind or stored.kind,
            "name": stored.name,
            "size": len(stored.data),
            "url": f"/media/{stored.media_id}",
        }

    def presigned(self, media_id: str, aeskey: str) -> str:
        """A new address of the encrypted file, good for five minutes.

        Args: ``aeskey`` is a key of :func:`new_key`, or the bot's EncodingAESKey in callback mode.

        Raises:
            Refused: as :meth:`get`.
        """
        self.get(media_id)
        path, signature = secrets.token_urlsafe(18), secrets.token_hex(20)
        until = self._corp.now + self._corp.rules.media_url_seconds
        self._signed.put(path, _Signed(media_id, aeskey, signature), until)
        return f"{self.base}/cos/{path}?sign={signature}"

    def _check(self, kind: str, data: bytes) -> None:
        rules = self._corp.rules
        if len(data) <= rules.media_least_bytes:
            raise Refused(40006)
        most = {
            "image": rules.media_image_bytes,
            "voice": rules.media_voice_bytes,
            "video": rules.media_video_bytes,
            "file": rules.media_file_bytes,
        }[kind]
        if len(data) > most:
            raise Refused(45001)
        if kind != "file" and not _format(data).startswith({"voice": "audio"}.get(kind, kind)):
            raise Refused(40005)
        if kind == "voice" and amr_seconds(data) > rules.media_voice_seconds:
            raise Refused(45007)

    # --- addresses ---

    def routes(self) -> list[web.AbstractRouteDef]:
        """Where files are fetched without a token: by bots, and by the chat page."""
        return [web.get("/cos/{path}", self._serve_signed), web.get("/media/{media_id}", self._serve_page)]

    async def _serve_page(self, request: web.Request) -> web.StreamResponse:
        try:
            stored = self.get(request.match_info["media_id"])
        except Refused:
            raise web.HTTPNotFound from None
        # Foreign files beside the page: nothing of them may run in its name.
        headers = {
            "Content-Type": stored.mime_type,
            "Content-Disposition": _disposition(stored.name, "rfc5987", "inline"),
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; media-src 'self'",
        }
        return web.Response(body=stored.data, headers=headers)

    async def _serve_signed(self, request: web.Request) -> web.StreamResponse:
        signed = self._signed.get(request.match_info["path"], self._corp.now)
        try:
            if signed is None or not secrets.compare_digest(signed.signature, request.query.get("sign", "")):
                raise Refused(40007)
            stored = self.get(signed.media_id)
        except Refused:
            return web.Response(
                status=403, text="<Error><Code>AccessDenied</Code></Error>", content_type="application/xml"
            )
        if self._corp.strike("media_redirect_private"):
            raise web.HTTPFound(_PRIVATE)
        key = media_key(new_key() if self._corp.strike("media_wrong_key") else signed.aeskey)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Disposition": _disposition(stored.name, self._corp.rules.media_url_name),
        }
        return await self.deliver(request, encrypt_media(stored.data, key), headers)

    async def deliver(
        self, request: web.Request, data: bytes, headers: Mapping[str, str], status: int = 200
    ) -> web.StreamResponse:
        """Sends bytes, with the accidents that happen on the way."""
        if self._corp.strike("media_claim_huge"):
            return await self._send(request, _zeros, _HUGE, headers, status)
        if self._corp.strike("media_cut"):
            return await self._send(request, lambda: iter([data[: len(data) // 2]]), len(data), headers, status)
        slow = self._corp.strike("media_slow")
        if slow:
            return await self._send(request, lambda: _drops(data), len(data), headers, status, slow)
        return web.Response(body=data, headers=headers, status=status)

    async def _send(
        self,
        request: web.Request,
        pieces: Callable[[], Any],
        length: int,
        headers: Mapping[str, str],
        status: int,
        slow: Strike | None = None,
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=status, headers={**headers, "Content-Length": str(length)})
        await response.prepare(request)
        left = length
        try:
            for piece in pieces():
                await response.write(piece)
                left -= len(piece)
                if slow:
                    await self._corp.clock.sleep(slow.seconds)
            if left <= 0:
                await response.write_eof()
        except ConnectionError:
            pass  # the peer has seen enough
        if left > 0 and request.transport is not None:
            request.transport.abort()
        return response


def _format(data: bytes) -> str:
    """What a picture, a recording or a film is; empty for everything else."""
    return next((name for at, head, name in _SIGNATURES if data.startswith(head, at)), "")


def _clean(name: str) -> str:
    """A name as file systems hold it: at most 255 bytes, and nothing that would break a header."""
    shown = "".join(letter for letter in name if letter.isprintable())
    return shown.encode("utf-8", "ignore")[:_NAME_BYTES].decode("utf-8", "ignore")


def _zeros() -> Any:
    return (bytes(_PIECE) for _ in range(_HUGE // _PIECE))


def _drops(data: bytes) -> Any:
    return (data[at : at + 1] for at in range(len(data)))


def _disposition(name: str, form: str, kind: str = "attachment") -> str:
    if form == "form":
        return f'{kind}; filename="{quote_plus(name)}"'
    return f"{kind}; filename=\"{quote_plus(name)}\"; filename*=UTF-8''{quote(name, safe='')}"


def new_key() -> str:
    """The ``aeskey`` of one address: 43 characters of base64, its ``=`` left out, as the platform may do."""
    return base64.b64encode(secrets.token_bytes(32)).decode().rstrip("=")


def amr_seconds(data: bytes) -> float:
    """How long a recording in AMR is; a cut last frame counts."""
    at, frames = len(b"#!AMR\n"), 0
    while at < len(data):
        at += 1 + _AMR_FRAMES[data[at] >> 3 & 15]
        frames += 1
    return frames * 0.02
