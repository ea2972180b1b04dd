"""Our own contract for model backends, in front of the example that operators begin with."""

import asyncio
import importlib.util
import logging
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import pytest

from program.secret import Secret
from server.budget import Budget
from server.domain import FinishReason, Usage
from server.llm.base import ErrorClass, Image, Message, Prompt, ProviderError, Role
from server.llm.catalog import build_backends
from server.llm.endpoint import endpoint_of
from server.llm.provider_grpc import ProviderServiceBackend
from server.settings import ModelSettings
from tests.server.llm.grpc_upstream import fails, says, serve
from tests.server.llm.reading import ASKED, Taken, take, take_with
from weconverse.provider.v1 import provider_pb2 as pb

EXAMPLE = Path(__file__).parents[3] / "clients/examples/provider_service.py"
KEY = "token-very-secret-0123456789"
PICTURE = Image("image/png", b"\x89PNG\r\n")
STOP = pb.GenerateResponse(finish_reason=pb.GenerateResponse.STOP)


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("example_provider_service", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def backend_at(target: str, **more: Any) -> ProviderServiceBackend:
    return ProviderServiceBackend(endpoint_of("m", ModelSettings(transport="grpc", target=target, **more)))


@asynccontextmanager
async def backend_before(engine: Callable[..., Any], **more: Any) -> AsyncIterator[ProviderServiceBackend]:
    """A backend in front of the example's server, with an engine of the test's."""
    server, port = await load().start(engine, "127.0.0.1:0")
    backend = backend_at(f"127.0.0.1:{port}", **more)
    try:
        yield backend
    finally:
        await backend.aclose()
        await server.stop(None)


# --- the example ----------------------------------------------------------------------------


async def test_the_parrot() -> None:
    async with backend_before(load().parrot) as backend:
        taken, chunks = await take(backend)
        assert taken == Taken("你好", "", FinishReason.STOP, Usage(2, 2))
        assert [chunk.model for chunk in chunks] == ["m", "", "m"]
        capped, _ = await take(backend, prompt=Prompt("m", ASKED.messages, max_output_tokens=1))
        assert capped == Taken("你", "", FinishReason.LENGTH, Usage(2, 1))
        seen, _ = await take(backend, prompt=Prompt("m", (Message(Role.USER, "这是?", (PICTURE,)),)))
        assert seen.error is ErrorClass.BAD_REQUEST


async def test_the_example_as_a_program() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(EXAMPLE), "127.0.0.1:0", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    line = await process.stdout.readline()
    backend = backend_at(f"127.0.0.1:{line.split()[-1].decode()}")
    taken, _ = await take(backend)
    await backend.aclose()
    process.send_signal(signal.SIGTERM)
    assert (taken.text, await process.wait()) == ("你好", 0)


async def test_an_engine_that_fails_keeps_its_words_to_itself(caplog: pytest.LogCaptureFixture) -> None:
    async def engine(request: pb.GenerateRequest) -> AsyncGenerator[pb.GenerateResponse, None]:
        yield pb.GenerateResponse(text="好")
        raise RuntimeError("secret path")

    async with backend_before(engine) as backend:
        with caplog.at_level(logging.ERROR):
            taken, _ = await take(backend)
        assert (taken.text, taken.error) == ("好", ErrorClass.INCOMPLETE)
        with pytest.raises(ProviderError) as caught:
            async for _ in backend.generate(ASKED, Budget(20)):
                pass
    assert "its log says why" in caught.value.said
    assert "secret path" not in caught.value.detail
    assert "secret path" in caplog.text


async def test_leaving_stops_the_engine() -> None:
    stopped = asyncio.Event()

    async def engine(request: pb.GenerateRequest) -> AsyncGenerator[pb.GenerateResponse, None]:
        try:
            while True:
                yield pb.GenerateResponse(text="好")
                await asyncio.sleep(0.01)
        finally:
            stopped.set()

    async with backend_before(engine) as backend:
        chunks = backend.generate(ASKED, Budget(20))
        await anext(chunks)
        await chunks.aclose()
        await asyncio.wait_for(stopped.wait(), 5)


# --- the contract ---------------------------------------------------------------------------


async def test_what_is_asked() -> None:
    prompt = Prompt(
        "m",
        (
            Message(Role.SYSTEM, "简洁"),
            Message(Role.USER, "问"),
            Message(Role.ASSISTANT, "答"),
            Message(Role.USER, "这是什么?", (PICTURE,)),
        ),
        temperature=0.5,
        max_output_tokens=1500,
        request_id="会话/7",
        user="person-1",
    )
    async with serve(says(STOP)) as upstream:
        backend = backend_at(upstream.target, model="engine-1", extra_headers={"X-Tenant": "t"})
        await take_with(KEY, backend, prompt)
        await take(backend)
        await backend.aclose()
        full, bare = upstream.calls
    assert pb.GenerateRequest.FromString(full.request) == pb.GenerateRequest(
        model="engine-1",
        messages=[
            pb.Message(role=pb.Message.SYSTEM, text="简洁"),
            pb.Message(role=pb.Message.USER, text="问"),
            pb.Message(role=pb.Message.ASSISTANT, text="答"),
            pb.Message(
                role=pb.Message.USER, text="这是什么?", images=[pb.Image(mime_type="image/png", data=PICTURE.data)]
            ),
        ],
        temperature=0.5,
        max_output_tokens=1500,
        request_id="会话/7",
        user="person-1",
    )
    assert full.metadata["authorization"] == f"Bearer {KEY}"
    assert full.metadata["x-tenant"] == "t"
    assert pb.GenerateRequest.FromString(bare.request) == pb.GenerateRequest(
        model="engine-1", messages=[pb.Message(role=pb.Message.USER, text="你好")]
    )
    assert "authorization" not in bare.metadata


async def test_a_picture_by_address_cannot_be_sent() -> None:
    address = Image("image/png", uri="https://example.com/cat.png")
    async with serve(says(STOP)) as upstream:
        backend = backend_at(upstream.target)
        taken, _ = await take(backend, prompt=Prompt("m", (Message(Role.USER, "", (address,)),)))
        await backend.aclose()
        assert upstream.calls == []
    assert taken.error is ErrorClass.BAD_REQUEST


async def test_thoughts_and_the_ends_that_there_are() -> None:
    ends: dict[Any, FinishReason] = {
        pb.GenerateResponse.STOP: FinishReason.STOP,
        pb.GenerateResponse.LENGTH: FinishReason.LENGTH,
        pb.GenerateResponse.CONTENT_FILTER: FinishReason.PROVIDER_BLOCKED,
        99: FinishReason.STOP,  # of a later version
    }
    for reason, finish in ends.items():
        last = pb.GenerateResponse(text="好", finish_reason=reason)
        async with serve(says(pb.GenerateResponse(reasoning="想"), last)) as upstream:
            backend = backend_at(upstream.target)
            taken, _ = await take(backend)
            await backend.aclose()
        assert taken == Taken("好", "想", finish, None)


@pytest.mark.parametrize("kept", range(3))
@pytest.mark.parametrize("code", [None, grpc.StatusCode.UNAVAILABLE])
async def test_a_reply_that_is_cut_is_never_complete(kept: int, code: grpc.StatusCode | None) -> None:
    pieces = tuple(pb.GenerateResponse(text=word) for word in "一二"[:kept])
    async with serve(says(*pieces) if code is None else fails(code, after=pieces)) as upstream:
        backend = backend_at(upstream.target)
        taken, _ = await take(backend)
        await backend.aclose()
    assert (taken.text, taken.complete) == ("一二"[:kept], False)


def test_settings_that_cannot_work() -> None:
    for more, message in (
        ({"extra_body": {"top_p": 1}}, r"^models\.m\.extra_body\.top_p: cannot be sent over gRPC; these can: model, "),
        ({"tls": False}, r"^models\.m\.tls: e\.example\.com:1 is not on this machine"),
        ({"ca_file": "/nowhere.pem"}, r"^models\.m\.ca_file: /nowhere\.pem cannot be read"),
    ):
        entry = ModelSettings(transport="grpc", target="e.example.com:1", api_key=Secret(KEY), **more)
        with pytest.raises(ValueError, match=message):
            build_backends({"m": entry})
