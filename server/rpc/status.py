"""Domain error → ``google.rpc.Status``: the one table, used for calls, for turns and for batches."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final, TypeAlias, cast

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from server.domain import Failure
from server.errors import DomainError

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

DOMAIN: Final = "weconverse.v1"
"""``ErrorInfo.domain`` of every error of this service."""

DETAILS_KEY: Final = "grpc-status-details-bin"
"""The trailing metadata in which gRPC carries a whole ``google.rpc.Status``."""

PUSHBACK_KEY: Final = "grpc-retry-pushback-ms"
"""The trailing metadata with which a server tells the channels of its callers not to repeat a call (gRFC A6)."""

TRIED_ENOUGH: Final = frozenset({"NO_ROUTE_AVAILABLE", "REPLY_INTERRUPTED"})
"""Reasons behind which the models were asked more than once already. A channel that repeats ``UNAVAILABLE`` by
itself would ask them three times as often in an outage; whoever made the call decides, by ``RetryInfo``."""

_INVALID_ARGUMENT: Final = grpc.StatusCode.INVALID_ARGUMENT
_UNAVAILABLE: Final = grpc.StatusCode.UNAVAILABLE
_RESOURCE_EXHAUSTED: Final = grpc.StatusCode.RESOURCE_EXHAUSTED

CODES: Final[Mapping[str, grpc.StatusCode]] = {
    "INVALID_FIELD": _INVALID_ARGUMENT,
    "INPUT_TOO_LONG": _INVALID_ARGUMENT,
    "MEDIA_NOT_SUPPORTED": _INVALID_ARGUMENT,
    "REQUEST_ID_REUSED": _INVALID_ARGUMENT,
    "RESOURCE_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "CALLER_UNKNOWN": grpc.StatusCode.UNAUTHENTICATED,
    "CALLER_NOT_ALLOWED": grpc.StatusCode.PERMISSION_DENIED,
    "RATE_LIMITED": _RESOURCE_EXHAUSTED,
    "CONVERSATION_BUSY": _RESOURCE_EXHAUSTED,
    "OVERLOADED": _RESOURCE_EXHAUSTED,
    "NO_ROUTE_AVAILABLE": _UNAVAILABLE,
    "REPLY_INTERRUPTED": _UNAVAILABLE,
    "SHUTTING_DOWN": _UNAVAILABLE,
    "STORE_UNAVAILABLE": _UNAVAILABLE,
    "TURN_TIMED_OUT": grpc.StatusCode.DEADLINE_EXCEEDED,
    "INTERNAL_ERROR": grpc.StatusCode.INTERNAL,
    "TURN_QUARANTINED": grpc.StatusCode.INTERNAL,
    "TURN_CANCELLED": grpc.StatusCode.CANCELLED,
    "PROVIDER_REFUSED": grpc.StatusCode.FAILED_PRECONDITION,
    "ROUTE_LOOP": grpc.StatusCode.FAILED_PRECONDITION,
    "LEXICON_REFUSED": grpc.StatusCode.FAILED_PRECONDITION,
}
"""The status code that the contract promises for each reason (``error_reason.proto``)."""


def code_of(reason: str) -> grpc.StatusCode:
    """The status code of a reason; ``UNKNOWN`` for one that this version does not know."""
    return CODES.get(reason, grpc.StatusCode.UNKNOWN)


def status_of(failure: Failure) -> status_pb2.Status:
    """The status of a failure: ``ErrorInfo`` always, ``RetryInfo`` where waiting helps, ``BadRequest`` for a field."""
    number, _ = code_of(failure.reason).value
    status = status_pb2.Status(code=number, message=failure.message)
    info = error_details_pb2.ErrorInfo(reason=failure.reason, domain=DOMAIN, metadata=dict(failure.metadata))
    _pack(status, info)
    if failure.retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(failure.retry_after * 1e9))
        _pack(status, retry)
    if failure.reason == "INVALID_FIELD":
        bad = error_details_pb2.BadRequest()
        field = failure.metadata.get("field", "")
        bad.field_violations.add(field=field, description=failure.message.removeprefix(f"{field}: "))
        _pack(status, bad)
    return status


def _pack(status: status_pb2.Status, detail: error_details_pb2.ErrorInfo) -> None:
    packed = any_pb2.Any()
    packed.Pack(detail)
    status.details.append(packed)


async def abort(context: Context, error: DomainError) -> None:
    """Ends a call with the status of ``error``. Never returns."""
    status = status_of(error.as_failure())
    trailing: list[tuple[str, str | bytes]] = [(DETAILS_KEY, status.SerializeToString())]
    if error.reason in TRIED_ENOUGH:
        trailing.append((PUSHBACK_KEY, "-1"))
    await context.abort(code_of(error.reason), status.message, trailing_metadata=tuple(trailing))


def outcome_of(error: BaseException, context: Context) -> grpc.StatusCode:
    """The status code with which a call ends whose handler raised ``error``, for whoever counts calls."""
    if isinstance(error, DomainError):
        return code_of(error.reason)
    if isinstance(error, asyncio.CancelledError):
        if not cancelled_here():
            return grpc.StatusCode.UNAVAILABLE
        left = cast("float | None", context.time_remaining())  # None without a deadline, whatever the stub says
        # A deadline arrives as a cancellation; what is left of the time tells the two apart.
        return grpc.StatusCode.CANCELLED if left is None or left > 0 else grpc.StatusCode.DEADLINE_EXCEEDED
    return grpc.StatusCode.INTERNAL


def cancelled_here() -> bool:
    """Whether a ``CancelledError`` is about this very call, and not one that leaked out of something awaited.

    Only whoever cancels a task (``Task.cancel``) raises its count of requests. An awaited
    child that was cancelled raises the same exception without any request to this task;
    gRPC would then send nothing, and the caller would wait for ever.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
