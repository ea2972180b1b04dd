"""Answers shared by meaning: what an operator sets, what the server then refuses or does, over real HTTP."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from program.run import CannotStart
from server.budget import Budget
from server.cache.base import CachedReply
from server.cache.calibration import Calibration
from server.compose import calibrate_cache
from server.domain import FinishReason
from server.settings import AssistantSettings, CacheSettings, EmbeddingSettings, SemanticCacheSettings, Settings
from server.sharing import semantic_cache
from tests.server.llm.embedding_server import embedding_server

ROOT = Path(__file__).parents[2]
PAIRS = ROOT / "tests" / "data" / "semantic" / "pairs.jsonl"


class Seen:
    def __init__(self) -> None:
        self.outcomes: list[str] = []

    def semantic_asked(self, outcome: str) -> None:
        self.outcomes.append(outcome)


def settings_for(url: str, tmp_path: Path, *, on: bool = True, **more: Any) -> Settings:
    semantic: dict[str, Any] = {
        "embeddings": "e",
        "calibration_file": str(tmp_path / "calibration.json"),
        "max_wrong_share": 0.2,
    }
    return Settings(
        assistants={"default": AssistantSettings(), "faq": AssistantSettings(semantic_cache=on)},
        embeddings={"e": EmbeddingSettings(base_url=url, model="ngrams")},
        cache=CacheSettings(semantic=SemanticCacheSettings(**(semantic | more))),
    )


async def test_first_it_is_calibrated_then_it_answers(tmp_path: Path) -> None:
    async with embedding_server() as server:
        settings = settings_for(server.url, tmp_path)
        with pytest.raises(ValueError, match="--calibrate-cache"):
            async with semantic_cache(settings, Seen()):
                pass
        assert "is written" in await calibrate_cache(settings, str(PAIRS))
        assert all(len(request["input"]) <= 32 for request in server.requests)
        seen = Seen()
        async with semantic_cache(settings, seen) as kept:
            assert kept is not None
            partition, budget = b"p" * 32, Budget(60)
            assert await kept.get("离职证明去哪里开", partition, budget) is None
            reply = CachedReply("人事", FinishReason.STOP, "m")
            await kept.put("离职证明去哪里开", partition, reply)
            assert await kept.get("在哪里开离职证明", partition, budget) == reply
        assert seen.outcomes == ["miss", "hit"]


async def test_nobody_wants_it_and_nothing_is_asked_for(tmp_path: Path) -> None:
    async with semantic_cache(settings_for("nowhere", tmp_path, on=False, embeddings=""), Seen()) as kept:
        assert kept is None


@pytest.mark.parametrize(
    ("url", "more", "field"),
    [
        ("http://127.0.0.1:9", {"embeddings": ""}, "cache.semantic.embeddings"),
        ("http://127.0.0.1:9", {"embeddings": "f"}, "cache.semantic.embeddings"),
        ("nowhere", {}, "embeddings.e.base_url"),
        ("http://127.0.0.1:9", {"calibration_file": ""}, "cache.semantic.calibration_file"),
    ],
)
async def test_what_is_missing_is_named(tmp_path: Path, url: str, more: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=rf"^{field}: .+"):
        async with semantic_cache(settings_for(url, tmp_path, **more), Seen()):
            pass


async def test_other_embeddings_need_another_calibration(tmp_path: Path) -> None:
    async with embedding_server() as server:
        settings = settings_for(server.url, tmp_path)
        await calibrate_cache(settings, str(PAIRS))
        for model, dimensions in (("other", 0), ("ngrams", 64)):
            changed = msgspec.structs.replace(
                settings,
                embeddings={"e": EmbeddingSettings(base_url=server.url, model=model, dimensions=dimensions)},
            )
            with pytest.raises(ValueError, match="was made with the embeddings of ngrams"):
                async with semantic_cache(changed, Seen()):
                    pass


async def test_an_errand_that_cannot_be_done_says_why(tmp_path: Path) -> None:
    settings = settings_for("http://127.0.0.1:9", tmp_path)
    for file, says in ((None, "needs a FILE"), ("/nowhere", "cannot be read"), (str(PAIRS), "embeddings.e failed")):
        with pytest.raises(CannotStart, match=says):
            await calibrate_cache(settings, file)


async def test_from_the_command_line(tmp_path: Path) -> None:
    async with embedding_server() as server:
        config = tmp_path / "server.toml"
        config.write_text(
            f'[store]\npath = "{tmp_path}/turns.db"\n[embeddings.e]\nbase_url = "{server.url}"\nmodel = "ngrams"\n'
            f'[cache.semantic]\nembeddings = "e"\ncalibration_file = "{tmp_path}/c.json"\nmax_wrong_share = 0.2\n'
        )
        command = [sys.executable, "-m", "server", "--config", str(config), "--calibrate-cache", str(PAIRS)]
        ran = await run(command)
        assert (ran.returncode, ran.stderr) == (0, "")
        assert "is written" in ran.stdout
        assert msgspec.json.decode((tmp_path / "c.json").read_bytes(), type=Calibration).embeddings == "ngrams"


async def run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    return await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, cwd=ROOT, env=dict(os.environ), check=False
    )
