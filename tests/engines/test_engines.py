"""The engine backends against the stubs that the protocol's authors publish, in a process of their own.

``make test`` makes the environment for it (``requirements-engines.lock``).
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from server.budget import Budget
from server.domain import FinishReason, Usage
from server.llm.base import ErrorClass, Message, Prompt, ProviderError, Role
from server.llm.endpoint import endpoint_of
from server.llm.engine.backend import EngineBackend
from server.settings import ModelSettings
from tests.server.llm.engine_upstream import DIALECTS
from tests.server.llm.reading import Taken, take
from tests.server.llm.tiny_tokenizer import archive, byte_fallback, byte_level

PYTHON = Path(os.environ.get("WECONVERSE_ENGINES_PYTHON") or Path(sys.prefix) / "engines/bin/python")

pytestmark = pytest.mark.skipif(
    not PYTHON.exists(), reason="the environment of requirements-engines.lock is missing: make .venv/.stamps/engines"
)

ASKED = Prompt("m", (Message(Role.USER, "年假有几天?"),), max_output_tokens=64, temperature=0.25, request_id="r1")
REPLY = "您好,年假有 5 天 😀 naïve"
TOKENIZERS = {"byte_level": byte_level, "byte_fallback": byte_fallback}


def tokens(text: str, kind: str = "byte_level") -> list[int]:
    return list(TOKENIZERS[kind]().encode(text, add_special_tokens=False).ids)


class Engine:
    """The process, and the lines that it prints."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.port = 0

    async def told(self, *kinds: str) -> Any:
        """The next thing of one of these kinds that happened; others are passed over."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            kind, found = next(iter(json.loads(line).items()))
            if kind in kinds:
                return found
        raise AssertionError(f"the engine ended and told of no {kinds}")

    def kill(self) -> None:
        self._process.kill()


@asynccontextmanager
async def engine(
    dialect: str, folder: Path, *answers: dict[str, Any], kind: str = "byte_level"
) -> AsyncIterator[Engine]:
    (folder / "tokenizer.zip").write_bytes(archive(TOKENIZERS[kind]()))
    config = folder / "config.json"
    config.write_text(json.dumps({"archive": str(folder / "tokenizer.zip"), "answers": answers}), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        PYTHON,
        Path(__file__).with_name("serve.py"),
        dialect,
        config,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 20,
    )
    found = Engine(process)
    try:
        found.port = await found.told("port")
        yield found
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@asynccontextmanager
async def backend(dialect: str, served: Engine, **more: Any) -> AsyncIterator[EngineBackend]:
    entry = ModelSettings(protocol=f"{dialect}_engine", target=f"127.0.0.1:{served.port}", **more)  # type: ignore[arg-type]
    found = EngineBackend(endpoint_of("m", entry), DIALECTS[dialect][0](), new_id=lambda: "x")
    try:
        yield found
    finally:
        await found.aclose()


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("size", [1, 4])
async def test_a_reply_is_its_text_and_its_counts(dialect: str, kind: str, size: int, tmp_path: Path) -> None:
    ids = tokens(REPLY, kind)
    async with (
        engine(dialect, tmp_path, {"ids": ids, "size": size}, kind=kind) as served,
        backend(dialect, served) as asked,
    ):
        taken, chunks = await take(asked, prompt=ASKED)
        request = await served.told("request")
    prompt_size = len(request["tokenized"]["input_ids"])
    assert taken == Taken(REPLY, "", FinishReason.STOP, Usage(prompt_size, len(ids), cached_input_token_count=3))
    assert not any("\ufffd" in chunk.text for chunk in chunks)


@pytest.mark.parametrize(("dialect", "most"), [("vllm", "max_tokens"), ("sglang", "max_new_tokens")])
async def test_their_stubs_read_what_is_meant(dialect: str, most: str, tmp_path: Path) -> None:
    async with (
        engine(dialect, tmp_path, {"ids": []}) as served,
        backend(dialect, served, extra_body={"stop": ["##"], "top_p": 0.5, "min_tokens": 2}) as asked,
    ):
        await take(asked, prompt=ASKED)
        request = await served.told("request")
    text = byte_level().decode(request["tokenized"]["input_ids"], skip_special_tokens=False)
    assert text == "<|im_start|>user\n年假有几天?<|im_end|>\n<|im_start|>assistant\n"
    assert request["request_id"] == "r1-x"
    assert request["stream"] is True
    sampling = request["sampling_params"]
    expected = {
        "temperature": 0.25,
        "top_p": 0.5,
        "top_k": 20,
        "min_p": 0,
        "frequency_penalty": 0,
        "presence_penalty": 0,
        "repetition_penalty": 1.25,
        most: 64,
        "stop": ["##"],
        "stop_token_ids": [],
        "skip_special_tokens": True,
        "spaces_between_special_tokens": True,
        "ignore_eos": False,
        "n": 1,
        "min_tokens" if dialect == "vllm" else "min_new_tokens": 2,
    }
    assert {name: sampling[name] for name in expected} == expected
    # Nothing else is set.
    assert all(not value for name, value in sampling.items() if name not in expected)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_caller_who_leaves_ends_the_reply_at_the_engine(dialect: str, tmp_path: Path) -> None:
    async with (
        engine(dialect, tmp_path, {"ids": tokens("好的"), "hangs": True}) as served,
        backend(dialect, served) as asked,
    ):
        generated = asked.generate(ASKED, Budget(20))
        assert (await anext(generated)).text
        await generated.aclose()
        # In whatever order.
        assert {await served.told("left", "aborted"), await served.told("left", "aborted")} == {"r1-x"}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("count", [4, 8, len(tokens(REPLY))])
async def test_an_engine_that_dies_in_the_middle_of_a_reply_leaves_it_cut(
    dialect: str, count: int, tmp_path: Path
) -> None:
    ids = tokens(REPLY)[:count]
    whole = byte_level().decode(ids).rstrip("\ufffd")
    async with (
        engine(dialect, tmp_path, {"ids": ids, "hangs": True}) as served,
        backend(dialect, served) as asked,
    ):
        text = ""
        with pytest.raises(ProviderError) as caught:
            async with aclosing(asked.generate(ASKED, Budget(20))) as chunks:
                async for chunk in chunks:
                    text += chunk.text
                    assert chunk.finish is None
                    if text == whole:
                        served.kill()
    assert text == whole
    assert caught.value.kind is ErrorClass.INCOMPLETE


@pytest.mark.parametrize(
    ("status", "words", "kind"),
    [
        ("INVALID_ARGUMENT", "the prompt is longer than the maximum model length", ErrorClass.BAD_REQUEST),
        ("UNAVAILABLE", "", ErrorClass.TRANSIENT),
    ],
)
async def test_a_refusal_has_its_class(status: str, words: str, kind: ErrorClass, tmp_path: Path) -> None:
    answer = {"ids": [], "status": status, "words": words}
    async with engine("vllm", tmp_path, answer) as served, backend("vllm", served) as asked:
        with pytest.raises(ProviderError) as caught:
            async with aclosing(asked.generate(ASKED, Budget(20))) as chunks:
                async for _ in chunks:
                    pass
    assert caught.value.kind is kind
    assert words in caught.value.detail
