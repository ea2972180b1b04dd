"""Media of applications over REST: upload, download, pictures for articles (DOC 90253, 90254, 90256)."""

from typing import Any, Final

from aiohttp import BodyPartReader, web

from simulator.corp import Corp
from simulator.media import KINDS, MediaStore
from simulator.rules import ERRORS, Refused

_MOST: Final = 64 * 1024 * 1024


class MediaRest:
    """What ``media/…`` does; the caller has looked at the token."""

    def __init__(self, corp: Corp, store: MediaStore) -> None:
        self._corp = corp
        self._store = store

    async def upload(self, request: web.Request) -> dict[str, Any]:
        """Takes a file.

        Raises:
            Refused: it was not taken.
        """
        kind = request.query.get("type", "")
        if kind not in KINDS:
            raise Refused(40004)
        name, data = await read_file(request)
        media_id = self._store.put(kind, name, data)
        return {
            "errcode": 0,
            "errmsg": ERRORS[0],
            "type": kind,
            "media_id": media_id,
            "created_at": str(int(self._corp.now)),
        }

    async def upload_image(self, request: web.Request) -> dict[str, Any]:
        """Takes a picture and gives it an address of its own."""
        name, data = await read_file(request)
        media_id = self._store.put("image", name, data)
        return {"errcode": 0, "errmsg": ERRORS[0], "url": f"{self._store.base}/media/{media_id}"}

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Gives a file, or the part of it that ``Range`` asks for.

        Raises:
            Refused: 40007 unknown, 45033 too often, 830002 too large without ``Range``.
        """
        stored = self._store.fetched(request.query.get("media_id"))
        size, most = len(stored.data), self._corp.rules.media_get_bytes
        asked = request.http_range if "Range" in request.headers else slice(0, size, 1)
        start, stop, _ = asked.indices(size)
        if stop - start > most:
            raise Refused(830002)
        headers = {
            "Content-Type": stored.mime_type,
            "Content-Disposition": f'attachment; filename="{stored.name}"',
        }
        status = 200
        if "Range" in request.headers:
            status = 206
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        return await self._store.deliver(request, stored.data[start:stop], headers, status)


async def read_file(request: web.Request, field: str = "media") -> tuple[str, bytes]:
    """The name and the bytes of the file in a form.

    Raises:
        Refused: 41005 no such file, 45001 more than anybody may send.
    """
    try:
        async for part in await request.multipart():
            if isinstance(part, BodyPartReader) and part.name == field and part.filename is not None:
                pieces = bytearray()
                while piece := await part.read_chunk():
                    pieces += piece
                    if len(pieces) > _MOST:
                        raise Refused(45001)
                return part.filename, bytes(pieces)
    except (ValueError, AssertionError):
        pass  # not a form, or a broken one
    raise Refused(41005)
