"""Turns the status of a gRPC call into a :class:`ProviderError`."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import grpc
import grpc.aio
import msgspec
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from server.llm.base import ErrorClass, ProviderError
from server.llm.vendor_codes import NAMES, PHRASES

_DETAILS_KEY: Final = "grpc-status-details-bin"
"""The trailing metadata in which gRPC carries a whole ``google.rpc.Status``."""

_CODES: Final[Mapping[str, ErrorClass]] = {
    "UNAUTHENTICATED": ErrorClass.AUTH,
    "PERMISSION_DENIED": ErrorClass.AUTH,
    "RESOURCE_EXHAUSTED": ErrorClass.RATE_LIMIT,
    "DEADLINE_EXCEEDED": ErrorClass.TIMEOUT,
    "NOT_FOUND": ErrorClass.NOT_FOUND,
    "INVALID_ARGUMENT": ErrorClass.BAD_REQUEST,
    "FAILED_PRECONDITION": ErrorClass.BAD_REQUEST,
    "OUT_OF_RANGE": ErrorClass.BAD_REQUEST,
    "ALREADY_EXISTS": ErrorClass.BAD_REQUEST,
    "UNIMPLEMENTED": ErrorClass.BAD_REQUEST,
}
"""Classes by status. The others, UNAVAILABLE, INTERNAL and ABORTED among them, are trouble that may pass."""

_TELLING: Final = frozenset({"INVALID_ARGUMENT", "FAILED_PRECONDITION", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED"})
"""Statuses that mean several things, so that the words beside them decide."""


class RpcStatus(msgspec.Struct, frozen=True):
    """How a call ended, as values."""

    code: str
    """The name of the status, such as ``UNAVAILABLE``."""
    number: int
    message: str
    """The backend's own words."""
    domain: str = ""
    reason: str = ""
    """Who says so, and what it was, by ``google.rpc.ErrorInfo``."""
    metadata: dict[str, str] = {}
    """What the ``ErrorInfo`` adds."""
    retry_after: float | None = None
    """Seconds, by ``google.rpc.RetryInfo``."""
    per_day: bool = False
    """Whether the limit that was hit is one per day, by ``google.rpc.QuotaFailure``."""


def status_of(error: grpc.aio.AioRpcError) -> RpcStatus:
    """What a failed call says. Details that cannot be read are left out."""
    code = error.code()
    status = RpcStatus(code.name, int(code.value[0]), error.details() or "")
    for name, value in error.trailing_metadata() or ():
        if name == _DETAILS_KEY and isinstance(value, bytes):
            return _with_details(status, value)
    return status


def failure_of(
    status: RpcStatus, begun: bool, overrides: Mapping[str, ErrorClass] = MappingProxyType({})
) -> ProviderError:
    """The error for a status that is not OK.

    Args:
        status: how the call ended.
        begun: whether a message of the reply had come; what might have been mended by
            asking again is then a reply that was cut.
        overrides: reasons and statuses in lower case that this backend uses in its own way.
    """
    own = overrides.get(status.reason.lower()) or overrides.get(status.code.lower())
    kind = own or _by_words(status) or _CODES.get(status.code, ErrorClass.TRANSIENT)
    if kind is ErrorClass.RATE_LIMIT and status.per_day:
        kind = ErrorClass.QUOTA
    if kind is ErrorClass.TRANSIENT and begun:
        kind = ErrorClass.INCOMPLETE
    return ProviderError(
        kind,
        status.code,
        said=status.message,
        status=status.number,
        code=status.reason or status.code.lower(),
        retry_after=status.retry_after,
    )


def _by_words(status: RpcStatus) -> ErrorClass | None:
    message = status.message.lower()
    if status.code == "RESOURCE_EXHAUSTED" and "larger than max" in message:
        # A limit of gRPC, not of an account: of what this side takes, or of what the backend does.
        return ErrorClass.INCOMPLETE if "received message" in message else ErrorClass.BAD_REQUEST
    if status.code not in _TELLING:
        return None
    by_reason = NAMES.get(status.reason.lower())
    return by_reason or next((kind for phrase, kind in PHRASES if phrase in message), None)


def _with_details(status: RpcStatus, serialised: bytes) -> RpcStatus:
    info = error_details_pb2.ErrorInfo()
    retry = error_details_pb2.RetryInfo()
    quota = error_details_pb2.QuotaFailure()
    delay: float | None = None
    try:
        for detail in status_pb2.Status.FromString(serialised).details:
            if detail.Unpack(retry):
                delay = max(0.0, retry.retry_delay.ToNanoseconds() / 1e9)
            elif not detail.Unpack(info):
                detail.Unpack(quota)
    except DecodeError:
        pass
    return RpcStatus(
        status.code,
        status.number,
        status.message,
        info.domain,
        info.reason,
        dict(info.metadata),
        delay,
        any("PerDay" in f"{found.quota_id} {found.subject} {found.description}" for found in quota.violations),
    )
