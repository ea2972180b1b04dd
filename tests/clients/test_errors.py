"""The exception tree equals the contract, and every status finds its class."""

import re
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

import weconverse.errors
from tests.clients.raw import serving
from weconverse import (
    ConversationClient,
    ErrorReason,
    Internal,
    InvalidField,
    InvalidRequest,
    NotFound,
    ResourceExhausted,
    StoreUnavailable,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    WeConverseError,
    from_rpc_error,
    from_status,
)
from weconverse._fake_turns import status_of
from weconverse._retry import backoff, pause_before_retry
from weconverse.errors import ERROR_DOMAIN

PROTO = Path(__file__).parents[2] / "proto/weconverse/v1/error_reason.proto"


def leaves(kind: type[WeConverseError]) -> list[type[WeConverseError]]:
    return [kind, *(leaf for child in kind.__subclasses__() for leaf in leaves(child))]


CLASSES = leaves(WeConverseError)
REASONED = {kind.default_reason: kind for kind in CLASSES if kind.default_reason}


def test_each_reason_of_the_contract_has_one_class() -> None:
    assert set(REASONED) == set(ErrorReason.keys()) - {"ERROR_REASON_UNSPECIFIED"}
    assert len(REASONED) == sum(bool(kind.default_reason) for kind in CLASSES)


@pytest.mark.parametrize("reason", sorted(REASONED))
def test_code_retry_and_metadata_are_those_of_the_contract(reason: str) -> None:
    text = " ".join(line.strip().removeprefix("//").strip() for line in PROTO.read_text(encoding="utf-8").splitlines())
    comment = re.split(r"[A-Z_]+ = \d+;", text.partition(f"{reason} = ")[0])[-1]
    kind = REASONED[reason]
    assert f"`{kind.default_code.name}`" in comment
    assert kind.retryable is (re.search(r"retry (after `RetryInfo`|with the same|at once)", comment) is not None)
    keys = re.findall(r"`(\w+)`", comment.partition("Metadata:")[2])
    assert all(f"``{key}``" in (kind.__doc__ or "") for key in keys)


def test_the_drawn_tree_is_the_tree() -> None:
    doc = weconverse.errors.__doc__ or ""
    drawn = re.findall(r"^( *)(?:[│ ]*[├└]─ )?([A-Z][A-Za-z]+)  +\S", doc, re.MULTILINE)
    assert [name for _, name in drawn if name != "ReplyReplaced"] == [kind.__name__ for kind in CLASSES]
    for line in doc.splitlines():
        found = re.match(r"^([│ ]*)[├└]─ (\w+) ", line)
        if found:
            kind = getattr(weconverse.errors, found[2])
            assert len(kind.__mro__) - len(WeConverseError.__mro__) == len(found[1]) // 4, line
    assert sorted(weconverse.errors.__all__) == sorted(
        [kind.__name__ for kind in CLASSES] + ["ERROR_DOMAIN", "ReplyReplaced", "from_rpc_error", "from_status"]
    )


def make(kind: type[WeConverseError]) -> WeConverseError:
    error = kind.__new__(kind)
    WeConverseError.__init__(error, "说明", metadata={"键": "值"}, retry_after=1.5)
    return error


@pytest.mark.parametrize("kind", REASONED.values(), ids=lambda kind: kind.__name__)
async def test_an_error_crosses_the_wire_whole(kind: type[WeConverseError]) -> None:
    sent = make(kind)

    async def get_turn(request: object, context: Any) -> None:
        await context.abort_with_status(rpc_status.to_status(status_of(sent)))

    async with serving(GetTurn=get_turn) as target, ConversationClient(target, honour_retry_info=False) as client:
        with pytest.raises(kind) as caught:
            await client.get_turn("conversations/c/turns/1")
    error = caught.value
    assert type(error) is kind
    assert (error.code, error.reason) == (kind.default_code, kind.default_reason)
    assert (error.message, error.metadata, error.retry_after) == ("说明", {"键": "值"}, 1.5)
    assert str(error) == f"{error.reason}: 说明"


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
async def test_without_error_info_the_code_decides(code: grpc.StatusCode) -> None:
    async def get_turn(request: object, context: Any) -> None:
        await context.abort(code, "")

    async with serving(GetTurn=get_turn) as target, ConversationClient(target) as client:
        with pytest.raises(WeConverseError) as caught:
            await client.get_turn("conversations/c/turns/1")
    kinds = {kind.default_code: kind for kind in WeConverseError.__subclasses__() if kind.__name__ != "BrokenStream"}
    assert type(caught.value) is kinds.get(code, WeConverseError)
    assert (caught.value.code, caught.value.reason, caught.value.retry_after) == (code, "", None)
    assert str(caught.value) == code.name


async def test_a_method_that_the_server_does_not_know() -> None:
    async with serving() as target, ConversationClient(target) as client:
        with pytest.raises(Unimplemented):
            await client.get_turn("conversations/c/turns/1")


def status(code: int, *details: Any) -> status_pb2.Status:
    message = status_pb2.Status(code=code, message="m")
    for detail in details:
        message.details.add().Pack(detail)
    return message


def test_a_reason_of_tomorrow_falls_back_to_its_code() -> None:
    info = error_details_pb2.ErrorInfo(domain=ERROR_DOMAIN, reason="MOON_IN_THE_WAY", metadata={"phase": "full"})
    error = from_status(status(14, info))
    assert type(error) is Unavailable
    assert (error.reason, error.metadata) == ("MOON_IN_THE_WAY", {"phase": "full"})


def test_another_domain_has_other_reasons() -> None:
    info = error_details_pb2.ErrorInfo(domain="googleapis.com", reason="INVALID_FIELD", metadata={"a": "b"})
    error = from_status(status(16, info))
    assert type(error) is Unauthenticated
    assert (error.reason, error.metadata) == ("", {})


def test_one_unreadable_detail_does_not_void_the_others() -> None:
    message = status(14, error_details_pb2.ErrorInfo(domain=ERROR_DOMAIN, reason="STORE_UNAVAILABLE"))
    message.details.insert(0, AnyMessage(type_url="type.googleapis.com/google.rpc.RetryInfo", value=b"\xff\xff"))
    error = from_status(message)
    assert type(error) is StoreUnavailable
    assert error.retry_after is None


def test_codes_without_a_name_and_ok() -> None:
    assert type(from_status(status(99))) is WeConverseError
    assert type(from_status(status(15))) is WeConverseError
    with pytest.raises(ValueError, match="OK"):
        from_status(status(0))


def rpc_error(code: grpc.StatusCode, details: bytes | str) -> grpc.aio.AioRpcError:
    trailing = grpc.aio.Metadata(("other", "x"), ("grpc-status-details-bin", details))
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, "text")


@pytest.mark.parametrize("details", [b"\xff\xff\xff", "not bytes", b""])
def test_damaged_details_fall_back_to_the_code(details: bytes | str) -> None:
    error = from_rpc_error(rpc_error(grpc.StatusCode.NOT_FOUND, details))
    assert (type(error), error.message) == (NotFound, "text")


def test_an_error_that_is_no_call() -> None:
    assert type(from_rpc_error(grpc.RpcError("odd"))) is WeConverseError


def test_errors_can_be_made_by_hand() -> None:
    error = InvalidField("text: too odd", metadata={"field": "text"})
    assert (error.field, error.code, error.retryable) == ("text", grpc.StatusCode.INVALID_ARGUMENT, False)
    assert isinstance(error, InvalidRequest)
    assert InvalidField().field == ""
    assert ResourceExhausted.retryable is False  # gRPC says it of messages that are too large.
    assert Internal().metadata == {}


def test_when_a_call_is_repeated() -> None:
    def pause(error: WeConverseError, calls: int = 1, remaining: float = 10.0, chance: float = 0.0) -> float | None:
        return pause_before_retry(error, calls=calls, remaining=remaining, chance=chance)

    patient = StoreUnavailable("", retry_after=2.0)
    assert pause(patient) == 2.0
    assert pause(patient, chance=1.0) == pytest.approx(2.4)
    assert pause(patient, remaining=2.0) is None
    assert pause(patient, calls=4) is None
    assert pause(StoreUnavailable("", retry_after=0.0)) is None
    assert pause(StoreUnavailable("")) is None
    assert pause(NotFound("", retry_after=1.0)) is None
    assert [backoff(tries, 1.0) for tries in (0, 1, 2, 3, 4, 1000)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert backoff(0, 0.0) == 0.05
