"""Files of people and files of replies, between a local WeCom and a fake service, through the whole adapter."""

import hashlib
import io
import logging
import struct
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest

from adapter.app import running
from adapter.settings import (
    AppSettings,
    BotSettings,
    ListenSettings,
    MediaSettings,
    OperationsSettings,
    ServerSettings,
    Settings,
    WeComSettings,
)
from simulator.app import Simulator
from simulator.chats import Bubble
from simulator.faults import Switch
from simulator.journal import Kind
from simulator.rules import Rules
from simulator.settings import ListenSettings as SimulatorListen
from simulator.settings import Settings as SimulatorSettings
from weconverse import DeliveryResult
from weconverse.testing import FakeService, Script
from weconverse.v1.conversation_pb2 import Content, ConverseRequest, Media, Part, SubmitTurnRequest

MIB = 1024 * 1024


def png(side: int = 8) -> bytes:
    """A real picture: a square of one colour."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + b"\x30\x60\x90" * side for _ in range(side))
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


AMR = b"#!AMR\n" + (b"\x3c" + bytes(31)) * 50
MP4 = b"\0\0\0\x18ftypmp42" + bytes(200)
PDF = b"%PDF-1.7\n" + bytes(300)


def settings_for(sim: Simulator, fake: FakeService, media: MediaSettings) -> Settings:
    app, bot = sim.settings.apps[0], sim.settings.bots[0]
    return Settings(
        server=ServerSettings(target=fake.target),
        listen=ListenSettings(address="127.0.0.1:0", drain_seconds=0.5, submit_seconds=0.3),
        operations=OperationsSettings(address=""),
        wecom=WeComSettings(api_base=sim.rest_base, socket_base=sim.socket_base),
        media=media,
        apps={
            "assistant": AppSettings(
                corp_id=sim.settings.corp_id,
                agent_id=app.agent_id,
                secret=app.secret,
                token=app.token,
                encoding_aes_key=app.encoding_aes_key,
            )
        },
        bots={
            "helper": BotSettings(
                bot_id=bot.id,
                secret=bot.secret,
                name=bot.name,
                refresh_seconds=0.05,
                thinking_seconds=0.1,
                ack_seconds=0.5,
            )
        },
    )


LOCAL = MediaSettings(private_networks=("127.0.0.0/8",), insecure_http=True, callback_seconds=4.0)


@asynccontextmanager
async def stack(
    script: Script | None = None,
    *,
    media: MediaSettings = LOCAL,
    rules: Rules | None = None,
) -> AsyncIterator[tuple[Simulator, FakeService]]:
    settings = SimulatorSettings(
        listen=SimulatorListen(address="127.0.0.1:0"), rules=rules or Rules(callback_interval_seconds=0.4)
    )
    async with (
        FakeService(script or (lambda _: "收到")) as fake,
        Simulator(settings) as sim,
        running(settings_for(sim, fake, media)) as started,
    ):
        sim.set_callback_url(f"http://127.0.0.1:{started.callbacks_port}/wecom/app/assistant")
        await sim.wait_for(sim.connected)
        yield sim, fake


async def asked(fake: FakeService, count: int = 1) -> list[ConverseRequest]:
    """The messages that the service has taken."""
    await fake.until(lambda: len(fake.turns()) >= count, timeout=8)
    return [request.turn for request in fake.requests("SubmitTurn", SubmitTurnRequest)]


async def delivered(fake: FakeService, count: int = 1) -> None:
    """Waits until so many turns were delivered whole."""

    def done() -> bool:
        return sum(one.outcome == DeliveryResult.DELIVERED for one in fake.results) >= count

    await fake.until(done, timeout=15)


def files(request: ConverseRequest) -> list[Media]:
    return [part.media for part in request.input.parts if part.HasField("media")]


def texts(request: ConverseRequest) -> list[str]:
    return [part.text for part in request.input.parts if part.HasField("text")]


def shown(sim: Simulator, person: str, chat: str) -> list[Bubble]:
    return [bubble for bubble in sim.replies(person, chat) if bubble.finished]


async def bytes_of(sim: Simulator, bubble: Bubble) -> bytes:
    """What a person who opens the file of a bubble gets."""
    assert bubble.content is not None
    async with aiohttp.ClientSession() as session, session.get(sim.rest_base + bubble.content["url"]) as response:
        return await response.read()


# --- in ----------------------------------------------------------------------------------

FILES = [
    ("image", "照片.png", png(), "image/png"),
    ("file", "合同 v1&2.pdf", PDF, "application/pdf"),
    ("video", "演示.mp4", MP4, "video/mp4"),
]


OF_APPLICATIONS = [
    *FILES,
    ("voice", "a.amr", AMR, "audio/amr"),
    # It looks like a refusal of the interface, and is a file.
    ("file", "a.json", b'{"errcode": 40007, "errmsg": "invalid media_id"}', "application/json"),
]


@pytest.mark.parametrize(("kind", "name", "data", "mime_type"), OF_APPLICATIONS)
async def test_what_people_send_to_an_application_arrives_as_bytes(
    kind: str, name: str, data: bytes, mime_type: str
) -> None:
    async with stack() as (sim, fake):
        sim.send_media_to_app("zhangwei", kind, name, data)
        (request,) = await asked(fake)
        (media,) = files(request)
        assert media.inline_data == data
        assert (media.mime_type, media.missing) == (mime_type, Media.MISSING_UNSPECIFIED)
        assert media.display_name == name
        await sim.wait_for(lambda: shown(sim, "zhangwei", "app"))
        assert len(fake.turns()) == 1


async def test_what_was_understood_of_a_recording_is_text() -> None:
    async with stack() as (sim, fake):
        sim.send_media_to_app("zhangwei", "voice", "a.amr", AMR, recognition="明天几点开会")
        (request,) = await asked(fake)
        assert texts(request) == ["明天几点开会"]
        assert not files(request)


@pytest.mark.parametrize("naming", ["both", "form"])
@pytest.mark.parametrize(("kind", "name", "data", "mime_type"), FILES)
async def test_what_people_send_to_a_bot_arrives_as_bytes(
    kind: str, name: str, data: bytes, mime_type: str, naming: Any
) -> None:
    async with stack(rules=Rules(media_url_name=naming)) as (sim, fake):
        sim.send_media_to_bot("lina", (kind, name, data))
        (request,) = await asked(fake)
        (media,) = files(request)
        assert media.inline_data == data
        assert (media.mime_type, media.display_name) == (mime_type, name)


async def test_a_mixed_message_and_a_quoted_picture_arrive_in_their_order() -> None:
    async with stack() as (sim, fake):
        picture, other = png(4), png(6)
        sim.send_media_to_bot("lina", "这是什么", ("image", "a.png", picture), "和这个比呢", ("image", "b.png", other))
        sim.send_media_to_bot("wangfang", "解释一下", quoted=("image", "c.png", other), group="group")
        first, second = sorted(await asked(fake, 2), key=lambda request: len(files(request)), reverse=True)
        kinds = [part.text or part.media.inline_data for part in first.input.parts]
        assert kinds == ["这是什么", picture, "和这个比呢", other]
        assert [media.inline_data for media in files(second)] == [other]
        assert "解释一下" in "".join(texts(second))


async def test_a_redelivered_picture_is_the_same_turn() -> None:
    async with stack() as (sim, fake):
        sim.faults.set("push_lost", Switch(count=1))
        sim.faults.once("push_duplicated")
        sim.send_media_to_bot("lina", ("image", "a.png", png()))
        sim.cut()
        await sim.wait_for(lambda: shown(sim, "lina", "bot"), 8)
        assert len(fake.turns()) == 1
        assert files((await asked(fake))[0])[0].inline_data == png()


async def test_a_slow_file_is_waited_for_across_the_repetitions_of_its_callback() -> None:
    # It takes a second and a half, or longer on a busy machine, and every delivery is told "not yet" after 0.3 s.
    async with stack(rules=Rules(callback_interval_seconds=0.8, callback_deliveries=12)) as (sim, fake):
        sim.faults.once("media_slow", seconds=0.02)
        sim.send_media_to_app("zhangwei", "file", "a.txt", b"x" * 60)
        (request,) = await asked(fake)
        assert files(request)[0].inline_data == b"x" * 60
        await sim.wait_for(lambda: sim.acknowledged(), 5)
        await sim.wait_for(lambda: shown(sim, "zhangwei", "app"))
        assert sim.journal.counts[Kind.FAILED] >= 1
        assert len(fake.requests("SubmitTurn", SubmitTurnRequest)) == 1


async def test_a_file_that_does_not_come_is_told_as_missing_before_the_callbacks_end() -> None:
    media = MediaSettings(private_networks=("127.0.0.0/8",), insecure_http=True, callback_seconds=1.6)
    async with stack(media=media, rules=Rules(callback_interval_seconds=0.8)) as (sim, fake):
        sim.faults.once("media_slow", seconds=5.0)
        sim.send_media_to_app("zhangwei", "file", "a.txt", b"x" * 60)
        (request,) = await asked(fake)
        assert files(request)[0].missing == Media.UNAVAILABLE
        await sim.wait_for(lambda: shown(sim, "zhangwei", "app"))


HOSTILE = [
    ("media_wrong_key", "bot", Media.DAMAGED),
    ("media_cut", "bot", Media.DAMAGED),
    ("media_cut", "app", Media.DAMAGED),
    ("media_redirect_private", "bot", Media.REFUSED),
    ("media_claim_huge", "bot", Media.TOO_LARGE),
    ("media_claim_huge", "app", Media.TOO_LARGE),
]


@pytest.mark.parametrize(("fault", "door", "missing"), HOSTILE)
async def test_hostile_files_are_told_as_missing(fault: str, door: str, missing: Any) -> None:
    heard = io.StringIO()
    handler = logging.StreamHandler(heard)
    logging.getLogger().addHandler(handler)
    try:
        async with stack() as (sim, fake):
            sim.faults.once(fault, count=2)  # what is cut short is tried once more
            if door == "app":
                sim.send_media_to_app("zhangwei", "image", "a.png", png())
            else:
                sim.send_media_to_bot("zhangwei", ("image", "a.png", png()))
            (request,) = await asked(fake)
            await sim.wait_for(lambda: shown(sim, "zhangwei", door))
    finally:
        logging.getLogger().removeHandler(handler)
    (media,) = files(request)
    assert media.missing == missing
    assert media.WhichOneof("source") is None
    assert "sign=" not in heard.getvalue()
    assert "aeskey" not in heard.getvalue()


async def test_a_file_beyond_the_limit_of_a_message_is_too_large() -> None:
    media = MediaSettings(private_networks=("127.0.0.0/8",), insecure_http=True, max_bytes=1000)
    async with stack(media=media) as (sim, fake):
        sim.send_media_to_app("zhangwei", "file", "a.bin", bytes(2000))
        sim.send_media_to_bot("lina", ("file", "a.bin", bytes(2000)))
        for request in await asked(fake, 2):
            assert files(request)[0].missing == Media.TOO_LARGE


async def test_without_leave_no_file_of_a_bot_is_fetched_from_this_machine() -> None:
    async with stack(media=MediaSettings()) as (sim, fake):
        sim.send_media_to_bot("lina", ("image", "a.png", png()))
        (request,) = await asked(fake)
        assert files(request)[0].missing == Media.REFUSED


@pytest.mark.parametrize("fault", ["token_expired", "rest_busy", "rest_5xx", "rest_cut_before", "media_cut"])
async def test_a_fetch_outlives_a_passing_failure_of_the_interface(fault: str) -> None:
    async with stack() as (sim, fake):
        await sim.write_to_app("zhangwei", "你好")
        await sim.wait_for(lambda: shown(sim, "zhangwei", "app"))  # the token is there from now on
        sim.faults.once(fault)
        sim.send_media_to_app("zhangwei", "image", "a.png", png())
        request = (await asked(fake, 2))[-1]
        assert files(request)[0].inline_data == png()
        assert sim.faults.struck[fault] == 1


# --- out ---------------------------------------------------------------------------------


def reply(*parts: str | Media) -> Content:
    return Content(parts=[Part(text=part) if isinstance(part, str) else Part(media=part) for part in parts])


def file(mime_type: str, name: str, data: bytes) -> Media:
    return Media(mime_type=mime_type, display_name=name, inline_data=data)


REPLY = reply("请看图。", file("image/png", "图 1.png", png()), "还有报告。", file("application/pdf", "报告.pdf", PDF))


@pytest.mark.parametrize(("door", "person"), [("app", "zhangwei"), ("bot", "lina")])
async def test_a_picture_and_a_file_of_a_reply_arrive_as_bytes(door: str, person: str) -> None:
    async with stack(lambda _: REPLY) as (sim, fake):
        await (sim.write_to_app(person, "?") if door == "app" else sim.write_to_bot(person, "?"))
        await delivered(fake)
        bubbles = shown(sim, person, door)
        found = [bubble.content and (bubble.content["kind"], bubble.content["name"]) for bubble in bubbles]
        assert found == [None, ("image", "图 1.png"), None, ("file", "报告.pdf")]
        assert await bytes_of(sim, bubbles[1]) == png()
        assert await bytes_of(sim, bubbles[3]) == PDF


@pytest.mark.parametrize(("door", "person"), [("app", "zhangwei"), ("bot", "lina")])
async def test_files_become_what_the_door_takes(door: str, person: str) -> None:
    content = reply(
        "好的",
        file("audio/amr", "短.amr", AMR),
        file("audio/amr", "长.amr", b"#!AMR\n" + (b"\x3c" + bytes(31)) * 3100),
        file("video/mp4", "片.mp4", MP4),
        file("image/bmp", "图.bmp", b"BM" + bytes(50)),
        file("text/plain", "空.txt", b"x"),
    )
    async with stack(lambda _: content) as (sim, fake):
        await (sim.write_to_app(person, "?") if door == "app" else sim.write_to_bot(person, "?"))
        await delivered(fake)
        bubbles = shown(sim, person, door)[1:]
        assert [bubble.content["kind"] for bubble in bubbles if bubble.content] == ["voice", "file", "video", "file"]
        assert "空.txt" in bubbles[-1].text, "WeCom takes no file this small, so the person is told"


async def test_a_large_file_of_an_application_goes_up_whole() -> None:
    data = hashlib.sha256(b"y").digest() * (15 * MIB // 32)
    async with stack(lambda _: reply("请看", file("application/zip", "a.zip", data))) as (sim, fake):
        await sim.write_to_app("lina", "?")
        await delivered(fake)
        assert await bytes_of(sim, shown(sim, "lina", "app")[1]) == data


async def test_a_large_file_goes_up_in_pieces_and_through_a_lost_connection() -> None:
    data = hashlib.sha256(b"x").digest() * (3 * MIB // 32)
    async with stack(lambda _: reply("请看", file("application/zip", "a.zip", data))) as (sim, _):
        sim.faults.set("ack_lost", Switch(count=1, probability=1.0))
        sim.faults.once("socket_cut_after")
        await sim.write_to_bot("lina", "?")
        await sim.wait_for(lambda: len(shown(sim, "lina", "bot")) > 1, 15)
        assert await bytes_of(sim, shown(sim, "lina", "bot")[1]) == data


@pytest.mark.parametrize("fault", ["send_cut_after", "rest_5xx", "rest_busy", "token_expired"])
async def test_an_application_shows_each_file_once_through_accidents(fault: str) -> None:
    async with stack(lambda _: REPLY) as (sim, fake):
        sim.faults.set(fault, Switch(count=3, probability=0.6))
        await sim.write_to_app("zhangwei", "?")
        await delivered(fake)
        bubbles = shown(sim, "zhangwei", "app")
        assert [bubble.content["kind"] if bubble.content else "text" for bubble in bubbles] == [
            "text",
            "image",
            "text",
            "file",
        ]


async def test_what_an_instance_that_ended_had_sent_is_not_sent_again() -> None:
    settings = SimulatorSettings(listen=SimulatorListen(address="127.0.0.1:0"))
    async with FakeService(lambda _: REPLY) as fake, Simulator(settings) as sim:
        ends_at_once = settings_for(sim, fake, LOCAL)
        ends_at_once = msgspec.structs.replace(
            ends_at_once, listen=msgspec.structs.replace(ends_at_once.listen, drain_seconds=0.0)
        )
        # Each ends while WeCom has taken a message and the answer is on its way: nobody knows.
        for count in (1, 2, 3):
            async with running(ends_at_once) as started:
                sim.set_callback_url(f"http://127.0.0.1:{started.callbacks_port}/wecom/app/assistant")
                if count == 1:
                    await sim.write_to_app("zhangwei", "?")
                await sim.wait_for(lambda count=count: len(shown(sim, "zhangwei", "app")) >= count)  # type: ignore[misc]
                sim.faults.once("rest_slow", seconds=0.5)
        async with running(ends_at_once):
            await delivered(fake)
        kinds = [bubble.content["kind"] if bubble.content else "text" for bubble in shown(sim, "zhangwei", "app")]
        assert kinds == ["text", "image", "text", "file"]


async def test_equal_files_are_put_up_once() -> None:
    async with stack(lambda _: reply("图", file("image/png", "图.png", png()))) as (sim, fake):
        for count in (1, 2):
            await sim.write_to_app("zhangwei", f"第{count}次")
            await delivered(fake, count)
        first, second = (bubble for bubble in shown(sim, "zhangwei", "app") if bubble.content)
        assert first.content == second.content


TABLE = "| 姓名 | 金额 |\n|---|---|\n" + "\n".join(f"| 员工{number} | =1+{number} |" for number in range(300))
CODE = "```python\n" + "\n".join(f"print({number})" for number in range(600)) + "\n```"


async def test_a_long_table_and_long_code_are_files_where_they_cannot_be_shown() -> None:
    async with stack(lambda _: f"结果如下：\n\n{TABLE}\n\n程序：\n\n{CODE}\n\n完毕。") as (sim, fake):
        await sim.write_to_app("zhangwei", "?")
        await delivered(fake)
        text, table, code = shown(sim, "zhangwei", "app")
        assert "表格.csv" in text.text
        assert "代码.py" in text.text
        assert text.text.endswith("完毕。")
        rows = (await bytes_of(sim, table)).decode("utf-8-sig").splitlines()
        assert rows[0] == "姓名,金额"
        assert rows[300] == "员工299,'=1+299"
        assert (await bytes_of(sim, code)).decode().splitlines()[-1] == "print(599)"
        # A bot shows both, so there they stay in the text.
        await sim.write_to_bot("lina", "?")
        await delivered(fake, 2)
        assert all(bubble.content is None for bubble in shown(sim, "lina", "bot"))


async def test_a_file_that_a_reply_names_is_fetched_and_shown() -> None:
    async with stack(lambda _: "") as (sim, fake):
        media_id = sim.media.put("file", "季度 报告.pdf", PDF)
        address = f"{sim.rest_base}/media/{media_id}"
        fake.answer(lambda _: reply("见附件", Media(mime_type="application/pdf", uri=address)))
        await sim.write_to_app("zhangwei", "?")
        await delivered(fake)
        _, bubble = shown(sim, "zhangwei", "app")
        assert bubble.content is not None
        assert bubble.content["name"] == "季度 报告.pdf"
        assert await bytes_of(sim, bubble) == PDF


async def test_a_file_that_cannot_be_fetched_is_told_in_words() -> None:
    private = Media(mime_type="image/png", display_name="图.png", uri="https://10.0.0.1/x?sign=1")
    async with stack(lambda _: reply("见图", private)) as (sim, fake):
        await sim.write_to_app("zhangwei", "?")
        await delivered(fake)
        texts_shown = [bubble.text for bubble in shown(sim, "zhangwei", "app")]
        assert texts_shown[0] == "见图"
        assert "图.png" in texts_shown[1]
