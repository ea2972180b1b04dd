"""Everything that can go wrong and that a caller is told about.

The tree, one line of purpose each::

    DomainError                 anything this service says no with
     ├─ InvalidField            a field is missing or malformed
     ├─ InputTooLong            the message is too long
     ├─ MediaNotSupported       a part that no model of the assistant takes
     ├─ RequestIdReused         the same id with another input
     ├─ ResourceNotFound        no such conversation, turn, assistant or lexicon entry
     ├─ CallerUnknown           no valid credential
     ├─ CallerNotAllowed        a credential that may not do this
     ├─ ConversationBusy        the waiting line of the conversation is full
     ├─ Overloaded              the service is full
     ├─ RateLimited             a limit of this service for a person, a caller, a model or all
     ├─ NoRouteAvailable        every attempt failed before any text
     ├─ ReplyInterrupted        the model broke off after text was shown
     ├─ ProviderRefused         the model said no, and would again
     ├─ RouteLoop               servers stand in front of one another in a circle
     ├─ LexiconRefused          a word list cannot be used
     ├─ ShuttingDown            the server is stopping
     ├─ StoreUnavailable        the turn store cannot be reached
     ├─ TurnTimedOut            the budget of the turn is spent
     ├─ TurnCancelled           somebody stopped it, or nobody waited any more
     ├─ TurnQuarantined         the process died under it too often
     └─ InternalError           a defect; the log has the rest under ``errorId``

An error carries data: a reason of the contract, the metadata that the contract
promises for it, and how long to wait where waiting helps. ``rpc/status.py`` turns it
into a status; nothing else does. Messages are for developers, in English, and hold
no text of people and no internals.
"""

from typing import ClassVar

from server.domain import Failure


class DomainError(Exception):
    """Anything this service says no with."""

    reason: ClassVar[str] = "ERROR_REASON_UNSPECIFIED"

    def __init__(
        self,
        message: str,
        *,
        metadata: dict[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        """Args: ``retry_after`` in seconds, ``None`` where waiting does not help."""
        super().__init__(message)
        self.message = message
        self.metadata = metadata or {}
        self.retry_after = retry_after

    def as_failure(self) -> Failure:
        """The form in which a turn row keeps this error."""
        return Failure(self.reason, self.message, self.metadata, self.retry_after)


class InvalidField(DomainError):
    """A field is missing or malformed."""

    reason = "INVALID_FIELD"

    def __init__(self, field: str, rule: str) -> None:
        """Args: the field's path as in the request, and the rule with the remedy."""
        super().__init__(f"{field}: {rule}", metadata={"field": field})
        self.field = field
        self.rule = rule


class InputTooLong(DomainError):
    """The message is longer than the limit, in characters."""

    reason = "INPUT_TOO_LONG"

    def __init__(self, limit: int, actual: int) -> None:
        super().__init__(
            f"input has {actual} characters, {limit} are allowed; shorten or split it",
            metadata={"limitCharacters": str(limit), "actualCharacters": str(actual)},
        )


class MediaNotSupported(DomainError):
    """A part that cannot be read or that no model of the assistant takes."""

    reason = "MEDIA_NOT_SUPPORTED"

    def __init__(self, mime_type: str, missing: str = "") -> None:
        """Args: its type as its sender gave it; the name of a :class:`server.domain.Missing`, where one says why."""
        said = missing.lower().replace("_", " ")
        super().__init__(
            f"a part of type {mime_type} cannot be read: {said}; send text instead"
            if missing
            else f"no model of this assistant takes {mime_type}; send text instead",
            metadata={"mimeType": mime_type} | ({"missing": missing} if missing else {}),
        )


class RequestIdReused(DomainError):
    """The request id was used before with another input."""

    reason = "REQUEST_ID_REUSED"

    def __init__(self, turn: str) -> None:
        super().__init__(
            "request_id was used before with another input; choose a new one for a new message",
            metadata={"turn": turn},
        )


class ResourceNotFound(DomainError):
    """No such conversation, turn, assistant or lexicon entry."""

    reason = "RESOURCE_NOT_FOUND"

    def __init__(self, resource_name: str) -> None:
        super().__init__(f"{resource_name} does not exist", metadata={"resourceName": resource_name})


class CallerUnknown(DomainError):
    """The caller sent no valid credential."""

    reason = "CALLER_UNKNOWN"


class CallerNotAllowed(DomainError):
    """The caller may not do this."""

    reason = "CALLER_NOT_ALLOWED"

    def __init__(self, caller: str, message: str) -> None:
        super().__init__(message, metadata={"caller": caller})


class ConversationBusy(DomainError):
    """Too many turns of the conversation are waiting."""

    reason = "CONVERSATION_BUSY"

    def __init__(self, limit: int, retry_after: float) -> None:
        super().__init__(
            f"{limit} turns of this conversation are waiting already",
            metadata={"limitTurns": str(limit)},
            retry_after=retry_after,
        )


class Overloaded(DomainError):
    """The service is full."""

    reason = "OVERLOADED"

    def __init__(
        self, retry_after: float, message: str = "the service is full; try again, elsewhere if possible"
    ) -> None:
        super().__init__(message, retry_after=retry_after)


class RateLimited(DomainError):
    """A limit of this service was reached."""

    reason = "RATE_LIMITED"

    def __init__(self, scope: str, limit: str, retry_after: float) -> None:
        """Args: whose limit (``person``, ``caller``, ``model``, ``quota_group``, ``total``), and what it allows."""
        super().__init__(
            f"the limit of the {scope.replace('_', ' ')} is reached: {limit}",
            metadata={"scope": scope, "limit": limit},
            retry_after=retry_after,
        )


class NoRouteAvailable(DomainError):
    """Every attempt failed before any text was produced."""

    reason = "NO_ROUTE_AVAILABLE"

    def __init__(self, attempts: int, retry_after: float) -> None:
        super().__init__(
            "no model could be reached",
            metadata={"attempts": str(attempts)},
            retry_after=retry_after,
        )


class ReplyInterrupted(DomainError):
    """The model broke off after text was produced, and nothing could start over."""

    reason = "REPLY_INTERRUPTED"

    def __init__(self, model: str) -> None:
        super().__init__(
            "the model broke off in the middle of the reply",
            metadata={"model": model},
            retry_after=0.0,
        )


class ProviderRefused(DomainError):
    """The model refused the request, and another try would not help."""

    reason = "PROVIDER_REFUSED"

    def __init__(self, model: str) -> None:
        super().__init__(
            "the model refused the request; the operator's log says why",
            metadata={"model": model},
        )


class RouteLoop(DomainError):
    """The turn came back to a server it had passed, or passed too many."""

    reason = "ROUTE_LOOP"

    def __init__(self, node: str) -> None:
        """Args: the server that noticed."""
        super().__init__(
            "servers stand in front of one another in a circle; correct the models of one of them",
            metadata={"node": node},
        )


class LexiconRefused(DomainError):
    """A word list cannot be used; the lists that were in force stay."""

    reason = "LEXICON_REFUSED"

    def __init__(self, file: str, line: int | None, rule: str) -> None:
        """Args: the file by its name, the line if one is to blame, from 1, and the rule with the remedy."""
        where = file if line is None else f"{file}:{line}"
        super().__init__(
            f"{where}: {rule}; the lists that were in force stay",
            metadata={"file": file, "line": "" if line is None else str(line)},
        )


class ShuttingDown(DomainError):
    """The server is stopping."""

    reason = "SHUTTING_DOWN"

    def __init__(self) -> None:
        super().__init__("the server is stopping; another one takes over", retry_after=0.0)


class StoreUnavailable(DomainError):
    """The turn store cannot be reached or cannot write."""

    reason = "STORE_UNAVAILABLE"

    def __init__(self, store: str, retry_after: float = 1.0) -> None:
        super().__init__(
            f"the {store} store is unavailable",
            metadata={"store": store},
            retry_after=retry_after,
        )


class TurnTimedOut(DomainError):
    """The turn did not end within its budget."""

    reason = "TURN_TIMED_OUT"

    def __init__(self, stage: str) -> None:
        """Args: where it was when time ran out: ``queue``, ``model`` or ``reply``."""
        super().__init__(f"time ran out while waiting in stage {stage}", metadata={"stage": stage})


class TurnCancelled(DomainError):
    """Somebody stopped the turn, or nobody waited for it any more."""

    reason = "TURN_CANCELLED"

    def __init__(self) -> None:
        super().__init__("the turn was stopped")


class TurnQuarantined(DomainError):
    """The process died under this turn too often."""

    reason = "TURN_QUARANTINED"

    def __init__(self, attempts: int) -> None:
        super().__init__(
            "the turn was running each time the process died and is not tried again",
            metadata={"attempts": str(attempts)},
        )


class InternalError(DomainError):
    """A defect of this service."""

    reason = "INTERNAL_ERROR"

    def __init__(self, error_id: str) -> None:
        super().__init__("internal error", metadata={"errorId": error_id})


def _all_errors(base: type[DomainError] = DomainError) -> dict[str, type[DomainError]]:
    found = {}
    for subclass in base.__subclasses__():
        found[subclass.reason] = subclass
        found.update(_all_errors(subclass))
    return found


def from_failure(failure: Failure) -> DomainError:
    """The error that a turn row kept. An unknown reason becomes an :class:`InternalError`."""
    kind = _all_errors().get(failure.reason, InternalError)
    error = kind.__new__(kind)
    DomainError.__init__(
        error,
        failure.message,
        metadata=dict(failure.metadata),
        retry_after=failure.retry_after,
    )
    return error
