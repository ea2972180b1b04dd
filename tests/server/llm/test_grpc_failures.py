"""What the status of a gRPC call means."""

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import DebugInfo, ErrorInfo, QuotaFailure
from google.rpc.status_pb2 import Status
from grpc.aio import AioRpcError, Metadata

from server.llm.base import ErrorClass
from server.llm.grpc_failures import RpcStatus, failure_of, status_of
from tests.server.llm.grpc_upstream import packed, retry_info

CODES = {
    "CANCELLED": ErrorClass.TRANSIENT,
    "UNKNOWN": ErrorClass.TRANSIENT,
    "INVALID_ARGUMENT": ErrorClass.BAD_REQUEST,
    "DEADLINE_EXCEEDED": ErrorClass.TIMEOUT,
    "NOT_FOUND": ErrorClass.NOT_FOUND,
    "ALREADY_EXISTS": ErrorClass.BAD_REQUEST,
    "PERMISSION_DENIED": ErrorClass.AUTH,
    "UNAUTHENTICATED": ErrorClass.AUTH,
    "RESOURCE_EXHAUSTED": ErrorClass.RATE_LIMIT,
    "FAILED_PRECONDITION": ErrorClass.BAD_REQUEST,
    "ABORTED": ErrorClass.TRANSIENT,
    "UNIMPLEMENTED": ErrorClass.BAD_REQUEST,
    "OUT_OF_RANGE": ErrorClass.BAD_REQUEST,
    "INTERNAL": ErrorClass.TRANSIENT,
    "UNAVAILABLE": ErrorClass.TRANSIENT,
    "DATA_LOSS": ErrorClass.TRANSIENT,
}


def error(code: grpc.StatusCode, message: str, *details: Message, raw: bytes | None = None) -> AioRpcError:
    status = Status(code=code.value[0], message=message, details=[packed(item) for item in details])
    trailing = Metadata(("other", "x"), ("grpc-status-details-bin", raw or status.SerializeToString()))
    return AioRpcError(code, Metadata(), trailing, details=message)


def test_every_status_has_a_class() -> None:
    for code in grpc.StatusCode:
        if code is grpc.StatusCode.OK:
            continue
        status = status_of(AioRpcError(code, Metadata(), Metadata(), details="words"))
        failure = failure_of(status, begun=False)
        assert failure.kind is CODES[code.name], code
        assert (failure.detail, failure.status) == (f"{code.name}: words", code.value[0])
        assert failure.code == code.name.lower()


@pytest.mark.parametrize("code", CODES)
def test_what_may_pass_is_a_cut_reply_once_it_has_begun(code: str) -> None:
    before = CODES[code]
    after = failure_of(RpcStatus(code, 0, ""), begun=True).kind
    assert after is (ErrorClass.INCOMPLETE if before is ErrorClass.TRANSIENT else before)


@pytest.mark.parametrize(
    ("code", "message", "reason", "kind"),
    [
        ("INVALID_ARGUMENT", "This model's maximum context length is 8192 tokens", "", ErrorClass.CONTEXT),
        ("RESOURCE_EXHAUSTED", "Your credit balance is too low", "", ErrorClass.QUOTA),
        ("PERMISSION_DENIED", "your team has used its credit balance", "", ErrorClass.QUOTA),
        ("INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", "API_KEY_INVALID", ErrorClass.AUTH),
        ("RESOURCE_EXHAUSTED", "no money", "INSUFFICIENT_QUOTA", ErrorClass.QUOTA),
        ("RESOURCE_EXHAUSTED", "CLIENT: Received message larger than max (9 vs. 4)", "", ErrorClass.INCOMPLETE),
        ("RESOURCE_EXHAUSTED", "SERVER: Sent message larger than max (9 vs. 4)", "", ErrorClass.BAD_REQUEST),
        # What is down is down, whatever words it finds for that.
        ("UNAVAILABLE", "context length service is down", "MODEL_NOT_FOUND", ErrorClass.TRANSIENT),
    ],
)
def test_words_decide_where_a_status_means_several_things(
    code: str, message: str, reason: str, kind: ErrorClass
) -> None:
    status = status_of(error(getattr(grpc.StatusCode, code), message, ErrorInfo(reason=reason)))
    assert failure_of(status, begun=False).kind is kind


@pytest.mark.parametrize("name", ["quota_id", "subject", "description"])
def test_a_limit_of_a_day_is_a_quota(name: str) -> None:
    limits = {"GenerateRequestsPerDayPerProject": ErrorClass.QUOTA, "PerMinutePerProject": ErrorClass.RATE_LIMIT}
    for limit, kind in limits.items():
        violation = QuotaFailure.Violation()
        setattr(violation, name, limit)
        quota = QuotaFailure(violations=[violation])
        status = status_of(error(grpc.StatusCode.RESOURCE_EXHAUSTED, "", quota, retry_info(30_000)))
        failure = failure_of(status, begun=False)
        assert (failure.kind, failure.retry_after) == (kind, 30.0)


def test_a_backend_may_have_its_own_ideas() -> None:
    status = RpcStatus("ABORTED", 10, "", reason="BUSY")
    assert failure_of(status, begun=False, overrides={"busy": ErrorClass.OVERLOADED}).kind is ErrorClass.OVERLOADED
    assert failure_of(status, begun=False, overrides={"aborted": ErrorClass.QUOTA}).kind is ErrorClass.QUOTA


def test_details_are_read_in_any_order_and_skipped_where_unknown() -> None:
    info = ErrorInfo(domain="example.com", reason="WAIT", metadata={"node": "a"})
    for details in ([info, retry_info(250), DebugInfo(detail="x")], [DebugInfo(), retry_info(250), info]):
        status = status_of(error(grpc.StatusCode.UNAVAILABLE, "later", *details))
        assert status == RpcStatus("UNAVAILABLE", 14, "later", "example.com", "WAIT", {"node": "a"}, 0.25)


def test_details_that_cannot_be_read_are_left_out() -> None:
    status = status_of(error(grpc.StatusCode.UNAVAILABLE, "later", raw=b"\xff\xff\xff"))
    assert status == RpcStatus("UNAVAILABLE", 14, "later")


def test_a_wait_in_the_past_is_none() -> None:
    assert status_of(error(grpc.StatusCode.UNAVAILABLE, "", retry_info(-5))).retry_after == 0.0
