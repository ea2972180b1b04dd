"""Files through the whole server: over gRPC, with the processes that read, a model that sees and one that listens."""

import asyncio
import base64
import json
import time
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import msgspec
import pytest

from program.settings import SettingsError
from server.compose import plan, running
from server.settings import (
    GrpcSettings,
    ModelLimitSettings,
    ModelSettings,
    OperationsSettings,
    Settings,
    SpeechSettings,
    StoreSettings,
    TextSettings,
)
from tests.server.llm.test_transcription import ears
from tests.server.llm.upstream import SERVED, Upstream, says, serve
from tests.server.media import files
from weconverse._options import channel_options
from weconverse.v1 import channel_pb2
from weconverse.v1 import conversation_pb2 as pb
from weconverse.v1.channel_pb2_grpc import ChannelServiceStub
from weconverse.v1.conversation_pb2_grpc import ConversationServiceStub

ACCOUNT = "channels/test/accounts/a"
TEXTS = TextSettings()


def settings_for(tmp_path: Path, url: str, speech: SpeechSettings | None = None) -> Settings:
    return Settings(
        grpc=GrpcSettings(address="127.0.0.1:0", drain_seconds=5),
        operations=OperationsSettings(address="127.0.0.1:0"),
        store=StoreSettings(path=str(tmp_path / "turns.db")),
        models={
            "default": ModelSettings(
                base_url=url, model="m", pictures="inline", limits=ModelLimitSettings(requests_per_minute=0)
            )
        },
        speech=speech or SpeechSettings(),
    )


def message(request_id: str, *parts: pb.Part) -> pb.ConverseRequest:
    return pb.ConverseRequest(
        conversation="conversations/a", input=pb.Content(parts=parts), request_id=request_id, assistant=""
    )


def file(data: bytes, name: str = "", mime_type: str = "application/octet-stream") -> pb.Part:
    return pb.Part(media=pb.Media(mime_type=mime_type, inline_data=data, display_name=name))


def asked(upstream: Upstream) -> list[Any]:
    """What the model was asked last, by each call."""
    return [json.loads(request.body)["messages"][-1]["content"] for request in upstream.requests]


async def submitted(channel: grpc.aio.Channel, turn: pb.ConverseRequest, timeout: float = 5.0) -> pb.Turn:
    request = pb.SubmitTurnRequest(turn=turn, account=ACCOUNT, address=b"to")
    accepted: pb.Turn = await ConversationServiceStub(channel).SubmitTurn(request, timeout=timeout)
    return accepted


async def delivered(channel: grpc.aio.Channel, count: int) -> list[pb.Turn]:
    """Owed turns as an instance gets them, ended."""
    attaching, turns = ChannelServiceStub(channel).Attach(timeout=30), []
    hello = channel_pb2.Hello(account=ACCOUNT, instance="i", ended_only=True)
    await attaching.write(channel_pb2.AttachRequest(hello=hello))
    while len(turns) < count:
        said = await attaching.read()
        if said.HasField("delivery"):
            turns.append(said.delivery.ended_turn)
            result = channel_pb2.DeliveryResult(turn=said.delivery.turn, outcome=channel_pb2.DeliveryResult.DELIVERED)
            await attaching.write(channel_pb2.AttachRequest(result=result))
    await attaching.done_writing()
    attaching.cancel()
    return turns


def open_channel(port: int) -> grpc.aio.Channel:
    target = f"localhost:{port}"
    return grpc.aio.insecure_channel(target, options=channel_options(target))


async def test_a_document_and_a_picture_are_answered_owed_or_not(tmp_path: Path) -> None:
    photo = files.located_photo()
    async with (
        serve(says(SERVED)) as model,
        running(settings_for(tmp_path, model.url)) as server,
        open_channel(server.port) as channel,
    ):
        stub = ConversationServiceStub(channel)
        answer = (
            await stub.Converse(
                message("r", pb.Part(text="看看"), file(files.contract(), "合同.docx"), file(photo, "a.jpg"))
            )
        ).turn
        assert [part.WhichOneof("data") for part in answer.input.parts] == ["text", "text", "media"]
        text, picture = asked(model)[0]
        assert text["text"].startswith("看看\n【文件：合同.docx】\n# 采购合同")
        seen = base64.b64decode(picture["image_url"]["url"].partition(",")[2])
        assert seen == answer.input.parts[2].media.inline_data
        assert b"PhoneMaker" not in seen

        quote = file(files.workbook(), "报价单.xlsx")
        accepted = await submitted(channel, message("m1", quote))
        assert accepted.input.parts[0].text.startswith("【文件：报价单.xlsx】\n## 工作表：报价")
        assert len(accepted.input.parts) == 1
        assert (await submitted(channel, message("m1", quote))).name == accepted.name
        (turn,) = await delivered(channel, 1)
        assert turn.reply.parts[0].text == "你好"
        assert asked(model)[1].startswith("【文件：报价单.xlsx】")

        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{server.operations_port}/metrics") as page,
        ):
            metrics = await page.text()
        assert 'weconverse_media_total{kind="document",outcome="read"} 2.0' in metrics
        assert 'weconverse_media_total{kind="picture",outcome="shrunk"} 1.0' in metrics
        assert 'weconverse_media_seconds_count{kind="document"} 2.0' in metrics


async def test_what_cannot_be_read_is_answered_with_one_sentence_each(tmp_path: Path) -> None:
    sent = {
        "m1": (file(files.pdf("页", password="x"), "a.pdf"), TEXTS.media_encrypted),
        "m2": (file(files.scan(), "a.pdf"), TEXTS.media_without_text),
        "m3": (file(files.word("a")[:9000], "a.docx"), TEXTS.media_damaged),
        "m4": (file(files.recording(0.2), mime_type="audio/amr"), TEXTS.voice_not_heard),
        "m5": (file(b"\0\0\0\x20ftypisom", "a.mp4", "video/mp4"), TEXTS.media_unreadable),
        "m6": (pb.Part(media=pb.Media(mime_type="video/mp4", missing=pb.Media.TOO_LARGE)), TEXTS.media_too_large),
        "m7": (pb.Part(media=pb.Media(mime_type="audio/amr", missing=pb.Media.UNAVAILABLE)), TEXTS.media_unavailable),
    }
    async with (
        serve(says(SERVED)) as model,
        running(settings_for(tmp_path, model.url)) as server,
        open_channel(server.port) as channel,
    ):
        for request_id, (part, _) in sent.items():
            turn = await submitted(channel, message(request_id, part))
            assert not any(part.media.inline_data for part in turn.input.parts)
        turns = await delivered(channel, len(sent))
    assert not model.requests
    assert {turn.name.rpartition("/")[2]: turn.reply.parts[0].text for turn in turns} == {
        request_id: sentence for request_id, (_, sentence) in sent.items()
    }


async def test_a_voice_is_answered_as_if_it_had_been_typed(tmp_path: Path) -> None:
    async with (
        serve(says(SERVED)) as model,
        ears() as listener,
        running(settings_for(tmp_path, model.url, SpeechSettings(base_url=listener.url))) as server,
        open_channel(server.port) as channel,
    ):
        turn = await submitted(channel, message("m1", file(files.recording(0.5), "", "audio/amr")))
        assert turn.input.parts[0].text == "下周三开会"
        await delivered(channel, 1)
    assert asked(model) == ["下周三开会"]
    name, kind, data = listener.forms[0]["file"]
    assert (name, kind, data[:4], data[8:12]) == ("recording.wav", "audio/wav", b"RIFF", b"WAVE")
    assert listener.forms[0]["language"] == "zh"


async def test_reading_takes_no_longer_than_its_caller_waits(tmp_path: Path) -> None:
    async def slow() -> Any:
        await asyncio.sleep(30)

    async with (
        serve(says(SERVED)) as model,
        ears() as listener,
        running(settings_for(tmp_path, model.url, SpeechSettings(base_url=listener.url))) as server,
        open_channel(server.port) as channel,
    ):
        listener.answer = slow
        began = time.monotonic()
        await submitted(channel, message("m1", file(files.recording(0.2))), timeout=1.5)
        assert time.monotonic() - began < 1.5
        (turn,) = await delivered(channel, 1)
        assert turn.reply.parts[0].text == TEXTS.voice_not_understood


async def test_a_burst_of_large_files_gets_all_its_answers(tmp_path: Path) -> None:
    """More at a time than there is room for: who is refused comes back, as a channel does."""
    data, refused = ("一行文字\n" * 1_000_000).encode(), 0

    async def until_accepted(channel: grpc.aio.Channel, number: int) -> pb.Turn:
        nonlocal refused
        turn = message("m", file(data, "大.txt"))
        turn.conversation = f"conversations/c{number}"
        while True:
            try:
                return await submitted(channel, turn, timeout=20)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
                refused += 1
                await asyncio.sleep(0.1)

    async with serve(says(SERVED)) as model:
        settings = settings_for(tmp_path, model.url)
        small = msgspec.structs.replace(settings.grpc, max_large_mebibytes=32)
        async with (
            running(msgspec.structs.replace(settings, grpc=small)) as server,
            open_channel(server.port) as channel,
        ):
            turns = await asyncio.gather(*(until_accepted(channel, number) for number in range(5)))
            assert all("（文件较长，只读取了前 11999 字）" in turn.input.parts[0].text for turn in turns)
            assert refused
            await delivered(channel, 5)


def test_speech_settings_are_checked_before_anything_opens(tmp_path: Path) -> None:
    speech = SpeechSettings(base_url="http://speech.example.com/v1")
    with pytest.raises(SettingsError) as refused:
        list(plan(settings_for(tmp_path, "http://127.0.0.1:9/v1", speech)))
    assert refused.value.field == "speech.base_url"
