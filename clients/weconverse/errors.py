"""Everything that a call of this package fails with.

The tree, one line of purpose each. The second level follows the status code, so that
a reason which this version does not know yet still arrives as something to catch::

    WeConverseError                   anything that went wrong with a call
     ├─ InvalidRequest                INVALID_ARGUMENT: change the request
     │   ├─ InvalidField              a field is missing or malformed
     │   ├─ InputTooLong              the message is too long
     │   ├─ MediaNotSupported         a part that no model of the assistant takes
     │   └─ RequestIdReused           the same request_id with another input
     ├─ NotFound                      NOT_FOUND
     │   └─ ResourceNotFound          no such conversation, turn, assistant or lexicon entry
     ├─ Unauthenticated               UNAUTHENTICATED
     │   └─ CallerUnknown             no valid credential
     ├─ PermissionDenied              PERMISSION_DENIED
     │   └─ CallerNotAllowed          a credential that may not do this
     ├─ ResourceExhausted             RESOURCE_EXHAUSTED
     │   ├─ RateLimited               a limit per minute was reached
     │   ├─ ConversationBusy          too many turns of the conversation wait
     │   └─ Overloaded                the service is full
     ├─ Unavailable                   UNAVAILABLE: also a connection that broke
     │   ├─ NoRouteAvailable          every model failed before any text
     │   ├─ ReplyInterrupted          the model broke off after text
     │   ├─ ShuttingDown              the server is stopping
     │   └─ StoreUnavailable          the store of the service cannot be reached
     ├─ DeadlineExceeded              DEADLINE_EXCEEDED: also a deadline kept here
     │   └─ TurnTimedOut              the turn did not end in time
     ├─ Internal                      INTERNAL
     │   ├─ InternalError             a defect; errorId finds the log line
     │   └─ TurnQuarantined           the process died under this turn too often
     ├─ Cancelled                     CANCELLED, by the other side
     │   └─ TurnCancelled             somebody stopped the turn, or nobody waited
     ├─ FailedPrecondition            FAILED_PRECONDITION
     │   ├─ ProviderRefused           the model provider said no, and would again
     │   ├─ RouteLoop                 servers stand in front of one another in a circle
     │   └─ LexiconRefused            a word list cannot be used
     ├─ Unimplemented                 UNIMPLEMENTED: an older server, or another one
     └─ BrokenStream                  the server broke the order of a stream
         ├─ SequenceGap               an event is missing
         └─ UnfinishedStream          it ended before its last event

    ReplyReplaced                     raised by ``text_deltas()`` alone; not a failed call

An error carries data: branch on its class, never on its words. ``reason``,
``metadata`` and ``retry_after`` are what ``google.rpc.ErrorInfo`` and ``RetryInfo``
said, and the keys of ``metadata`` are a promise of
``weconverse/v1/error_reason.proto``.
"""

from collections.abc import Iterable, Mapping
from typing import ClassVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2

__all__ = [
    "ERROR_DOMAIN",
    "BrokenStream",
    "CallerNotAllowed",
    "CallerUnknown",
    "Cancelled",
    "ConversationBusy",
    "DeadlineExceeded",
    "FailedPrecondition",
    "InputTooLong",
    "Internal",
    "InternalError",
    "InvalidField",
    "InvalidRequest",
    "LexiconRefused",
    "MediaNotSupported",
    "NoRouteAvailable",
    "NotFound",
    "Overloaded",
    "PermissionDenied",
    "ProviderRefused",
    "RateLimited",
    "ReplyInterrupted",
    "ReplyReplaced",
    "RequestIdReused",
    "ResourceExhausted",
    "ResourceNotFound",
    "RouteLoop",
    "SequenceGap",
    "ShuttingDown",
    "StoreUnavailable",
    "TurnCancelled",
    "TurnQuarantined",
    "TurnTimedOut",
    "Unauthenticated",
    "Unavailable",
    "UnfinishedStream",
    "Unimplemented",
    "WeConverseError",
    "from_rpc_error",
    "from_status",
]

ERROR_DOMAIN = "weconverse.v1"
"""The ``domain`` of every ``ErrorInfo`` of this service; another domain's reasons mean something else."""

_DETAILS_KEY = "grpc-status-details-bin"


class WeConverseError(Exception):
    """Anything that went wrong with a call."""

    default_code: ClassVar[grpc.StatusCode] = grpc.StatusCode.UNKNOWN
    """The status code of this class when none was given."""

    default_reason: ClassVar[str] = ""
    """The name of a value of ``weconverse.v1.ErrorReason``, or empty for classes without one."""

    retryable: ClassVar[bool] = False
    """Whether the same request, with the same ``request_id``, may succeed later."""

    code: grpc.StatusCode
    """The status code of the call."""

    reason: str
    """What exactly went wrong: a name of ``weconverse.v1.ErrorReason``; empty if the service did not say."""

    metadata: dict[str, str]
    """What the contract promises for the reason, for example ``field`` for ``INVALID_FIELD``."""

    retry_after: float | None
    """Seconds to wait before the next try; ``None`` where the service did not say that waiting helps."""

    message: str
    """A sentence for developers. Not to be parsed, and not to be shown to people in a chat."""

    def __init__(
        self,
        message: str = "",
        *,
        code: grpc.StatusCode | None = None,
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.reason = self.default_reason if reason is None else reason
        self.metadata = dict(metadata or {})
        self.retry_after = retry_after

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.reason or self.code.name, self.message)))


# --- By status code -----------------------------------------------------------------


class InvalidRequest(WeConverseError):
    """The request is wrong in itself: change it."""

    default_code = grpc.StatusCode.INVALID_ARGUMENT


class NotFound(WeConverseError):
    """What was named does not exist."""

    default_code = grpc.StatusCode.NOT_FOUND


class Unauthenticated(WeConverseError):
    """The service does not know the caller."""

    default_code = grpc.StatusCode.UNAUTHENTICATED


class PermissionDenied(WeConverseError):
    """The service knows the caller and says no."""

    default_code = grpc.StatusCode.PERMISSION_DENIED


class ResourceExhausted(WeConverseError):
    """A limit was reached. Without a reason it is one of gRPC's own, such as the message size."""

    default_code = grpc.StatusCode.RESOURCE_EXHAUSTED


class Unavailable(WeConverseError):
    """The service cannot be reached, or part of what it needs cannot."""

    default_code = grpc.StatusCode.UNAVAILABLE
    retryable = True


class DeadlineExceeded(WeConverseError):
    """The time that the caller gave is over. The turn may still have been answered: ask with ``get_turn``."""

    default_code = grpc.StatusCode.DEADLINE_EXCEEDED


class Internal(WeConverseError):
    """The service failed in a way that another try would not mend."""

    default_code = grpc.StatusCode.INTERNAL


class Cancelled(WeConverseError):
    """The other side ended the call. A call that *this* side cancels raises ``asyncio.CancelledError``."""

    default_code = grpc.StatusCode.CANCELLED


class FailedPrecondition(WeConverseError):
    """Something must be put right, by an operator, before the same request can work."""

    default_code = grpc.StatusCode.FAILED_PRECONDITION


class Unimplemented(WeConverseError):
    """The server does not know this method: it is older than this client, or another program."""

    default_code = grpc.StatusCode.UNIMPLEMENTED


# --- By reason: one class for each value of weconverse.v1.ErrorReason ------------------


class InvalidField(InvalidRequest):
    """A field is missing or malformed. Metadata: ``field``."""

    default_reason = "INVALID_FIELD"

    @property
    def field(self) -> str:
        """The path of the field in the request, for example ``input.parts[0].text``."""
        return self.metadata.get("field", "")


class InputTooLong(InvalidRequest):
    """The message is too long. Metadata: ``limitCharacters``, ``actualCharacters``."""

    default_reason = "INPUT_TOO_LONG"


class MediaNotSupported(InvalidRequest):
    """A media part cannot be read or is of a type no route accepts. Metadata: ``mimeType``, and ``missing`` where its
    bytes are missing."""

    default_reason = "MEDIA_NOT_SUPPORTED"


class RequestIdReused(InvalidRequest):
    """The ``request_id`` was used before with another input. Metadata: ``turn``."""

    default_reason = "REQUEST_ID_REUSED"


class ResourceNotFound(NotFound):
    """No such conversation, turn, assistant or lexicon entry. Metadata: ``resourceName``."""

    default_reason = "RESOURCE_NOT_FOUND"


class CallerUnknown(Unauthenticated):
    """The caller sent no valid credential."""

    default_reason = "CALLER_UNKNOWN"


class CallerNotAllowed(PermissionDenied):
    """The caller may not do this. Metadata: ``caller``."""

    default_reason = "CALLER_NOT_ALLOWED"


class RateLimited(ResourceExhausted):
    """A limit of the service was reached. Metadata: ``scope`` (whose), ``limit`` (what it allows)."""

    default_reason = "RATE_LIMITED"
    retryable = True


class ConversationBusy(ResourceExhausted):
    """Too many turns of this conversation are waiting. Metadata: ``limitTurns``."""

    default_reason = "CONVERSATION_BUSY"
    retryable = True


class Overloaded(ResourceExhausted):
    """The service is full; another replica may not be."""

    default_reason = "OVERLOADED"
    retryable = True


class NoRouteAvailable(Unavailable):
    """Every route failed before any text was produced. Metadata: ``attempts``."""

    default_reason = "NO_ROUTE_AVAILABLE"


class ReplyInterrupted(Unavailable):
    """The provider broke off after text was produced; the same ``request_id`` runs anew. Metadata: ``model``."""

    default_reason = "REPLY_INTERRUPTED"


class ShuttingDown(Unavailable):
    """The server is stopping; another one, or the next one, takes the same ``request_id``."""

    default_reason = "SHUTTING_DOWN"


class StoreUnavailable(Unavailable):
    """The store of the service cannot be reached. Metadata: ``store``."""

    default_reason = "STORE_UNAVAILABLE"


class TurnTimedOut(DeadlineExceeded):
    """The turn did not end in time. Metadata: ``stage``."""

    default_reason = "TURN_TIMED_OUT"


class InternalError(Internal):
    """A defect of the service. Metadata: ``errorId``, to find the log line."""

    default_reason = "INTERNAL_ERROR"


class TurnQuarantined(Internal):
    """The turn was running each time the process died, and is not tried again. Metadata: ``attempts``."""

    default_reason = "TURN_QUARANTINED"


class TurnCancelled(Cancelled):
    """The turn was stopped by ``cancel_turn``, or because nobody waited for it any more."""

    default_reason = "TURN_CANCELLED"


class ProviderRefused(FailedPrecondition):
    """The model provider refused the request, and would again. Metadata: ``model``."""

    default_reason = "PROVIDER_REFUSED"


class RouteLoop(FailedPrecondition):
    """Servers stand in front of one another in a circle. Metadata: ``node``, the one that noticed."""

    default_reason = "ROUTE_LOOP"


class LexiconRefused(FailedPrecondition):
    """A word list cannot be used; those in force stay. Metadata: ``file``, ``line`` (may be empty)."""

    default_reason = "LEXICON_REFUSED"


# --- Raised by this package itself ----------------------------------------------------


class BrokenStream(WeConverseError):
    """The server broke what the contract promises about the order of a stream."""

    default_code = grpc.StatusCode.DATA_LOSS


class SequenceGap(BrokenStream):
    """An event is missing: the text shown so far cannot be trusted."""

    def __init__(self, expected: int, received: int) -> None:
        super().__init__(f"event {expected} is missing: {received} came instead")
        self.expected = expected
        self.received = received


class UnfinishedStream(BrokenStream):
    """The stream ended with success, and before its last event."""


class ReplyReplaced(Exception):
    """The text handed out so far is void; ``text`` stands in its place.

    Raised only by ``text_deltas()``, which can otherwise do nothing but append. The
    stream goes on: clear what was shown, show ``text``, and iterate again.
    """

    def __init__(self, text: str) -> None:
        super().__init__("the reply so far was replaced")
        self.text = text


# --- From the wire ---------------------------------------------------------------------


def _leaves(base: type[WeConverseError]) -> Iterable[type[WeConverseError]]:
    for kind in base.__subclasses__():
        yield kind
        yield from _leaves(kind)


_BY_REASON: Mapping[str, type[WeConverseError]] = {
    kind.default_reason: kind for kind in _leaves(WeConverseError) if kind.default_reason
}
_BY_CODE: Mapping[grpc.StatusCode, type[WeConverseError]] = {
    kind.default_code: kind for kind in WeConverseError.__subclasses__() if kind is not BrokenStream
}
_CODES: Mapping[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def from_rpc_error(error: grpc.RpcError) -> WeConverseError:
    """The typed form of what a gRPC call raised, asyncio or not.

    Never raises: without readable details it falls back to the status code, and
    without that to :class:`WeConverseError` itself.
    """
    if not isinstance(error, (grpc.aio.AioRpcError, grpc.Call)):
        return WeConverseError(str(error))
    code = error.code()
    message = error.details() or ""
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                return _build(code, message, status_pb2.Status.FromString(value))
            except DecodeError:
                break  # A proxy on the way may damage what it does not know; the code still says enough.
    return _build(code, message, status_pb2.Status())


def from_status(status: status_pb2.Status) -> WeConverseError:
    """The typed form of a ``google.rpc.Status``, as in ``Turn.error`` and in results of a batch.

    Raises:
        ValueError: for a status that says OK, which is no error.
    """
    if status.code == code_pb2.OK:
        raise ValueError("the status says OK: there is no error to make of it")
    return _build(_CODES.get(status.code, grpc.StatusCode.UNKNOWN), status.message, status)


def _build(code: grpc.StatusCode, message: str, status: status_pb2.Status) -> WeConverseError:
    info = error_details_pb2.ErrorInfo()
    retry = error_details_pb2.RetryInfo()
    retry_after: float | None = None
    reason = ""
    metadata: dict[str, str] = {}
    for detail in status.details:
        try:
            if detail.Is(info.DESCRIPTOR) and detail.Unpack(info) and info.domain == ERROR_DOMAIN:
                reason, metadata = info.reason, dict(info.metadata)
            elif detail.Is(retry.DESCRIPTOR) and detail.Unpack(retry):
                retry_after = max(0.0, retry.retry_delay.ToNanoseconds() / 1e9)
        except DecodeError:
            continue  # As above: one unreadable detail does not void the others.
    kind = _BY_REASON.get(reason) or _BY_CODE.get(code, WeConverseError)
    # Around the class's own __init__: some take what they say from values, not from a message.
    error = kind.__new__(kind)
    WeConverseError.__init__(error, message, code=code, reason=reason, metadata=metadata, retry_after=retry_after)
    return error
