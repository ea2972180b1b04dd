"""The whole server: as an operator starts and stops it, and as a caller meets it."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import grpc
import pytest

from program.run import CannotStart
from program.settings import SettingsError, load
from server.compose import plan, rehearse, replay_undeliverable, running
from server.settings import (
    AssistantSettings,
    CacheSettings,
    CallerSettings,
    EmbeddingSettings,
    FilterSettings,
    GrpcSettings,
    IntentSettings,
    ModelLimitSettings,
    ModelSettings,
    ModerationSettings,
    OperationsSettings,
    PiiRecogniserSettings,
    PiiSettings,
    SemanticCacheSettings,
    Settings,
    StoreSettings,
)
from weconverse.v1 import channel_pb2
from weconverse.v1 import conversation_pb2 as pb
from weconverse.v1.channel_pb2_grpc import ChannelServiceStub
from weconverse.v1.conversation_pb2_grpc import ConversationServiceStub

ROOT = Path(__file__).parents[2]
ACCOUNT = "channels/test/accounts/a"


def local(tmp_path: Path, pace: float = 0) -> Settings:
    return Settings(
        grpc=GrpcSettings(address="127.0.0.1:0", drain_seconds=10),
        operations=OperationsSettings(address="127.0.0.1:0"),
        store=StoreSettings(path=str(tmp_path / "turns.db")),
        models={
            "default": ModelSettings(
                protocol="scripted", tokens_per_second=pace, limits=ModelLimitSettings(requests_per_minute=0)
            )
        },
    )


def ask(text: str, request_id: str = "") -> pb.ConverseRequest:
    return pb.ConverseRequest(conversation="conversations/a", input={"parts": [{"text": text}]}, request_id=request_id)


# --- what is checked before anything opens ------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        (Settings(grpc=GrpcSettings(address="0.0.0.0:50051")), "grpc.address"),
        (Settings(grpc=GrpcSettings(address="nowhere")), "grpc.address"),
        (Settings(operations=OperationsSettings(address="x:y")), "operations.address"),
        (
            Settings(grpc=GrpcSettings(callers=(CallerSettings(name="a", token_sha256=("no",)),))),
            "grpc.callers[0].token_sha256",
        ),
        (
            Settings(grpc=GrpcSettings(callers=(CallerSettings(name="a", token_sha256=("0" * 64,)),) * 2)),
            "grpc.callers[1].name",
        ),
        (
            Settings(grpc=GrpcSettings(admins=(CallerSettings(name="a", token_sha256=("no",)),))),
            "grpc.admins[0].token_sha256",
        ),
        (
            Settings(models={"default": ModelSettings(protocol="provider_service", target="127.0.0.1")}),
            "models.default.target",
        ),
        (
            Settings(
                models={"default": ModelSettings(protocol="gemini", base_url="http://h", batch="vllm_chat_batch")}
            ),
            "models.default.batch",
        ),
        (
            Settings(
                grpc=GrpcSettings(
                    callers=(CallerSettings(name="a", token_sha256=("ab" * 32,)),),
                    admins=(CallerSettings(name="b", token_sha256=("AB" * 32,)),),
                )
            ),
            "grpc.admins[0].token_sha256",
        ),
        (Settings(store=StoreSettings(path="/none/turns.db")), "store.path"),
        (Settings(assistants={"default": AssistantSettings(model="gpt")}), "assistants.default.model"),
        (Settings(assistants={}), "assistants.default"),
        (Settings(moderation=ModerationSettings(url="http://198.51.100.7/check")), "moderation.url"),
        (
            Settings(
                assistants={
                    "default": AssistantSettings(
                        pii=PiiSettings(mode="mask", recogniser=PiiRecogniserSettings(url="ftp://h/find"))
                    )
                }
            ),
            "assistants.default.pii.recogniser.url",
        ),
        (
            Settings(assistants={"default": AssistantSettings(intents={"a": IntentSettings(patterns=("(",))})}),
            "assistants.default.intents.a.patterns[0]",
        ),
    ],
)
def test_what_is_wrong_is_named_before_anything_opens(settings: Settings, field: str) -> None:
    with pytest.raises(SettingsError) as caught:
        list(plan(settings))
    assert caught.value.field == field


def lists(path: Path) -> Settings:
    return Settings(filter=FilterSettings(lists=(str(path),)))


def test_a_check_finds_what_a_start_would_refuse(tmp_path: Path) -> None:
    broken = tmp_path / "words.json"
    broken.write_text("{", encoding="utf-8")
    shares = {"default": AssistantSettings(semantic_cache=True)}
    semantic = CacheSettings(semantic=SemanticCacheSettings(embeddings="e"))
    embeddings = {"e": EmbeddingSettings(base_url="http://127.0.0.1:1/v1")}
    for settings, field in (
        (Settings(assistants=shares), "cache.semantic.embeddings"),
        (Settings(assistants=shares, cache=semantic, embeddings=embeddings), "cache.semantic.calibration_file"),
        (lists(tmp_path / "none.txt"), "filter.lists"),
        (lists(broken), "filter.lists"),
    ):
        list(plan(settings))  # what errands need, one of which makes the calibration
        with pytest.raises(SettingsError) as caught:
            rehearse(settings)
        assert caught.value.field == field
    rehearse(Settings())


def test_the_exit_code_of_a_check_is_that_of_a_start(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text(
        f'[grpc]\naddress = "127.0.0.1:0"\n[operations]\naddress = ""\n[store]\npath = "{tmp_path / "t.db"}"\n'
        '[filter]\nlists = ["none.txt"]\n',
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "server", "--config", str(file)]
    told = [subprocess.run([*command, *more], capture_output=True, text=True, cwd=ROOT) for more in (["--check"], [])]
    assert [each.returncode for each in told] == [2, 2]
    assert told[0].stderr in told[1].stderr
    assert told[0].stderr.startswith("server: filter.lists: ")


def test_an_open_address_needs_tls_callers_or_a_word() -> None:
    guarded = GrpcSettings(address="0.0.0.0:1", callers=(CallerSettings(name="a", token_sha256=("0" * 64,)),))
    for grpc_settings in (guarded, GrpcSettings(address="0.0.0.0:1", insecure_listen=True)):
        lines = list(plan(Settings(grpc=grpc_settings)))
        assert "0.0.0.0:1" in lines[0]


async def test_a_model_that_cannot_work_is_a_setting(tmp_path: Path) -> None:
    settings = Settings(
        operations=OperationsSettings(address=""),
        store=StoreSettings(path=str(tmp_path / "turns.db")),
        models={"default": ModelSettings(base_url="not an address")},
    )
    with pytest.raises(SettingsError) as caught:
        async with running(settings):
            pass
    assert caught.value.field.startswith("models.default.")


# --- running --------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def stub_of(port: int) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel


async def test_a_turn_goes_all_the_way_and_is_counted(tmp_path: Path) -> None:
    async with running(local(tmp_path)) as server, stub_of(server.port) as channel:
        conversation = ConversationServiceStub(channel)
        first = (await conversation.Converse(ask("年假有几天", "r-1"))).turn
        again = (await conversation.Converse(ask("年假有几天", "r-1"))).turn
        assert first.state == pb.Turn.SUCCEEDED
        assert first.reply.parts[0].text
        assert again == first
        streamed = [event async for event in conversation.StreamConverse(ask("你好"))]
        assert streamed[-1].completed.turn.reply.parts[0].text == "".join(each.delta.text for each in streamed)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{server.operations_port}") as web:
            async with web.get("/readyz") as answer:
                assert await answer.json() == {"ready": True, "parts": {"store": True, "turns": True, "grpc": True}}
            async with web.get("/metrics") as answer:
                text = await answer.text()
        assert 'weconverse_turns_total{outcome="succeeded"} 2.0' in text
        assert 'weconverse_rpc_calls_total{code="OK",method="ConversationService/Converse"} 2.0' in text
        assert "process_resident_memory_bytes" in text
        assert len([line for line in text.splitlines() if not line.startswith("#")]) < 500


async def test_what_is_owed_is_delivered_after_a_restart(tmp_path: Path) -> None:
    async with running(local(tmp_path)) as server, stub_of(server.port) as channel:
        submit = pb.SubmitTurnRequest(turn=ask("你好", "m-1"), account=ACCOUNT, address=b"home")
        assert (await ConversationServiceStub(channel).SubmitTurn(submit)).delivery_state == pb.Turn.OWED
    async with running(local(tmp_path)) as server, stub_of(server.port) as channel:
        attached = ChannelServiceStub(channel).Attach()
        hello = channel_pb2.Hello(account=ACCOUNT, instance="i", ended_only=True)
        await attached.write(channel_pb2.AttachRequest(hello=hello))
        assert (await attached.read()).HasField("granted")
        delivery = (await attached.read()).delivery
        assert (delivery.turn, delivery.address) == ("conversations/a/turns/m-1", b"home")
        assert delivery.ended_turn.reply.parts[0].text
        result = channel_pb2.DeliveryResult(turn=delivery.turn, outcome=channel_pb2.DeliveryResult.UNDELIVERABLE)
        await attached.write(channel_pb2.AttachRequest(result=result))
        await attached.done_writing()
        assert await attached.read() is grpc.aio.EOF
    assert (await replay_undeliverable(local(tmp_path), "channels/test/accounts/other")).startswith("0 turns")
    assert (await replay_undeliverable(local(tmp_path), ACCOUNT)).startswith("1 turns")


async def test_a_drain_lets_streams_finish_and_refuses_new_turns(tmp_path: Path) -> None:
    async with running(local(tmp_path, pace=60)) as server, stub_of(server.port) as channel:
        conversation = ConversationServiceStub(channel)
        streams = [
            conversation.StreamConverse(
                pb.ConverseRequest(
                    conversation=f"conversations/{number}", input={"parts": [{"text": f"你好 {number}"}]}
                )
            )
            for number in range(10)
        ]
        for stream in streams:
            await stream.read()
        drain = asyncio.create_task(server.drain())
        await asyncio.sleep(0)
        refused = conversation.Converse(ask("晚了"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await refused
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        for stream in streams:
            last = None
            while (event := await stream.read()) is not grpc.aio.EOF:
                last = event
            assert last is not None
            assert last.HasField("completed")
        await drain


async def test_the_store_of_a_running_server_is_not_touched(tmp_path: Path) -> None:
    async with running(local(tmp_path)):
        with pytest.raises(CannotStart, match="in use by process"):
            await replay_undeliverable(local(tmp_path), None)


async def test_the_program_starts_serves_and_stops(tmp_path: Path) -> None:
    config = tmp_path / "server.toml"
    config.write_text(
        f'[grpc]\naddress = "127.0.0.1:0"\n[operations]\naddress = ""\n[store]\npath = "{tmp_path / "turns.db"}"\n',
        encoding="utf-8",
    )
    assert load(Settings, config, {}, "X").operations.address == ""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server", "--config", str(config)),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "clients")},
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    async with asyncio.timeout(20):
        while b'"event":"serving"' not in (line := await process.stderr.readline()):
            assert line, "it ended"
        process.send_signal(signal.SIGTERM)
        rest = await process.stderr.read()
        assert await process.wait() == 0
    assert b'"event":"drained"' in rest
    assert b"rror" not in rest
