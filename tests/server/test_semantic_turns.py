"""Turns that share an answer by meaning, through the whole server, and those that must not."""

from pathlib import Path
from typing import Any

import aiohttp
import grpc
import msgspec
import pytest

from program.settings import SettingsError
from server.compose import calibrate_cache, running
from server.settings import (
    AssistantSettings,
    CacheSettings,
    EmbeddingSettings,
    GrpcSettings,
    ModelSettings,
    OperationsSettings,
    SemanticCacheSettings,
    Settings,
    StoreSettings,
)
from tests.server.llm.embedding_server import embedding_server
from weconverse.v1 import conversation_pb2 as pb
from weconverse.v1.conversation_pb2_grpc import ConversationServiceStub

PAIRS = Path(__file__).parents[1] / "data" / "semantic" / "pairs.jsonl"


def settings_for(url: str, tmp_path: Path) -> Settings:
    return Settings(
        grpc=GrpcSettings(address="127.0.0.1:0", drain_seconds=5),
        operations=OperationsSettings(address="127.0.0.1:0"),
        store=StoreSettings(path=str(tmp_path / "turns.db")),
        models={"default": ModelSettings(protocol="scripted", tokens_per_second=0)},
        assistants={"default": AssistantSettings(), "faq": AssistantSettings(semantic_cache=True)},
        embeddings={"e": EmbeddingSettings(base_url=url, model="ngrams")},
        cache=CacheSettings(
            semantic=SemanticCacheSettings(
                embeddings="e", calibration_file=str(tmp_path / "c.json"), max_wrong_share=0.2
            )
        ),
    )


async def asked(stub: Any, conversation: str, text: str, assistant: str = "faq", **more: Any) -> pb.Turn:
    request = pb.ConverseRequest(
        conversation=f"conversations/{conversation}",
        assistant=f"assistants/{assistant}",
        input={"parts": [{"text": text}]},
        **more,
    )
    turn: pb.Turn = (await stub.Converse(request)).turn
    return turn


async def test_turns_share_an_answer_by_meaning(tmp_path: Path) -> None:
    async with embedding_server() as embeddings:
        settings = settings_for(embeddings.url, tmp_path)
        await calibrate_cache(settings, str(PAIRS))
        async with running(settings) as server, grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            stub = ConversationServiceStub(channel)
            first = await asked(stub, "a", "离职证明去哪里开")
            again = await asked(stub, "b", "请问在哪里开离职证明")
            assert (first.cache_outcome, again.cache_outcome) == (pb.Turn.MISS, pb.Turn.HIT)
            assert again.reply == first.reply
            others = [
                await asked(stub, "c", "请问在哪里能开离职证明", "default"),
                await asked(stub, "d", "请问在哪里能开离职证明", options={"temperature": 0.1}),
                await asked(stub, "e", "请问在哪里能开离职证明", sender={"id": "p", "display_name": "王芳"}),
                await asked(stub, "a", "请问在哪里能开离职证明"),
                await asked(stub, "f", "在职证明去哪里开"),
            ]
            assert pb.Turn.HIT not in {turn.cache_outcome for turn in others}
            async with (
                aiohttp.ClientSession(f"http://127.0.0.1:{server.operations_port}") as web,
                web.get("/metrics") as answer,
            ):
                text = await answer.text()
            assert 'weconverse_semantic_cache_total{outcome="hit"} 1.0' in text
            assert 'weconverse_semantic_cache_total{outcome="miss"} 2.0' in text


async def test_the_server_does_not_start_without_a_proof(tmp_path: Path) -> None:
    settings = settings_for("http://127.0.0.1:9/v1", tmp_path)
    with pytest.raises(SettingsError) as caught:
        async with running(settings):
            pass
    assert caught.value.field == "cache.semantic.calibration_file"
    assert "--calibrate-cache" in caught.value.rule
    off = msgspec.structs.replace(settings, assistants={"default": AssistantSettings()})
    async with running(off):
        pass
