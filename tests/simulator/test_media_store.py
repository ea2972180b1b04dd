"""Media of the platform at the borders of DOC 90253, 90254, 100719 and 101463."""

import base64
import hashlib
import io
import warnings

import aiohttp
import pytest

from adapter.crypto import decrypt_media, media_key
from simulator.clock import ManualClock
from simulator.faults import Switch
from simulator.media import amr_seconds, new_key
from simulator.rules import Refused, Rules
from simulator.settings import BoundSettings

with warnings.catch_warnings():
    # It imports a name that websockets has deprecated; that is not ours to mend.
    warnings.simplefilter("ignore", DeprecationWarning)
    import aibot
    import aibot.api
    import aibot.crypto_utils

MIB = 1024 * 1024
PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)
JPG = b"\xff\xd8\xff\xe0" + bytes(64)
AMR = b"#!AMR\n" + (b"\x3c" + bytes(31)) * 50
MP4 = b"\0\0\0\x18ftypmp42" + bytes(64)


class Files:
    """Uploads and fetches as a client would, with a token."""

    def __init__(self, sim, session, token):
        self.base = f"{sim.rest_base}/cgi-bin/media"
        self.session = session
        self.token = token

    async def upload(self, kind, name, data, field="media"):
        form = aiohttp.FormData(quote_fields=False)
        form.add_field(field, io.BytesIO(data), filename=name, content_type="application/octet-stream")
        query = {"access_token": self.token, "type": kind}
        async with self.session.post(f"{self.base}/upload", params=query, data=form) as response:
            return await response.json()

    async def get(self, media_id, **headers):
        query = {"access_token": self.token, "media_id": media_id}
        async with self.session.get(f"{self.base}/get", params=query, headers=headers) as response:
            if "json" in response.content_type and "Content-Disposition" not in response.headers:
                return (await response.json())["errcode"]
            return response.status, await response.read(), response.headers["Content-Disposition"]


@pytest.fixture
async def files(session, api):
    async def start(sim):
        return Files(sim, session, (await api(sim).token())["access_token"])

    return start


async def test_what_was_uploaded_is_given_back(simulator, files):
    async with simulator() as sim:
        client = await files(sim)
        answer = await client.upload("file", "报告 1.pdf", b"%PDF-" + bytes(100))
        assert (answer["errcode"], answer["type"]) == (0, "file")
        assert isinstance(answer["created_at"], str)
        status, data, disposition = await client.get(answer["media_id"])
        assert (status, data) == (200, b"%PDF-" + bytes(100))
        assert "报告 1.pdf" in disposition


@pytest.mark.parametrize(
    ("kind", "data", "code"),
    [
        ("image", PNG, 0),
        ("image", JPG, 0),
        ("image", b"BM" + bytes(60), 40005),
        ("image", PNG + bytes(10 * MIB), 45001),
        ("voice", AMR, 0),
        ("voice", b"ID3" + bytes(60), 40005),
        ("voice", b"#!AMR\n" + (b"\x3c" + bytes(31)) * 3001, 45007),
        ("voice", AMR + bytes(2 * MIB), 45001),
        ("video", MP4, 0),
        ("video", AMR, 40005),
        ("file", bytes(6), 0),
        ("file", bytes(5), 40006),
        ("file", bytes(20 * MIB), 0),
        ("file", bytes(20 * MIB + 1), 45001),
        ("thing", PNG, 40004),
    ],
    ids=lambda value: value if isinstance(value, str | int) else "",
)
async def test_limits_of_each_kind(simulator, files, kind, data, code):
    async with simulator() as sim:
        answer = await (await files(sim)).upload(kind, "名字", data)
        assert answer["errcode"] == code
        assert bool(answer.get("media_id")) == (code == 0)


async def test_a_form_without_the_file_is_refused(simulator, files, session):
    async with simulator() as sim:
        client = await files(sim)
        assert (await client.upload("file", "a", b"0123456789", field="other"))["errcode"] == 41005
        query = {"access_token": client.token, "type": "file"}
        async with session.post(f"{client.base}/upload", params=query, json={}) as response:
            assert (await response.json())["errcode"] == 41005
        client.token = "unknown"
        assert (await client.upload("file", "a", b"0123456789"))["errcode"] == 40014


async def test_a_file_lives_for_three_days(simulator, files):
    clock = ManualClock()
    async with simulator(Rules(token_seconds=10**6), clock=clock) as sim:
        client = await files(sim)
        media_id = (await client.upload("image", "a.png", PNG))["media_id"]
        clock.advance(3 * 86400 - 1)
        assert (await client.get(media_id))[1] == PNG
        clock.advance(1)
        assert await client.get(media_id) == 40007
        assert await client.get("unknown") == 40007
        with pytest.raises(Refused):
            sim.media.presigned(media_id, new_key())


async def test_large_files_are_given_in_pieces_only(simulator, files):
    async with simulator(Rules(media_get_bytes=1000)) as sim:
        client = await files(sim)
        media_id = sim.media.put("file", "a.bin", bytes(range(250)) * 10, checked=False)
        assert await client.get(media_id) == 830002
        status, data, _ = await client.get(media_id, Range="bytes=1000-1999")
        assert (status, data) == (206, (bytes(range(250)) * 10)[1000:2000])
        assert await client.get(media_id, Range="bytes=0-1999") == 830002


async def test_asking_again_and_again_is_refused(simulator, files):
    async with simulator(Rules(media_gets_per_minute=2), clock=ManualClock()) as sim:
        client = await files(sim)
        media_id = (await client.upload("image", "a.png", PNG))["media_id"]
        outcomes = [await client.get(media_id) for _ in range(3)]
        assert outcomes[1][1] == PNG
        assert outcomes[2] == 45033


async def test_the_store_has_a_bound(simulator):
    async with simulator(bounds=BoundSettings(media_bytes=2500)) as sim:
        first, second, third = (sim.media.put("file", f"{n}", bytes(1000)) for n in range(3))
        with pytest.raises(Refused):
            sim.media.get(first)
        assert sim.media.get(second).name == "1"
        assert sim.media.get(third).name == "2"


# --- a bot's files -----------------------------------------------------------------------


@pytest.mark.parametrize("naming", ["both", "form"])
async def test_the_official_sdk_opens_a_bots_file(simulator, naming):
    async with simulator(Rules(media_url_name=naming)) as sim:
        key = new_key()
        url = sim.media.presigned(sim.media.put("file", "a b.txt", b"hello" * 20), key)
        data, _ = await aibot.api.WeComApiClient(aibot.logger.DefaultLogger(), 5000).download_file_raw(url)
        assert aibot.crypto_utils.decrypt_file(data, key) == b"hello" * 20
        assert decrypt_media(data, media_key(key)) == b"hello" * 20


async def test_an_address_of_a_file_ends_after_five_minutes_and_needs_its_signature(simulator, session):
    clock = ManualClock()
    async with simulator(clock=clock) as sim:
        media_id = sim.media.put("file", "a.txt", b"hello" * 20)
        url = sim.media.presigned(media_id, new_key())
        assert sim.media.presigned(media_id, new_key()) != url
        clock.advance(299)
        async with session.get(url) as response:
            assert response.status == 200
        async with session.get(url[:-1]) as response:
            assert response.status == 403
        clock.advance(1)
        async with session.get(url) as response:
            assert response.status == 403


async def test_accidents_of_a_download(simulator, session):
    async with simulator() as sim:
        key = new_key()

        async def fetch():
            url = sim.media.presigned(sim.media.put("file", "a.txt", b"hello" * 20), key)
            async with session.get(url, allow_redirects=False) as response:
                return response.status, response.headers, await response.read()

        sim.faults.once("media_redirect_private")
        status, headers, _ = await fetch()
        assert (status, "169.254" in headers["Location"]) == (302, True)
        sim.faults.once("media_wrong_key")
        with pytest.raises(RuntimeError, match="padding"):
            aibot.crypto_utils.decrypt_file((await fetch())[2], key)
        for fault in ("media_cut", "media_claim_huge"):
            sim.faults.once(fault)
            if fault == "media_cut":
                with pytest.raises(aiohttp.ClientPayloadError):
                    await fetch()
            else:
                assert (await fetch())[1]["Content-Length"] == str(100 * MIB)
        sim.faults.set("media_slow", Switch(count=1, seconds=0.001))
        assert aibot.crypto_utils.decrypt_file((await fetch())[2], key) == b"hello" * 20


async def test_the_page_gets_files_that_cannot_act_in_its_name(simulator, session):
    async with simulator() as sim:
        media_id = sim.media.put("file", "a.html", b"<script>alert(1)</script>")
        async with session.get(f"{sim.rest_base}/media/{media_id}") as response:
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert "sandbox" in response.headers["Content-Security-Policy"]
        async with session.get(f"{sim.rest_base}/media/unknown") as response:
            assert response.status == 404


# --- uploads over the long connection ----------------------------------------------------


def begin(data, chunks, **changes):
    body = {
        "type": "file",
        "filename": "a.bin",
        "total_size": len(data),
        "total_chunks": chunks,
        "md5": hashlib.md5(data, usedforsecurity=False).hexdigest(),
    }
    return body | changes


def chunk(upload_id, number, piece):
    return {"upload_id": upload_id, "chunk_index": number, "base64_data": base64.b64encode(piece).decode()}


async def test_an_upload_in_any_order_goes_on_over_the_next_connection(simulator, connect):
    data = bytes(range(256)) * 12
    async with simulator() as sim:
        first = await connect(sim)
        await first.subscribe()
        upload_id = (await first.call("aibot_upload_media_init", begin(data, 3)))["body"]["upload_id"]
        assert (await first.call("aibot_upload_media_chunk", chunk(upload_id, 2, data[2048:])))["errcode"] == 0
        second = await connect(sim)
        await second.subscribe()
        for number in (0, 1, 1):
            piece = data[number * 1024 : (number + 1) * 1024]
            assert (await second.call("aibot_upload_media_chunk", chunk(upload_id, number, piece)))["errcode"] == 0
        done = await second.call("aibot_upload_media_finish", {"upload_id": upload_id})
        assert done["body"]["type"] == "file"
        assert sim.media.get(done["body"]["media_id"]).data == data
        assert (await second.call("aibot_upload_media_finish", {"upload_id": upload_id}))["errcode"] == 40058


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"type": "thing"}, 40004),
        ({"filename": ""}, 40058),
        ({"filename": "长" * 86}, 40058),
        ({"total_size": 5}, 40006),
        ({"total_chunks": 0}, 40058),
        ({"total_chunks": 101}, 40058),
        ({"total_chunks": "1"}, 40058),
    ],
)
async def test_an_upload_that_cannot_begin(simulator, connect, changes, code):
    async with simulator() as sim:
        client = await connect(sim)
        await client.subscribe()
        assert (await client.call("aibot_upload_media_init", begin(b"0123456789", 1, **changes)))["errcode"] == code


async def test_an_upload_that_cannot_end(simulator, connect):
    async with simulator() as sim:
        client = await connect(sim)
        await client.subscribe()

        async def begun(**changes):
            answer = await client.call("aibot_upload_media_init", begin(b"0123456789", 2, **changes))
            return answer["body"]["upload_id"]

        async def put(upload_id, number, piece):
            return (await client.call("aibot_upload_media_chunk", chunk(upload_id, number, piece)))["errcode"]

        async def end(upload_id):
            return (await client.call("aibot_upload_media_finish", {"upload_id": upload_id}))["errcode"]

        upload = await begun()
        assert await put(upload, 2, b"01234") == 40058
        assert await put(upload, 0, b"") == 40058
        assert await put(upload, 0, bytes(512 * 1024 + 1)) == 40058
        assert await put("other", 0, b"01234") == 40058
        assert await put(upload, 0, b"01234") == 0
        assert await end(upload) == 40058
        assert await put(upload, 1, b"56789") == 0
        assert await end(upload) == 0
        wrong = await begun(md5="0" * 32)
        for number, piece in enumerate((b"01234", b"56789")):
            await put(wrong, number, piece)
        assert await end(wrong) == 40058


async def test_uploads_have_a_rate(simulator, connect):
    async with simulator(Rules(uploads_per_minute=2), clock=ManualClock()) as sim:
        client = await connect(sim)
        await client.subscribe()
        codes = [(await client.call("aibot_upload_media_init", begin(b"0123456789", 1)))["errcode"] for _ in range(3)]
        assert codes == [0, 0, 45009]


# --- what people see ---------------------------------------------------------------------


async def test_bubbles_hold_the_files_of_a_bot(simulator, connect):
    async with simulator() as sim:
        client = await connect(sim)
        await client.subscribe()
        await sim.write_to_bot("lina", "?")
        push = await client.receive()
        media_id = sim.media.put("image", "a.png", PNG)
        req_id = push["headers"]["req_id"]
        answer = await client.call("aibot_respond_msg", {"msgtype": "image", "image": {"media_id": media_id}}, req_id)
        assert answer["errcode"] == 0
        body = {"chatid": "lina", "msgtype": "file", "file": {"media_id": "unknown"}}
        assert (await client.call("aibot_send_msg", body))["errcode"] == 40007
        picture = {"base64": base64.b64encode(PNG).decode(), "md5": hashlib.md5(PNG, usedforsecurity=False).hexdigest()}
        stream = {"id": "s1", "finish": True, "content": "图", "msg_item": [{"msgtype": "image", "image": picture}]}
        body = {"msgtype": "stream", "stream": stream}
        assert (await client.call("aibot_respond_msg", body, req_id))["errcode"] == 0
        first, second = sim.replies("lina", "bot")
        assert first.content == {"kind": "image", "name": "a.png", "size": len(PNG), "url": f"/media/{media_id}"}
        assert [item["size"] for item in second.content["items"]] == [len(PNG)]
        picture["md5"] = "0" * 32
        assert (await client.call("aibot_respond_msg", {**body, "stream": {**stream, "id": "s2"}}, req_id))[
            "errcode"
        ] == 40058


async def test_what_people_send_is_in_their_own_bubble_and_signed_anew_on_redelivery(simulator, connect):
    async with simulator() as sim:
        client = await connect(sim)
        await client.subscribe()
        sim.send_media_to_bot("lina", "看", ("image", "a.png", PNG))
        first = await client.receive()
        second_client = await connect(sim)
        await second_client.subscribe()
        again = await second_client.receive()
        assert first["body"]["msgid"] == again["body"]["msgid"]
        one, other = (frame["body"]["mixed"]["msg_item"][1]["image"] for frame in (first, again))
        assert one["url"] != other["url"]
        assert one["aeskey"] != other["aeskey"]
        (bubble,) = sim.bubbles("lina", "bot")
        assert [item["kind"] for item in bubble.content["items"]] == ["text", "image"]


def test_the_length_of_a_recording():
    assert amr_seconds(AMR) == pytest.approx(1.0)


async def test_the_callbacks_of_files(simulator, application):
    async with simulator() as sim:
        sim.set_callback_url(application.url)
        sim.send_media_to_app("lina", "video", "a.mp4", MP4)
        await sim.wait_for(lambda: sim.acknowledged())
        (bubble,) = sim.bubbles("lina", "app")
        assert bubble.content["kind"] == "video"
