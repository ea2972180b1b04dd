"""What stands in the log of a backend's own words, which may quote what somebody asked."""

import json
from contextlib import aclosing
from typing import Any

import grpc
import pytest
import structlog
from google.rpc.error_details_pb2 import ErrorInfo

from server.budget import Budget
from server.llm.base import ErrorClass, Message, Prompt, ProviderError, Role
from server.llm.catalog import build_backends
from server.llm.failure_lines import log_failure, plain_word
from server.settings import ModelSettings
from tests.server.journal_lines import journal, lines
from tests.server.llm.grpc_upstream import fails
from tests.server.llm.grpc_upstream import serve as serve_grpc
from tests.server.llm.upstream import HEAD, Handler, Request, piece, serve

ASKED = "what is on the card of zhang-san?"
PROMPT = Prompt("m", (Message(Role.USER, ASKED),))

QUOTED = {"message": f"cannot answer {ASKED}", "type": ASKED, "code": ASKED}


def says(data: bytes) -> Handler:
    async def handler(request: Request) -> None:
        await request.say(data)

    return handler


def refused(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d No\r\ncontent-length: %d\r\n\r\n" % (status, len(body)) + body


def as_json(body: object) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()


def event(body: object) -> bytes:
    return b"data: " + as_json(body) + b"\n\n"


async def failure_of(settings: ModelSettings) -> ProviderError:
    backend = build_backends({"m": settings})["m"]
    try:
        with pytest.raises(ProviderError) as caught:
            async with aclosing(backend.generate(PROMPT, Budget(20), "key")) as chunks:
                async for _ in chunks:
                    pass
    finally:
        await backend.aclose()
    return caught.value


def check(error: ProviderError) -> None:
    """At ``info`` there is what went wrong and nobody's words, at ``debug`` those too."""
    with journal("info") as output:
        log_failure(structlog.get_logger().warning, "call_failed", error, model="m")
    (line,) = lines(output, "call_failed")
    assert (line["model"], line["kind"], line["status"]) == ("m", error.kind.value, error.status)
    assert line["reason"]
    written = output.getvalue().decode()
    assert ASKED not in f"{written}{error}{error.summary}"
    with journal("debug") as output:
        log_failure(structlog.get_logger().warning, "call_failed", error, model="m")
    (line,) = lines(output, "backend_said")
    assert (line["about"], line["model"]) == ("call_failed", "m")
    assert ASKED in line["said"] + line["code"]
    assert ASKED in error.detail + error.code


@pytest.mark.parametrize("protocol", ["openai_chat", "anthropic_messages", "gemini"])
@pytest.mark.parametrize(
    "answer",
    [
        refused(400, as_json({"error": QUOTED})),
        refused(429, as_json({"error": QUOTED})),
        refused(500, ASKED.encode()),
        refused(401, as_json({"msg": ASKED})),
        HEAD + event({"error": QUOTED}),
        HEAD + b"event: error\n" + event({"type": "error", "error": QUOTED}),
        f"HTTP/1.1 {ASKED}\r\n\r\n".encode(),
    ],
)
async def test_what_a_server_quotes(protocol: Any, answer: bytes) -> None:
    async with serve(says(answer)) as upstream:
        check(await failure_of(ModelSettings(protocol=protocol, base_url=upstream.url)))


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED]
)
@pytest.mark.parametrize("protocol", ["xai_chat", "gemini_grpc", "provider_service", "kserve", "vllm_engine"])
async def test_what_a_server_quotes_over_grpc(protocol: Any, code: grpc.StatusCode) -> None:
    async with serve_grpc(fails(code, f"cannot answer {ASKED}", ErrorInfo(reason=ASKED))) as upstream:
        check(await failure_of(ModelSettings(protocol=protocol, target=upstream.target)))


async def test_a_finish_reason_that_is_a_sentence() -> None:
    answer = HEAD + piece("好") + piece(finish=ASKED) + b"data: [DONE]\n\n"
    async with serve(says(answer)) as upstream:
        backend = build_backends({"m": ModelSettings(protocol="openai_chat", base_url=upstream.url)})["m"]
        with journal("info") as output:
            async with aclosing(backend.generate(PROMPT, Budget(20), "key")) as chunks:
                assert "".join([chunk.text async for chunk in chunks]) == "好"
        await backend.aclose()
    (line,) = lines(output, "llm_finish_reason_unknown")
    assert line["finish_reason"] == "(no word)"


async def test_that_nobody_listens_is_said_at_every_level() -> None:
    async with serve(says(b"")) as upstream:
        url = upstream.url
    error = await failure_of(ModelSettings(protocol="openai_chat", base_url=url))
    with journal("info") as output:
        log_failure(structlog.get_logger().warning, "call_failed", error)
    (line,) = lines(output, "call_failed")
    assert "Cannot connect to host 127.0.0.1" in line["reason"]


def test_what_is_no_quotation_is_one_line() -> None:
    with journal("debug") as output:
        log_failure(
            structlog.get_logger().info, "late", ProviderError(ErrorClass.TIMEOUT, "too late", code="slow_down")
        )
    assert lines(output, "backend_said") == []
    (line,) = lines(output, "late")
    assert (line["level"], line["code"], line["reason"]) == ("info", "slow_down", "too late")


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("", ""),
        ("1113", "1113"),
        ("invalid_request_error.context-length", "invalid_request_error.context-length"),
        ("not a word", "(no word)"),
        ("张三", "(no word)"),
        ("x" * 65, "(no word)"),
    ],
)
def test_a_code_is_a_word(word: str, written: str) -> None:
    assert plain_word(word) == written
