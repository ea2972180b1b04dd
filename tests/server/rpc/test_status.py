"""Every error of the service arrives as the contract promises it."""

import json
import re
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from server.domain import Failure
from server.errors import (
    CallerNotAllowed,
    CallerUnknown,
    ConversationBusy,
    DomainError,
    InputTooLong,
    InternalError,
    InvalidField,
    LexiconRefused,
    MediaNotSupported,
    NoRouteAvailable,
    Overloaded,
    ProviderRefused,
    RateLimited,
    ReplyInterrupted,
    RequestIdReused,
    ResourceNotFound,
    RouteLoop,
    ShuttingDown,
    StoreUnavailable,
    TurnCancelled,
    TurnQuarantined,
    TurnTimedOut,
)
from server.rpc.status import CODES, code_of, status_of
from tests.server.rpc.fakes import open_server
from weconverse.v1 import conversation_pb2 as pb
from weconverse.v1 import error_reason_pb2

CONTRACT = Path(__file__).parents[3] / "proto/weconverse/v1/error_reason.proto"

ERRORS: list[DomainError] = [
    InvalidField("input.parts[0]", "必须有文字"),
    InputTooLong(20000, 20001),
    MediaNotSupported("image/png", "DAMAGED"),
    RequestIdReused("conversations/a/turns/b"),
    ResourceNotFound("conversations/张三"),
    CallerUnknown("no token"),
    CallerNotAllowed("报表", "may not"),
    ConversationBusy(5, 2.5),
    Overloaded(1.0),
    NoRouteAvailable(3, 10.0),
    ReplyInterrupted("qwen-max"),
    ProviderRefused("qwen-max"),
    RateLimited("person", "20 requests per minute", 3.5),
    RouteLoop("centre"),
    LexiconRefused("ads.csv", 12, "is empty; delete the line"),
    ShuttingDown(),
    StoreUnavailable("turn"),
    TurnTimedOut("model"),
    TurnCancelled(),
    TurnQuarantined(3),
    InternalError("abc123"),
]


def promises() -> dict[str, tuple[str, set[str], bool]]:
    """Reason → status code, metadata keys and whether waiting helps, as the contract's comments say."""
    found = {}
    body = CONTRACT.read_text(encoding="utf-8").split("enum ErrorReason")[1]
    for comment, name in re.findall(r"((?:  //[^\n]*\n)+)  ([A-Z_]+) = [1-9]\d*;", body):
        text = " ".join(line.strip().removeprefix("//").strip() for line in comment.splitlines())
        (code,) = re.findall(r"`([A-Z_]+)`; ", text)
        metadata = re.search(r"Metadata: ([^.]*)\.", text)
        keys = set(re.findall(r"`(\w+)`", metadata.group(1))) if metadata else set()
        found[name] = (code, keys, "`RetryInfo`" in text)
    return found


def test_the_table_says_what_the_contract_says() -> None:
    assert {name: code.name for name, code in CODES.items()} == {
        name: code for name, (code, _, _) in promises().items()
    }
    assert set(CODES) == set(error_reason_pb2.ErrorReason.keys()) - {"ERROR_REASON_UNSPECIFIED"}


def test_every_error_class_is_tried_here() -> None:
    assert {type(error) for error in ERRORS} == set(DomainError.__subclasses__())


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.reason)
async def test_it_arrives_as_promised(error: DomainError) -> None:
    async with open_server() as server:
        server.turns.error = error
        status = await refused(server.conversation.GetTurn(pb.GetTurnRequest(name="conversations/a/turns/b")))
    check(status, error)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.reason)
async def test_it_arrives_on_a_stream_that_has_begun(error: DomainError) -> None:
    async with open_server() as server:
        server.turns.error = error
        call = server.conversation.StreamConverse(
            pb.ConverseRequest(conversation="conversations/a", input=pb.Content(parts=[pb.Part(text="问")]))
        )
        seen = []
        with pytest.raises(grpc.aio.AioRpcError):
            async for event in call:
                seen.append(event.WhichOneof("event"))
        assert seen == ["started", "delta", "delta"]
        check(await status_from(call), error)


async def refused(call: grpc.aio.Call) -> status_pb2.Status:
    with pytest.raises(grpc.aio.AioRpcError):
        await call  # type: ignore[misc]
    return await status_from(call)


async def status_from(call: grpc.aio.Call) -> status_pb2.Status:
    status = await rpc_status.aio.from_call(call)
    assert status is not None
    return status


def check(status: status_pb2.Status, error: DomainError) -> None:
    code, keys, _ = promises()[error.reason]
    assert status.code == getattr(grpc.StatusCode, code).value[0]
    assert status.message == error.message
    details = {detail.TypeName().rpartition(".")[2]: detail for detail in status.details}
    info = error_details_pb2.ErrorInfo()
    assert details.pop("ErrorInfo").Unpack(info)
    assert (info.domain, info.reason, dict(info.metadata)) == ("weconverse.v1", error.reason, error.metadata)
    assert set(info.metadata) == keys
    if error.retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        assert details.pop("RetryInfo").Unpack(retry)
        assert retry.retry_delay.ToNanoseconds() == error.retry_after * 1e9
    if isinstance(error, InvalidField):
        bad = error_details_pb2.BadRequest()
        assert details.pop("BadRequest").Unpack(bad)
        assert [(each.field, each.description) for each in bad.field_violations] == [(error.field, error.rule)]
    assert not details


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.reason)
def test_waiting_helps_where_the_contract_says_so(error: DomainError) -> None:
    _, _, waiting = promises()[error.reason]
    assert not waiting or error.retry_after is not None


def test_an_unknown_reason_is_unknown() -> None:
    assert code_of("FROM_THE_FUTURE") is grpc.StatusCode.UNKNOWN
    assert status_of(Failure("FROM_THE_FUTURE")).code == grpc.StatusCode.UNKNOWN.value[0]


REPEATS = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 3,
                    "initialBackoff": "0.01s",
                    "maxBackoff": "0.01s",
                    "backoffMultiplier": 1,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)


@pytest.mark.parametrize(
    ("error", "calls"),
    [(ShuttingDown(), 3), (StoreUnavailable("turn"), 3), (NoRouteAvailable(3, 1.0), 1), (ReplyInterrupted("m"), 1)],
)
async def test_a_channel_repeats_only_what_costs_no_model(error: DomainError, calls: int) -> None:
    async with open_server(options=[("grpc.service_config", REPEATS)]) as server:
        server.turns.error = error
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.conversation.Converse(
                pb.ConverseRequest(conversation="conversations/a", input=pb.Content(parts=[pb.Part(text="问")]))
            )
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert len(server.turns.asks) == calls
