"""One line a call. It names the conversation by a digest, and says nothing of what was said."""

from collections.abc import Callable
from typing import Any

import grpc
import structlog

from server.logged_names import conversation_digest
from server.rpc.call import Call, current
from server.rpc.interceptors.wrap import Behaviour, Context, Method
from server.rpc.status import outcome_of
from weconverse.v1.conversation_pb2 import GetTurnRequest

_log = structlog.get_logger()

_WORTH_A_WARNING = frozenset(
    {grpc.StatusCode.INTERNAL.name, grpc.StatusCode.UNAVAILABLE.name, grpc.StatusCode.UNKNOWN.name}
)


class Journal:
    """Writes a line at the end of each call; health checks, and polls for a turn, only at ``debug``."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Args: ``clock`` gives seconds that only grow."""
        self._clock = clock

    def __call__(self, method: Method, inner: Behaviour) -> Behaviour:
        name, clock, quiet = method.short, self._clock, method.is_health

        async def behaviour(request: Any, context: Context) -> Any:
            began = clock()
            try:
                response = await inner(request, context)
            except BaseException as error:
                _write(name, outcome_of(error, context).name, clock() - began, current.get(), quiet=quiet)
                raise
            _write(name, "OK", clock() - began, current.get(), quiet=quiet or _polls(request))
            return response

        return behaviour


def _polls(request: Any) -> bool:
    """Whether somebody asks for a turn again and again: once a second, for each person who waits for an answer."""
    return isinstance(request, GetTurnRequest) and request.omit_input


def _write(method: str, code: str, seconds: float, call: Call, *, quiet: bool) -> None:
    line: dict[str, Any] = {"method": method, "code": code, "ms": round(seconds * 1000, 2)}
    if call.caller:
        line["caller"] = call.caller
    if call.conversation:
        line["conversation"] = conversation_digest(call.conversation)
    if call.turn:
        line["turn"] = call.turn
    if call.messages_out:
        line["sent"] = call.messages_out
    if call.trace_id:
        line["trace_id"] = call.trace_id
    if quiet:
        _log.debug("call", **line)
    elif code in _WORTH_A_WARNING:
        _log.warning("call", **line)
    else:
        _log.info("call", **line)
