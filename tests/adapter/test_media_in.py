"""What belongs to a message, fetched within bounds: bytes or the reason why there are none."""

import asyncio
import base64
import gc
import json
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import msgspec
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from adapter.crypto import EnvelopeError, MediaCipher, decrypt_media, encrypt_media, media_key
from adapter.media.attachments import Attachments, BySignedAddress
from adapter.media.fetching import Fetched, MediaMissing
from adapter.media.guarded_fetch import GuardedFetch
from adapter.media.kinds import UNKNOWN, amr_seconds, media_type, safe_name
from adapter.media.named import name_of
from adapter.media.room import Claim, Room
from adapter.metrics import Metrics
from adapter.rest.multipart import one_file
from adapter.translate import Attachment, Incoming
from weconverse.v1.conversation_pb2 import Content, Media, Part, Sender

MIB = 1024 * 1024
VECTORS = json.loads((Path(__file__).parents[1] / "data" / "vectors" / "wecom_vectors.json").read_text())["media"]
PNG = b"\x89PNG\r\n\x1a\n" + bytes(60)


def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


def incoming(*attachments: Attachment) -> Incoming:
    parts = [Part(media=Media(mime_type="image/jpeg")) for _ in attachments]
    return Incoming("conversations/wecom.a.1", "m1", Content(parts=parts), Sender(id="p"), b"{}", attachments)


def picture(number: int = 0, **where: str) -> Attachment:
    return Attachment(part=number, kind="image", **where)


@asynccontextmanager
async def serving(body: bytes, head: dict[str, str] | None = None) -> AsyncIterator[str]:
    async def handler(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, headers=head)

    application = web.Application()
    application.router.add_get("/{path:.*}", handler)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/file"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def fetching(*, max_bytes: int = 20 * MIB, room: Room | None = None) -> AsyncIterator[Attachments]:
    async with GuardedFetch(allowed=[ip_network("127.0.0.0/8")], insecure_http=True) as guarded:
        room = room or Room(fetches=4, total_bytes=64 * MIB)
        yield Attachments(room, BySignedAddress(guarded), metrics(), max_bytes=max_bytes)


def why(message: Incoming, number: int = 0) -> str:
    media = message.content.parts[number].media
    assert media.WhichOneof("source") is None
    return Media.Missing.Name(media.missing)


# --- decrypting --------------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["id"])
async def test_every_vector_arrives_as_its_file(vector: dict[str, Any]) -> None:
    if "cipher_b64" not in vector:
        pytest.fail("a vector without its bytes")
    async with serving(base64.b64decode(vector["cipher_b64"])) as url, fetching() as attachments:
        whole = await attachments.fill(incoming(picture(url=url, aeskey=vector["aes_key_b64"])), 5)
    assert whole.attachments == ()
    assert whole.content.parts[0].media.inline_data == base64.b64decode(vector["plain_b64"])


@given(st.binary(max_size=200), st.lists(st.integers(1, 80), max_size=12))
def test_a_download_in_pieces_decrypts_as_the_whole_does(plain: bytes, cuts: list[int]) -> None:
    key = bytes(range(32))
    sealed = encrypt_media(plain, key)
    cipher, out, at = MediaCipher(key), b"", 0
    for length in [*cuts, len(sealed)]:
        out += cipher.feed(sealed[at : at + length])
        at += length
    assert out + cipher.end() == plain == decrypt_media(sealed, key)


@pytest.mark.parametrize("cut", [0, 1, 15, 16, 17, 31, 33])
def test_what_does_not_decrypt_whole_does_not_in_pieces(cut: int) -> None:
    cipher = MediaCipher(bytes(32))
    cipher.feed(encrypt_media(bytes(64), bytes(range(32)))[:cut])
    with pytest.raises(EnvelopeError):
        cipher.end()


async def test_a_wrong_key_is_damage_and_costs_little() -> None:
    key, other = bytes(range(32)), base64.b64encode(bytes(32)).decode()
    async with serving(encrypt_media(bytes(19 * MIB), key)) as url, fetching() as attachments:
        tracemalloc.start()
        try:
            whole = await attachments.fill(incoming(picture(url=url, aeskey=other)), 5)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert why(whole) == "DAMAGED"
    assert peak < 64 * MIB


@pytest.mark.parametrize("aeskey", ["", "short", "!" * 43, "A" * 44])
async def test_a_key_that_is_none_is_damage(aeskey: str) -> None:
    async with serving(bytes(32)) as url, fetching() as attachments:
        assert why(await attachments.fill(incoming(picture(url=url, aeskey=aeskey)), 5)) == "DAMAGED"


async def test_the_largest_file_is_in_memory_twice_at_most() -> None:
    key = bytes(range(32))
    aeskey = base64.b64encode(key).decode().rstrip("=")
    async with serving(encrypt_media(PNG + bytes(20 * MIB - len(PNG)), key)) as url, fetching() as attachments:
        tracemalloc.start()
        try:
            whole = await attachments.fill(incoming(picture(url=url, aeskey=aeskey)), 5)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert len(whole.content.parts[0].media.inline_data) == 20 * MIB
    assert whole.content.parts[0].media.mime_type == "image/png"
    # The ciphertext that the server of this test holds is not counted: it was there before.
    assert peak < 64 * MIB


# --- names and types ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("attachment; filename*=UTF-8''" + quote("报告 1&2.pdf"), "报告 1&2.pdf"),
        ('attachment; filename="' + quote_plus("报告 1&2.pdf") + '"', "报告 1&2.pdf"),
        ("attachment; filename=\"other.txt\"; filename*=UTF-8''" + quote("a+b.pdf"), "a+b.pdf"),
        ("attachment; filename=" + quote_plus("a b.txt"), "a b.txt"),
        ("attachment", ""),
        ("attachment; filename=", ""),
        ("nonsense;;;=", ""),
        ("", ""),
        ("x" * 5000, ""),
    ],
)
def test_the_name_of_a_bots_file(header: str, name: str) -> None:
    assert name_of(header, form_encoded=True) == name


def test_a_plain_name_is_plain_where_nothing_encodes_it() -> None:
    assert name_of('attachment; filename="a+b.pdf"') == "a+b.pdf"


@pytest.mark.parametrize(
    ("name", "mime_type", "safe"),
    [
        ("../../etc/passwd", "", "passwd"),
        ("C:\\temp\\a.txt", "", "a.txt"),
        ('a"b\n.txt', "", "a_b_.txt"),
        ("报告\u202efdp.exe", "", "报告fdp.exe"),
        ("图片", "image/png", "图片.png"),
        ("", "image/jpeg", "file.jpg"),
        ("", "", ""),
        ("...", "", ""),
        ("长" * 200 + ".docx", "", "长" * 83 + ".docx"),
    ],
)
def test_names_lead_nowhere(name: str, mime_type: str, safe: str) -> None:
    assert safe_name(name, mime_type) == safe
    assert len(safe_name(name, mime_type).encode()) <= 255


@pytest.mark.parametrize(
    ("head", "name", "found"),
    [
        (PNG, "x.jpg", "image/png"),
        (b"\xff\xd8\xff\xe0", "", "image/jpeg"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "", "image/webp"),
        (b"\0\0\0\x18ftypmp42", "", "video/mp4"),
        (b"\0\0\0\x18ftypheic", "", "image/heic"),
        (b"#!AMR\n\x3c", "", "audio/amr"),
        (b"%PDF-1.7", "x.bin", "application/pdf"),
        (b"PK\x03\x04", "a.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        (b"PK\x03\x04", "a.txt", "application/zip"),
        (b"PK\x03\x04", "", "application/zip"),
        (b"hello", "a.MD", "text/markdown"),
        (b"hello", "a.csv", "text/csv"),
        (b"hello", "", "application/octet-stream"),
    ],
)
def test_a_file_is_what_its_bytes_say(head: bytes, name: str, found: str) -> None:
    assert media_type(head, name) == found


@pytest.mark.parametrize("said", ["", "text", "a/b{c}", "text/plain\r\nX: y", "图/片", "a/" + "b" * 200, "*/*"])
def test_what_somebody_calls_a_file_is_a_media_type_or_nothing(said: str) -> None:
    assert media_type(b"\x00\x01", "", said) == UNKNOWN


def test_the_length_of_a_recording() -> None:
    assert amr_seconds(b"#!AMR\n" + (b"\x3c" + bytes(31)) * 500, 60.0) == pytest.approx(10.0)
    assert amr_seconds(b"#!AMR\n" + (b"\x3c" + bytes(31)) * 4000, 60.0) > 60


# --- bounds ------------------------------------------------------------------------------


class Shelf:
    """Gives files by media_id, and counts."""

    def __init__(self, files: dict[str, bytes | MediaMissing], wait: Callable[[], Any] | None = None) -> None:
        self._files = files
        self._wait = wait
        self.under_way = 0
        self.most = 0

    async def __call__(self, attachment: Attachment, *, most: int, claim: Claim) -> Fetched:
        file = self._files[attachment.media_id]
        if isinstance(file, MediaMissing):
            raise file
        if len(file) > most:
            raise MediaMissing(Media.TOO_LARGE, "too large")
        await claim.grow(len(file))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            if self._wait is not None:
                await self._wait()
        finally:
            self.under_way -= 1
        return Fetched(bytes(file), "", "")


async def test_all_attachments_of_a_message_share_one_limit() -> None:
    shelf = Shelf({"a": bytes(600), "b": bytes(500), "c": bytes(400)})
    attachments = Attachments(Room(fetches=4, total_bytes=MIB), shelf, metrics(), max_bytes=1000)
    message = incoming(picture(0, media_id="a"), picture(1, media_id="b"), picture(2, media_id="c"))
    whole = await attachments.fill(message, 5)
    assert [len(part.media.inline_data) for part in whole.content.parts] == [600, 0, 400]
    assert why(whole, 1) == "TOO_LARGE"
    assert message.content.parts[0].media.inline_data == b""


async def test_more_than_twenty_are_not_even_asked_for() -> None:
    shelf = Shelf({"a": b"0123456789"})
    attachments = Attachments(Room(fetches=4, total_bytes=MIB), shelf, metrics(), max_bytes=1000)
    whole = await attachments.fill(incoming(*(picture(number, media_id="a") for number in range(22))), 5)
    assert [bool(part.media.inline_data) for part in whole.content.parts] == [True] * 20 + [False] * 2


async def test_a_file_that_does_not_come_in_time_is_told_as_missing() -> None:
    shelf = Shelf({"a": b"0123456789"}, asyncio.Event().wait)
    room = Room(fetches=4, total_bytes=MIB)
    whole = await Attachments(room, shelf, metrics(), max_bytes=1000).fill(incoming(picture(media_id="a")), 0.05)
    assert why(whole) == "UNAVAILABLE"
    assert room.taken == 0


async def test_many_large_files_at_a_time_wait_for_each_other() -> None:
    size = 2 * MIB
    shelf = Shelf({"a": bytes(size)}, lambda: asyncio.sleep(0.01))
    room = Room(fetches=3, total_bytes=4 * size)
    attachments = Attachments(room, shelf, metrics(), max_bytes=size)

    async def one() -> int:
        whole = await attachments.fill(incoming(picture(media_id="a")), 20)
        assert room.taken <= 4 * size
        await asyncio.sleep(0.02)  # it is being submitted, and holds its room
        return len(whole.content.parts[0].media.inline_data)

    tracemalloc.start()
    try:
        sizes = await asyncio.gather(*(one() for _ in range(100)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sizes == [size] * 100
    assert shelf.most <= 3
    assert peak < 64 * MIB
    await asyncio.sleep(0)
    assert room.taken == 0


async def test_the_room_of_a_message_is_free_when_the_message_is_let_go_of() -> None:
    shelf = Shelf({"a": bytes(1000)})
    room = Room(fetches=1, total_bytes=MIB)
    attachments = Attachments(room, shelf, metrics(), max_bytes=MIB)
    whole = await attachments.fill(incoming(picture(media_id="a")), 5)
    changed = msgspec.structs.replace(whole, assistant="other")
    assert room.taken == 1000
    del whole
    gc.collect()
    await asyncio.sleep(0)
    assert room.taken == 0
    assert changed.content.parts[0].media.inline_data == bytes(1000)


async def test_who_gives_up_waiting_for_room_leaves_it_to_the_next() -> None:
    room = Room(fetches=1, total_bytes=100)
    first, second, third = Claim(room), Claim(room), Claim(room)
    await first.grow(80)
    waiting = asyncio.create_task(second.grow(80))
    behind = asyncio.create_task(third.grow(20))
    await asyncio.sleep(0)
    assert not behind.done(), "first come, first served"
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await asyncio.wait_for(behind, 1)
    assert room.taken == 100
    first.release()
    third.release()
    await asyncio.sleep(0)
    assert room.taken == 0


async def test_a_message_without_attachments_is_itself() -> None:
    message = incoming()
    assert (
        await Attachments(Room(fetches=1, total_bytes=1), Shelf({}), metrics(), max_bytes=1).fill(message, 1) is message
    )


def test_no_text_of_an_attachment_holds_what_opens_it() -> None:
    shown = repr(incoming(picture(url="https://cos/x?sign=SECRET", aeskey="KEY-KEY")))
    assert "SECRET" not in shown
    assert "KEY-KEY" not in shown
    assert media_key("A" * 43) == bytes(32)


def test_a_name_cannot_end_the_header_that_it_stands_in() -> None:
    content_type, body = one_file("media", 'a"\r\nX-Evil: 1\r\n\r\n.txt', b"0123456789")
    head, _, rest = body.partition(b"\r\n\r\n")
    assert head.count(b"\r\n") == 2
    assert b"X-Evil" not in head.split(b"\r\n")[0]
    assert rest.startswith(b"0123456789\r\n--" + content_type.partition("boundary=")[2].encode())
